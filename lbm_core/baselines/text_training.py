"""SFT (Table 2, A.3), which learns to write the data's alpha as text without a chain of thought, and what GRPO shares
with it: where a training starts, and the trained model on disk."""

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from lbm_core.act.backbone import DTYPES, Backbone, load_backbone
from lbm_core.baselines.text_config import LanguageBaseline, SFTTextConfig
from lbm_core.baselines.text_prompt import answer_text
from lbm_core.think.trainer import low_rank, merged, save_trained, train


def base_model(config: LanguageBaseline) -> Backbone:
    """The pretrained model as training wants it.

    Weights that are trained are float32: updates too small for bfloat16 would be lost. Frozen ones, under low-rank
    updates (float32 in peft), are of the config's precision.
    """
    return load_backbone(config.backbone, dtype="float32" if config.lora_rank is None else config.precision)


def precision_settings(config: LanguageBaseline) -> dict[str, Any]:
    """Arguments of TRL's trainers that follow from what is trained, and how precisely."""
    return {
        # Recomputed activations bound the memory; where few layers are trained, there are few to keep.
        "gradient_checkpointing": config.trained_layers is None,
        # TRL's default is bfloat16. Under low-rank updates the frozen weights are of that type already.
        "bf16": config.precision == "bfloat16" and config.lora_rank is None,
    }


def finished(model: Any, start: Backbone, config: LanguageBaseline, log: pd.DataFrame, folder: Path | None) -> Backbone:
    """Keep a trainer's model (low-rank updates alone, or all weights) and its log in a folder; the model, for use."""
    if folder is not None:
        save_trained(folder, model, start.tokenizer, log, config)
    return Backbone(merged(model), start.tokenizer, start.name, f"{start.revision}, trained with seed {config.seed}")


def load_text_model(folder: Path, config: LanguageBaseline, *, dtype: str = "float32") -> Backbone:
    """A model that :func:`finished` kept, of the config that it was trained with; FileNotFoundError: there is none.

    Low-rank updates are added in float32, then rounded to ``dtype``: "float32", "bfloat16" or "float16".
    """
    if config.lora_rank is None:
        return load_backbone(str(folder), dtype=dtype)
    weights = Path(folder) / "adapter_model.safetensors"
    if not weights.is_file():
        raise FileNotFoundError(f"{folder} holds no low-rank updates: adapter_model.safetensors is missing")
    from peft import PeftModel

    start = load_backbone(config.backbone)
    model = merged(PeftModel.from_pretrained(start.model, str(folder))).to(DTYPES[dtype]).eval()
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()[:12]
    return Backbone(model, start.tokenizer, start.name, f"{start.revision}, updates sha256 {digest}")


def train_sft(
    config: SFTTextConfig,
    prompts: Sequence[str],
    alphas: Sequence[float],
    folder: Path | None = None,
    *,
    checkpoints: Path | None = None,
) -> tuple[Backbone, pd.DataFrame]:
    """Raise the likelihood of the data's alpha as text; only the answer's tokens carry loss.

    The trained model, and step, loss (mean negative log-likelihood per token of the step's answers).
    Of n rendered prompts (:func:`lbm_core.baselines.text_prompt.text_prompt` without reasoning) and n logged alphas, in
    currency per conversion, > 0. ``folder`` takes the model (:func:`load_text_model`); ``checkpoints`` as in
    :func:`lbm_core.think.finetune.finetune`.
    """
    if not prompts or len(prompts) != len(alphas):
        raise ValueError(f"SFT needs as many prompts as alphas, at least one: {len(prompts)}, {len(alphas)}")
    from trl import SFTConfig, SFTTrainer

    from lbm_core.think.finetune import tokenized

    start = base_model(config)
    pairs = zip(prompts, map(answer_text, alphas), strict=True)
    rows = [tokenized(start.tokenizer, *pair, longest=config.max_length) for pair in pairs]
    way = precision_settings(config) | {"num_train_epochs": config.epochs, "max_length": config.max_length}
    way |= {"per_device_train_batch_size": config.micro_batch_size, "completion_only_loss": True}
    accumulation = max(1, min(config.batch_size, len(rows)) // config.micro_batch_size)
    settings = partial(SFTConfig, **way, gradient_accumulation_steps=accumulation)
    updates = low_rank(config.lora_rank, start.model, config.trained_layers)
    model, log = train(SFTTrainer, settings, start, config, rows, checkpoints, peft_config=updates)
    losses = log[["step", "loss"]]
    return finished(model, start, config, losses, folder), losses

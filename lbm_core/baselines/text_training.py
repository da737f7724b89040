"""What SFT and GRPO on text share: where a training starts, and the trained model on disk."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pandas as pd

from lbm_core.act.backbone import DTYPES, Backbone, load_backbone
from lbm_core.baselines.text_config import LanguageBaseline
from lbm_core.think.trainer import merged, save_trained


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

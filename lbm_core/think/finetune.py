"""Fine-tune LBM-Think on chosen chains of thought: the update of GQPO (Eq. 14), by TRL's SFTTrainer."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from lbm_core.act.backbone import Backbone, load_backbone
from lbm_core.artifacts import writing
from lbm_core.tiers import Tier


@dataclass(frozen=True)
class FinetuneConfig:
    """How LBM-Think is updated (§4.1)."""

    backbone: str = "smollm2-135m"  # what load_backbone takes; paper: Qwen2.5-3B-Instruct
    layers: int | None = None  # transformer layers kept; None = all (fewer only make sense in tests)
    epochs: int = 5
    batch_size: int = 64  # samples per update
    micro_batch_size: int = 1  # samples per forward pass; bounds the memory, does not change the update
    learning_rate: float = 1e-6  # AdamW, constant
    max_length: int = 2048  # tokens of prompt and completion; longer samples are refused, never cut
    precision: str = "float32"  # of the forward pass, "float32" or "bfloat16"; weights stay float32
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "micro_batch_size", "max_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} of the fine-tuning must be at least 1; got {getattr(self, name)}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate of the fine-tuning must be positive; got {self.learning_rate}")
        if self.precision not in ("float32", "bfloat16"):
            raise ValueError(f"precision must be float32 or bfloat16; got {self.precision!r}")

    @classmethod
    def from_tier(cls, tier: Tier, seed: int = 0, **overrides: Any) -> FinetuneConfig:
        """The sizes of a tier; keyword arguments replace single fields."""
        settings: dict[str, Any] = {
            "backbone": tier.think_backbone,
            "epochs": tier.think.epochs,
            "batch_size": tier.think.batch_size,
            "learning_rate": tier.think.learning_rate,
            "seed": seed,
        }
        return cls(**(settings | overrides))


def finetune(
    config: FinetuneConfig, prompts: Sequence[str], completions: Sequence[str], folder: Path | None = None
) -> tuple[Backbone, pd.DataFrame]:
    """Raise the likelihood of chosen chains of thought (Eq. 14, second line); all weights are trained.

    The loss counts the completion's tokens only, not the prompt's.

    Parameters
    ----------
    prompts : n rendered prompts (:func:`lbm_core.think.prompt.render`)
    completions : n chosen chains of thought
    folder : where the model is kept, in transformers' format: :func:`lbm_core.act.backbone.load_backbone` takes it

    Returns
    -------
    backbone : the fine-tuned model
    losses : step, loss (mean negative log-likelihood per token of the step's samples)

    Raises
    ------
    ValueError
        Nothing to learn from, or a sample longer than ``max_length``.
    """
    if not prompts or len(prompts) != len(completions):
        raise ValueError(
            f"fine-tuning needs as many prompts as completions, at least one: {len(prompts)}, {len(completions)}"
        )
    from datasets import Dataset
    from transformers import PrinterCallback
    from trl import SFTConfig, SFTTrainer

    backbone = load_backbone(config.backbone, layers=config.layers)
    rows = [tokenized(backbone.tokenizer, p, c) for p, c in zip(prompts, completions, strict=True)]
    longest = max(len(row["input_ids"]) for row in rows)
    if longest > config.max_length:
        raise ValueError(
            f"a sample has {longest} tokens, max_length is {config.max_length}: raise it or shorten the prompts"
        )
    accumulate = max(1, round(min(config.batch_size, len(rows)) / config.micro_batch_size))
    with tempfile.TemporaryDirectory() as scratch:
        arguments = SFTConfig(
            output_dir=scratch,
            num_train_epochs=config.epochs,
            per_device_train_batch_size=config.micro_batch_size,
            gradient_accumulation_steps=accumulate,
            gradient_checkpointing=True,  # recomputed activations: 135M parameters then fit into 4 GiB
            learning_rate=config.learning_rate,
            lr_scheduler_type="constant",
            max_length=config.max_length,
            completion_only_loss=True,
            bf16=config.precision == "bfloat16",
            use_cpu=not torch.cuda.is_available(),
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            seed=config.seed,
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )
        trainer = SFTTrainer(
            model=backbone.model,
            args=arguments,
            train_dataset=Dataset.from_list(rows),
            processing_class=backbone.tokenizer,
        )
        trainer.remove_callback(PrinterCallback)  # its lines would fill a notebook; the losses are returned
        trainer.train()
        logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    losses = pd.DataFrame({"step": [e["step"] for e in logged], "loss": [e["loss"] for e in logged]})
    model = backbone.model.eval()
    model.config.use_cache = True
    if folder is not None:
        with writing(Path(folder)) as temporary:
            model.save_pretrained(temporary)
            backbone.tokenizer.save_pretrained(temporary)
            losses.to_csv(temporary / "losses.csv", index=False)
            (temporary / "finetune.json").write_text(json.dumps(asdict(config), indent=1))
    return backbone, losses


def tokenized(tokenizer: Any, prompt: str, completion: str) -> dict[str, list[int]]:
    """One training sample: token ids, and which of them carry loss.

    Prompt and completion are tokenized apart, as in generation: together, the prompt's last character may merge with
    the completion's first one (":" and a line break in Qwen's vocabulary), and the model would learn from a prompt that
    it never sees.
    """
    before = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    after = [*tokenizer(completion, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    return {"input_ids": before + after, "completion_mask": [0] * len(before) + [1] * len(after)}

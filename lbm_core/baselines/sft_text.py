"""SFT (Table 2, A.3): the language model learns to write the data's alpha as text, without a chain of thought."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from lbm_core.act.backbone import Backbone
from lbm_core.baselines.text_prompt import answer_text
from lbm_core.baselines.text_training import TextTraining, base_model, common_settings, finished, low_rank, run_quietly
from lbm_core.think.finetune import tokenized
from lbm_core.tiers import Tier


@dataclass(frozen=True)
class SFTTextConfig(TextTraining):
    """How SFT is trained. The paper states none of it."""

    epochs: int = 1
    batch_size: int = 16  # samples per update
    micro_batch_size: int = 1  # samples per forward pass; bounds the memory, does not change the update
    max_length: int = 2048  # tokens of prompt and answer; longer samples are refused, never cut

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("epochs", "batch_size", "micro_batch_size", "max_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} of SFT must be at least 1; got {getattr(self, name)}")

    @classmethod
    def from_tier(cls, tier: Tier, seed: int = 0, **overrides: Any) -> SFTTextConfig:
        """The sizes of a tier; keyword arguments replace single fields."""
        settings: dict[str, Any] = {
            "backbone": tier.think_backbone,
            "lora_rank": tier.language.lora_rank,
            "trained_layers": tier.language.trained_layers,
            "learning_rate": tier.language.sft_learning_rate,
            "precision": tier.language.precision,
            "epochs": tier.language.sft_epochs,
            "batch_size": tier.language.sft_batch_size,
            "seed": seed,
        }
        return cls(**(settings | overrides))


def train_sft(
    config: SFTTextConfig,
    prompts: Sequence[str],
    alphas: Sequence[float],
    folder: Path | None = None,
    *,
    backbone: Backbone | None = None,
) -> tuple[Backbone, pd.DataFrame]:
    """Raise the likelihood of the data's alpha as text; only the answer's tokens carry loss.

    Parameters
    ----------
    prompts : n rendered prompts (:func:`lbm_core.baselines.text_prompt.text_prompt` without reasoning)
    alphas : n logged alphas, currency per conversion, > 0
    folder : where the model is kept (:func:`lbm_core.baselines.text_training.load_text_model`)
    backbone : what to start from, changed in place; default the config's

    Returns
    -------
    backbone : the trained model
    losses : step, loss (mean negative log-likelihood per token of the step's answers)

    Raises
    ------
    ValueError
        Nothing to learn from, an alpha that is not positive, or a sample longer than ``max_length``.
    """
    if not prompts or len(prompts) != len(alphas):
        raise ValueError(f"SFT needs as many prompts as alphas, at least one: {len(prompts)}, {len(alphas)}")
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    start = backbone or base_model(config)
    rows = [tokenized(start.tokenizer, p, answer_text(float(a))) for p, a in zip(prompts, alphas, strict=True)]
    longest = max(len(row["input_ids"]) for row in rows)
    if longest > config.max_length:
        raise ValueError(f"a sample has {longest} tokens, max_length is {config.max_length}: raise it")
    with common_settings(config) as shared:
        trainer = SFTTrainer(
            model=start.model,
            args=SFTConfig(
                **shared,
                num_train_epochs=config.epochs,
                per_device_train_batch_size=config.micro_batch_size,
                gradient_accumulation_steps=max(1, min(config.batch_size, len(rows)) // config.micro_batch_size),
                max_length=config.max_length,
                completion_only_loss=True,
            ),
            train_dataset=Dataset.from_list(rows),
            processing_class=start.tokenizer,
            peft_config=low_rank(config, start.model),
        )
        logged = run_quietly(trainer)
    losses = pd.DataFrame({"step": [e["step"] for e in logged], "loss": [e["loss"] for e in logged]})
    return finished(trainer.model, start, config, losses, folder), losses

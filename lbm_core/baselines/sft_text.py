"""SFT (Table 2, A.3): the language model learns to write the data's alpha as text, without a chain of thought."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from lbm_core.act.backbone import Backbone
from lbm_core.baselines.text_config import SFTTextConfig
from lbm_core.baselines.text_prompt import answer_text
from lbm_core.baselines.text_training import base_model, finished, precision_settings
from lbm_core.think.samples import tokenized
from lbm_core.think.trainer import low_rank, train


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

    Parameters
    ----------
    prompts : n rendered prompts (:func:`lbm_core.baselines.text_prompt.text_prompt` without reasoning)
    alphas : n logged alphas, currency per conversion, > 0
    folder : takes the model (:func:`lbm_core.baselines.text_training.load_text_model`)
    checkpoints : as in :func:`lbm_core.think.finetune.finetune`
    """
    if not prompts or len(prompts) != len(alphas):
        raise ValueError(f"SFT needs as many prompts as alphas, at least one: {len(prompts)}, {len(alphas)}")
    from trl import SFTConfig, SFTTrainer

    start = base_model(config)
    pairs = zip(prompts, map(answer_text, alphas), strict=True)
    rows = [tokenized(start.tokenizer, *pair, longest=config.max_length) for pair in pairs]
    settings = partial(
        SFTConfig,
        **precision_settings(config),
        num_train_epochs=config.epochs,
        per_device_train_batch_size=config.micro_batch_size,
        gradient_accumulation_steps=max(1, min(config.batch_size, len(rows)) // config.micro_batch_size),
        max_length=config.max_length,
        completion_only_loss=True,
    )
    updates = low_rank(config.lora_rank, start.model, config.trained_layers)
    model, log = train(SFTTrainer, settings, start, config, rows, checkpoints, peft_config=updates)
    losses = log[["step", "loss"]]
    return finished(model, start, config, losses, folder), losses

"""GRPO on text (Eq. 6, Table 2, Fig. 6): reason, then alpha as text, rewarded for coming close to the data's alpha."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lbm_core.act.backbone import Backbone
from lbm_core.baselines.text_action import parse_alpha
from lbm_core.baselines.text_config import GRPOTextConfig
from lbm_core.baselines.text_training import base_model, finished, precision_settings
from lbm_core.data.trajectories import ALPHA_LIMIT
from lbm_core.think.trainer import low_rank, train

WORST = float(np.log(10.0))  # |log alpha - log alpha_data| counts no more; a text without an alpha counts as much
# Columns of the log, by TRL's names.
LOGGED = {
    "step": "step",
    "completions/mean_length": "length",
    "completions/min_length": "shortest",
    "completions/max_length": "longest",
    "completions/clipped_ratio": "cut",
    "rewards/form/mean": "answered",
    "rewards/alpha/mean": "alpha_reward",
    "reward": "reward",
    "frac_reward_zero_std": "idle",
    "loss": "loss",
    "entropy": "entropy",
}


def alpha_reward(texts: Sequence[str], alphas: Sequence[float], limit: float) -> list[float]:
    """-|log alpha - log alpha_data| of each text, at least -:data:`WORST`, which a text without an alpha gets.

    Alphas and their limit are in currency per conversion, > 0. Differs from the paper, whose L1 distance is of alpha
    itself: there an advertiser with a target of 12 counts twice as much as one of 6, and halving alpha costs less than
    doubling it.
    """
    written = [parse_alpha(text, limit).alpha or np.nan for text in texts]
    distances = np.abs(np.log(np.divide(written, alphas)))
    return (-np.nan_to_num(distances, nan=WORST).clip(max=WORST)).tolist()


def format_reward(texts: Sequence[str], limit: float) -> list[float]:
    """1 for exactly one readable alpha in range, 0 otherwise."""
    return [float(parse_alpha(text, limit).accepted) for text in texts]


def length_reward(tokens: Sequence[int], floor: int) -> list[float]:
    """0 for a text of at least ``floor`` tokens; below, minus the missing share."""
    return [min(count / floor, 1.0) - 1.0 for count in tokens]


def rewards_of(config: GRPOTextConfig) -> tuple[list[Any], list[float]]:
    """The rewards in TRL's form, and their weights."""
    limit = ALPHA_LIMIT[config.dataset]

    def alpha(completions: list[str], logged_alpha: list[float], **_: Any) -> list[float]:
        return alpha_reward(completions, logged_alpha, limit)

    def form(completions: list[str], **_: Any) -> list[float]:
        return format_reward(completions, limit)

    def length(completion_ids: list[list[int]], **_: Any) -> list[float]:
        return length_reward([len(ids) for ids in completion_ids], config.length_floor)

    functions: list[Any] = [alpha, form]
    if config.length_floor:
        functions.append(length)
    return functions, [1.0, config.format_weight, 1.0][: len(functions)]


def train_grpo(
    config: GRPOTextConfig,
    prompts: Sequence[str],
    alphas: Sequence[float],
    folder: Path | None = None,
    *,
    checkpoints: Path | None = None,
) -> tuple[Backbone, pd.DataFrame]:
    """Train by TRL's GRPOTrainer (Eq. 6); the prompts, at least a step's, are gone through as often as the steps need.

    A training that was killed while it went through them a second time may meet them in another order afterwards.
    Parameters are those of :func:`lbm_core.baselines.text_training.train_sft`.

    The trained model, and step, length (mean tokens of a text), shortest, longest, cut (share that hit the limit),
    answered (share with exactly one readable alpha), alpha_reward, reward, idle (share of groups without any difference
    in reward), loss, entropy.
    """
    if len(prompts) < config.prompts_per_step or len(prompts) != len(alphas):
        least = config.prompts_per_step
        raise ValueError(f"GRPO needs as many prompts as alphas, at least {least}: {len(prompts)}, {len(alphas)}")
    if not all(np.isfinite(alpha) and alpha > 0 for alpha in alphas):
        raise ValueError("GRPO needs positive logged alphas")
    from trl import GRPOConfig, GRPOTrainer

    start = base_model(config)
    if start.tokenizer(prompts[0])["input_ids"] != start.tokenizer(prompts[0], add_special_tokens=False)["input_ids"]:
        raise ValueError("this tokenizer adds special tokens to a prompt that the chat template has written already")
    functions, weights = rewards_of(config)
    rows = [{"prompt": text, "logged_alpha": float(alpha)} for text, alpha in zip(prompts, alphas, strict=True)]
    way = precision_settings(config) | {"max_steps": config.steps, "temperature": config.temperature}
    way |= dict.fromkeys(("per_device_train_batch_size", "num_generations"), config.generations)
    way |= {"gradient_accumulation_steps": config.prompts_per_step, "max_completion_length": config.max_new_tokens}
    way |= {"epsilon": config.clip, "beta": config.kl, "loss_type": config.loss_type, "reward_weights": weights}
    # Dr. GRPO also leaves out the division by the group's standard deviation.
    settings = partial(GRPOConfig, **way, scale_rewards="none" if config.loss_type == "dr_grpo" else "group")
    more = {"reward_funcs": functions, "peft_config": low_rank(config.lora_rank, start.model, config.trained_layers)}
    model, entries = train(GRPOTrainer, settings, start, config, rows, checkpoints, **more)
    log = entries[list(LOGGED)].set_axis(list(LOGGED.values()), axis=1)
    return finished(model, start, config, log, folder), log

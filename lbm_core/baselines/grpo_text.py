"""GRPO on text (Eq. 6, Table 2, Fig. 6): reason, then alpha as text, rewarded for coming close to the data's alpha."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lbm_core.act.backbone import Backbone
from lbm_core.baselines.text_action import parse_alpha
from lbm_core.baselines.text_training import TextTraining, base_model, common_settings, finished, low_rank, run_quietly
from lbm_core.data.trajectories import ALPHA_LIMIT
from lbm_core.settings import Dataset
from lbm_core.tiers import Tier

LOSS_TYPES = ("grpo", "bnpo", "dapo", "dr_grpo")
WORST = float(np.log(10.0))  # |log alpha - log alpha_data| counts no more; a text without an alpha counts as much


@dataclass(frozen=True)
class GRPOTextConfig(TextTraining):
    """How GRPO is trained. The paper states none of it."""

    dataset: Dataset = "dense"  # sets the range of alphas
    # How token losses are averaged, one of LOSS_TYPES; Eq. 6 is "grpo": over each text. "dr_grpo" averages over the
    # limit, and does not divide advantages by the group's standard deviation.
    loss_type: str = "grpo"
    steps: int = 100
    prompts_per_step: int = 1
    generations: int = 4  # G of Eq. 6, texts per prompt
    max_new_tokens: int = 96
    temperature: float = 1.0  # of sampling
    clip: float = 0.2  # epsilon of Eq. 6
    kl: float = 0.0  # beta of Eq. 6
    format_weight: float = 1.0  # of the reward for exactly one readable alpha
    length_floor: int = 0  # tokens below which a text is punished; 0 = none

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.loss_type not in LOSS_TYPES:
            raise ValueError(f"unknown loss_type {self.loss_type!r}; choose one of {', '.join(LOSS_TYPES)}")
        if self.generations < 2:
            raise ValueError(f"a group needs at least 2 generations to be compared; got {self.generations}")
        for name in ("steps", "prompts_per_step", "max_new_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} of GRPO must be at least 1; got {getattr(self, name)}")
        if not 0 <= self.length_floor <= self.max_new_tokens:
            raise ValueError(f"length_floor must lie in 0..{self.max_new_tokens} tokens; got {self.length_floor}")

    @classmethod
    def from_tier(
        cls, tier: Tier, dataset: Dataset, seed: int = 0, variant: str = "grpo", **overrides: Any
    ) -> GRPOTextConfig:
        """The sizes of a tier; keyword arguments replace single fields.

        Parameters
        ----------
        variant : a loss type, or "LOSS TYPE, length floor" with the tier's floor
        """
        loss_type, _, extra = variant.partition(", ")
        if extra not in ("", "length floor"):
            raise ValueError(f"unknown variant {variant!r} of GRPO; a loss type, or 'LOSS TYPE, length floor'")
        settings: dict[str, Any] = {
            "backbone": tier.think_backbone,
            "lora_rank": tier.language.lora_rank,
            "trained_layers": tier.language.trained_layers,
            "learning_rate": tier.language.grpo_learning_rate,
            "precision": tier.language.precision,
            "dataset": dataset,
            "loss_type": loss_type,
            "steps": tier.language.grpo_steps,
            "prompts_per_step": tier.language.grpo_prompts_per_step,
            "generations": tier.language.grpo_generations,
            "max_new_tokens": tier.language.max_new_tokens,
            "temperature": tier.language.grpo_temperature,
            "kl": tier.language.grpo_kl,
            "length_floor": tier.language.grpo_length_floor if extra else 0,
            "seed": seed,
        }
        return cls(**(settings | overrides))


def alpha_reward(texts: Sequence[str], alphas: Sequence[float], limit: float) -> list[float]:
    """-|log alpha - log alpha_data| of each text, at least -:data:`WORST`, which a text without an alpha gets.

    Differs from the paper, whose L1 distance is of alpha itself: there an advertiser with a target of 12 counts twice
    as much as one of 6, and halving alpha costs less than doubling it.

    Parameters
    ----------
    alphas : logged alpha of each text's moment, currency per conversion, > 0
    limit : as in :func:`~lbm_core.baselines.text_action.parse_alpha`
    """
    rewards = []
    for text, logged in zip(texts, alphas, strict=True):
        alpha = parse_alpha(text, limit).alpha
        rewards.append(-WORST if alpha is None else -min(abs(float(np.log(alpha / logged))), WORST))
    return rewards


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
    backbone: Backbone | None = None,
) -> tuple[Backbone, pd.DataFrame]:
    """Train by TRL's GRPOTrainer (Eq. 6); the prompts are gone through as often as the steps need.

    Parameters
    ----------
    prompts : n rendered prompts (:func:`lbm_core.baselines.text_prompt.text_prompt`), at least one step's
    alphas : n logged alphas, currency per conversion, > 0
    folder, backbone : as in :func:`lbm_core.baselines.sft_text.train_sft`

    Returns
    -------
    backbone : the trained model
    log : step, length (mean tokens of a text), shortest, longest, cut (share that hit the limit), answered (share with
        exactly one readable alpha), alpha_reward, reward, idle (share of groups without any difference in reward),
        loss, entropy

    Raises
    ------
    ValueError
        Too few prompts, an alpha that is not positive, or a tokenizer that would add special tokens to the prompts.
    """
    if len(prompts) < config.prompts_per_step or len(prompts) != len(alphas):
        raise ValueError(
            f"GRPO needs as many prompts as alphas, at least {config.prompts_per_step}: {len(prompts)}, {len(alphas)}"
        )
    if not all(np.isfinite(alpha) and alpha > 0 for alpha in alphas):
        raise ValueError("GRPO needs positive logged alphas")
    from datasets import Dataset as Samples
    from trl import GRPOConfig, GRPOTrainer

    start = backbone or base_model(config)
    if start.tokenizer(prompts[0])["input_ids"] != start.tokenizer(prompts[0], add_special_tokens=False)["input_ids"]:
        raise ValueError("this tokenizer adds special tokens to a prompt that the chat template has written already")
    functions, weights = rewards_of(config)
    with common_settings(config) as shared:
        trainer = GRPOTrainer(
            model=start.model,
            reward_funcs=functions,
            args=GRPOConfig(
                **shared,
                max_steps=config.steps,
                per_device_train_batch_size=config.generations,
                gradient_accumulation_steps=config.prompts_per_step,
                num_generations=config.generations,
                max_completion_length=config.max_new_tokens,
                temperature=config.temperature,
                epsilon=config.clip,
                beta=config.kl,
                loss_type=config.loss_type,
                # Dr. GRPO also leaves out the division by the group's standard deviation.
                scale_rewards="none" if config.loss_type == "dr_grpo" else "group",
                reward_weights=weights,
            ),
            train_dataset=Samples.from_dict({"prompt": list(prompts), "logged_alpha": [float(a) for a in alphas]}),
            processing_class=start.tokenizer,
            peft_config=low_rank(config, start.model),
        )
        logged = run_quietly(trainer)
    names = {
        "step": "step",
        "length": "completions/mean_length",
        "shortest": "completions/min_length",
        "longest": "completions/max_length",
        "cut": "completions/clipped_ratio",
        "answered": "rewards/form/mean",
        "alpha_reward": "rewards/alpha/mean",
        "reward": "reward",
        "idle": "frac_reward_zero_std",
        "loss": "loss",
        "entropy": "entropy",
    }
    log = pd.DataFrame([{ours: entry[theirs] for ours, theirs in names.items()} for entry in logged])
    return finished(trainer.model, start, config, log, folder), log

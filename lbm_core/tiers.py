"""Tiers: how large every stage is, from minutes on a laptop to the paper's sizes on eight GPUs.

A tier only sets defaults. A notebook parameter or a command-line option overrides one; nothing else does.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lbm_core.tier_sections import (
    DATASETS,
    TIER_NAMES,
    ActTier,
    BaselineTier,
    CriticTier,
    Dataset,
    DataTier,
    EvaluationTier,
    LanguageTier,
    ThinkTier,
    Tier,
)

__all__ = [
    "DATASETS",
    "TIER_NAMES",
    "ActTier",
    "BaselineTier",
    "CriticTier",
    "DataTier",
    "Dataset",
    "EvaluationTier",
    "LanguageTier",
    "ThinkTier",
    "Tier",
    "get_tier",
]

_CRITICS = (
    "default",
    "drawn conversions",
    "conversions",
    "16 features",
    "conversions, 16 features",
    "as Table 9",
    "one step",
    "Monte Carlo",
    "expectile 0.5",
    "expectile 0.9",
    "share 0.1 of the data",
    "share 0.3 of the data",
    "ensemble",
    "ensemble, pessimistic",
)
_STUDIED: dict[str, Any] = {  # everything that chapter 2 asks of LBM-Act
    "curves": ("none", "task", "sentence", "number"),
    "guides": ("random", "rule", "cumulative rule", "critic", "oracle"),
    "guide_scales": (0.25, 0.5),
    "guide_intervals": (2, 4),
    "guide_levels": (1.2,),
    "sizes": ("default", "1 layer", "2 layers", "random", "frozen", "random, frozen", "LoRA"),
}
_GRPOS = ("grpo", "dapo", "dr_grpo", "grpo, length floor")  # with one prompt per step "bnpo" is "dapo"
_LATE: dict[str, Any] = {"late": (1, 2, 4), "missing": (0.25, 0.75)}  # what chapter 9 asks of late guides
_FULL_EVALUATION = EvaluationTier(
    advertisers=48, budget_ratios=(0.5, 0.75, 1.0, 1.25, 1.5), closed_loop_periods=6, closed_loop_at_once=6
)
_SMOKE = Tier("smoke")
_LAPTOP = Tier(
    "laptop",
    # Days differ ten times as much as draws do, so a second draw of conversions would buy next to nothing.
    data=DataTier(("dense", "sparse"), train_periods=200, evaluation_periods=12, evaluation_seeds=1),
    act=ActTier(
        layers=4,
        steps=300,
        batch_size=32,
        learning_rate=3e-4,
        precision="bfloat16",
        guide_dropout=0.1,
        dead_band=0.0,
        seeds=3,
        language_steps=100,
        study_advertisers=8,
        **_STUDIED,
    ),
    critic=CriticTier(steps=1_000, variants=_CRITICS),
    think=ThinkTier(
        prompts=200,
        backend="auto",
        max_new_tokens=160,
        think_every=8,
        epochs=2,
        batch_size=16,
        learned=64,
        lora_rank=16,
        learning_rate=2e-4,  # LoRA's: its matrices start at no change at all
        controls=("random", "rule", "argmin", "weights"),
        temperatures=(0.2, 0.9),
        sweep_prompts=16,
        sweep_samples=6,
        probes=80,
        latency_batch=48,
        coin_moments=1_000,
        order_prompts=48,
        day_every=4,
        late_guides=("rule", "critic", "oracle"),
        **_LATE,
    ),
    language=LanguageTier(
        study_advertisers=8,
        ask_every=12,
        max_new_tokens=64,
        lora_rank=16,
        trained_layers=8,
        sft_samples=192,
        sft_batch_size=8,
        sft_learning_rate=5e-4,
        grpo_variants=("grpo", "dr_grpo", "grpo, length floor"),
        grpo_moments=16,
        grpo_steps=16,
        grpo_generations=4,
        grpo_learning_rate=2e-4,
        grpo_length_floor=40,
    ),
    baseline=BaselineTier(
        dt_hidden_size=128,
        dt_layers=3,
        dt_heads=8,
        dt_steps=600,
        dt_learning_rate=1e-3,
        dt_q_steps=150,
        rl_hidden_size=128,
        rl_steps=4_000,
        rl_batch_size=256,
        rl_learning_rate=3e-4,
        uscb_periods=10,
        uscb_steps=15_000,
        diffusion_channels=32,
        diffusion_steps=1_500,
        diffusion_candidates=2,
        tuning_trials=6,
        tuning_share=0.25,
        tuning_periods=2,
    ),
    evaluation=replace(_FULL_EVALUATION, closed_loop_at_once=16),
)
_GPU = Tier(
    "gpu",
    backbone="Qwen/Qwen2.5-0.5B-Instruct",
    think_backbone="Qwen/Qwen2.5-3B-Instruct",
    data=DataTier(("dense", "sparse"), train_periods=1_000, evaluation_periods=20, evaluation_seeds=5),
    act=ActTier(
        layers=None,
        steps=20_000,
        batch_size=64,
        learning_rate=1e-5,
        guide_dropout=0.05,
        dead_band=0.0,
        seeds=3,
        language_steps=2_000,
        study_advertisers=48,
        **_STUDIED | {"guides": (*_STUDIED["guides"], "LBM-Think")},
    ),
    critic=CriticTier(
        hidden_size=512, layers=6, heads=8, steps=40_000, learning_rate=1e-4, n_step=1, variants=_CRITICS
    ),
    think=ThinkTier(
        backend="auto",
        prompts=4_000,
        max_new_tokens=768,
        temperature=0.7,
        worked_examples=0,
        think_every=1,
        ratio_required=True,
        epochs=5,
        batch_size=64,
        learning_rate=1e-6,
        models=tuple(f"Qwen/Qwen2.5-{size}-Instruct" for size in ("0.5B", "1.5B", "7B")),
        day_every=1,
        late_guides=("rule", "critic", "oracle", "LBM-Think"),
        **_LATE,
        learned=2_000,
        controls=("random", "rule", "argmin", "weights"),
        temperatures=(0.3, 0.5, 1.0, 1.3),
        sweep_prompts=200,
        sweep_samples=8,
        probes=1_000,
        latency_batch=48,
        coin_moments=2_000,
    ),
    baseline=BaselineTier(
        dt_hidden_size=512,
        dt_layers=6,
        dt_heads=8,
        dt_steps=40_000,
        dt_learning_rate=1e-4,
        dt_q_steps=10_000,
        rl_hidden_size=256,
        rl_steps=400_000,
        rl_batch_size=256,
        rl_learning_rate=3e-4,
        rl_n_step=1,
        uscb_periods=40,
        uscb_steps=1_000_000,
        diffusion_channels=128,
        diffusion_steps=100_000,
        diffusion_batch_size=128,
        diffusion_sampling=10,
        diffusion_candidates=16,
        tuning_trials=12,
        tuning_share=0.1,
        tuning_periods=6,
    ),
    language=LanguageTier(
        study_advertisers=48,
        ask_every=4,
        worked_examples=0,
        max_new_tokens=768,
        temperature=0.7,
        lora_rank=64,
        trained_layers=None,
        precision="bfloat16",
        sft_samples=20_000,
        sft_batch_size=64,
        sft_learning_rate=1e-4,
        grpo_variants=("grpo", "grpo, length floor"),
        grpo_moments=600,
        grpo_steps=150,
        grpo_prompts_per_step=4,
        grpo_generations=8,
        grpo_learning_rate=1e-5,
        grpo_temperature=1.0,
        grpo_length_floor=200,
    ),
    evaluation=_FULL_EVALUATION,
)
_PAPER = replace(
    _GPU,
    name="paper",
    data=DataTier(("dense", "sparse"), train_periods=9_987, evaluation_periods=20, evaluation_seeds=5),
    act=ActTier(
        layers=None,
        steps=400_000,
        batch_size=64,
        learning_rate=1e-5,
        guide_dropout=0.05,
        dead_band=0.0,
        seeds=5,
        language_steps=20_000,
        study_seeds=3,
        study_advertisers=48,
        **_STUDIED | {"guides": (*_STUDIED["guides"], "LBM-Think")},
    ),
    critic=CriticTier(hidden_size=512, layers=6, heads=8, steps=400_000, learning_rate=1e-4, n_step=1),
    language=replace(
        _GPU.language,
        ask_every=1,
        seeds=5,
        lora_rank=None,
        sft_samples=400_000,
        sft_learning_rate=1e-5,
        grpo_variants=(*_GRPOS, "bnpo"),
        grpo_moments=3_200,
        grpo_steps=400,
        grpo_prompts_per_step=8,
        grpo_learning_rate=1e-6,
    ),
    think=replace(_GPU.think, models=tuple(f"Qwen/Qwen2.5-{size}-Instruct" for size in ("7B", "32B"))),
)
_TIERS = {tier.name: tier for tier in (_SMOKE, _LAPTOP, _GPU, _PAPER)}
# "cached" computes nothing large: it reads committed results; its live demonstrations are smoke-sized.
_TIERS["cached"] = replace(_SMOKE, name="cached")


def get_tier(name: str, **overrides: Any) -> Tier:
    """The tier of a name, with dotted overrides.

    Parameters
    ----------
    name : one of :data:`TIER_NAMES`
    overrides : e.g. ``act__steps=50`` (section and field joined by two underscores) or ``backbone="..."``

    Raises
    ------
    ValueError
        Unknown tier, section or field, with the valid ones listed.
    """
    if name not in _TIERS:
        raise ValueError(f"unknown TIER {name!r}; choose one of {', '.join(TIER_NAMES)}")
    tier = _TIERS[name]
    for dotted, value in overrides.items():
        section, _, key = dotted.partition("__")
        owner: Any = getattr(tier, section, None)
        target = owner if key else tier
        wanted = key or section
        if wanted not in getattr(target, "__dataclass_fields__", {}):
            raise ValueError(f"tier {name!r} has no setting {dotted!r}")
        change: dict[str, Any] = {section: replace(owner, **{key: value}) if key else value}
        tier = replace(tier, **change)
    return tier

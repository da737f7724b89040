"""Tiers: how large every stage is, from minutes on a laptop to the paper's sizes on eight GPUs.

A tier only sets defaults. A notebook parameter or a command-line option overrides one; nothing else does.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

Dataset = Literal["dense", "sparse"]
DATASETS: tuple[Dataset, ...] = ("dense", "sparse")
TIER_NAMES = ("cached", "smoke", "laptop", "gpu", "paper")


@dataclass(frozen=True)
class DataTier:
    """Trajectories (§4.1, Table 7)."""

    datasets: tuple[Dataset, ...] = ("dense",)  # which data sets the chain runs on
    train_periods: int = 12  # 48 trajectories each; paper: 9,987 trajectories
    evaluation_periods: int = 2  # held-out periods, paired over methods
    evaluation_seeds: int = 1  # conversion draws per period


@dataclass(frozen=True)
class ActTier:
    """LBM-Act and LLM-DT (§3.2)."""

    layers: int | None = 3  # transformer layers kept of the backbone; None = all
    steps: int = 100  # paper: 400,000
    batch_size: int = 32  # paper: 64
    learning_rate: float = 3e-4  # paper: 1e-5
    precision: Literal["float32", "bfloat16"] = "float32"  # of the forward pass; weights stay float32
    # A short training meets too few "uncertain" guides to learn them from 5 % of its windows.
    guide_dropout: float = 0.2  # share of training sentences replaced by "uncertain"; release: 0.05
    dead_band: float = 0.02  # training moves |log(a_t / a_{t-1})| up to this count as "uncertain"; paper: 0
    seeds: int = 1  # training seeds; paper: 5
    # What chapter 2 compares, of lbm_core.pipeline.act_study
    curves: tuple[str, ...] = ("none", "sentence", "number")  # language inputs of Fig. 3; "task" is Prompt-LLM-DT
    guides: tuple[str, ...] = ("random", "rule", "oracle")  # who leads LBM-Act, besides nobody and a constant word
    guide_scales: tuple[float, ...] = (0.25,)  # factors on constantly instructed moves, beside Table 4's 1
    guide_intervals: tuple[int, ...] = (4,)  # ticks from one instruction to the next, beside Table 4's 1
    sizes: tuple[str, ...] = ("default", "1 layer")  # of SIZES there
    study_seeds: int = 1  # training seeds of guides, instructions and sizes
    study_advertisers: int = 3  # who is replayed under guides and instructions: decisions of a language model are dear


@dataclass(frozen=True)
class CriticTier:
    """Twin Q and V (§3.3, Table 9)."""

    hidden_size: int = 64  # Table 9: 512
    layers: int = 2  # Table 9: 6
    heads: int = 4  # Table 9: 8
    steps: int = 300  # Table 9: 400,000
    batch_size: int = 128  # Table 9
    learning_rate: float = 1e-3  # Table 9: 1e-4
    n_step: int = 12  # rewards summed before bootstrapping; Table 9 and Eq. 9: 1 (needs many steps to reach back)
    # Critics that chapter 3 compares, of lbm_core.pipeline.critic_study
    variants: tuple[str, ...] = ("default", "conversions, 16 features")


@dataclass(frozen=True)
class ThinkTier:
    """LBM-Think and GQPO (§3.3)."""

    # Who writes: transformers, vllm, auto (vLLM where it is installed), or a server's address (think.backends)
    backend: str = "transformers"
    prompts: int = 8  # GQPO prompts; paper: enough for 2,000 chosen samples
    samples: int = 3  # N chains of thought per prompt (Eq. 13); paper: 3
    max_new_tokens: int = 112  # length limit of a chain of thought
    temperature: float = 0.5  # of sampling; at 0.7 a model of 135M loses the thread
    worked_examples: int = 3  # solved cases in the prompt; without, a model of 135M never answers in the tags; paper: 0
    latency_batch: int = 8  # texts written at once where latency is measured; a market asks for 48
    think_every: int = 24  # ticks between two consultations of LBM-Think; paper: 1
    ratio_required: bool = False  # whether a CoT must state the CPA ratio correctly to be kept; paper: True
    epochs: int = 1  # paper: 5
    batch_size: int = 4  # paper: 64
    learning_rate: float = 1e-5  # paper: 1e-6
    learned: int = 4  # chosen chains of thought that are learned, at most; paper: 2,000
    precision: Literal["float32", "bfloat16"] = "bfloat16"  # of fine-tuning's forward pass; weights stay float32
    lora_rank: int = 0  # of low-rank adapters in the place of all weights; 0 and paper: all weights
    rounds: int = 1  # of sampling, choosing and fine-tuning; the paper names one
    on_policy: float = 0.0  # share of the moments met by LBM-Act itself in replays of training periods; paper: 0
    on_policy_guide: str = "rule"  # who leads it there, of lbm_core.pipeline.guides.GUIDES
    beta: float = 50.0  # of the weights exp(beta * relative-Q) in Eq. 14's first line; the paper names none
    # What chapter 5 compares, of lbm_core.pipeline.gqpo_study
    controls: tuple[str, ...] = ("random",)  # fine-tunings beside GQPO's, of lbm_core.think.gqpo.RULES and "weights"
    temperatures: tuple[float, ...] = (0.9,)  # of sampling, beside ``temperature``
    sweep_prompts: int = 3  # moments at which N, tolerance and temperature are varied
    sweep_samples: int = 3  # largest N there
    probes: int = 6  # moments of held-out days asked before and after; Fig. 2: 1,000
    coin_moments: int = 96  # moments at which every direction's relative-Q is computed


@dataclass(frozen=True)
class BaselineTier:
    """Decision transformer and the other methods of Table 1 that are no language models (§4.1)."""

    dt_hidden_size: int = 64  # small 128, full 512
    dt_layers: int = 2  # small 3, full 6
    dt_heads: int = 4
    dt_steps: int = 400
    dt_batch_size: int = 64
    dt_learning_rate: float = 1e-3
    dt_q_steps: int = 30  # of fine-tuning a trained DT with Q-values
    rl_hidden_size: int = 64  # BC, BCQ, CQL, IQL, USCB; published: 256
    rl_steps: int = 300  # gradient steps of BC, BCQ, CQL, IQL
    rl_batch_size: int = 64
    rl_learning_rate: float = 1e-3  # of BC, BCQ, CQL, IQL; published: 3e-4
    rl_n_step: int = 12  # rewards summed before bootstrapping; published: 1 (needs many steps to reach back)
    uscb_periods: int = 2  # training periods in which USCB plays
    uscb_steps: int = 1_500  # decisions of USCB; 48 are an advertiser-day
    diffusion_channels: int = 16  # of DiffBid's temporal U-Net; published: 128
    diffusion_steps: int = 150  # gradient steps of DiffBid
    diffusion_batch_size: int = 64
    diffusion_sampling: int = 5  # passes of the network for one decision; published: 10
    diffusion_candidates: int = 2  # N of DiffBid-Q
    tuning_trials: int = 2  # settings tried per method, the defaults among them
    tuning_share: float = 0.3  # share of the steps that a trial trains
    tuning_periods: int = 1  # on which trials are compared; neither trained nor judged on


@dataclass(frozen=True)
class EvaluationTier:
    """How much of every held-out period is replayed (§4.1), and how many are bid in with competitors that react."""

    advertisers: int = 6  # of the 48, spread over the categories; the benchmark: all
    budget_ratios: tuple[float, ...] = (0.5, 1.0)  # Table 5: 0.5, 0.75, 1, 1.25, 1.5
    closed_loop_periods: int = 1  # of the held-out periods, those whose market a method also bids in
    # Advertisers replaced in the same market. One at a time is the purest, and of all 48 takes 8 times as many markets.
    closed_loop_at_once: int = 6


@dataclass(frozen=True)
class Tier:
    """Everything a tier fixes.

    ``backbone`` and ``think_backbone`` are what :func:`lbm_core.act.backbone.load_backbone` takes:
    ``"smollm2-135m"`` (PyPI wheel), a hub name, a local folder or a local GGUF file.
    """

    name: str
    backbone: str = "smollm2-135m"
    think_backbone: str = "smollm2-135m"
    data: DataTier = field(default_factory=DataTier)
    act: ActTier = field(default_factory=ActTier)
    critic: CriticTier = field(default_factory=CriticTier)
    think: ThinkTier = field(default_factory=ThinkTier)
    baseline: BaselineTier = field(default_factory=BaselineTier)
    evaluation: EvaluationTier = field(default_factory=EvaluationTier)


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
    "guide_scales": (0.1, 0.25, 0.5),
    "guide_intervals": (2, 4),
    "sizes": ("default", "1 layer", "2 layers", "random", "frozen", "random, frozen", "LoRA"),
}
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
        study_advertisers=8,
        **_STUDIED,
    ),
    critic=CriticTier(steps=1_000, variants=_CRITICS),
    think=ThinkTier(
        prompts=300,
        latency_batch=48,
        max_new_tokens=160,
        think_every=4,
        epochs=2,
        batch_size=16,
        learned=96,
        lora_rank=16,
        learning_rate=2e-4,  # LoRA's: its matrices start at no change at all
        controls=("random", "rule", "argmin", "weights"),
        temperatures=(0.2, 0.9),
        sweep_prompts=16,
        sweep_samples=6,
        probes=80,
        coin_moments=1_000,
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
        study_advertisers=48,
        **_STUDIED,
    ),
    critic=CriticTier(
        hidden_size=512, layers=6, heads=8, steps=40_000, learning_rate=1e-4, n_step=1, variants=_CRITICS
    ),
    think=ThinkTier(
        backend="auto",
        prompts=4_000,
        latency_batch=48,
        max_new_tokens=768,
        temperature=0.7,
        worked_examples=0,
        think_every=1,
        ratio_required=True,
        epochs=5,
        batch_size=64,
        learning_rate=1e-6,
        learned=2_000,
        controls=("random", "rule", "argmin", "weights"),
        temperatures=(0.3, 0.5, 1.0, 1.3),
        sweep_prompts=200,
        sweep_samples=8,
        probes=1_000,
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
        study_seeds=3,
        study_advertisers=48,
        **_STUDIED,
    ),
    critic=CriticTier(hidden_size=512, layers=6, heads=8, steps=400_000, learning_rate=1e-4, n_step=1),
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

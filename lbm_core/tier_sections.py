"""What a tier sets, section by section, and what each setting means; the default values are those of "smoke"."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from lbm_core.settings import DATASETS, TIER_NAMES, Dataset

__all__ = ["DATASETS", "TIER_NAMES"]


@dataclass(frozen=True)
class DataTier:
    """Trajectories (§4.1, Table 7)."""

    datasets: tuple[Dataset, ...] = ("dense",)  # which data sets the chain runs on
    train_periods: int = 12  # 48 trajectories each; paper: 9,987 trajectories
    evaluation_periods: int = 1  # held-out periods, paired over methods; fewer than six resolve nothing
    evaluation_seeds: int = 1  # conversion draws per period


@dataclass(frozen=True)
class ActTier:
    """LBM-Act and LLM-DT (§3.2)."""

    layers: int | None = 3  # transformer layers kept of the backbone; None = all
    steps: int = 60  # paper: 400,000
    batch_size: int = 16  # paper: 64
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
    guide_levels: tuple[float, ...] = (1.2,)  # how far a constant instruction may lead alpha, factors on the CPA target
    sizes: tuple[str, ...] = ("default", "1 layer")  # of SIZES there
    language_steps: int = 5  # gradient steps of those that read more or less of a chain of thought
    study_seeds: int = 1  # training seeds of guides, instructions and sizes
    study_advertisers: int = 6  # who is replayed under guides and instructions: decisions of a language model are dear


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
    latency_batch: int = 16  # texts written at once where latency is measured; a market asks for 48
    think_every: int = 24  # ticks between two consultations of LBM-Think; paper: 1
    ratio_required: bool = False  # whether a CoT must state the CPA ratio correctly to be kept; paper: True
    epochs: int = 1  # paper: 5
    batch_size: int = 4  # paper: 64
    learning_rate: float = 1e-5  # paper: 1e-6
    # What chapters 4 and 9 compare, of lbm_core.pipeline.think_study and .asynchrony
    models: tuple[str, ...] = ()  # language models beside think_backbone (Table 6): folders, GGUF files, hub names
    order_prompts: int = 2  # moments asked about with each worked example last
    day_every: int = 16  # ticks between two chains of thought of the day that is shown; Fig. 4: 1
    late_guides: tuple[str, ...] = ("rule",)  # whose words come late or not at all
    late: tuple[int, ...] = (1, 4)  # ticks from question to use, beside none; Fig. 4: 1
    missing: tuple[float, ...] = (0.5,)  # shares of words that never come, beside none
    learned: int = 4  # chosen chains of thought that are learned, at most; paper: 2,000
    precision: Literal["float32", "bfloat16"] = "bfloat16"  # of fine-tuning's forward pass; weights stay float32
    lora_rank: int = 0  # of low-rank adapters in the place of all weights; 0 and paper: all weights
    rounds: int = 1  # of sampling, choosing and fine-tuning; the paper names one
    on_policy: float = 0.0  # share of the moments met by LBM-Act itself in replays of training periods; paper: 0
    on_policy_guide: str = "rule"  # who leads it there, of lbm_core.pipeline.guides.GUIDES
    beta: float = 50.0  # of the weights exp(beta * relative-Q) in Eq. 14's first line; the paper names none
    # What chapter 5 compares, of lbm_core.pipeline.gqpo_study
    controls: tuple[str, ...] = ()  # fine-tunings beside GQPO's, of lbm_core.think.gqpo.RULES and "weights"
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
    dt_steps: int = 200
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
class LanguageTier:
    """Prompting, SFT and GRPO of Table 2: one language model that writes alpha as text (§4.3, A.3).

    They start from the model that LBM-Think starts from (``think_backbone``).
    """

    study_advertisers: int = 6  # who is replayed in chapter 7: texts are dear; paper: all 48
    ask_every: int = 24  # ticks between two questions; paper: 1
    worked_examples: int = 2  # solved cases in the prompts of Prompting and GRPO; SFT gets none; paper: 0
    max_new_tokens: int = 56  # length limit of reasoning and alpha; Fig. 6 starts at 571
    temperature: float = 0.5  # of sampling in use
    seeds: int = 1  # training seeds of SFT and GRPO; paper: 5
    lora_rank: int | None = 8  # of low-rank updates; None trains all weights
    trained_layers: int | None = 4  # last transformer layers that low-rank updates change; None = all
    precision: Literal["float32", "bfloat16"] = "bfloat16"  # of the forward pass; what is trained stays float32
    sft_samples: int = 4  # logged moments that SFT learns from
    sft_epochs: int = 1
    sft_batch_size: int = 4
    sft_learning_rate: float = 2e-4
    # Trainings of GRPO that Fig. 6 compares: loss types, perhaps with a reward for texts that are not too short.
    grpo_variants: tuple[str, ...] = ("grpo",)
    grpo_moments: int = 4  # logged moments that GRPO is asked about
    grpo_steps: int = 2  # Fig. 6: 400
    grpo_prompts_per_step: int = 1
    grpo_generations: int = 2  # G of Eq. 6
    grpo_learning_rate: float = 5e-5
    grpo_temperature: float = 0.7  # of the texts that GRPO compares; at 1 a model of 135M loses the thread
    grpo_kl: float = 0.0  # beta of Eq. 6; 0 saves the reference model's pass
    grpo_length_floor: int = 24  # tokens below which a "length floor" punishes


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
    language: LanguageTier = field(default_factory=LanguageTier)
    evaluation: EvaluationTier = field(default_factory=EvaluationTier)

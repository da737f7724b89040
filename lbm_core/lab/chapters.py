"""What each chapter compares, and on how much: never part of a model's key, since no stage sees it.

The default values are those of "smoke", where each comparison only shows its path.
"""

from lbm_core.settings import Count, Positive, Share, Whole, settings
from lbm_core.think.config import PromptStyle, Sampling, ThinkConfig


@settings
class Chapter2:
    """LBM-Act: what words do to it."""

    curves: tuple[str, ...] = ("none", "sentence", "number")  # language inputs of Fig. 3; "task" is Prompt-LLM-DT
    guides: tuple[str, ...] = ("random", "rule", "oracle")  # who instructs, besides nobody and a constant word
    guide_scales: tuple[Positive, ...] = (0.25,)  # factors on constantly instructed moves, beside Table 4's 1
    guide_intervals: tuple[Count, ...] = (4,)  # ticks between two instructions, beside Table 4's 1
    guide_levels: tuple[Positive, ...] = (1.2,)  # how far a constant instruction may take alpha, factors on the target
    leaks: tuple[Share, ...] = (0.0, 0.15)  # shares of log(alpha / C) let go per tick under a constant instruction
    sizes: tuple[str, ...] = ("default", "1 layer")  # of lbm_core.studies.chapter_02.SIZES
    text_steps: Count = 5  # gradient steps of those that read more or less of a chain of thought
    advertisers: Count = 6  # who is replayed: decisions of a language model are slow
    train_seeds: Count = 1  # of Table 4's three rows and of LBM-Act under critic and oracle; all else has one


@settings
class Chapter3:
    """The critic: variants, of lbm_core.studies.chapter_03."""

    variants: tuple[str, ...] = ("default", "conversions, 16 features")
    searched: tuple[str, ...] = ()  # further ones, that steer tuning periods only


@settings
class Chapter4:
    """LBM-Think before fine-tuning."""

    models: tuple[str, ...] = ()  # language models beside the tier's (Table 6): folders, GGUF files, hub names
    # How they are asked where the tier's own was warmed up: in the paper's words, behind examples, the ratio excused
    unwarmed: ThinkConfig = ThinkConfig(
        style=PromptStyle(worked_examples=3), sampling=Sampling(160, 0.5), ratio_required=False
    )
    prompts: Count = 8  # of GQPO's, about which they are asked
    day_every: Count = 16  # ticks between two chains of thought of the day that is shown; Fig. 4: 1
    periods: Count = 1  # held-out periods of whole days, at most the tier's
    advertisers: Count = 6
    train_seeds: Count = 1


@settings
class Chapter5:
    """GQPO: before and after, and what Q adds."""

    controls: tuple[str, ...] = ()  # fine-tunings beside GQPO's, of lbm_core.think.gqpo.RULES
    temperatures: tuple[Positive, ...] = (0.9,)  # of sampling, beside the tier's
    sweep_prompts: Count = 3  # prompts at which N, tolerance and temperature are varied
    sweep_samples: Count = 3  # largest N there
    probes: Count = 6  # held-out decisions asked about before and after; Fig. 2: 1,000
    coin_prompts: Count = 96  # decisions at which every direction's relative-Q is computed
    periods: Count = 1  # held-out periods of whole days, at most the tier's
    advertisers: Count = 6
    train_seeds: Count = 1
    finetunings: Count = 1  # of GQPO's last round and its control's, to see what is luck; half of the advertisers bid


@settings
class Chapter6:
    """Baselines."""

    ablations: tuple[str, ...] = ("BC", "IQL")  # methods of which single decisions are undone; of studies.chapter_06
    penalty_weights: tuple[Share, ...] = (0.0, 0.1, 0.2, 0.5, 1.0)  # w of Table 3
    budget_ratios: tuple[Positive, ...] = (0.5, 1.0)  # Table 5: 0.5, 0.75, 1, 1.25, 1.5
    budget_methods: tuple[str, ...] = ("constant", "pacing", "PID", "online LP", "DT")  # empty: every method
    watched_days: Count = 6  # held-out days on which moves against the CPA are counted, at most the tier's


@settings
class Chapter7:
    """Language baselines."""

    advertisers: Count = 6  # who is replayed: texts are slow; paper: all 48
    # Trainings of GRPO that Fig. 6 compares: loss types, perhaps with a reward for texts that are not too short.
    grpo_variants: tuple[str, ...] = ("grpo",)
    length_floor: Whole = 24  # tokens below which a "length floor" punishes


@settings
class Chapter8:
    """Results."""

    budget_ratios: tuple[Positive, ...] = (0.5, 1.0)  # Table 5: 0.5, 0.75, 1, 1.25, 1.5


@settings
class Chapter9:
    """Latency, and chains of thought that come late or never."""

    guides: tuple[str, ...] = ("rule",)  # whose instructions come late or not at all
    late: tuple[Count, ...] = (1, 4)  # ticks from question to use, beside none; Fig. 4: 1
    missing: tuple[Share, ...] = (0.5,)  # shares of instructions that never come, beside none
    batch: Count = 16  # texts written at once where latency is measured; a market asks for 48
    advertisers: Count = 6
    train_seeds: Count = 3  # trainings that bid, at most the tier's

"""The whole chain as get-or-compute: every stage's artifact is found under its configuration, or made and kept.

A configuration names everything upstream too, so a notebook alone computes what it needs, a killed run resumes, and a
second run only loads. Each function prints one line: computed or loaded.
"""

from lbm_core.pipeline.baselines import (
    Trained,
    baseline,
    baseline_bidder,
    target_sweep,
    train_method,
)
from lbm_core.pipeline.comparison import (
    PUT_BACK,
    learning_curves,
    penalty_sweep,
    put_back,
    train_all,
    training_report,
    tuning_log,
)
from lbm_core.pipeline.contenders import (
    CONTROLS,
    INSTRUCTIONS,
    LEARNED,
    METHODS,
    bidders,
    evaluate_closed_loop,
    evaluate_methods,
)
from lbm_core.pipeline.guides import GUIDES, guide_source, guided_bidder
from lbm_core.pipeline.language import (
    LANGUAGE,
    grpo_lengths,
    grpo_text_model,
    language_bidder,
    language_tier,
    sft_losses,
    sft_text_model,
    text_moments,
)
from lbm_core.pipeline.models import act, critic, dt
from lbm_core.pipeline.moment_sets import Moments
from lbm_core.pipeline.recipes import OFFLINE_BASELINES, TRAINABLE, tuned
from lbm_core.pipeline.stages import (
    HeldOutPeriods,
    held_out_periods,
    past_tables,
    period_log,
    trajectories,
    tuning_tables,
)
from lbm_core.pipeline.thinking import (
    chain_store,
    gqpo_model,
    gqpo_selection,
    moments,
    think_backend,
    think_chains,
    think_guide,
    think_settings,
)

__all__ = [
    "CONTROLS",
    "GUIDES",
    "INSTRUCTIONS",
    "LANGUAGE",
    "LEARNED",
    "METHODS",
    "OFFLINE_BASELINES",
    "PUT_BACK",
    "TRAINABLE",
    "HeldOutPeriods",
    "Moments",
    "Trained",
    "act",
    "baseline",
    "baseline_bidder",
    "bidders",
    "chain_store",
    "critic",
    "dt",
    "evaluate_closed_loop",
    "evaluate_methods",
    "gqpo_model",
    "gqpo_selection",
    "grpo_lengths",
    "grpo_text_model",
    "guide_source",
    "guided_bidder",
    "held_out_periods",
    "language_bidder",
    "language_tier",
    "learning_curves",
    "moments",
    "past_tables",
    "penalty_sweep",
    "period_log",
    "put_back",
    "sft_losses",
    "sft_text_model",
    "target_sweep",
    "text_moments",
    "think_backend",
    "think_chains",
    "think_guide",
    "think_settings",
    "train_all",
    "train_method",
    "training_report",
    "trajectories",
    "tuned",
    "tuning_log",
    "tuning_tables",
]

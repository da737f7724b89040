"""LBM-Act and its relatives as they bid: with the return, leak and strength of instructions that a search chose."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lbm_core.act.config import GUIDED, METHODS, Guide
from lbm_core.auction.bidder import N_TICKS, Bidder
from lbm_core.auction.response_tables import table_replay
from lbm_core.evaluation.runner import spread_rows
from lbm_core.lab.artifacts import Artifact
from lbm_core.lab.days import tables, tuning_periods
from lbm_core.lab.models import act, critic
from lbm_core.lab.search import best_setting, search, searching
from lbm_core.lab.setup import Setup

if TYPE_CHECKING:
    import pandas as pd

    from lbm_core.act.dual_embedding import LBMAct

# How a trained model is used: fields of its configuration that no training reads. A leak of 0 is not among them: a
# constant word then runs away, and the errors of a day add up (Table 4).
SPACE: dict[str, tuple[float | str, ...]] = {"target_return": (0.8, 1.1, 1.5), "leak": (0.05, 0.1, 0.15)}
GUIDED_SPACE = SPACE | {"guide_scale": (0.75, 1.0, 1.25)}
CENTRED_ON, PASSES = 2, 4  # tuning periods, and how often they are replayed
LARGEST_DRIFT = 0.2  # of log alpha in a day without instructions, above which there is a warning


def actor_trials(setup: Setup, guide: Guide) -> Artifact[pd.DataFrame]:
    """The search of how LBM-Act, LLM-DT or Prompt-LLM-DT is used; trials of :func:`lbm_core.lab.search.search`.

    LBM-Act is tried without instructions and with the critic's, and the mean of both scores counts: what suits a good
    guide alone would overshoot with a poor one.
    """
    own = searching(setup)
    model, judge = act(own, guide=guide), critic(own)
    guided = guide in GUIDED

    def play(setting: dict[str, Any]) -> list[Bidder]:
        from lbm_core.act.decide import LBMActBidder
        from lbm_core.baselines.critic_search import CriticSearch

        played = LBMActBidder(model.get(quiet=True), **setting)
        if not guided:
            return [played]
        return [played, LBMActBidder(model.get(quiet=True), CriticSearch(judge.get(quiet=True)), **setting)]

    defaults = {name: getattr(model.config, name) for name in (GUIDED_SPACE if guided else SPACE)}
    space = {name: tuple(dict.fromkeys((*GUIDED_SPACE[name], value))) for name, value in defaults.items()}
    if model.config.predicts == "level":
        space["leak"] = (0.0,)  # a level cannot leak
    models = (model, judge) if guided else (model,)
    named = [guide, [[one.stage, one.key] for one in models]]
    return search(own, METHODS[guide], play, space, defaults, named)


def actor(setup: Setup, guide: Guide | None = None) -> Artifact[LBMAct]:
    """LBM-Act, LLM-DT or Prompt-LLM-DT (default: the tier's) whose configuration holds what its search chose.

    Every training is then centred on :data:`CENTRED_ON` tuning periods: what its moves without instructions sum up to
    is taken off them, several times over, because another level of alpha brings other moves.
    """
    from lbm_core.act.decide import LBMActBidder
    from lbm_core.act.dual_embedding import LBMAct

    guide = guide or setup.tier.act.guide
    model, trials = act(setup, guide=guide), actor_trials(setup, guide)

    def make(folder: Path) -> None:
        played = model.get(quiet=True)
        played.config = replace(played.config, **best_setting(trials.get(quiet=True)))
        who, days = spread_rows(setup.tier.evaluation.advertisers), tables(tuning_periods(setup))[:CENTRED_ON]
        for _ in range(PASSES):
            bidder = LBMActBidder(played)
            for day in days:
                table_replay(day, bidder, rows=who)
            played.offset += np.nan_to_num(bidder.drift) / (N_TICKS - 1)
        if abs(bidder.drift) > LARGEST_DRIFT:
            warnings.warn(f"{model.what} moves log alpha by {bidder.drift:+.2f} a day uninstructed", stacklevel=2)
        played.save(folder)

    return Artifact("actor", guide, make, LBMAct.load, f"{model.what} as it bids", (model, trials), silent=True)

"""Decisions that language models are asked about: of logged days, and of days that LBM-Act has bid itself (§3.3)."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from lbm_core.auction.bidder import N_TICKS
from lbm_core.auction.replay import ReplayResult
from lbm_core.data.trajectories import MIN_LENGTH, TrajectorySet, sample_ends, windows
from lbm_core.data.windows import Windows
from lbm_core.settings import Dataset
from lbm_core.think.prompt import PromptFacts, logged_facts

_COLUMNS = ("rows", "ticks", "ruled", "on_policy")


@dataclass(frozen=True)
class Decisions:
    """n decisions that LBM-Think is asked about."""

    rows: NDArray[np.int64]  # (n,) which trajectory
    ticks: NDArray[np.int64]  # (n,)
    window: Windows  # n, their last alpha is the action that was taken
    facts: list[PromptFacts]  # n, what the prompts tell
    ruled: NDArray[np.int64]  # (n,) direction of lbm_core.act.guide_sources.spend_rate_rule, in {-1, 0, 1}
    on_policy: NDArray[np.bool_]  # (n,) whether LBM-Act met it itself; ``rows`` then count its own trajectories

    def __len__(self) -> int:
        return len(self.rows)

    def first(self, n: int) -> "Decisions":
        """The first n of them."""
        columns = {name: getattr(self, name)[:n] for name in _COLUMNS}
        return replace(self, window=self.window[:n], facts=self.facts[:n], **columns)

    @property
    def cpa_ratio(self) -> NDArray[np.float64]:
        """(n,) CPA ratio so far, as the prompts imply it; NaN without a conversion."""
        return np.array([fact.true_ratio for fact in self.facts])

    @property
    def last_alpha(self) -> NDArray[np.float64]:
        """(n,) alpha of the tick before, currency per conversion."""
        return self.window.previous_alphas[:, -1, 0].astype(np.float64)

    @property
    def logged_alpha(self) -> NDArray[np.float64]:
        """(n,) the action that was taken, currency per conversion."""
        return self.window.alphas[:, -1].astype(np.float64)


def decisions_at(
    days: TrajectorySet, rows: NDArray[np.int64], ticks: NDArray[np.int64], *, on_policy: bool = False
) -> Decisions:
    """Everything about given decisions of trajectories; ticks >= 1."""
    from lbm_core.act.guide_sources import spend_rate_rule
    from lbm_core.act.guides import directions

    rule, ruled = spend_rate_rule(), np.zeros(len(rows), dtype=np.int64)
    for tick in np.unique(ticks):
        at = np.flatnonzero(ticks == tick)
        ruled[at] = directions(rule(days.observation(rows[at], int(tick)), days.advertisers(rows[at])))
    facts = logged_facts(days, rows, ticks)
    window = windows(days, rows, ticks, N_TICKS)  # models read what they need of the day
    return Decisions(rows, ticks, window, facts, ruled, np.full(len(rows), on_policy))


def draw_decisions(days: TrajectorySet, n: int, rng: np.random.Generator, *, on_policy: bool = False) -> Decisions:
    """n decisions with a past, drawn uniformly; fewer where days are so short that few have one."""
    rows, ticks = sample_ends(days, 2 * n + 64, rng)
    past = np.flatnonzero(ticks > 0)[:n]  # at tick 0 there is nothing to speak of
    return decisions_at(days, rows[past], ticks[past], on_policy=on_policy)


def joined(parts: Sequence[Decisions]) -> Decisions:
    """Decisions one after the other."""
    window = {f.name: np.concatenate([getattr(p.window, f.name) for p in parts]) for f in fields(Windows)}
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _COLUMNS}
    return Decisions(window=Windows(**window), facts=[fact for part in parts for fact in part.facts], **columns)


def days_of(result: ReplayResult, dataset: Dataset, period: int) -> TrajectorySet:
    """A replay as trajectories, in the form of logged ones; those of fewer than 3 ticks are left out."""
    return TrajectorySet.of_day(result, dataset, period).select(result.lengths >= MIN_LENGTH)

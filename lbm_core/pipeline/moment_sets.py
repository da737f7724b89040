"""Moments that LBM-Think is asked about: of logged days, and of days that LBM-Act has bid itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lbm_core.auction.bidder import N_TICKS, Bidder
from lbm_core.auction.replay import ReplayResult
from lbm_core.auction.response_tables import table_replay
from lbm_core.data.trajectories import ALPHA_LIMIT, MIN_LENGTH, TrajectorySet, sample_ends, windows
from lbm_core.data.windows import Windows
from lbm_core.evaluation.runner import spread_rows
from lbm_core.files import artifact_path, writing
from lbm_core.pipeline.stages import PAST_PERIODS, found_or_made, past_tables, train_periods
from lbm_core.seeding import generator
from lbm_core.settings import Dataset
from lbm_core.tiers import Tier

if TYPE_CHECKING:
    from lbm_core.think.prompt import PromptFacts


@dataclass(frozen=True)
class Moments:
    """Moments that LBM-Think is asked about (§3.3).

    Attributes
    ----------
    rows, ticks : (n,) which trajectory and tick
    window : n windows; their last alpha is the action that was taken
    facts : n, what the prompts tell
    ruled : (n,) direction of :func:`lbm_core.act.guide_sources.spend_rate_rule`, in {-1, 0, 1}
    on_policy : (n,) bool, whether LBM-Act met the moment itself; ``rows`` then count its own trajectories
    """

    rows: NDArray[np.int64]
    ticks: NDArray[np.int64]
    window: Windows
    facts: list[PromptFacts]
    ruled: NDArray[np.int64]
    on_policy: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def cpa_ratio(self) -> NDArray[np.float64]:
        """(n,) CPA ratio so far, as the prompts imply it; NaN without a conversion."""
        return np.array([fact.true_ratio for fact in self.facts])

    @property
    def last_alpha(self) -> NDArray[np.float64]:
        """(n,) alpha of the tick before, currency per conversion."""
        return self.window.previous_alphas[:, -1, 0].astype(np.float64)


def moments_at(
    days: TrajectorySet, rows: NDArray[np.int64], ticks: NDArray[np.int64], *, on_policy: bool = False
) -> Moments:
    """Everything about given moments of trajectories; ticks >= 1."""
    from lbm_core.act.guide_sources import spend_rate_rule
    from lbm_core.act.guides import directions
    from lbm_core.think.prompt import logged_facts

    rule, ruled = spend_rate_rule(), np.zeros(len(rows), dtype=np.int64)
    for tick in np.unique(ticks):
        at = np.flatnonzero(ticks == tick)
        ruled[at] = directions(rule(days.observation(rows[at], int(tick)), days.advertisers(rows[at])))
    facts = logged_facts(days, rows, ticks)
    return Moments(rows, ticks, windows(days, rows, ticks), facts, ruled, np.full(len(rows), on_policy))


def draw_moments(days: TrajectorySet, n: int, rng: np.random.Generator, *, on_policy: bool = False) -> Moments:
    """n moments with a bid and a past, drawn uniformly; fewer where days are so short that few have a past."""
    rows, ticks = sample_ends(days, 2 * n + 64, rng)
    past = np.flatnonzero(ticks > 0)[:n]  # at tick 0 there is nothing to speak of
    return moments_at(days, rows[past], ticks[past], on_policy=on_policy)


def joined(parts: Sequence[Moments]) -> Moments:
    """Moments one after the other."""
    window = {f.name: np.concatenate([getattr(p.window, f.name) for p in parts]) for f in fields(Windows)}
    columns = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("rows", "ticks", "ruled", "on_policy")
    }
    return Moments(window=Windows(**window), facts=[fact for part in parts for fact in part.facts], **columns)


def own_days(
    tier: Tier, dataset: Dataset, seed: int, make: Callable[[], Bidder], key: dict[str, Any], what: str
) -> TrajectorySet:
    """Days that a bidder has bid itself, in replays of the first training periods; never held-out ones.

    Parameters
    ----------
    make : makes the bidder, if the days are not kept yet
    key : what names the bidder
    what : for the line that says whether they were computed
    """
    periods = train_periods(tier)[:PAST_PERIODS]
    chosen = spread_rows(tier.evaluation.advertisers)
    key = {**key, "data": [dataset, seed, periods], "advertisers": len(chosen)}

    def compute(path: Path) -> None:
        bidder, found = make(), []
        for tables in past_tables(tier, dataset, seed):
            result = table_replay(tables, bidder, generator(seed, "think", 5, tables.period), rows=chosen)
            found.append(days_of(result, dataset, tables.period))
        with writing(path) as folder:
            TrajectorySet.concatenate(found).save(folder / "days.npz")

    return found_or_made(
        what, artifact_path("own_days", key), compute, lambda path: TrajectorySet.load(path / "days.npz")
    )


def days_of(result: ReplayResult, dataset: Dataset, period: int) -> TrajectorySet:
    """A replay as trajectories, in the form of logged ones; those of fewer than 3 ticks are left out."""
    valid = np.arange(N_TICKS) < result.lengths[:, None]
    who = result.advertisers
    names = ("alphas", "conversions", "expected_conversions", "costs")
    per_tick = {name: getattr(result, name) * valid for name in names}
    per_tick["alphas"] = np.clip(per_tick["alphas"], 0.0, ALPHA_LIMIT[dataset])
    whole = TrajectorySet(
        dataset=dataset,
        period=np.full(len(who), period),
        advertiser=who.index,
        length=result.lengths,
        budget=who.budget.astype(np.float32),
        cpa_target=who.cpa_target.astype(np.float32),
        states=(result.states * valid[:, :, None]).astype(np.float32),
        **per_tick,
    )
    return whole.select(result.lengths >= MIN_LENGTH)

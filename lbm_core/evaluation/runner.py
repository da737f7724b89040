"""Offline evaluation (§4.1): every method meets the same held-out periods and the same conversion draws."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from tqdm.auto import tqdm

from lbm_core.auction.bidder import N_ADVERTISERS, Advertisers, Bidder
from lbm_core.auction.hindsight import best_constant, lp_bound
from lbm_core.auction.metrics import summarize
from lbm_core.auction.replay import ReplayPeriod, replay
from lbm_core.auction.response_tables import ResponseTables
from lbm_core.seeding import generator

# The paper's delivery periods; the project trains on others only (their numbers start at 1000).
HELD_OUT_PERIODS = tuple(range(7, 28))


@runtime_checkable
class Foreseeing(Protocol):
    """A bidder that may look at a period before it is replayed: an upper reference, never a method."""

    def foresee(self, period: ReplayPeriod) -> None:
        """Look at the period."""


def held_out(n: int) -> tuple[int, ...]:
    """Numbers of n of the benchmark's own periods 7 … 27, spread over the range.

    Raises
    ------
    ValueError
        More periods than there are.
    """
    if not 1 <= n <= len(HELD_OUT_PERIODS):
        raise ValueError(f"there are {len(HELD_OUT_PERIODS)} held-out periods (7 … 27); asked for {n}")
    picked = np.linspace(0, len(HELD_OUT_PERIODS) - 1, n).round().astype(int)
    return tuple(HELD_OUT_PERIODS[i] for i in picked)


def evaluate(
    bidders: Mapping[str, Callable[[], Bidder]],
    periods: Iterable[ReplayPeriod],
    seeds: Sequence[int],
    *,
    rows: ArrayLike | None = None,
    budget_ratio: float = 1.0,
    progress: bool = True,
) -> pd.DataFrame:
    """Replay every method on every period with every seed.

    Common random numbers: a (period, seed) draws the same conversions for every method, so differences between
    methods are paired.

    Parameters
    ----------
    bidders : name -> function that makes the bidder (made once, reset before every replay)
    periods : held-out periods; may be a generator, each is used once
    seeds : conversion draws, int >= 0
    rows : which of the 48 advertisers to replay; default all
    budget_ratio : share of every budget that may be spent (Table 5), > 0
    progress : show a bar

    Returns
    -------
    One row per method, period, seed and advertiser: conversions, expected_conversions (sum of p over the wins),
    budget_utilization, cpa_ratio (NaN where nothing was spent), score (beta = 2), score_beta1, cost, budget,
    cpa_target; ``expected_`` columns hold the same for the expected conversions.

    Raises
    ------
    ValueError
        No bidder, no period, no seed or a repeated one; a budget ratio that is not positive.
    """
    if not bidders or len(seeds) == 0 or len(set(seeds)) != len(seeds):
        raise ValueError(
            f"need at least one bidder and distinct seeds; got {len(bidders)} bidders, seeds {list(seeds)}"
        )
    if not budget_ratio > 0:
        raise ValueError(f"budget_ratio must be positive; got {budget_ratio}")
    contenders = {name: make() for name, make in bidders.items()}
    frames = []
    for period in tqdm(periods, desc="replay", unit="period", disable=not progress):
        who = period.advertisers
        advertisers = Advertisers(who.index, who.budget * budget_ratio, who.cpa_target)
        for name, bidder in contenders.items():
            if isinstance(bidder, Foreseeing):
                bidder.foresee(period)
            for seed in seeds:
                rng = generator(seed, "evaluation", period.period)
                result = replay(period, bidder, rng, advertisers=advertisers, rows=rows)
                frames.append(_tidy(name, period.period, seed, result.advertisers, result.summary()))
    if not frames:
        raise ValueError("no period to evaluate on")
    frame = pd.concat(frames, ignore_index=True)
    if (frame["score"] > frame["conversions"] + 1e-9).any():
        raise AssertionError("a score above the conversions: the metrics are broken")
    return frame


def hindsight(periods: Iterable[ReplayPeriod], *, rows: ArrayLike | None = None) -> pd.DataFrame:
    """What knowing the whole day would have given, in expected conversions: upper references, no bidders.

    Parameters
    ----------
    periods, rows : as in :func:`evaluate`

    Returns
    -------
    Rows as those of :func:`evaluate`, for the methods "hindsight constant" (the constant alpha with the best score) and
    "LP bound" (most conversions within budget and CPA target, any impressions); ``seed`` is 0, nothing is drawn.
    """
    frames = []
    for period in periods:
        tables = ResponseTables.from_period(period)
        who = period.advertisers if rows is None else period.advertisers[np.asarray(rows)]
        for name, best in (("hindsight constant", best_constant(tables, who)), ("LP bound", lp_bound(tables, who))):
            summary = summarize(best.conversions, best.cost, who.budget, who.cpa_target, best.conversions)
            frames.append(_tidy(name, period.period, 0, who, summary))
    return pd.concat(frames, ignore_index=True)


def spread_rows(n: int) -> NDArray[np.int64]:
    """n of the 48 advertisers, spread over the six categories; 48 is all of them."""
    if not 1 <= n <= N_ADVERTISERS:
        raise ValueError(f"there are {N_ADVERTISERS} advertisers; asked for {n}")
    return (np.arange(n) * N_ADVERTISERS) // n


def period_means(frame: pd.DataFrame) -> pd.DataFrame:
    """Means over the advertisers, as the paper reports them: one row per method, period, seed and training seed.

    ``cpa_ratio`` averages over the advertisers who spent something. Columns that are no numbers stay as they are.
    """
    known = ["method", "train_seed", "budget_ratio", "period", "seed"]
    labels = frame.select_dtypes(exclude="number").columns.difference(known, sort=False)
    keys = [*(name for name in known if name in frame), *labels]
    columns = [name for name in frame.columns if name not in (*keys, "advertiser")]
    means = frame.groupby(keys, sort=False)[columns].mean().reset_index()
    return means.assign(advertisers=frame.groupby(keys, sort=False).size().to_numpy())


def _tidy(
    method: str, period: int, seed: int, who: Advertisers, summary: Mapping[str, NDArray[np.float64]]
) -> pd.DataFrame:
    keys = {"method": method, "period": period, "seed": seed, "advertiser": who.index}
    return pd.DataFrame({**keys, **summary, "budget": who.budget, "cpa_target": who.cpa_target})

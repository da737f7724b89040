"""Offline evaluation (§4.1): every method meets the same held-out periods and the same conversion draws."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from tqdm.auto import tqdm

from lbm_core.auction.bidder import N_ADVERTISERS, Advertisers, Bidder
from lbm_core.auction.hindsight import best_constant, lp_bound
from lbm_core.auction.metrics import cpa_ratio, summarize
from lbm_core.auction.replay import ReplayPeriod, replay
from lbm_core.auction.response_tables import ResponseTables
from lbm_core.seeding import generator


@runtime_checkable
class Foreseeing(Protocol):
    """A bidder that may look at a period before it is replayed: an upper reference, never a method."""

    def foresee(self, period: ReplayPeriod) -> None:
        """Look at the period."""


def held_out(n: int) -> tuple[int, ...]:
    """Numbers of n of the paper's delivery periods 7 … 27, spread over the range; training is on others only.

    Fewer than twelve are some of the twelve, so that all comparisons of a tier meet the same days.
    """
    if not 1 <= n <= 21:
        raise ValueError(f"there are 21 held-out periods (7 … 27); asked for {n}")
    days = 7 + np.linspace(0, 20, max(n, 12)).round().astype(int)
    return tuple(days[np.linspace(0, len(days) - 1, n).round().astype(int)].tolist())


def evaluate(
    bidders: Mapping[str, Callable[[], Bidder]],
    periods: Iterable[ReplayPeriod],
    seeds: Sequence[int],
    *,
    rows: ArrayLike | None = None,
    budget_ratio: float = 1.0,
    progress: bool = True,
) -> pd.DataFrame:
    """Replay every method on every held-out period with every seed of conversion draws.

    Common random numbers: a (period, seed) draws the same conversions for every method, so differences between
    methods are paired. A bidder is made once and reset before every replay. ``rows`` says which of the 48 advertisers
    bid (default all), ``budget_ratio`` > 0 which share of every budget may be spent (Table 5).

    One row per method, period, seed and advertiser: conversions, expected_conversions (sum of p over the wins),
    budget_utilization, cpa_ratio (NaN where nothing was spent), score (beta = 2), score_beta1, cost, budget,
    cpa_target; ``expected_`` columns hold the same for the expected conversions.
    """
    if not bidders or len(seeds) == 0 or len(set(seeds)) != len(seeds):
        raise ValueError(f"need at least one bidder and distinct seeds; got {list(bidders)} and {list(seeds)}")
    if not budget_ratio > 0:
        raise ValueError(f"budget_ratio must be positive; got {budget_ratio}")
    contenders = {name: make() for name, make in bidders.items()}
    frames = []
    for period in tqdm(periods, desc="replay", unit="period", disable=not progress):
        advertisers = replace(period.advertisers, budget=period.advertisers.budget * budget_ratio)
        for name, bidder in contenders.items():
            if isinstance(bidder, Foreseeing):
                bidder.foresee(period)
            for seed in seeds:
                rng = generator(seed, "evaluation", period.period)
                result = replay(period, bidder, rng, advertisers=advertisers, rows=rows)
                frames.append(day_rows(name, period.period, seed, result.advertisers, result.summary()))
    if not frames:
        raise ValueError("no period to evaluate on")
    return pd.concat(frames, ignore_index=True)


def hindsight(periods: Iterable[ReplayPeriod], *, rows: ArrayLike | None = None) -> pd.DataFrame:
    """What knowing the whole day would have given, in expected conversions: upper references, no bidders.

    Rows as those of :func:`evaluate`, for the methods "hindsight constant" (the constant alpha with the best score) and
    "LP bound" (most conversions within budget and CPA target, any impressions); ``seed`` is 0, nothing is drawn.
    """
    frames = []
    for period in periods:
        tables = ResponseTables.from_period(period)
        who = period.advertisers if rows is None else period.advertisers[np.asarray(rows)]
        for name, best in (("hindsight constant", best_constant(tables, who)), ("LP bound", lp_bound(tables, who))):
            summary = summarize(best.conversions, best.cost, who.budget, who.cpa_target, best.conversions)
            frames.append(day_rows(name, period.period, 0, who, summary))
    return pd.concat(frames, ignore_index=True)


def spread_rows(n: int) -> NDArray[np.int64]:
    """n of the 48 advertisers, spread over the six categories; 48 is all of them."""
    if not 1 <= n <= N_ADVERTISERS:
        raise ValueError(f"there are {N_ADVERTISERS} advertisers; asked for {n}")
    return (np.arange(n) * N_ADVERTISERS) // n


def period_means(frame: pd.DataFrame) -> pd.DataFrame:
    """Means over the advertisers, as the paper reports them: one row per method, period, seed and training seed.

    A ratio has no such mean: an advertiser who bought one conversion dearly would rule it. ``group_cpa_ratio`` is the
    cost of all over what their conversions may cost at their CPA targets, ``group_expected_cpa_ratio`` that of expected
    conversions, ``median_cpa_ratio`` the median over the advertisers who spent; ``advertisers`` counts them all.
    Columns that are no numbers stay as they are.
    """
    known = ["method", "train_seed", "budget_ratio", "period", "seed"]
    labels = frame.select_dtypes(exclude="number").columns.difference(known, sort=False)
    keys = [*(name for name in known if name in frame), *labels]
    columns = [name for name in frame if name not in (*keys, "advertiser") and not str(name).endswith("cpa_ratio")]
    owed = {f"group_{kind}cpa_ratio": frame[f"{kind}conversions"] * frame["cpa_target"] for kind in ("", "expected_")}
    groups = frame.assign(**owed).groupby(keys, sort=False, dropna=False)
    means = groups[[*columns, *owed]].mean()
    ratios = {name: cpa_ratio(means[name], means["cost"], 1.0) for name in owed}
    others = {"median_cpa_ratio": groups["cpa_ratio"].median(), "advertisers": groups.size()}
    return means.assign(**ratios, **others).reset_index()


def day_rows(
    method: str, period: int, seed: int, who: Advertisers, summary: Mapping[str, NDArray[np.float64]]
) -> pd.DataFrame:
    """A row per advertiser of a day that a method bid on: who, what :func:`summarize` says, budget and CPA target."""
    keys = {"method": method, "period": period, "seed": seed, "advertiser": who.index}
    return pd.DataFrame({**keys, **summary, "budget": who.budget, "cpa_target": who.cpa_target})

"""Closed-loop evaluation, beside §4.1's offline replay: a method bids in the market and its competitors react.

The contender takes the place of some advertisers among the behaviour bidders. Prices come from the three-slot auction
with exposure draws, so what it wins, others lose, and they bid accordingly. Differs from the paper, which only replays.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from lbm_core.auction.bidder import N_ADVERTISERS, Bidder
from lbm_core.auction.day import beside, play
from lbm_core.auction.log import PeriodLog
from lbm_core.data.behaviour import populated_market
from lbm_core.evaluation.runner import day_rows, period_means
from lbm_core.evaluation.statistics import mean_interval, one_identity, period_table, trainings, verdict
from lbm_core.settings import Dataset

BEHAVIOUR = "behaviour"  # the method that a contender replaces
METRICS = ("conversions", "expected_conversions", "budget_utilization", "group_cpa_ratio", "score", "score_beta1")


def closed_loop(
    bidders: Mapping[str, Callable[[], Bidder]],
    dataset: Dataset,
    periods: Sequence[int],
    seeds: Sequence[int],
    *,
    rows: ArrayLike | None = None,
    at_once: int = 1,
) -> pd.DataFrame:
    """Let every method bid in the market of every period and seed, in the place of some of its advertisers.

    A (period, seed) has the same competitors with the same noise, and the same start of the market's random stream,
    for every method: those of :func:`lbm_core.data.behaviour.simulate_period`. The stream's later draws (exposure,
    conversions) fall out of step once two methods win differently, so their luck is paired less than in the replay.

    A bidder is made once and reset before every market. ``seeds`` are of the market (who bids how, and what converts).
    ``rows`` are those of the 48 advertisers that the methods stand in for (default all), ``at_once`` (1 to 48) of them
    in the same market: 1 asks what one gains by changing method, 48 what happens when everybody does.

    Rows of :func:`lbm_core.evaluation.runner.evaluate`; here ``expected_conversions`` sums p over the shown wins only
    """
    for name, values in (("bidders", list(bidders)), ("periods", periods), ("seeds", seeds)):
        if len(values) == 0 or len(set(values)) != len(values):
            raise ValueError(f"need distinct {name}, at least one; got {list(values)}")
    chosen = _checked_rows(rows)
    parts = groups(chosen, at_once)
    back = np.argsort(np.concatenate(groups(np.arange(len(chosen)), at_once)))  # from group after group to ``rows``
    contenders = {name: make() for name, make in bidders.items()}
    frames = []
    for period, name, seed in itertools.product(periods, contenders, seeds):
        tables = []
        for part in parts:
            ticks, who, population = populated_market(dataset, period, seed)
            log = play(beside(ticks, who, population, part), who[part], contenders[name])
            tables.append(logged_rows(log, seed, rows=part, method=name))
        frames.append(pd.concat(tables, ignore_index=True).iloc[back])
    return pd.concat(frames, ignore_index=True)


def logged_rows(log: PeriodLog, seed: int, *, rows: ArrayLike | None = None, method: str = BEHAVIOUR) -> pd.DataFrame:
    """Advertisers of a period's log as rows of :func:`closed_loop`; by default what the behaviour population got.

    ``seed`` is the market's, which the log does not say; ``rows`` are distinct, default all; ``method`` names who bid.
    """
    chosen = _checked_rows(rows)
    summary = {name: values[chosen] for name, values in log.summary().items()}
    return day_rows(method, log.period, seed, log.advertisers[chosen], summary)


def groups(rows: ArrayLike, at_once: int) -> list[NDArray[np.int64]]:
    """Split advertisers into groups of at most ``at_once`` (1 to 48), each spread over the whole list.

    Six at once of all 48 are one of each category.
    """
    if at_once not in range(1, N_ADVERTISERS + 1):
        raise ValueError(f"at_once must be a whole number from 1 to {N_ADVERTISERS}; got {at_once!r}")
    who = np.asarray(rows, dtype=np.int64)
    n_groups = -(-len(who) // at_once)
    return [who[g::n_groups] for g in range(n_groups)]


def disagreement(
    replayed: pd.DataFrame, closed: pd.DataFrame, rng: np.random.Generator, *, metrics: Sequence[str] = METRICS
) -> pd.DataFrame:
    """How far the closed loop's answer is from the replay's, method by method.

    Of rows of :func:`lbm_core.evaluation.runner.evaluate` and of :func:`closed_loop`, maybe with ``train_seed``; what
    only one of them holds (methods, periods, advertisers) is left out. One row per method and metric: method, metric,
    replay and closed_loop (means), difference (closed loop - replay) with its interval low, high, periods, verdict (see
    :mod:`lbm_core.evaluation.statistics`), and the method's replay_rank and closed_loop_rank among the shared methods:
    1 is the largest mean, of a CPA ratio the smallest.
    """
    methods = [name for name in replayed["method"].unique() if name in set(closed["method"])]
    if not methods:
        raise ValueError("the replay and the closed loop share no method")
    keys = [name for name in ("method", "period", "advertiser") if name in replayed and name in closed]
    shared = replayed[keys].drop_duplicates().merge(closed[keys].drop_duplicates())
    if shared.empty:
        raise ValueError(f"the replay and the closed loop share no {' and '.join(keys[1:])}")
    replayed, closed = (period_means(one.merge(shared)) for one in (replayed, closed))
    both = one_identity(pd.concat([replayed, closed]))
    rows = []
    for metric in metrics:
        for method in methods:
            # Training seeds and periods that both have; conversion draws and market seeds are averaged already.
            base, ours = period_table(replayed, method, metric), period_table(closed, method, metric)
            base, ours = base.align(ours, join="inner")
            if base.empty:
                raise ValueError(f"{method}: the replay and the closed loop share no period and training seed")
            difference, low, high = mean_interval((ours - base).to_numpy(), rng)
            means, (count, periods) = (float(base.to_numpy().mean()), float(ours.to_numpy().mean())), base.shape
            word = verdict(low, high, periods, count if trainings(both, method) else 0)
            rows.append((method, metric, *means, difference, low, high, periods, word))
    columns = ["method", "metric", "replay", "closed_loop", "difference", "low", "high", "periods", "verdict"]
    table = pd.DataFrame(rows, columns=columns)
    sign = np.where(table["metric"].str.endswith("cpa_ratio"), 1.0, -1.0)
    for protocol in ("replay", "closed_loop"):
        ranks = (sign * table[protocol]).groupby(table["metric"]).rank(method="min")
        table[f"{protocol}_rank"] = ranks.astype(int)
    return table


def _checked_rows(rows: ArrayLike | None) -> NDArray[np.int64]:
    chosen = np.arange(N_ADVERTISERS) if rows is None else np.asarray(rows, dtype=np.int64)
    if not 0 < len(np.unique(chosen)) == chosen.size or not 0 <= chosen.min() <= chosen.max() < N_ADVERTISERS:
        raise ValueError(f"rows must be distinct advertisers in [0, {N_ADVERTISERS}), at least one; got {chosen}")
    return chosen

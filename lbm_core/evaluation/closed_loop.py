"""Closed-loop evaluation, beside §4.1's offline replay: a method bids in the market and its competitors react.

The contender takes the place of some advertisers among the behaviour bidders. Prices come from the three-slot auction
with exposure draws, so what it wins, others lose, and they bid accordingly. Differs from the paper, which only replays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from tqdm.auto import tqdm

from lbm_core.auction.bidder import N_ADVERTISERS, Bidder
from lbm_core.auction.day import beside, play
from lbm_core.auction.log import PeriodLog
from lbm_core.data.behaviour import populated_market
from lbm_core.evaluation.statistics import METRICS, mean_interval, period_table, verdict
from lbm_core.seeding import generator
from lbm_core.settings import Dataset

BEHAVIOUR = "behaviour"  # the method that a contender replaces
LOWER_IS_BETTER = ("cpa_ratio",)


def closed_loop(
    bidders: Mapping[str, Callable[[], Bidder]],
    dataset: Dataset,
    periods: Sequence[int],
    seeds: Sequence[int],
    *,
    rows: ArrayLike | None = None,
    at_once: int = 1,
    progress: bool = True,
) -> pd.DataFrame:
    """Let every method bid in the market of every period and seed, in the place of some of its advertisers.

    A (period, seed) has the same competitors with the same noise, and the same start of the market's random stream,
    for every method: those of :func:`lbm_core.data.behaviour.simulate_period`. The stream's later draws (exposure,
    conversions) fall out of step once two methods win differently, so their luck is paired less than in the replay.

    Parameters
    ----------
    bidders : name -> function that makes the bidder (made once, reset before every market)
    periods : delivery periods, int >= 0
    seeds : of the market (who bids how, and what converts), int >= 0
    rows : which of the 48 advertisers the methods stand in for, distinct; default all
    at_once : how many of them in the same market, 1 to 48. 1 asks what one advertiser gains by changing method; 48
        what happens when everybody does. Costs one market per group of :func:`groups`.
    progress : show a bar

    Returns
    -------
    One row per method, period, seed and advertiser, with the columns of :func:`lbm_core.evaluation.runner.evaluate`;
    here ``expected_conversions`` is the sum of p over the shown wins.

    Raises
    ------
    ValueError
        No bidder, no period, no seed, no advertiser, or a repeated one; rows or ``at_once`` out of range; a bidder
        that returns a wrong shape, NaN or a negative alpha.
    """
    for name, values in (("bidders", list(bidders)), ("periods", periods), ("seeds", seeds)):
        if len(values) == 0 or len(set(values)) != len(values):
            raise ValueError(f"need distinct {name}, at least one; got {list(values)}")
    chosen = _checked_rows(rows)
    parts = groups(chosen, at_once)
    back = np.argsort(np.concatenate(groups(np.arange(len(chosen)), at_once)))  # from group after group to ``rows``
    contenders = {name: make() for name, make in bidders.items()}
    markets = [(period, name, seed) for period in periods for name in contenders for seed in seeds]
    frames = []
    for period, name, seed in tqdm(markets, desc="closed loop", unit="day", disable=not progress):
        tables = []
        for part in parts:
            ticks, who, population = populated_market(dataset, period, seed)
            log = play(beside(ticks, who, population, part), who[part], contenders[name])
            tables.append(logged_rows(log, seed, rows=part, method=name))
        frames.append(pd.concat(tables, ignore_index=True).iloc[back])
    return pd.concat(frames, ignore_index=True)


def logged_rows(log: PeriodLog, seed: int, *, rows: ArrayLike | None = None, method: str = BEHAVIOUR) -> pd.DataFrame:
    """Advertisers of a period's log as rows of :func:`closed_loop`; by default what the behaviour population got.

    Parameters
    ----------
    log : a simulated delivery period
    seed : of its market; the log does not say
    rows : which advertisers, distinct; default all
    method : what to call those who bid
    """
    chosen = _checked_rows(rows)
    who, summary = log.advertisers[chosen], {name: values[chosen] for name, values in log.summary().items()}
    keys = {"method": method, "period": log.period, "seed": seed, "advertiser": who.index}
    return pd.DataFrame({**keys, **summary, "budget": who.budget, "cpa_target": who.cpa_target})


def groups(rows: ArrayLike, at_once: int) -> list[NDArray[np.int64]]:
    """Split advertisers into groups of at most ``at_once``, each spread over the whole list.

    Six at once of all 48 are one of each category.

    Raises
    ------
    ValueError
        ``at_once`` is not a whole number from 1 to 48.
    """
    if isinstance(at_once, bool) or at_once not in range(1, N_ADVERTISERS + 1):
        raise ValueError(f"at_once must be a whole number from 1 to {N_ADVERTISERS}; got {at_once!r}")
    who = np.asarray(rows, dtype=np.int64)
    n_groups = -(-len(who) // int(at_once))
    return [who[g::n_groups] for g in range(n_groups)]


def disagreement(
    replayed: pd.DataFrame,
    closed: pd.DataFrame,
    rng: np.random.Generator | None = None,
    *,
    metrics: Sequence[str] = METRICS,
) -> pd.DataFrame:
    """How far the closed loop's answer is from the replay's, method by method.

    Parameters
    ----------
    replayed, closed : rows of :func:`lbm_core.evaluation.runner.evaluate` and of :func:`closed_loop`, maybe with
        ``train_seed``. What only one of them holds (methods, periods, advertisers) is left out.
    rng : of the bootstrap over periods; default a fixed one

    Returns
    -------
    One row per method and metric: method, metric, replay and closed_loop (means), difference (closed loop - replay)
    with its interval low, high, periods, verdict (see :mod:`lbm_core.evaluation.statistics`), and the method's
    replay_rank and closed_loop_rank among the shared methods: 1 is the largest mean, of a CPA ratio the smallest.

    Raises
    ------
    ValueError
        The two share no method, or no period of the same advertisers.
    """
    rng = generator(0, "bootstrap") if rng is None else rng
    methods = [name for name in replayed["method"].unique() if name in set(closed["method"])]
    if not methods:
        raise ValueError("the replay and the closed loop share no method")
    keys = [name for name in ("method", "period", "advertiser") if name in replayed and name in closed]
    shared = replayed[keys].drop_duplicates().merge(closed[keys].drop_duplicates())
    if shared.empty:
        raise ValueError(f"the replay and the closed loop share no {' and '.join(keys[1:])}")
    replayed, closed = replayed.merge(shared), closed.merge(shared)
    rows = []
    for metric in metrics:
        for method in methods:
            # Training seeds and periods that both have; conversion draws and market seeds are averaged already.
            base, ours = period_table(replayed, method, metric), period_table(closed, method, metric)
            base, ours = base.align(ours, join="inner")
            if base.empty:
                raise ValueError(f"{method}: the replay and the closed loop share no period and training seed")
            difference, low, high = mean_interval((ours - base).to_numpy(), rng)
            means = float(base.to_numpy().mean()), float(ours.to_numpy().mean())
            periods = base.shape[1]
            rows.append((method, metric, *means, difference, low, high, periods, verdict(low, high, periods)))
    columns = ["method", "metric", "replay", "closed_loop", "difference", "low", "high", "periods", "verdict"]
    table = pd.DataFrame(rows, columns=columns)
    for protocol in ("replay", "closed_loop"):
        sign = np.where(table["metric"].isin(LOWER_IS_BETTER), 1.0, -1.0)
        ranks = (sign * table[protocol]).groupby(table["metric"]).rank(method="min")
        table[f"{protocol}_rank"] = ranks.astype(int)
    return table


def _checked_rows(rows: ArrayLike | None) -> NDArray[np.int64]:
    chosen = np.arange(N_ADVERTISERS) if rows is None else np.asarray(rows, dtype=np.int64)
    if chosen.ndim != 1 or len(chosen) == 0 or len(np.unique(chosen)) != len(chosen):
        raise ValueError(f"rows must be distinct advertisers, at least one; got {chosen}")
    if chosen.min() < 0 or chosen.max() >= N_ADVERTISERS:
        raise ValueError(f"rows must lie in [0, {N_ADVERTISERS}); got {chosen}")
    return chosen

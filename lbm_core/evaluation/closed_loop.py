"""Closed-loop evaluation, beside §4.1's offline replay: a method bids in the market and its competitors react.

The contender takes the place of some advertisers among the behaviour bidders. Prices come from the three-slot auction
with exposure draws, so what it wins, others lose, and they bid accordingly. Differs from the paper, which only replays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from tqdm.auto import tqdm

from lbm_core.auction.bidder import N_ADVERTISERS, Advertisers, Bidder, Observation
from lbm_core.auction.log import PeriodLog
from lbm_core.auction.market import Engine
from lbm_core.auction.metrics import summarize
from lbm_core.auction.traffic import Scheme
from lbm_core.data.advertisers import period_advertisers
from lbm_core.data.behaviour import simulate_period
from lbm_core.evaluation.statistics import METRICS, mean_interval, period_table, verdict
from lbm_core.seeding import generator
from lbm_core.settings import Dataset

BEHAVIOUR = "behaviour"  # the method that a contender replaces
LOWER_IS_BETTER = ("cpa_ratio",)
_KEYS = ["method", "period", "seed", "advertiser"]


class StandIn:
    """A population of bidders, some of whose advertisers a contender bids for instead.

    The population is asked for all n, so that its noise draws do not depend on who is replaced; the contender sees its
    own rows only.

    Parameters
    ----------
    population : bids for n advertisers
    contender : bids for those of ``rows``
    rows : (k,) positions within the n advertisers, distinct
    """

    def __init__(self, population: Bidder, contender: Bidder, rows: ArrayLike) -> None:
        self.population, self.contender = population, contender
        self.rows = np.asarray(rows, dtype=np.int64)

    def reset(self, advertisers: Advertisers) -> None:
        """Start a period."""
        self.population.reset(advertisers)
        self.contender.reset(advertisers[self.rows])

    def act(self, observation: Observation) -> NDArray[np.float64]:
        """(n,) alpha.

        Raises
        ------
        ValueError
            The contender returned another shape than (k,).
        """
        alphas = np.array(self.population.act(observation), dtype=np.float64)
        chosen = np.asarray(self.contender.act(observation[self.rows]), dtype=np.float64)
        if chosen.shape != self.rows.shape:  # NumPy would spread a single alpha over all rows
            raise ValueError(
                f"the bidder returned alphas of shape {chosen.shape} at tick {observation.tick}; expected "
                f"{self.rows.shape}"
            )
        alphas[self.rows] = chosen
        return alphas


def closed_loop(
    bidders: Mapping[str, Callable[[], Bidder]],
    dataset: Dataset,
    periods: Sequence[int],
    seeds: Sequence[int],
    *,
    rows: ArrayLike | None = None,
    at_once: int = 1,
    engine: Engine = "exact",
    budget_ratio: float = 1.0,
    scheme: Scheme = "data",
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
    engine : of the market, see :func:`lbm_core.auction.market.run_market`
    budget_ratio : share of their budgets that the contender's advertisers may spend, > 0; competitors keep theirs
    scheme : of the traffic, see :class:`lbm_core.auction.traffic.Traffic`
    progress : show a bar

    Returns
    -------
    One row per method, period, seed and advertiser, with the columns of :func:`lbm_core.evaluation.runner.evaluate`;
    here ``expected_conversions`` is the sum of p over the shown wins.

    Raises
    ------
    ValueError
        No bidder, no period, no seed, no advertiser, or a repeated one; rows or ``at_once`` out of range; a budget
        ratio that is not positive; a bidder that returns a wrong shape, NaN or a negative alpha.
    """
    if not bidders:
        raise ValueError("need at least one bidder")
    _require_distinct(periods, seeds)
    if not budget_ratio > 0:
        raise ValueError(f"budget_ratio must be positive; got {budget_ratio}")
    chosen = _checked_rows(rows)
    parts = groups(chosen, at_once)
    back = np.argsort(np.concatenate(groups(np.arange(len(chosen)), at_once)))  # from group after group to ``rows``
    made = {name: make() for name, make in bidders.items()}
    frames = []
    n_markets = len(periods) * len(made) * len(seeds) * len(parts)
    bar = tqdm(desc="closed loop", unit="market", total=n_markets, disable=not progress)
    for period in periods:
        listed = period_advertisers(dataset, period)
        for name, bidder in made.items():
            for seed in seeds:
                found = []
                for part in parts:
                    log = simulate_period(
                        dataset,
                        period,
                        seed,
                        scheme,
                        engine=engine,
                        advertisers=_scaled(listed, part, budget_ratio),
                        stand_in=partial(StandIn, contender=bidder, rows=part),
                    )
                    found.append(logged_rows(log, seed, rows=part, method=name))
                    bar.update()
                frames.append(pd.concat(found, ignore_index=True).iloc[back])
    bar.close()
    return pd.concat(frames, ignore_index=True)


def behaviour(
    dataset: Dataset,
    periods: Sequence[int],
    seeds: Sequence[int],
    *,
    rows: ArrayLike | None = None,
    engine: Engine = "exact",
    scheme: Scheme = "data",
) -> pd.DataFrame:
    """What the replaced advertisers themselves got in the market with nobody replaced: the reference "behaviour".

    Parameters, rows and errors as in :func:`closed_loop`; one market per period and seed.
    """
    _require_distinct(periods, seeds)
    logs = ((simulate_period(dataset, p, seed, scheme, engine=engine), seed) for p in periods for seed in seeds)
    return pd.concat([logged_rows(log, seed, rows=rows) for log, seed in logs], ignore_index=True)


def logged_rows(log: PeriodLog, seed: int, *, rows: ArrayLike | None = None, method: str = BEHAVIOUR) -> pd.DataFrame:
    """Advertisers of a period's log as rows of :func:`closed_loop`.

    Parameters
    ----------
    log : a simulated delivery period
    seed : of its market; the log does not say
    rows : which advertisers, distinct; default all
    method : what to call those who bid
    """
    chosen = _checked_rows(rows)
    who = log.advertisers[chosen]
    conversions, cost, expected = (
        table[chosen].sum(axis=1) for table in (log.conversions, log.costs, log.expected_conversions)
    )
    table = summarize(conversions, cost, who.budget, who.cpa_target, expected)
    frame = pd.DataFrame({"advertiser": who.index, **table, "budget": who.budget, "cpa_target": who.cpa_target})
    frame = frame.assign(method=method, period=log.period, seed=seed)
    return frame[_KEYS + [name for name in frame if name not in _KEYS]]


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


def rank_agreement(table: pd.DataFrame) -> pd.DataFrame:
    """Whether both protocols order the methods alike.

    Parameters
    ----------
    table : from :func:`disagreement`

    Returns
    -------
    One row per metric: metric, methods (how many), kendall_tau (tau-b of the two columns of means, 1 the same order,
    -1 the reverse; NaN where fewer than two methods differ).
    """
    rows = []
    for metric, part in table.groupby("metric", sort=False):
        several = min(part["replay"].nunique(), part["closed_loop"].nunique()) > 1
        tau = float(stats.kendalltau(part["replay"], part["closed_loop"]).statistic) if several else float("nan")
        rows.append((metric, len(part), tau))
    return pd.DataFrame(rows, columns=["metric", "methods", "kendall_tau"])


def _scaled(advertisers: Advertisers, rows: NDArray[np.int64], budget_ratio: float) -> Advertisers:
    budget = advertisers.budget.copy()
    budget[rows] *= budget_ratio
    return Advertisers(advertisers.index, budget, advertisers.cpa_target)


def _checked_rows(rows: ArrayLike | None) -> NDArray[np.int64]:
    chosen = np.arange(N_ADVERTISERS) if rows is None else np.asarray(rows, dtype=np.int64)
    if chosen.ndim != 1 or len(chosen) == 0 or len(np.unique(chosen)) != len(chosen):
        raise ValueError(f"rows must be distinct advertisers, at least one; got {chosen}")
    if chosen.min() < 0 or chosen.max() >= N_ADVERTISERS:
        raise ValueError(f"rows must lie in [0, {N_ADVERTISERS}); got {chosen}")
    return chosen


def _require_distinct(periods: Sequence[int], seeds: Sequence[int]) -> None:
    for name, values in (("periods", periods), ("seeds", seeds)):
        if len(values) == 0 or len(set(values)) != len(values):
            raise ValueError(f"need distinct {name}, at least one; got {list(values)}")

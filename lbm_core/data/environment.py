"""``lbm/AuctionNet-v0``: one advertiser against the simulated market or against a logged period.

Importing this module registers the environment: ``gymnasium.make("lbm_core.data.environment:lbm/AuctionNet-v0")``
imports and makes it in one call.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Literal

import gymnasium
import numpy as np
from numpy.typing import NDArray

from lbm_core.auction.bidder import N_ADVERTISERS, Advertisers, Bidder, Observation
from lbm_core.auction.environment import AuctionNetEnv, Day
from lbm_core.auction.log import PeriodLog
from lbm_core.auction.market import Engine, run_market
from lbm_core.auction.replay import ReplayPeriod, replay
from lbm_core.auction.traffic import Traffic
from lbm_core.data.advertisers import period_advertisers
from lbm_core.data.behaviour import behaviour_population, simulate_period
from lbm_core.settings import Dataset

ENVIRONMENT_ID = "lbm/AuctionNet-v0"


def auctionnet(
    dataset: Dataset = "dense",
    periods: Sequence[int] = (28,),
    advertisers: Sequence[int] = tuple(range(N_ADVERTISERS)),
    against: Literal["market", "log"] = "market",
    logs: Sequence[PeriodLog | ReplayPeriod] = (),
    *,
    engine: Engine = "exact",
    max_log_ratio: float = 2.0,
    traffic: Callable[[int, Dataset], Traffic] = Traffic,
    bidders: Callable[[Dataset, int], Advertisers] = period_advertisers,
) -> AuctionNetEnv:
    """Make the environment; every reset draws a period and an advertiser.

    Parameters
    ----------
    dataset, periods : delivery periods to draw from
    advertisers : numbers to draw from, 0 … 47
    against : "market": the advertiser takes its place among 47 simulated bidders, which react to the prices it makes
        (closed loop); "log": it buys at the prices of a logged period (the paper's replay)
    logs : logged periods for "log", simulated or imported ones, instead of ``dataset`` and ``periods``; none: the
        periods are simulated when first drawn
    engine : of the market, see :func:`lbm_core.auction.market.run_market`; logged periods are always "exact"
    max_log_ratio : see :class:`~lbm_core.auction.environment.AuctionNetEnv`
    traffic, bidders : make a period's impressions and advertisers

    Raises
    ------
    ValueError
        Unknown ``against``, no period, or an advertiser outside 0 … 47.
    """
    chosen = np.unique(np.asarray(advertisers, dtype=np.int64))
    if len(chosen) == 0 or chosen[0] < 0 or chosen[-1] >= N_ADVERTISERS:
        raise ValueError(f"advertisers must be numbers in 0 … {N_ADVERTISERS - 1}; got {list(advertisers)}")
    if len(periods) == 0:
        raise ValueError("periods must name at least one delivery period")
    if against == "market":
        if logs:
            raise ValueError("logs are for against='log'")

        def market_day(rng: np.random.Generator) -> Day:
            period = int(rng.choice(np.asarray(periods)))
            return _market_day(
                dataset, traffic(period, dataset), bidders(dataset, period), int(rng.choice(chosen)), engine
            )

        return AuctionNetEnv(market_day, max_log_ratio)
    if against == "log":

        @functools.lru_cache(maxsize=2)  # about 200 MB each
        def logged(k: int) -> ReplayPeriod:
            if not logs:
                return ReplayPeriod.from_log(simulate_period(dataset, periods[k], 0))
            log = logs[k]
            if isinstance(log, ReplayPeriod):
                return log
            if log.engine == "fast":
                raise ValueError("a log of the fast engine has prices of other impressions than its traffic's")
            return ReplayPeriod.from_log(log)

        def log_day(rng: np.random.Generator) -> Day:
            return _log_day(logged(int(rng.integers(len(logs or periods)))), int(rng.choice(chosen)))

        return AuctionNetEnv(log_day, max_log_ratio)
    raise ValueError(f"against must be 'market' or 'log'; got {against!r}")


class _Substitute:
    """A population in which one advertiser is bid for by somebody else."""

    def __init__(self, population: Bidder, row: int, bidder: Bidder) -> None:
        self.population, self.row, self.bidder = population, row, bidder

    def reset(self, advertisers: Advertisers) -> None:
        """Start a period."""
        self.population.reset(advertisers)
        self.bidder.reset(advertisers[np.array([self.row])])

    def act(self, observation: Observation) -> NDArray[np.float64]:
        """(n,) alpha; the population's own decision for the row is overwritten."""
        alphas = np.array(self.population.act(observation), dtype=np.float64)
        alphas[self.row] = self.bidder.act(observation[np.array([self.row])])[0]
        return alphas


def _market_day(dataset: Dataset, traffic: Traffic, advertisers: Advertisers, row: int, engine: Engine) -> Day:
    def run(bidder: Bidder, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        population = behaviour_population(dataset, advertisers, rng.spawn(1)[0])
        log = run_market(traffic, advertisers, _Substitute(population, row, bidder), rng, engine=engine)
        return log.costs[row], log.conversions[row]

    return Day(traffic.period, advertisers[np.array([row])], run)


def _log_day(period: ReplayPeriod, row: int) -> Day:
    def run(bidder: Bidder, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        result = replay(period, bidder, rng, rows=[row])
        return result.costs[0], result.conversions[0]

    return Day(period.period, period.advertisers[np.array([row])], run)


if ENVIRONMENT_ID not in gymnasium.registry:
    gymnasium.register(ENVIRONMENT_ID, entry_point=f"{__name__}:auctionnet")

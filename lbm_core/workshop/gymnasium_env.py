"""``lbm/AuctionNet-v0``: one advertiser against the simulated market or against a logged period (§2.2).

``gymnasium.make("lbm_core.workshop.gymnasium_env:lbm/AuctionNet-v0")`` imports, registers and makes it.
"""

import functools
from collections.abc import Sequence
from typing import Literal

import gymnasium
import numpy as np

from lbm_core.auction.bidder import N_ADVERTISERS, Advertisers
from lbm_core.auction.day import Ticks, beside
from lbm_core.auction.environment import AuctionNetEnv, Day
from lbm_core.auction.log import PeriodLog
from lbm_core.auction.market import market_day
from lbm_core.auction.replay import ReplayPeriod, replay_day
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
    max_log_ratio: float = 2.0,
) -> AuctionNetEnv:
    """Make the environment; every reset draws one of the periods and one of the advertisers (numbers in 0 … 47).

    Against the "market" it takes its place among 47 simulated bidders, that react to the prices it makes (closed loop);
    against the "log" it buys at the prices of a logged period (the paper's replay): one of ``logs``, simulated or
    imported, instead of ``dataset`` and ``periods``, which are else simulated when first drawn.
    """
    chosen = sorted(set(advertisers))
    if not chosen or not set(chosen) <= set(range(N_ADVERTISERS)):
        raise ValueError(f"advertisers must be numbers in 0 … {N_ADVERTISERS - 1}; got {list(advertisers)}")
    if len(periods) == 0:
        raise ValueError("periods must name at least one delivery period")
    if against not in ("market", "log"):
        raise ValueError(f"against must be 'market' or 'log'; got {against!r}")
    if against == "market" and logs:
        raise ValueError("logs are for against='log'")

    @functools.lru_cache(maxsize=2)  # about 200 MB each
    def logged(k: int) -> ReplayPeriod:
        log = logs[k] if logs else simulate_period(dataset, periods[k], 0)
        return log if isinstance(log, ReplayPeriod) else ReplayPeriod.from_log(log)

    def draw(rng: np.random.Generator) -> Day:
        if against == "market":
            period = int(rng.choice(np.asarray(periods)))
            return simulated_day(Traffic(period, dataset), period_advertisers(dataset, period), int(rng.choice(chosen)))
        day = logged(int(rng.integers(len(logs or periods))))
        one = day.advertisers[np.array([rng.choice(chosen)])]
        return Day(day.period, one, lambda rng: replay_day(day, one, rng))

    return AuctionNetEnv(draw, max_log_ratio)


def simulated_day(traffic: Traffic, advertisers: Advertisers, row: int) -> Day:
    """An advertiser's day among the behaviour population, which bids for the other 47."""

    def start(rng: np.random.Generator) -> Ticks[PeriodLog]:
        population = behaviour_population(traffic.dataset, advertisers, rng.spawn(1)[0])
        return beside(market_day(traffic, advertisers, rng), advertisers, population, [row])

    return Day(traffic.period, advertisers[np.array([row])], start, row)


if ENVIRONMENT_ID not in gymnasium.registry:
    gymnasium.register(ENVIRONMENT_ID, entry_point=f"{__name__}:auctionnet")

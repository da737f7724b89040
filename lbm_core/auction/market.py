"""A.1: a delivery period of the whole market, 48 advertisers bidding against each other."""

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from lbm_core.auction import kernels, mechanism
from lbm_core.auction.bidder import N_ADVERTISERS, N_TICKS, Advertisers, Bidder
from lbm_core.auction.day import Outcome, Ticks, play, run_day
from lbm_core.auction.log import PeriodLog
from lbm_core.auction.traffic import Traffic


def run_market(traffic: Traffic, advertisers: Advertisers, bidder: Bidder, rng: np.random.Generator) -> PeriodLog:
    """Run a delivery period: every tick the bidder chooses 48 alphas, and all impressions are auctioned.

    ``rng`` draws exposure, conversions, and which wins an overspender loses. ``alphas`` of the log are effective as in
    the published data: sum of the tick's bids over sum of its p-values, hence below what the bidder chose in a tick
    whose bids were partly dropped for lack of budget. ValueError: not the 48 advertisers in order, or wrong alphas.
    """
    return play(market_day(traffic, advertisers, rng), advertisers, bidder)


def market_day(traffic: Traffic, advertisers: Advertisers, rng: np.random.Generator) -> Ticks[PeriodLog]:
    """The day that :func:`run_market` plays, for whoever chooses the 48 alphas."""
    if not np.array_equal(advertisers.index, np.arange(N_ADVERTISERS)):
        raise ValueError(f"the market needs all {N_ADVERTISERS} advertisers in order, got {advertisers.index}")
    counts, ends = traffic.counts, np.cumsum(traffic.counts)
    shift = mechanism.conversion_shift(mechanism.truncation(N_ADVERTISERS, rng))
    stream = rng.integers(2**64, size=1, dtype=np.uint64)
    sums, bids, exposures = np.zeros((3, N_ADVERTISERS, N_TICKS))  # sums of p-values and of bids
    prices = np.empty(ends[-1])
    pvalues: NDArray = np.empty((N_ADVERTISERS, 0))  # of the current tick

    def mean_pvalues(tick: int) -> NDArray[np.float64]:
        nonlocal pvalues
        pvalues, sums[:, tick] = traffic.market_pvalues(tick)
        return sums[:, tick] / counts[tick]

    def auction(tick: int, alphas: NDArray[np.float64], remaining: NDArray[np.float64]) -> Outcome:
        sigmas, part = partial(traffic.sigma_ratio, tick), prices[ends[tick] - counts[tick] : ends[tick]]
        _, totals, price = auction_tick(pvalues, alphas, remaining, sigmas, shift, stream, part)
        exposures[:, tick] = totals.exposures
        bids[:, tick] = alphas * sums[:, tick] - totals.dropped_bids
        wins = totals.won.sum(axis=0)
        return Outcome(totals.cost, totals.conversions, totals.expected, wins, bids[:, tick], price)

    day = yield from run_day(advertisers, counts, mean_pvalues, auction)
    told = vars(day) | {"alphas": np.divide(bids, sums, out=np.zeros_like(sums), where=sums > 0)}
    told |= {name: getattr(traffic, name) for name in ("dataset", "period", "scheme", "engine")}
    told |= {"counts": counts.copy(), "bids": bids / counts, "pvalues": sums / counts, "exposures": exposures}
    return PeriodLog(**told, least_winning_cost=prices)


def auction_tick(
    pvalues: NDArray,
    alphas: NDArray[np.float64],
    remaining: NDArray[np.float64],
    sigma_ratio: Callable[[NDArray[np.int8]], NDArray[np.float64]],
    shift: NDArray[np.float64],
    stream: NDArray[np.uint64],
    prices: NDArray[np.float64],
) -> tuple[kernels.Lists, kernels.Totals, float]:
    """:func:`lbm_core.auction.mechanism.run_tick` by the compiled kernels, of m advertisers and n impressions.

    The impressions' bids, what the advertisers got, and the mean least winning cost.

    Parameters
    ----------
    pvalues : (m, n) float64, or float32 for speed
    alphas, remaining, shift : (m,) currency per conversion, currency left, and of
        :func:`lbm_core.auction.mechanism.conversion_shift`
    sigma_ratio : (n, 4) winners and price setter -> (n, 3) sigma / p-value of the winners, or (1, m) of everybody
    stream, prices : (1,) random stream, advanced; (n,) written: least winning cost
    """
    alphas = alphas.astype(pvalues.dtype)
    lists, totals = kernels.ranked(pvalues, alphas), kernels.no_totals(len(alphas))
    kernels.allocate(lists, pvalues, alphas, remaining, stream, totals)
    price = kernels.convert(lists, pvalues, sigma_ratio(lists.who), shift, stream, totals, prices)
    return lists, totals, price

"""A.1: a delivery period of the whole market, 48 advertisers bidding against each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from lbm_core.auction import kernels, mechanism
from lbm_core.auction.bidder import N_ADVERTISERS, N_STATE_FEATURES, N_TICKS, Advertisers, Bidder, Observation
from lbm_core.auction.log import PeriodLog
from lbm_core.auction.mechanism import LEAST_BUDGET, N_SLOTS
from lbm_core.auction.random_bits import pcg64_state, sigma_ratios
from lbm_core.auction.state import StateBuilder
from lbm_core.auction.traffic import LARGEST_SIGMA, Traffic

Engine = Literal["exact", "fast"]
ENGINES: tuple[Engine, ...] = get_args(Engine)


def run_market(
    traffic: Traffic, advertisers: Advertisers, bidder: Bidder, rng: np.random.Generator, *, engine: Engine = "exact"
) -> PeriodLog:
    """Run a delivery period: every tick the bidder chooses 48 alphas and all impressions are auctioned.

    Parameters
    ----------
    traffic : the period's impressions
    advertisers : the 48 advertisers, in order
    bidder : chooses the alphas of all 48, once a tick
    rng : exposure, conversions, and which wins an overspender loses; what the bidder draws is its own affair
    engine : "exact" or "fast"
        "exact" auctions the real p-values and sigmas, bit for bit; "fast" draws single-precision p-values of the same
        distribution (:meth:`lbm_core.auction.traffic.Traffic.fast_pvalues` gives them again).

    Returns
    -------
    The period's log. ``alphas`` are effective as in the published data: sum of the tick's bids over sum of its
    p-values, hence below what the bidder chose in a tick whose bids were partly dropped for lack of budget.

    Raises
    ------
    ValueError
        Not the 48 advertisers in order, an unknown engine, or alphas that are not (48,) finite numbers >= 0.
    """
    if not np.array_equal(advertisers.index, np.arange(N_ADVERTISERS)):
        raise ValueError(f"the market needs all {N_ADVERTISERS} advertisers in order, got {advertisers.index}")
    if engine not in ENGINES:
        raise ValueError(f"unknown engine {engine!r}; choose one of {', '.join(ENGINES)}")
    source = _Exact(traffic) if engine == "exact" else _Fast(traffic)
    shift = mechanism.conversion_shift(mechanism.truncation(N_ADVERTISERS, rng))
    stream = rng.integers(2**64, size=1, dtype=np.uint64)
    auction = _TickAuction(int(traffic.counts.max()), source.dtype)
    builder = StateBuilder(advertisers.budget)
    table = {name: np.zeros((N_ADVERTISERS, N_TICKS)) for name in _LOGGED}
    chosen = np.zeros((N_ADVERTISERS, N_TICKS))
    states = np.zeros((N_ADVERTISERS, N_TICKS, N_STATE_FEATURES))
    prices = np.empty(int(traffic.counts.sum()))
    remaining = advertisers.budget.copy()
    lengths = np.full(N_ADVERTISERS, N_TICKS)
    start = 0
    bidder.reset(advertisers)
    for tick in range(N_TICKS):
        count = int(traffic.counts[tick])
        pvalues, sums = source.pvalues(tick)
        states[:, tick] = builder.state(sums / count, count)
        seen = (chosen[:, :tick], table["conversions"][:, :tick], table["costs"][:, :tick])
        alphas = _checked(bidder.act(Observation(tick, states[:, : tick + 1], *seen)), tick)
        done = remaining < LEAST_BUDGET
        lengths[done] = np.minimum(lengths[done], tick + 1)
        chosen[:, tick] = np.where(done, 0.0, alphas)
        brought = auction.run(
            pvalues, chosen[:, tick], remaining, source, tick, shift, stream, prices[start : start + count]
        )
        bid_sums = chosen[:, tick] * sums - brought.pop("dropped_bids")
        price_mean = brought.pop("price_sum") / count
        remaining = remaining - brought["costs"]
        brought["bids"], brought["pvalues"] = bid_sums / count, sums / count
        brought["alphas"] = np.divide(bid_sums, sums, out=np.zeros(N_ADVERTISERS), where=sums > 0)
        for name, values in brought.items():
            table[name][:, tick] = values
        builder.update(
            bid=brought["bids"],
            least_winning_cost=price_mean,
            pvalue=brought["pvalues"],
            conversion_rate=brought["conversions"] / count,
            win_rate=brought["wins"] / count,
            count=count,
            remaining=remaining,
        )
        start += count
    return PeriodLog(
        dataset=traffic.dataset,
        period=traffic.period,
        scheme=traffic.scheme,
        engine=engine,
        advertisers=advertisers,
        counts=traffic.counts.copy(),
        states=states,
        lengths=lengths,
        least_winning_cost=prices,
        **table,
    )


_LOGGED = ("alphas", "bids", "pvalues", "costs", "conversions", "expected_conversions", "wins", "exposures")


def _checked(alphas: NDArray[np.float64], tick: int) -> NDArray[np.float64]:
    alphas = np.asarray(alphas, dtype=np.float64)
    if alphas.shape != (N_ADVERTISERS,):
        raise ValueError(f"tick {tick}: the bidder returned alphas of shape {alphas.shape}, not ({N_ADVERTISERS},)")
    if not (np.isfinite(alphas).all() and (alphas >= 0).all()):
        raise ValueError(f"tick {tick}: every alpha must be finite and >= 0, got {alphas}")
    return alphas


class _Exact:
    """The real p-values and sigmas."""

    dtype: type = np.float64

    def __init__(self, traffic: Traffic) -> None:
        self.traffic = traffic
        self.buffer: NDArray = np.empty((N_ADVERTISERS, int(traffic.counts.max())), self.dtype)

    def pvalues(self, tick: int) -> tuple[NDArray, NDArray[np.float64]]:
        """(48, n) p-values and their sums, of shape (48,)."""
        pvalues = _rows(self.buffer, int(self.traffic.counts[tick]))
        return pvalues, self.traffic.draw_pvalues(tick, pvalues.T)

    def sigma_ratio(self, tick: int, who: NDArray[np.int8]) -> NDArray[np.float64]:
        """(n, 3) sigma / p-value of each slot's winner."""
        ratio = np.empty((len(who), N_SLOTS))
        state = pcg64_state(self.traffic.sigma_rng(tick))
        sigma_ratios(state, self.traffic.sigma_levels, who, LARGEST_SIGMA, ratio)
        return ratio


class _Fast:
    """P-values of the same distribution; sigmas replaced by their mean, as only conversions depend on them."""

    dtype: type = np.float32

    def __init__(self, traffic: Traffic) -> None:
        self.traffic = traffic
        self.buffer: NDArray = np.empty((N_ADVERTISERS, int(traffic.counts.max())), self.dtype)
        self.mean_ratio = _mean_sigma_ratio(traffic.sigma_levels)[None]

    def pvalues(self, tick: int) -> tuple[NDArray, NDArray[np.float64]]:
        return self.traffic.fast_pvalues(tick, _rows(self.buffer, int(self.traffic.counts[tick])))

    def sigma_ratio(self, tick: int, who: NDArray[np.int8]) -> NDArray[np.float64]:
        return self.mean_ratio


def _mean_sigma_ratio(levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) mean of min(|x|, 0.3) for x ~ normal(level, level / 2)."""
    scale = levels / 2
    cut = LARGEST_SIGMA

    def partial(low: NDArray | float, high: NDArray | float) -> NDArray:  # mean of x on [low, high]
        a, b = (low - levels) / scale, (high - levels) / scale
        return levels * (norm.cdf(b) - norm.cdf(a)) + scale * (norm.pdf(a) - norm.pdf(b))

    beyond = norm.sf((cut - levels) / scale) + norm.cdf((-cut - levels) / scale)
    return partial(0.0, cut) - partial(-cut, 0.0) + cut * beyond


def _rows(buffer: NDArray, n: int) -> NDArray:
    """The start of a buffer (m, >= n) as a contiguous array (m, n): kernels vectorise nothing else."""
    return buffer.reshape(-1)[: len(buffer) * n].reshape(len(buffer), n)


@dataclass
class _TickAuction:
    """Buffers of the tick's kernels, allocated once a period."""

    largest: int  # impressions of the largest tick
    dtype: type  # of the p-values
    n_advertisers: int = N_ADVERTISERS

    def __post_init__(self) -> None:
        n = self.largest
        self.keys = np.empty((kernels.LISTED, n), np.int32 if self.dtype == np.float32 else np.int64)
        self.who = np.empty((n, N_SLOTS + 1), np.int8)
        self.bids = np.empty((n, N_SLOTS + 1))
        self.depth = np.empty(n, np.int8)

    def run(
        self,
        pvalues: NDArray,
        alphas: NDArray[np.float64],
        remaining: NDArray[np.float64],
        source: _Exact | _Fast,
        tick: int,
        shift: NDArray[np.float64],
        stream: NDArray[np.uint64],
        prices: NDArray[np.float64],
    ) -> dict:
        n = pvalues.shape[1]
        alphas = alphas.astype(self.dtype)
        keys, who, bids, depth = _rows(self.keys, n), self.who[:n], self.bids[:n], self.depth[:n]
        costs, dropped_bids, expected = (np.empty(self.n_advertisers) for _ in range(3))
        won = np.empty((N_SLOTS, self.n_advertisers), np.int64)
        exposures, conversions = (np.empty(self.n_advertisers, np.int64) for _ in range(2))
        kernels.rank(pvalues, alphas, keys)
        kernels.allocate(keys, pvalues, alphas, remaining, stream, who, bids, depth, costs, won, dropped_bids)
        ratio = source.sigma_ratio(tick, who)
        price_sum = kernels.convert(
            who, bids, depth, pvalues, ratio, shift, stream, exposures, expected, conversions, prices
        )
        return {
            "costs": costs,
            "conversions": conversions,
            "expected_conversions": expected,
            "wins": won.sum(axis=0),
            "exposures": exposures,
            "dropped_bids": dropped_bids,
            "price_sum": price_sum,
        }

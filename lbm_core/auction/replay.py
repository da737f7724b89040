"""§4.1: the offline replay, the paper's evaluation: one advertiser at a time against a logged period's prices.

It wins every impression for which its bid reaches the logged least winning cost, pays that price and converts with
the predicted probability. Competitors do not react (the market does that: :mod:`lbm_core.auction.market`).
"""

from dataclasses import dataclass, field

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from lbm_core.auction.bidder import N_TICKS, Advertisers, Bidder
from lbm_core.auction.day import DayResult, Outcome, Ticks, play, run_day
from lbm_core.auction.log import PeriodLog
from lbm_core.auction.mechanism import LEAST_BUDGET
from lbm_core.auction.random_bits import mixed
from lbm_core.auction.traffic import Traffic
from lbm_core.settings import Dataset

_U = np.uint64
ReplayResult = DayResult  # what a replay returns
_ARRAYS = ("counts", "pvalues", "least_winning_cost", "mean_pvalues", "mean_prices")


@dataclass(frozen=True)
class ReplayPeriod:
    """Impressions and prices of a logged period, laid out advertiser by advertiser (about 200 MB)."""

    dataset: Dataset
    period: int
    advertisers: Advertisers  # the period's 48
    counts: NDArray[np.int64]  # (48,) impressions per tick
    pvalues: NDArray[np.float64]  # (48, sum(counts)) probability; each advertiser's impressions in order of time
    least_winning_cost: NDArray[np.float64]  # (sum(counts),) currency
    mean_pvalues: NDArray[np.float64] = field(init=False)  # (48, 48) mean p-value, (advertiser, tick)
    mean_prices: NDArray[np.float64] = field(init=False)  # (48,) mean least winning cost of each tick

    def __post_init__(self) -> None:
        counts = np.asarray(self.counts, dtype=np.int64)
        pvalues = np.ascontiguousarray(self.pvalues, dtype=np.float64)
        prices = np.ascontiguousarray(self.least_winning_cost, dtype=np.float64)
        if counts.shape != (N_TICKS,) or counts.min() < 1:
            raise ValueError(f"counts must be {N_TICKS} positive numbers of impressions")
        total, last = int(counts.sum()), self.advertisers.index.max()
        if prices.shape != (total,) or pvalues.ndim != 2 or pvalues.shape[1] != total:
            raise ValueError(f"{total} impressions, but p-values {pvalues.shape} and prices {prices.shape}")
        if last >= len(pvalues):
            raise ValueError(f"advertiser {last} has no p-values; there are {len(pvalues)} rows")
        if not (np.isfinite(prices).all() and prices.min() > 0):
            raise ValueError("every least winning cost must be a positive number")
        if not (pvalues.min() >= 0 and pvalues.max() <= 1):
            raise ValueError("p-values must lie in [0, 1]")
        starts = np.cumsum(counts) - counts
        means = np.add.reduceat(pvalues, starts, axis=1) / counts, np.add.reduceat(prices, starts) / counts
        for name, values in zip(_ARRAYS, (counts, pvalues, prices, *means), strict=True):
            object.__setattr__(self, name, values)

    @property
    def starts(self) -> NDArray[np.int64]:
        """(49,) first impression of each tick, and the end."""
        return np.concatenate([[0], np.cumsum(self.counts)])

    @classmethod
    def from_log(cls, log: PeriodLog) -> "ReplayPeriod":
        """A log's impressions, regenerated from its traffic, beside its prices; ValueError: they are other ones."""
        if log.engine == "fast":
            cure = "its impressions are its own; replay a period of engine='exact'"
            raise ValueError(f"period {log.period} was simulated with engine='fast': {cure}")
        traffic = Traffic(log.period, log.dataset, log.scheme)  # type: ignore[arg-type]
        if not np.array_equal(traffic.counts, log.counts):
            raise ValueError(f"period {log.period}: the log's impression counts are not those of its traffic")
        pvalues = np.empty((len(traffic.mean_pvalues), int(traffic.counts.sum())))
        for tick, part in enumerate(np.split(pvalues, np.cumsum(traffic.counts)[:-1], axis=1)):
            part[:] = traffic.market_pvalues(tick)[0]
        return cls(log.dataset, log.period, log.advertisers, log.counts, pvalues, log.least_winning_cost)


def replay(
    period: ReplayPeriod,
    bidder: Bidder,
    rng: np.random.Generator,
    *,
    advertisers: Advertisers | None = None,
    rows: ArrayLike | None = None,
) -> ReplayResult:
    """Let a bidder bid for each advertiser alone against the logged prices; all advertisers in one batch.

    The random numbers belong to (rng, advertiser, impression), whatever the bidder does: two bidders replayed with
    equally seeded generators see the same conversions on the impressions both win. ``rng`` is drawn from once.

    A tick that would overspend keeps a random share of its wins: wins are taken in random order until the budget is
    spent, the last one paying what is left. So spending never falls when alpha rises, except for what the benchmark's
    rule forfeits: with less than 0.1 left an advertiser bids no more.

    Differs from the benchmark, in distribution by less than 4e-5 of a conversion rate: it draws the true value ~ N(p,
    sigma), clipped to [0, 1], and then the conversion; here the conversion is drawn with probability p.

    By default the period's 48 bid; other budgets, targets or repeated advertisers are fine, and ``rows`` is a subset.
    """
    who = bidding(period.advertisers, advertisers, rows)
    return play(replay_day(period, who, rng), who, bidder)


def bidding(own: Advertisers, advertisers: Advertisers | None, rows: ArrayLike | None) -> Advertisers:
    """Who bids: ``rows`` of the given advertisers, or of a period's own."""
    who = own if advertisers is None else advertisers
    return who if rows is None else who[np.asarray(rows)]


def replay_day(period: ReplayPeriod, advertisers: Advertisers, rng: np.random.Generator) -> Ticks[DayResult]:
    """The day that :func:`replay` plays, for whoever chooses the n advertisers' alphas."""
    key, starts, index = np.uint64(rng.integers(2**63)), period.starts, advertisers.index
    pvalues, prices = period.pvalues, period.least_winning_cost

    def auction(tick: int, alphas: NDArray, remaining: NDArray) -> Outcome:
        bids = alphas * period.mean_pvalues[index, tick] * period.counts[tick]
        brought = costs, conversions, expected, wins = np.zeros((4, len(index)))
        _buy(pvalues, prices, starts[tick : tick + 2], index, alphas, remaining, key, brought, bids)
        return Outcome(costs, conversions, expected, wins, bids, period.mean_prices[tick])

    return run_day(advertisers, period.counts, lambda tick: period.mean_pvalues[index, tick], auction)


@njit(cache=True, nogil=True)
def _buy(pvalues, prices, span, index, alphas, remaining, base, brought, bids):
    """Wins, payments and conversions of one tick, for n advertisers that each bid alone.

    Written: ``brought``, (4, n) costs, conversions, expected conversions and wins. Those dropped for lack of budget are
    taken away from ``bids``, the sums of the tick's bids.
    """
    won = np.empty(span[1] - span[0] + 1, dtype=np.int64)
    for k in range(len(index)):
        alpha, left, p = alphas[k], remaining[k], pvalues[index[k]]
        if alpha <= 0.0 or left < LEAST_BUDGET:
            continue
        n_won = 0
        for i in range(span[0], span[1]):  # writes every impression and keeps the won ones: no branch to guess
            won[n_won] = i
            n_won += alpha * p[i] >= prices[i]
        total = 0.0
        for j in range(n_won):
            total += prices[won[j]]
        # Two streams per advertiser: one decides who converts, one in which order wins are kept.
        key = base ^ _U(_uniform(base, 2 * index[k]) * 2.0**62)
        if total > left:
            order_key = base ^ _U(_uniform(base, 2 * index[k] + 1) * 2.0**62)
            won[:n_won] = won[np.argsort(np.array([_uniform(order_key, i) for i in won[:n_won]]))]
            total, kept = 0.0, 0
            while total < left:
                total = min(total + prices[won[kept]], left)
                kept += 1
            for j in range(kept, n_won):
                bids[k] -= alpha * p[won[j]]
            n_won = kept
        brought[0, k], brought[3, k] = total, n_won
        for j in range(n_won):
            brought[1, k] += _uniform(key, won[j]) < p[won[j]]
            brought[2, k] += p[won[j]]


@njit(inline="always")
def _uniform(key, counter):
    """Uniform number in [0, 1) of a key and a counter."""
    return mixed(key + _U(counter + 1) * _U(0x9E3779B97F4A7C15))

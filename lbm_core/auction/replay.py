"""§4.1: the offline replay, the paper's evaluation: one advertiser at a time against a logged period's prices.

It wins every impression for which its bid reaches the logged least winning cost, pays that price and converts with
the predicted probability. Competitors do not react (the market does that: :mod:`lbm_core.auction.market`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lbm_core.auction.bidder import N_TICKS, Advertisers, Bidder
from lbm_core.auction.day import Outcome, ReplayResult, Ticks, play, run_day
from lbm_core.auction.log import PeriodLog
from lbm_core.auction.replay_kernel import buy
from lbm_core.auction.traffic import Traffic
from lbm_core.settings import Dataset


@dataclass(frozen=True)
class ReplayPeriod:
    """Impressions and prices of a logged period, laid out advertiser by advertiser (about 200 MB).

    Attributes
    ----------
    dataset, period
        Which period it is.
    advertisers : the period's 48 advertisers
    counts : (48,) int, impressions per tick
    pvalues : (48, sum(counts)) probability; each advertiser's impressions in order of time
    least_winning_cost : (sum(counts),) currency
    mean_pvalues : (48, 48) mean p-value, (advertiser, tick)
    mean_prices : (48,) mean least winning cost of each tick
    """

    dataset: Dataset
    period: int
    advertisers: Advertisers
    counts: NDArray[np.int64]
    pvalues: NDArray[np.float64]
    least_winning_cost: NDArray[np.float64]
    mean_pvalues: NDArray[np.float64]
    mean_prices: NDArray[np.float64]

    @property
    def starts(self) -> NDArray[np.int64]:
        """(49,) first impression of each tick, and the end."""
        return np.concatenate([[0], np.cumsum(self.counts)])

    @classmethod
    def from_log(cls, log: PeriodLog) -> ReplayPeriod:
        """Regenerate a log's impressions from its traffic and put them beside its prices.

        Raises
        ------
        ValueError
            The log's impression counts are not those of its traffic, or its prices belong to other impressions: those
            that the market's "fast" engine draws for itself.
        """
        if log.engine == "fast":
            raise ValueError(
                f"period {log.period} was simulated with engine='fast', whose impressions are its own; use "
                "engine='exact' for a period to replay"
            )
        traffic = Traffic(log.period, log.dataset, log.scheme)  # type: ignore[arg-type]
        if not np.array_equal(traffic.counts, log.counts):
            raise ValueError(f"period {log.period}: the log's impression counts are not those of its traffic")
        pvalues = np.empty((len(traffic.mean_pvalues), int(traffic.counts.sum())))
        start = 0
        for tick in range(N_TICKS):
            drawn = traffic.tick_pvalues(tick)
            pvalues[:, start : start + len(drawn)] = drawn.T
            start += len(drawn)
        return cls.from_arrays(
            log.dataset, log.period, log.advertisers, traffic.counts, pvalues, log.least_winning_cost
        )

    @classmethod
    def from_arrays(
        cls,
        dataset: Dataset,
        period: int,
        advertisers: Advertisers,
        counts: ArrayLike,
        pvalues: ArrayLike,
        least_winning_cost: ArrayLike,
    ) -> ReplayPeriod:
        """A period from its impressions; see the attributes for shapes."""
        counts = np.asarray(counts, dtype=np.int64)
        pvalues = np.ascontiguousarray(pvalues, dtype=np.float64)
        prices = np.ascontiguousarray(least_winning_cost, dtype=np.float64)
        if counts.shape != (N_TICKS,) or counts.min() < 1:
            raise ValueError(f"counts must be {N_TICKS} positive numbers of impressions")
        total = int(counts.sum())
        if prices.shape != (total,) or pvalues.ndim != 2 or pvalues.shape[1] != total:
            raise ValueError(f"{total} impressions, but p-values {pvalues.shape} and prices {prices.shape}")
        if advertisers.index.max() >= len(pvalues):
            raise ValueError(f"advertiser {advertisers.index.max()} has no p-values; there are {len(pvalues)} rows")
        if not (np.isfinite(prices).all() and prices.min() > 0):
            raise ValueError("every least winning cost must be a positive number")
        if not (pvalues.min() >= 0 and pvalues.max() <= 1):
            raise ValueError("p-values must lie in [0, 1]")
        starts = np.cumsum(counts) - counts
        return cls(
            dataset,
            period,
            advertisers,
            counts,
            pvalues,
            prices,
            mean_pvalues=np.add.reduceat(pvalues, starts, axis=1) / counts,
            mean_prices=np.add.reduceat(prices, starts) / counts,
        )


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

    Differs from the benchmark, in distribution by less than 4e-5 of a conversion rate: it draws the true value
    ~ N(p, sigma), clipped to [0, 1], and then the conversion; here the conversion is drawn with probability p.

    Parameters
    ----------
    period : the logged period
    bidder : asked once per tick for all n advertisers
    advertisers : who bids, default the period's 48; other budgets, targets or repeated advertisers are fine
    rows : subset of ``advertisers``

    Raises
    ------
    ValueError
        The bidder returned a wrong shape, NaN or a negative alpha.
    """
    who = choose(period.advertisers, advertisers, rows)
    return play(replay_day(period, who, rng), who, bidder)


def replay_day(period: ReplayPeriod, advertisers: Advertisers, rng: np.random.Generator) -> Ticks[ReplayResult]:
    """The day that :func:`replay` plays: each of n advertisers alone against the logged prices."""
    base = np.uint64(rng.integers(2**63))
    starts = period.starts

    def auction(tick: int, alphas: NDArray, remaining: NDArray) -> Outcome:
        brought = np.zeros((5, len(advertisers)))
        buy(
            period.pvalues,
            period.least_winning_cost,
            int(starts[tick]),
            int(starts[tick + 1]),
            advertisers.index,
            alphas,
            remaining,
            period.mean_pvalues[:, tick],
            base,
            brought,
        )
        return Outcome(*brought, price=period.mean_prices[tick])

    return run_day(advertisers, period.counts, lambda tick: period.mean_pvalues[advertisers.index, tick], auction)


def choose(default: Advertisers, advertisers: Advertisers | None, rows: ArrayLike | None) -> Advertisers:
    """Who bids: ``rows`` of the given advertisers, or of the period's own."""
    who = default if advertisers is None else advertisers
    return who if rows is None else who[np.asarray(rows)]

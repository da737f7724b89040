"""Delivery periods with a thousand impressions instead of half a million: the same code in seconds."""

from __future__ import annotations

import numpy as np

from lbm_core.auction.bidder import N_ADVERTISERS, N_STATE_FEATURES, N_TICKS, Advertisers
from lbm_core.auction.log import PeriodLog
from lbm_core.auction.traffic import Traffic
from lbm_core.data.advertisers import period_advertisers

SHRINK = 500


class SmallTraffic(Traffic):
    """The first few impressions of every tick of a period."""

    def __init__(self, period, dataset="dense", scheme="data"):
        super().__init__(period, dataset, scheme)
        self.counts = self.counts // SHRINK


def small_advertisers(period: int = 7, dataset="dense") -> Advertisers:
    """Budgets shrunk like the traffic, a bit tighter so that some run out early."""
    full = period_advertisers(dataset, period)
    return Advertisers(full.index, full.budget / SHRINK * 0.9, full.cpa_target)


class WavyBidder:
    """alpha around the CPA target, different for every advertiser and tick."""

    def reset(self, advertisers):
        self.advertisers = advertisers

    def act(self, observation):
        wave = np.sin(self.advertisers.index + observation.tick)
        return self.advertisers.cpa_target * np.exp(0.3 * wave)


def invented_period(dataset="dense", period=0, seed=0, scheme="data", engine="exact") -> PeriodLog:
    """A log of the right shapes, different for every period and seed, with no auction behind it."""
    rng = np.random.default_rng([seed, period])
    advertisers = small_advertisers(period, dataset)
    length = rng.integers(3, N_TICKS + 1, N_ADVERTISERS)
    acting = np.arange(N_TICKS) < length[:, None]
    counts = SmallTraffic(period, dataset, scheme).counts
    table = {name: rng.gamma(2, 1, acting.shape) * acting for name in ("bids", "pvalues", "costs", "wins", "exposures")}
    expected = rng.gamma(2, 1, acting.shape) * acting
    return PeriodLog(
        dataset=dataset,
        period=period,
        scheme=scheme,
        engine=engine,
        advertisers=advertisers,
        counts=counts,
        alphas=rng.uniform(3, 12, acting.shape) * acting,
        conversions=rng.poisson(expected).astype(float),
        expected_conversions=expected,
        states=rng.uniform(0, 1, (*acting.shape, N_STATE_FEATURES)),
        lengths=length,
        least_winning_cost=rng.uniform(0.05, 0.2, counts.sum()),
        **table,
    )

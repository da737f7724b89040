"""Delivery periods with a thousand impressions instead of half a million: the same code in seconds."""

from __future__ import annotations

import numpy as np

from lbm_core.auction.bidder import Advertisers
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

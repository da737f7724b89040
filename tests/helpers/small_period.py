"""A made-up logged period, small enough to check by brute force."""

from __future__ import annotations

import numpy as np

from lbm_core.auction.bidder import Advertisers
from lbm_core.auction.replay import ReplayPeriod


def small_period(seed: int = 0, per_tick: int = 60, n: int = 6, budget: float = 60.0) -> ReplayPeriod:
    """48 ticks of about ``per_tick`` impressions; p about 0.05, price about 0.4, so LWC / p about the target of 8."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(per_tick // 2, per_tick * 3 // 2, 48)
    total = int(counts.sum())
    advertisers = Advertisers(np.arange(n), budget * rng.uniform(0.5, 2.0, n), rng.uniform(6, 12, n))
    pvalues = np.clip(rng.normal(0.05, 0.025, (n, total)), 0, 1)
    return ReplayPeriod("dense", 7, advertisers, counts, pvalues, rng.lognormal(np.log(0.4), 0.3, total))

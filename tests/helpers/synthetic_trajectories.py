"""Made-up trajectories for tests of the layers above: right shapes and bookkeeping, no auction behind them."""

from __future__ import annotations

import numpy as np

from lbm_core.auction.bidder import N_STATE_FEATURES, N_TICKS
from lbm_core.data.trajectories import TrajectorySet


def synthetic_trajectories(n: int = 24, seed: int = 0, dataset="dense", periods: int = 2) -> TrajectorySet:
    """n trajectories of lengths 3..48; where the budget ended early the last row has alpha 0."""
    rng = np.random.default_rng(seed)
    length = rng.integers(3, N_TICKS + 1, n)
    length[: n // 3] = N_TICKS
    tick = np.arange(N_TICKS)
    valid = tick < length[:, None]
    bids = valid & ~((tick == length[:, None] - 1) & (length[:, None] < N_TICKS))
    cpa = rng.uniform(6, 12, n)
    scale = np.where(np.arange(N_STATE_FEATURES) >= 13, 1e4, 0.05)
    expected = rng.gamma(2.0, 1.0, (n, N_TICKS)) * bids
    return TrajectorySet(
        dataset=dataset,
        period=100 + np.arange(n) % periods,
        advertiser=np.arange(n) % 48,
        length=length,
        budget=rng.uniform(450, 11_850, n),
        cpa_target=cpa,
        states=rng.uniform(0, 2, (n, N_TICKS, N_STATE_FEATURES)) * scale * valid[:, :, None],
        alphas=cpa[:, None] * np.exp(rng.normal(0, 0.4, (n, N_TICKS))) * bids,
        conversions=rng.poisson(expected),
        expected_conversions=expected,
        costs=expected * cpa[:, None] * rng.uniform(0.5, 1.5, (n, N_TICKS)),
    )

"""Trajectories of a problem whose best action is known: it follows from the state, and the data bid at random."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lbm_core.auction.bidder import N_STATE_FEATURES, N_TICKS, Observation
from lbm_core.data.trajectories import TrajectorySet

SIGNAL = 12  # the feature that names the best action


def best_log_ratio(states: NDArray) -> NDArray[np.float64]:
    """Best log(alpha / C) of states (..., 16): half the signal."""
    return 0.5 * np.asarray(states, dtype=np.float64)[..., SIGNAL]


def known_best_trajectories(n: int = 100, seed: int = 0, dataset="dense") -> TrajectorySet:
    """Bids log(alpha / C) uniform in [-1.2, 1.2]; a tick brings 5 conversions at the best action, fewer beside it.

    No tick reaches into the next: the best action maximises the tick's own conversions.
    """
    rng = np.random.default_rng(seed)
    length = rng.integers(30, N_TICKS + 1, n)
    tick = np.arange(N_TICKS)
    valid = tick < length[:, None]
    bids = valid & ~((tick == length[:, None] - 1) & (length[:, None] < 40))
    states = rng.normal(size=(n, N_TICKS, N_STATE_FEATURES)) * valid[:, :, None]
    states[:, :, 0] = (N_TICKS - tick) / N_TICKS * valid
    states[:, :, SIGNAL] = rng.uniform(-1.5, 1.5, (n, N_TICKS)) * valid
    cpa_target = rng.uniform(6, 12, n)
    ratio = rng.uniform(-1.2, 1.2, (n, N_TICKS))
    conversions = 5 * np.exp(-2 * (ratio - best_log_ratio(states)) ** 2) * bids
    return TrajectorySet(
        dataset=dataset,
        period=np.arange(n) // 8,
        advertiser=np.arange(n) % 48,
        length=length,
        budget=240 * cpa_target,
        cpa_target=cpa_target,
        states=states,
        alphas=cpa_target[:, None] * np.exp(ratio) * bids,
        conversions=conversions,
        expected_conversions=conversions,
        costs=conversions * 0.5 * cpa_target[:, None],
    )


def known_best_observation(n: int = 48, tick: int = 5, seed: int = 1) -> Observation:
    """A moment of n advertisers in the same problem."""
    rng = np.random.default_rng(seed)
    states = rng.normal(size=(n, tick + 1, N_STATE_FEATURES))
    states[:, :, SIGNAL] = rng.uniform(-1.5, 1.5, (n, tick + 1))
    states[:, :, 0] = (N_TICKS - np.arange(tick + 1)) / N_TICKS
    return Observation(
        tick, states, rng.uniform(5, 9, (n, tick)), rng.poisson(3.0, (n, tick)) * 1.0, rng.uniform(0, 9, (n, tick))
    )

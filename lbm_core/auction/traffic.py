"""§4.1 and A.1: the impressions of AuctionNet's delivery periods, regenerated bit for bit from their seeds.

The benchmark's traffic comes from ``numpy.random.default_rng`` alone: how many impressions there are in a tick, each
advertiser's predicted conversion probability (p-value) for each of them, and the uncertainty (sigma) of it.

Source of ``traffic_profile.csv``: the daily traffic shape of the AuctionNet benchmark (48 base ratios, sum 1).
"""

import copy
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from lbm_core.auction.bidder import N_ADVERTISERS, N_TICKS
from lbm_core.auction.random_bits import clipped_normals, sigma_ratios
from lbm_core.settings import DATASETS, Dataset

Scheme = Literal["data", "public"]
SCHEMES: tuple[Scheme, ...] = get_args(Scheme)
NOMINAL_IMPRESSIONS = 500_000  # per period; truncation loses a few dozen
CATEGORY_SIZE = 8  # advertisers per category
BASE_PVALUE: dict[Dataset, float] = {"dense": 0.005, "sparse": 0.0005}
_PUBLIC_SEED_STEP = 11111  # the public scheme re-seeds the mean p-values in every period, in steps of this
LARGEST_SIGMA = 0.3  # of the p-value
_SIGMA_SEED_STEP = 120_000  # distance between the sigma seeds of two periods


@functools.cache
def base_profile() -> NDArray[np.float64]:
    """(48,) share of the day's impressions in each tick, before any factor."""
    profile = np.genfromtxt(Path(__file__).parent / "traffic_profile.csv", delimiter=",", names=True)["base_ratio"]
    profile.setflags(write=False)
    return profile


def impression_counts(period: int, scheme: Scheme = "data") -> NDArray[np.int64]:
    """(48,) impressions per tick: the base profile times one ("public") or two ("data") random factors per 4 ticks."""
    stages = [(0, 0.6, 1.4), (period, 0.8, 1.2)] if scheme == "data" else [(period, 0.6, 1.4)]
    profile = base_profile()
    for seed, low, high in stages:
        factors = np.repeat(np.random.default_rng(seed).uniform(low, high, 12), 4)
        profile = factors * (profile.sum() / (factors * profile).sum()) * profile
    return (profile * NOMINAL_IMPRESSIONS).astype(np.int64)


def mean_pvalues(period: int, dataset: Dataset, scheme: Scheme = "data") -> NDArray[np.float64]:
    """(48, 48) expected p-value, (advertiser, tick): category level times advertiser level times base.

    The same in every period under "data"; redrawn in every period under "public".
    """
    first_seed = period * _PUBLIC_SEED_STEP if scheme == "public" else 0
    means = np.empty((N_ADVERTISERS, N_TICKS))
    for advertiser in range(N_ADVERTISERS):
        category, member = divmod(advertiser, CATEGORY_SIZE)
        level = np.random.default_rng(first_seed + category).uniform(1 - 0.7, 1 + 0.7, 6)
        if member:  # the first advertiser of a category is the category itself
            level = level * np.random.default_rng(first_seed + advertiser).uniform(1 - 0.5, 1 + 0.5, 6)
        means[advertiser] = np.repeat(level, 8) * BASE_PVALUE[dataset]
    return means


def std_ratios(period: int, scheme: Scheme = "data") -> NDArray[np.float64]:
    """(48, 48) standard deviation over mean of the p-values, in (0, 1], (advertiser, tick)."""
    rng = np.random.default_rng(period if scheme == "public" else 0)

    def within(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.minimum(np.where(values < 0, 0.1, values), 1.0)

    level = within(rng.normal(0.5, 0.1, (N_ADVERTISERS, 1)))
    return within(rng.normal(level, 0.2 * level, (N_ADVERTISERS, N_TICKS)))


def sigma_levels(period: int) -> NDArray[np.float64]:
    """(48,) mean of sigma / p-value of every advertiser in a period, in [0, 0.3]."""
    level = np.abs(np.random.default_rng(period).normal(0.15, 0.06, N_ADVERTISERS))
    return np.where(level > LARGEST_SIGMA, 0.2, level)


class Traffic:
    """The impressions of one delivery period, numbered from 0; 7 … 27 are the paper's.

    Sparse p-values are a tenth of the dense ones. Scheme "data" reproduces the published data; "public" the benchmark's
    online environment, where the mean p-values also change from period (there: episode) to period.
    """

    engine = "exact"  # these are the real impressions, bit for bit

    def __init__(self, period: int, dataset: Dataset, scheme: Scheme = "data") -> None:
        if isinstance(period, bool) or not isinstance(period, int | np.integer) or period < 0:
            raise ValueError(f"period must be a whole number >= 0, got {period!r}")
        if dataset not in DATASETS:
            raise ValueError(f"unknown data set {dataset!r}; choose one of {', '.join(DATASETS)}")
        if scheme not in SCHEMES:
            raise ValueError(f"unknown traffic scheme {scheme!r}; choose one of {', '.join(SCHEMES)}")
        self.period, self.dataset, self.scheme = int(period), dataset, scheme
        self.counts = impression_counts(self.period, scheme)  # (48,) per tick
        # (48, 48) mean and standard deviation of the p-values before clipping to [0, 1], (advertiser, tick).
        self.mean_pvalues = mean_pvalues(self.period, dataset, scheme)
        self.std_pvalues = self.mean_pvalues * std_ratios(self.period, scheme)
        self.sigma_levels = sigma_levels(self.period)  # (48,) mean of sigma / p-value
        # One generator draws the p-values of all ticks in order: remember where each tick starts.
        self._starts = [np.random.default_rng(self.period)]

    def tick(self, tick: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(counts[tick], 48) p-values in [0, 1], and standard deviations (sigmas) of the true values around them.

        The first request of a late tick passes over the earlier ones' draws (80 ms at most); later requests do not.
        """
        pvalues = self.tick_pvalues(tick)
        relative = np.abs(self._sigma_rng(tick).normal(self.sigma_levels, self.sigma_levels / 2, pvalues.shape))
        return pvalues, pvalues * np.minimum(relative, LARGEST_SIGMA)

    def ticks(self) -> Iterator[tuple[int, NDArray[np.float64], NDArray[np.float64]]]:
        """Iterate over ``(tick, pvalues, sigmas)`` of the whole period in order."""
        for tick in range(N_TICKS):
            yield tick, *self.tick(tick)

    def tick_pvalues(self, tick: int) -> NDArray[np.float64]:
        """(counts[tick], 48) p-values of a tick, without the sigmas."""
        if not 0 <= tick < N_TICKS:
            raise ValueError(f"tick must lie in 0..{N_TICKS - 1}, got {tick}")
        pvalues = np.empty((int(self.counts[tick]), N_ADVERTISERS))
        self._draw(tick, pvalues)
        return pvalues

    def market_pvalues(self, tick: int) -> tuple[NDArray, NDArray[np.float64]]:
        """(48, counts[tick]) p-values as the market wants them, advertiser by advertiser, and (48,) their sums."""
        pvalues = np.empty((N_ADVERTISERS, int(self.counts[tick])))
        return pvalues, self._draw(tick, pvalues.T)

    def _draw(self, tick: int, out: NDArray[np.float64]) -> NDArray[np.float64]:
        """Write a tick's p-values into (counts[tick], 48) of any strides; (48,) their sums."""
        while len(self._starts) <= tick:
            passed = len(self._starts) - 1
            self._draw(passed, np.empty((int(self.counts[passed]), N_ADVERTISERS)))
        rng, sums = copy.deepcopy(self._starts[tick]), np.empty(N_ADVERTISERS)
        clipped_normals(rng, self.mean_pvalues[:, tick].copy(), self.std_pvalues[:, tick].copy(), out, sums)
        if len(self._starts) == tick + 1:
            self._starts.append(rng)
        return sums

    def sigma_ratio(self, tick: int, winners: NDArray[np.int8]) -> NDArray[np.float64]:
        """(counts[tick], 3) sigma / p-value of some advertisers of each impression: the first three of ``winners``."""
        ratio = np.empty((len(winners), 3))
        sigma_ratios(self._sigma_rng(tick), self.sigma_levels, winners, LARGEST_SIGMA, ratio)
        return ratio

    def _sigma_rng(self, tick: int) -> np.random.Generator:
        """Generator of a tick's sigmas: |normal(level, level / 2)| per p-value, at most 0.3, times the p-value."""
        return np.random.default_rng(self.period * _SIGMA_SEED_STEP + tick)

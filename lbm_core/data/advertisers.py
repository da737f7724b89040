"""§4.1, Table 7: who bids. Budgets and CPA targets of the benchmark's 48 advertisers.

Source of ``advertisers.csv``: AuctionNet's public data (dense: delivery period 7; sparse: the public environment).
"""

import functools

import numpy as np

from lbm_core import paths
from lbm_core.auction.bidder import N_ADVERTISERS, Advertisers
from lbm_core.settings import DATASETS, Dataset

LAST_REAL_PERIOD = 27  # periods up to here keep the benchmark's own assignment
UNKNOWN_CPA_RANGE = (6, 12)  # Table 7, dense; whole numbers like the twelve known targets
_UNKNOWN_CPA_SEED = 7


@functools.cache
def benchmark_advertisers(dataset: Dataset) -> Advertisers:
    """The benchmark's 48 advertisers; their budgets sum to 150,000.

    The dense CPA target is published for 12 advertisers; the others' are drawn once, uniformly from 6, 7, … 12.
    """
    if dataset not in DATASETS:
        raise ValueError(f"unknown data set {dataset!r}; one of {', '.join(DATASETS)}")
    table = np.genfromtxt(paths.PACKAGE / "data" / "advertisers.csv", delimiter=",", names=True)
    if dataset == "sparse":
        return Advertisers(np.arange(N_ADVERTISERS), table["sparse_budget"], table["sparse_cpa"])
    low, high = UNKNOWN_CPA_RANGE
    drawn = np.random.default_rng(_UNKNOWN_CPA_SEED).integers(low, high + 1, N_ADVERTISERS)
    known = table["dense_cpa_period7"]
    return Advertisers(np.arange(N_ADVERTISERS), table["dense_budget_period7"], np.where(np.isnan(known), drawn, known))


def period_advertisers(dataset: Dataset, period: int) -> Advertisers:
    """The 48 advertisers of a delivery period >= 0.

    Up to period 27, the last of the real ones, every advertiser keeps its own budget and target: the one advertiser
    published for two periods (0, in 7 and 14) has the same in both. Later periods exist only to give more training
    data, so there the 48 (budget, target) pairs are dealt anew, seeded by the period: same distribution, sum of 150,000
    and correlation of budget and target, but a model cannot learn an advertiser by heart.
    """
    if period < 0:
        raise ValueError(f"period must be at least 0; got {period}")
    listed = benchmark_advertisers(dataset)
    if period <= LAST_REAL_PERIOD:
        return listed
    dealt = np.random.default_rng([period, DATASETS.index(dataset)]).permutation(N_ADVERTISERS)
    return Advertisers(listed.index, listed.budget[dealt], listed.cpa_target[dealt])

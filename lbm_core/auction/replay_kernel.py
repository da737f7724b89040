"""What the replay does with every impression of a tick; all in one pass per advertiser, in compiled code."""

from __future__ import annotations

import numba
import numpy as np

from lbm_core.auction.random_bits import mixed
from lbm_core.auction.mechanism import LEAST_BUDGET

_BLOCK = 128
_BUCKETS = 1024


@numba.njit(cache=True, inline="always")
def _uniform(key: np.uint64, counter: int) -> float:
    """Counter-based uniform in [0, 1): the splitmix64 mixer of (key, counter)."""
    return mixed(key + np.uint64(counter + 1) * np.uint64(0x9E3779B97F4A7C15))


@numba.njit(cache=True, nogil=True)
def buy(pvalues, prices, start, stop, index, alphas, remaining, mean_pvalues, base, out):
    """Wins, payments and conversions of one tick, for advertisers that each bid alone.

    Parameters
    ----------
    pvalues : (48, total) probability
    prices : (total,) currency
    start, stop : the tick's impressions
    index : (n,) whose p-values each of the n advertisers has
    alphas, remaining : (n,) currency per conversion; currency
    mean_pvalues : (48,) of the tick
    base : uint64, names the random numbers
    out : (5, n) filled with cost, conversions, expected conversions, wins and the sum of bids; 0 for who does not bid
    """
    count = stop - start
    # One flag per impression of a block, compared and counted in vector instructions: most blocks hold no win.
    flags = np.empty(_BLOCK, dtype=np.uint8)
    won = np.empty(count + 1, dtype=np.int64)
    for k in range(len(index)):
        alpha, left = alphas[k], remaining[k]
        if alpha <= 0.0 or left < LEAST_BUDGET:
            continue
        p = pvalues[index[k]]
        n_won = 0
        for first in range(start, stop, _BLOCK):
            size = min(_BLOCK, stop - first)
            any_won = np.uint8(0)
            for i in range(size):
                flags[i] = alpha * p[first + i] >= prices[first + i]
                any_won |= flags[i]
            if any_won:
                for i in range(size):  # writes every impression and keeps the won ones: no branch to guess
                    won[n_won] = first + i
                    n_won += flags[i]
        total = 0.0
        for j in range(n_won):
            total += prices[won[j]]
        bids = alpha * mean_pvalues[index[k]] * count
        # Two streams per advertiser: one decides who converts, one in which order wins are kept.
        key = base ^ np.uint64(_uniform(base, 2 * index[k]) * 2.0**62)
        order_key = base ^ np.uint64(_uniform(base, 2 * index[k] + 1) * 2.0**62)
        if total > left:
            total, kept = _spend(won, n_won, prices, left, order_key)
            for j in range(kept, n_won):
                bids -= alpha * p[won[j]]
            n_won = kept
        converted = 0
        for j in range(n_won):
            converted += _uniform(key, won[j]) < p[won[j]]
        expected = 0.0
        for j in range(n_won):
            expected += p[won[j]]
        out[0, k] = total
        out[1, k] = converted
        out[2, k] = expected
        out[3, k] = n_won
        out[4, k] = bids


@numba.njit(cache=True, nogil=True)
def _spend(won, n_won, prices, left, order_key):
    """Put the wins into random order, in place, as far as the budget reaches; (spent, how many are paid)."""
    priority = np.empty(n_won)
    first = np.zeros(_BUCKETS + 1, dtype=np.int64)
    for j in range(n_won):
        priority[j] = _uniform(order_key, won[j])
        first[int(priority[j] * _BUCKETS) + 1] += 1
    first = np.cumsum(first)
    place = first.copy()
    ordered = np.empty(n_won, dtype=np.int64)
    for j in range(n_won):
        bucket = int(priority[j] * _BUCKETS)
        ordered[place[bucket]] = j
        place[bucket] += 1
    total, kept = 0.0, 0
    for bucket in range(_BUCKETS):  # sorted only while there is something to spend
        members = ordered[first[bucket] : first[bucket + 1]]
        members[:] = members[np.argsort(priority[members])]
        while total < left and kept < first[bucket + 1]:
            total = min(total + prices[won[ordered[kept]]], left)
            kept += 1
        if total >= left:
            break
    won[:n_won] = won[:n_won][ordered]
    return total, kept

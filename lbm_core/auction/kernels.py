"""Compiled auction of one tick: what :func:`lbm_core.auction.mechanism.run_tick` does, for the market's speed.

P-values lie advertiser by advertiser, (48, n), so that one machine instruction ranks several impressions. A bid is
ranked as an integer: the bits of a positive float are ordered as the float is, and the lowest six of them are replaced
by the advertiser's number, so that sorting bids sorts their owners with them.

Every impression keeps its highest bids. When an advertiser's bid is dropped for lack of budget, the next of them moves
up, and only an exhausted list is ranked anew. Exposure is drawn once per impression; conversions at the end, for shown
winners alone.

Compiled code is cached by this file's date: touch it after changing a constant that it imports.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from lbm_core.auction.mechanism import EXPOSURE, N_SLOTS, RESERVE_PRICE
from lbm_core.auction.random_bits import bits_of, float_of, mixed

LISTED = 7  # bids kept per impression: three winners, the price setter, three in reserve
_BLOCK = 512  # impressions ranked together: their bids stay in the fastest cache
_SHOWN_2 = EXPOSURE[1]
_SHOWN_3 = EXPOSURE[1] * EXPOSURE[2]
_U = np.uint64


class Lists(NamedTuple):
    """The bids of a tick's n impressions."""

    keys: NDArray[Any]  # (7, n) tagged bids, descending; 0 where there are fewer bidders
    who: NDArray[np.int8]  # (n, 4) the three winners and the price setter
    bids: NDArray[np.float64]  # (n, 4) their bids, descending
    depth: NDArray[np.int8]  # (n,) slots the user looks at


class Totals(NamedTuple):
    """What a tick brought m advertisers."""

    cost: NDArray[np.float64]  # (m,) currency paid
    won: NDArray[np.int64]  # (3, m) slots won
    dropped_bids: NDArray[np.float64]  # (m,) currency, sum of the bids that were dropped
    exposures: NDArray[np.int64]  # (m,) slots shown
    expected: NDArray[np.float64]  # (m,) sum of p over the slots shown
    conversions: NDArray[np.int64]  # (m,)


@njit(cache=True, nogil=True)
def rank(pvalues, alphas, keys):
    """The seven highest bids of every impression, by inserting one advertiser after the other into sorted lists.

    Parameters
    ----------
    pvalues : (m, n) float32 or float64
    alphas : (m,) of the same type; advertisers with alpha = 0 are left out
    keys : (7, n) zeros, int32 or int64; filled with tagged bids
    """
    n = pvalues.shape[1]
    tagged = np.empty(_BLOCK, keys.dtype)
    for start in range(0, n, _BLOCK):
        size = min(_BLOCK, n - start)
        for advertiser in range(pvalues.shape[0]):
            alpha = alphas[advertiser]
            if alpha == 0:
                continue
            row = pvalues[advertiser, start:]
            for j in range(size):
                tagged[j] = _tagged(alpha * row[j], advertiser)
            for place in range(LISTED):
                listed = keys[place, start:]
                for j in range(size):
                    listed[j], tagged[j] = max(listed[j], tagged[j]), min(listed[j], tagged[j])


@njit(inline="always")
def _tagged(bid, advertiser):
    return (bits_of(bid) & -64) | advertiser


@njit(inline="always")
def _bid(key, pvalues, alphas, j):
    """The bid itself in double precision; in single precision as it was ranked (17 bits), so that order is kept."""
    if pvalues.itemsize == 8:
        advertiser = key & 63
        return alphas[advertiser] * pvalues[advertiser, j] if key > 63 else 0.0  # nobody filled a key of 0
    return np.float64(float_of(np.int32(key & -64)))


@njit(inline="always")
def _uniform(state):
    """Uniform number in [0, 1) of a SplitMix64 stream."""
    state[0] += _U(0x9E3779B97F4A7C15)
    return mixed(state[0])


@njit(cache=True, nogil=True)
def _rank_again(pvalues, alphas, dropped, j, keys):
    """List of one impression from scratch, without the advertisers whose bids were dropped."""
    keys[:, j] = 0
    for advertiser in range(pvalues.shape[0]):
        if alphas[advertiser] == 0 or (dropped >> _U(advertiser)) & _U(1):
            continue
        key = _tagged(alphas[advertiser] * pvalues[advertiser, j], advertiser)
        for place in range(LISTED):
            keys[place, j], key = max(keys[place, j], key), min(keys[place, j], key)


@njit(cache=True, nogil=True)
def allocate(lists, pvalues, alphas, remaining, state, totals):
    """Budget rule: auction the tick, drop random wins of overspenders, repeat until nobody overspends.

    Parameters
    ----------
    lists : keys from :func:`rank`, changed; the rest is written
    pvalues, alphas : (m, n), (m,) as given to :func:`rank`
    remaining : (m,) currency left before the tick
    state : (1,) uint64 random stream, advanced
    totals : zeros; cost, won and dropped_bids are written
    """
    keys, who, bids, depth = lists
    cost, won = totals.cost, totals.won
    n, m = keys.shape[1], len(remaining)
    for j in range(n):
        for k in range(N_SLOTS + 1):
            who[j, k] = keys[k, j] & 63
            bids[j, k] = _bid(keys[k, j], pvalues, alphas, j)
        u = _uniform(state)
        depth[j] = 3 if u < _SHOWN_3 else (2 if u < _SHOWN_2 else 1)
        _settle(lists, j, 1, cost, won)
    over = np.zeros(m, np.bool_)
    to_drop = np.zeros((N_SLOTS, m), np.int64)
    undecided = np.zeros((N_SLOTS, m), np.int64)
    if not _overspenders(cost, remaining, won, over, to_drop, undecided):
        return
    dropped = np.zeros(n, np.uint64)  # one bit per advertiser
    used = np.full(n, N_SLOTS + 1, np.int8)  # entries of the list that have been needed so far
    while True:
        for j in range(n):
            gone = 0
            for k in range(N_SLOTS):
                advertiser = who[j, k]
                if over[advertiser] and bids[j, k + 1] > RESERVE_PRICE:
                    if _uniform(state) * undecided[k, advertiser] < to_drop[k, advertiser]:
                        to_drop[k, advertiser] -= 1
                        gone |= 1 << k
                    undecided[k, advertiser] -= 1
            if gone:
                _settle(lists, j, -1, cost, won)
                kept = 0
                for k in range(N_SLOTS + 1):
                    if (gone >> k) & 1:
                        dropped[j] |= _U(1) << _U(who[j, k])
                        totals.dropped_bids[who[j, k]] += bids[j, k]
                    else:
                        who[j, kept], bids[j, kept] = who[j, k], bids[j, k]
                        kept += 1
                if used[j] + N_SLOTS + 1 - kept > LISTED:
                    _rank_again(pvalues, alphas, dropped[j], j, keys)
                    used[j] = kept = 0
                while kept <= N_SLOTS:
                    key = keys[used[j], j]
                    who[j, kept] = key & 63
                    bids[j, kept] = _bid(key, pvalues, alphas, j)
                    used[j] += 1
                    kept += 1
                _settle(lists, j, 1, cost, won)
        if not _overspenders(cost, remaining, won, over, to_drop, undecided):
            # Once more from the start, without the rounding of additions and subtractions.
            cost[:] = 0.0
            won[:] = 0
            for j in range(n):
                _settle(lists, j, 1, cost, won)
            if not _overspenders(cost, remaining, won, over, to_drop, undecided):
                return


@njit(inline="always")
def _settle(lists, j, sign, cost, won):
    """Add (sign = 1) or take back (-1) what an impression brought its winners."""
    for k in range(N_SLOTS):
        price = lists.bids[j, k + 1]
        if price > RESERVE_PRICE:
            advertiser = lists.who[j, k]
            won[k, advertiser] += sign
            if k < lists.depth[j]:
                cost[advertiser] += sign * price


@njit(cache=True, nogil=True)
def _overspenders(cost, remaining, won, over, to_drop, undecided):
    """Note who overspends and how many wins it loses in each slot; whether anybody does."""
    for advertiser in range(len(cost)):
        over[advertiser] = cost[advertiser] > remaining[advertiser]
        if over[advertiser]:
            share = (cost[advertiser] - remaining[advertiser]) / cost[advertiser]
            for k in range(N_SLOTS):
                undecided[k, advertiser] = won[k, advertiser]
                to_drop[k, advertiser] = math.ceil(won[k, advertiser] * share)
    return over.any()


@njit(cache=True, nogil=True)
def convert(lists, pvalues, sigma_ratio, shift, state, totals, prices):
    """Conversions of the shown ads.

    Parameters
    ----------
    lists : from :func:`allocate`
    pvalues : (m, n)
    sigma_ratio : (n, 3) sigma / p-value of the winners, or (1, m) its mean per advertiser
    shift : (m,) see :func:`lbm_core.auction.mechanism.conversion_shift`
    state : (1,) uint64 random stream, advanced
    totals : exposures, expected and conversions are written
    prices : (n,) written: least winning cost

    Returns
    -------
    Mean least winning cost.
    """
    _, who, bids, depth = lists
    n = len(depth)
    per_impression = len(sigma_ratio) == n and sigma_ratio.shape[1] == N_SLOTS
    total = 0.0
    for j in range(n):
        prices[j] = max(bids[j, N_SLOTS], RESERVE_PRICE)
        total += prices[j]
        for k in range(depth[j]):
            if bids[j, k + 1] <= RESERVE_PRICE:
                break
            advertiser = who[j, k]
            pvalue = np.float64(pvalues[advertiser, j])
            ratio = sigma_ratio[j, k] if per_impression else sigma_ratio[0, advertiser]
            totals.exposures[advertiser] += 1
            totals.expected[advertiser] += pvalue
            if _uniform(state) < pvalue * (1.0 + ratio * shift[advertiser]):
                totals.conversions[advertiser] += 1
    return total / n

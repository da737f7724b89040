"""Compiled auction of one tick: what :func:`lbm_core.auction.mechanism.run_tick` does, for the market's speed.

P-values lie advertiser by advertiser, (48, n), so that one machine instruction ranks several impressions. A bid is
ranked as an integer: the bits of a positive float are ordered as the float is, and the lowest six of them are replaced
by the advertiser's number, so that sorting bids sorts their owners with them.

Every impression keeps its highest bids. When an advertiser's bid is dropped for lack of budget, the next of them moves
up, and only an exhausted list is ranked anew. Exposure is drawn once per impression;
conversions at the end, for shown winners alone.

Compiled code is cached by this file's date: touch it after changing a constant that it imports.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from lbm_core.auction.mechanism import EXPOSURE, N_SLOTS, RESERVE_PRICE
from lbm_core.auction.random_bits import mixed

_LISTED = 7  # bids kept per impression: three winners, the price setter, three in reserve
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


def no_totals(m: int) -> Totals:
    """Zeros for m advertisers."""
    cost, dropped_bids, expected = np.zeros((3, m))
    exposures, conversions = np.zeros((2, m), np.int64)
    return Totals(cost, np.zeros((N_SLOTS, m), np.int64), dropped_bids, exposures, expected, conversions)


def ranked(pvalues: NDArray[Any], alphas: NDArray[Any]) -> Lists:
    """The seven highest bids for each of (m, n) p-values; (m,) alphas have their type. All else is not yet written."""
    n = pvalues.shape[1]
    keys = np.zeros((_LISTED, n), np.int32 if pvalues.dtype == np.float32 else np.int64)
    _rank(pvalues, alphas, keys)
    return Lists(keys, np.empty((n, N_SLOTS + 1), np.int8), np.empty((n, N_SLOTS + 1)), np.empty(n, np.int8))


@njit(cache=True, nogil=True)
def _rank(pvalues, alphas, keys):
    """Insert one advertiser after the other into sorted lists; those with alpha = 0 are left out."""
    tagged = np.empty(_BLOCK, keys.dtype)
    bids = tagged.view(pvalues.dtype)  # the same bits
    for start in range(0, pvalues.shape[1], _BLOCK):
        size = min(_BLOCK, pvalues.shape[1] - start)
        for advertiser in range(len(alphas)):
            alpha, row = alphas[advertiser], pvalues[advertiser, start:]
            if alpha == 0:
                continue
            for j in range(size):
                bids[j] = alpha * row[j]
                tagged[j] = (tagged[j] & -64) | advertiser
            for place in range(_LISTED):
                listed = keys[place, start:]
                for j in range(size):
                    listed[j], tagged[j] = max(listed[j], tagged[j]), min(listed[j], tagged[j])


@njit(cache=True, nogil=True)
def _rank_again(pvalues, alphas, dropped, j, keys):
    """List of one impression from scratch, without the advertisers whose bids were dropped."""
    keys[:, j] = 0
    tagged = np.empty(1, keys.dtype)
    bids = tagged.view(pvalues.dtype)  # the same bits
    for advertiser in range(len(alphas)):
        if alphas[advertiser] == 0 or dropped[advertiser]:
            continue
        bids[0] = alphas[advertiser] * pvalues[advertiser, j]
        key = (tagged[0] & -64) | advertiser
        for place in range(_LISTED):
            keys[place, j], key = max(keys[place, j], key), min(keys[place, j], key)


@njit(inline="always")
def _bid(key, pvalues, alphas, j):
    """The bid itself in double precision; in single precision as it was ranked (17 bits), so that order is kept."""
    if pvalues.itemsize == 8:
        advertiser = key & 63
        return alphas[advertiser] * pvalues[advertiser, j] if key > 63 else 0.0  # nobody filled a key of 0
    return np.float64(np.int32(key & -64).view(np.float32))


@njit(inline="always")
def _uniform(state):
    """Uniform number in [0, 1) of a SplitMix64 stream."""
    state[0] += _U(0x9E3779B97F4A7C15)
    return mixed(state[0])


@njit(cache=True, nogil=True)
def allocate(lists, pvalues, alphas, remaining, state, totals):
    """Budget rule: auction the tick, drop random wins of overspenders, repeat until nobody overspends.

    Lists, p-values and alphas are those of :func:`ranked`, ``remaining`` the (m,) currency left, ``state`` a (1,)
    uint64 random stream. Changed: lists and state; written into the zeros of ``totals``: cost, won and dropped_bids.
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
    dropped = np.zeros((n, m), np.bool_)
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
                        dropped[j, advertiser] = True
                        totals.dropped_bids[advertiser] += bids[j, k]
                    undecided[k, advertiser] -= 1
            if gone:
                _settle(lists, j, -1, cost, won)
                kept = 0
                for k in range(N_SLOTS + 1):
                    if not (gone >> k) & 1:
                        who[j, kept], bids[j, kept] = who[j, k], bids[j, k]
                        kept += 1
                if used[j] + N_SLOTS + 1 - kept > _LISTED:
                    _rank_again(pvalues, alphas, dropped[j], j, keys)
                    used[j] = kept = 0
                for k in range(kept, N_SLOTS + 1):
                    who[j, k] = keys[used[j], j] & 63
                    bids[j, k] = _bid(keys[used[j], j], pvalues, alphas, j)
                    used[j] += 1
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
    """Mean least winning cost of a tick; the conversions of the shown ads, after :func:`allocate`.

    Written: exposures, expected and conversions of ``totals``, and the (n,) least winning costs, ``prices``.
    ``sigma_ratio`` is (n, 3) sigma / p-value of the winners, or (1, m) its mean per advertiser; ``shift`` is (m,) of
    :func:`lbm_core.auction.mechanism.conversion_shift`.
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

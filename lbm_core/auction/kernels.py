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

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from lbm_core.auction.mechanism import EXPOSURE, N_SLOTS, RESERVE_PRICE

LISTED = 7  # bids kept per impression: three winners, the price setter, three in reserve
_BLOCK = 512  # impressions ranked together: their bids stay in the fastest cache
_SHOWN_2 = EXPOSURE[1]
_SHOWN_3 = EXPOSURE[1] * EXPOSURE[2]
_U = np.uint64


@intrinsic
def _tagged(typing_context, bid, advertiser):
    """Bits of a bid >= 0 as an integer of its width, the lowest six replaced by the advertiser's number."""
    key = types.int32 if bid == types.float32 else types.int64

    def generate(context, builder, signature, arguments):
        word = ir.IntType(key.bitwidth)
        bits = builder.and_(builder.bitcast(arguments[0], word), ir.Constant(word, -64))
        number = arguments[1] if key.bitwidth == 64 else builder.trunc(arguments[1], word)
        return builder.or_(bits, number)

    return key(bid, types.int64), generate


@intrinsic
def _untagged(typing_context, key):
    """The bid of a key, without its lowest six bits."""
    single = key == types.int32

    def generate(context, builder, signature, arguments):
        bits = builder.and_(arguments[0], ir.Constant(arguments[0].type, -64))
        return builder.bitcast(bits, ir.FloatType() if single else ir.DoubleType())

    return (types.float32 if single else types.float64)(key), generate


def _compare(name: str):
    """LLVM's branch-free integer minimum or maximum (numba's own ``min`` keeps loops from being vectorised)."""

    @intrinsic
    def compare(typing_context, a, b):
        def generate(context, builder, signature, arguments):
            word = arguments[0].type
            full_name = f"llvm.{name}.i{word.width}"
            function = builder.module.globals.get(full_name)
            if function is None:
                function = ir.Function(builder.module, ir.FunctionType(word, [word, word]), name=full_name)
            return builder.call(function, arguments)

        return a(a, a), generate

    return compare


_higher, _lower = _compare("smax"), _compare("smin")


@njit(cache=True, nogil=True)
def rank(pvalues, alphas, keys):
    """The seven highest bids of every impression, by inserting one advertiser after the other into sorted lists.

    Parameters
    ----------
    pvalues : (m, n) float32 or float64
    alphas : (m,) of the same type; advertisers with alpha = 0 are left out
    keys : (7, n) int32 or int64, written: tagged bids, descending; 0 where there are fewer bidders
    """
    n = pvalues.shape[1]
    for start in range(0, n, _BLOCK):
        end = min(start + _BLOCK, n)
        first, second, third, fourth = keys[0, start:end], keys[1, start:end], keys[2, start:end], keys[3, start:end]
        fifth, sixth, seventh = keys[4, start:end], keys[5, start:end], keys[6, start:end]
        keys[:, start:end] = 0
        for advertiser in range(pvalues.shape[0]):
            alpha = alphas[advertiser]
            if alpha == 0:
                continue
            row = pvalues[advertiser, start:end]
            for j in range(end - start):
                key = _tagged(alpha * row[j], advertiser)
                top = first[j]
                first[j], key = _higher(top, key), _lower(top, key)
                top = second[j]
                second[j], key = _higher(top, key), _lower(top, key)
                top = third[j]
                third[j], key = _higher(top, key), _lower(top, key)
                top = fourth[j]
                fourth[j], key = _higher(top, key), _lower(top, key)
                top = fifth[j]
                fifth[j], key = _higher(top, key), _lower(top, key)
                top = sixth[j]
                sixth[j], key = _higher(top, key), _lower(top, key)
                seventh[j] = _higher(seventh[j], key)


@njit(inline="always")
def _bid(key, pvalues, alphas, j):
    """The bid itself in double precision; in single precision as it was ranked (17 bits), so that order is kept."""
    if pvalues.itemsize == 8:
        advertiser = key & 63
        return alphas[advertiser] * pvalues[advertiser, j] if key > 63 else 0.0  # nobody filled a key of 0
    return np.float64(_untagged(key))


@njit(inline="always")
def _uniform(state):
    """Uniform number in [0, 1) of a SplitMix64 stream."""
    state[0] += _U(0x9E3779B97F4A7C15)
    bits = state[0]
    bits = (bits ^ (bits >> _U(30))) * _U(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> _U(27))) * _U(0x94D049BB133111EB)
    return np.float64(np.int64((bits ^ (bits >> _U(31))) >> _U(11))) * (1.0 / 9007199254740992.0)


@njit(cache=True, nogil=True)
def _rank_again(pvalues, alphas, dropped, j, keys):
    """List of one impression from scratch, without the advertisers whose bids were dropped."""
    keys[:, j] = 0
    for advertiser in range(pvalues.shape[0]):
        if alphas[advertiser] == 0 or (dropped >> _U(advertiser)) & _U(1):
            continue
        key = _tagged(alphas[advertiser] * pvalues[advertiser, j], advertiser)
        place = LISTED
        while place > 0 and keys[place - 1, j] < key:
            place -= 1
        for k in range(LISTED - 1, place, -1):
            keys[k, j] = keys[k - 1, j]
        if place < LISTED:
            keys[place, j] = key


@njit(cache=True, nogil=True)
def allocate(keys, pvalues, alphas, remaining, state, who, bids, depth, cost, won, dropped_bids):
    """Budget rule: auction the tick, drop random wins of overspenders, repeat until nobody overspends.

    Parameters
    ----------
    keys : (7, n) from :func:`rank`; changed
    pvalues, alphas : (m, n), (m,) as given to :func:`rank`
    remaining : (m,) currency left before the tick
    state : (1,) uint64 random stream, advanced
    who, bids : (n, 4) written: the three winners and the price setter, descending
    depth : (n,) int8 written: slots the user looks at
    cost : (m,) written: currency paid
    won : (3, m) int64 written: slots won
    dropped_bids : (m,) written: currency, sum of the bids that were dropped

    Returns
    -------
    Number of auctions that were run.
    """
    n, m = keys.shape[1], len(remaining)
    cost[:] = 0.0
    won[:] = 0
    dropped_bids[:] = 0.0
    for j in range(n):
        for k in range(N_SLOTS + 1):
            who[j, k] = keys[k, j] & 63
            bids[j, k] = _bid(keys[k, j], pvalues, alphas, j)
        u = _uniform(state)
        depth[j] = 3 if u < _SHOWN_3 else (2 if u < _SHOWN_2 else 1)
        _settle(who, bids, depth, j, 1, cost, won)
    over = np.zeros(m, np.bool_)
    to_drop = np.zeros((N_SLOTS, m), np.int64)
    undecided = np.zeros((N_SLOTS, m), np.int64)
    auctions = 1
    if not _overspenders(cost, remaining, won, over, to_drop, undecided):
        return auctions
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
                _settle(who, bids, depth, j, -1, cost, won)
                kept = 0
                for k in range(N_SLOTS + 1):
                    if (gone >> k) & 1:
                        dropped[j] |= _U(1) << _U(who[j, k])
                        dropped_bids[who[j, k]] += bids[j, k]
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
                _settle(who, bids, depth, j, 1, cost, won)
        auctions += 1
        if not _overspenders(cost, remaining, won, over, to_drop, undecided):
            # Once more from the start, without the rounding of additions and subtractions.
            cost[:] = 0.0
            won[:] = 0
            for j in range(n):
                _settle(who, bids, depth, j, 1, cost, won)
            if not _overspenders(cost, remaining, won, over, to_drop, undecided):
                return auctions


@njit(inline="always")
def _settle(who, bids, depth, j, sign, cost, won):
    """Add (sign = 1) or take back (-1) what an impression brought its winners."""
    for k in range(N_SLOTS):
        price = bids[j, k + 1]
        if price > RESERVE_PRICE:
            won[k, who[j, k]] += sign
            if k < depth[j]:
                cost[who[j, k]] += sign * price


@njit(cache=True, nogil=True)
def _overspenders(cost, remaining, won, over, to_drop, undecided):
    """Note who overspends and how many wins it loses in each slot; whether anybody does."""
    anybody = False
    for advertiser in range(len(cost)):
        over[advertiser] = cost[advertiser] > remaining[advertiser]
        if over[advertiser]:
            anybody = True
            share = (cost[advertiser] - remaining[advertiser]) / cost[advertiser]
            for k in range(N_SLOTS):
                undecided[k, advertiser] = won[k, advertiser]
                to_drop[k, advertiser] = math.ceil(won[k, advertiser] * share)
    return anybody


@njit(cache=True, nogil=True)
def convert(who, bids, depth, pvalues, sigma_ratio, shift, state, exposures, expected, conversions, prices):
    """Conversions of the shown ads.

    Parameters
    ----------
    who, bids, depth : from :func:`allocate`
    pvalues : (m, n)
    sigma_ratio : (n, 3) sigma / p-value of the winners, or (1, m) its mean per advertiser
    shift : (m,) see :func:`lbm_core.auction.mechanism.conversion_shift`
    state : (1,) uint64 random stream, advanced
    exposures, expected, conversions : (m,) written: shown slots, sum of their p-values, conversions
    prices : (n,) written: least winning cost

    Returns
    -------
    Sum of the least winning costs.
    """
    n = len(depth)
    per_impression = len(sigma_ratio) == n and sigma_ratio.shape[1] == N_SLOTS
    exposures[:] = 0
    expected[:] = 0.0
    conversions[:] = 0
    total = 0.0
    for j in range(n):
        price = max(bids[j, N_SLOTS], RESERVE_PRICE)
        prices[j] = price
        total += price
        for k in range(depth[j]):
            if bids[j, k + 1] <= RESERVE_PRICE:
                break
            advertiser = who[j, k]
            pvalue = np.float64(pvalues[advertiser, j])
            ratio = sigma_ratio[j, k] if per_impression else sigma_ratio[0, advertiser]
            exposures[advertiser] += 1
            expected[advertiser] += pvalue
            if _uniform(state) < pvalue * (1.0 + ratio * shift[advertiser]):
                conversions[advertiser] += 1
    return total

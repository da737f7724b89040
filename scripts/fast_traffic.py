"""A market four times as fast, on p-values that are not the benchmark's: many periods for calibration.

Normals are computed from their position alone, so that a processor handles eight at a time in single precision, and any
p-value of any tick without those before it. Same distribution as the exact traffic, other numbers.
"""

import functools

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.integrate import quad_vec
from scipy.special import ndtr

from lbm_core.auction.bidder import N_ADVERTISERS
from lbm_core.auction.traffic import LARGEST_SIGMA, SCHEMES, Traffic
from lbm_core.data.behaviour import simulate_period

_u, _i, _f = np.uint32, np.int32, np.float32
_CHUNK = 512  # normals of a pass; summed in single precision before they join the double-precision sum
_LN2 = np.float32(0.6931471805599453)
_TURN = np.float32(np.pi / 4 / 2**23)  # 24 signed bits to [-pi/4, pi/4)


class FastTraffic(Traffic):
    """P-values of the same distribution as :class:`~lbm_core.auction.traffic.Traffic`'s, each sigma its mean."""

    engine = "fast"

    def market_pvalues(self, tick: int) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """(48, counts[tick]) p-values, a function of period, scheme and tick; (48,) their sums."""
        out, sums = np.empty((N_ADVERTISERS, int(self.counts[tick])), np.float32), np.empty(N_ADVERTISERS)
        keys = np.random.SeedSequence([self.period, SCHEMES.index(self.scheme), tick]).generate_state(2)
        counter_normals(*keys, self.mean_pvalues[:, tick].copy(), self.std_pvalues[:, tick].copy(), out, sums)
        return out, sums

    def sigma_ratio(self, tick: int, winners: NDArray[np.int8]) -> NDArray[np.float64]:
        """(1, 48) mean of sigma / p-value: only conversions depend on it."""
        return self._mean_sigma_ratio[None]

    @functools.cached_property
    def _mean_sigma_ratio(self) -> NDArray[np.float64]:
        """(48,) mean of min(|x|, 0.3) for x ~ normal(level, level / 2): the integral of how often |x| is larger."""
        levels, scale = self.sigma_levels, self.sigma_levels / 2

        def beyond(limit: float) -> NDArray[np.float64]:  # share of x
            return ndtr((levels - limit) / scale) + ndtr((-limit - levels) / scale)

        return quad_vec(beyond, 0.0, LARGEST_SIGMA)[0]


simulate_fast = functools.partial(simulate_period, traffic=FastTraffic)


@njit(inline="always")
def _fold(x, shift):
    return _u(x ^ (x >> _u(shift)))


@njit(inline="always")
def _two_words(counter, key_1, key_2):
    """Two 32-bit words from a counter: multiply and xor-shift rounds, a 64-bit key between them."""
    x = _fold(_u(_u(counter * _u(0x9E3779B9)) ^ key_1), 16)
    x = _fold(_u(x * _u(0x7FEB352D)), 15)
    x = _fold(_u(_u(x + key_2) * _u(0x846CA68B)), 16)
    return x, _fold(_u(x * _u(0x31848BAB)), 14)


@njit(inline="always")
def _logarithm(x):
    """ln(x) in single precision for x >= 0.5: exponent plus a polynomial of the mantissa in [0.71, 1.41]."""
    shifted = _u(np.float32(x).view(np.uint32) - _u(0x3F3504F3))
    exponent = _f(_i(shifted) >> _i(23))
    y = np.uint32(_u(shifted & _u(0x007FFFFF)) + _u(0x3F3504F3)).view(np.float32) - _f(1)
    series = _f(7.0376836292e-2)
    series = series * y + _f(-1.1514610310e-1)
    series = series * y + _f(1.1676998740e-1)
    series = series * y + _f(-1.2420140846e-1)
    series = series * y + _f(1.4249322787e-1)
    series = series * y + _f(-1.6668057665e-1)
    series = series * y + _f(2.0000714765e-1)
    series = series * y + _f(-2.4999993993e-1)
    series = series * y + _f(3.3333331174e-1)
    square = y * y
    return y + (series * square * y - _f(0.5) * square) + exponent * _LN2


# The flags let sums be split over lanes and products fused; no infinities or NaN occur.
@njit(cache=True, nogil=True, fastmath={"contract", "nsz", "reassoc", "nnan"})
def counter_normals(key_1, key_2, means, stds, out, sums):
    """Normals by Box and Muller, below 0 set to 0; each is a function of the keys and of its position in ``out``.

    A p-value's mean is at most 0.013 and its standard deviation no larger, so nothing has to be cut at 1. Of two uint32
    keys and (m,) means and standard deviations it writes (m, n) float32 ``out`` and (m,) float64 ``sums`` of its rows.
    """
    m, n = out.shape
    half = (n + 1) // 2  # a pair of normals goes to columns j and j + half; an odd row drops the last one
    angles, radii = np.empty(_CHUNK, np.uint32), np.empty(_CHUNK, np.float32)
    rights = np.empty(_CHUNK, np.float32)
    for row in range(m):
        mean, std = _f(means[row]), _f(stds[row])
        total = 0.0
        for start in range(0, half, _CHUNK):
            length = min(_CHUNK, half - start)
            left = out[row, start : start + length]
            first = _u(row * half + start)
            # Three short loops: the constants of each fit into the registers.
            for j in range(length):
                word, angles[j] = _two_words(_u(first + _u(j)), key_1, key_2)
                radii[j] = _f(_i(word >> _u(8))) + _f(0.5)
            for j in range(length):  # sqrt(-2 ln u), u = (24 bits + 1/2) / 2^24
                radii[j] = _f(np.sqrt(_f(2) * (_f(24) * _LN2 - _logarithm(radii[j]))))
            part = _f(0)
            for j in range(length):
                # An angle in the quarter circle around 0; one bit swaps sine and cosine, one changes the sign.
                bits = angles[j]
                angle = _f(_i(_u(bits << _u(2))) >> _i(8)) * _TURN
                square = angle * angle
                sine = _f(8.3321608736e-3) - square * _f(1.9515296e-4)
                sine = angle * (_f(1) + square * (square * sine - _f(1.6666654611e-1)))
                cosine = _f(4.1666645683e-2) + square * (square * _f(2.44331571e-5) - _f(1.3887316255e-3))
                cosine = _f(1) + square * (square * cosine - _f(0.5))
                sign = _u(_u(bits << _u(1)) & _u(0x80000000))
                scale = std * np.uint32(np.float32(radii[j]).view(np.uint32) ^ sign).view(np.float32)
                swap = _i(bits) < _i(0)
                left[j] = max(mean + scale * (sine if swap else cosine), _f(0))
                rights[j] = max(mean + scale * (cosine if swap else sine), _f(0))
                part += left[j] + rights[j]
            total += np.float64(part)
            right = out[row, half + start : half + start + length]  # one shorter at the end of an odd row
            right[:] = rights[: len(right)]
            if len(right) < length:
                total -= np.float64(rights[length - 1])
        sums[row] = total

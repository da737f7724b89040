"""Random numbers of the compiled kernels: NumPy's own normals, and numbers computed from their position.

The exact traffic takes its normals from NumPy's generator inside compiled code: the same bits as ``rng.normal`` in a
quarter of the time, since they are scaled, clipped and summed while they are in the cache. Drawing a period's p-values
and sigmas takes 151 ms so; PCG64 and the ziggurat written out here, 125 lines more, took 114 ms. The fast engine's
p-values are a function of their position alone, so that a processor computes eight at a time, nine times as fast, and
none has to be drawn before another.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

_U = np.uint64
_u, _i, _f = np.uint32, np.int32, np.float32
_BLOCK = 32  # impressions drawn at a time
_CHUNK = 512  # counter-based normals of a pass; summed in single precision before they join the double-precision sum
_LN2 = np.float32(0.6931471805599453)
_TURN = np.float32(np.pi / 4 / 2**23)  # 24 signed bits to [-pi/4, pi/4)


def _cast(*kinds):
    """Compiled function that reads the same bits as a number of another kind, by its own kind."""

    @intrinsic
    def cast(typing_context, value):
        kind = dict(kinds)[value]

        def generate(context, builder, signature, arguments):
            return builder.bitcast(arguments[0], context.get_value_type(kind))

        return kind(value), generate

    return cast


bits_of = _cast((types.float32, types.int32), (types.float64, types.int64))
float_of = _cast((types.int32, types.float32), (types.uint32, types.float32))


@njit(inline="always")
def mixed(bits):
    """Uniform number in [0, 1): SplitMix64's mixer of 64 bits."""
    bits = (bits ^ (bits >> _U(30))) * _U(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> _U(27))) * _U(0x94D049BB133111EB)
    return np.float64(np.int64((bits ^ (bits >> _U(31))) >> _U(11))) * 2.0**-53


@njit(cache=True, nogil=True)
def clipped_normals(rng, means, stds, out, sums):
    """``np.clip(rng.normal(means, stds, out.shape), 0, 1)`` with the same bits.

    Parameters
    ----------
    rng : NumPy's generator, advanced
    means, stds : (m,)
    out : (n, m) filled row by row (any strides)
    sums : (m,) column sums, added in the order of the rows
    """
    sums[:] = 0.0
    n, m = out.shape
    for start in range(0, n, _BLOCK):
        normals = rng.standard_normal((min(_BLOCK, n - start), m))
        for column in range(m):
            mean, std, total, part = means[column], stds[column], sums[column], out[start:, column]
            for row in range(len(normals)):
                part[row] = min(max(mean + std * normals[row, column], 0.0), 1.0)
                total += part[row]
            sums[column] = total


@njit(cache=True, nogil=True)
def skip_normals(rng, n):
    """Advance a generator as if it had drawn n normals."""
    for _ in range(n):
        rng.standard_normal()


@njit(cache=True, nogil=True)
def sigma_ratios(rng, levels, columns, highest, out):
    """Draw an (n, m) array of min(|normal(level, level / 2)|, highest) but keep only some columns of each row.

    Parameters
    ----------
    rng : NumPy's generator, advanced by n * m normals
    levels : (m,) one per column
    columns : (n, >= k) int, column numbers in [0, m); the first k are used
    out : (n, k) written
    """
    for start in range(0, len(out), _BLOCK):
        normals = rng.standard_normal((min(_BLOCK, len(out) - start), len(levels)))
        for row in range(len(normals)):
            for k in range(out.shape[1]):
                column = columns[start + row, k]
                level = levels[column]
                out[start + row, k] = min(abs(level + level / 2 * normals[row, column]), highest)


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
    shifted = _u(bits_of(x) - _u(0x3F3504F3))
    exponent = _f(_i(shifted) >> _i(23))
    y = float_of(_u(_u(shifted & _u(0x007FFFFF)) + _u(0x3F3504F3))) - _f(1)
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

    A p-value's mean is at most 0.013 and its standard deviation no larger, so nothing has to be cut at 1.

    Parameters
    ----------
    key_1, key_2 : uint32; another pair gives other numbers
    means, stds : (m,) float64
    out : (m, n) float32, written
    sums : (m,) float64, written: sum of each row
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
                scale = std * float_of(_u(bits_of(radii[j]) ^ sign))
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

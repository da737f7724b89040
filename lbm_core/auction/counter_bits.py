"""P-values of the fast engine: normals computed from their position alone, many at a time.

Any p-value of any tick can be computed without those before it, nothing has to be stored or skipped, and single
precision lets one machine instruction handle eight of them. Same distribution as the exact traffic, other numbers.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

_u, _i, _f = np.uint32, np.int32, np.float32
_CHUNK = 1024  # summed in single precision before it is added to the double-precision sum
_LN2 = np.float32(0.6931471805599453)
_TURN = np.float32(np.pi / 4 / 2**23)  # 24 signed bits to [-pi/4, pi/4)


@intrinsic
def _as_float(typing_context, bits):
    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.uint32), generate


@intrinsic
def _as_bits(typing_context, value):
    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.IntType(32))

    return types.uint32(types.float32), generate


@njit(inline="always")
def _two_words(counter, key_1, key_2):
    """Two 32-bit words from a counter: multiply and xor-shift rounds with a 64-bit key between them."""
    x = _u(counter * _u(0x9E3779B9)) ^ key_1
    x = _u(x ^ (x >> _u(16)))
    x = _u(x * _u(0x7FEB352D))
    x = _u(x ^ (x >> _u(15)))
    x = _u(_u(x + key_2) * _u(0x846CA68B))
    x = _u(x ^ (x >> _u(16)))
    y = _u(x * _u(0x31848BAB))
    return x, _u(y ^ (y >> _u(14)))


@njit(inline="always")
def _logarithm(x):
    """ln(x) in single precision for x >= 0.5: exponent plus a polynomial of the mantissa in [0.71, 1.41]."""
    shifted = _u(_as_bits(x) - _u(0x3F3504F3))
    exponent = _f(_i(shifted) >> _i(23))
    y = _as_float(_u(_u(shifted & _u(0x007FFFFF)) + _u(0x3F3504F3))) - _f(1)
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


@njit(inline="always")
def _two_normals(counter, key_1, key_2):
    """Box-Muller: radius from 24 bits of the first word, angle from 26 bits of the second."""
    a, b = _two_words(counter, key_1, key_2)
    # the radius is sqrt(-2 ln u), u = (24 bits + 1/2) 2^-24
    uniform = _f(_i(a >> _u(8))) + _f(0.5)
    radius = _f(np.sqrt(_f(-2) * (_logarithm(uniform) - _f(24) * _LN2)))
    # an angle in the quarter around 0; one bit swaps sine and cosine, one changes the sign: the whole circle
    angle = _f(_i(_u(b << _u(2))) >> _i(8)) * _TURN
    square = angle * angle
    sine = angle * (
        _f(1) + square * (_f(-1.6666654611e-1) + square * (_f(8.3321608736e-3) + square * _f(-1.9515296e-4)))
    )
    cosine = _f(1) - _f(0.5) * square
    cosine = cosine + square * square * (
        _f(4.1666645683e-2) + square * (_f(-1.3887316255e-3) + square * _f(2.44331571e-5))
    )
    radius = _as_float(_u(_as_bits(radius) ^ _u(_u(b << _u(1)) & _u(0x80000000))))
    swap = _i(b) < _i(0)
    return radius * (sine if swap else cosine), radius * (cosine if swap else sine)


# The flags let sums be split over lanes and products fused; no infinities or NaN occur.
@njit(cache=True, fastmath={"contract", "nsz", "reassoc", "nnan"})
def counter_normals(key_1, key_2, means, stds, out, sums):
    """Normals clipped to [0, 1], a function of the keys and of the position in ``out``.

    Parameters
    ----------
    key_1, key_2 : uint32; another pair gives other numbers
    means, stds : (m,) float64
    out : (m, n) float32, written
    sums : (m,) float64, written: sum of each row
    """
    m, n = out.shape
    half = n // 2
    for row in range(m):
        mean, std = _f(means[row]), _f(stds[row])
        first = _u(row * ((n + 1) // 2))
        total = 0.0
        for start in range(0, half, _CHUNK):
            length = min(_CHUNK, half - start)
            left, right = out[row, start : start + length], out[row, half + start : half + start + length]
            part = _f(0)
            base = _u(first + _u(start))
            for j in range(length):
                x, y = _two_normals(_u(base + _u(j)), key_1, key_2)
                x = min(max(mean + std * x, _f(0)), _f(1))
                y = min(max(mean + std * y, _f(0)), _f(1))
                left[j], right[j] = x, y
                part += x + y
            total += np.float64(part)
        if n % 2:
            x, y = _two_normals(_u(first + _u(half)), key_1, key_2)
            x = min(max(mean + std * x, _f(0)), _f(1))
            out[row, n - 1] = x
            total += np.float64(x)
        sums[row] = total

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
_CHUNK = 512  # normals of a pass; summed in single precision before they join the double-precision sum
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


@intrinsic
def _two_words(typing_context, counter, key_1, key_2):
    """Two 32-bit words from a counter: multiply and xor-shift rounds, a 64-bit key between them.

    Written for LLVM because numba would compute in 64 bits, half as many at a time.
    """

    def generate(context, builder, signature, arguments):
        word = ir.IntType(32)

        def times(x, factor):
            return builder.mul(x, ir.Constant(word, factor))

        def fold(x, shift):
            return builder.xor(x, builder.lshr(x, ir.Constant(word, shift)))

        position, first_key, second_key = arguments
        x = fold(builder.xor(times(position, 0x9E3779B9), first_key), 16)
        x = fold(times(x, 0x7FEB352D), 15)
        x = fold(times(builder.add(x, second_key), 0x846CA68B), 16)
        y = fold(times(x, 0x31848BAB), 14)
        return context.make_tuple(builder, signature.return_type, (x, y))

    return types.UniTuple(types.uint32, 2)(types.uint32, types.uint32, types.uint32), generate


@intrinsic
def _at_least_0(typing_context, x):
    """max(x, 0) as one instruction."""

    def generate(context, builder, signature, arguments):
        kind = ir.FloatType()
        name = "llvm.maxnum.f32"
        function = builder.module.globals.get(name)
        if function is None:
            function = ir.Function(builder.module, ir.FunctionType(kind, [kind, kind]), name=name)
        return builder.call(function, [arguments[0], ir.Constant(kind, 0.0)], fastmath=("nnan", "nsz"))

    return types.float32(types.float32), generate


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
                scale = std * _as_float(_u(_as_bits(radii[j]) ^ sign))
                swap = _i(bits) < _i(0)
                left[j] = _at_least_0(mean + scale * (sine if swap else cosine))
                rights[j] = _at_least_0(mean + scale * (cosine if swap else sine))
                part += left[j] + rights[j]
            total += np.float64(part)
            right = out[row, half + start : half + start + length]  # one shorter at the end of an odd row
            right[:] = rights[: len(right)]
            if len(right) < length:
                total -= np.float64(rights[length - 1])
        sums[row] = total

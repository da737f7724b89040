"""Random numbers for the auction's kernels: NumPy's own normals, bit for bit, and a counter-based generator.

NumPy fills an array with normals of differing means in about 10 ns each; the same bits come in 3 ns from a compiled
loop over its PCG64 generator and its ziggurat.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

# NumPy's ziggurat tables, as numba ships them to reproduce numpy.random (they cannot be recomputed: NumPy's were made
# in double precision and differ from the true values in the last digits).
from numba.np.random._constants import fi_double, ki_double, wi_double, ziggurat_nor_inv_r, ziggurat_nor_r
from numpy.typing import NDArray

_MULTIPLIER = 0x2360ED051FC65DA44385DF649FCCF645  # PCG64's, 128 bits
_HIGH = np.uint64(_MULTIPLIER >> 64)
_LOW = np.uint64(_MULTIPLIER & (2**64 - 1))
_TO_UNIT = 1.0 / 9007199254740992.0  # 2^-53
_U = np.uint64


def pcg64_state(rng: np.random.Generator) -> NDArray[np.uint64]:
    """State of a NumPy generator, as (state high, state low, increment high, increment low)."""
    state: Any = rng.bit_generator.state
    if state["bit_generator"] != "PCG64":
        raise ValueError(f"the traffic kernels continue PCG64 generators only, not {state['bit_generator']}")
    words = []
    for name in ("state", "inc"):
        words += divmod(state["state"][name], 2**64)
    return np.array(words, dtype=np.uint64)


@intrinsic
def _product128(typing_context, a, b):
    """(high, low) 64-bit words of a 64 x 64-bit product: one machine instruction that numba has no name for."""

    def generate(context, builder, signature, arguments):
        wide, word = ir.IntType(128), ir.IntType(64)
        product = builder.mul(*(builder.zext(argument, wide) for argument in arguments))
        high = builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), word)
        return context.make_tuple(builder, signature.return_type, (high, builder.trunc(product, word)))

    return types.UniTuple(types.uint64, 2)(types.uint64, types.uint64), generate


@njit(inline="always")
def _step(high, low, inc_high, inc_low):
    product_high, product_low = _product128(low, _LOW)
    product_high += high * _LOW + low * _HIGH
    new_low = product_low + inc_low
    carry = _U(1) if new_low < product_low else _U(0)
    return product_high + inc_high + carry, new_low


@njit(inline="always")
def _output(high, low):
    mixed, rotation = high ^ low, high >> _U(58)
    return (mixed >> rotation) | (mixed << ((-rotation) & _U(63)))


@njit(inline="always")
def _split(bits):
    """Layer of the ziggurat and distance in it, from 64 random bits; bit 8 is the sign."""
    return np.int64(bits & _U(0xFF)), (bits >> _U(9)) & _U(0x000FFFFFFFFFFFFF)


@njit
def _outside(bits, high, low, inc_high, inc_low):
    """The one draw in a hundred that falls outside its layer's box: tail, wedge or another try."""
    while True:
        layer, distance = _split(bits)
        x = np.float64(np.int64(distance)) * wi_double[layer]
        if bits & _U(0x100):
            x = -x
        if distance < ki_double[layer]:
            return x, high, low
        high, low = _step(high, low, inc_high, inc_low)
        uniform = np.float64(np.int64(_output(high, low) >> _U(11))) * _TO_UNIT
        if layer == 0:
            while True:
                far = -ziggurat_nor_inv_r * math.log1p(-uniform)
                high, low = _step(high, low, inc_high, inc_low)
                near = -math.log1p(-np.float64(np.int64(_output(high, low) >> _U(11))) * _TO_UNIT)
                if near + near > far * far:
                    x = ziggurat_nor_r + far
                    return (-x if (distance >> _U(8)) & _U(1) else x), high, low
                high, low = _step(high, low, inc_high, inc_low)
                uniform = np.float64(np.int64(_output(high, low) >> _U(11))) * _TO_UNIT
        if (fi_double[layer - 1] - fi_double[layer]) * uniform + fi_double[layer] < math.exp(-0.5 * x * x):
            return x, high, low
        high, low = _step(high, low, inc_high, inc_low)
        bits = _output(high, low)


@njit(cache=True, nogil=True)
def clipped_normals(state, means, stds, out, sums):
    """``np.clip(rng.normal(means, stds, out.shape), 0, 1)`` with the same bits.

    Parameters
    ----------
    state : (4,) uint64, see :func:`pcg64_state`; advanced
    means, stds : (m,)
    out : (n, m) filled row by row (any strides)
    sums : (m,) column sums, added in the order of the rows
    """
    high, low, inc_high, inc_low = state[0], state[1], state[2], state[3]
    sums[:] = 0.0
    for row in range(out.shape[0]):
        for column in range(out.shape[1]):
            high, low = _step(high, low, inc_high, inc_low)
            bits = _output(high, low)
            layer, distance = _split(bits)
            if distance < ki_double[layer]:
                x = np.float64(np.int64(distance)) * wi_double[layer]
                if bits & _U(0x100):
                    x = -x
            else:
                x, high, low = _outside(bits, high, low, inc_high, inc_low)
            value = min(max(means[column] + stds[column] * x, 0.0), 1.0)
            out[row, column] = value
            sums[column] += value
    state[0], state[1] = high, low


@njit(cache=True, nogil=True)
def skip_normals(state, n):
    """Advance a generator as if it had drawn n normals."""
    high, low, inc_high, inc_low = state[0], state[1], state[2], state[3]
    for _ in range(n):
        high, low = _step(high, low, inc_high, inc_low)
        bits = _output(high, low)
        layer, distance = _split(bits)
        if distance >= ki_double[layer]:
            _, high, low = _outside(bits, high, low, inc_high, inc_low)
    state[0], state[1] = high, low


@njit(cache=True, nogil=True)
def sigma_ratios(state, levels, columns, highest, out):
    """Draw an (n, m) array of min(|normal(level, level / 2)|, highest) but keep only some columns of each row.

    Parameters
    ----------
    state : (4,) uint64; advanced by n * m normals
    levels : (m,) one per column
    columns : (n, >= k) int, column numbers in [0, m); the first k are used
    out : (n, k) written
    """
    high, low, inc_high, inc_low = state[0], state[1], state[2], state[3]
    m = len(levels)
    row_bits = np.empty(m, np.uint64)
    row_outside = np.zeros(m)
    for row in range(out.shape[0]):
        outside = _U(0)
        for column in range(m):
            high, low = _step(high, low, inc_high, inc_low)
            bits = _output(high, low)
            row_bits[column] = bits
            layer, distance = _split(bits)
            if distance >= ki_double[layer]:
                row_outside[column], high, low = _outside(bits, high, low, inc_high, inc_low)
                outside |= _U(1) << _U(column)
        for k in range(out.shape[1]):
            column = columns[row, k]
            if (outside >> _U(column)) & _U(1):
                x = row_outside[column]
            else:
                layer, distance = _split(row_bits[column])
                x = np.float64(np.int64(distance)) * wi_double[layer]
                if row_bits[column] & _U(0x100):
                    x = -x
            out[row, k] = min(abs(levels[column] + levels[column] / 2 * x), highest)
    state[0], state[1] = high, low

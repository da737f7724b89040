"""Helpers of the compiled kernels: the bits of floats, and uniform numbers from counters."""

from __future__ import annotations

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

_U = np.uint64


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

"""Random numbers of the compiled kernels: NumPy's own normals, and uniform numbers from bits.

The traffic takes its normals from NumPy's generator inside compiled code: the same bits as ``rng.normal`` in a quarter
of the time, since they are scaled, clipped and summed while they are in the cache. Drawing a period's p-values and
sigmas takes 145 ms so; NumPy's own scaling and clipping after the draw takes 210, PCG64 and the ziggurat written out
here, 125 lines more, took 114.
"""

import numpy as np
from numba import njit

_U = np.uint64
_BLOCK = 32  # impressions drawn at a time


@njit(inline="always")
def mixed(bits):
    """Uniform number in [0, 1): SplitMix64's mixer of 64 bits."""
    bits = (bits ^ (bits >> _U(30))) * _U(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> _U(27))) * _U(0x94D049BB133111EB)
    return np.float64(np.int64((bits ^ (bits >> _U(31))) >> _U(11))) * 2.0**-53


@njit(cache=True, nogil=True)
def clipped_normals(rng, means, stds, out, sums):
    """``np.clip(rng.normal(means, stds, out.shape), 0, 1)`` with the same bits.

    ``rng`` is advanced, ``means`` and ``stds`` are (m,), ``out`` (n, m) is filled row by row (any strides), and the
    column ``sums`` (m,) are added in the order of the rows.
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
def sigma_ratios(rng, levels, columns, highest, out):
    """Draw an (n, m) array of min(|normal(level, level / 2)|, highest) but keep only some columns of each row.

    ``rng`` is advanced by n * m normals; ``levels`` (m,) are one per column; of ``columns`` (n, >= k), numbers in
    [0, m), the first k are used; ``out`` (n, k) is written.
    """
    for start in range(0, len(out), _BLOCK):
        normals = rng.standard_normal((min(_BLOCK, len(out) - start), len(levels)))
        for row in range(len(normals)):
            for k in range(out.shape[1]):
                column = columns[start + row, k]
                level = levels[column]
                out[start + row, k] = min(abs(level + level / 2 * normals[row, column]), highest)

"""``lbm data traffic``: a period's impressions in a file (§4.1)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lbm_core.auction.traffic import Scheme, Traffic
from lbm_core.files import writing_file
from lbm_core.settings import Dataset


def write_traffic_npz(period: int, dataset: Dataset, scheme: Scheme, ticks: Sequence[int], out: str | Path) -> Path:
    """Write a period's impression counts and the p-values and sigmas of some ticks.

    Parameters
    ----------
    period, dataset, scheme
        See :class:`~lbm_core.auction.traffic.Traffic`.
    ticks : numbers in 0..47
        Which ticks to write.
    out : path ending in ``.npz``

    Returns
    -------
    The file: ``counts`` (48,), and per tick T ``pvalues_tT`` and ``sigmas_tT`` of shape (count, 48).
    """
    path = Path(out)
    if path.suffix != ".npz":
        raise ValueError(f"the output file must end in .npz, got {path.name!r}")
    traffic = Traffic(period, dataset, scheme)
    arrays: dict[str, NDArray] = {"counts": traffic.counts}
    for tick in sorted(set(ticks)):
        arrays[f"pvalues_t{tick}"], arrays[f"sigmas_t{tick}"] = traffic.tick(tick)
    with writing_file(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    return path

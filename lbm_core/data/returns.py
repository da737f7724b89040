"""How a return-to-go is scaled before a model sees it."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from lbm_core.settings import Dataset

ReturnScale = Literal["budget", "dataset"]
# Conversions that count as a return of 1 under ``"dataset"``. Table 9 prints 2000 for both data sets; the authors'
# release uses these (a sparse return never exceeds 57, so 2000 would make it vanish).
DATASET_RETURN_SCALE: dict[Dataset, float] = {"dense": 1500.0, "sparse": 100.0}


def return_unit(
    budget: NDArray, cpa_target: NDArray, scale: ReturnScale = "budget", dataset: Dataset = "dense"
) -> NDArray[np.float32]:
    """Conversions that count as a return of 1, (n,) float32, for budgets > 0 and CPA targets > 0, (n,).

    Differs from the paper: ``"budget"``, the default everywhere, counts the conversions that the budget pays for at the
    CPA target, B / C, so that advertisers with large and small budgets ask for comparable returns; ``"dataset"`` is
    :data:`DATASET_RETURN_SCALE`.
    """
    if scale not in get_args(ReturnScale):
        raise ValueError(f"unknown return scale {scale!r}; one of {', '.join(get_args(ReturnScale))}")
    if scale == "budget":
        return (np.asarray(budget) / np.asarray(cpa_target)).astype(np.float32)
    return np.full(len(budget), DATASET_RETURN_SCALE[dataset], dtype=np.float32)

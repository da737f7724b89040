"""Timing for Table 8: warm-up, repetitions, median and 99th percentile."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np


def measure(call: Callable[[], object], *, repetitions: int = 10, warm_up: int = 1) -> dict[str, float]:
    """Wall time of a call.

    Parameters
    ----------
    call : what to time; it must wait for its own result (a GPU call that returns early measures nothing)
    repetitions : timed calls, >= 1
    warm_up : calls before that are not counted, >= 0

    Returns
    -------
    median_seconds, p99_seconds (the slowest where there are fewer than 100 repetitions), repetitions
    """
    if repetitions < 1 or warm_up < 0:
        raise ValueError(f"need repetitions >= 1 and warm_up >= 0; got {repetitions} and {warm_up}")
    for _ in range(warm_up):
        call()
    seconds = []
    for _ in range(repetitions):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return {
        "median_seconds": float(np.median(seconds)),
        "p99_seconds": float(np.quantile(seconds, 0.99, method="higher")),
        "repetitions": repetitions,
    }

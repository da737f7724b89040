"""Timing for Table 8: warm-up, repetitions, percentiles; and how many advertisers a machine keeps up with."""

import os
import time
from collections.abc import Callable
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lbm_core.settings import Count, NonNegative, Positive, settings

INTERVAL_SECONDS = 1_800.0  # a day of 48 ticks (Fig. 4's delta t)
_DRAWS = 1_000  # simulated intervals
_PERCENTILES = {"median_seconds": 0.5, "p90_seconds": 0.9, "p99_seconds": 0.99}


def measure(call: Callable[[], object], *, repetitions: int = 10, warm_up: int = 1) -> dict[str, float]:
    """Wall time of a call: median_seconds, p90_seconds, p99_seconds (the slowest of too few) and repetitions, >= 1.

    The call must wait for its own result (a GPU call that returns early measures nothing). The first ``warm_up`` calls,
    >= 0, do not count.
    """
    if repetitions < 1 or warm_up < 0:
        raise ValueError(f"need repetitions >= 1 and warm_up >= 0; got {repetitions} and {warm_up}")
    seconds = []
    for _ in range(warm_up + repetitions):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    slowest = percentiles(seconds[warm_up:], method="higher")
    return slowest | {"median_seconds": float(np.median(seconds[warm_up:])), "repetitions": repetitions}


def load_per_core() -> float:
    """Processes that want to run, per core, over the last minute: above 1 times mean little. NaN where unknown."""
    return os.getloadavg()[0] / (os.cpu_count() or 1) if hasattr(os, "getloadavg") else np.nan


def percentiles(seconds: ArrayLike, method: str = "linear") -> dict[str, float]:
    """median_seconds, p90_seconds and p99_seconds of measured or simulated times."""
    quantiles = np.quantile(seconds, list(_PERCENTILES.values()), method=method)  # type: ignore[call-overload]
    return dict(zip(_PERCENTILES, quantiles.tolist(), strict=True))


@settings
class WritingSpeed:
    """How fast a language model writes a batch of texts at once; a batch is over when its longest text is."""

    batch: Count  # texts at once
    prompt_seconds: Positive  # of a batch, until every text has its first token
    step_seconds: NonNegative  # for one more token of every text

    @classmethod
    def measured(cls, write: Callable[[int], object], batch: int, *, repetitions: int = 3, warm_up: int = 1) -> Self:
        """Time texts of one and of nine tokens; ``write`` writes the batch, every text with exactly so many."""
        first = measure(lambda: write(1), repetitions=repetitions, warm_up=warm_up)["median_seconds"]
        more = measure(lambda: write(9), repetitions=repetitions, warm_up=0)["median_seconds"]
        return cls(batch, first, max(more - first, 0.0) / 8)

    def seconds(self, tokens: ArrayLike) -> NDArray[np.float64]:
        """(...,) time of batches whose longest texts have (...,) tokens."""
        return self.prompt_seconds + self.step_seconds * (np.asarray(tokens, dtype=np.float64) - 1.0)

    def batch_seconds(self, lengths: ArrayLike, rng: np.random.Generator, draws: int = 4_000) -> NDArray[np.float64]:
        """(draws,) times of full batches whose texts' lengths are drawn from observed ones (tokens)."""
        return self.done(lengths, rng, 1, draws)[:, 0]

    def done(self, lengths: ArrayLike, rng: np.random.Generator, batches: int, draws: int) -> NDArray[np.float64]:
        """(draws, batches) times at which full batches end that are written one after the other."""
        ordered = np.sort(np.asarray(lengths, dtype=np.float64), axis=None)
        if not (ordered.size and np.isfinite(ordered).all() and ordered[0] >= 1):
            raise ValueError("need the observed lengths of at least one text, in tokens, each >= 1")
        # The largest of b draws has the distribution function F^b: one uniform number per batch will do.
        place = np.ceil(rng.random((draws, batches)) ** (1.0 / self.batch) * len(ordered)).astype(np.int64) - 1
        return np.cumsum(self.seconds(ordered[np.clip(place, 0, None)]), axis=1)


def advertisers_served(
    speed: WritingSpeed, lengths: ArrayLike, rng: np.random.Generator, *, interval: float = INTERVAL_SECONDS
) -> int:
    """Advertisers whose texts one machine writes within every interval (seconds, > 0), batch after batch.

    The number of batches is the largest that is done in time in 99 % of the intervals; a batch is as slow as its
    longest text, and lengths are drawn from the observed ones (tokens).
    """
    if not interval > 0:
        raise ValueError(f"interval must be positive; got {interval}")
    most = int(interval // speed.seconds(np.min(lengths)))
    if most == 0:
        return 0
    latest = np.quantile(speed.done(lengths, rng, most, _DRAWS), 0.99, axis=0)
    return int(np.searchsorted(latest, interval, side="right")) * speed.batch


def late_share(
    speed: WritingSpeed, lengths: ArrayLike, texts: int, rng: np.random.Generator, interval: float = INTERVAL_SECONDS
) -> float:
    """Share of so many texts, one an advertiser, not ready when the interval ends, on average over intervals."""
    sizes = np.diff([*range(0, texts, speed.batch), texts])
    done = speed.done(lengths, rng, len(sizes), _DRAWS)
    return float(((done > interval) * sizes).sum(axis=1).mean() / texts)

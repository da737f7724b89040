"""Timing for Table 8: warm-up, repetitions, percentiles; and how many advertisers a machine keeps up with."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

INTERVAL_SECONDS = 1_800.0  # a day of 48 ticks (Fig. 4's delta t)
_PERCENTILES = {"median": 0.5, "p90": 0.9, "p99": 0.99}


def measure(call: Callable[[], object], *, repetitions: int = 10, warm_up: int = 1) -> dict[str, float]:
    """Wall time of a call.

    Parameters
    ----------
    call : what to time; it must wait for its own result (a GPU call that returns early measures nothing)
    repetitions : timed calls, >= 1
    warm_up : calls before that are not counted, >= 0

    Returns
    -------
    median_seconds, p90_seconds, p99_seconds (the slowest where there are too few repetitions), repetitions
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
    slowest = percentiles(seconds, method="higher")
    return slowest | {"median_seconds": float(np.median(seconds)), "repetitions": repetitions}


def load_per_core() -> float:
    """Processes that want to run, per core, over the last minute: above 1 others compete, and times mean little.

    NaN where the operating system does not tell.
    """
    if not hasattr(os, "getloadavg"):
        return float("nan")
    return os.getloadavg()[0] / (os.cpu_count() or 1)


def percentiles(seconds: ArrayLike, method: str = "linear") -> dict[str, float]:
    """median_seconds, p90_seconds and p99_seconds of measured or simulated times."""
    values = np.asarray(seconds, dtype=np.float64)
    return {
        f"{name}_seconds": float(np.quantile(values, q, method=method))  # type: ignore[call-overload]
        for name, q in _PERCENTILES.items()
    }


@dataclass(frozen=True)
class WritingSpeed:
    """How fast a language model writes a batch of texts at once.

    A batch takes ``prompt_seconds`` for its prompts and first tokens, then ``step_seconds`` for one more token of every
    text; it is over when its longest text is.

    Attributes
    ----------
    batch : texts at once, >= 1
    prompt_seconds : > 0
    step_seconds : >= 0
    """

    batch: int
    prompt_seconds: float
    step_seconds: float

    def __post_init__(self) -> None:
        if self.batch < 1 or not self.prompt_seconds > 0 or not self.step_seconds >= 0:
            raise ValueError(
                f"batch must be at least 1, prompt_seconds positive, step_seconds not negative; got {self}"
            )

    @classmethod
    def measured(
        cls, write: Callable[[int], object], batch: int, *, tokens: int = 8, repetitions: int = 3, warm_up: int = 1
    ) -> WritingSpeed:
        """Time a short text of ``tokens`` + 1 tokens and one of a single token; medians of the repetitions.

        Parameters
        ----------
        write : writes the batch, with exactly so many tokens in each text
        warm_up : single tokens written before anything is timed
        """
        if tokens < 1:
            raise ValueError(f"tokens must be at least 1; got {tokens}")
        first = measure(lambda: write(1), repetitions=repetitions, warm_up=warm_up)["median_seconds"]
        more = measure(lambda: write(tokens + 1), repetitions=repetitions, warm_up=0)["median_seconds"]
        return cls(batch, first, max(more - first, 0.0) / tokens)

    def seconds(self, tokens: ArrayLike) -> NDArray[np.float64]:
        """(...,) time of batches whose longest texts have (...,) tokens."""
        return self.prompt_seconds + self.step_seconds * (np.asarray(tokens, dtype=np.float64) - 1.0)

    def batch_seconds(self, lengths: ArrayLike, rng: np.random.Generator, draws: int = 4_000) -> NDArray[np.float64]:
        """(draws,) times of full batches whose texts' lengths are drawn from observed ones (tokens)."""
        return self.seconds(_longest(self, lengths, rng, 1, draws)[:, 0])


def advertisers_served(
    speed: WritingSpeed,
    lengths: ArrayLike,
    rng: np.random.Generator,
    *,
    interval: float = INTERVAL_SECONDS,
    quantile: float = 0.99,
    draws: int = 1_000,
) -> int:
    """Advertisers whose texts one machine writes within every interval, batch after batch.

    The number of batches is the largest that is done in time with probability ``quantile``; a batch is as slow as its
    longest text, and lengths are drawn from the observed ones.

    Parameters
    ----------
    lengths : observed tokens per text
    interval : seconds from one decision to the next, > 0

    Raises
    ------
    ValueError
        No length, or an interval or quantile outside its range.
    """
    if not interval > 0 or not 0 < quantile < 1:
        raise ValueError(f"interval must be positive and quantile in (0, 1); got {interval} and {quantile}")
    shortest = float(speed.seconds(np.asarray(lengths).min()))
    most = int(interval // shortest)
    if most == 0:
        return 0
    batches = int(np.searchsorted(_finished(speed, lengths, rng, most, draws, quantile), interval, side="right"))
    return batches * speed.batch


def late_share(
    speed: WritingSpeed,
    lengths: ArrayLike,
    advertisers: int,
    rng: np.random.Generator,
    *,
    interval: float = INTERVAL_SECONDS,
    draws: int = 1_000,
) -> float:
    """Share of ``advertisers`` whose text is not ready when the interval ends, on average over intervals."""
    if advertisers < 1:
        raise ValueError(f"need at least one advertiser; got {advertisers}")
    batches = -(-advertisers // speed.batch)
    done = np.cumsum(speed.seconds(_longest(speed, lengths, rng, batches, draws)), axis=1)
    sizes = np.full(batches, speed.batch)
    sizes[-1] = advertisers - speed.batch * (batches - 1)
    return float(((done > interval) * sizes).sum(axis=1).mean() / advertisers)


def _finished(
    speed: WritingSpeed, lengths: ArrayLike, rng: np.random.Generator, batches: int, draws: int, quantile: float
) -> NDArray[np.float64]:
    """(batches,) time by which so many batches are done with probability ``quantile``; rises."""
    done = np.cumsum(speed.seconds(_longest(speed, lengths, rng, batches, draws)), axis=1)
    return np.quantile(done, quantile, axis=0)


def _longest(
    speed: WritingSpeed, lengths: ArrayLike, rng: np.random.Generator, batches: int, draws: int
) -> NDArray[np.float64]:
    """(draws, batches) longest text of each batch."""
    # The largest of b draws has the distribution function F^b: one uniform number per batch will do.
    ordered = np.sort(_checked(lengths))
    place = np.ceil(rng.random((draws, batches)) ** (1.0 / speed.batch) * len(ordered)).astype(np.int64) - 1
    return ordered[np.clip(place, 0, None)]


def _checked(lengths: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(lengths, dtype=np.float64).ravel()
    if not (values.size and np.isfinite(values).all() and (values >= 1).all()):
        raise ValueError("need the observed lengths of at least one text, in tokens, each >= 1")
    return values

"""Named, independent random streams. Train and evaluation randomness never share a stream."""

import zlib

import numpy as np

STREAMS = ("traffic", "market", "train", "evaluation", "think", "bootstrap")


def generator(seed: int, stream: str, *keys: int) -> np.random.Generator:
    """NumPy generator of a named stream, one of :data:`STREAMS`, for an experiment's seed >= 0.

    ``keys``, integers >= 0 as (period, tick), are coordinates: equal ones give equal draws in any order of calls.
    """
    if stream not in STREAMS:
        raise ValueError(f"unknown random stream {stream!r}; one of {', '.join(STREAMS)}")
    return np.random.default_rng([zlib.crc32(stream.encode()), seed, *keys])


def integer_seed(seed: int, stream: str, *keys: int) -> int:
    """31-bit seed of a named stream, for libraries that want an int (torch, trl, vllm)."""
    return int(generator(seed, stream, *keys).integers(2**31 - 1))

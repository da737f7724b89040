"""Windows of the last L ticks: the one layout that every sequence model reads, in training and in use."""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lbm_core.auction.bidder import Advertisers, Observation

N_PREVIOUS = 3  # earlier alphas seen from each position
# What windows cut out of a day as it is; alphas are cut twice.
_OUTCOMES = ("conversions", "expected_conversions", "costs", "conversions_before", "costs_before")
PER_TICK = ("returns_to_go", "states", *_OUTCOMES)


@dataclass(frozen=True)
class Windows:
    """n windows of L ticks, left-padded (pads are 0 and ``mask`` False); the last position is tick t."""

    returns_to_go: NDArray[np.float32]  # (n, L) unscaled R
    states: NDArray[np.float32]  # (n, L, 16) unnormalised
    alphas: NDArray[np.float32]  # (n, L) currency per conversion; in use 0 at the last position (not yet chosen)
    conversions: NDArray[np.float32]  # (n, L) outcome of each tick; in use 0 at the last position (not yet known)
    expected_conversions: NDArray[np.float32]  # (n, L) sum of p; NaN in use, where no bidder can know it
    costs: NDArray[np.float32]  # (n, L) as the conversions
    conversions_before: NDArray[np.float32]  # (n, L) total of all ticks of the day before each position
    costs_before: NDArray[np.float32]  # (n, L)
    previous_alphas: NDArray[np.float32]  # (n, L, 3) one, two, three ticks before; cpa_target before the day's start
    timesteps: NDArray[np.int64]  # (n, L) in [0, 48)
    mask: NDArray[np.bool_]  # (n, L) True at real ticks
    budget: NDArray[np.float32]  # (n,)
    cpa_target: NDArray[np.float32]  # (n,)

    def __len__(self) -> int:
        return len(self.budget)

    def __getitem__(self, rows: NDArray | slice) -> "Windows":
        """The windows of some rows."""
        return Windows(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def last(self, length: int) -> "Windows":
        """The last ``length`` positions of windows that are at least as long (else ValueError)."""
        if length > self.mask.shape[1]:
            raise ValueError(f"windows of {length} ticks are wanted; these have {self.mask.shape[1]}")
        columns = {f.name: getattr(self, f.name) for f in fields(self)}
        cut = {name: values[:, -length:] if np.ndim(values) > 1 else values for name, values in columns.items()}
        return Windows(**cut)


def windows_of_observation(
    observation: Observation, advertisers: Advertisers, returns_to_go: ArrayLike, length: int = 10
) -> Windows:
    """The windows that n advertisers' model sees when it has to bid at tick t: layout and padding as in training.

    ``returns_to_go`` are the (n, t + 1) conversions still wanted at ticks 0..t. ValueError for wrong shapes and NaN.
    """
    n, tick = len(observation), observation.tick
    past = {name: getattr(observation, name) for name in ("alphas", "conversions", "costs")}
    target = np.asarray(returns_to_go, dtype=np.float64)
    given = [("returns_to_go", target, (n, tick + 1)), ("advertisers", advertisers.budget, (n,))]
    given += [("states", observation.states[:, :, 0], (n, tick + 1))]
    for name, values, shape in (*given, *((name, values, (n, tick)) for name, values in past.items())):
        if values.shape != shape:
            raise ValueError(f"{name} of the observation at tick {tick} has shape {values.shape}; expected {shape}")
        if not np.isfinite(values).all():
            raise ValueError(f"{name} of the observation at tick {tick} holds NaN or infinite values")
    with_current = {name: np.pad(values, ((0, 0), (0, 1))) for name, values in past.items()}
    totals = {f"{name}_before": values.cumsum(axis=1) for name, values in past.items() if name != "alphas"}
    before = {name: np.pad(values, ((0, 0), (1, 0))) for name, values in totals.items()}
    now = {
        "returns_to_go": target,
        "states": observation.states,
        "expected_conversions": np.full((n, tick + 1), np.nan),
    }
    who = {"budget": advertisers.budget, "cpa_target": advertisers.cpa_target}
    return gather_windows(np.arange(n), np.full(n, tick), length, **who, **now, **with_current, **before)


def gather_windows(
    rows: NDArray, ticks: NDArray, length: int, *, budget: NDArray, cpa_target: NDArray, alphas: NDArray, **day: NDArray
) -> Windows:
    """Cut windows that end at ``ticks`` out of a day's arrays (N, T, ...); see :class:`Windows` for the names."""
    if length < 1:
        raise ValueError(f"windows need a length of at least 1; got {length}")
    positions = ticks[:, None] - np.arange(length - 1, -1, -1)
    mask = positions >= 0
    timesteps = np.maximum(positions, 0)

    def cut(values: NDArray) -> NDArray[np.float32]:
        taken = values[rows[:, None], timesteps].astype(np.float32)
        taken[~mask] = 0.0  # also removes NaN, so a pad is always exactly 0
        return taken

    earlier = positions[:, :, None] - np.arange(1, N_PREVIOUS + 1)
    taken = alphas[rows[:, None, None], np.maximum(earlier, 0)]
    previous = np.where(earlier >= 0, taken, np.asarray(cpa_target)[:, None, None]).astype(np.float32)
    previous[~mask] = 0.0
    who = {"budget": np.asarray(budget, dtype=np.float32), "cpa_target": np.asarray(cpa_target, dtype=np.float32)}
    cuts = {name: cut(values) for name, values in (day | {"alphas": alphas}).items()}
    return Windows(previous_alphas=previous, timesteps=timesteps, mask=mask, **who, **cuts)

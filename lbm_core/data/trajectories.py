"""Trajectories of (return-to-go, state, alpha) per advertiser and period (§4.1, Table 7), held as columns."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lbm_core.auction.bidder import N_STATE_FEATURES, N_TICKS, Advertisers, Observation
from lbm_core.auction.day import DayResult
from lbm_core.auction.log import PeriodLog
from lbm_core.data.windows import PER_TICK, Windows, gather_windows
from lbm_core.files import writing_file
from lbm_core.settings import DATASETS, Dataset

# Largest alpha kept in the data, currency per conversion (the authors' release clips there).
ALPHA_LIMIT: dict[Dataset, float] = {"dense": 54.0, "sparse": 500.0}
MIN_LENGTH = 3  # shorter trajectories are dropped (the authors' release drops length <= 2)

_log = logging.getLogger(__name__)
_PER_TICK = ("alphas", "conversions", "expected_conversions", "costs")


@dataclass(frozen=True)
class TrajectorySet:
    """Logged advertiser-days as columns; everything at or after ``length`` is zero.

    An advertiser whose budget ran out has one last row with alpha 0 (its ``done`` row): :attr:`acting` leaves it out.
    """

    dataset: Dataset
    period: NDArray[np.int64]  # (N,) delivery period of each trajectory
    advertiser: NDArray[np.int64]  # (N,) in [0, 48)
    length: NDArray[np.int64]  # (N,) in 1..48, ticks up to the first ``done``, inclusive
    budget: NDArray[np.float32]  # (N,) currency per period, > 0
    cpa_target: NDArray[np.float32]  # (N,) currency per conversion, > 0
    states: NDArray[np.float32]  # (N, 48, 16) features before each tick
    alphas: NDArray[np.float32]  # (N, 48) currency per conversion; 0 where the advertiser did not bid
    conversions: NDArray[np.float32]  # (N, 48) count
    expected_conversions: NDArray[np.float32]  # (N, 48) sum of p
    costs: NDArray[np.float32]  # (N, 48) currency

    def __post_init__(self) -> None:
        if self.dataset not in DATASETS:
            raise ValueError(f"unknown dataset {self.dataset!r}; one of {', '.join(DATASETS)}")
        n = len(self.period)
        shapes = dict.fromkeys(_PER_TICK, (n, N_TICKS)) | {"states": (n, N_TICKS, N_STATE_FEATURES)}
        for field in fields(self)[1:]:
            kind = np.int64 if field.name in ("period", "advertiser", "length") else np.float32
            values = np.ascontiguousarray(getattr(self, field.name), dtype=kind)
            shape = shapes.get(field.name, (n,))
            if values.shape != shape:
                raise ValueError(f"{field.name} has shape {values.shape}; expected {shape}")
            if not np.isfinite(values).all():
                raise ValueError(f"{field.name} holds NaN or infinite values")
            object.__setattr__(self, field.name, values)
        if n and not (self.length.min() >= 1 and self.length.max() <= N_TICKS):
            raise ValueError(f"lengths must lie in 1..{N_TICKS}")
        if n and not (self.budget.min() > 0 and self.cpa_target.min() > 0):
            raise ValueError("every budget and CPA target must be positive")
        if (self.alphas < 0).any():
            raise ValueError("alphas must not be negative")

    def __len__(self) -> int:
        return len(self.period)

    @classmethod
    def from_logs(cls, logs: Iterable[PeriodLog]) -> "TrajectorySet":
        """Cut every advertiser-day at its first ``done`` and stack them; alphas are clipped at :data:`ALPHA_LIMIT`.

        Trajectories shorter than :data:`MIN_LENGTH` are dropped and counted. ValueError: no logs, or of several data
        sets.
        """
        whole = cls.concatenate([cls.of_day(log, log.dataset, log.period) for log in logs])
        kept = whole.length >= MIN_LENGTH
        if not kept.all():
            _log.info("dropped %d of %d trajectories shorter than %d ticks", (~kept).sum(), len(kept), MIN_LENGTH)
        return whole.select(kept)

    @classmethod
    def of_day(cls, day: DayResult, dataset: Dataset, period: int | NDArray[np.int64]) -> "TrajectorySet":
        """The trajectories of a day (or of each row's period), as :meth:`from_logs` makes them, short ones too."""
        who, valid = day.advertisers, np.arange(N_TICKS) < day.lengths[:, None]
        columns = {name: getattr(day, name) * valid for name in _PER_TICK}
        columns |= {"alphas": np.clip(columns["alphas"], 0.0, ALPHA_LIMIT[dataset]), "length": day.lengths}
        columns |= {"states": day.states * valid[:, :, None], "budget": who.budget, "cpa_target": who.cpa_target}
        return cls(dataset, period=np.full(len(who), period), advertiser=who.index, **columns)

    @classmethod
    def concatenate(cls, sets: Sequence["TrajectorySet"]) -> "TrajectorySet":
        """Stack trajectory sets of one data set."""
        if not sets or len({s.dataset for s in sets}) > 1:
            raise ValueError("need at least one period log or trajectory set, all of the same data set")
        columns = {f.name: np.concatenate([getattr(s, f.name) for s in sets]) for f in fields(cls)[1:]}
        return cls(dataset=sets[0].dataset, **columns)

    def select(self, rows: ArrayLike) -> "TrajectorySet":
        """Trajectories of some rows (indices or a boolean mask)."""
        rows = np.asarray(rows)
        return TrajectorySet(self.dataset, **{f.name: getattr(self, f.name)[rows] for f in fields(self)[1:]})

    @cached_property
    def acting(self) -> NDArray[np.bool_]:
        """(N, 48) ticks at which the advertiser bid: before the end, and alpha > 0."""
        return (np.arange(N_TICKS) < self.length[:, None]) & (self.alphas > 0)

    @cached_property
    def acting_pairs(self) -> NDArray[np.int64]:
        """Every ``row * 48 + tick`` of :attr:`acting`; kept, since a training loop samples from it at every step."""
        return np.flatnonzero(self.acting)

    @cached_property
    def last_action(self) -> NDArray[np.int64]:
        """(N,) last tick with alpha > 0: the terminal transition; -1 if there is none."""
        return np.where(self.acting.any(axis=1), N_TICKS - 1 - np.argmax(self.acting[:, ::-1], axis=1), -1)

    @cached_property
    def returns_to_go(self) -> NDArray[np.float32]:
        """(N, 48) conversions from tick t to the end, R_t (§2.3); unscaled."""
        return np.cumsum(self.conversions[:, ::-1], axis=1, dtype=np.float64)[:, ::-1].astype(np.float32)

    @cached_property
    def conversions_before(self) -> NDArray[np.float32]:
        """(N, 48) conversions of the ticks before t."""
        return (np.cumsum(self.conversions, axis=1, dtype=np.float64) - self.conversions).astype(np.float32)

    @cached_property
    def costs_before(self) -> NDArray[np.float32]:
        """(N, 48) currency spent in the ticks before t."""
        return (np.cumsum(self.costs, axis=1, dtype=np.float64) - self.costs).astype(np.float32)

    def advertisers(self, rows: ArrayLike) -> Advertisers:
        """Who bid in some rows."""
        rows = np.asarray(rows)
        return Advertisers(self.advertiser[rows], self.budget[rows], self.cpa_target[rows])

    def observation(self, rows: ArrayLike, tick: int) -> Observation:
        """What the bidders of some rows knew at ``tick``; ValueError: one of the trajectories is over by then."""
        rows = np.asarray(rows)
        _check_ticks(self, rows, np.full(rows.shape, tick))
        past = (column[rows, :tick].astype(np.float64) for column in (self.alphas, self.conversions, self.costs))
        return Observation(tick, self.states[rows, : tick + 1].astype(np.float64), *past)

    def save(self, path: Path) -> None:
        """Write one compressed ``.npz`` under a temporary name, then rename it."""
        with writing_file(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **{f.name: getattr(self, f.name) for f in fields(self)})

    @classmethod
    def load(cls, path: Path) -> "TrajectorySet":
        """Read what :meth:`save` wrote; FileNotFoundError: no file, ValueError: one without some column."""
        if not Path(path).is_file():
            raise FileNotFoundError(f"no trajectory file {path}: generate the data set first")
        with np.load(path, allow_pickle=False) as stored:
            missing = [f.name for f in fields(cls) if f.name not in stored]
            if missing:
                raise ValueError(f"{path} is no trajectory set: column {missing[0]!r} is missing")
            columns = {f.name: stored[f.name] for f in fields(cls)[1:]}
            return cls(dataset=str(stored["dataset"]), **columns)  # type: ignore[arg-type]


def sample_ends(
    trajectories: TrajectorySet, n: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw (n,) rows and end ticks of training windows, uniformly over all pairs with alpha > 0, with replacement.

    Sampling by *end* makes short windows occur at the start of the day, in training as in use. Differs from the paper:
    its authors' release samples window *starts*, so that short windows occur only at the end of a training episode.
    """
    pairs = trajectories.acting_pairs
    if len(pairs) == 0:
        raise ValueError("no tick to sample from: the trajectory set is empty or nobody ever bid")
    drawn = pairs[rng.integers(len(pairs), size=n)]
    return drawn // N_TICKS, drawn % N_TICKS


def windows(trajectories: TrajectorySet, rows: ArrayLike, ticks: ArrayLike, length: int = 10) -> Windows:
    """Windows of the last ``length`` ticks (paper: 10) up to and including (n,) ``ticks`` of (n,) rows; pads are 0."""
    rows, ticks = np.asarray(rows, dtype=np.int64), np.asarray(ticks, dtype=np.int64)
    _check_ticks(trajectories, rows, ticks)
    who = {name: getattr(trajectories, name)[rows] for name in ("budget", "cpa_target")}
    return gather_windows(rows, ticks, length, **who, **{n: getattr(trajectories, n) for n in (*PER_TICK, "alphas")})


def _check_ticks(trajectories: TrajectorySet, rows: NDArray, ticks: NDArray) -> None:
    if rows.shape != ticks.shape or rows.ndim != 1:
        raise ValueError(f"rows {rows.shape} and ticks {ticks.shape} must be (n,)")
    wrong = (ticks < 0) | (ticks >= trajectories.length[rows])
    if wrong.any():
        row, tick = rows[wrong][0], ticks[wrong][0]
        raise ValueError(f"tick {tick} of trajectory {row} lies outside its {trajectories.length[row]} ticks")

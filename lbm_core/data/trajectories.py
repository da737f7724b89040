"""Trajectories of (return-to-go, state, alpha) per advertiser and period (§4.1, Table 7), held as columns."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lbm_core.auction.bidder import N_STATE_FEATURES, N_TICKS, Advertisers, Observation
from lbm_core.auction.log import PeriodLog
from lbm_core.data.windows import PER_TICK, Windows, gather_windows, windows_of_observation
from lbm_core.files import writing_file
from lbm_core.settings import DATASETS, Dataset

# Largest alpha kept in the data, currency per conversion (the authors' release clips there).
ALPHA_LIMIT: dict[Dataset, float] = {"dense": 54.0, "sparse": 500.0}
MIN_LENGTH = 3  # shorter trajectories are dropped (the authors' release drops length <= 2)

__all__ = ["ALPHA_LIMIT", "TrajectorySet", "Windows", "sample_ends", "windows", "windows_of_observation"]

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
    conversions: NDArray[np.float32]  # (N, 48) count in each tick
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
            if values.shape != shapes.get(field.name, (n,)):
                raise ValueError(f"{field.name} has shape {values.shape}; expected {shapes.get(field.name, (n,))}")
            if not np.isfinite(values).all():
                raise ValueError(f"{field.name} holds NaN or infinite values")
            object.__setattr__(self, field.name, values)
        if not ((self.length >= 1) & (self.length <= N_TICKS)).all():
            raise ValueError(f"lengths must lie in 1..{N_TICKS}")
        if not ((self.budget > 0) & (self.cpa_target > 0)).all() or (self.alphas < 0).any():
            raise ValueError("every budget and CPA target must be positive, and no alpha negative")

    def __len__(self) -> int:
        return len(self.period)

    @classmethod
    def from_logs(cls, logs: Iterable[PeriodLog]) -> TrajectorySet:
        """Cut every advertiser-day at its first ``done`` and stack them.

        Alphas are clipped at :data:`ALPHA_LIMIT`; trajectories shorter than :data:`MIN_LENGTH` are dropped and counted
        in the log.

        Raises
        ------
        ValueError
            No logs, or logs of different data sets.
        """
        whole = cls.concatenate([cls._of_log(log) for log in logs])
        kept = whole.length >= MIN_LENGTH
        if not kept.all():
            _log.info("dropped %d of %d trajectories shorter than %d ticks", (~kept).sum(), len(kept), MIN_LENGTH)
        return whole.select(kept)

    @classmethod
    def _of_log(cls, log: PeriodLog) -> TrajectorySet:
        who, valid = log.advertisers, np.arange(N_TICKS) < log.lengths[:, None]
        tables = {name: (getattr(log, name) * valid).astype(np.float32) for name in _PER_TICK}
        tables["alphas"] = np.clip(tables["alphas"], 0.0, ALPHA_LIMIT[log.dataset])
        states = (log.states * valid[:, :, None]).astype(np.float32)
        budget, target = who.budget.astype(np.float32), who.cpa_target.astype(np.float32)
        period = np.full(len(who), log.period)
        return cls(log.dataset, period, who.index, log.lengths, budget, target, states, **tables)

    @classmethod
    def concatenate(cls, sets: Sequence[TrajectorySet]) -> TrajectorySet:
        """Stack trajectory sets of one data set."""
        names = sorted({s.dataset for s in sets})
        if len(names) != 1:
            raise ValueError(f"trajectories must be of one data set; got {', '.join(names) or 'none'}")
        columns = {f.name: np.concatenate([getattr(s, f.name) for s in sets]) for f in fields(cls)[1:]}
        return cls(dataset=sets[0].dataset, **columns)

    def select(self, rows: ArrayLike) -> TrajectorySet:
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
        return _before(self.conversions)

    @cached_property
    def costs_before(self) -> NDArray[np.float32]:
        """(N, 48) currency spent in the ticks before t."""
        return _before(self.costs)

    def advertisers(self, rows: ArrayLike) -> Advertisers:
        """Who bid in some rows."""
        rows = np.asarray(rows)
        return Advertisers(self.advertiser[rows], self.budget[rows], self.cpa_target[rows])

    def observation(self, rows: ArrayLike, tick: int) -> Observation:
        """What the bidders of some rows knew at ``tick``.

        Raises
        ------
        ValueError
            ``tick`` outside [0, 48) or at or after the end of one of the trajectories.
        """
        rows = np.asarray(rows)
        _check_ticks(self, rows, np.full(rows.shape, tick))
        past = (table[rows, :tick].astype(np.float64) for table in (self.alphas, self.conversions, self.costs))
        return Observation(tick, self.states[rows, : tick + 1].astype(np.float64), *past)

    def save(self, path: Path) -> None:
        """Write one compressed ``.npz`` under a temporary name, then rename it."""
        with writing_file(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **{f.name: getattr(self, f.name) for f in fields(self)})

    @classmethod
    def load(cls, path: Path) -> TrajectorySet:
        """Read what :meth:`save` wrote.

        Raises
        ------
        FileNotFoundError, ValueError
            No such file; a file without one of the columns.
        """
        with np.load(path, allow_pickle=False) as stored:
            missing = [f.name for f in fields(cls) if f.name not in stored]
            if missing:
                raise ValueError(f"{path} is no trajectory set: column {missing[0]!r} is missing")
            columns = {f.name: stored[f.name] for f in fields(cls)[1:]}
            return cls(dataset=str(stored["dataset"]), **columns)  # type: ignore[arg-type]


def sample_ends(
    trajectories: TrajectorySet, n: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw end ticks of training windows, uniformly over all (trajectory, tick) pairs at which somebody bid.

    Sampling by *end* makes short windows occur at the start of the day, in training as in use.

    Differs from the paper: its authors' release samples window *starts*, so that short windows occur only at the end
    of a training episode but at the start of an evaluated one.

    Parameters
    ----------
    n : number of windows, drawn with replacement

    Returns
    -------
    rows, ticks : (n,) int each
    """
    pairs = trajectories.acting_pairs
    if len(pairs) == 0:
        raise ValueError("no tick to sample from: the trajectory set is empty or nobody ever bid")
    drawn = pairs[rng.integers(len(pairs), size=n)]
    return drawn // N_TICKS, drawn % N_TICKS


def windows(trajectories: TrajectorySet, rows: ArrayLike, ticks: ArrayLike, length: int = 10) -> Windows:
    """Windows of the last ``length`` ticks up to and including ``ticks``, left-padded with zeros.

    Parameters
    ----------
    rows, ticks : (n,) int
    length : L >= 1; the paper uses 10

    Raises
    ------
    ValueError
        A tick at or after the end of its trajectory.
    """
    rows, ticks = np.asarray(rows, dtype=np.int64), np.asarray(ticks, dtype=np.int64)
    _check_ticks(trajectories, rows, ticks)
    columns = {name: getattr(trajectories, name) for name in PER_TICK}
    return gather_windows(rows, ticks, length, trajectories.budget[rows], trajectories.cpa_target[rows], columns)


def _check_ticks(trajectories: TrajectorySet, rows: NDArray, ticks: NDArray) -> None:
    if rows.shape != ticks.shape or rows.ndim != 1:
        raise ValueError(f"rows {rows.shape} and ticks {ticks.shape} must be (n,)")
    wrong = (ticks < 0) | (ticks >= trajectories.length[rows])
    if wrong.any():
        k = int(np.argmax(wrong))
        length = trajectories.length[rows[k]]
        raise ValueError(f"tick {ticks[k]} of trajectory {rows[k]} lies outside its {length} ticks")


def _before(values: NDArray[np.float32]) -> NDArray[np.float32]:
    total = np.cumsum(values, axis=1, dtype=np.float64)
    return (total - values).astype(np.float32)

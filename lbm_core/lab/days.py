"""Simulated days as artifacts: training trajectories, held-out periods, tables of past and tuning periods (§4.1)."""

import os
import time
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path

from lbm_core.auction.log import PeriodLog
from lbm_core.auction.replay import ReplayPeriod
from lbm_core.auction.response_tables import ResponseTables
from lbm_core.data.behaviour import population_key, simulate_period
from lbm_core.data.generation import GenerateConfig, generate, read_shards
from lbm_core.data.trajectories import TrajectorySet
from lbm_core.evaluation.runner import held_out
from lbm_core.lab.artifacts import Artifact, tell
from lbm_core.lab.setup import Setup, bars

FIRST_TRAIN_PERIOD = 1000  # far from the benchmark's own periods 7 … 27, which are for evaluation only
FIRST_TUNING_PERIOD = 900  # on these settings are chosen; nobody trains or is judged on them
PAST_PERIODS = 2  # training periods whose prices the online LP plans with


def train_periods(setup: Setup) -> tuple[int, ...]:
    """Numbers of the periods to learn from."""
    return tuple(range(FIRST_TRAIN_PERIOD, FIRST_TRAIN_PERIOD + setup.tier.data.train_periods))


class Trajectories(Artifact[TrajectorySet]):
    """Training trajectories: shards that are each whole or absent, so that a killed generation goes on."""

    @property
    def exists(self) -> bool:
        """Whether all shards are there."""
        return all((self.path / name).exists() for name in self.config.shards)

    def ensure(self) -> None:
        """Make the shards that are not there."""
        if not self.exists:
            start = time.monotonic()
            self.make(self.path)
            tell(self.what, True, time.monotonic() - start)


def trajectories(setup: Setup, *, jobs: int | None = None) -> Trajectories:
    """The tier's training periods, simulated with the behaviour population in so many processes (default 1 to 8)."""
    numbers = train_periods(setup)
    if jobs is None:
        jobs = 1 if len(numbers) <= 24 else min(8, os.cpu_count() or 1)
    config, what = GenerateConfig(setup.dataset, numbers, setup.seed), f"{len(numbers)} {setup.dataset} periods"
    make = partial(generate, config, jobs=jobs, progress=bars())
    return Trajectories("trajectories", config, make, _read, f"trajectories of {what}")


@lru_cache(maxsize=2)
def _read(folder: Path) -> TrajectorySet:
    return read_shards(folder)


def period(setup: Setup, number: int) -> Artifact[PeriodLog]:
    """A simulated delivery period with the price of every impression."""

    def make(folder: Path) -> None:
        simulate_period(setup.dataset, number, setup.seed).save(folder / "log.npz")

    shaped = {"period": number, "seed": setup.seed, "population": population_key(setup.dataset)}
    config, what = shaped | {"dataset": setup.dataset}, f"{setup.dataset} period {number}"
    return Artifact("period", config, make, _log, what, silent=True)


def _log(folder: Path) -> PeriodLog:
    return PeriodLog.load(folder / "log.npz")


@lru_cache(maxsize=1)
def _replay_period(path: Path) -> ReplayPeriod:
    return ReplayPeriod.from_log(_log(path))


def replay_period(setup: Setup, number: int) -> ReplayPeriod:
    """A simulated period with its impressions regenerated (200 MB, the last one kept in memory)."""
    log = period(setup, number)
    log.ensure()
    return _replay_period(log.path)


class HeldOutPeriods(Sequence[ReplayPeriod]):
    """Evaluation periods of some logs, impressions regenerated when asked for (200 MB each, one kept in memory)."""

    def __init__(self, logs: Sequence[PeriodLog]) -> None:
        self.logs = tuple(logs)
        self._build = lru_cache(maxsize=1)(lambda index: ReplayPeriod.from_log(self.logs[index]))

    def __len__(self) -> int:
        return len(self.logs)

    def __getitem__(self, index: int) -> ReplayPeriod:  # type: ignore[override]
        if not -len(self) <= index < len(self):
            raise IndexError(f"there are {len(self)} held-out periods; asked for number {index}")
        return self._build(index % len(self))

    @property
    def numbers(self) -> tuple[int, ...]:
        """Their delivery periods."""
        return tuple(log.period for log in self.logs)


def held_out_periods(setup: Setup) -> HeldOutPeriods:
    """The benchmark's own traffic of periods 7 … 27, which no training shares, priced by the simulated market."""
    logs, start = [period(setup, number) for number in held_out(setup.tier.evaluation.periods)], time.monotonic()
    computed = not all(log.exists for log in logs)
    periods = HeldOutPeriods([log.get() for log in logs])
    tell(f"{len(periods)} held-out {setup.dataset} periods", computed, time.monotonic() - start)
    return periods


def past_periods(setup: Setup, count: int = PAST_PERIODS) -> tuple[Artifact[PeriodLog], ...]:
    """The first training periods, whose prices bidders may have seen."""
    return tuple(period(setup, number) for number in train_periods(setup)[:count])


def tuning_periods(setup: Setup) -> tuple[Artifact[PeriodLog], ...]:
    """The periods on which settings are chosen."""
    last = FIRST_TUNING_PERIOD + setup.tier.tuning.periods
    return tuple(period(setup, number) for number in range(FIRST_TUNING_PERIOD, last))


def tables(periods: Sequence[Artifact[PeriodLog]]) -> list[ResponseTables]:
    """Response curves of periods."""
    for one in periods:
        one.ensure()
    return _tables(tuple(one.path for one in periods))


@lru_cache(maxsize=4)
def _tables(folders: tuple[Path, ...]) -> list[ResponseTables]:
    return [ResponseTables.from_period(ReplayPeriod.from_log(_log(folder))) for folder in folders]

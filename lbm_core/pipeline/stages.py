"""Simulated data as artifacts: training trajectories, held-out periods, and the helpers of every stage."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, overload

import joblib

from lbm_core.auction.log import PeriodLog
from lbm_core.auction.replay import ReplayPeriod
from lbm_core.auction.response_tables import ResponseTables
from lbm_core.data.behaviour import population_key, simulate_period
from lbm_core.data.generate import generate, read_shards
from lbm_core.data.trajectories import TrajectorySet
from lbm_core.evaluation.runner import held_out
from lbm_core.files import artifact_path, writing
from lbm_core.settings import Dataset
from lbm_core.tiers import Tier

TOOK = "took.json"  # beside a model: seconds of its making and the process's peak memory
T = TypeVar("T")
Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]  # function, arguments, options

# Raise a number when code changes what a stage makes from an unchanged configuration.
RECIPES = {
    "market": 1,
    "dt": 1,
    "act": 1,
    "critic": 1,
    "think": 1,
    "offline_rl": 1,
    "uscb": 1,
    "dt_q": 1,
    "diffbid": 1,
    "tuning": 2,
}
FIRST_TRAIN_PERIOD = 1000  # far from the benchmark's own periods 7 … 27, which are for evaluation only
PAST_PERIODS = 2  # training periods whose prices the online LP plans with
FIRST_TUNING_PERIOD = 900  # on these settings are chosen; nobody trains or is judged on them


def found_or_made(
    what: str, path: Path, make: Callable[[Path], None], load: Callable[[Path], T], *, quiet: bool = False
) -> T:
    """Load the artifact at ``path``, after making it if it is not there; prints which of the two unless ``quiet``."""
    start, there = time.monotonic(), path.exists()
    if not there:
        make(path)
        took = {"seconds": time.monotonic() - start, "peak_mib": peak_mib()}
        (path / TOOK).write_text(json.dumps(took))
    found = load(path)
    if not quiet:
        tell(what, not there, time.monotonic() - start)
    return found


def peak_mib() -> float:
    """Largest resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def bars() -> bool:
    """Progress bars in a terminal only: in a notebook they would end up in its stored output."""
    return sys.stderr.isatty()


def tell(what: str, computed: bool, seconds: float) -> None:
    """Print whether a stage was computed or loaded."""
    print(f"{what}: computed in {seconds:.0f} s" if computed else f"{what}: loaded")


def train_periods(tier: Tier) -> tuple[int, ...]:
    """Numbers of the periods to learn from."""
    return tuple(range(FIRST_TRAIN_PERIOD, FIRST_TRAIN_PERIOD + tier.data.train_periods))


def data_config(tier: Tier, dataset: Dataset, seed: int) -> dict[str, Any]:
    """What names the training trajectories, and with them everything learned from them."""
    return {**_market(dataset), "periods": len(train_periods(tier)), "seed": seed}


def _market(dataset: Dataset) -> dict[str, Any]:
    return {"recipe": RECIPES["market"], "dataset": dataset, "population": population_key(dataset)}


def trajectories(tier: Tier, dataset: Dataset, seed: int, *, jobs: int | None = None) -> TrajectorySet:
    """Training trajectories: the tier's training periods, simulated with the behaviour population.

    Parameters
    ----------
    jobs : processes; default one for a few periods, up to 8 for many
    """
    numbers = train_periods(tier)
    folder = artifact_path("trajectories", data_config(tier, dataset, seed))
    start, before = time.monotonic(), len(list(folder.glob("*.parquet")))
    if jobs is None:
        jobs = 1 if len(numbers) <= 24 else min(8, os.cpu_count() or 1)
    generate(dataset, numbers, folder, seed, jobs, progress=bars())
    found = read_shards(folder)
    computed = len(list(folder.glob("*.parquet"))) > before
    tell(f"{len(found)} trajectories of {len(numbers)} {dataset} periods", computed, time.monotonic() - start)
    return found


def period_log(dataset: Dataset, period: int, seed: int) -> PeriodLog:
    """A simulated delivery period with the price of every impression."""
    path = _period_path(dataset, period, seed)
    if not path.exists():
        log = simulate_period(dataset, period, seed)
        with writing(path) as folder:
            log.save(folder / "log.npz")
    return PeriodLog.load(path / "log.npz")


def _period_path(dataset: Dataset, period: int, seed: int) -> Path:
    return artifact_path("periods", {**_market(dataset), "period": period, "seed": seed})


@lru_cache(maxsize=1)
def replay_period(dataset: Dataset, period: int, seed: int) -> ReplayPeriod:
    """A simulated period with its impressions regenerated (200 MB, the last one kept in memory)."""
    return ReplayPeriod.from_log(period_log(dataset, period, seed))


class HeldOutPeriods(Sequence[ReplayPeriod]):
    """Evaluation periods, their impressions regenerated when asked for (200 MB each, one kept in memory).

    Attributes
    ----------
    logs : their period logs
    """

    def __init__(self, logs: Sequence[PeriodLog]) -> None:
        self.logs = tuple(logs)
        self._build = lru_cache(maxsize=1)(lambda index: ReplayPeriod.from_log(self.logs[index]))

    def __len__(self) -> int:
        return len(self.logs)

    @overload
    def __getitem__(self, index: int) -> ReplayPeriod: ...
    @overload
    def __getitem__(self, index: slice) -> HeldOutPeriods: ...
    def __getitem__(self, index: int | slice) -> ReplayPeriod | HeldOutPeriods:
        if isinstance(index, slice):
            return HeldOutPeriods(self.logs[index])
        if not -len(self) <= index < len(self):
            raise IndexError(f"there are {len(self)} held-out periods; asked for number {index}")
        return self._build(index % len(self))

    def __iter__(self) -> Iterator[ReplayPeriod]:
        return (self[k] for k in range(len(self)))

    @property
    def numbers(self) -> tuple[int, ...]:
        """Their delivery periods."""
        return tuple(log.period for log in self.logs)


def held_out_periods(tier: Tier, dataset: Dataset, seed: int) -> HeldOutPeriods:
    """Evaluation periods: the benchmark's own traffic of periods 7 … 27, priced by the simulated market.

    No training period shares their traffic.
    """
    numbers, start = held_out(tier.data.evaluation_periods), time.monotonic()
    paths = [_period_path(dataset, number, seed) for number in numbers]
    computed = not all(path.exists() for path in paths)
    found = HeldOutPeriods([period_log(dataset, number, seed) for number in numbers])
    tell(f"{len(found)} held-out {dataset} periods", computed, time.monotonic() - start)
    return found


def past_tables(tier: Tier, dataset: Dataset, seed: int, periods: int = PAST_PERIODS) -> list[ResponseTables]:
    """Response curves of the first training periods: the past that the online LP plans with and USCB plays in."""
    return _tables(dataset, train_periods(tier)[:periods], seed)


def tuning_tables(tier: Tier, dataset: Dataset, seed: int) -> list[ResponseTables]:
    """Response curves of the periods on which settings are chosen."""
    last = FIRST_TUNING_PERIOD + tier.baseline.tuning_periods
    return _tables(dataset, tuple(range(FIRST_TUNING_PERIOD, last)), seed)


@lru_cache(maxsize=4)
def _tables(dataset: Dataset, numbers: tuple[int, ...], seed: int) -> list[ResponseTables]:
    logs = (period_log(dataset, number, seed) for number in numbers)
    return [ResponseTables.from_period(ReplayPeriod.from_log(log)) for log in logs]


def side_by_side(calls: Sequence[Call], jobs: int) -> None:
    """Run calls in several processes; with one job in this one."""
    if jobs == 1:
        for function, arguments, options in calls:
            function(*arguments, **options)
        return
    joblib.Parallel(n_jobs=jobs)(joblib.delayed(function)(*given, **options) for function, given, options in calls)


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

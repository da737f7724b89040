"""Import of the benchmark's files into the forms our own data have (§4.1): period logs and a trajectory set."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from lbm_core.auction.log import PeriodLog
from lbm_core.auction.traffic import Traffic
from lbm_core.data.trajectories import TrajectorySet
from lbm_core.files import writing
from lbm_core.settings import Dataset
from lbm_core.workshop.csv_rows import CHUNK_BYTES, CsvSource, csv_sources
from lbm_core.workshop.csv_traffic import TrafficCheck, read_traffic_csv
from lbm_core.workshop.csv_trajectory import TrajectoryCheck, read_trajectory_csv

TRAJECTORIES = "trajectories.npz"
REPORT = "import.json"


def import_files(
    paths: Sequence[str | Path],
    out: str | Path,
    *,
    dataset: Dataset | None = None,
    compare: bool = True,
    traffic: Callable[[int, Dataset], Traffic] = Traffic,
    chunk_bytes: int = CHUNK_BYTES,
    progress: Callable[[int], object] | None = None,
) -> list[TrafficCheck | TrajectoryCheck]:
    """Import traffic and trajectory files, each a ``.csv``, ``.csv.gz`` or ``.zip``; all of them or nothing.

    Writes a new folder ``out``: ``period-N.npz`` for every traffic file (load it with :meth:`PeriodLog.load`; the
    replay takes it), ``trajectories.npz`` with the trajectories of all files (:meth:`TrajectorySet.load`), and
    ``import.json`` with the comparisons.

    Parameters
    ----------
    dataset : the data set the files must belong to; None: whichever their p-values agree with
    compare : whether trajectory files must agree with the regenerated traffic (traffic files always must)
    traffic : makes the traffic of a period and data set
    chunk_bytes, progress : as in :func:`~lbm_core.workshop.csv_rows.chunks`

    Returns
    -------
    One comparison with the regenerated traffic per file; ``str()`` of it says what agreed.

    Raises
    ------
    FileNotFoundError, FileExistsError
        No such file; ``out`` is there already.
    ValueError
        A bad file, with file and line; the same period or trajectory twice; dense and sparse files together.
    """
    out = Path(out)
    if out.exists():
        raise FileExistsError(f"{out} is there already: choose another folder, or remove it first")
    sources = [source for path in paths for source in csv_sources(path)]
    if not sources:
        raise ValueError("no file to import given")
    is_trajectory = [_is_trajectory(source) for source in sources]  # all headers before the first long read
    checks: list[TrafficCheck | TrajectoryCheck] = []
    sets: list[TrajectorySet] = []
    seen: set[tuple[int, int]] = set()  # (period, advertiser)
    with writing(out) as folder:
        for source, trajectory in zip(sources, is_trajectory, strict=True):
            if trajectory:
                read, check = read_trajectory_csv(
                    source,
                    dataset=dataset,
                    compare=compare,
                    traffic=traffic,
                    chunk_bytes=chunk_bytes,
                    progress=progress,
                )
                checks.append(check)
            else:
                log, traffic_check = read_traffic_csv(
                    source, dataset=dataset, traffic=traffic, chunk_bytes=chunk_bytes, progress=progress
                )
                target = folder / f"period-{log.period}.npz"
                if target.exists():
                    raise ValueError(f"{source.name}: period {log.period} was already in another file of this import")
                log.save(target)
                read = TrajectorySet.from_logs([log])
                checks.append(traffic_check)
            if sets and read.dataset != sets[0].dataset:
                raise ValueError(
                    f"{source.name} is {read.dataset}, the files before it are {sets[0].dataset}: import them apart"
                )
            pairs = set(zip(read.period.tolist(), read.advertiser.tolist(), strict=True))
            if twice := sorted(pairs & seen):
                raise ValueError(
                    f"{source.name}: the trajectory of advertiser {twice[0][1]}, period {twice[0][0]} was already in "
                    "another file of this import: import them apart"
                )
            seen |= pairs
            sets.append(read)
        TrajectorySet.concatenate(sets).save(folder / TRAJECTORIES)
        report = [dataclasses.asdict(check) | {"says": str(check)} for check in checks]
        (folder / REPORT).write_text(json.dumps(report, indent=2) + "\n")
    return checks


def imported_periods(folder: str | Path) -> list[PeriodLog]:
    """Period logs of an import, in the order of their periods."""
    logs = [PeriodLog.load(path) for path in Path(folder).glob("period-*.npz")]
    if not logs:
        raise FileNotFoundError(f"no period-N.npz in {folder}: import a traffic file first ('lbm data import')")
    return sorted(logs, key=lambda log: log.period)


def _is_trajectory(source: CsvSource) -> bool:
    """Whether it is a trajectory file (else a traffic file)."""
    header = source.header
    if "state" in header:
        return True
    if "pvIndex" in header or "deliveryPeriodIndex" in header:
        return False
    raise ValueError(f"{source.name}, line 1: neither a traffic file (no pvIndex) nor a trajectory file (no state)")

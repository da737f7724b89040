"""Import of the benchmark's files into the forms our own data have (§4.1): period logs and a trajectory set."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from lbm_core.auction.traffic import Traffic
from lbm_core.data.trajectories import TrajectorySet
from lbm_core.files import writing
from lbm_core.settings import Dataset
from lbm_core.workshop.csv_reading import CHUNK_BYTES, CsvSource, FileCheck, csv_sources
from lbm_core.workshop.csv_traffic import read_traffic_csv
from lbm_core.workshop.csv_trajectory import read_trajectory_csv


def import_files(
    paths: Sequence[str | Path],
    out: str | Path,
    *,
    dataset: Dataset | None = None,
    compare: bool = True,
    traffic: Callable[[int, Dataset], Traffic] = Traffic,
    chunk_bytes: int = CHUNK_BYTES,
) -> list[FileCheck]:
    """Import traffic and trajectory files, each a ``.csv``, ``.csv.gz`` or ``.zip``; all of them or nothing.

    Writes a new folder ``out``: ``period-N.npz`` for every traffic file (load it with :meth:`PeriodLog.load`; the
    replay takes it), ``trajectories.npz`` with the trajectories of all files (:meth:`TrajectorySet.load`), and
    ``import.json`` with the comparisons.

    Parameters
    ----------
    dataset : the data set the files must belong to; None: whichever their p-values agree with
    compare : whether trajectory files must agree with the regenerated traffic (traffic files always must)
    traffic : makes the traffic of a period and data set
    chunk_bytes : text held at once

    Returns
    -------
    One comparison with the regenerated traffic per file.

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
    sources = [source for path in paths for source in csv_sources(path, chunk_bytes)]
    if not sources:
        raise ValueError("no file to import given")
    is_trajectory = [_is_trajectory(source) for source in sources]  # all headers before the first long read
    checks: list[FileCheck] = []
    sets: list[TrajectorySet] = []
    seen: set[tuple[int, int]] = set()  # (period, advertiser)
    with writing(out) as folder:
        for source, trajectory in zip(sources, is_trajectory, strict=True):
            if trajectory:
                read, check = read_trajectory_csv(source, dataset=dataset, compare=compare, traffic=traffic)
            else:
                log, check = read_traffic_csv(source, dataset=dataset, traffic=traffic)
                log.save(folder / f"period-{log.period}.npz")
                read = TrajectorySet.from_logs([log])
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
            checks.append(check)
        TrajectorySet.concatenate(sets).save(folder / "trajectories.npz")
        report = [dataclasses.asdict(check) for check in checks]
        (folder / "import.json").write_text(json.dumps(report, indent=2) + "\n")
    return checks


def _is_trajectory(source: CsvSource) -> bool:
    """Whether it is a trajectory file (else a traffic file)."""
    if "state" in source.header:
        return True
    if {"pvIndex", "deliveryPeriodIndex"} & set(source.header):
        return False
    raise ValueError(f"{source.name}, line 1: neither a traffic file (no pvIndex) nor a trajectory file (no state)")

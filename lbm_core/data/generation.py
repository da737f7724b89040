"""The data set (§4.1, Table 7): simulated periods in parquet shards.

A shard depends on nothing but (data set, periods, seed, engine): a stopped run resumes, any shard can be made alone.
"""

import json
import platform
from collections.abc import Callable
from dataclasses import asdict, fields
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import joblib
import numpy as np
import pyarrow as pa
import pyarrow.parquet
from tqdm.auto import tqdm

from lbm_core.auction.bidder import N_STATE_FEATURES, N_TICKS
from lbm_core.auction.log import PeriodLog
from lbm_core.auction.traffic import Scheme
from lbm_core.data.behaviour import population_key, simulate_period
from lbm_core.data.trajectories import TrajectorySet
from lbm_core.files import writing_file
from lbm_core.settings import Count, Dataset, Whole, settings

MANIFEST = "manifest.json"
Simulate = Callable[[Dataset, int, int, Scheme], PeriodLog]  # (dataset, period, seed, scheme)


@settings
class GenerateConfig:
    """What a data set is made from; equal configs give equal shards."""

    dataset: Dataset
    periods: tuple[Whole, ...]  # delivery periods, each once; 48 trajectories each; 7 … 27 are the benchmark's
    seed: Whole = 0  # of the market; the traffic depends on the period alone
    scheme: Scheme = "data"  # traffic seeding
    market: Literal["exact", "fast"] = "exact"  # engine of the traffic; "fast" is scripts/fast_traffic.py's
    periods_per_shard: Count = 8  # 384 trajectories, about 1 MB, some seconds of one core
    population: str = ""  # key of the behaviour population; filled in, so that a new calibration makes a new data set

    def __post_init__(self) -> None:
        if not self.periods or len(set(self.periods)) < len(self.periods):
            raise ValueError("periods must be at least one number >= 0, each given once")
        if not self.population:
            object.__setattr__(self, "population", population_key(self.dataset))

    @property
    def shards(self) -> dict[str, tuple[int, ...]]:
        """Periods of every shard, by the name of its file."""
        size = self.periods_per_shard
        parts = [self.periods[start : start + size] for start in range(0, len(self.periods), size)]
        return {f"shard-{k:05d}.parquet": part for k, part in enumerate(parts)}


def generate(
    config: GenerateConfig,
    out: str | Path,
    *,
    jobs: int = 1,
    progress: bool = True,
    simulate: Simulate = simulate_period,
) -> None:
    """Simulate delivery periods and write their trajectories; shards that are there already are kept.

    Only this process writes into ``out``, shards and ``manifest.json``: workers send their shard back. ``jobs`` are
    processes, in joblib's ``parallel_config`` of its backend; ``simulate`` runs a period. ValueError: the folder holds
    shards of another configuration.
    """
    if jobs < 1:
        raise ValueError(f"jobs must be at least 1; got {jobs}")
    out = Path(out)
    _claim(out, config)
    missing = [name for name in config.shards if not (out / name).exists()]
    done = len(config.periods) - sum(len(config.shards[name]) for name in missing)
    make = partial(make_shard, config, simulate)
    with tqdm(total=len(config.periods), initial=done, unit="period", disable=not progress, desc=config.dataset) as bar:
        workers = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered")
        for name, content in workers(joblib.delayed(make)(name) for name in missing):
            with writing_file(out / name) as temporary:
                temporary.write_bytes(content)
            bar.update(len(config.shards[name]))


def make_shard(config: GenerateConfig, simulate: Simulate, name: str) -> tuple[str, bytes]:
    """Simulate the periods of one shard, on their own; its name and the content of its file."""
    logs = [simulate(config.dataset, period, config.seed, config.scheme) for period in config.shards[name]]
    if {log.engine for log in logs} != {config.market}:
        raise ValueError(f"the periods were not simulated with engine {config.market!r}, as configured")
    return name, shard_bytes(TrajectorySet.from_logs(logs))


def shard_bytes(trajectories: TrajectorySet) -> bytes:
    """A trajectory set as a zstd-compressed parquet file; arrays per trajectory are fixed-size lists."""
    columns: dict[str, pa.Array] = {}
    for field in fields(trajectories)[1:]:
        values: np.ndarray = getattr(trajectories, field.name)
        flat = pa.array(values.ravel())
        width = int(np.prod(values.shape[1:]))
        columns[field.name] = flat if values.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, width)
    table = pa.table(columns).replace_schema_metadata({"dataset": trajectories.dataset})
    sink = pa.BufferOutputStream()
    pyarrow.parquet.write_table(table, sink, compression="zstd", use_dictionary=False, write_statistics=False)
    return sink.getvalue().to_pybytes()


def read_shard(path: str | Path) -> TrajectorySet:
    """Read one parquet shard; ValueError: another parquet file."""
    table = pyarrow.parquet.read_table(path)
    names, stored = [field.name for field in fields(TrajectorySet)], table.schema.metadata or {}
    missing = set(names) - {*table.column_names, *(key.decode() for key in stored)}
    if missing:
        raise ValueError(f"{path} is no shard of trajectories: {min(missing)!r} is missing")
    columns: dict[str, np.ndarray] = {}
    for name in names[1:]:
        column = table.column(name).combine_chunks()
        nested = pa.types.is_fixed_size_list(column.type)
        values = (column.flatten() if nested else column).to_numpy()
        shape = (N_TICKS, N_STATE_FEATURES) if name == "states" else (N_TICKS,) if nested else ()
        columns[name] = values.reshape(len(table), *shape)
    return TrajectorySet(stored[b"dataset"].decode(), **columns)


def read_shards(folder: str | Path) -> TrajectorySet:
    """All trajectories of a generated data set, in the order of its periods; FileNotFoundError: it is not complete."""
    folder = Path(folder)
    if not (folder / MANIFEST).exists():
        raise FileNotFoundError(f"no {MANIFEST} in {folder}: make a data set with 'lbm data generate' first")
    names = list(_read_config(folder / MANIFEST).shards)
    missing = [name for name in names if not (folder / name).exists()]
    if missing:
        cure = "run the same 'lbm data generate' again, it goes on where it stopped"
        raise FileNotFoundError(
            f"{len(missing)} of {len(names)} shards are missing in {folder}, {missing[0]} first: {cure}"
        )
    return TrajectorySet.concatenate([read_shard(folder / name) for name in names])


def _claim(out: Path, config: GenerateConfig) -> None:
    """Write the manifest, or check that the one there is of the same configuration."""
    path = out / MANIFEST
    if path.exists():
        if _read_config(path) != config:
            raise ValueError(f"{out} holds shards of another configuration: choose another folder, or remove it first")
        return
    packages = ("lbm-companion", "numpy", "numba", "scipy", "pyarrow")
    versions = {name: version(name) for name in packages} | {"python": platform.python_version()}
    with writing_file(path) as temporary:
        manifest = {"config": asdict(config), "shards": config.shards, "versions": versions}
        temporary.write_text(json.dumps(manifest) + "\n")


def _read_config(path: Path) -> GenerateConfig:
    try:
        stored = json.loads(path.read_text())["config"]
        return GenerateConfig(**stored | {"periods": tuple(stored["periods"])})
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no manifest of generated data ({error}): remove the folder") from error

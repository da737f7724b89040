"""The data set (§4.1, Table 7): simulated periods in parquet shards, on one machine or a cluster.

A shard is a few delivery periods and depends on nothing but (data set, periods, seed, scheme), so a stopped run
resumes, and any shard can be made again alone.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

import joblib
import numpy as np
import pyarrow as pa
import pyarrow.parquet
from tqdm.auto import tqdm

from lbm_core.auction.bidder import N_STATE_FEATURES, N_TICKS
from lbm_core.auction.log import PeriodLog
from lbm_core.auction.market import ENGINES as MARKET_ENGINES
from lbm_core.auction.market import Engine as MarketEngine
from lbm_core.auction.traffic import SCHEMES, Scheme
from lbm_core.data.behaviour import population_key
from lbm_core.data.trajectories import TrajectorySet
from lbm_core.files import writing_file
from lbm_core.settings import DATASETS, Dataset

Engine = Literal["local", "dask", "ray"]
ENGINES: tuple[Engine, ...] = get_args(Engine)
MANIFEST = "manifest.json"
PERIODS_PER_SHARD = 8  # 384 trajectories, about 1 MB, some seconds of one core
Simulate = Callable[..., PeriodLog]  # (dataset, period, seed, scheme, engine=...)


@dataclass(frozen=True)
class GenerateConfig:
    """What a data set is made from; equal configs give equal shards."""

    dataset: Dataset
    periods: tuple[int, ...]  # delivery periods, each once; 48 trajectories each
    seed: int = 0  # of the market; the traffic depends on the period alone
    scheme: Scheme = "data"  # traffic seeding
    market: MarketEngine = "exact"  # see lbm_core.auction.market.run_market
    periods_per_shard: int = PERIODS_PER_SHARD
    population: str = ""  # key of the behaviour population; filled in, so that a new calibration makes a new data set

    def __post_init__(self) -> None:
        object.__setattr__(self, "periods", tuple(int(period) for period in self.periods))
        if self.dataset not in DATASETS:
            raise ValueError(f"unknown data set {self.dataset!r}; choose one of {', '.join(DATASETS)}")
        if self.scheme not in SCHEMES:
            raise ValueError(f"unknown traffic scheme {self.scheme!r}; choose one of {', '.join(SCHEMES)}")
        if not self.periods or min(self.periods) < 0 or len(set(self.periods)) < len(self.periods):
            raise ValueError("periods must be at least one number >= 0, each given once")
        if self.market not in MARKET_ENGINES:
            raise ValueError(f"unknown market engine {self.market!r}; choose one of {', '.join(MARKET_ENGINES)}")
        if not self.population:
            object.__setattr__(self, "population", population_key(self.dataset))
        if self.seed < 0 or self.periods_per_shard < 1:
            raise ValueError("seed must be >= 0 and periods_per_shard >= 1")

    @property
    def shards(self) -> tuple[tuple[int, ...], ...]:
        """Periods of every shard."""
        return tuple(_batches(self.periods, self.periods_per_shard))

    def shard_name(self, shard: int) -> str:
        """File name of a shard."""
        return f"shard-{shard:05d}.parquet"


def generate(
    dataset: Dataset,
    periods: Sequence[int],
    out: str | Path,
    seed: int = 0,
    jobs: int = 1,
    engine: Engine = "local",
    *,
    scheme: Scheme = "data",
    market: MarketEngine = "exact",
    periods_per_shard: int = PERIODS_PER_SHARD,
    address: str | None = None,
    progress: bool = True,
    simulate: Simulate | None = None,
) -> GenerateConfig:
    """Simulate delivery periods and write their trajectories; shards that are there already are kept.

    Only this process writes: workers send their shard back, so that a cluster needs no shared folder.

    Parameters
    ----------
    periods : delivery periods, each once; 7 … 27 are the benchmark's
    out : folder for the shards and ``manifest.json``
    seed : of the market
    scheme, market : traffic seeding and market engine, see :func:`lbm_core.data.behaviour.simulate_period`
    jobs : worker processes; with a cluster at ``address``, tasks at a time
    engine : "local" (joblib's processes), "dask" or "ray" (joblib's backends of these)
    address : scheduler of a running Dask or Ray cluster; None starts one on this machine with ``jobs`` workers
    progress : show a bar with an estimate of the time left
    simulate : what runs a period; None: :func:`lbm_core.data.behaviour.simulate_period`

    Raises
    ------
    ValueError
        ``out`` holds shards of another configuration.
    RuntimeError
        The engine is not installed.
    """
    config = GenerateConfig(dataset, tuple(periods), seed, scheme, market, periods_per_shard)
    if engine not in ENGINES:
        raise ValueError(f"unknown engine {engine!r}; choose one of {', '.join(ENGINES)}")
    if jobs < 1:
        raise ValueError(f"jobs must be at least 1; got {jobs}")
    out = Path(out)
    _claim(out, config)
    missing = [k for k in range(len(config.shards)) if not (out / config.shard_name(k)).exists()]
    done = sum(len(config.shards[k]) for k in set(range(len(config.shards))) - set(missing))
    # Ray's backend hands results back only in bulk: waves keep a killed run resumable there.
    waves = [tuple(missing)] if engine != "ray" else _batches(missing, 4 * jobs)
    with (
        _workers(engine, jobs, address),
        tqdm(total=len(config.periods), initial=done, unit="period", disable=not progress, desc=dataset) as bar,
    ):
        for wave in waves:
            tasks = (joblib.delayed(_numbered_shard)(config, k, simulate) for k in wave)
            made = joblib.Parallel(
                n_jobs=min(jobs, max(len(wave), 1)), return_as="list" if engine == "ray" else "generator_unordered"
            )(tasks)
            for shard, content in made:
                with writing_file(out / config.shard_name(shard)) as temporary:
                    temporary.write_bytes(content)
                bar.update(len(config.shards[shard]))
    return config


def _batches(items: Sequence[int], size: int) -> list[tuple[int, ...]]:
    return [tuple(items[start : start + size]) for start in range(0, len(items), size)]


def _claim(out: Path, config: GenerateConfig) -> None:
    """Write the manifest, or check that the one there is of the same configuration."""
    path = out / MANIFEST
    if path.exists():
        if _read_config(path) != config:
            raise ValueError(f"{out} holds shards of another configuration: choose another folder, or remove it first")
        return
    packages = ("lbm-companion", "numpy", "numba", "scipy", "pyarrow")
    manifest = {
        "config": asdict(config),
        "shards": {config.shard_name(k): periods for k, periods in enumerate(config.shards)},
        "versions": {name: version(name) for name in packages} | {"python": platform.python_version()},
    }
    with writing_file(path) as temporary:
        temporary.write_text(json.dumps(manifest) + "\n")


def _read_config(path: Path) -> GenerateConfig:
    try:
        stored: dict[str, Any] = json.loads(path.read_text())["config"]
        return GenerateConfig(**stored)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no manifest of generated data ({error}): remove the folder") from error


@contextmanager
def _workers(engine: Engine, jobs: int, address: str | None) -> Iterator[None]:
    """Make joblib's calls inside run on the engine."""
    if engine == "local":
        with joblib.parallel_config(backend="loky", inner_max_num_threads=1):
            yield
    elif engine == "dask":
        distributed = _require("distributed")
        local = (
            None if address else distributed.LocalCluster(n_workers=jobs, threads_per_worker=1, dashboard_address="")
        )
        try:
            with distributed.Client(address or local), joblib.parallel_config(backend="dask"):
                yield
        finally:
            if local is not None:
                local.close()
    else:
        ray = _require("ray")
        from ray.util.joblib import register_ray

        register_ray()
        ray.init(address=address, num_cpus=None if address else jobs, log_to_driver=False, include_dashboard=False)
        try:
            with joblib.parallel_config(backend="ray"):
                yield
        finally:
            ray.shutdown()


def _require(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise RuntimeError(f"{name} is not installed: pip install 'lbm-companion[cluster]'") from error


def _numbered_shard(config: GenerateConfig, shard: int, simulate: Simulate | None) -> tuple[int, bytes]:
    return shard, shard_bytes(make_shard(config, shard, simulate))


def make_shard(config: GenerateConfig, shard: int, simulate: Simulate | None = None) -> TrajectorySet:
    """Simulate the periods of one shard, on their own.

    Parameters
    ----------
    shard : number in 0 … len(config.shards) - 1
    simulate : as in :func:`generate`
    """
    if simulate is None:
        from lbm_core.data.behaviour import simulate_period

        run: Simulate = simulate_period
    else:
        run = simulate
    sets = [
        TrajectorySet.from_logs([run(config.dataset, period, config.seed, config.scheme, engine=config.market)])
        for period in config.shards[shard]
    ]
    return TrajectorySet.concatenate(sets)


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
    """Read one parquet shard."""
    table = pyarrow.parquet.read_table(path)
    missing = [f.name for f in fields(TrajectorySet)[1:] if f.name not in table.column_names]
    if missing or b"dataset" not in (table.schema.metadata or {}):
        raise ValueError(f"{path} is no shard of trajectories: {missing[0] if missing else 'dataset'!r} is missing")
    n = len(table)
    columns: dict[str, np.ndarray] = {}
    for field in fields(TrajectorySet)[1:]:
        column = table.column(field.name).combine_chunks()
        nested = pa.types.is_fixed_size_list(column.type)
        values = (column.flatten() if nested else column).to_numpy()
        shape = (n, N_TICKS, N_STATE_FEATURES) if field.name == "states" else (n, N_TICKS) if nested else (n,)
        columns[field.name] = values.reshape(shape)
    return TrajectorySet(table.schema.metadata[b"dataset"].decode(), **columns)


def read_shards(folder: str | Path) -> TrajectorySet:
    """All trajectories of a generated data set, in the order of its periods.

    Raises
    ------
    FileNotFoundError
        No manifest, or a shard is missing: the generation was stopped.
    """
    folder = Path(folder)
    if not (folder / MANIFEST).exists():
        raise FileNotFoundError(f"no {MANIFEST} in {folder}: make a data set with 'lbm data generate' first")
    config = _read_config(folder / MANIFEST)
    names = [config.shard_name(k) for k in range(len(config.shards))]
    missing = [name for name in names if not (folder / name).exists()]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(names)} shards are missing in {folder}, first {missing[0]}: "
            "run the same 'lbm data generate' again, it goes on where it stopped"
        )
    return TrajectorySet.concatenate([read_shard(folder / name) for name in names])

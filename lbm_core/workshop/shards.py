"""Generating the data set on a cluster: the shards of :mod:`lbm_core.data.generation`, made by Dask."""

from pathlib import Path
from typing import Any, Literal

import joblib

from lbm_core.data.generation import GenerateConfig, generate

ClusterEngine = Literal["local", "dask"]


def generate_on(
    engine: ClusterEngine, config: GenerateConfig, out: str | Path, *, address: str | None = None, **options: Any
) -> None:
    """:func:`lbm_core.data.generation.generate` on an engine; the files are the same byte for byte.

    Workers send their shards back, so that a cluster needs no shared folder. ``address`` is the scheduler of a running
    one, on which ``jobs`` tasks run at a time; None starts one on this machine with so many workers.
    """
    jobs = options.get("jobs", 1)
    try:
        if engine == "local":
            generate(config, out, **options)
        elif engine == "dask":
            from distributed import Client

            local = {"n_workers": jobs, "threads_per_worker": 1, "dashboard_address": ""}
            with Client(address) if address else Client(**local), joblib.parallel_config(backend="dask"):
                generate(config, out, **options)
        else:
            raise ValueError(f"unknown engine {engine!r}; choose one of local, dask")
    except ModuleNotFoundError as error:
        raise RuntimeError(f"{error.name} is not installed: pip install 'lbm-companion[cluster]'") from error

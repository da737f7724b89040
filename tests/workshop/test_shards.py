"""The data set on Dask: the same files as on this machine."""

import sys

import pytest

from lbm_core.data.generation import GenerateConfig, generate
from lbm_core.workshop.shards import generate_on

CONFIG = GenerateConfig("dense", (28, 29, 30), periods_per_shard=1)
OPTIONS = {"jobs": 2, "progress": False}


def content(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.parquet")}


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["local", "dask"])
def test_two_workers_make_the_same_files(engine, tmp_path):
    pytest.importorskip({"dask": "distributed", "local": "joblib"}[engine])
    generate(CONFIG, tmp_path / "one", **OPTIONS | {"jobs": 1})
    generate_on(engine, CONFIG, tmp_path / engine, **OPTIONS)
    assert content(tmp_path / engine) == content(tmp_path / "one")
    assert len(content(tmp_path / "one")) == 3


def test_unknown_and_missing_engines_are_told(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"unknown engine 'spark'; choose one of local, dask$"):
        generate_on("spark", CONFIG, tmp_path)
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(RuntimeError, match=r"distributed is not installed: .*\[cluster\]"):
        generate_on("dask", CONFIG, tmp_path)
    assert not list(tmp_path.iterdir())

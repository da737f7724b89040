"""The data set generator: shards that resume, reproduce and come back whole, on every engine."""

import importlib.util
import json
from dataclasses import fields

import numpy as np
import pytest
from small_periods import invented_period

from lbm_core.data import generate as module
from lbm_core.data.generate import GenerateConfig, generate, make_shard, read_shard, read_shards, shard_bytes
from lbm_core.data.trajectories import TrajectorySet

PERIODS = (28, 29, 30, 31, 40)


def assert_equal_sets(a, b):
    for field in fields(TrajectorySet):
        assert np.array_equal(getattr(a, field.name), getattr(b, field.name)), field.name


def make(out, **options):
    options = {"periods": PERIODS, "periods_per_shard": 2, "progress": False, "simulate": invented_period} | options
    return generate("dense", options.pop("periods"), out, **options)


def content(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.parquet")}


def test_what_is_written_comes_back(tmp_path):
    config = make(tmp_path, seed=5)
    expected = TrajectorySet.from_logs([invented_period("dense", period, 5) for period in PERIODS])
    assert_equal_sets(read_shards(tmp_path), expected)
    assert sorted(content(tmp_path)) == ["shard-00000.parquet", "shard-00001.parquet", "shard-00002.parquet"]
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["config"]["seed"] == 5
    assert manifest["shards"]["shard-00002.parquet"] == [40]
    assert {"numpy", "python", "lbm-companion"} <= set(manifest["versions"])
    assert config.shards == ((28, 29), (30, 31), (40,))


def test_any_shard_is_reproducible_alone(tmp_path):
    config = make(tmp_path)
    before = content(tmp_path)
    assert shard_bytes(make_shard(config, 1, invented_period)) == before["shard-00001.parquet"]
    make(tmp_path / "two processes", jobs=2)
    assert content(tmp_path / "two processes") == before
    make(tmp_path / "other seed", seed=1)
    assert all(content(tmp_path / "other seed")[name] != before[name] for name in before)


def test_a_stopped_run_resumes(tmp_path):
    asked = []

    def stops_at_31(dataset, period, seed, scheme, engine):
        asked.append(period)
        if period == 31 and len(asked) < 10:
            raise KeyboardInterrupt
        return invented_period(dataset, period, seed, scheme)

    with pytest.raises(KeyboardInterrupt):
        make(tmp_path, simulate=stops_at_31)
    assert list(content(tmp_path)) == ["shard-00000.parquet"]
    with pytest.raises(FileNotFoundError, match=r"2 of 3 shards are missing .* run the same 'lbm data generate' again"):
        read_shards(tmp_path)
    asked[:] = [0] * 10
    make(tmp_path, simulate=stops_at_31)
    assert asked[10:] == [30, 31, 40]
    assert_equal_sets(read_shards(tmp_path), TrajectorySet.from_logs([invented_period(period=p) for p in PERIODS]))
    asked.clear()
    make(tmp_path, simulate=stops_at_31)
    assert not asked
    with pytest.raises(ValueError, match="shards of another configuration"):
        make(tmp_path, seed=1)
    assert not list(tmp_path.glob(".*")), "temporary files were left"


def test_bad_input(tmp_path):
    for bad in ({"periods": ()}, {"periods": (1, 1)}, {"periods": (-1,)}, {"seed": -1}, {"periods_per_shard": 0}):
        with pytest.raises(ValueError, match=r"periods must be|seed must be"):
            make(tmp_path, **bad)
    with pytest.raises(ValueError, match="unknown engine 'spark'; choose one of local, dask, ray"):
        make(tmp_path, engine="spark")
    with pytest.raises(ValueError, match="jobs must be at least 1"):
        make(tmp_path, jobs=0)
    with pytest.raises(ValueError, match="unknown data set"):
        GenerateConfig("medium", (1,))
    with pytest.raises(FileNotFoundError, match=r"no manifest.json in .* 'lbm data generate'"):
        read_shards(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_damaged_manifest_is_told(tmp_path):
    for text in ("{", "{}", '{"config": {"colour": 1}}'):
        (tmp_path / "manifest.json").write_text(text)
        with pytest.raises(ValueError, match=r"manifest.json is no manifest of generated data"):
            make(tmp_path)


def test_missing_engine_is_told(tmp_path, monkeypatch):
    def absent(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(RuntimeError, match=r"distributed is not installed: .*\[cluster\]"):
        make(tmp_path, engine="dask")


def test_progress_is_shown(tmp_path, capsys):
    make(tmp_path, progress=True)
    assert "5/5" in capsys.readouterr().err


def test_a_foreign_parquet_file(tmp_path):
    import pandas as pd

    pd.DataFrame({"period": [1]}).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(ValueError, match="no shard of trajectories: 'advertiser' is missing"):
        read_shard(tmp_path / "x.parquet")


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["dask", "ray"])
def test_two_worker_clusters(engine, tmp_path):
    if importlib.util.find_spec({"dask": "distributed"}.get(engine, engine)) is None:
        pytest.skip(f"{engine} is not installed: pip install 'lbm-companion[cluster]'")
    options = {"periods": (28, 29, 30), "periods_per_shard": 1, "simulate": None}
    make(tmp_path / "local", **options)
    make(tmp_path / engine, jobs=2, engine=engine, **options)
    assert content(tmp_path / engine) == content(tmp_path / "local")


def test_default_simulation_is_the_behaviour_population(monkeypatch):
    from lbm_core.data import behaviour

    monkeypatch.setattr(behaviour, "simulate_period", invented_period)
    config = GenerateConfig("sparse", (30,), seed=2)
    assert_equal_sets(module.make_shard(config, 0), TrajectorySet.from_logs([invented_period("sparse", 30, 2)]))

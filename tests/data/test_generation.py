"""The data set generator: shards that resume, reproduce and come back whole."""

import json
from dataclasses import fields

import numpy as np
import pytest
from small_periods import invented_period

from lbm_core.data.behaviour import simulate_period
from lbm_core.data.generation import GenerateConfig, generate, make_shard, read_shard, read_shards
from lbm_core.data.trajectories import TrajectorySet

PERIODS = (28, 29, 30, 31, 40)


def assert_equal_sets(a, b):
    for field in fields(TrajectorySet):
        assert np.array_equal(getattr(a, field.name), getattr(b, field.name)), field.name


def make(out, **options):
    options = {"progress": False, "simulate": invented_period} | options
    names = {field.name for field in fields(GenerateConfig)} & set(options)
    config = GenerateConfig(
        "dense", **{"periods": PERIODS, "periods_per_shard": 2} | {k: options.pop(k) for k in names}
    )
    generate(config, out, **options)
    return config


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
    assert list(config.shards.values()) == [(28, 29), (30, 31), (40,)]


def test_any_shard_is_reproducible_alone(tmp_path):
    config = make(tmp_path)
    before = content(tmp_path)
    assert make_shard(config, invented_period, "shard-00001.parquet")[1] == before["shard-00001.parquet"]
    make(tmp_path / "two processes", jobs=2)
    assert content(tmp_path / "two processes") == before
    make(tmp_path / "other seed", seed=1)
    assert all(content(tmp_path / "other seed")[name] != before[name] for name in before)


def test_a_stopped_run_resumes(tmp_path):
    asked = []

    def stops_at_31(dataset, period, seed, scheme):
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
    for bad, message in (
        ({"periods": ()}, "periods must be"),
        ({"periods": (1, 1)}, "periods must be"),
        ({"periods": (-1,)}, "periods of GenerateConfig should be greater"),
        ({"periods": (1.5,)}, "periods of GenerateConfig should be a valid integer"),
        ({"seed": -1}, "seed of GenerateConfig"),
        ({"periods_per_shard": 0}, "periods_per_shard of"),
        ({"market": "slow"}, "market of GenerateConfig should be 'exact' or 'fast'"),
        ({"jobs": 0}, "jobs must be at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            make(tmp_path, **bad)
    with pytest.raises(ValueError, match="'dense' or 'sparse'; got 'medium'"):
        GenerateConfig("medium", (1,))
    with pytest.raises(FileNotFoundError, match=r"no manifest.json in .* 'lbm data generate'"):
        read_shards(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_damaged_manifest_is_told(tmp_path):
    for text in ("{", "{}", '{"config": {"colour": 1}}'):
        (tmp_path / "manifest.json").write_text(text)
        with pytest.raises(ValueError, match=r"manifest.json is no manifest of generated data"):
            make(tmp_path)


def test_progress_is_shown(tmp_path, capsys):
    make(tmp_path, progress=True)
    assert "5/5" in capsys.readouterr().err


def test_a_foreign_parquet_file(tmp_path):
    import pandas as pd

    pd.DataFrame({"period": [1]}).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(ValueError, match="no shard of trajectories: 'advertiser' is missing"):
        read_shard(tmp_path / "x.parquet")


def test_the_behaviour_population_is_what_is_simulated(tmp_path):
    generate(GenerateConfig("sparse", (30,), seed=2), tmp_path / "exact", progress=False)
    expected = TrajectorySet.from_logs([simulate_period("sparse", 30, 2)])
    assert_equal_sets(read_shards(tmp_path / "exact"), expected)
    with pytest.raises(ValueError, match="not simulated with engine 'fast'"):
        generate(GenerateConfig("sparse", (30,), market="fast"), tmp_path / "fast", progress=False)

"""Disks that fill, folders that vanish or cannot be written, two runs at once, and trainings that diverge."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from small_periods import invented_period
from synthetic_trajectories import synthetic_trajectories

from lbm_core import paths
from lbm_core.data.generation import GenerateConfig, generate
from lbm_core.files import writing, writing_file
from lbm_core.lab.artifacts import Artifact
from lbm_core.report import results
from lbm_core.think.generate import Generation, _append, _read_store
from lbm_core.workshop.execute import execute

MEBIBYTE = 1 << 20


@contextmanager
def full_disk(size: int):
    """No file may grow beyond so many bytes: the same errors, at the same places, as those of a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _tensors(folder):
    import torch

    from lbm_core.training import _save

    with writing(folder / "model") as temporary:
        _save({"weight": torch.zeros(4 * MEBIBYTE)}, temporary / "model.safetensors")


def _rows(folder):
    results.record("demo", pd.DataFrame({"text": ["x" * MEBIBYTE] * 3}), tier="laptop", output=folder)


def _parquet(folder):
    with writing(folder / "rows") as temporary:
        pd.DataFrame({"x": np.random.default_rng(0).random(MEBIBYTE)}).to_parquet(temporary / "rows.parquet")


def _shards(folder):
    config = GenerateConfig("dense", (1, 2), periods_per_shard=1)
    generate(config, folder / "data", simulate=invented_period, progress=False)


def _log(folder):
    invented_period().save(folder / "log.npz")


def _days(folder):
    synthetic_trajectories(200).save(folder / "days.npz")


def _text(folder):
    with writing_file(folder / "page.md") as temporary:
        temporary.write_text("x" * 4 * MEBIBYTE)


def _figure(folder):
    from matplotlib.figure import Figure

    from lbm_core.report import style

    figure = Figure(figsize=(4, 4), dpi=200)
    figure.subplots().imshow(np.random.default_rng(0).random((400, 400)))
    style.save(figure, "demo", "laptop", folder)


def _texts(folder):
    _append(folder / "texts.jsonl", {"key": [Generation("x" * MEBIBYTE, 1, "stop", 0.0)] * 2}, {})


def _optimizer(folder):
    import torch

    with writing(folder / "checkpoint") as temporary:
        torch.save({"weight": torch.zeros(MEBIBYTE)}, temporary / "optimizer.pt")


WRITES = [_tensors, _optimizer, _rows, _parquet, _shards, _log, _days, _text, _figure, _texts]


@pytest.mark.parametrize("size", [0, 1_000])
@pytest.mark.parametrize("write", WRITES)
def test_a_full_disk_is_named_with_a_cure_and_leaves_nothing_half_written(tmp_path, write, size):
    with (
        full_disk(size),
        pytest.raises(
            OSError, match=r"cannot be written \((File too large|unexpected pos)\): make room there, or"
        ) as error,
    ):
        write(tmp_path)
    assert "\n" not in str(error.value)
    assert str(tmp_path) in str(error.value)
    # A text's half line is cut off by whoever writes next; a manifest says what a data set will hold.
    left = [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix not in (".jsonl",)]
    assert [path.name for path in left] in ([], ["manifest.json"])
    write(tmp_path)  # with room, all goes on
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size > size]


def test_a_full_disk_leaves_earlier_results_as_they_were(tmp_path):
    results.record("demo", pd.DataFrame({"score": [1.0]}), tier="laptop", dataset="dense", output=tmp_path)
    before = (tmp_path / "results" / "demo.csv").read_bytes()
    new = pd.DataFrame({"score": np.arange(5_000.0)})
    with full_disk(10_000), pytest.raises(OSError, match=r"demo.csv cannot be written"):
        results.record("demo", new, tier="laptop", dataset="sparse", output=tmp_path)
    assert (tmp_path / "results" / "demo.csv").read_bytes() == before


def test_a_full_disk_in_a_notebook_run_leaves_no_half_copy(tmp_path, write_notebook):
    path, copy = write_notebook("01_a", "print('x' * 50_000)"), tmp_path / "runs" / "01_a.ipynb"
    with (
        full_disk(20_000),
        pytest.raises(OSError, match=r"01_a\.ipynb cannot be written \(File too large\): make room"),
    ):
        execute(path, copy, {})
    assert list(copy.parent.iterdir()) == []


def test_texts_go_on_behind_the_half_line_of_a_full_disk(tmp_path):
    store, text = tmp_path / "texts.jsonl", Generation("word " * 100, 100, "stop", 0.0)
    _append(store, {"first": [text]}, {})
    with full_disk(store.stat().st_size + 50), pytest.raises(OSError, match=r"texts\.jsonl cannot be written"):
        _append(store, {"second": [text]}, {})
    assert set(_read_store(store, {"first", "second"})) == {"first"}
    _append(store, {"third": [text]}, {})
    assert set(_read_store(store, {"first", "third"})) == {"first", "third"}
    assert set(_read_store(store, {"third"})) == {"third"}, "another prompt's texts are not read"


def test_to_name_a_commit_leaves_no_lock_behind(tmp_path, monkeypatch):
    """Git that refreshes its index and is stopped there leaves a lock, and nobody can commit in that checkout."""
    (tmp_path / "pyproject.toml").touch()
    who = ["-c", "user.name=a", "-c", "user.email=a@b.example", "-c", "commit.gpgsign=false"]
    for words in "init -q", "add .", "commit -qm a":
        subprocess.run(["git", *who, *words.split()], cwd=tmp_path, check=True)
    os.utime(tmp_path / "pyproject.toml", (0, 0))
    monkeypatch.setattr(paths, "project_root", lambda: tmp_path)
    with full_disk(0):
        assert results.commit().isalnum(), "clean, and known"
    assert not (tmp_path / ".git" / "index.lock").exists()


def test_other_errors_keep_their_own_words(tmp_path):
    for error in (ValueError("wrong"), FileNotFoundError(2, "No such file or directory", "other")):
        with pytest.raises(type(error)) as found, writing(tmp_path / "a"):
            raise error
        assert found.value is error
    with pytest.raises(OSError, match=r"^/elsewhere cannot be written"), writing(tmp_path / "a"):
        raise PermissionError(13, "Permission denied", "/elsewhere")


@pytest.mark.parametrize("write", [writing, writing_file])
def test_a_folder_removed_in_the_middle_is_named(tmp_path, write):
    told = pytest.raises(FileNotFoundError, match="/cache was removed in the middle of model: run it again")
    with told, write(tmp_path / "cache" / "model"):
        shutil.rmtree(tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


# --- one cache, several runs ---------------------------------------------------------------------------------------

TWICE = """
import sys, time
from pathlib import Path
from lbm_core.lab import artifacts
artifacts.STAGES["slow"] = artifacts.Stage("slow", 1)
def make(folder):
    with (Path(sys.argv[1]) / "makers").open("a") as file:
        file.write("one\\n")
    time.sleep(0.5)
    (folder / "value").write_text("7")
print(artifacts.Artifact("slow", 1, make, lambda folder: (folder / "value").read_text(), "value").get())
"""


def test_two_runs_on_one_cache_make_a_thing_once_and_both_get_it(tmp_path):
    environment = os.environ | {"LBM_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-c", TWICE, str(tmp_path)]
    runs = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    printed = [run.communicate(timeout=300)[0].split("\n")[-2] for run in runs]
    assert printed == ["7", "7"]
    assert (tmp_path / "makers").read_text() == "one\n"
    assert len(list((tmp_path / "cache" / "slow").iterdir())) == 1, "no lock is left"


def test_what_a_killed_run_left_of_an_artifact_is_cleared_away(tmp_path, monkeypatch):
    monkeypatch.setenv("LBM_CACHE", str(tmp_path))
    artifact = Artifact("tuning", 1, lambda folder: (folder / "a").write_text("1"), lambda folder: 1, "value")
    (artifact.path.parent / f".{artifact.key}-left").mkdir(parents=True)
    artifact.get()
    assert [path.name for path in artifact.path.parent.iterdir()] == [artifact.key]


def test_two_runs_that_record_two_data_sets_lose_no_rows(tmp_path):
    def record(dataset):
        for _ in range(10):
            frame = pd.DataFrame({"score": np.arange(200.0)})
            results.record("demo", frame, tier="laptop", dataset=dataset, output=tmp_path)

    threads = [threading.Thread(target=record, args=(dataset,)) for dataset in ("dense", "sparse")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results.load("demo", "laptop", tmp_path)["dataset"].value_counts().to_dict() == {"dense": 200, "sparse": 200}


def test_a_line_that_another_run_is_writing_is_not_cut_off(tmp_path):
    store = tmp_path / "texts.jsonl"
    store.write_bytes(b'{"key": "other", "sam')
    assert _read_store(store, {"other", "mine"}) == {}
    assert store.read_bytes() == b'{"key": "other", "sam'
    _append(store, {"mine": [Generation("a", 1, "stop", 0.0)]}, {})
    assert set(_read_store(store, {"other", "mine"})) == {"mine"}


@pytest.mark.parametrize("line", [b"7", b"[]", b'"text"', b"{}", b"{", b"\xff", b"null"])
def test_a_stored_line_that_is_no_text_is_named(tmp_path, line):
    """Found by scripts/fuzz.py: a line that is json and no text."""
    (tmp_path / "texts.jsonl").write_bytes(line + b"\n")
    with pytest.raises(ValueError, match=r"line 1 of .*texts\.jsonl is damaged"):
        _read_store(tmp_path / "texts.jsonl", {"any"})


# --- read-only places ------------------------------------------------------------------------------------------------

LOCKED = """
set -e
mount --bind {root} {root}; mount -o remount,bind,ro {root}
mount -t tmpfs none {home}; mount -o remount,ro {home}
touch {root}/README.md 2> /dev/null && exit 9
{python} -c 'from lbm_core.cli import main; main("data traffic --period 7 --ticks 0 --out {out}/a.npz".split())'
"""


def _may_mount() -> bool:
    return subprocess.run(["unshare", "--mount", "--map-root-user", "true"], capture_output=True).returncode == 0


@pytest.mark.skipif(shutil.which("unshare") is None or not _may_mount(), reason="this machine lets nobody mount")
def test_a_read_only_checkout_and_home_need_only_a_cache(tmp_path):
    (tmp_path / "home").mkdir()
    values = {"root": paths.project_root(), "home": tmp_path / "home", "python": sys.executable, "out": tmp_path}
    kept = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    environment = kept | {"HOME": str(tmp_path / "home"), "LBM_CACHE": str(tmp_path / "cache")}
    command = ["unshare", "--mount", "--map-root-user", "bash", "-c", LOCKED.format(**values)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "cache" / "numba").rglob("*.nbi")), "compiled code is kept in our cache"
    assert (tmp_path / "a.npz").is_file()


def test_a_cache_that_cannot_be_made_is_named(tmp_path, monkeypatch):
    def refuse(self, **_):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    monkeypatch.setenv("LBM_CACHE", str(tmp_path / "cache"))
    with pytest.raises(OSError, match=r"cache cannot be written .Permission denied.: .* another folder with LBM_CACHE"):
        paths.cache_dir()

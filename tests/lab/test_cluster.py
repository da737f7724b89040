"""Small jobs on a Dask cluster, one of whose workers dies in the middle: the files of one process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from lbm_core.lab import evaluations
from lbm_core.lab.lab import Lab

METHODS = ["constant", "pacing"]
SEARCHED = ("pacing", "PID")


def _lab():
    return Lab.of("smoke", data__train_periods=9, evaluation__periods=6, evaluation__advertisers=4)


def _made(cache, stage, name):
    found = cache.glob(f"{stage}/**/{name}")
    return {path.relative_to(cache).as_posix(): path.read_bytes() for path in found if "/." not in str(path)}


def _wait(what, process=None):
    for _ in range(2_400):
        if what():
            return
        assert process is None or process.poll() is None, "it ended"
        time.sleep(0.1)
    raise TimeoutError


@pytest.fixture
def dask(tmp_path):
    """A scheduler's address and two workers, all on loopback."""
    pytest.importorskip("distributed")
    file, started = tmp_path / "scheduler.json", []

    def start(program, *options):
        command = [sys.executable, "-m", f"distributed.cli.dask_{program}", "--scheduler-file", str(file), *options]
        process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL)
        started.append(process)
        return process

    scheduler = start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
    try:
        _wait(file.exists, scheduler)
        one = ("--host", "127.0.0.1", "--nthreads", "1", "--no-nanny", "--no-dashboard")
        workers = [start("worker", *one, "--local-directory", str(tmp_path / str(k))) for k in range(2)]
        from distributed import Client

        with Client(scheduler_file=str(file)) as client:
            client.wait_for_workers(2, timeout=240)
            yield client.scheduler.address, workers
    finally:
        for process in reversed(started):
            process.kill()
            process.wait()


@pytest.mark.slow
def test_a_cluster_makes_the_files_of_one_process_though_a_worker_dies(dask, tmp_path, monkeypatch):
    address, workers = dask
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    side_by_side = evaluations.side_by_side

    def run(cache, jobs):
        monkeypatch.setenv("LBM_CACHE", str(cache))
        monkeypatch.setattr(evaluations, "side_by_side", lambda groups, _: side_by_side(groups, jobs))
        lab = _lab()
        lab.trajectories(jobs=jobs)
        rows = lab.evaluate(METHODS)
        lab.train_all(SEARCHED, jobs=jobs)
        return rows, {name: lab.tuned(name).trials.drop(columns="seconds") for name in SEARCHED}

    expected, trials = run(alone, 1)
    monkeypatch.setenv("LBM_SCHEDULER", address)
    left = []

    def kill():
        while not (done := len(_made(shared, "evaluation", "rows.parquet"))):
            time.sleep(0.02)
        os.kill(workers[0].pid, signal.SIGKILL)
        left.append(len(METHODS) * 6 - done)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    rows, found = run(shared, 2)
    killer.join(10)
    assert left, "a worker was killed"
    assert left[0] > 0, "while there was work left"
    assert workers[0].poll() == -signal.SIGKILL
    assert workers[1].poll() is None
    assert rows.equals(expected)
    for stage, name, count in (("evaluation", "rows.parquet", 12), ("trajectories", "*.parquet", 2)):
        files = _made(shared, stage, name)
        assert len(files) == count
        assert files == _made(alone, stage, name)
    for name in SEARCHED:
        assert found[name].equals(trials[name])

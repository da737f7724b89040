"""The ``lbm`` command: help, what it writes, one sentence and a non-zero exit on error."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import lbm_core
from lbm_core import cli
from lbm_core.auction.traffic import Traffic
from lbm_core.data.generation import read_shards
from lbm_core.report import results


@pytest.mark.parametrize(
    "command",
    [
        ["reproduce"],
        ["results"],
        ["train"],
        ["paper"],
        ["data"],
        ["data", "traffic"],
        ["data", "generate"],
        ["data", "import"],
        ["data", "export"],
        [],
    ],
)
def test_every_command_has_help(lbm, command):
    code, out, _ = lbm(*command, "--help")
    assert code == 0
    assert "Usage: lbm" in " ".join(out.split())


def test_the_launcher_of_one_training_has_help():
    command = [sys.executable, "-m", "lbm_core.workshop.launch", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "--checkpoint-every" in done.stdout


def test_version(lbm):
    assert lbm("--version")[:2] == (0, f"{lbm_core.__version__}\n")


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from lbm_core import cli\n"
        "try:\n    cli.main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print([n for n in ('torch', 'numpy', 'pandas', 'matplotlib', 'papermill') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_data_traffic_writes_counts_and_the_ticks_asked_for(lbm, tmp_path):
    out = tmp_path / "t.npz"
    code, said, _ = lbm(
        "data", "traffic", "--period", "7", "--dataset", "sparse", "--scheme", "data", "--ticks", "0,4",
        "--out", str(out),
    )  # fmt: skip
    assert code == 0
    assert "t.npz" in said
    traffic = Traffic(7, "sparse", scheme="data")
    with np.load(out) as written:
        assert set(written.files) == {"counts", "pvalues_t0", "sigmas_t0", "pvalues_t4", "sigmas_t4"}
        np.testing.assert_array_equal(written["counts"], traffic.counts)
        pvalues, sigmas = traffic.tick(4)
        np.testing.assert_array_equal(written["pvalues_t4"], pvalues)
        np.testing.assert_array_equal(written["sigmas_t4"], sigmas)


def test_data_generate_simulates_and_resumes(lbm, tmp_path):
    command = ["data", "generate", "--periods", "1", "--first-period", "1003", "--out", str(tmp_path / "made")]
    code, said, _ = lbm(*command)
    assert code == 0
    made = read_shards(tmp_path / "made")
    assert f"wrote {len(made)} trajectories of 1 periods" in said
    assert set(made.period) == {1003}
    assert lbm(*command)[0] == 0
    code, _, err = lbm(*command, "--seed", "1")
    assert code == 1
    assert "another configuration" in err


def test_an_engine_that_is_not_installed_says_what_to_install(lbm, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    code, _, err = lbm("data", "generate", "--periods", "1", "--engine", "dask", "--out", str(tmp_path / "made"))
    assert code == 1
    assert "pip install" in err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["data", "traffic", "--period", "7", "--ticks", "0,48", "--out", "t.npz"], 1, "tick must lie in 0..47"),
        (["data", "traffic", "--period", "7", "--ticks", "a", "--out", "t.npz"], 1, "--ticks wants numbers"),
        (["data", "traffic", "--period", "-1", "--out", "t.npz"], 1, "period"),
        (["data", "traffic", "--period", "7", "--out", "t.csv"], 1, "end in .npz"),
        (["data", "traffic", "--period", "7", "--dataset", "thick", "--out", "t.npz"], 2, "thick"),
        (["data", "generate", "--periods", "0", "--out", "d"], 1, "at least one number"),
        (["data", "generate", "--periods", "1", "--jobs", "0", "--out", "d"], 2, "--jobs"),
        (["data", "import", "no.csv", "--out", "d"], 1, "no.csv"),
        (["results", "nothing_of_the_kind"], 1, "make them with 'lbm reproduce"),
        (["results", "--tier", "huge"], 1, "huge"),
        (["reproduce", "--tier", "huge"], 1, "unknown TIER 'huge'"),
        (["reproduce", "--only", "77"], 1, "no notebook '77'"),
        (["reproduce", "--set", "act.steps"], 1, "--set wants NAME=VALUE"),
        (["reproduce", "--set", "DATASET=thick"], 1, "unknown DATASET 'thick'"),
        (["reproduce", "--jobs", "0"], 2, "--jobs"),
        (["unknown"], 2, "unknown"),
    ],
)
def test_errors_are_one_sentence_on_stderr(lbm, tmp_path, monkeypatch, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    exit_code, _, err = lbm(*arguments)
    assert exit_code == code
    assert message in err
    assert "Traceback" not in err
    if code == 1:
        assert err.startswith("error: ")
        assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_the_traceback():
    with pytest.raises(ValueError, match="numbers separated by commas"):
        cli.main(["--debug", "data", "traffic", "--period", "7", "--ticks", "a", "--out", "t.npz"])


def test_results_lists_prints_and_keeps(lbm, tmp_path):
    frame = pd.DataFrame({"method": ["DT"], "score": [3.5]})
    results.record("demo", frame, tier="smoke", dataset="dense", backbone="b", seeds=[0, 1], output=tmp_path)
    code, out, _ = lbm("results", "--tier", "smoke", "--output", str(tmp_path))
    assert code == 0
    assert re.search(r"demo +1 rows +smoke dense", out)
    assert lbm("results", "--output", str(tmp_path))[0] == 1
    assert lbm("results", "--tier", "smoke", "--keep", "--output", str(tmp_path))[0] == 0
    code, out, _ = lbm("results", "demo", "--output", str(tmp_path))
    assert code == 0
    assert re.search(r"smoke +\| dense +\| 0 1 +\| DT +\| +3.5", out)


def test_the_installed_command_exits_non_zero():
    command = [sys.executable, "-c", "from lbm_core.cli import main; main()", "reproduce", "--tier", "huge"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "error: unknown TIER 'huge'; choose one of cached, smoke, laptop, gpu, paper\n"


def test_reproduce_prints_a_summary_and_names_what_failed(lbm, tmp_path, write_notebook):
    write_notebook("01_a", "print('wrote results/scores.csv (3 rows)')")
    write_notebook("02_b", "raise ValueError('no budget')")
    code, out, err = lbm("reproduce", "--notebooks", str(tmp_path / "notebooks"), "--output", str(tmp_path / "out"))
    assert code == 1
    assert re.search(r"01_a +\| done +\| .*scores", out)
    assert re.search(r"02_b +\| failed", out)
    assert f"tables and figures are in {os.path.relpath(tmp_path / 'out' / 'results')}\n" in out
    assert re.search(
        r"error: 02_b.ipynb failed at cell \[3\]: ValueError: no budget \(executed copy: .*02_b.ipynb\)", err
    )


def test_a_traffic_that_cannot_be_compiled_is_told(lbm, monkeypatch):
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    code, _, err = lbm("data", "traffic", "--period", "7", "--out", "t.npz")
    assert (code, err.startswith("error: NUMBA_DISABLE_JIT is set: unset it")) == (1, True)

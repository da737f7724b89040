"""The notebook runner: checks before it starts, order, resuming, failing, summary."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from lbm_core.lab.setup import bars
from lbm_core.workshop import notebooks, reproduce
from lbm_core.workshop.execute import execute

WRITE = """from pathlib import Path
import sys
target = Path(OUTPUT_DIR) / "results" / "{name}.csv"
target.parent.mkdir(exist_ok=True)
with target.open("a") as file:
    file.write(f"{{TIER}} {{SET}} {{STEPS}} {{sys.executable}}\\n")
print("wrote results/{name}.csv (1 rows)")"""


def _run(folder: Path, output: Path, *settings: str, only: str = "", tier: str = "smoke", **options) -> pd.DataFrame:
    chosen = notebooks.resolve(notebooks.select(only, folder), settings, tier, str(output))
    return reproduce.reproduce(chosen, output=output, **options)


# --- parameters --------------------------------------------------------------------------------------------------


def test_settings_become_values_of_the_declared_type(tmp_path, write_notebook):
    one = write_notebook("01_a")
    two = write_notebook("02_b", extra='NAME: str = ""\nFAST: bool = False\n')
    chosen = notebooks.resolve([one, two], ["STEPS=20", "RATE=1", "NAME=x=y", "FAST=true", "SEED=3"], "smoke")
    common = {"TIER": "smoke", "SEED": 3}
    assert chosen == {one: {"STEPS": 20, "RATE": 1.0} | common, two: {"NAME": "x=y", "FAST": True} | common}
    assert isinstance(chosen[one]["RATE"], float)


def test_dotted_names_become_overrides_of_the_tier_for_every_notebook(tmp_path, write_notebook):
    paths = [write_notebook("01_a"), write_notebook("02_b", extra="")]
    texts = ["act.steps=50", "act.learning_rate=1e-4", "act.layers=None", "act.backbone=a-name", "STEPS=7"]
    chosen = notebooks.resolve(paths, texts, "smoke")
    expected = {"act.steps": 50, "act.learning_rate": 1e-4, "act.layers": None, "act.backbone": "a-name"}
    assert [values["SET"] for values in chosen.values()] == [expected, expected]
    assert [values.get("STEPS") for values in chosen.values()] == [7, None]
    assert "SET" not in notebooks.resolve(paths, [], "smoke")[paths[0]]
    assert notebooks.tier_fields(["a.b=('x', 'y')", "c='1'", "d=True", "e=Qwen/Q-0.5B"]) == {
        "a.b": ["x", "y"],  # papermill knows no tuple
        "c": "1",
        "d": True,
        "e": "Qwen/Q-0.5B",
    }
    with pytest.raises(ValueError, match="STEPS would be a notebook's parameter"):
        notebooks.tier_fields(["STEPS=1"])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("STEPS", "NAME=VALUE"),
        ("=1", "NAME=VALUE"),
        ("STEPS=1.5", "STEPS is int"),
        ("RATE=fast", "RATE is float"),
        ("STEPPS=1", "no selected notebook has a parameter 'STEPPS'"),
        ("DATASET=medium", "unknown DATASET 'medium'"),
        ("TIER=smoke", "set by --tier"),
        ("SET={}", "set by fields of the tier"),
        ("act.stepps=1", "no setting 'act.stepps'"),
        ("act.steps=5.5", "act.steps: steps of ActConfig should be a valid integer; got 5.5"),
        ("act.steps='5'", "act.steps: steps of ActConfig should be a valid integer; got '5'"),
        ("act.steps=True", "act.steps: steps of ActConfig should be a valid integer; got True"),
        ("act.learning_rate=nan", "act.learning_rate: learning_rate of ActConfig should be a valid number; got 'nan'"),
        ("act.steps={1: 2}", "act.steps: steps of ActConfig should be a valid integer; got '{1: 2}'"),
    ],
)
def test_a_bad_setting_stops_before_anything_runs(tmp_path, setting, message, write_notebook):
    write_notebook("01_a", WRITE.format(name="a"))
    with pytest.raises(ValueError, match=message):
        _run(tmp_path / "notebooks", tmp_path / "out", setting)
    assert not (tmp_path / "out" / "runs").exists()


def test_a_parameter_without_a_type_stops_before_anything_runs(tmp_path, write_notebook):
    path = write_notebook("01_a", extra="STEPS = 3\n")
    with pytest.raises(ValueError, match=r"01_a\.ipynb: STEPS must be declared as one of str, int"):
        notebooks.resolve([path], [], "smoke")


# --- chapters ----------------------------------------------------------------------------------------------------


def test_chapters_are_selected_by_number_or_name_and_ordered(tmp_path, write_notebook):
    for name in ("02_b", "01_a", "05_e", "08_h", "09_i", "scratch"):
        write_notebook(name)
    names = [path.stem for path in notebooks.select(folder=tmp_path / "notebooks")]
    assert names == ["01_a", "02_b", "05_e", "08_h", "09_i"]
    assert [path.stem for path in notebooks.select("5, 01_a.ipynb", tmp_path / "notebooks")] == ["01_a", "05_e"]
    with pytest.raises(ValueError, match="no notebook '7'; there are 01_a"):
        notebooks.select("02,7", tmp_path / "notebooks")
    every = notebooks.select(folder=tmp_path / "notebooks")
    assert [path.stem for path in notebooks.needs(every[2], every)] == ["02_b"]
    assert [path.stem for path in notebooks.needs(every[4], every)] == ["01_a", "02_b", "05_e", "08_h"]


# --- running -----------------------------------------------------------------------------------------------------


@pytest.fixture
def library(tmp_path) -> Path:
    """Stands for lbm_core, so that an edit there in the middle of a test run changes nothing here."""
    path = tmp_path / "library"
    path.mkdir()
    (path / "a.py").write_text("a = 1\n")
    return path


def test_run_skip_rerun_and_summary(tmp_path, library, capsys, write_notebook):
    folder, output = tmp_path / "notebooks", tmp_path / "out"
    first = write_notebook("01_a", WRITE.format(name="a"))
    write_notebook("02_b", WRITE.format(name="b"), extra="STEPS: int = 4\n")

    def go(*settings, **options) -> list[tuple[str, str]]:
        rows = _run(folder, output, *settings, library=library, **options)
        return list(zip(rows["notebook"], rows["status"], strict=True))

    assert go("RATE=0.1") == [("01_a", "done"), ("02_b", "done")]
    assert (output / "results" / "b.csv").read_text() == f"smoke {{}} 4 {sys.executable}\n"
    summary = pd.read_csv(output / "runs" / "smoke" / "summary.csv")
    assert list(summary["tables"]) == ["results/a.csv", "results/b.csv"]
    assert (summary["peak_mib"] > 10).all()
    assert go("RATE=0.1") == [("01_a", "unchanged"), ("02_b", "unchanged")]
    assert (output / "results" / "a.csv").read_text().count("\n") == 1
    assert capsys.readouterr().out.splitlines()[-1] == "02_b: done and unchanged, skipped"
    # 02 does not know RATE: only 01 runs again. A vanished table is made again.
    (output / "results" / "b.csv").unlink()
    assert go() == [("01_a", "done"), ("02_b", "done")]
    assert (output / "results" / "a.csv").read_text().count("\n") == 2
    # Prose may change; code may not, and what builds on it runs again too.
    notebook = nbformat.read(first, as_version=4)
    notebook.cells[0].source += " better said"
    nbformat.write(notebook, first)
    assert go() == [("01_a", "unchanged"), ("02_b", "unchanged")]
    notebook.cells[2].source += "\n1 + 1"
    nbformat.write(notebook, first)
    assert go(only="02") == [("02_b", "done")]
    assert go(only="02") == [("02_b", "unchanged")]
    (library / "a.py").write_text("a = 2\n")
    assert go(only="02") == [("02_b", "done")]
    assert go(only="02", force=True) == [("02_b", "done")]
    assert go("chapter2.guides=['rule', \"oracle\"]", only="02") == [("02_b", "done")]
    assert (
        (output / "results" / "b.csv")
        .read_text()
        .splitlines()[-1]
        .startswith("""smoke {'chapter2.guides': ['rule', 'oracle']} 4""")
    )


def test_the_first_failure_stops_names_the_cell_and_keeps_the_copy(tmp_path, library, write_notebook):
    folder, output = tmp_path / "notebooks", tmp_path / "out"
    write_notebook("01_a", WRITE.format(name="a"), "raise ValueError('no budget\\nleft')")
    write_notebook("02_b", WRITE.format(name="b"))
    rows = _run(folder, output, library=library)
    assert rows["status"].to_list() == ["failed", "not run"]
    assert rows["error"].to_list() == ["cell [4]: ValueError: no budget left", ""]
    executed = nbformat.read(output / "runs" / "smoke" / "01_a.ipynb", as_version=4)
    assert any(output.output_type == "error" for cell in executed.cells for output in cell.get("outputs", []))
    assert not (output / "results" / "b.csv").exists()
    assert pd.read_csv(output / "runs" / "smoke" / "summary.csv")["status"].to_list() == ["failed", "not run"]


@pytest.mark.parametrize(
    ("source", "message"),
    [("import sys; sys.exit(0)", "ended before its last cell"), ("import os; os._exit(3)", "Kernel died")],
)
def test_a_notebook_that_ends_early_has_failed(tmp_path, source, message, write_notebook):
    write_notebook("01_a", source, "print('never')")
    rows = _run(tmp_path / "notebooks", tmp_path / "notebooks")
    assert rows["status"].to_list() == ["failed"]
    assert message in rows["error"].item()


def test_bars_of_stages_reach_the_terminal_and_logs_stay_quiet(tmp_path, write_notebook, monkeypatch, capfd):
    for name in ("LBM_BARS", "SPYDER_LBM", "TQDM_MININTERVAL", "TQDM_NCOLS"):
        monkeypatch.setenv(name, "")  # taken back afterwards
        monkeypatch.delenv(name)
    assert not bars(), "no terminal"
    source = "import time\nfrom tqdm.auto import tqdm\nfor k in tqdm(range(5), desc='a stage'):\n    time.sleep(0.3)"
    outcome = execute(write_notebook("01_a", source), tmp_path / "ran.ipynb", {}, progress=True)
    assert not outcome.error
    assert re.search(r"a stage: +\d+%.*\d/5 \[\d\d:\d\d<\d\d:\d\d", capfd.readouterr().err)
    assert bars(), "as in the kernel, which inherits the environment"


def test_independent_notebooks_run_together(tmp_path, write_notebook):
    meet = (
        "import time\nfrom pathlib import Path\nhere = Path(OUTPUT_DIR)\n(here / '{me}').touch()\n"
        "end = time.monotonic() + 60\nwhile not (here / '{other}').exists():\n"
        "    assert time.monotonic() < end, 'the other one never came'\n    time.sleep(0.05)\n"
    )
    folder, output = tmp_path / "notebooks", tmp_path / "out"
    output.mkdir()
    write_notebook("02_b", meet.format(me="b", other="c"))
    write_notebook("06_c", meet.format(me="c", other="b"))
    assert _run(folder, output, jobs=2)["status"].to_list() == ["done", "done"]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")
def test_a_killed_run_resumes_at_the_killed_notebook(tmp_path, library, write_notebook):
    folder, output = tmp_path / "notebooks", tmp_path / "out"
    write_notebook("01_a", WRITE.format(name="a"))
    hang = "import time\nfrom pathlib import Path\nif not (Path(OUTPUT_DIR) / 'go').exists():\n    time.sleep(600)"
    write_notebook("02_b", hang, WRITE.format(name="b"))
    code = (
        "from pathlib import Path\nfrom lbm_core.workshop import notebooks, reproduce\n"
        f"chosen = notebooks.resolve(notebooks.select(folder=Path({str(folder)!r})), [], 'smoke', {str(output)!r})\n"
        f"reproduce.reproduce(chosen, output={str(output)!r}, library=Path({str(library)!r}))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("02_b: running"):
                break
        time.sleep(1)
        os.kill(process.pid, signal.SIGKILL)
    (output / "go").touch()
    assert _run(folder, output, library=library)["status"].to_list() == ["unchanged", "done"]
    assert (output / "results" / "a.csv").read_text().count("\n") == 1

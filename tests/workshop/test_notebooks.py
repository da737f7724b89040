"""The committed notebooks: stored outputs against a fresh run, and the whole chain in miniature."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from lbm_core import paths
from lbm_core.workshop import notebooks, reproduce
from lbm_core.workshop.execute import execute

ROOT = paths.project_root()
CHAPTERS = notebooks.select()
BY_NAME = [pytest.param(path, id=path.stem) for path in CHAPTERS]
SANITIZE = Path(__file__).with_name("nbval_sanitize.cfg")
DETAILS = re.compile(r"<details>(.*?)</details>", re.DOTALL)
PYTHON_BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)
# Small enough for minutes in all, large enough that every stage has something to work with.
MINIATURE = {
    "data.train_periods": 2,
    "evaluation.advertisers": 2,
    "act.steps": 6,
    "act.layers": 2,
    "critic.steps": 20,
    "gqpo.prompts": 2,
    "gqpo.samples": 2,
    "gqpo.learned": 2,
    "chapter5.probes": 2,
    "dt.steps": 20,
    "dt_q.steps": 3,
    "rl.steps": 6,
    "uscb.steps": 60,
    "diffbid.steps": 4,
    "tuning.trials": 1,
    "ask.max_new_tokens": 24,
    "sft.samples": 2,
    "grpo.steps": 1,
    "grpo.max_new_tokens": 24,
}


def test_the_index_lists_every_chapter_and_every_link_leads_somewhere():
    index = (ROOT / "notebooks" / "README.md").read_text()
    assert re.findall(r"\]\((\d\d_\w+\.ipynb)\)", index) == [path.name for path in CHAPTERS]
    for path in CHAPTERS:
        text = path.read_text()
        for target in re.findall(r"\]\(([\w./]+\.(?:ipynb|md|csv|png))\)", text):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


@pytest.mark.notebook
@pytest.mark.parametrize("notebook", BY_NAME)
def test_stored_outputs_are_what_a_run_gives(notebook):
    """nbval at the stored default, TIER=cached."""
    command = [sys.executable, "-m", "pytest", "--nbval", "--nbval-current-env", "--nbval-sanitize-with", str(SANITIZE)]
    command += ["-p", "no:xdist", "-p", "no:cacheprovider", "-c", str(ROOT / "pyproject.toml"), str(notebook)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def _solutions(notebook: Path) -> list[str]:
    """Python blocks inside the collapsed solutions of a chapter's exercises."""
    cells = nbformat.read(notebook, as_version=4).cells
    folded = [part for cell in cells if cell.cell_type == "markdown" for part in DETAILS.findall(cell.source)]
    return [block for part in folded for block in PYTHON_BLOCK.findall(part)]


@pytest.mark.notebook
@pytest.mark.parametrize("notebook", [pytest.param(path, id=path.stem) for path in CHAPTERS if _solutions(path)])
def test_solutions_run_after_the_chapter(notebook, tmp_path):
    with_solutions = nbformat.read(notebook, as_version=4)
    with_solutions.cells += [nbformat.v4.new_code_cell(block) for block in _solutions(notebook)]
    source = tmp_path / notebook.name
    nbformat.write(with_solutions, source)
    outcome = execute(source, tmp_path / "executed.ipynb", {"OUTPUT_DIR": str(tmp_path / "out")})
    assert outcome.error == ""


@pytest.mark.notebook
@pytest.mark.weights
@pytest.mark.slow
@pytest.mark.timeout(1_800)  # 7 minutes on two idle cores
def test_the_whole_chain_in_miniature(tmp_path, monkeypatch):
    """Every stage computed from nothing: only the backbone's weights come from the cache."""
    fresh = tmp_path / "cache"
    fresh.mkdir()
    for name in ("wheels", "backbones"):  # a download, if one is needed, lands in the lasting cache
        (paths.cache_dir() / name).mkdir(exist_ok=True)
        (fresh / name).symlink_to(paths.cache_dir() / name)
    monkeypatch.setenv("LBM_CACHE", str(fresh))
    output = tmp_path / "out"
    settings = [f"{name}={value}" for name, value in MINIATURE.items()]
    chosen = notebooks.resolve(CHAPTERS, settings, "smoke", str(output))
    made = reproduce.reproduce(chosen, output=output)
    assert set(made["status"]) == {"done"}, made["error"].max()
    for line in made.itertuples():
        # Chapter 0 shows what is committed.
        assert bool(line.tables) == (line.notebook[:2] != "00"), f"{line.notebook} recorded {line.tables}"
        for name in line.tables:
            rows = pd.read_csv(output / name)
            assert len(rows) > 0
            assert (rows["tier"] == "smoke").all()
        for name in line.figures:
            assert (output / name).stat().st_size > 1000
            assert (output / name).with_suffix(".svg").is_file()
    assert set(reproduce.reproduce(chosen, output=output)["status"]) == {"unchanged"}
    shutil.rmtree(fresh)  # hundreds of MB of checkpoints; kept only where the test fails

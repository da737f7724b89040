"""The tool for committed notebooks: what it stores, what it cleans, and what it finds."""

from __future__ import annotations

import base64
import io
import subprocess
import sys

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

import notebooks
from lbm_core.workshop.notebooks import select


@pytest.mark.parametrize("notebook", [pytest.param(path, id=path.stem) for path in select()])
def test_the_committed_notebooks_keep_the_rules(notebook):
    assert notebooks.lint(notebook) == []


def test_store_runs_at_the_defaults_and_leaves_no_trace_of_the_run(tmp_path, write_notebook):
    path = write_notebook("01_a", "print(TIER)")
    outcome = notebooks.store(path)
    assert outcome.error == ""
    notebook = nbformat.read(path, as_version=4)
    assert notebook.cells[2].outputs[0].text == "cached\n"
    assert [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"] == [1, 2]
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert [cell.id for cell in notebook.cells] == ["cell-01", "cell-02", "cell-03"]
    assert notebooks.strip(path) is False
    notebook.cells[2].source = "1 / 0"
    nbformat.write(notebook, path)
    before = path.read_bytes()
    assert "ZeroDivisionError" in notebooks.store(path).error
    assert path.read_bytes() == before


def test_strip_drops_what_papermill_put_in(tmp_path, write_notebook):
    path = write_notebook("01_a", "1")
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.insert(2, new_code_cell("SEED = 3", metadata={"tags": ["injected-parameters"]}))
    notebook.metadata["papermill"] = {"duration": 1.0}
    notebook.cells[1].metadata["papermill"] = {"duration": 1.0}
    nbformat.write(notebook, path)
    assert notebooks.strip(path) is True
    text = path.read_text()
    assert "papermill" not in text
    assert "SEED = 3" not in text
    assert '"parameters"' in text


def _check(path) -> None:
    notebooks.check_parameters(nbformat.read(path, as_version=4))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("STEPS = 3", "NAME: type = literal"),
        ("STEPS: int = 1 + 2", "plain literal"),
        ("STEPS: int = len('a')", "plain literal"),
        ("STEPS: int = 'a'", "its default is not"),
        ("STEPS: int = True", "its default is not"),
        ("STEPS: dict = {'a': {}}", "its default is not"),
        ("STEPS: dict = {1: 2}", "its default is not"),
        ("STEPS: dict = {'a': len('a')}", "plain literal"),
        ("STEPS: list = []", "one of the types"),
        ("steps: int = 1", "upper-case"),
        ("STEPS: int = 1\nSTEPS: int = 2", "twice"),
        ("import os", "NAME: type = literal"),
        ("STEPS: int =", "invalid syntax"),
    ],
)
def test_parameter_cells_hold_typed_literals_only(tmp_path, line, message, write_notebook):
    path = write_notebook("01_a", extra=line)
    with pytest.raises(ValueError, match=message):
        _check(path)


def test_a_dict_holds_literals_and_lists_of_them(tmp_path, write_notebook):
    path = write_notebook("01_a", extra="MORE: dict = {'a.b': 1, 'c': None, 'd': [1.5, 'x'], 'e': True}")
    assert _check(path) is None


def test_required_parameters_are_required(tmp_path, write_notebook):
    path = write_notebook("01_a")
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[1].source = notebook.cells[1].source.replace("SEED: int = 0", "SEED: int = 7")
    nbformat.write(notebook, path)
    with pytest.raises(ValueError, match="must hold SEED: int = 0"):
        _check(path)


def _good() -> nbformat.NotebookNode:
    parameters = "".join(f"{name}: {type(value).__name__} = {value!r}\n" for name, value in notebooks.REQUIRED.items())
    sections = "\n\ntext\n\n".join(f"## {name}" for name in notebooks.SECTIONS)
    code = new_code_cell("print(1)", execution_count=2, outputs=[new_output("stream", text="1\n")])
    cells = [
        new_markdown_cell("# 1 · Data: what?\n[index](README.md) · [02](02_b.ipynb), and/or https://a.org/b/c"),
        new_code_cell(parameters, execution_count=1, metadata={"tags": ["parameters"]}),
        new_markdown_cell(sections),
        code,
    ]
    return notebooks.cleaned(new_notebook(cells=cells))


def _lint(tmp_path, notebook) -> list[str]:
    path = tmp_path / "01_a.ipynb"
    nbformat.write(notebook, path)
    return notebooks.lint(path)


def test_a_good_notebook_passes(tmp_path):
    assert _lint(tmp_path, _good()) == []


def _spoil(what: str) -> nbformat.NotebookNode:
    notebook = _good()
    cells = notebook.cells
    if what == "execution counts":
        cells[3].execution_count = 5
    elif what == "no stored outputs":
        cells[3].outputs = []
    elif what == "0 cells tagged":
        cells[1].metadata = {}
    elif what == "2 cells tagged":
        cells[3].metadata = {"tags": ["parameters"]}
    elif what == "plain literal":
        cells[1].source += "A: int = len('a')\n"
    elif what == "must hold TIER":
        cells[1].source = cells[1].source.replace("cached", "smoke")
    elif what == "shows 0 pictures":
        cells[3].outputs[0].text = "wrote figures/a.png and .svg\n"
    elif what == "kernelspec":
        notebook.metadata["kernelspec"]["name"] = "my-env"
    elif what == "left metadata":
        cells[3].metadata["papermill"] = {}
    elif what == "bytes":
        cells[3].outputs[0].text = "x" * 300_001
    elif what == "absolute path":
        cells[3].outputs[0].text = "saved in " + "/".join(["", "home", "someone", "results.csv"])
    elif what == "memory address":
        cells[3].outputs[0].text = "<object at 0x7f0123456789>"
    elif what == "stored error":
        cells[3].outputs = [new_output("error", ename="ValueError", evalue="x", traceback=[])]
    elif what == "shell":
        cells[3].source = "!ls"
    elif what == "magic":
        cells[3].source = "%timeit 1"
    elif what == "title":
        cells[0].source = cells[0].source.replace("# 1 · ", "# ")
    elif what == "index":
        cells[0].source = "# 1 · Data"
    elif what == "'## Takeaways' is missing":
        cells[2].source = cells[2].source.replace("## Takeaways", "Takeaways")
    elif what == "in the order":
        cells[2].source = cells[2].source.replace("## Goals", "## x").replace("## Try next", "## Try next\n## Goals")
    elif what == "empty":
        cells.append(new_markdown_cell(" ", id="cell-05"))
    elif what == "not 4.5":
        for cell in cells:
            del cell["id"]
        notebook.nbformat_minor = 4
    return notebook


@pytest.mark.parametrize(
    "what",
    [
        "execution counts",
        "no stored outputs",
        "0 cells tagged",
        "2 cells tagged",
        "plain literal",
        "must hold TIER",
        "shows 0 pictures",
        "kernelspec",
        "left metadata",
        "bytes",
        "absolute path",
        "memory address",
        "stored error",
        "shell",
        "magic",
        "title",
        "index",
        "'## Takeaways' is missing",
        "in the order",
        "empty",
        "not 4.5",
    ],
)
def test_lint_finds(tmp_path, what):
    found = _lint(tmp_path, _spoil(what))
    assert any(what in sentence for sentence in found), found
    assert all(sentence.startswith("01_a.ipynb: ") for sentence in found)


def test_stored_pictures_have_a_palette():
    rng = np.random.default_rng(0)
    buffer = io.BytesIO()
    colours = rng.integers(0, 255, (6, 4), dtype=np.uint8) | np.array([0, 0, 0, 255], dtype=np.uint8)
    picture = np.repeat(np.repeat(colours[rng.integers(6, size=(20, 20))], 8, axis=0), 8, axis=1)
    Image.fromarray(picture, "RGBA").save(buffer, "png")
    encoded = base64.b64encode(buffer.getvalue()).decode()
    output = new_output("display_data", {"image/png": encoded, "text/plain": "a picture"})
    notebook = notebooks.with_palettes(new_notebook(cells=[new_code_cell("x", outputs=[output])]))
    once = notebook.cells[0].outputs[0].data["image/png"]
    stored = Image.open(io.BytesIO(base64.b64decode(once)))
    assert stored.mode == "P"
    assert np.abs(np.asarray(stored.convert("RGB"), dtype=int) - picture[:, :, :3]).max() < 16
    assert notebooks.with_palettes(notebook).cells[0].outputs[0].data["image/png"] == once


def _tool(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, notebooks.__file__, *arguments], capture_output=True, text=True)


@pytest.mark.parametrize("command", [[], ["lint"], ["strip"], ["store"]])
def test_every_command_has_help(command):
    assert "Usage: notebooks.py" in " ".join(_tool(*command, "--help").stdout.split())


def test_commands_check_clean_and_end_in_one_sentence(tmp_path):
    path = tmp_path / "01_a.ipynb"
    nbformat.write(_good(), path)
    assert _tool("lint", str(path)).stdout == "1 notebooks, nothing found\n"
    nbformat.write(_spoil("left metadata"), path)
    found = _tool("lint", str(path))
    assert found.returncode == 1
    assert "run 'python scripts/notebooks.py strip'" in found.stdout
    assert found.stderr == "error: 1 findings in 1 notebooks\n"
    assert [_tool("strip", str(path)).stdout for _ in range(2)] == [
        "01_a.ipynb: cleaned\n",
        "01_a.ipynb: already clean\n",
    ]
    assert _tool("lint", "no.ipynb").returncode == 2

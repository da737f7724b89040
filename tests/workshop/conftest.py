"""The ``lbm`` command inside the process, and small notebooks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from lbm_core import cli
from lbm_core.workshop.execute import cleaned

PARAMETERS = 'TIER: str = "cached"\nDATASET: str = "dense"\nSEED: int = 0\nOUTPUT_DIR: str = ""\nSET: dict = {}\n'


@pytest.fixture
def lbm(capsys) -> Callable[..., tuple[int, str, str]]:
    """Run ``lbm`` with some arguments: exit status, what it printed, what it said on stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        try:
            cli.main(list(arguments))
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def write_notebook(tmp_path) -> Callable[..., Path]:
    """Write ``notebooks/NAME.ipynb`` with some code cells below its parameters."""

    def write(name: str, *sources: str, extra: str = "STEPS: int = 0\nRATE: float = 0.5\n") -> Path:
        cells = [new_markdown_cell(f"# {name}"), new_code_cell(PARAMETERS + extra, metadata={"tags": ["parameters"]})]
        path = tmp_path / "notebooks" / f"{name}.ipynb"
        path.parent.mkdir(exist_ok=True)
        nbformat.write(cleaned(new_notebook(cells=[*cells, *map(new_code_cell, sources)])), path)
        return path

    return write

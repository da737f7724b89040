"""Notebooks of a few cells."""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

import notebooks

PARAMETERS = 'TIER: str = "cached"\nDATASET: str = "dense"\nSEED: int = 0\nOUTPUT_DIR: str = ""\nSET: dict = {}\n'


def write(folder: Path, name: str, *sources: str, extra: str = "STEPS: int = 0\nRATE: float = 0.5\n") -> Path:
    """Write ``notebooks/NAME.ipynb`` with some code cells below its parameters."""
    cells = [new_markdown_cell(f"# {name}"), new_code_cell(PARAMETERS + extra, metadata={"tags": ["parameters"]})]
    path = folder / "notebooks" / f"{name}.ipynb"
    path.parent.mkdir(exist_ok=True)
    nbformat.write(notebooks.cleaned(new_notebook(cells=[*cells, *map(new_code_cell, sources)])), path)
    return path

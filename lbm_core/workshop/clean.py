"""What is committed of a notebook: its cells, its outputs at ``TIER=cached``, and no trace of who ran it when."""

from __future__ import annotations

import base64
import io
import tempfile
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from PIL import Image

from lbm_core.files import writing_file
from lbm_core.workshop.execute import Outcome, execute

KERNELSPEC = {"display_name": "Python 3", "language": "python", "name": "python3"}
# papermill puts these cells in: the parameters of a run, and a note above a failed cell.
_INSERTED = {"injected-parameters", "papermill-error-cell-tag"}


def cleaned(notebook: NotebookNode) -> NotebookNode:
    """A notebook with normal metadata, cells numbered in order, tags and outputs kept, nothing else."""
    cells: list[NotebookNode] = []
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if _INSERTED & set(tags):
            continue
        cell = nbformat.from_dict(
            cell | {"metadata": {"tags": tags} if tags else {}, "id": f"cell-{len(cells) + 1:02d}"}
        )
        for output in cell.get("outputs", []):
            if "metadata" in output:
                output.metadata = NotebookNode()
        cells.append(cell)
    metadata = {"kernelspec": KERNELSPEC, "language_info": {"name": "python"}}
    return nbformat.from_dict({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5})


def with_palettes(notebook: NotebookNode) -> NotebookNode:
    """The notebook with its PNG outputs reduced to 256 colours: a third of the size, no difference that one sees."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = _palette(output.data["image/png"])
    return notebook


def _palette(encoded: str) -> str:
    picture = Image.open(io.BytesIO(base64.b64decode(encoded)))
    if picture.mode == "P":
        return encoded
    buffer = io.BytesIO()
    reduced = picture.convert("RGB").quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    reduced.save(buffer, "png", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def _write(notebook: NotebookNode, path: Path) -> bool:
    """Write a notebook file; True if it changed."""
    text = nbformat.writes(notebook).rstrip("\n") + "\n"
    if text == path.read_text():
        return False
    with writing_file(path) as temporary:
        temporary.write_text(text)
    return True


def strip(path: Path) -> bool:
    """Clean a notebook file in place; True if it changed."""
    return _write(cleaned(nbformat.read(path, as_version=4)), path)


def store(path: Path) -> Outcome:
    """Run a notebook with its defaults (``TIER=cached``) and keep the outputs in the file; unchanged if it fails."""
    with tempfile.TemporaryDirectory() as folder:
        executed = Path(folder) / path.name
        outcome = execute(path, executed, {})
        if not outcome.error:
            _write(with_palettes(cleaned(nbformat.read(executed, as_version=4))), path)
    return outcome

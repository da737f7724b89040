"""One notebook through papermill in a fresh kernel of this Python, with its time and peak memory."""

from __future__ import annotations

import base64
import contextlib
import io
import re
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import papermill
import psutil
from ipykernel.kernelspec import get_kernel_dict
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec
from nbclient.exceptions import DeadKernelError
from nbformat import NotebookNode
from papermill.exceptions import PapermillExecutionError
from PIL import Image

from lbm_core.files import writing_file

KERNELSPEC = {"display_name": "Python 3", "language": "python", "name": "python3"}
_INSERTED = {"injected-parameters", "papermill-error-cell-tag"}  # tags of cells that papermill puts in


class ThisPythonKernelManager(AsyncKernelManager):
    """Starts kernels of the running interpreter, whatever kernels the user's Jupyter knows as ``python3``."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(transport_encryption="auto", **settings)  # else every kernel warns about plain TCP

    @property
    def kernel_spec(self) -> KernelSpec:
        return KernelSpec(**get_kernel_dict())


@dataclass(frozen=True)
class Outcome:
    """How a notebook's run ended."""

    seconds: float = 0.0  # wall-clock time
    peak_mib: float = 0.0  # highest resident memory of the kernel and its children
    tables: tuple[str, ...] = ()  # .csv files that its cells report as written, relative to the output folder
    figures: tuple[str, ...] = ()  # .png files, likewise
    error: str = ""  # one sentence with the cell and the cause


def execute(notebook: Path, executed: Path, parameters: dict[str, Any], *, progress: bool = False) -> Outcome:
    """Run a notebook in its folder from top to bottom and keep the executed copy, also when a cell fails.

    The parameters have been checked; ``progress`` draws a bar of the cells on stderr.
    """
    executed.parent.mkdir(parents=True, exist_ok=True)
    started, problem = time.monotonic(), ""
    with _peak_memory() as peak:
        try:
            papermill.execute_notebook(
                notebook,
                executed,
                parameters=parameters,
                cwd=notebook.parent,
                kernel_name="python3",
                progress_bar={"desc": notebook.stem, "leave": False, "file": sys.stderr} if progress else False,
                kernel_manager_class=ThisPythonKernelManager,
                coalesce_streams=True,
            )
        except PapermillExecutionError as error:
            problem = f"cell [{error.exec_count}]: {error.ename}: {' '.join(str(error.evalue).split())}"
        except DeadKernelError:
            problem = "the kernel died (killed for memory?)"
    cells = nbformat.read(executed, as_version=4).cells
    code = [cell for cell in cells if cell.cell_type == "code" and cell.source.strip()]
    done = sum(cell.execution_count is not None for cell in code)
    if done < len(code) and not problem.startswith("cell"):
        problem = f"cell [{done + 1}]: {problem or 'it ended before its last cell (a cell calls sys.exit)'}"
    printed = "\n".join(output.text for cell in code for output in cell.outputs if output.get("name") == "stdout")
    tables, figures = (
        tuple(dict.fromkeys(re.findall(rf"^wrote (\S+\.{kind})", printed, re.MULTILINE))) for kind in ("csv", "png")
    )
    return Outcome(round(time.monotonic() - started, 1), round(peak[0]), tables, figures, problem)


@contextlib.contextmanager
def _peak_memory() -> Iterator[list[float]]:
    """Highest resident memory (MiB) of this process's children, in a list of one."""
    peak, ended = [0.0], threading.Event()

    def sample() -> None:
        while not ended.wait(0.2):
            total = 0
            for child in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):  # it ended between the two calls
                    total += child.memory_info().rss
            peak[0] = max(peak[0], total / 2**20)

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        ended.set()
        thread.join()


def cleaned(notebook: NotebookNode) -> NotebookNode:
    """A notebook with normal metadata, cells numbered in order, tags and outputs kept, nothing else."""
    kept = [cell for cell in notebook.cells if not _INSERTED & set(cell.metadata.get("tags", []))]
    for k, cell in enumerate(kept, 1):
        cell.metadata = NotebookNode({name: tags for name, tags in cell.metadata.items() if name == "tags" and tags})
        cell.id = f"cell-{k:02d}"
        for output in cell.get("outputs", []):
            if "metadata" in output:
                output.metadata = NotebookNode()
    metadata = {"kernelspec": KERNELSPEC, "language_info": {"name": "python"}}
    return nbformat.from_dict({"cells": kept, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5})


def with_palettes(notebook: NotebookNode) -> NotebookNode:
    """The notebook with its PNG outputs reduced to 256 colours: a third of the size, no difference that one sees."""
    outputs = [output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", [])]
    for data in (data for data in outputs if "image/png" in data):
        picture, buffer = Image.open(io.BytesIO(base64.b64decode(data["image/png"]))), io.BytesIO()
        if picture.mode != "P":
            reduced = picture.convert("RGB").quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
            reduced.save(buffer, "png", optimize=True)
            data["image/png"] = base64.b64encode(buffer.getvalue()).decode()
    return notebook


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

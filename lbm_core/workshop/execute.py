"""One notebook through papermill in a fresh kernel of this Python, with its time and peak memory."""

from __future__ import annotations

import re
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import papermill
import psutil
from ipykernel.kernelspec import get_kernel_dict
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from lbm_core.workshop.parameters import Value

_WROTE = re.compile(r"^wrote (\S+\.(?:csv|png))", re.MULTILINE)


class ThisPythonKernelManager(AsyncKernelManager):
    """Starts kernels of the running interpreter, whatever kernels the user's Jupyter knows as ``python3``."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(transport_encryption="auto", **settings)  # else every kernel warns about plain TCP

    @property
    def kernel_spec(self) -> KernelSpec:
        return KernelSpec(**get_kernel_dict())


@dataclass(frozen=True)
class Outcome:
    """How a notebook's run ended.

    Attributes
    ----------
    seconds : wall-clock time
    peak_mib : highest resident memory of the kernel and its children, MiB
    written : tables (.csv) and figures (.png) that its cells report as written, relative to the output folder
    error : "" or one sentence with the cell and the cause
    """

    seconds: float
    peak_mib: float
    written: list[str] = field(default_factory=list)
    error: str = ""


def execute(notebook: Path, executed: Path, parameters: dict[str, Value], *, progress: bool = False) -> Outcome:
    """Run a notebook from top to bottom and keep the executed copy, also when a cell fails.

    Parameters
    ----------
    notebook : source; its folder is the kernel's working directory
    executed : where the executed copy goes
    parameters : values for the parameters cell, already checked
    progress : whether to draw a bar of its cells on stderr
    """
    executed.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with _PeakMemory() as memory:
        error = _run(notebook, executed, parameters, progress)
    cells = nbformat.read(executed, as_version=4).cells
    code = [cell for cell in cells if cell.cell_type == "code" and cell.source.strip()]
    if not error and any(cell.execution_count is None for cell in code):
        error = "it ended before its last cell (a cell calls sys.exit)"
    written = [name for cell in code for text in _streams(cell) for name in _WROTE.findall(text)]
    return Outcome(time.monotonic() - started, memory.peak_mib, list(dict.fromkeys(written)), error)


def _run(notebook: Path, executed: Path, parameters: dict[str, Value], progress: bool) -> str:
    bar = {"desc": notebook.stem, "leave": False, "file": sys.stderr} if progress else False
    try:
        papermill.execute_notebook(
            notebook,
            executed,
            parameters=parameters,
            cwd=notebook.parent,
            kernel_name="python3",
            progress_bar=bar,
            kernel_manager_class=ThisPythonKernelManager,
            coalesce_streams=True,
        )
    except PapermillExecutionError as failure:
        value = " ".join(str(failure.evalue).split())
        return f"cell [{failure.exec_count}]: {failure.ename}: {value}"
    except DeadKernelError:
        return f"cell [{_cells_done(executed) + 1}]: the kernel died (killed for memory?)"
    return ""


def _cells_done(executed: Path) -> int:
    cells = nbformat.read(executed, as_version=4).cells
    return sum(cell.cell_type == "code" and cell.execution_count is not None for cell in cells)


def _streams(cell: nbformat.NotebookNode) -> list[str]:
    return [output.text for output in cell.outputs if output.output_type == "stream" and output.name == "stdout"]


class _PeakMemory:
    """Samples the resident memory of this process's children (the kernel and what it starts)."""

    def __init__(self, interval: float = 0.2) -> None:
        self.peak_mib = 0.0
        self._interval = interval
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> _PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        me = psutil.Process()
        while not self._stop.wait(self._interval):
            total = 0
            for child in me.children(recursive=True):
                try:
                    total += child.memory_info().rss
                except psutil.NoSuchProcess:  # it ended between the two calls
                    continue
            self.peak_mib = max(self.peak_mib, total / 2**20)

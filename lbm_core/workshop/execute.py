"""One notebook through papermill in a fresh kernel of this Python, with its time and peak memory."""

from __future__ import annotations

import contextlib
import re
import sys
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
from papermill.exceptions import PapermillExecutionError

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
    written: list[str]
    error: str


def execute(notebook: Path, executed: Path, parameters: dict[str, Any], *, progress: bool = False) -> Outcome:
    """Run a notebook from top to bottom and keep the executed copy, also when a cell fails.

    Parameters
    ----------
    notebook : source; its folder is the kernel's working directory
    executed : where the executed copy goes
    parameters : values for the parameters cell, already checked
    progress : whether to draw a bar of its cells on stderr
    """
    executed.parent.mkdir(parents=True, exist_ok=True)
    started, failure = time.monotonic(), None
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
        except (PapermillExecutionError, DeadKernelError) as error:
            failure = error
    cells = nbformat.read(executed, as_version=4).cells
    code = [cell for cell in cells if cell.cell_type == "code" and cell.source.strip()]
    done = sum(cell.execution_count is not None for cell in code)
    problem = ""
    if isinstance(failure, PapermillExecutionError):
        problem = f"cell [{failure.exec_count}]: {failure.ename}: {' '.join(str(failure.evalue).split())}"
    elif failure is not None:
        problem = f"cell [{done + 1}]: the kernel died (killed for memory?)"
    elif done < len(code):
        problem = "it ended before its last cell (a cell calls sys.exit)"
    printed = [output.text for cell in code for output in cell.outputs if output.get("name") == "stdout"]
    written = list(dict.fromkeys(name for text in printed for name in _WROTE.findall(text)))
    return Outcome(time.monotonic() - started, peak[0], written, problem)


@contextlib.contextmanager
def _peak_memory() -> Iterator[list[float]]:
    """Highest resident memory (MiB) of this process's children, the kernel and what it starts, in a list of one."""
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

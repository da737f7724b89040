"""One notebook through papermill in a fresh kernel of this Python, with its time and peak memory."""

import contextlib
import errno
import os
import re
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import nbformat
import papermill
import psutil
from ipykernel.kernelspec import get_kernel_dict
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec
from papermill.exceptions import PapermillExecutionError

from lbm_core import paths
from lbm_core.files import writing_file
from lbm_core.workshop.notebooks import verbatim

# What a chapter shows must not depend on the shell that it is run from.
_ENVIRONMENT = {
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",  # any other keeps pictures out of the notebook
    "MATPLOTLIBRC": str(Path(matplotlib.get_data_path()) / "matplotlibrc"),
    **{"PYTHONHASHSEED": "0", "PYTHONOPTIMIZE": "", "PYTHONSTARTUP": "", "PYTHONUTF8": "1"},
    **{"NUMBA_DISABLE_JIT": "0", "TZ": "UTC"},
}


class ThisPythonKernelManager(AsyncKernelManager):
    """Starts kernels of the running interpreter, whatever kernels the user's Jupyter knows as ``python3``."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(transport_encryption="auto", **settings)  # else every kernel warns about plain TCP
        self._profile = tempfile.TemporaryDirectory()  # an IPython without the user's startup files and settings

    @property
    def kernel_spec(self) -> KernelSpec:
        return KernelSpec(**get_kernel_dict(), env=_ENVIRONMENT | {"IPYTHONDIR": self._profile.name})


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

    The parameters have been checked; ``progress`` draws a bar of the cells on stderr, and one of the stage at work.
    """
    os.environ["LBM_CACHE"] = str(paths.cache_dir())  # a relative one would begin at the kernel's folder
    bar = {"desc": notebook.stem, "leave": False, "file": sys.stderr} if progress else False
    kernel: dict[str, Any] = {"kernel_name": "python3", "kernel_manager_class": ThisPythonKernelManager}
    kernel |= {"cwd": notebook.parent, "coalesce_streams": True, "start_timeout": 600}
    if progress:  # the kernel's bars are text (tqdm: with SPYDER… set), which papermill hands on, an update a second
        columns = shutil.get_terminal_size().columns - 1
        os.environ |= {"LBM_BARS": "1", "SPYDER_LBM": "1", "TQDM_MININTERVAL": "1", "TQDM_NCOLS": str(columns)}
        kernel["stderr_file"] = sys.stderr
    started, problem = time.monotonic(), ""
    with _peak_memory() as peak, writing_file(executed) as copy:
        try:
            papermill.execute_notebook(verbatim(notebook), verbatim(copy), parameters, progress_bar=bar, **kernel)
        except PapermillExecutionError as error:
            problem = f"cell [{error.exec_count}]: {error.ename}: {' '.join(str(error.evalue).split())}"
        except Exception as error:  # whatever keeps a kernel from running, or ends it; but not a full disk
            if getattr(error, "errno", 0) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            problem = f"the kernel stopped: {type(error).__name__}: {error} (memory? file handles, 'ulimit -n'?)"
    cells = nbformat.read(executed, as_version=4).cells
    code = [cell for cell in cells if cell.cell_type == "code" and cell.source.strip()]
    if problem.endswith(": "):  # the kernel could not even say why: its last words are on stderr
        said = [output.text for cell in code for output in cell.outputs if output.get("name") == "stderr"]
        problem += " ".join("".join(said).split("\n")[-3:]).strip() or "no reason given"
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

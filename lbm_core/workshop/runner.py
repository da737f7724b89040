"""``lbm reproduce``: the notebooks in order, resumable, with a summary of what was made and what it took."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import sys
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd

from lbm_core import paths
from lbm_core.files import writing_file
from lbm_core.workshop.execute import Outcome, execute
from lbm_core.workshop.notebooks import needs, select


def reproduce(
    parameters: Mapping[Path, dict[str, Any]],
    *,
    output: str | Path = "",
    jobs: int = 1,
    force: bool = False,
    library: Path = paths.PACKAGE,
) -> pd.DataFrame:
    """Execute notebooks and keep the executed copies under ``runs/<tier>/``.

    A notebook is skipped when its last run finished with the same code, parameters, library, and code of the notebooks
    that it builds on, and everything it wrote still exists. After the first failure none begins any more.

    Parameters
    ----------
    parameters : notebooks in order, and what each is run with (:func:`lbm_core.workshop.notebooks.resolve`)
    output : folder for results, figures and runs; default the checkout
    jobs : notebooks at a time; only those that do not build on each other run together
    force : run also what is done and unchanged
    library : folder of the code that the notebooks import

    Returns
    -------
    One row per notebook, also written to ``runs/<tier>/summary.csv``: notebook, status ("done" now, "unchanged" since
    an earlier run, "failed", or "not run" because another one failed), and the columns of
    :class:`~lbm_core.workshop.execute.Outcome`, those of the last execution.
    """
    folder = Path(output).resolve() if output else paths.project_root()
    keys = _keys(parameters, library)
    runs = {path: _Run(path, values, folder, keys[path]) for path, values in parameters.items()}
    _schedule(runs, jobs, force)
    rows = pd.DataFrame([run.row for run in runs.values()])
    with writing_file(next(iter(runs.values())).executed.with_name("summary.csv")) as temporary:
        joined = {name: rows[name].map(" ".join) for name in ("tables", "figures")}
        rows.assign(**joined).to_csv(temporary, index=False, lineterminator="\n")
    return rows


@dataclass
class _Run:
    """One notebook's run, and what is kept of it."""

    notebook: Path
    parameters: dict[str, Any]
    output: Path
    key: str
    status: str = "not run"
    outcome: Outcome = field(default_factory=Outcome)

    def __post_init__(self) -> None:
        self.executed = self.output / "runs" / self.parameters["TIER"] / self.notebook.name
        self.marker = self.executed.with_suffix(".done.json")

    @property
    def row(self) -> dict[str, Any]:
        return {"notebook": self.notebook.stem, "status": self.status} | asdict(self.outcome)

    def is_done(self) -> bool:
        """Whether a finished run is still valid; its outcome then is this one's."""
        if not self.marker.is_file() or not self.executed.is_file():
            return False
        stored = json.loads(self.marker.read_text())
        outcome = Outcome(**stored["outcome"])
        written = [self.output / name for name in outcome.tables + outcome.figures]
        if stored["key"] != self.key or not all(path.is_file() for path in written):
            return False
        self.status, self.outcome = "unchanged", outcome
        return True

    def finish(self, outcome: Outcome) -> None:
        """Mark the notebook as done or failed."""
        self.status, self.outcome = "failed" if outcome.error else "done", outcome
        if not outcome.error:
            with writing_file(self.marker) as temporary:
                temporary.write_text(json.dumps({"key": self.key, "outcome": asdict(outcome)}, indent=1))


def _schedule(runs: dict[Path, _Run], jobs: int, force: bool) -> None:
    """Run what has to, each notebook after those it builds on."""
    waiting, running, over = list(runs), dict[Future[Outcome], Path](), set[Path]()
    with _Immediately() if jobs == 1 else ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        while waiting or running:
            for path in [path for path in waiting if over.issuperset(needs(path, runs))][: jobs - len(running)]:
                waiting.remove(path)
                run = runs[path]
                if not force and run.is_done():
                    over.add(path)
                    print(f"{path.stem}: done and unchanged, skipped", flush=True)
                    continue
                run.marker.unlink(missing_ok=True)
                print(f"{path.stem}: running ({len(over) + len(running) + 1} of {len(runs)})", flush=True)
                bar = jobs == 1 and sys.stderr.isatty()
                running[pool.submit(execute, path, run.executed, run.parameters, progress=bar)] = path
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                path, outcome = running.pop(future), future.result()
                over.add(path)
                runs[path].finish(outcome)
                if outcome.error:
                    waiting.clear()
                took = f"{outcome.seconds:.0f} s, peak {outcome.peak_mib:.0f} MiB"
                print(f"{path.stem}: {runs[path].status} in {took}", flush=True)


class _Immediately(Executor):
    """Runs a task where it is submitted: one job needs no second process."""

    def submit(self, fn, /, *args, **kwargs):
        future: Future = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def _keys(parameters: Mapping[Path, dict[str, Any]], library: Path) -> dict[Path, str]:
    """What decides a notebook's outcome, hashed: its code and that of what it builds on, parameters, the library."""
    every = select(folder=next(iter(parameters)).parent)
    notebooks = {path: nbformat.read(path, as_version=4) for path in every}
    code = {path: [cell.source for cell in read.cells if cell.cell_type == "code"] for path, read in notebooks.items()}
    files = [path for path in library.rglob("*") if path.suffix in {".py", ".csv", ".json", ".npz"}]
    if next(iter(parameters.values()))["TIER"] == "cached":  # reads the committed results
        files += (paths.project_root() / "results").glob("*.csv")
    shared = [[path.name, hashlib.sha256(path.read_bytes()).hexdigest()] for path in sorted(files)]
    keys = {}
    for path, values in parameters.items():
        plain = json.dumps([shared, values, code[path], [code[other] for other in needs(path, every)]])
        keys[path] = hashlib.sha256(plain.encode()).hexdigest()
    return keys

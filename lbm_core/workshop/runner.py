"""``lbm reproduce``: the notebooks in order, resumable, with a summary of what was made and what it took."""

from __future__ import annotations

import graphlib
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import joblib
import nbformat
import pandas as pd

from lbm_core import paths
from lbm_core.files import config_key, writing_file
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
    runs = {path: _Run(path, values, folder, keys[path], force) for path, values in parameters.items()}
    for wave in _waves(runs):
        begun = (joblib.delayed(run.execute)(progress=jobs == 1) for run in wave if _begins(run, runs))
        for path, outcome in joblib.Parallel(
            jobs, return_as="generator_unordered", pre_dispatch="n_jobs", batch_size=1
        )(begun):
            runs[path].finish(outcome)
    rows = pd.DataFrame(
        [{"notebook": path.stem, "status": run.status} | asdict(run.outcome) for path, run in runs.items()]
    )
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
    force: bool
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
        if self.force or not self.marker.is_file() or not self.executed.is_file():
            return False
        stored = json.loads(self.marker.read_text())
        outcome = Outcome(**stored["outcome"])
        if stored["key"] != self.key or not all(
            (self.output / name).is_file() for name in outcome.tables + outcome.figures
        ):
            return False
        self.status, self.outcome = "unchanged", outcome
        return True

    def execute(self, *, progress: bool) -> tuple[Path, Outcome]:
        """Run the notebook, maybe in another process."""
        bar = progress and sys.stderr.isatty()
        return self.notebook, execute(self.notebook, self.executed, self.parameters, progress=bar)

    def finish(self, outcome: Outcome) -> None:
        """Mark the notebook as done or failed."""
        self.status, self.outcome = "failed" if outcome.error else "done", outcome
        if not outcome.error:
            with writing_file(self.marker) as temporary:
                temporary.write_text(json.dumps({"key": self.key, "outcome": asdict(outcome)}, indent=1))
        took = f"{outcome.seconds:.0f} s, peak {outcome.peak_mib:.0f} MiB"
        print(f"{self.notebook.stem}: {self.status} in {took}", flush=True)


def _waves(runs: dict[Path, _Run]) -> Iterator[list[_Run]]:
    """The runs in groups of notebooks that do not build on each other."""
    order = graphlib.TopologicalSorter({path: needs(path, runs) for path in runs})
    order.prepare()
    while order.is_active():
        ready = order.get_ready()
        yield [runs[path] for path in sorted(ready)]
        order.done(*ready)


def _begins(run: _Run, runs: dict[Path, _Run]) -> bool:
    """Whether a notebook is to be executed now."""
    if any(other.status == "failed" for other in runs.values()):
        return False
    if run.is_done():
        print(f"{run.notebook.stem}: done and unchanged, skipped", flush=True)
        return False
    run.marker.unlink(missing_ok=True)
    print(f"{run.notebook.stem}: running ({list(runs).index(run.notebook) + 1} of {len(runs)})", flush=True)
    return True


def _keys(parameters: Mapping[Path, dict[str, Any]], library: Path) -> dict[Path, str]:
    """What decides a notebook's outcome, hashed: its code and that of what it builds on, parameters, the library."""
    every = select(folder=next(iter(parameters)).parent)
    notebooks = {path: nbformat.read(path, as_version=4) for path in every}
    code = {path: [cell.source for cell in read.cells if cell.cell_type == "code"] for path, read in notebooks.items()}
    files = [path for path in library.rglob("*") if path.suffix in {".py", ".csv", ".json", ".npz"}]
    if next(iter(parameters.values()))["TIER"] == "cached":  # reads the committed results
        files += (paths.project_root() / "results").glob("*.csv")
    shared = [[path.name, hashlib.sha256(path.read_bytes()).hexdigest()] for path in sorted(files)]
    return {
        path: config_key([shared, values, code[path], [code[other] for other in needs(path, every)]])
        for path, values in parameters.items()
    }

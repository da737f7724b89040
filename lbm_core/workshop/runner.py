"""``lbm reproduce``: the notebooks in order, resumable, with a summary of what was made and what it took."""

from __future__ import annotations

import functools
import hashlib
import json
import multiprocessing
import sys
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from pathlib import Path

import nbformat
import pandas as pd

from lbm_core import paths
from lbm_core.files import writing_file
from lbm_core.workshop.chapters import needs, select
from lbm_core.workshop.execute import Outcome, execute
from lbm_core.workshop.parameters import Value, parse_settings, resolve


@dataclass(frozen=True)
class Line:
    """One notebook of the summary.

    Attributes
    ----------
    status : "done" now, "unchanged" since an earlier run, "failed", or "not run" because another one failed
    seconds, peak_mib : of its (last) execution
    tables, figures : files written, relative to the output folder
    """

    notebook: str
    status: str
    seconds: float = 0.0
    peak_mib: float = 0.0
    tables: list[str] = field(default_factory=list)
    figures: list[str] = field(default_factory=list)


class NotebookFailed(RuntimeError):
    """A notebook stopped; the message says which, in which cell, why, and where the executed copy is."""

    def __init__(self, message: str, lines: list[Line]) -> None:
        super().__init__(message)
        self.lines = lines


def reproduce(
    tier: str,
    *,
    only: str | Iterable[str] = (),
    settings: Iterable[str] = (),
    output: str | Path = "",
    jobs: int = 1,
    force: bool = False,
    notebooks: Path | None = None,
    report: Callable[[str], None] = print,
) -> list[Line]:
    """Execute notebooks at a tier and keep the executed copies under ``runs/<tier>/``.

    A notebook is skipped when its last run finished with the same code, parameters, library, and code of the notebooks
    that it builds on, and everything it wrote still exists.

    Parameters
    ----------
    tier : one of :data:`lbm_core.tiers.TIER_NAMES`
    only : chapters, e.g. "02,05"; default all
    settings : ``NAME=VALUE`` for notebook parameters
    output : folder for results, figures and runs; default the checkout
    jobs : notebooks at a time; only those that do not build on each other run together
    force : run also what is done and unchanged
    notebooks : their folder, default the checkout's
    report : takes one line of progress

    Returns
    -------
    One line per notebook, also written to ``runs/<tier>/summary.csv``.

    Raises
    ------
    ValueError
        Before anything runs: unknown chapter, tier, parameter name or type.
    NotebookFailed
        The first notebook that failed; those that were done stay done.
    """
    if jobs < 1:
        raise ValueError(f"--jobs must be at least 1, got {jobs}")
    chosen = select(only, notebooks)
    asked = parse_settings(settings)
    for name in ("TIER", "OUTPUT_DIR"):
        if name in asked:
            raise ValueError(f"{name} is set by --{'tier' if name == 'TIER' else 'output'}, not by --set")
    folder = Path(output).resolve() if output else paths.project_root()
    common = {"TIER": tier, **({"OUTPUT_DIR": str(folder)} if output else {})}
    parameters = resolve(chosen, common | asked)
    run = _Run(folder / "runs" / tier, folder, _keys(chosen, parameters, tier, notebooks), force)
    lines = _schedule(chosen, parameters, run, jobs, report)
    _write_summary(run.folder / "summary.csv", lines.values())
    ordered = [lines[path] for path in chosen]
    for path in chosen:
        if lines[path].status == "failed":
            raise NotebookFailed(run.errors[path], ordered)
    return ordered


@dataclass
class _Run:
    folder: Path
    output: Path
    keys: dict[Path, str]
    force: bool
    errors: dict[Path, str] = field(default_factory=dict)

    def executed(self, notebook: Path) -> Path:
        return self.folder / notebook.name

    def marker(self, notebook: Path) -> Path:
        return self.folder / f"{notebook.stem}.done.json"

    def earlier(self, notebook: Path) -> Line | None:
        """The line of a finished, still valid run."""
        marker = self.marker(notebook)
        if self.force or not marker.is_file() or not self.executed(notebook).is_file():
            return None
        stored = json.loads(marker.read_text())
        line = Line(**stored["line"])
        whole = all((self.output / name).is_file() for name in line.tables + line.figures)
        return line if stored["key"] == self.keys[notebook] and whole else None

    def finish(self, notebook: Path, outcome: Outcome) -> Line:
        """Mark a notebook as done, or keep its error."""
        tables = [name for name in outcome.written if name.endswith(".csv")]
        figures = [name for name in outcome.written if name.endswith(".png")]
        status = "failed" if outcome.error else "done"
        line = Line(notebook.stem, status, round(outcome.seconds, 1), round(outcome.peak_mib), tables, figures)
        if outcome.error:
            kept = self.executed(notebook)
            self.errors[notebook] = f"{notebook.name} failed at {outcome.error} (executed copy: {_shown(kept)})"
        else:
            stored = {"key": self.keys[notebook], "line": asdict(line) | {"status": "unchanged"}}
            with writing_file(self.marker(notebook)) as temporary:
                temporary.write_text(json.dumps(stored, indent=1))
        return line


def _schedule(
    chosen: list[Path], parameters: dict[Path, dict[str, Value]], run: _Run, jobs: int, report: Callable[[str], None]
) -> dict[Path, Line]:
    lines: dict[Path, Line] = {}
    waiting = list(chosen)
    running: dict[Future[Outcome], Path] = {}
    with _executor(jobs) as pool:
        while waiting or running:
            stopped = any(line.status == "failed" for line in lines.values())
            for path in list(waiting):
                if stopped:
                    lines[path] = Line(path.stem, "not run")
                    waiting.remove(path)
                elif len(running) < jobs and all(other in lines for other in needs(path, chosen)):
                    waiting.remove(path)
                    if (earlier := run.earlier(path)) is not None:
                        lines[path] = earlier
                        report(f"{path.stem}: done and unchanged, skipped")
                        continue
                    run.marker(path).unlink(missing_ok=True)
                    report(f"{path.stem}: running ({len(lines) + len(running) + 1} of {len(chosen)})")
                    bar = jobs == 1 and sys.stderr.isatty()
                    task = functools.partial(execute, path, run.executed(path), parameters[path], progress=bar)
                    running[pool.submit(task)] = path
            if not running:
                continue
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                path = running.pop(future)
                line = lines[path] = run.finish(path, future.result())
                report(f"{path.stem}: {line.status} in {line.seconds:.0f} s, peak {line.peak_mib:.0f} MiB")
    return lines


class _Immediately(Executor):
    """Runs a task where it is submitted: one job needs no second process."""

    def submit(self, fn, /, *args, **kwargs):
        future: Future = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def _executor(jobs: int) -> Executor:
    if jobs == 1:
        return _Immediately()
    return ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"))


def _keys(
    chosen: list[Path], parameters: Mapping[Path, dict[str, Value]], tier: str, notebooks: Path | None
) -> dict[Path, str]:
    """What decides a notebook's outcome, hashed: its code and that of what it builds on, parameters, the library."""
    every = select("", notebooks)
    code = {
        path: [c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"] for path in every
    }
    shared = _digest(_library_files())
    if tier == "cached":  # reads the committed results
        shared += _digest(sorted((paths.project_root() / "results").glob("*.csv")))
    keys = {}
    for path in chosen:
        below = [code[other] for other in needs(path, every)]
        plain = json.dumps([shared, parameters[path], code[path], below], sort_keys=True)
        keys[path] = hashlib.sha256(plain.encode()).hexdigest()
    return keys


def _library_files() -> list[Path]:
    kinds = {".py", ".csv", ".json", ".npz"}
    return sorted(path for path in paths.PACKAGE.rglob("*") if path.suffix in kinds)


def _digest(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _write_summary(target: Path, lines: Iterable[Line]) -> None:
    rows = pd.DataFrame([asdict(line) for line in lines]).sort_values("notebook")
    for name in ("tables", "figures"):
        rows[name] = rows[name].map(" ".join)
    with writing_file(target) as temporary:
        rows.to_csv(temporary, index=False, lineterminator="\n")


def _shown(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)

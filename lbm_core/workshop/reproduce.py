"""``lbm reproduce``: the notebooks in order, resumable, with a summary of what was made and what it took."""

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from graphlib import TopologicalSorter
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
    """Execute notebooks and keep the executed copies under ``runs/<tier>/`` of the output folder (or the checkout).

    Unless forced, a notebook is skipped when its last run finished with the same code, parameters (of
    :func:`~lbm_core.workshop.notebooks.resolve`), ``library`` that it imports, and code of the notebooks that it builds
    on, and everything it wrote still exists. Of ``jobs`` at a time none builds on another; after a failure none begins.

    One row per notebook, also written to ``runs/<tier>/summary.csv``: notebook, status ("done" now, "unchanged" since
    an earlier run, "failed", or "not run" because another one failed), and the last execution's outcome.
    """
    folder = paths.whole(output) if output else paths.project_root()
    keys = _keys(parameters, library)
    copies = {path: folder / "runs" / values["TIER"] / path.name for path, values in parameters.items()}
    rows = {path: {"notebook": path.stem, "status": "not run"} | asdict(Outcome()) for path in parameters}

    def begins(path: Path) -> bool:
        if any(row["status"] == "failed" for row in rows.values()):
            return False
        marker = copies[path].with_suffix(".done.json")
        if not force and marker.is_file() and copies[path].is_file():
            last = json.loads(marker.read_text())
            written = [folder / name for name in last["outcome"]["tables"] + last["outcome"]["figures"]]
            if last["key"] == keys[path] and all(file.is_file() for file in written):
                rows[path] |= last["outcome"] | {"status": "unchanged"}
                print(f"{path.stem}: done and unchanged, skipped", flush=True)
                return False
        marker.unlink(missing_ok=True)
        print(f"{path.stem}: running ({list(rows).index(path) + 1} of {len(rows)})", flush=True)
        return True

    def run(path: Path) -> tuple[Path, Outcome]:
        return path, execute(path, copies[path], parameters[path], progress=jobs == 1 and sys.stderr.isatty())

    order = TopologicalSorter({path: needs(path, parameters) for path in parameters})
    order.prepare()
    while wave := sorted(order.get_ready()):
        begun = (joblib.delayed(run)(path) for path in wave if begins(path))
        pool = joblib.Parallel(jobs, return_as="generator_unordered", pre_dispatch="n_jobs", batch_size=1)
        for path, outcome in pool(begun):
            rows[path] |= asdict(outcome) | {"status": "failed" if outcome.error else "done"}
            took = f"{outcome.seconds:.0f} s, peak {outcome.peak_mib:.0f} MiB"
            print(f"{path.stem}: {rows[path]['status']} in {took}", flush=True)
            if not outcome.error:
                with writing_file(copies[path].with_suffix(".done.json")) as temporary:
                    temporary.write_text(json.dumps({"key": keys[path], "outcome": asdict(outcome)}, indent=1))
        order.done(*wave)
    table = pd.DataFrame(rows.values())
    with writing_file(next(iter(copies.values())).with_name("summary.csv")) as temporary:
        joined = {name: table[name].map(" ".join) for name in ("tables", "figures")}
        table.assign(**joined).to_csv(temporary, index=False, lineterminator="\n")
    return table


def _keys(parameters: Mapping[Path, dict[str, Any]], library: Path) -> dict[Path, str]:
    """What decides a notebook's outcome, hashed: its code and that of what it builds on, parameters, the library."""
    every = select(folder=next(iter(parameters)).parent)
    notebooks = {path: nbformat.read(path, as_version=4) for path in every}
    code = {path: [cell.source for cell in read.cells if cell.cell_type == "code"] for path, read in notebooks.items()}
    files = [path for path in library.rglob("*") if path.suffix in {".py", ".csv", ".json", ".toml", ".npz"}]
    if next(iter(parameters.values()))["TIER"] == "cached":  # reads the committed results
        files += (paths.project_root() / "results").glob("*.csv")
    shared = [[path.name, hashlib.sha256(path.read_bytes()).hexdigest()] for path in sorted(files)]
    return {
        path: config_key([shared, values, code[path], [code[other] for other in needs(path, every)]])
        for path, values in parameters.items()
    }

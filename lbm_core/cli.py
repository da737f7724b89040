"""The ``lbm`` command. Imports what a command needs when it runs, so that help is instant."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from lbm_core import __version__
from lbm_core.settings import TIER_NAMES, Dataset
from lbm_core.workshop.cli_data import data

app = typer.Typer(
    help="Companion to LBM: Hierarchical Large Auto-Bidding Model via Reasoning and Acting (WWW'26).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
notebooks = typer.Typer(help="Check, clean and store the notebooks.", no_args_is_help=True)
app.add_typer(data, name="data")
app.add_typer(notebooks, name="notebooks")

OutputOption = Annotated[
    Path | None, typer.Option("--output", help="Folder for results, figures and runs instead of the checkout.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="A field of the tier: act.steps=50. Upper-case: of a notebook."),
]
NotebookFiles = Annotated[
    list[Path] | None, typer.Argument(exists=True, dir_okay=False, help="Notebook files; default: all chapters.")
]


@app.callback(invoke_without_command=True)
def _common(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit


@app.command()
def reproduce(
    tier: Annotated[
        str, typer.Option(help=f"How large: {', '.join(TIER_NAMES)}; the README says what each costs.")
    ] = "smoke",
    only: Annotated[str, typer.Option(help="Chapters, e.g. 02,05; default all.")] = "",
    jobs: Annotated[
        int, typer.Option(min=1, help="Notebooks at a time; only those that do not build on each other.")
    ] = 1,
    setting: SetOption = None,
    output: OutputOption = None,
    force: Annotated[bool, typer.Option("--force", help="Run also what is done and unchanged.")] = False,
) -> None:
    """Run the notebooks in order; what is done and unchanged is skipped, so a killed run resumes.

    Executed copies and summary.csv go to runs/TIER/, tables to results/ and figures to figures/ (for smoke, to the
    folder _smoke in each).
    """
    from lbm_core.workshop import runner
    from lbm_core.workshop.notebooks import select
    from lbm_core.workshop.parameters import resolve

    folder = str(output.resolve()) if output else ""
    parameters = resolve(select(only), setting or [], tier, folder)
    try:
        lines = runner.reproduce(parameters, output=folder, jobs=jobs, force=force)
    except runner.NotebookFailed as failure:
        _print_summary(failure.lines)
        raise
    _print_summary(lines)


def _print_summary(lines: list[Any]) -> None:
    import pandas as pd

    rows = pd.DataFrame([vars(line) for line in lines])
    names = {kind: rows[kind].map(lambda paths: " ".join(Path(path).stem for path in paths)) for kind in _WRITTEN}
    print(rows.assign(**names).to_markdown(index=False, floatfmt=".0f", maxcolwidths=40))
    spent = rows.loc[rows["status"] != "unchanged", "seconds"].sum()
    counts = ", ".join(f"{rows[kind].map(len).sum()} {kind}" for kind in _WRITTEN)
    print(f"total: {spent:.0f} s now, peak {rows['peak_mib'].max():.0f} MiB, {counts}")
    if folders := sorted({str(Path(path).parent) for kind in _WRITTEN for paths in rows[kind] for path in paths}):
        print(f"tables and figures are in {', '.join(folders)}")


_WRITTEN = ("tables", "figures")


@app.command()
def results(
    experiment: Annotated[str, typer.Argument(help="Name of one; default: list all.")] = "",
    tier: Annotated[str, typer.Option(help="cached: the largest tier in the committed files.")] = "cached",
    output: OutputOption = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Copy smoke results into the committed files (labelled smoke).")
    ] = False,
) -> None:
    """List recorded experiments, or print one."""
    from lbm_core.report import results as recorded

    folder = output or ""
    if keep:
        for path in recorded.keep(tier, [experiment] if experiment else [], folder):
            print(f"kept {path.name}")
    elif experiment:
        print(recorded.load(experiment, tier, folder).to_markdown(index=False))
    else:
        names = recorded.available(tier, folder)
        if not names:
            computing = "smoke" if tier == "cached" else tier
            raise FileNotFoundError(f"no {tier} results yet; make them with 'lbm reproduce --tier {computing}'")
        for name in names:
            rows = recorded.load(name, tier, folder)
            labels = rows[["tier", "dataset", "commit"]].drop_duplicates().agg(" ".join, axis=1)
            print(f"{name:28} {len(rows):6} rows   {'; '.join(labels)}")


@app.command()
def paper() -> None:
    """Print where every equation, table and figure of the paper is: function, notebook, results file, status."""
    from lbm_core.report.map import paper_map

    print(paper_map().to_markdown(index=False))


@app.command()
def train(
    method: Annotated[str, typer.Option(help="Method to train, e.g. IQL; an unknown one lists all; 'all': every one.")],
    tier: Annotated[str, typer.Option(help=f"How large: {', '.join(TIER_NAMES[1:])}.")] = "smoke",
    dataset: Annotated[Dataset, typer.Option(help="Dense or sparse conversions.")] = "dense",
    seed: Annotated[int, typer.Option(help="Of the simulated data.")] = 0,
    train_seed: Annotated[int | None, typer.Option(help="Of the training; default the same.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes, for 'all'.")] = 1,
    tune: Annotated[bool, typer.Option(help="First search the method's settings, as notebook 06 does.")] = True,
    setting: SetOption = None,
) -> None:
    """Train one method and say what it took; a finished one is only loaded.

    Data and the models it builds on are made first if they are not in the cache.
    """
    from lbm_core.lab.lab import Lab
    from lbm_core.lab.tiers import tier as sizes
    from lbm_core.workshop.parameters import tier_fields

    lab = Lab(sizes(tier, tier_fields(setting or [])), dataset, seed, train_seed)
    if method == "all":
        if train_seed is not None or not tune:
            raise ValueError("--method all trains every seed of the tier, tuned; it takes --jobs only")
        lab.train_all(jobs=jobs)
        return
    trained = lab.train(method, tune=tune)
    print(f"{trained.method}: {trained.parameters:,} parameters, {trained.mib:.1f} MiB in {trained.folder}")
    took = f"{trained.seconds:.0f} s" + ("" if trained.computed else ", found in the cache")
    print(f"steps {trained.steps:,}, training time {took}, peak memory {trained.peak_mib:.0f} MiB")


@notebooks.command("lint")
def notebooks_lint(files: NotebookFiles = None) -> None:
    """Check the rules for committed notebooks."""
    from lbm_core.workshop.lint import lint
    from lbm_core.workshop.notebooks import select

    paths = files or select()
    sentences = [sentence for path in paths for sentence in lint(path)]
    print("\n".join(sentences) or f"{len(paths)} notebooks, nothing found")
    if sentences:
        raise ValueError(f"{len(sentences)} findings in {len(paths)} notebooks")


@notebooks.command("strip")
def notebooks_strip(files: NotebookFiles = None) -> None:
    """Remove run metadata; keep cells, tags and outputs."""
    from lbm_core.workshop.clean import strip
    from lbm_core.workshop.notebooks import select

    for path in files or select():
        print(f"{path.name}: {'cleaned' if strip(path) else 'already clean'}")


@notebooks.command("store")
def notebooks_store(files: NotebookFiles = None) -> None:
    """Run at TIER=cached and keep the outputs in the notebook files."""
    from lbm_core.workshop.clean import store
    from lbm_core.workshop.notebooks import select

    for path in files or select():
        outcome = store(path)
        if outcome.error:
            raise RuntimeError(f"{path.name} failed at {outcome.error}; the file is unchanged")
        print(f"{path.name}: stored, {outcome.seconds:.0f} s, peak {outcome.peak_mib:.0f} MiB", flush=True)


def main(arguments: list[str] | None = None, run: Callable[..., Any] = app) -> None:
    """Entry point: expected errors end in one sentence on stderr and exit status 1."""
    given = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in given
    try:
        run([argument for argument in given if argument != "--debug"], prog_name="lbm")
    except (ValueError, OSError, RuntimeError, ModuleNotFoundError) as error:
        if debug:
            raise
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(1)

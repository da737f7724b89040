"""The ``lbm`` command. Imports what a command needs when it runs, so that help is instant."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from lbm_core import __version__, paths
from lbm_core.workshop.cli_data import SetOption, TierOption, data
from lbm_core.workshop.launch import train

app = typer.Typer(
    help="Companion to LBM: Hierarchical Large Auto-Bidding Model via Reasoning and Acting (WWW'26).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(data, name="data")
app.command()(train)

OutputOption = Annotated[
    Path | None,
    typer.Option(parser=paths.whole, metavar="FOLDER", help="Of results, figures, runs; else the checkout."),
]


@app.callback(invoke_without_command=True)
def _common(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    scheduler: Annotated[str, typer.Option(help="Of a Dask cluster that shares the cache: tcp://HOST:8786.")] = "",
) -> None:
    if version:
        print(__version__)
        raise typer.Exit
    if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
        raise ValueError("NUMBA_DISABLE_JIT is set: unset it, the traffic's 128-bit arithmetic exists only compiled")
    if scheduler:
        os.environ["LBM_SCHEDULER"] = scheduler  # notebooks run in processes of their own


@app.command("reproduce")
def run_notebooks(
    tier: TierOption = "smoke",
    only: Annotated[str, typer.Option(help="Chapters, e.g. 02,05; default all.")] = "",
    jobs: Annotated[int, typer.Option(min=1, help="Notebooks at a time, if none needs another.")] = 1,
    setting: SetOption = None,
    output: OutputOption = None,
    force: Annotated[bool, typer.Option("--force", help="Run also what is done and unchanged.")] = False,
    folder: Annotated[Path | None, typer.Option("--notebooks", help="Their folder; default the checkout's.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print all chapters' stages, hours, what lacks.")] = False,
) -> None:
    """Run the notebooks in order; what is done and unchanged is skipped, so a killed run resumes.

    Executed copies and summary.csv go to runs/TIER/, tables to results/ and figures to figures/ (for smoke, to the
    folder _smoke in each).
    """
    from lbm_core.workshop.notebooks import resolve, select
    from lbm_core.workshop.reproduce import reproduce

    target = output or paths.project_root()
    parameters = resolve(select(only, folder), setting or [], tier, str(target) if output else "")
    if dry_run:
        from lbm_core.workshop.plan import report

        own = {name: value for values in parameters.values() for name, value in values.items()}
        return print(report(tier, own.get("SET", {}), own.get("DATASET", "dense")))
    rows = reproduce(parameters, output=target, jobs=jobs, force=force)
    written = rows["tables"] + rows["figures"]
    shown = rows.assign(written=[" ".join(Path(name).stem for name in names) for names in written])
    print(shown.drop(columns=["tables", "figures", "error"]).to_markdown(index=False, floatfmt=".0f", maxcolwidths=60))
    spent = rows.loc[rows["status"] != "unchanged", "seconds"].sum()
    print(f"{spent:.0f} s now, peak {rows['peak_mib'].max():.0f} MiB")
    if folders := sorted({os.path.relpath(target / Path(name).parent) for names in written for name in names}):
        print(f"tables and figures are in {', '.join(folders)}")
    for row in rows[rows["status"] == "failed"].itertuples():
        copy = os.path.relpath(target / "runs" / tier / f"{row.notebook}.ipynb")
        raise RuntimeError(f"{row.notebook}.ipynb failed at {row.error} (executed copy: {copy})")


@app.command()
def results(
    experiment: Annotated[str, typer.Argument(help="Name of one; default: list all.")] = "",
    tier: Annotated[str, typer.Option(help="cached: the largest tier in the committed files.")] = "cached",
    output: OutputOption = None,
    keep: Annotated[bool, typer.Option("--keep", help="Copy smoke results into the committed files.")] = False,
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
    from lbm_core.report.paper import paper_map

    print(paper_map().to_markdown(index=False))


def main(arguments: list[str] | None = None) -> None:
    """Entry point: expected errors end in one sentence on stderr and exit status 1."""
    given = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in given
    try:
        app([argument for argument in given if argument != "--debug"], prog_name="lbm")
    except (ValueError, OSError, RuntimeError, ModuleNotFoundError, FloatingPointError) as error:
        if debug:
            raise
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(1)

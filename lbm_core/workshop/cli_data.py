"""``lbm data``: traffic, generation, import and export of the benchmark's data."""

import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from lbm_core.settings import TIER_NAMES, Dataset

data = typer.Typer(help="Traffic and trajectories of the benchmark, made on this machine.", no_args_is_help=True)

DatasetOption = Annotated[Dataset, typer.Option(help="Dense or sparse conversions.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Of the market; the traffic depends on the period alone.")]
TrainSeedOption = Annotated[int | None, typer.Option(min=0, help="Of the training; default the same.")]
JobsOption = Annotated[int, typer.Option(min=1, help="Processes, or tasks at a time on a cluster.")]
TierOption = Annotated[str, typer.Option(help=f"How large: {', '.join(TIER_NAMES)}; the README says what each costs.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="A field of the tier: act.steps=50. Upper-case: of a notebook."),
]


def integers(text: str, option: str) -> list[int]:
    """Numbers separated by commas; a-b is a range."""
    numbers: list[int] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        ends = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        if not ends:
            raise ValueError(f"{option} wants numbers separated by commas, got {text!r}")
        numbers.extend(range(int(ends[1]), int(ends[2] or ends[1]) + 1))
    return numbers


@data.command("traffic")
def data_traffic(
    period: Annotated[int, typer.Option(help="Delivery period; the benchmark's are 7 to 27.")],
    out: Annotated[Path, typer.Option(help="File to write, ending in .npz.")],
    dataset: DatasetOption = "dense",
    scheme: Annotated[Literal["data", "public"], typer.Option(help="Seeding: of logged data, or online.")] = "data",
    ticks: Annotated[str, typer.Option(help="Ticks whose p-values and sigmas to write, e.g. 0,47; default none.")] = "",
) -> None:
    """Write a period's impression counts and p-values, bit for bit those of the benchmark.

    counts (48,), and per tick T pvalues_tT and sigmas_tT of shape (count, 48).
    """
    from lbm_core.workshop.export import write_traffic_npz

    print(f"wrote {write_traffic_npz(period, dataset, scheme, integers(ticks, '--ticks'), out)}")


@data.command("generate")
def data_generate(
    periods: Annotated[int, typer.Option(help="How many delivery periods to simulate, 48 trajectories each.")],
    out: Annotated[Path, typer.Option(help="Folder for the parquet shards.")],
    dataset: DatasetOption = "dense",
    seed: SeedOption = 0,
    jobs: JobsOption = 1,
    first_period: Annotated[int, typer.Option(help="Number of the first; the benchmark's own are 7 to 27.")] = 1000,
    engine: Annotated[Literal["local", "dask"], typer.Option(help="What runs the processes.")] = "local",
    address: Annotated[str | None, typer.Option(help="Scheduler of a running Dask cluster.")] = None,
) -> None:
    """Simulate the market and write its trajectories; a killed run resumes."""
    from lbm_core.data.generation import GenerateConfig, read_shards
    from lbm_core.workshop.shards import generate_on

    numbers = tuple(range(first_period, first_period + periods))
    generate_on(engine, GenerateConfig(dataset, numbers, seed), out, address=address, jobs=jobs)
    print(f"wrote {len(read_shards(out))} trajectories of {periods} periods to {out}")


@data.command("import")
def data_import(
    files: Annotated[list[Path], typer.Argument(help="Traffic or trajectory files: .csv, .csv.gz or .zip.")],
    out: Annotated[Path, typer.Option(help="New folder for the imported periods and trajectories.")],
    dataset: Annotated[Dataset | None, typer.Option(help="Default: what the p-values agree with.")] = None,
    compare: Annotated[bool, typer.Option(help="Trajectories must agree with the regenerated traffic.")] = True,
) -> None:
    """Read the benchmark's own files, checked against the regenerated traffic."""
    from lbm_core.workshop.csv_import import import_files

    for check in import_files(files, out, dataset=dataset, compare=compare):
        print(check["says"])
    print(f"wrote {out}")


@data.command("export")
def data_export(
    form: Annotated[
        Literal["traffic", "trajectory", "minari"],
        typer.Option("--format", help="The benchmark's two CSV formats, or a Minari data set."),
    ],
    periods: Annotated[str, typer.Option(help="Delivery periods to simulate, e.g. 7,8 or 7-27; one for traffic.")],
    out: Annotated[Path, typer.Option(help="File ending in .csv, .csv.gz or .zip; for minari a folder.")],
    dataset: DatasetOption = "dense",
    seed: SeedOption = 0,
) -> None:
    """Write simulated periods in other people's formats."""
    from lbm_core.workshop.export import export_periods

    print(f"wrote {export_periods(form, dataset, integers(periods, '--periods'), out, seed)}")

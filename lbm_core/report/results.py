"""Results as committed CSVs: one file per experiment, one row per seed (or step, period, …), with their provenance."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from lbm_core import paths
from lbm_core.files import writing_file
from lbm_core.settings import DATASETS, TIER_NAMES

COMPUTED_TIERS = tuple(name for name in TIER_NAMES if name != "cached")  # from the smallest to the largest
PROVENANCE = ("tier", "dataset", "seed", "backbone", "hardware", "commit")
_TEXT = ("tier", "dataset", "backbone", "hardware", "commit")  # read as text: a commit may have digits only
# What decides a result: changes elsewhere (figures, results, prose) do not make a tree "dirty".
_SOURCES = ("lbm_core", "notebooks", "pyproject.toml")


def record(
    experiment: str,
    frame: pd.DataFrame,
    *,
    tier: str,
    dataset: str = "",
    seeds: int | Iterable[int] = (),
    output: str | Path = "",
    **provenance: str | int | float,
) -> Path:
    """Write the rows of an experiment to ``results/<experiment>.csv`` (``results/_smoke/`` at the smoke tier).

    Rows that the file holds for the same tier and data set are replaced; the others stay. Floats keep 6 significant
    digits, so draw and assert from what :func:`load` returns.

    Parameters
    ----------
    experiment : lower-case name with digits and underscores, written by one notebook only
    frame : tidy, non-empty, no infinite values; may hold its own columns ``dataset``, ``seed`` and ``backbone``
    tier : a computing tier ("cached" records nothing)
    dataset : "dense", "sparse" or "" where neither applies; ignored if the frame has the column
    seeds : what was averaged over; ignored if the frame has a column ``seed``
    output : folder in the place of the checkout
    provenance : ``backbone``, the language model's name (ignored if the frame has the column), and further constant
        columns, e.g. ``train_periods=12``. Of a local file or folder only the last part is written, since the path
        to it says nothing elsewhere.

    Raises
    ------
    ValueError
        Bad name, tier, data set, empty frame, infinite value, or a frame column that provenance writes.
    """
    target = _path(experiment, tier, output)
    if tier not in COMPUTED_TIERS:
        raise ValueError(f"tier {tier!r} computes nothing to record; choose one of {', '.join(COMPUTED_TIERS)}")
    if frame.empty:
        raise ValueError(f"nothing to record for {experiment!r}: the frame has no rows")
    numbers = frame.select_dtypes("number")
    infinite = numbers.columns[np.isinf(numbers.to_numpy(dtype=float, na_value=np.nan)).any(axis=0)]
    if len(infinite):
        raise ValueError(f"column {infinite[0]!r} of {experiment!r} holds infinite values; nothing was recorded")
    written = {key: _public(str(value)) for key, value in provenance.items() if key != "backbone"}
    written |= {"tier": tier, "hardware": hardware(), "commit": commit()}
    if taken := [name for name in written if name in frame]:
        raise ValueError(f"the frame of {experiment!r} already has a column {taken[0]!r}, which record() writes")
    listed = [seeds] if isinstance(seeds, int) else seeds
    defaults = {"dataset": dataset, "seed": " ".join(map(str, listed))}
    defaults["backbone"] = _public(str(provenance.get("backbone", "")))
    new = frame.assign(**written, **{name: value for name, value in defaults.items() if name not in frame})
    if unknown := set(new["dataset"]) - {"", *DATASETS}:
        raise ValueError(f"unknown dataset {min(unknown)!r} in {experiment!r}; choose one of {', '.join(DATASETS)}")
    _write(target, _merged(_read(target), new))
    print(f"wrote {_shown(target, output)} ({len(new)} rows)")
    return target


def load(experiment: str, tier: str, output: str | Path = "", *, dataset: str | None = None) -> pd.DataFrame:
    """Recorded rows of an experiment.

    Parameters
    ----------
    tier : a computing tier's rows; "cached": for each data set, the rows of the largest tier in the committed file
    dataset : keep only its rows; default all

    Raises
    ------
    FileNotFoundError
        Nothing recorded, naming the command that records it.
    """
    path = _path(experiment, tier, output)
    rows = whole = _read(path)
    if rows is not None:
        if dataset is not None:
            rows = rows[rows["dataset"].isin([dataset, ""])]
        if tier == "cached":
            rank = rows["tier"].map(COMPUTED_TIERS.index)
            rows = rows[rank == rank.groupby(rows["dataset"]).transform("max")]
        else:
            rows = rows[rows["tier"] == tier]
    if rows is None or whole is None or rows.empty:
        what = f"{experiment!r} ({dataset})" if dataset else repr(experiment)
        wanted = "smoke' and 'lbm results --tier smoke --keep" if tier == "cached" else tier
        raise FileNotFoundError(
            f"no {tier} results of {what} in {_shown(path, output)}; make them with 'lbm reproduce --tier {wanted}'"
        )
    # A column that only other tiers or data sets fill is not these rows' own; one that nobody fills is theirs, empty.
    foreign = [name for name in rows if rows[name].isna().all() and whole[name].notna().any()]
    return rows.drop(columns=foreign).reset_index(drop=True)


def keep(tier: str, experiments: Iterable[str] = (), output: str | Path = "") -> list[Path]:
    """Copy what a smoke run recorded into the committed files, its rows still labelled with their tier.

    Other tiers write there themselves.

    Raises
    ------
    ValueError
        Another tier than smoke.
    FileNotFoundError
        Nothing recorded.
    """
    if tier != "smoke":
        raise ValueError(f"only smoke results live apart and can be kept; tier {tier!r} writes to results/ itself")
    names = list(experiments) or available(tier, output)
    if not names:
        raise FileNotFoundError("no smoke results yet; make them with 'lbm reproduce --tier smoke'")
    written = []
    for name in names:
        rows = load(name, tier, output)
        target = _path(name, "cached", output)
        _write(target, _merged(_read(target), rows))
        written.append(target)
    return written


def available(tier: str, output: str | Path = "") -> list[str]:
    """Names of the experiments with a file for a tier."""
    return sorted(path.stem for path in paths.results_dir(tier, output).glob("*.csv"))


def hardware() -> str:
    """CPU model, usable cores and GPUs of this machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cpuinfo, cpu = Path("/proc/cpuinfo"), platform.processor() or platform.machine()
    if cpuinfo.is_file() and (model := re.search(r"^model name\s*: *(.*)$", cpuinfo.read_text(), re.MULTILINE)):
        cpu = re.sub(r"\((R|TM)\)", "", " ".join(model[1].split()))
    gpus = _output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader").splitlines()
    return ", ".join([cpu, f"{cores} cores", *(f"{gpus.count(name)} x {name}" for name in dict.fromkeys(gpus))])


def commit() -> str:
    """Short hash of the checkout, with ``-dirty`` if its sources differ from it; "no-git" outside a repository."""
    head = _output("git", "rev-parse", "--short=10", "HEAD")
    dirty = head and _output("git", "status", "--porcelain", "--", *_SOURCES)
    return head + ("-dirty" if dirty else "") if head else "no-git"


def _output(*command: str) -> str:
    """What a program prints in the checkout; nothing where it is missing or fails."""
    if shutil.which(command[0]) is None:
        return ""
    done = subprocess.run(command, cwd=paths.project_root(), capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def _path(experiment: str, tier: str, output: str | Path) -> Path:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", experiment):
        raise ValueError(f"experiment name {experiment!r} must be lower case letters, digits and underscores")
    if tier not in TIER_NAMES:
        raise ValueError(f"unknown TIER {tier!r}; choose one of {', '.join(TIER_NAMES)}")
    return paths.results_dir(tier, output) / f"{experiment}.csv"


def _public(name: str) -> str:
    """A name without the path to it on this machine."""
    return Path(name).name.removesuffix(".gguf") if Path(name).is_absolute() or name.endswith(".gguf") else name


def _shown(path: Path, output: str | Path) -> str:
    parent = Path(output) if output else paths.project_root()
    return path.relative_to(parent).as_posix()


def _read(path: Path) -> pd.DataFrame | None:
    if not path.is_file():
        return None
    # A method may be called "None" or "NA": only an empty field is a missing value.
    rows = pd.read_csv(path, keep_default_na=False, na_values=[""], dtype=dict.fromkeys(_TEXT, "object"))
    if missing := [name for name in PROVENANCE if name not in rows]:
        raise ValueError(f"{path.name} has no column {missing[0]!r}: it was not written by lbm_core.report.results")
    return rows.fillna(dict.fromkeys(_TEXT, ""))


def _merged(old: pd.DataFrame | None, new: pd.DataFrame) -> pd.DataFrame:
    """Old rows of other (tier, dataset) pairs and the new rows, by tier and data set; provenance columns outside."""
    if old is not None:
        replaced = set(zip(new["tier"], new["dataset"], strict=True))
        stays = [pair not in replaced for pair in zip(old["tier"], old["dataset"], strict=True)]
        new = pd.concat([old[stays], new], ignore_index=True) if any(stays) else new
    new = new.sort_values(
        ["tier", "dataset"], key=lambda c: c.map(COMPUTED_TIERS.index) if c.name == "tier" else c, kind="stable"
    )
    middle = [name for name in new if name not in PROVENANCE]
    return new[["tier", "dataset", "seed", *middle, "backbone", "hardware", "commit"]]


def _write(target: Path, rows: pd.DataFrame) -> None:
    with writing_file(target) as temporary:
        rows.to_csv(temporary, index=False, float_format="%.6g", lineterminator="\n")
    target.chmod(0o644)

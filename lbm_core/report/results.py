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
# What decides a result: changes elsewhere (figures, results, prose) do not make a tree "dirty".
_SOURCES = ("lbm_core", "notebooks", "pyproject.toml")


def record(
    experiment: str,
    frame: pd.DataFrame,
    *,
    tier: str,
    dataset: str = "",
    backbone: str = "",
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
    backbone : name of the language model; of a local file or folder only the last part is written, since the path to it
        says nothing elsewhere. Ignored if the frame has the column
    seeds : what was averaged over; ignored if the frame has a column ``seed``
    output : folder in the place of the checkout
    provenance : further constant columns, e.g. ``train_periods=12``

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
    taken = [name for name in ("tier", "hardware", "commit", *provenance) if name in frame]
    if taken:
        raise ValueError(f"the frame of {experiment!r} already has a column {taken[0]!r}, which record() writes")
    numbers = frame.select_dtypes("number")
    infinite = numbers.columns[np.isinf(numbers.to_numpy(dtype=float, na_value=np.nan)).any(axis=0)]
    if len(infinite):
        raise ValueError(f"column {infinite[0]!r} of {experiment!r} holds infinite values; nothing was recorded")
    listed = [seeds] if isinstance(seeds, int) else list(seeds)
    constants = {"tier": tier, "dataset": dataset, "seed": " ".join(map(str, listed)), "backbone": _public(backbone)}
    constants |= {"hardware": hardware(), "commit": commit(), **{k: _public(str(v)) for k, v in provenance.items()}}
    new = frame.assign(**{name: value for name, value in constants.items() if name not in frame})
    unknown = set(new["dataset"]) - {"", *DATASETS}
    if unknown:
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
            rank = rows["tier"].map({name: i for i, name in enumerate(COMPUTED_TIERS)})
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
    parts = [_cpu_model(), f"{cores} cores"]
    if shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        found = subprocess.run(query, capture_output=True, text=True, check=False)
        gpus = found.stdout.split("\n")[:-1] if found.returncode == 0 else []
        parts += [f"{gpus.count(name)} x {name.strip()}" for name in dict.fromkeys(gpus)]
    return ", ".join(parts)


def commit() -> str:
    """Short hash of the checkout, with ``-dirty`` if its sources differ from it; "no-git" outside a repository."""
    if shutil.which("git") is None:
        return "no-git"
    root = paths.project_root()
    head = subprocess.run(["git", "rev-parse", "--short=10", "HEAD"], cwd=root, capture_output=True, text=True)
    if head.returncode != 0:
        return "no-git"
    changes = subprocess.run(
        ["git", "status", "--porcelain", "--", *_SOURCES], cwd=root, capture_output=True, text=True
    )
    return head.stdout.strip() + ("-dirty" if changes.stdout.strip() else "")


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return re.sub(r"\s+", " ", line.partition(":")[2]).replace("(R)", "").replace("(TM)", "").strip()
    return platform.processor() or platform.machine()


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
    rows = pd.read_csv(path, keep_default_na=False, na_values=[""])
    missing = [name for name in PROVENANCE if name not in rows]
    if missing:
        raise ValueError(f"{path.name} has no column {missing[0]!r}: it was not written by lbm_core.report.results")
    text = ["tier", "dataset", "backbone", "hardware", "commit"]
    rows[text] = rows[text].astype("object").where(rows[text].notna(), "")
    return rows


def _merged(old: pd.DataFrame | None, new: pd.DataFrame) -> pd.DataFrame:
    """Old rows of other (tier, dataset) pairs and the new rows, by tier and data set; provenance columns outside."""
    if old is not None:
        replaced = set(zip(new["tier"], new["dataset"], strict=True))
        stays = [pair not in replaced for pair in zip(old["tier"], old["dataset"], strict=True)]
        new = pd.concat([old[stays], new], ignore_index=True) if any(stays) else new
    rank = new["tier"].map({name: i for i, name in enumerate(COMPUTED_TIERS)})
    new = new.iloc[np.lexsort((np.arange(len(new)), new["dataset"], rank))]
    middle = [name for name in new if name not in PROVENANCE]
    return new[["tier", "dataset", "seed", *middle, "backbone", "hardware", "commit"]]


def _write(target: Path, rows: pd.DataFrame) -> None:
    with writing_file(target) as temporary:
        rows.to_csv(temporary, index=False, float_format="%.6g", lineterminator="\n")
    target.chmod(0o644)

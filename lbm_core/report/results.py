"""Results as committed CSVs: one file per experiment, one row per seed (or step, period, …), with their provenance."""

import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from lbm_core import paths
from lbm_core.files import alone, writing_file
from lbm_core.settings import DATASETS, TIER_NAMES

COMPUTED_TIERS = tuple(name for name in TIER_NAMES if name != "cached")  # from the smallest to the largest
PROVENANCE = ("tier", "dataset", "seed", "backbone", "overrides", "hardware", "commit")
_TEXT = tuple(name for name in PROVENANCE if name != "seed")  # read as text: a commit may have digits only


def record(
    experiment: str,
    frame: pd.DataFrame,
    *,
    tier: str,
    dataset: str = "",
    seeds: int | Iterable[int] = (),
    overrides: Mapping[str, Any] = {},
    output: str | Path = "",
    **provenance: str | int | float,
) -> Path:
    """Write the rows of an experiment to ``results/<experiment>.csv`` (``results/_smoke/`` at the smoke tier).

    Rows that the file holds for the same tier and data set are replaced; the others stay. Floats keep 6 significant
    digits, so draw and assert from what :func:`load` returns; texts come back letter by letter, an empty one as
    NaN, and a column that holds only numbers as numbers.

    An experiment's name is lower case with digits and underscores; one notebook writes it. The frame is tidy and
    finite; its own columns ``dataset``, ``seed`` and ``backbone`` count before the arguments. ``seeds`` are what was
    averaged over, ``overrides`` the fields of the tier that the run changed (kept as json, "" for none), ``output``
    is a folder in the place of the checkout, ``provenance`` the ``backbone`` and further constant columns; of the path
    to a local model only the last part is written.
    """
    target = _path(experiment, tier, output)
    if tier not in COMPUTED_TIERS:
        raise ValueError(f"tier {tier!r} computes nothing to record; choose one of {', '.join(COMPUTED_TIERS)}")
    if frame.empty:
        raise ValueError(f"nothing to record for {experiment!r}: the frame has no rows")
    if infinite := [name for name, values in frame.items() if values.isin([np.inf, -np.inf]).any()]:
        raise ValueError(f"column {infinite[0]!r} of {experiment!r} holds infinite values; nothing was recorded")
    constant = {key: _public(str(value)) for key, value in provenance.items()}
    backbone = constant.pop("backbone", "")
    own = {name: _public(value) if isinstance(value, str) else value for name, value in overrides.items()}
    constant |= {"tier": tier, "hardware": hardware(), "commit": commit(), "overrides": json.dumps(own) if own else ""}
    if taken := [name for name in constant if name in frame]:
        raise ValueError(f"the frame of {experiment!r} already has a column {taken[0]!r}, which record() writes")
    seed = " ".join(map(str, [seeds] if isinstance(seeds, int) else seeds))
    defaults = {"dataset": dataset, "seed": seed, "backbone": backbone}
    new = frame.assign(**constant, **{name: value for name, value in defaults.items() if name not in frame})
    if unknown := set(new["dataset"]) - {"", *DATASETS}:
        raise ValueError(f"unknown dataset {min(unknown)!r} in {experiment!r}; choose one of {', '.join(DATASETS)}")
    with alone(target.parent):  # another run may record another data set in the same file
        _add(target, new)
    print(f"wrote {_shown(target, output)} ({len(new)} rows)")
    return target


def load(experiment: str, tier: str, output: str | Path = "", *, dataset: str | None = None) -> pd.DataFrame:
    """Recorded rows of an experiment, of one data set or (default) of all.

    "cached" gives, for each data set, the rows of the largest tier in the committed file. Every column of the file is
    there, all NaN where these rows do not fill it. Where nothing is recorded, the FileNotFoundError names the command
    that records it.
    """
    path = _path(experiment, tier, output)
    rows = _read(path)
    if dataset is not None:
        rows = rows[rows["dataset"].isin([dataset, ""])]
    if tier == "cached":
        rank = rows["tier"].map(COMPUTED_TIERS.index)
        rows = rows[rank == rank.groupby(rows["dataset"]).transform("max")]
    else:
        rows = rows[rows["tier"] == tier]
    if rows.empty:
        what = f"{experiment!r} ({dataset})" if dataset else repr(experiment)
        wanted = "smoke' and 'lbm results --tier smoke --keep" if tier == "cached" else tier
        raise FileNotFoundError(
            f"no {tier} results of {what} in {_shown(path, output)}; make them with 'lbm reproduce --tier {wanted}'"
        )
    return rows.reset_index(drop=True)


def keep(tier: str, experiments: Iterable[str] = (), output: str | Path = "") -> list[Path]:
    """Copy what a smoke run recorded into the committed files, its rows still labelled with their tier."""
    if tier != "smoke":
        raise ValueError(f"only smoke results live apart and can be kept; tier {tier!r} writes to results/ itself")
    names = list(experiments) or available(tier, output)
    if not names:
        raise FileNotFoundError("no smoke results yet; make them with 'lbm reproduce --tier smoke'")
    targets = [_path(name, "cached", output) for name in names]
    for name, target in zip(names, targets, strict=True):
        _add(target, load(name, tier, output))
    return targets


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
    """Short hash of the checkout, ``-dirty`` if what decides results differs from it; "no-git" without git."""
    head = _output("git", "rev-parse", "--short=10", "HEAD")
    dirty = head and _output("git", "--no-optional-locks", "status", "-s", "lbm_core", "notebooks", "pyproject.toml")
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


def _read(path: Path) -> pd.DataFrame:
    if not path.is_file():
        return pd.DataFrame(columns=PROVENANCE)
    # A method may be called "None" or "NA": only an empty field is a missing value.
    text = dict.fromkeys((*_TEXT, "weights"), "object")
    try:
        rows = pd.read_csv(path, keep_default_na=False, na_values=[""], dtype=text, low_memory=False)
    except ValueError as error:
        raise ValueError(f"{path} cannot be read ({error}): restore it, or delete it and record it again") from None
    rows = rows.assign(overrides=rows.get("overrides", ""))  # older rows do not have it
    if missing := [name for name in PROVENANCE if name not in rows]:
        raise ValueError(f"{path.name} has no column {missing[0]!r}: it was not written by lbm_core.report.results")
    if not (known := rows["tier"].isin(COMPUTED_TIERS)).all():
        raise ValueError(f"{path.name}: a row of tier {rows['tier'][~known].iloc[0]!r} was not written by record()")
    return rows.fillna(dict.fromkeys(_TEXT, ""))


def _add(target: Path, new: pd.DataFrame) -> None:
    """Write the new rows and the file's of other (tier, dataset) pairs, in that order; provenance columns outside."""
    old, replaced = _read(target), set(zip(new["tier"], new["dataset"], strict=True))
    stays = [pair not in replaced for pair in zip(old["tier"], old["dataset"], strict=True)]
    rows = pd.concat([old[stays], new], ignore_index=True) if any(stays) else new
    rows = rows.sort_values("dataset", kind="stable")
    rows = rows.sort_values("tier", key=lambda tiers: tiers.map(COMPUTED_TIERS.index), kind="stable")
    rows = rows[[*PROVENANCE[:3], *(name for name in rows if name not in PROVENANCE), *PROVENANCE[3:]]]
    with writing_file(target) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        # Before 3.11.9 Python quotes only what ends its own lines: else a lone "\r" in a text would end a row.
        lines = SimpleNamespace(write=lambda line: file.write(line.removesuffix("\r\n") + "\n"))
        rows.to_csv(lines, index=False, float_format="%.6g", lineterminator="\r\n")
    target.chmod(0o644)

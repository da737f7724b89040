"""The notebooks in the order they run, and which of them must not run at the same time."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from lbm_core import paths

# What a chapter takes over from earlier ones (artifacts and recorded results). Each also runs alone and then makes what
# it lacks; the order saves doing a thing twice, and two notebooks from making the same thing at once.
NEEDS: dict[str, tuple[str, ...]] = {
    "01": (),
    "02": ("01",),
    "03": ("01", "02"),  # chapter 2 may train the critic first, as a guide
    "04": ("01", "02"),
    "05": ("02", "03", "04"),
    "06": ("01", "03"),
    "07": ("02", "04"),
    "08": ("01", "02", "03", "04", "05", "06", "07"),
    # Latencies are measured with the machine to itself: after everything else.
    "09": ("01", "02", "03", "04", "05", "06", "07", "08"),
}


def number(notebook: Path) -> str:
    """Two digits that a chapter's file name starts with."""
    return notebook.stem[:2]


def chapters(folder: Path | None = None) -> list[Path]:
    """All chapters of a folder (default: the checkout's ``notebooks/``) in order."""
    folder = paths.project_root() / "notebooks" if folder is None else folder
    found = sorted(path for path in folder.glob("*.ipynb") if re.match(r"\d\d_", path.name))
    if not found:
        raise FileNotFoundError(f"no notebooks named NN_name.ipynb in {folder}")
    return found


def select(only: str | Iterable[str], folder: Path | None = None) -> list[Path]:
    """Chapters by number or name.

    Parameters
    ----------
    only : "02,05", "2", "02_lbm_act", or a list of such; empty selects all

    Raises
    ------
    ValueError
        A chapter that does not exist, with those that do.
    """
    every = chapters(folder)
    wanted = [name.strip() for name in (only.split(",") if isinstance(only, str) else only) if name.strip()]
    if not wanted:
        return every
    chosen = set()
    for name in wanted:
        stem = name.removesuffix(".ipynb")
        hits = [path for path in every if path.stem == stem or number(path) == stem.zfill(2)]
        if not hits:
            raise ValueError(f"no notebook {name!r}; there are {', '.join(path.stem for path in every)}")
        chosen.update(hits)
    return [path for path in every if path in chosen]


def needs(notebook: Path, among: Iterable[Path]) -> list[Path]:
    """The notebooks of ``among`` that have to be finished before this one; unknown chapters need all earlier ones."""
    earlier = [path for path in among if number(path) < number(notebook)]
    wanted = NEEDS.get(number(notebook), tuple(number(path) for path in earlier))
    return [path for path in earlier if number(path) in wanted]

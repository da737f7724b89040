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
    # 08, and 09, whose latencies are measured with the machine to itself, need all that come before.
}


def number(notebook: Path) -> str:
    """Two digits that a chapter's file name starts with."""
    return notebook.stem[:2]


def select(only: str = "", folder: Path | None = None) -> list[Path]:
    """Chapters of a folder in order.

    Parameters
    ----------
    only : numbers or names separated by commas, "02,05", "2", "02_lbm_act"; empty selects all
    folder : default: the checkout's ``notebooks/``

    Raises
    ------
    FileNotFoundError
        No chapter in the folder.
    ValueError
        A chapter that does not exist, with those that do.
    """
    folder = paths.project_root() / "notebooks" if folder is None else folder
    every = sorted(path for path in folder.glob("*.ipynb") if re.match(r"\d\d_", path.name))
    if not every:
        raise FileNotFoundError(f"no notebooks named NN_name.ipynb in {folder}")
    chosen: set[Path] = set()
    for name in filter(None, (part.strip().removesuffix(".ipynb") for part in only.split(","))):
        hits = [path for path in every if path.stem == name or number(path) == name.zfill(2)]
        if not hits:
            raise ValueError(f"no notebook {name!r}; there are {', '.join(path.stem for path in every)}")
        chosen.update(hits)
    return [path for path in every if path in chosen or not chosen]


def needs(notebook: Path, among: Iterable[Path]) -> list[Path]:
    """The notebooks of ``among`` that have to be finished before this one; unknown chapters need all earlier ones."""
    earlier = [path for path in among if number(path) < number(notebook)]
    wanted = NEEDS.get(number(notebook), tuple(number(path) for path in earlier))
    return [path for path in earlier if number(path) in wanted]

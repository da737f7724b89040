"""One look for all figures, and how they are made: seaborn theme, colour-blind-safe palette, a paper's column sizes."""

import functools
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from lbm_core import paths
from lbm_core.files import writing_file

# Inches. A two-column page has columns of about 3.3 in; text of 8 pt stays readable at that width.
COLUMN, WIDE = (3.4, 2.4), (7.0, 2.6)
PALETTE = sns.color_palette("colorblind")
RATIO_SHOWN = (0.1, 10.0)  # CPA ratios beyond are drawn at the edge: capped ratios have no finite place
PAPER_COLOUR = "0.55"  # grey: what the paper published
# A method keeps its colour in every figure; the others take the palette's remaining colours in order.
_PLACES = {"DT": 1, "LLM-DT": 2, "LBM-Act": 0, "LBM(P)": 9, "LBM(GQPO)": 0, "constant": 7, "PID": 5}  # in the palette
METHOD_COLOURS = {name: PALETTE[place] for name, place in _PLACES.items()}
_RC = {
    "figure.constrained_layout.use": True,
    "figure.dpi": 110,
    "savefig.dpi": 200,
    **dict.fromkeys(("axes.spines.top", "axes.spines.right", "legend.frameon"), False),
    "axes.titlesize": 9,
    "axes.labelsize": 8,
    **dict.fromkeys(("xtick.labelsize", "ytick.labelsize", "legend.fontsize", "legend.title_fontsize"), 7),
    "font.size": 8,
    "lines.linewidth": 1.3,
    "svg.hashsalt": "lbm",  # names of clip paths and markers in an SVG come from this salt instead of a random one
}


def blank(size: tuple[float, float] = WIDE) -> Figure:
    """An empty figure in the house style, ``size`` in inches; a notebook shows it only where it is the cell's value."""
    sns.set_theme(context="paper", style="ticks", palette=PALETTE, rc=_RC)
    figure = plt.figure(figsize=size)
    plt.close(figure)
    return figure


def panels(n: int, size: tuple[float, float] = WIDE) -> tuple[Figure, list[Axes]]:
    """A figure as of :func:`blank` with n panels side by side."""
    figure = blank(size)
    return figure, list(figure.subplots(1, n, squeeze=False)[0])


def sized(figure: Figure, width: float, height: float, rows: int = 1, columns: int = 1, **options: Any) -> Any:
    """The panels of a figure whose size (inches) depends on what it shows."""
    figure.set_size_inches(width, height)
    return figure.subplots(rows, columns, **options)


def drawn(*columns: str, size: tuple[float, float] = WIDE) -> Callable[[Callable[..., None]], Callable[..., Figure]]:
    """Make a function that draws a frame into a given figure one that returns the figure, in the house style.

    It refuses a frame without one of the ``columns``, or without a row; ``size`` is in inches.
    """

    def decorate(draw: Callable[..., None]) -> Callable[..., Figure]:
        @functools.wraps(draw)
        def figure_of(frame: pd.DataFrame, *others: Any, **options: Any) -> Figure:
            if missing := [name for name in columns if name not in frame]:
                raise ValueError(f"the frame has no column {missing[0]!r}; it has {', '.join(map(str, frame.columns))}")
            if columns and frame.empty:
                raise ValueError("nothing to draw: the frame has no rows")
            figure = blank(size)
            draw(figure, frame, *others, **options)
            return figure

        return figure_of

    return decorate


def save(figure: Figure, name: str, tier: str, output: str | Path = "") -> list[Path]:
    """Write ``figures/<name>.png`` and ``.svg`` (``figures/_smoke/`` at the smoke tier); same figure, same bytes."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ValueError(f"figure name {name!r} must be lower case letters, digits and underscores")
    targets = [paths.figures_dir(tier, output) / f"{name}{suffix}" for suffix in (".png", ".svg")]
    # matplotlib would stamp its version into a PNG and the time into an SVG.
    for target, stamp in zip(targets, ("Software", "Date"), strict=True):
        with writing_file(target) as temporary:
            figure.savefig(temporary, metadata={stamp: None})
    print(f"wrote {targets[0].relative_to(Path(output) if output else paths.project_root()).as_posix()} and .svg")
    return targets


def colours(names: list[str]) -> dict[str, tuple[float, float, float]]:
    """Colour of each name: the method's own where it has one, else the next unused of the palette."""
    free = itertools.cycle(colour for colour in PALETTE if colour not in map(METHOD_COLOURS.get, names))
    return {name: METHOD_COLOURS.get(name) or next(free) for name in names}


def curves(
    axes: Axes, frame: pd.DataFrame, x: str, y: str, by: str, *, palette: Mapping[str, Any] | None = None, **look: Any
) -> None:
    """A line of y over x for each value of ``by``, in its colour and (with ``linestyle="by"``) its own dashes."""
    dashes = ("-", "--", ":", "-.") if look.pop("linestyle", "") == "by" else ("-",)
    for k, (name, colour) in enumerate((palette or colours(list(frame[by].unique()))).items()):
        rows = frame[frame[by] == name]
        axes.plot(rows[x], rows[y], **{"color": colour, "linestyle": dashes[k % len(dashes)], "label": name} | look)


def dots(axes: Axes, rows: pd.DataFrame, names: ArrayLike) -> None:
    """A dot and its interval in each line, from the top down: mean, low, high; no interval where it is not known."""
    axes.hlines(range(len(rows)), rows["low"].fillna(rows["mean"]), rows["high"].fillna(rows["mean"]), color=PALETTE[0])
    axes.plot(rows["mean"], range(len(rows)), "o", markersize=4, color=PALETTE[0])
    lines(axes, names)


def bars(axes: Axes, heights: Any, low: Any, high: Any, palette: Sequence[Any]) -> None:
    """Bars in groups, a group for each row of three frames alike and in it a bar for each column, with its interval."""
    height = 0.8 / heights.shape[1]
    for k, (name, values) in enumerate(heights.items()):
        places = np.arange(len(values)) + (k - (heights.shape[1] - 1) / 2) * height
        axes.barh(places, values.fillna(0), height * 0.9, color=palette[k], label=str(name))
        axes.hlines(places, low[name], high[name], color="0.2", linewidth=1.2)
    lines(axes, heights.index)


def lines(axes: Axes, names: ArrayLike) -> None:
    """Name the lines of an axis that are numbered from 0, from the top down."""
    names = np.asarray(names)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)


def plain(axis: Any, digits: str) -> None:
    """Write an axis's numbers as they are, powers of ten included; between powers those that begin with ``digits``."""
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in digits else "")


def legend_below(figure: Figure, axes: Axes, **options: Any) -> None:
    """The legend of one panel below all of them."""
    handles, labels = axes.get_legend_handles_labels()
    look: dict[str, Any] = {"loc": "outside lower center", "ncols": len(labels)} | options
    figure.legend(handles, labels, **look)

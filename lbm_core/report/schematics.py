"""How things work, in pictures: each is a file of ``schematics/`` with boxes, grids, arrows and texts, in one style.

A file has a ``size`` in inches and panels, each with its own ``limits`` (x to the right, y up); a ``legend`` says what
the looks of boxes mean in it. Looks differ in lightness and outline, too, so that a picture can be read in grey.
"""

import tomllib
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Patch, Rectangle

from lbm_core.report.style import blank

FOLDER = Path(__file__).with_name("schematics")
NAMES = tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))
_LOOKS: dict[str, dict[str, Any]] = {
    "trained": {"facecolor": "#f2c37c", "linewidth": 1.7},
    "frozen": {"facecolor": "#d3e6f3", "linewidth": 0.8},
    "data": {"facecolor": "#efefef", "linewidth": 0.8, "linestyle": "--"},
    "passed": {"facecolor": "white", "linewidth": 0.8},
    "read": {"facecolor": "#5b7fa6", "linewidth": 0.5},
    "word": {"facecolor": "#1f3b57", "linewidth": 0.5},
    "hidden": {"facecolor": "white", "linewidth": 0.3},
}
_TEXT: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 7.5, "linespacing": 1.3}
_ARROW = {"arrowstyle": "-|>", "color": "0.3", "linewidth": 1, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 8}


def schematic(name: str) -> Figure:
    """The picture of that name, one of :data:`NAMES` (else ValueError)."""
    if name not in NAMES:
        raise ValueError(f"no schematic {name!r}; there are {', '.join(NAMES)}")
    drawing = tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
    figure, panels = blank(tuple(drawing["size"])), drawing["panel"]
    widths = [panel["limits"][0] for panel in panels]
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False, width_ratios=widths)[0], panels, strict=True):
        _draw(axes, panel)
    if legend := drawing.get("legend"):
        handles = [Patch(edgecolor="0.3", label=text, **_LOOKS[look]) for look, text in legend.items()]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=7.5)
    return figure


def _draw(axes: Axes, panel: dict[str, Any]) -> None:
    """One panel: boxes (left, bottom, width, height, look, text), grids of letters, arrows (from, to) and texts."""
    right, top = panel["limits"]
    axes.set(xlim=(0, right), ylim=(0, top), title=panel.get("title", ""))
    axes.axis("off")
    for x, y, width, height, look, text in panel.get("boxes", ()):
        shape = f"round,pad=0,rounding_size={top / 50}"
        axes.add_patch(FancyBboxPatch((x, y), width, height, shape, edgecolor="0.3", **_LOOKS[look]))
        axes.text(x + width / 2, y + height / 2, text, **_TEXT)
    for grid in panel.get("grids", ()):
        (x, y), (width, height) = grid["at"], grid["cell"]
        for i, line in enumerate(grid["rows"]):
            for j, letter in enumerate(line):
                corner, look = (x + j * width, y - (i + 1) * height), _LOOKS[grid["looks"][letter]]
                axes.add_patch(Rectangle(corner, width, height, edgecolor="0.6", **look))
        for i, text in enumerate(grid["names"]):
            axes.text(x - 0.4 * width, y - (i + 0.5) * height, text, **_TEXT | {"ha": "right"})
            axes.text(x + (i + 0.5) * width, y + 0.4 * height, text, **_TEXT | {"va": "bottom"} | grid.get("top", {}))
    for x, y, to_x, to_y, *look in panel.get("arrows", ()):
        axes.annotate("", (to_x, to_y), (x, y), arrowprops=_ARROW | (*look, {})[0])
    for x, y, text, look in panel.get("texts", ()):
        axes.text(x, y, text, **_TEXT | look)

"""Fig. 1, drawn by code: the two training stages of LBM."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Patch

from lbm_core.report.style import PALETTE, panels

_FILLS: dict[str, Any] = {
    "trained": (*PALETTE[1], 0.35),
    "frozen": (*PALETTE[0], 0.25),
    "data": (0, 0, 0, 0.06),
    "passed": "white",
}
_RELATIVE_Q = "critic, relative-Q (Eq. 12):\n" + r"$\Delta Q_i = Q(s_t, \tilde{a}_t^i) - Q(s_t, a_t)$"
_BEST = "the best (Eq. 13), if it beats the log:\n" + r"$j = \mathrm{argmax}_i\, \Delta Q_i$ with $\Delta Q_j > 0$"
# Boxes: left, bottom, width, height in tenths of a panel; what they are; and the text in them.
_STAGE_1 = (
    (0.2, 8.6, 4.5, 1.1, "frozen", "LBM-Think"),
    (5.3, 8.6, 4.5, 1.1, "data", "logged day: $R$, $s$, $a$\nof the last ten ticks"),
    (0.2, 6.9, 4.5, 1.1, "passed", "chain of thought $c_t$, dropped\nif against the logged move"),
    (0.2, 2.1, 9.6, 4.3, "passed", ""),
    (0.6, 5.0, 4.1, 0.9, "frozen", "token embedding"),
    (5.3, 5.0, 4.1, 0.9, "trained", "decision embedding"),
    (0.6, 3.6, 8.8, 0.9, "trained", "transformer layers of a language model"),
    (6.6, 2.4, 2.8, 0.8, "trained", "head (MLP)"),
    (0.6, 0.4, 3.4, 1.0, "data", "logged action $a_t$"),
    (6.6, 0.4, 2.8, 1.0, "passed", r"action $\tilde{a}_t$"),
)
_STAGE_2 = (
    (1.7, 8.6, 6.2, 1.1, "data", "a logged decision $(s_t, a_t)$:\nits last four ticks, in words"),
    (1.7, 7.1, 6.2, 0.9, "trained", "LBM-Think"),
    (1.2, 5.7, 1.6, 0.8, "passed", "$c_t^1$"),
    (4.0, 5.7, 1.6, 0.8, "passed", "$c_t^2$"),
    (6.8, 5.7, 1.6, 0.8, "passed", "$c_t^N$"),
    (0.6, 4.2, 8.4, 0.9, "frozen", r"LBM-Act: actions $\tilde{a}_t^1 \,\ldots\, \tilde{a}_t^N$"),
    (
        0.6,
        2.5,
        8.4,
        1.1,
        "frozen",
        _RELATIVE_Q,
    ),
    (
        0.6,
        0.6,
        8.4,
        1.2,
        "passed",
        _BEST,
    ),
)
# Arrows: from x, y to x, y.
_FLOW_1 = (
    *((5.3, 9.15, 4.7, 9.15), (2.45, 8.6, 2.45, 8.0), (2.45, 6.9, 2.45, 5.9), (7.35, 8.6, 7.35, 5.9)),
    *((2.65, 5.0, 2.65, 4.5), (7.35, 5.0, 7.35, 4.5), (8.0, 3.6, 8.0, 3.2), (8.0, 2.4, 8.0, 1.4)),
)
_FLOW_2 = (
    *((4.8, 8.6, 4.8, 8.0), (2.0, 7.1, 2.0, 6.5), (4.8, 7.1, 4.8, 6.5), (7.6, 7.1, 7.6, 6.5)),
    *((2.0, 5.7, 2.0, 5.1), (4.8, 5.7, 4.8, 5.1), (7.6, 5.7, 7.6, 5.1), (4.8, 4.2, 4.8, 3.6), (4.8, 2.5, 4.8, 1.8)),
)


def fig1() -> Figure:
    """Fig. 1: LBM-Act is trained on language-guided decisions (left), then LBM-Think by GQPO (right)."""
    figure, (left, right) = panels(2, size=(7.0, 3.7))
    for axes, boxes, arrows in ((left, _STAGE_1, _FLOW_1), (right, _STAGE_2, _FLOW_2)):
        axes.set(xlim=(0, 10), ylim=(0, 10))
        axes.axis("off")
        for box in boxes:
            _box(axes, *box)
        for arrow in arrows:
            _arrow(axes, *arrow)
    left.set_title("Stage I: LBM-Act learns to act as it is guided")
    right.set_title("Stage II: LBM-Think learns what pays (GQPO)")
    left.text(0.6, 2.8, "LBM-Act", fontsize=8, weight="bold", va="center")
    _arrow(left, 4.0, 0.9, 6.6, 0.9, style="<->")
    left.text(5.3, 1.05, r"$\mathcal{L}_a$ (Eq. 5)", ha="center", fontsize=7)
    right.text(6.2, 6.1, "…", ha="center", va="center")
    right.plot([9.0, 9.6, 9.6], [1.2, 1.2, 7.55], color="0.3", linewidth=1)
    _arrow(right, 9.6, 7.55, 7.9, 7.55)
    right.text(9.75, 4.4, r"learn $c_t^j$ (Eq. 14)", rotation=90, va="center", ha="left", fontsize=7)
    names = {"trained": "trained in this stage", "frozen": "frozen", "data": "data"}
    handles = [Patch(facecolor=_FILLS[kind], edgecolor="0.3", label=name) for kind, name in names.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def _box(axes: Axes, x: float, y: float, width: float, height: float, kind: str, text: str) -> None:
    shape = "round,pad=0,rounding_size=0.2"
    axes.add_patch(FancyBboxPatch((x, y), width, height, shape, facecolor=_FILLS[kind], edgecolor="0.3", linewidth=0.8))
    axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=7, linespacing=1.3)


def _arrow(axes: Axes, x: float, y: float, to_x: float, to_y: float, style: str = "-|>") -> None:
    look = {"arrowstyle": style, "color": "0.3", "linewidth": 1, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 8}
    axes.annotate("", (to_x, to_y), (x, y), arrowprops=look)

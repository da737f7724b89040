"""The scorecard of the paper's claims as a picture."""

from __future__ import annotations

import textwrap
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from lbm_core.evaluation.claims import VERDICTS
from lbm_core.evaluation.statistics import MIN_TRAININGS
from lbm_core.report.style import PALETTE, drawn, sized

# Of each verdict: a sign, which stays where colours are lost, the colour of its cell, and that of the sign.
_COLOURS, _INKS = (PALETTE[2], PALETTE[3], PALETTE[9], "0.7", "0.88"), ("white", "white", "black", "black", "black")
_SIGNS = {verdict: look for verdict, *look in zip(VERDICTS, "✓✗○≠–", _COLOURS, _INKS, strict=True)}
_FIRST, _WIDTH = 2.65, 7.0  # inches: where the verdicts begin, and the whole
_LOOK: dict[str, Any] = {"fontsize": 6.5, "va": "center"}


@drawn("dataset", "short", "section", "verdict", "metric", "estimate", "low", "high", "measured", "seeds")
def scorecard(figure: Figure, cards: pd.DataFrame) -> None:
    """Cards of :func:`lbm_core.evaluation.claims.scorecard` with their data set: a line per claim, a cell per data set.

    Beside a verdict stands the number that decides it with its 95 % interval (Δ: a difference, above 0 if the paper is
    right), beside "not run" the reason.
    """
    claims, column = list(cards["short"].unique()), (_WIDTH - _FIRST) / cards["dataset"].nunique()
    axes = sized(figure, _WIDTH, 0.185 * len(claims) + 0.5)
    axes.set(xlim=(0, _WIDTH), ylim=(len(claims) + 1, -1.2))
    axes.axis("off")
    axes.hlines([place - 0.5 for place in range(len(claims) + 1)], 0, _WIDTH, color="0.92", linewidth=0.5)
    for place, row in enumerate(cards.drop_duplicates("short").to_dict("records")):
        axes.text(0, place, row["short"], **_LOOK)
        axes.text(_FIRST - 0.1, place, row["section"], **_LOOK | {"ha": "right", "color": "0.4", "fontsize": 6})
    cells = [(1.1 * place, len(claims) + 0.5, verdict, verdict) for place, verdict in enumerate(VERDICTS)]  # the legend
    axes.text(_WIDTH, len(claims) + 0.5, f"* fewer than {MIN_TRAININGS} trainings", **_LOOK | {"ha": "right"})
    for number, (dataset, card) in enumerate(cards.groupby("dataset", sort=False)):
        axes.text(_FIRST + number * column, -0.9, dataset, **_LOOK | {"fontsize": 8})
        for row in card.to_dict("records"):
            cells.append((_FIRST + number * column, claims.index(row["short"]), row["verdict"], _number(row)))
    for left, line, verdict, text in cells:
        sign, colour, ink = _SIGNS[verdict]
        axes.barh(line, 0.2, 0.82, left=left, color=colour)
        axes.text(left + 0.1, line, sign, **_LOOK | {"ha": "center", "family": "DejaVu Sans", "color": ink})
        axes.text(left + 0.28, line, text, **_LOOK | {"fontsize": 6})


def _number(row: dict[Any, Any]) -> str:
    """The number that decides, or why there is none."""
    if pd.isna(row["estimate"]):
        return textwrap.shorten(row["measured"], 42, placeholder=" …")
    sign, digits = ("+", 2) if row["metric"].startswith("Δ") else ("", 3)
    numbers = [row[name] for name in ("estimate", "low", "high") if pd.notna(row[name])]
    mean, *bounds = (f"{round(value, 3):{sign}.{3 if abs(value) >= 99.5 else digits}g}" for value in numbers)
    text = f"{row['metric'].replace('budget_', '').replace('expected ', '').replace('expected_', '')} {mean}" + (
        f" [{', '.join(bounds)}]" if bounds else ""
    )
    return text.replace("_", " ").replace("-", "−") + ("*" if 0 < row["seeds"] < MIN_TRAININGS else "")

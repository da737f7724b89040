"""Figures of the language baselines; each draws from a frame of recorded results and nothing else."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lbm_core.report import style
from lbm_core.report.figures import closed, panels

_DASHES = ("-", "--", ":", "-.")  # curves of one seed begin on top of each other
_MARKERS = ("o", "x", "s", "^")
# What became of a text keeps its colour in every figure, also where nothing was accepted.
_STATUS_COLOURS = {
    "accepted": style.PALETTE[2],
    "truncated": style.PALETTE[7],
    "no alpha": style.PALETTE[1],
    "several alphas": style.PALETTE[4],
    "alpha not a number": style.PALETTE[5],
    "alpha out of range": style.PALETTE[3],
}


def fig6_lengths(log: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Fig. 6: length of GRPO's texts over the steps, the paper's in grey beside ours, and how many of ours name alpha.

    Parameters
    ----------
    log : variant, step, length, answered (:func:`lbm_core.pipeline.grpo_lengths`)
    published : step, tokens (:func:`lbm_core.report.paper.figure6`)
    """
    figure, (theirs, ours, answered) = panels(3)
    theirs.plot(published["step"], published["tokens"], color=style.PAPER_COLOUR)
    theirs.set(xlabel="step", ylabel="tokens per text", title="The paper (digitised)")
    variants = list(log["variant"].unique())
    colour = style.colours(variants)
    few = log["step"].max() <= 20  # single steps are then worth a marker
    for k, name in enumerate(variants):
        rows = log[log["variant"] == name].sort_values("step")
        look: dict[str, Any] = {"color": colour[name], "label": name, "linestyle": _DASHES[k % 4]}
        if few:
            look |= {"marker": _MARKERS[k % 4], "markersize": 4}
        ours.plot(rows["step"], rows["length"], **look)
        answered.plot(rows["step"], 100 * rows["answered"], **look)
    ours.set(xlabel="step", ylabel="tokens per text", title="Ours")
    answered.set(xlabel="step", ylabel="% of texts", title="One readable alpha", ylim=(-4, 104))
    theirs.set_ylim(bottom=0)
    ours.set_ylim(0, 1.1 * log["length"].max())
    if few:
        for axes in (ours, answered):
            axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    handles, labels = ours.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(variants), 5))
    figure.set_layout_engine("constrained", wspace=0.06)
    return closed(figure)


def modelled_lengths(curves: pd.DataFrame) -> Figure:
    """Lengths of the model of one parameter over the steps, without and with a floor (dotted).

    Parameters
    ----------
    curves : average, floor (words; 0 = none), risk (chance per word), step, length (words)
    """
    floors = sorted(curves["floor"].unique())
    figure, drawn = panels(len(floors))
    risky = curves[curves["risk"] > 0]
    colour = style.colours(list(risky["average"].unique()))
    for axes, floor in zip(drawn, floors, strict=True):
        safe = curves[(curves["risk"] == 0) & (curves["floor"] == floor)]
        if len(safe):
            axes.plot(safe["step"], safe["length"], color="0.6", label="no risk")
        for k, (name, rows) in enumerate(risky[risky["floor"] == floor].groupby("average", sort=False)):
            axes.plot(rows["step"], rows["length"], color=colour[name], linestyle=_DASHES[k % 4], label=name)
        if floor:
            axes.axhline(floor, color="0.3", linestyle=(0, (1, 2)), linewidth=1)
        axes.set(xlabel="step", ylabel="words per text", title=f"Floor of {floor} words" if floor else "No floor")
        axes.set_ylim(0, 1.1 * curves["length"].max())
    handles, labels = drawn[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    return closed(figure)


def statuses(answers: pd.DataFrame) -> Figure:
    """What became of every consultation: method, status (of ``text_action.TextStatus``), count."""
    figure, (axes,) = panels(1, size=(5.2, 1.9))
    shares = answers.pivot_table(index="method", columns="status", values="count", sort=False, fill_value=0)
    shares = 100 * shares.div(shares.sum(axis=1), axis=0)
    order = [name for name in _STATUS_COLOURS if name in shares]
    left = pd.Series(0.0, index=shares.index)
    for name in order:
        axes.barh(shares.index, shares[name], left=left, color=_STATUS_COLOURS[name], label=name, height=0.6)
        left += shares[name]
    axes.invert_yaxis()
    axes.set(xlabel="% of consultations", xlim=(0, 100))
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return closed(figure)

"""Figures of the language baselines; each draws from a frame of recorded results and nothing else."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from lbm_core.report import style
from lbm_core.report.figures import closed, panels


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
    for name in variants:
        rows = log[log["variant"] == name].sort_values("step")
        look = {"color": colour[name], "label": name, "marker": "o" if few else "", "markersize": 3}
        ours.plot(rows["step"], rows["length"], **look)
        answered.plot(rows["step"], 100 * rows["answered"], **look)
    ours.set(xlabel="step", ylabel="tokens per text", title="Ours")
    answered.set(xlabel="step", ylabel="% of texts", title="One readable alpha", ylim=(-4, 104))
    for axes in (theirs, ours):
        axes.set_ylim(bottom=0)
    if few:
        for axes in (ours, answered):
            axes.set_xticks(sorted(log["step"].unique()))
    handles, labels = ours.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(variants), 5))
    return closed(figure)


def statuses(answers: pd.DataFrame) -> Figure:
    """What became of every consultation: method, status, count."""
    figure, (axes,) = panels(1, size=(5.2, 1.9))
    shares = answers.pivot_table(index="method", columns="status", values="count", sort=False, fill_value=0)
    shares = 100 * shares.div(shares.sum(axis=1), axis=0)
    order = [name for name in dict.fromkeys(["accepted", *shares.columns]) if name in shares]
    colour = style.colours(order)
    left = pd.Series(0.0, index=shares.index)
    for name in order:
        axes.barh(shares.index, shares[name], left=left, color=colour[name], label=name, height=0.6)
        left += shares[name]
    axes.invert_yaxis()
    axes.set(xlabel="% of consultations", xlim=(0, 100))
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return closed(figure)

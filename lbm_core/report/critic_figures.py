"""Figures of chapter 3, from recorded results alone."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lbm_core.report import style


def says_and_is(losses: pd.DataFrame, verdicts: pd.DataFrame) -> Figure:
    """Losses of IQL, and what the critic says of other alphas against what the replay says.

    Parameters
    ----------
    losses : step, q_loss, v_loss
    verdicts : factor, relative_q, gain
    """
    style.use()
    figure, (left, right) = plt.subplots(1, 2, figsize=style.WIDE)
    for name, label in (("q_loss", "Q (Eq. 9)"), ("v_loss", "V (Eq. 8)")):
        left.plot(losses["step"], losses[name].rolling(10, min_periods=1).median(), label=label)
    left.set(xlabel="training step", ylabel="loss", yscale="log", title="IQL")
    left.legend()
    for factor, rows in verdicts.groupby("factor"):
        right.scatter(rows["relative_q"], rows["gain"], s=4, alpha=0.4, linewidth=0, label=f"alpha × {factor}")
    right.axhline(0, color=style.PAPER_COLOUR, linewidth=0.8)
    right.axvline(0, color=style.PAPER_COLOUR, linewidth=0.8)
    limit = verdicts["gain"].abs().quantile(0.98)
    right.set(xlabel="relative-Q", ylabel="replayed change of the score", title="Says, and is", ylim=(-limit, limit))
    right.legend(markerscale=2.5)
    return figure


def variants(validity: pd.DataFrame, steered: pd.DataFrame) -> Figure:
    """Critics side by side: sign accuracy, rank correlation, and the score where each alone steers.

    Parameters
    ----------
    validity : method, metric ("sign_accuracy", "rank_correlation"), mean, low, high
    steered : method (the same critics, and "constant", drawn as a line), mean, low, high
    """
    style.use()
    names = list(validity["method"].unique())
    figure, panes = plt.subplots(1, 3, figsize=(7, 0.24 * len(names) + 1), sharey=True)
    places = np.arange(len(names))
    chosen = [validity[validity["metric"] == metric] for metric in ("sign_accuracy", "rank_correlation")]
    titles = ("sign accuracy", "rank correlation", "score, steering alone")
    for axes, rows, title in zip(panes, (*chosen, steered), titles, strict=True):
        told = rows.set_index("method").loc[names]
        axes.plot(told["mean"], places, "o", markersize=4)
        axes.hlines(places, told["low"].fillna(told["mean"]), told["high"].fillna(told["mean"]))
        axes.set(xlabel=title)
    panes[0].axvline(0.5, color=style.PAPER_COLOUR, linestyle="--")
    panes[1].axvline(0, color=style.PAPER_COLOUR, linestyle="--")
    still = steered.loc[steered["method"] == "constant", "mean"].item()
    panes[2].axvline(still, color=style.PAPER_COLOUR, linestyle="--")
    panes[0].set_yticks(places, names)
    panes[0].invert_yaxis()
    figure.supxlabel("dashed: chance, chance, alpha = C all day", fontsize=7)
    return figure


def calibration(rows: pd.DataFrame, by: Sequence[pd.DataFrame]) -> Figure:
    """Mean gain where the critics say about the same, and sign accuracy over the day and over the CPA so far.

    Parameters
    ----------
    rows : variant, relative_q, gain
    by : two frames of variant, bin (text, in the order to draw) and sign_accuracy: over ticks, over the CPA ratio
    """
    style.use()
    figure, panes = plt.subplots(1, 3, figsize=(7, 2.3))
    colours = style.colours(list(rows["variant"].unique()))
    for variant, line in rows.groupby("variant", sort=False):
        panes[0].plot(line["relative_q"], line["gain"], "o-", markersize=3, label=variant, color=colours[str(variant)])
    panes[0].axhline(0, color=style.PAPER_COLOUR, linewidth=0.8)
    panes[0].axvline(0, color=style.PAPER_COLOUR, linewidth=0.8)
    panes[0].set(xlabel="relative-Q (mean of a bin)", ylabel="replayed gain (score)")
    for axes, frame, label in zip(panes[1:], by, ("tick", "CPA so far / C"), strict=True):
        for variant, line in frame.groupby("variant", sort=False):
            axes.plot(line["bin"], line["sign_accuracy"], "o-", markersize=3, color=colours[str(variant)])
        axes.axhline(0.5, color=style.PAPER_COLOUR, linestyle="--")
        axes.set(xlabel=label, ylim=(0, 1))
        axes.tick_params(axis="x", rotation=30)
    panes[1].set_ylabel("sign accuracy")
    figure.legend(*panes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure

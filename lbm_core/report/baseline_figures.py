"""Figures of chapter 6, from recorded results alone."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lbm_core.report import style


def leader_board(scores: pd.DataFrame, best_constant: float, *, label: str = "score per advertiser") -> Figure:
    """Means with intervals, one line per method.

    Parameters
    ----------
    scores : method, mean, low, high (NaN where there are too few days)
    best_constant : score of the best constant alpha in hindsight, dashed
    """
    style.use()
    figure, axes = plt.subplots(figsize=(4.8, 0.22 * len(scores) + 1))
    places = np.arange(len(scores))
    axes.plot(scores["mean"], places, "o", markersize=4)
    axes.hlines(places, scores["low"].fillna(scores["mean"]), scores["high"].fillna(scores["mean"]))
    axes.axvline(best_constant, color=style.PAPER_COLOUR, linestyle="--")
    axes.set_yticks(places, scores["method"])
    axes.invert_yaxis()
    axes.set(xlabel=f"{label} (dashed: best constant in hindsight)", xlim=(0, None))
    return figure


def black_box_day(day: pd.DataFrame) -> Figure:
    """One advertiser's day under several methods: alpha, and the CPA so far with the moves against it.

    Parameters
    ----------
    day : method, tick, alpha_ratio, cpa_ratio, wrong_way
    """
    style.use()
    names = list(day["method"].unique())
    width = max(len(names), 2) * 1.75
    figure, grid = plt.subplots(2, len(names), figsize=(width, 3.2), sharex=True, sharey="row", squeeze=False)
    for (top, bottom), name in zip(grid.T, names, strict=True):
        rows = day[day["method"] == name]
        wrong = rows[rows["wrong_way"]]
        top.step(rows["tick"], rows["alpha_ratio"], where="mid")
        top.plot(wrong["tick"], wrong["alpha_ratio"], "o", markersize=3, color=style.PALETTE[3])
        top.set_title(name)
        bottom.plot(rows["tick"], rows["cpa_ratio"])
        label = "alpha moves against it"
        bottom.plot(wrong["tick"], wrong["cpa_ratio"], "o", markersize=3, color=style.PALETTE[3], label=label)
        bottom.axhline(1, color="black", linewidth=0.6)
        bottom.set(xlabel="tick")
    grid[0, 0].set_ylabel("alpha / C")
    grid[1, 0].set_ylabel("CPA so far / C")
    handles, labels = grid[1, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center")
    return figure


def learning_curves(curves: pd.DataFrame) -> Figure:
    """Losses of every method, each on its own scale: method, train_seed, step, name, value."""
    style.use()
    names, across = list(curves["method"].unique()), 4
    down = -(-len(names) // across)
    figure, grid = plt.subplots(down, across, figsize=(7, 1.4 * down), squeeze=False)
    for axes, name in zip(grid.flat, names, strict=False):
        rows = curves[curves["method"] == name]
        for place, loss in enumerate(rows["name"].unique()):
            for _, line in rows[rows["name"] == loss].groupby("train_seed"):
                smooth = line["value"].rolling(5, center=True, min_periods=1).median()
                axes.plot(line["step"], smooth, color=style.PALETTE[place], linewidth=0.8)
            axes.plot([], [], color=style.PALETTE[place], label=loss)
        axes.set_title(name)
        axes.ticklabel_format(axis="x", style="sci", scilimits=(0, 3))
        if set(rows["name"]) != {"loss"}:
            axes.legend()
    for axes in grid.flat[len(names) :]:
        axes.set_visible(False)
    for axes in grid[:, 0]:
        axes.set_ylabel("loss")
    for place in range(across):
        last = max(row for row in range(down) if row * across + place < len(names)) if place < len(names) else 0
        grid[last, place].set_xlabel("step")
    return figure


def put_back(worth: pd.DataFrame) -> Figure:
    """Score of methods as tuned (vertical lines) and with one decision put back: method, change, score."""
    style.use()
    names = list(worth["method"].unique())
    changed = worth[worth["change"] != "as tuned"]
    counts = [int((changed["method"] == name).sum()) for name in names]
    size = (4.8, 0.28 * sum(counts) + 0.35 * len(names) + 0.4)
    figure, panes = plt.subplots(len(names), 1, figsize=size, sharex=True, squeeze=False, height_ratios=counts)
    for axes, name, colour in zip(panes[:, 0], names, style.PALETTE, strict=False):
        rows = changed[changed["method"] == name]
        tuned = worth.loc[(worth["method"] == name) & (worth["change"] == "as tuned"), "score"].item()
        axes.hlines(rows["change"], rows["score"], tuned, color=colour)
        axes.plot(rows["score"], rows["change"], "o", color=colour, markersize=4)
        axes.axvline(tuned, color=colour, linewidth=1.5)
        axes.set(title=name, xlim=(0, 1.04 * worth["score"].max()), ylim=(len(rows) - 0.5, -0.5))
    panes[-1, 0].set_xlabel("score per advertiser (line: as tuned)")
    return figure


def penalty_sweep(ours: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Table 3 as curves: w against score; ours (w, mean, low, high) the paper's (w, value) apart."""
    style.use()
    figure, (left, right) = plt.subplots(1, 2, figsize=(4.8, 2.2))
    left.plot(ours["w"], ours["mean"], "o-")
    left.fill_between(ours["w"], ours["low"].fillna(ours["mean"]), ours["high"].fillna(ours["mean"]), alpha=0.2)
    left.set(xlabel="w", ylabel="score per advertiser", title="ours")
    right.plot(published["w"], published["value"], "o-", color=style.PAPER_COLOUR)
    right.set(xlabel="w", title="paper")
    return figure


def return_targets(sweep: pd.DataFrame) -> Figure:
    """Score and budget use against the first return-to-go: method, target_return, score, budget_utilization."""
    style.use()
    figure, panes = plt.subplots(1, 2, figsize=(6.4, 2.4))
    means = sweep.groupby(["method", "target_return"], sort=False)[["score", "budget_utilization"]].mean().reset_index()
    for axes, column in zip(panes, ("score", "budget_utilization"), strict=True):
        for name, rows in means.groupby("method", sort=False):
            axes.plot(rows["target_return"], rows[column], "o-", markersize=3, linewidth=0.9, label=str(name))
        axes.set(xlabel="first return-to-go, in B / C", ylabel=column.replace("_", " "), xscale="log", ylim=(0, None))
        axes.set_xticks([0.6, 1, 2, 3.3], ["0.6", "1", "2", "3.3"], minor=False)
        axes.set_xticks([], minor=True)
    panes[1].legend(loc="center left", bbox_to_anchor=(1.02, 0.5))
    return figure

"""Figures of chapter 2 beside the paper's own (Fig. 3 and 5 are in figures.py), from recorded results alone."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lbm_core.report import style

_ORDER = ("decrease", "uncertain", "increase")
_COLOURS = dict(zip(_ORDER, (style.PALETTE[3], style.PALETTE[7], style.PALETTE[2]), strict=True))


def instructed_moves(frame: pd.DataFrame) -> Figure:
    """The same moments under three sentences: how far log alpha moves (instruction, log_move)."""
    style.use()
    figure, axes = plt.subplots(figsize=style.COLUMN)
    moves = [frame.loc[frame["instruction"] == name, "log_move"] for name in _ORDER]
    axes.boxplot(moves, tick_labels=list(_ORDER), showfliers=False)
    axes.axhline(0, color=style.PAPER_COLOUR, linewidth=0.8)
    axes.set(ylabel=r"$\log(\tilde a_t / a_{t-1})$", xlabel="told to")
    return figure


def language_share(frame: pd.DataFrame) -> Figure:
    """Share of attention on words (layer, head, share, even), one cell per layer and head; even attention is marked."""
    style.use()
    table = frame.pivot(index="layer", columns="head", values="share")
    size = (min(0.36 * table.shape[1] + 2.0, 7.0), 0.26 * len(table) + 1.2)
    figure, axes = plt.subplots(figsize=size)
    few = table.size <= 60  # numbers where they can be read
    sns.heatmap(
        100 * table,
        ax=axes,
        vmin=0,
        vmax=100,
        cmap="magma",
        annot=few,
        fmt=".0f",
        annot_kws={"size": 6},
        cbar_kws={"label": "attention on words, %"},
    )
    even = 100 * frame["even"].iloc[0]
    bar = axes.collections[0].colorbar
    if bar is not None:
        bar.ax.axhline(even, color="white", linewidth=1.5)
    axes.set(xlabel="head", ylabel="layer", title=f"White line: spread evenly, {even:.0f} %")
    axes.tick_params(length=0)
    axes.set_yticklabels(axes.get_yticklabels(), rotation=0)
    return figure


def running_away(days: pd.DataFrame, drift: dict[str, float]) -> Figure:
    """Alpha and spending over one advertiser's day under constant instructions.

    Parameters
    ----------
    days : method ("increase", "uncertain", "decrease" and softer ones), tick, alpha_ratio, spent
    drift : mean move of log alpha a tick under an instruction, drawn as a straight line (dotted)
    """
    style.use()
    figure, (left, right) = plt.subplots(1, 2, figsize=style.WIDE, sharex=True)
    for name, rows in days.groupby("method", sort=False):
        told = next((word for word in _ORDER if word in str(name)), _ORDER[1])
        line = "-" if name in _ORDER else "--"
        for axes, column, label in ((left, "alpha_ratio", None), (right, "spent", _short(str(name)))):
            axes.plot(rows["tick"], rows[column], line, color=_COLOURS[told], label=label)
    ticks = np.arange(48)
    reach = days["alpha_ratio"].min() / 1.5, days["alpha_ratio"].max() * 1.5
    for name, move in drift.items():
        left.plot(ticks, np.exp(move * ticks), ":", color=_COLOURS[name], linewidth=0.9)
    left.set(xlabel="tick", ylabel=r"$\alpha / C$", yscale="log", ylim=reach, title="Bidding parameter")
    left.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    left.yaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else "")
    right.set(xlabel="tick", ylabel="share of the budget", ylim=(0, 1.03), title="Spent so far")
    right.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def instruction_strength(frame: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Table 4 and what makes it mild: utilisation and score per way of instructing.

    Parameters
    ----------
    frame : instruction ("increase", "decrease", "base"), way ("every tick", "scale 0.25", ...), budget_utilization,
        score: one row per way, and one of the base, whose way does not matter
    published : instruction, metric, value: the paper's, in grey
    """
    style.use()
    base = frame[frame["instruction"] == "base"].iloc[0]
    told = frame[frame["instruction"] != "base"]
    ways = list(dict.fromkeys(told["way"]))
    figure, panes = plt.subplots(1, 2, figsize=(7.0, 0.24 * len(ways) + 1.3), sharey=True)
    places = {way: k for k, way in enumerate([*ways, "paper"])}
    for axes, metric, label in zip(
        panes, ("budget_utilization", "score"), ("share of the budget spent", "score per advertiser"), strict=True
    ):
        table = told.pivot(index="way", columns="instruction", values=metric).loc[ways]
        _spans(axes, [places[way] for way in ways], table, float(base[metric]), ("0.8", *_colours()))
        theirs = published[published["metric"] == metric].set_index("instruction")["value"]
        paper = pd.DataFrame({name: [theirs[name]] for name in ("decrease", "increase")})
        _spans(axes, [places["paper"]], paper, float(theirs["base"]), ("0.8", *[style.PAPER_COLOUR] * 3))
        axes.axhline(len(ways) - 0.5, color="0.85", linewidth=0.8)
        axes.set(xlabel=label, xlim=(0, None))
    panes[0].set_yticks(list(places.values()), [*ways[:-1], ways[-1], "paper, every tick"])
    panes[0].set_ylim(len(ways) + 0.5, -0.5)
    marks = [
        Line2D([], [], marker=marker, linestyle="", color=colour, label=name)
        for marker, colour, name in zip("<|>", _colours(), ("decrease", "base", "increase"), strict=True)
    ]
    figure.legend(handles=marks, loc="outside lower center", ncols=3)
    return figure


def guides(differences: pd.DataFrame, spending: pd.DataFrame, reference: str) -> Figure:
    """Score of LBM-Act under each guide, less that under the reference, and what is spent.

    Parameters
    ----------
    differences : method, difference, low, high (NaN where there are too few days)
    spending : method, budget_utilization (of the reference, too)
    reference : method
    """
    style.use()
    names = list(differences["method"])
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.0, 0.24 * len(names) + 1.1), sharey=True, width_ratios=[3, 2])
    places = np.arange(len(names))
    left.hlines(places, differences["low"], differences["high"], color=style.PALETTE[0])
    left.plot(differences["difference"], places, "o", markersize=4, color=style.PALETTE[0])
    left.axvline(0, color=style.PAPER_COLOUR, linewidth=0.8)
    left.set_yticks(places, [name.removeprefix("LBM-Act + ") for name in names])
    left.set(xlabel=f"score minus that under '{_short(reference)}'", ylabel="guide")
    share = spending.set_index("method")["budget_utilization"]
    right.barh(places, share.loc[names], height=0.6, color=style.PALETTE[7])
    right.axvline(share[reference], color=style.PAPER_COLOUR, linestyle="--")
    right.set(xlabel=f"share of the budget spent (dashed: '{_short(reference)}')", xlim=(0, 1.03))
    left.invert_yaxis()
    return figure


def sizes(frame: pd.DataFrame) -> Figure:
    """Sizes of LBM-Act: final loss, obedience and seconds (size, train_seed, loss, followed, trained, seconds)."""
    style.use()
    names = list(dict.fromkeys(frame["size"]))
    figure, panes = plt.subplots(1, 3, figsize=(7.0, 0.26 * len(names) + 1.0), sharey=True)
    figure.get_layout_engine().set(w_pad=0.08)  # type: ignore[union-attr, call-arg]  # tick labels of neighbours would touch
    places = frame["size"].map({name: k for k, name in enumerate(names)})
    for axes, column, label in zip(
        panes, ("loss", "followed", "seconds"), ("loss at the end", "moves as told, share", "training, s"), strict=True
    ):
        axes.plot(frame[column], places, "o", markersize=4, color=style.PALETTE[0], alpha=0.7)
        axes.set(xlabel=label)
        axes.grid(axis="y", color="0.92")
    panes[1].set_xlim(-0.03, 1.03)
    panes[2].set_xlim(left=0)
    trained = frame.groupby("size", sort=False)["trained"].first() / 1e6
    panes[0].set_yticks(range(len(names)), [f"{name} ({trained[name]:.2g} M trained)" for name in names])
    panes[0].set_ylim(len(names) - 0.5, -0.5)
    return figure


def _spans(axes: Axes, places: list[int], table: pd.DataFrame, base: float, colours: tuple) -> None:
    """Decrease, base and increase of each row, joined by a line."""
    line, decrease, middle, increase = colours
    low, high = table[["decrease", "increase"]].min(axis=1), table[["decrease", "increase"]].max(axis=1)
    axes.hlines(places, np.minimum(low, base), np.maximum(high, base), color=line, linewidth=1, zorder=1)
    axes.plot(table["decrease"], places, "<", markersize=5, color=decrease)
    axes.plot(table["increase"], places, ">", markersize=5, color=increase)
    axes.plot([base] * len(places), places, "|", markersize=8, color=middle)


def _colours() -> tuple:
    """Colours of decrease, base and increase."""
    return tuple(_COLOURS[name] for name in _ORDER)


def _short(name: str) -> str:
    return name.removeprefix("LBM-Act + ")

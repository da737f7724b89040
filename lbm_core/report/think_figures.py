"""Figures of chapters 4 and 9: what LBM-Think writes, one day it leads, what lateness costs; from recorded results."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lbm_core.report import style
from lbm_core.report.figures import closed


def outcomes(texts: pd.DataFrame, shares: pd.DataFrame) -> Figure:
    """What becomes of each model's texts, how wrong their ratios are, and the truth beside what they state.

    Parameters
    ----------
    texts : model, true_ratio, ratio, ratio_error (relative, >= 0)
    shares : rows of :func:`lbm_core.think.hallucination.hallucination` that are statuses, in the order to draw
    """
    models = list(dict.fromkeys(shares["model"]))
    colour = style.colours(models)
    statuses = list(dict.fromkeys(shares["quantity"]))
    style.use()
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(7.4, 2.7), width_ratios=[1.15, 1, 1])
    height = 0.8 / len(models)
    for k, model in enumerate(models):
        rows = shares[shares["model"] == model].set_index("quantity").reindex(statuses)
        places = np.arange(len(statuses)) + (k - (len(models) - 1) / 2) * height
        left.barh(places, rows["value"].fillna(0), height=height * 0.9, color=colour[model], label=model)
        spans = rows[["low", "high"]].notna().all(axis=1).to_numpy()
        left.hlines(places[spans], rows["low"][spans], rows["high"][spans], color="0.2", linewidth=1)
        error = np.sort(texts.loc[texts["model"] == model, "ratio_error"].dropna())
        if len(error):
            share = np.arange(1, len(error) + 1) / len(error)
            middle.step(np.clip(error, 1e-3, 1e2), share, where="post", color=colour[model], label=model)
        stated = texts[texts["model"] == model].dropna(subset=["ratio_error"])
        right.scatter(
            stated["true_ratio"].clip(*style.RATIO_SHOWN),
            stated["ratio"].clip(*style.RATIO_SHOWN),
            s=9,
            alpha=0.7,
            linewidths=0,
            color=colour[model],
        )
    left.set_yticks(np.arange(len(statuses)), statuses)
    left.invert_yaxis()
    left.set(xlabel="share of the texts", xlim=(0, None), title="First reason that applies")
    middle.axvline(0.03, color="0.4", linewidth=0.9, linestyle="--")
    middle.text(0.027, 0.97, "3 %", ha="right", va="top", fontsize=7, color="0.4")
    middle.set(xscale="log", xlim=(1e-3, 1e2), ylim=(0, 1.02), xlabel="|stated − true| / true", title="Ratio error")
    middle.set_ylabel("share with at most this error")
    right.axline((1, 1), slope=1, color=style.PAPER_COLOUR, linewidth=0.8)
    right.set(xscale="log", yscale="log", xlim=(0.085, 12), ylim=(0.085, 12), title="Arithmetic")
    right.set(xlabel="true CPA ratio", ylabel="stated (clipped to 0.1–10)")
    for axis in (right.xaxis, right.yaxis, middle.xaxis):
        axis.set_major_formatter(lambda value, _: f"{value:g}")
    if len(models) > 1:
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=len(models))
    return closed(figure)


def advised_day(path: pd.DataFrame, case: pd.Series, ticks: int = 10) -> Figure:
    """Fig. 4 as numbers: one advice, the decision, and the hours after it, with and without.

    Parameters
    ----------
    path : tick, kind ("with" | "without"), alpha_ratio, cost, conversions: of the case's advertiser and advice
    case : tick, budget, direction of the advice
    ticks : shown before and after
    """
    style.use()
    figure, panes = plt.subplots(1, 3, figsize=(7.4, 2.5), sharex=True)
    tick = int(case["tick"])
    first, last = max(tick - ticks, 0), min(tick + ticks, 47)
    looks = {"without": (style.PAPER_COLOUR, "--"), "with": (style.PALETTE[0], "-")}
    for kind, (colour, line) in looks.items():
        day = path[path["kind"] == kind].sort_values("tick")
        shown = day["tick"].between(first, last)
        spent = (day["cost"].cumsum() / case["budget"])[shown]
        got = day["conversions"].cumsum()
        got = (got - got[day["tick"] < tick].max() if tick else got)[shown]
        at = day.loc[shown, "tick"]
        for axes, values in zip(panes, (day.loc[shown, "alpha_ratio"], spent, got), strict=True):
            axes.plot(at, values, line, color=colour, label=f"{kind} the advice", marker=".", markersize=3)
    for axes in panes:
        axes.axvline(tick, color="0.8", linewidth=1, zorder=0)
        axes.axvspan(tick - 1, tick, color="0.93", zorder=0)
        axes.set_xlabel("tick")
    panes[0].set(title=r"Decision: $\alpha / C$", ylabel=r"$\alpha / C$")
    panes[1].set(title="Outcome: spending", ylabel="share of the budget")
    panes[2].set(title="Outcome: conversions", ylabel=f"expected, since tick {tick}")
    panes[0].legend()
    return closed(figure)


def lateness(costs: pd.DataFrame) -> Figure:
    """Score against lateness (left) and against the share of words that never come (right), one colour per guide.

    Parameters
    ----------
    costs : rows of :func:`lbm_core.pipeline.asynchrony.costs`; dashed where the last word holds
    """
    guides = list(dict.fromkeys(costs["guide"]))
    colour = style.colours(guides)
    style.use()
    figure, (left, right) = plt.subplots(1, 2, figsize=style.WIDE, sharey=True)
    for guide in guides:
        rows = costs[(costs["guide"] == guide) & (costs["missing"] < 1)]
        steady = rows[(rows["missing"] == 0) & (rows["every"] == 1) & ~rows["hold"]]
        _line(left, steady, "late", colour[guide], "-", guide)
        busy = rows[(rows["missing"] == 0) & (rows["every"] > 1)]
        in_time = steady[steady["late"] <= 1]
        _line(left, pd.concat([in_time, busy]), "late", colour[guide], "--", None)
        base = rows[(rows["late"] == 1) & (rows["missing"] == 0) & (rows["every"] == 1)]
        gaps = rows[(rows["late"] == 1) & (rows["missing"] > 0)]
        _line(right, pd.concat([base, gaps[~gaps["hold"]]]), "missing", colour[guide], "-", guide)
        _line(right, pd.concat([base, gaps[gaps["hold"]]]), "missing", colour[guide], "--", None)
    nobody = costs[costs["missing"] == 1]
    for axes in (left, right):
        axes.axhline(nobody["mean"].iloc[0], color=style.PAPER_COLOUR, linewidth=0.9)
    right.text(1, nobody["mean"].iloc[0], "no words at all", ha="right", va="bottom", fontsize=7, color="0.45")
    left.set(xlabel="ticks from question to use (Fig. 4: 1)", ylabel="expected score", title="Late")
    left.set_xticks(sorted(costs["late"].unique()))
    right.set(xlabel="share that never comes (asked a tick ahead)", title="Missing", xlim=(-0.03, 1.03))
    left.legend(title="LBM-Act +")
    return closed(figure)


def timeline(rows: pd.DataFrame, interval: float, act_seconds: float) -> Figure:
    """What time is left: when texts asked for at t - 1 are done, for several numbers of advertisers.

    Parameters
    ----------
    rows : advertisers, median_seconds, p99_seconds: until all their texts are written
    interval : seconds between two decisions
    act_seconds : one decision of LBM-Act
    """
    style.use()
    figure, axes = plt.subplots(figsize=(7.0, 0.34 * len(rows) + 1.25))
    places = np.arange(len(rows))
    late = rows["p99_seconds"] > interval
    shade = [style.PALETTE[3] if over else style.PALETTE[0] for over in late]
    axes.barh(places, rows["median_seconds"].clip(upper=interval * 1.25), height=0.6, color=shade)
    furthest = interval * 1.25
    for place, (median, slow) in enumerate(rows[["median_seconds", "p99_seconds"]].to_numpy(dtype=float)):
        end, left = min(slow, furthest), interval - slow
        axes.hlines(place, min(median, furthest), end, color="0.25", linewidth=1.2)
        text = f"{left:,.0f} s left" if left >= 0 else f"{-left:,.0f} s too late"
        if slow > furthest:  # the bar goes on beyond the figure
            axes.plot(end + interval * 0.015, place, ">", markersize=7, color=shade[place])
        axes.text(end + interval * 0.04, float(place), text, va="center", fontsize=7)
    axes.axvline(interval, color="0.2", linewidth=1)
    axes.axvline(0, color="0.2", linewidth=1)
    axes.set_yticks(places, [f"{n:,}" for n in rows["advertisers"]])
    axes.invert_yaxis()
    axes.set_xlim(-interval * 0.01, interval * 1.45)
    axes.set(xlabel="seconds since t − 1", ylabel="advertisers")
    top = axes.secondary_xaxis("top")
    top.set_xticks([0, interval], ["t − 1: prompts", f"t: LBM-Act decides in {act_seconds:.2g} s"])
    return closed(figure)


def latencies(frame: pd.DataFrame, interval: float) -> Figure:
    """Median and 99th percentile of every module, alone and in a batch.

    Parameters
    ----------
    frame : module, batch, median_seconds, p99_seconds
    interval : seconds between two decisions (dashed)
    """
    modules = list(dict.fromkeys(frame["module"]))
    batches = sorted(frame["batch"].unique())
    style.use()
    figure, axes = plt.subplots(figsize=(4.6, 0.5 * len(modules) + 1.1))
    height = 0.8 / len(batches)
    for k, batch in enumerate(batches):
        rows = frame[frame["batch"] == batch].set_index("module").reindex(modules)
        places = np.arange(len(modules)) + (k - (len(batches) - 1) / 2) * height
        axes.barh(places, rows["median_seconds"], height * 0.9, color=style.PALETTE[k], label=str(batch))
        axes.hlines(places, rows["median_seconds"], rows["p99_seconds"], color="0.2", linewidth=1.2)
    axes.axvline(interval, color=style.PAPER_COLOUR, linestyle="--")
    axes.set_yticks(np.arange(len(modules)), modules)
    axes.invert_yaxis()
    axes.set(xscale="log", xlabel="seconds: median, and to the 99th percentile (dashed: one tick)")
    axes.legend(title="advertisers", loc="upper left", bbox_to_anchor=(1, 1))
    return closed(figure)


def _line(axes: Axes, rows: pd.DataFrame, x: str, colour, line: str, label: str | None) -> None:
    rows = rows.sort_values(x)
    axes.plot(rows[x], rows["mean"], line, color=colour, label=label, marker="o", markersize=3)
    known = rows.dropna(subset=["low", "high"])
    base = known["mean"] - known["difference"]  # the interval is of the difference to the guide without delay
    axes.vlines(known[x], base + known["low"], base + known["high"], color=colour, linewidth=0.8)

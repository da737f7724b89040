"""Figures of chapters 4, 5 and 9 that the paper does not have: LBM-Think's texts, GQPO, and time."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lbm_core.evaluation.advice import MEASURES
from lbm_core.report.style import PALETTE, PAPER_COLOUR, bars, colours, curves, drawn, legend_below, lines, sized


@drawn("model", "quantity", "value", "low", "high", size=(7.4, 2.7))
def outcomes(figure: Figure, shares: pd.DataFrame, texts: pd.DataFrame) -> None:
    """What becomes of each model's texts (statuses of :func:`lbm_core.think.hallucination.hallucination`, in the order
    to draw), how wrong their ratios are (ratio_error, relative), and true_ratio beside the ratio that they state."""
    left, middle, right = figure.subplots(1, 3, width_ratios=[1.15, 1, 1])
    colour = colours(list(shares["model"].unique()))
    heights = shares.pivot(index="quantity", columns="model", values=["value", "low", "high"])
    heights = heights.loc[shares["quantity"].unique()].reindex(columns=list(colour), level="model")
    bars(left, heights["value"], heights["low"], heights["high"], list(colour.values()))
    for model, own in colour.items():
        stated = texts[texts["model"] == model].dropna(subset="ratio_error")
        if len(stated):
            middle.ecdf(stated["ratio_error"].clip(1e-3, 1e2), color=own)
        both = stated[["true_ratio", "ratio"]].clip(0.1, 10)
        right.scatter(both["true_ratio"], both["ratio"], s=9, alpha=0.7, linewidths=0, color=own)
    left.set(xlabel="share of the texts", xlim=(0, None), title="First reason that applies")
    middle.axvline(0.03, color="0.4", linewidth=0.9, linestyle="--")
    middle.text(0.027, 0.97, "3 %", ha="right", va="top", fontsize=7, color="0.4")
    middle.set(xscale="log", xlim=(1e-3, 1e2), ylim=(0, 1.02), xlabel="|stated − true| / true", title="Ratio error")
    middle.set_ylabel("share with at most this error")
    right.axline((1, 1), slope=1, color=PAPER_COLOUR, linewidth=0.8)
    right.set(xscale="log", yscale="log", xlim=(0.085, 12), ylim=(0.085, 12), title="Arithmetic")
    right.set(xlabel="true CPA ratio", ylabel="stated (clipped to 0.1–10)")
    for axis in (right.xaxis, right.yaxis, middle.xaxis):
        axis.set_major_formatter("{x:g}")
    if len(colour) > 1:
        legend_below(figure, left)


@drawn("stage", "count")
def gqpo_funnel(figure: Figure, frame: pd.DataFrame) -> None:
    """What is left of the sampled chains of thought after each filter of Eq. 12-13, in order."""
    axes, total = sized(figure, 4.6, 0.34 * len(frame) + 0.7), float(frame["count"].iloc[0])
    shares = [f" {count:.0f}" + (f"  ({count / total:.0%})" if total else "") for count in frame["count"]]
    axes.bar_label(axes.barh(range(len(frame)), frame["count"], height=0.7, color=PALETTE[0]), shares, fontsize=7)
    lines(axes, frame["stage"])
    axes.set(xlim=(0, max(total, 1) * 1.25), xlabel="chains of thought")


@drawn("source", "adviser", "passes", "group", "chosen")
def coin(figure: Figure, shares: pd.DataFrame) -> None:
    """Whose texts pass relative-Q > 0: one alone, at least one in a group of three, and the mean of what is learned."""
    advisers = list(shares["adviser"].unique())
    titles = ("one text passes", "something learned,\ngroup of three", "mean relative-Q\nof what is learned")
    panes = sized(figure, 7.0, 0.27 * len(advisers) + 0.9, 1, 3, sharey=True)
    for axes, name, title in zip(panes, ("passes", "group", "chosen"), titles, strict=True):
        for k, (source, rows) in enumerate(shares.groupby("source", sort=False)):
            values, places = rows.set_index("adviser")[name].loc[advisers], np.arange(len(advisers)) + 0.24 * k - 0.12
            axes.plot(values, places, "oD"[k % 2], markersize=4, label=f"{source} decisions")
        axes.set(xlabel=title, xlim=(-0.03, 1.03) if name != "chosen" else None)
        axes.grid(axis="y", color="0.92")
    lines(panes[0], ["random" if name == "coin" else name for name in advisers])
    panes[0].axvline(0.5, color=PAPER_COLOUR, linestyle="--", linewidth=0.8)
    legend_below(figure, panes[0])


@drawn("temperature", "tolerance", "n", "accepted", "learned", "gain", size=(7.0, 2.4))
def sweep(figure: Figure, frame: pd.DataFrame) -> None:
    """What N, temperature and tolerance (the last excuses it) change: groups that teach, gain, texts accepted."""
    panes, temperatures = figure.subplots(1, 3), frame["temperature"].map("T = {:g}".format)
    frame = frame.assign(temperature=temperatures, tolerance=frame["tolerance"].astype("str"))
    ticks, free = sorted(frame["n"].unique()), frame[frame["tolerance"] == frame["tolerance"].iloc[-1]]
    parts = ((free, "n", "learned"), (free, "n", "gain"), (frame[frame["n"] == ticks[-1]], "tolerance", "accepted"))
    for axes, (rows, x, y) in zip(panes, parts, strict=True):
        curves(axes, rows, x, y, "temperature", marker="o", markersize=3)
    panes[0].set(xlabel="N, texts per group", ylabel="groups that teach", ylim=(0, 1.03), xticks=ticks)
    panes[1].set(xlabel="N, texts per group", ylabel="relative-Q per group", xticks=ticks)
    panes[2].set(xlabel="tolerance of the stated ratio", ylabel="texts accepted", ylim=(0, 1.03))
    panes[2].tick_params(axis="x", rotation=30)
    legend_below(figure, panes[0])


@drawn("model", "measure", "mean", "low", "high")
def before_after(figure: Figure, table: pd.DataFrame) -> None:
    """What each model's advice is worth, by judge, with its interval; whether it answered is part of hallucination."""
    measures = [name for name in MEASURES if name in set(table["measure"]) - {"answered"}]
    models = list(table["model"].unique())
    axes, step = sized(figure, 3.4, 0.11 * (len(models) + 1) * len(measures) + 0.9), 0.8 / len(models)
    for k, (model, colour) in enumerate(colours(models).items()):
        rows = table[table["model"] == model].set_index("measure").reindex(measures)
        places = np.arange(len(measures)) + step * (k - (len(models) - 1) / 2)
        axes.hlines(places, rows["low"], rows["high"], color=colour)
        axes.plot(rows["mean"], places, "oDs^vPX*"[k % 8], markersize=4, color=colour, label=model)
    lines(axes, measures)
    axes.set(xlim=(0, 1), xlabel="share of held-out decisions")
    legend_below(figure, axes, ncols=2)


@drawn("method", "right", "difference", "low", "high")
def errors(figure: Figure, differences: pd.DataFrame) -> None:
    """What errors cost: expected score beyond nobody's (differences with their interval), over the share of answers
    that are the critic's (right). A line where the errors are drawn at random, dots where somebody makes them."""
    axes, drawn_at_random = sized(figure, 5.6, 3.2), differences["method"].str.startswith("LBM-Act + critic")
    line = differences[drawn_at_random].sort_values("right")
    axes.fill_between(line["right"], line["low"], line["high"], color="0.9")
    axes.plot(line["right"], line["difference"], color=PAPER_COLOUR, label="critic, wrong at random")
    others = differences[~drawn_at_random]
    for (method, colour), row in zip(colours(list(others["method"])).items(), others.to_dict("records"), strict=True):
        reach = [[row["difference"] - row["low"]], [row["high"] - row["difference"]]]
        axes.errorbar(row["right"], row["difference"], reach, fmt="o", markersize=4, color=colour, label=method)
    axes.axhline(0, color="0.4", linewidth=0.9)
    axes.set(xlabel="share of answers that are the critic's", ylabel="expected score beyond nobody's")
    axes.legend(fontsize=7)


@drawn("guide", "late", "missing", "hold", "every", "mean", "difference", "low", "high")
def lateness(figure: Figure, costs: pd.DataFrame) -> None:
    """Score by instructor whose words come late (left) or never (right); dashed where the last word holds."""
    left, right = figure.subplots(1, 2, sharey=True)
    for guide, colour in colours(list(costs["guide"].unique())).items():
        rows = costs[(costs["guide"] == guide) & (costs["missing"] < 1)]
        all_come, one_late = rows[rows["missing"] == 0], rows[(rows["late"] == 1) & (rows["every"] == 1)]
        steady = all_come[(all_come["every"] == 1) & ~all_come["hold"]]
        _line(left, steady, "late", colour, "-", guide)
        _line(left, pd.concat([steady[steady["late"] <= 1], all_come[all_come["every"] > 1]]), "late", colour, "--")
        for hold, line in ((False, "-"), (True, "--")):
            _line(right, one_late[(one_late["missing"] == 0) | (one_late["hold"] == hold)], "missing", colour, line)
    nobody = costs.loc[costs["missing"] == 1, "mean"].iloc[0]
    for axes in (left, right):
        axes.axhline(nobody, color=PAPER_COLOUR, linewidth=0.9)
    right.text(1, nobody, "no instruction", ha="right", va="bottom", fontsize=7, color="0.45")
    left.set(xlabel="ticks from question to use (Fig. 4: 1)", ylabel="expected score", title="Late")
    left.set_xticks(sorted(costs["late"].unique()))
    right.set(xlabel="share that never comes (asked a tick ahead)", title="Missing", xlim=(-0.03, 1.03))
    left.legend(title="LBM-Act +")


@drawn("advertisers", "median_seconds", "p99_seconds")
def timeline(figure: Figure, rows: pd.DataFrame, interval: float, act_seconds: float) -> None:
    """What is left of an interval (seconds) once all texts asked for at t - 1 are done, by number of advertisers."""
    axes, furthest = sized(figure, 7.0, 0.34 * len(rows) + 1.25), interval * 1.25
    for place, row in enumerate(rows.to_dict("records")):
        median, slow = row["median_seconds"], row["p99_seconds"]
        late, end = slow - interval, min(slow, furthest)
        colour = PALETTE[3] if late > 0 else PALETTE[0]
        axes.barh(place, min(median, furthest), height=0.6, color=colour)
        axes.hlines(place, min(median, furthest), end, color="0.25", linewidth=1.2)
        if slow > furthest:  # the bar goes on beyond the figure
            axes.plot(end + interval * 0.015, place, ">", markersize=7, color=colour)
        text = f"{late:,.0f} s too late" if late > 0 else f"{-late:,.0f} s left"
        axes.text(end + interval * 0.04, place, text, va="center", fontsize=7)
    for moment in (0, interval):
        axes.axvline(moment, color="0.2", linewidth=1)
    lines(axes, rows["advertisers"].map("{:,}".format))
    axes.set(xlim=(-interval * 0.01, interval * 1.45), xlabel="seconds since t − 1", ylabel="advertisers")
    moments = ["t − 1: prompts", f"t: LBM-Act decides in {act_seconds:.2g} s"]
    axes.secondary_xaxis("top").set_xticks([0, interval], moments)


@drawn("module", "batch", "median_seconds", "p99_seconds")
def latencies(figure: Figure, frame: pd.DataFrame, interval: float) -> None:
    """Median and 99th percentile of every module, alone and in a batch; dashed the interval between decisions."""
    table = frame.pivot(index="module", columns="batch", values=["median_seconds", "p99_seconds"])
    table = table.loc[frame["module"].unique()]
    axes = sized(figure, 4.6, 0.5 * len(table) + 1.1)
    bars(axes, table["median_seconds"], table["median_seconds"], table["p99_seconds"], PALETTE)
    axes.axvline(interval, color=PAPER_COLOUR, linestyle="--")
    axes.set(xscale="log", xlabel="seconds: median, and to the 99th percentile (dashed: one tick)")
    axes.legend(title="advertisers", loc="upper left", bbox_to_anchor=(1, 1))


def _line(axes: Axes, rows: pd.DataFrame, x: str, colour, line: str, label: str | None = None) -> None:
    rows = rows.sort_values(x)
    axes.plot(rows[x], rows["mean"], line, color=colour, label=label, marker="o", markersize=3)
    base = rows["mean"] - rows["difference"]  # the interval is of the difference to the instructor without delay
    known = rows["low"].notna()
    axes.vlines(rows[x][known], (base + rows["low"])[known], (base + rows["high"])[known], color=colour, linewidth=0.8)

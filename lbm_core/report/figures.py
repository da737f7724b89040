"""One function per figure; each draws from a frame of recorded results and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lbm_core import paths
from lbm_core.artifacts import writing_file
from lbm_core.report import paper, style

RATIO_SHOWN = (0.1, 10.0)  # CPA ratios beyond are drawn at the edge: capped ratios have no finite place


def save(figure: Figure, name: str, tier: str, output: str | Path = "") -> list[Path]:
    """Write ``figures/<name>.png`` and ``.svg`` (``figures/_smoke/`` at the smoke tier); same figure, same bytes.

    Parameters
    ----------
    name : lower case with digits and underscores, e.g. "fig3_loss_curves"

    Raises
    ------
    ValueError
        A bad name.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ValueError(f"figure name {name!r} must be lower case letters, digits and underscores")
    folder = paths.figures_dir(tier, output)
    written = []
    # matplotlib would stamp its version into a PNG and the time into an SVG.
    for suffix, stamp in ((".png", "Software"), (".svg", "Date")):
        target = folder / f"{name}{suffix}"
        with writing_file(target) as temporary:
            figure.savefig(temporary, metadata={stamp: None})
        target.chmod(0o644)
        written.append(target)
    parent = Path(output) if output else paths.project_root()
    print(f"wrote {written[0].relative_to(parent).as_posix()} and .svg")
    return written


def traffic_day(frame: pd.DataFrame) -> Figure:
    """A day of traffic: tick, impressions, mean_pvalue[, category]."""
    _require(frame, "tick", "impressions", "mean_pvalue")
    figure, (left, right) = panels(2)
    counts = frame.drop_duplicates("tick")
    left.bar(counts["tick"], counts["impressions"] / 1000, width=0.85, color=style.PALETTE[0])
    left.set(xlabel="tick (48 a day)", ylabel="impressions, thousands", title="Traffic")
    if "category" in frame:
        for (category, rows), colour in zip(frame.groupby("category"), style.PALETTE, strict=False):
            right.plot(rows["tick"], rows["mean_pvalue"], drawstyle="steps-mid", color=colour, label=str(category))
        right.legend(title="category", ncols=2)
    else:
        right.plot(frame["tick"], frame["mean_pvalue"], drawstyle="steps-mid", color=style.PALETTE[1])
    right.set(xlabel="tick", ylabel="conversions per impression", title="Mean predicted value")
    right.set_ylim(bottom=0)
    return closed(figure)


def lwc_ticks(frame: pd.DataFrame) -> Figure:
    """Mean least winning cost per tick: tick, source, lwc; sources named "real …" are drawn in grey."""
    _require(frame, "tick", "source", "lwc")
    figure, (axes,) = panels(1, size=(5.2, 2.6))
    names = list(frame["source"].unique())
    ours = [name for name in names if not name.startswith("real")]
    colour = style.colours(ours)
    for i, name in enumerate(names):
        rows = frame[frame["source"] == name].sort_values("tick")
        line = "-" if name in ours else ("--", ":", "-.")[i % 3]
        axes.plot(rows["tick"], rows["lwc"], line, color=colour.get(name, style.PAPER_COLOUR), label=name)
    for start in range(8, 48, 8):  # the mean p-values change every 8 ticks, and prices with them
        axes.axvline(start - 0.5, color="0.9", linewidth=0.8, zorder=0)
    axes.set(xlabel="tick", ylabel="least winning cost, currency")
    axes.set_ylim(bottom=0)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return closed(figure)


def direction_counts(samples: pd.DataFrame) -> pd.DataFrame:
    """Fig. 2's counts: model, delta_a (increase | decrease), cpa_ratio (below_1 | above_1), count, share.

    ``share`` is that of the column (samples with a CPA ratio on the same side of 1). Samples with no change of alpha
    belong to neither row and are left out.
    """
    _require(samples, "model", "cpa_ratio", "delta_a")
    moved = samples[samples["delta_a"] != 0]
    side = np.where(moved["cpa_ratio"] < 1, "below_1", "above_1")
    sign = np.where(moved["delta_a"] > 0, "increase", "decrease")
    models = list(dict.fromkeys(samples["model"]))
    cells = pd.MultiIndex.from_product(
        [models, ["increase", "decrease"], ["below_1", "above_1"]], names=["model", "delta_a", "cpa_ratio"]
    )
    counts = moved.assign(delta_a=sign, cpa_ratio=side).groupby(["model", "delta_a", "cpa_ratio"]).size()
    frame = counts.reindex(cells, fill_value=0).rename("count").reset_index()
    return _with_share(frame)


def fig2_direction(samples: pd.DataFrame) -> Figure:
    """Fig. 2: does alpha go down when the CPA ratio is above 1? Counts beside the paper's, and every sample.

    Parameters
    ----------
    samples : model, cpa_ratio (so far, at the decision), delta_a (log alpha_t / alpha_{t-1})
    """
    counts = direction_counts(samples)
    published = _with_share(paper.figure2())
    models = list(dict.fromkeys(counts["model"]))
    style.use()
    figure, grid = plt.subplots(2, len(models), figsize=(max(3.4, 2.35 * len(models)), 4.4), squeeze=False)
    sides, signs = ["below_1", "above_1"], ["increase", "decrease"]
    highest = 1.05 * float(samples["delta_a"].abs().max()) or 1.0
    for column, model in enumerate(models):
        top, bottom = grid[:, column]
        ours = counts[counts["model"] == model].set_index(["delta_a", "cpa_ratio"])
        theirs = published[published["model"] == model].set_index(["delta_a", "cpa_ratio"])
        shares = ours["share"].unstack().loc[signs, sides]
        sns.heatmap(shares.fillna(0), ax=top, vmin=0, vmax=1, cmap="Blues", cbar=False, linewidths=1, square=True)
        for row, sign in enumerate(signs):
            for place, side in enumerate(sides):
                share, count = shares.loc[sign, side], ours.loc[(sign, side), "count"]
                dark = "white" if share > 0.6 else "0.15"
                head = "none" if np.isnan(share) else f"{share:.0%}"
                top.text(place + 0.5, row + 0.42, f"{head}  (n = {count})", ha="center", color=dark, fontsize=7.5)
                if len(theirs):
                    text = f"paper {theirs.loc[(sign, side), 'share']:.0%}"
                    top.text(place + 0.5, row + 0.68, text, ha="center", color=dark, fontsize=6.5, alpha=0.75)
        top.set(title=model, xlabel="", ylabel="")
        top.set_xticklabels(["CPA ratio < 1", "CPA ratio > 1"])
        top.set_yticklabels([r"$\Delta a > 0$", r"$\Delta a < 0$"] if column == 0 else [], rotation=90, va="center")
        top.tick_params(length=0)
        rows = samples[samples["model"] == model]
        ratio = rows["cpa_ratio"].clip(*RATIO_SHOWN)
        bottom.scatter(ratio, rows["delta_a"], s=5, alpha=0.5, linewidths=0, color=style.PALETTE[0])
        bottom.set(xscale="log", xlim=(RATIO_SHOWN[0] * 0.9, RATIO_SHOWN[1] * 1.1), xlabel="CPA ratio so far")
        bottom.axvline(1, color="0.6", linewidth=0.8, zorder=0)
        bottom.axhline(0, color="0.6", linewidth=0.8, zorder=0)
        bottom.set_ylim(-highest, highest)
    grid[1, 0].set_ylabel(r"$\Delta a = \log(\alpha_t / \alpha_{t-1})$")
    return closed(figure)


def fig3_losses(frame: pd.DataFrame, *, smooth: int = 25) -> Figure:
    """Fig. 3: training loss of LLM-DT and LBM-Act, ours and (grey, in the paper's own unit) the published curves.

    Parameters
    ----------
    frame : method, step, loss[, seed]; with several seeds the line is their mean and the band their range
    smooth : width of the running median in recorded steps; the raw loss of a single seed is drawn faintly
    """
    _require(frame, "method", "step", "loss")
    figure, (left, right) = panels(2)
    methods = list(dict.fromkeys(frame["method"]))
    colour = style.colours(methods)
    for method in methods:
        rows = frame[frame["method"] == method]
        if "seed" in rows and rows["seed"].nunique() > 1:
            _band(left, rows, smooth, colour[method], method)
        else:
            _curve(left, rows, smooth, colour[method], method)
    wide = frame["loss"].max() > 3 * frame["loss"].min()  # a logarithmic axis would have one label or two otherwise
    left.set(xlabel="training step", ylabel=r"loss on $\log \alpha$", title="Ours", yscale="log" if wide else "linear")
    left.legend()
    for (method, rows), line in zip(paper.figure3().groupby("method", sort=False), ("--", "-"), strict=True):
        _curve(right, rows.sort_values("step"), smooth, style.PAPER_COLOUR, str(method), line)
    right.set(
        xlabel="training step, thousands", ylabel=r"loss on $\alpha$ (scale not given)", title="The paper's (digitised)"
    )
    right.set_yscale("log")
    right.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:.0f}")
    for axes in [left, right] if wide else [right]:  # plain numbers: the losses span less than a power of ten
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "12357" else "")
    right.legend()
    return closed(figure)


def fig5_attention(frame: pd.DataFrame) -> Figure:
    """Fig. 5: attention of the last query over positions and heads, and each head's share on the language part.

    Parameters
    ----------
    frame : layer ("first" | "middle" | "last"), head, position, label, part ("language" | "numbers"), attention in
        [0, 1], summing to 1 over positions
    """
    _require(frame, "layer", "head", "position", "label", "part", "attention")
    layers = [name for name in ("first", "middle", "last") if name in set(frame["layer"])]
    style.use()
    heads = frame["head"].nunique()
    size = (7.0, len(layers) * (0.5 + 0.13 * heads) + 0.5)
    figure, grid = plt.subplots(
        len(layers), 2, figsize=size, squeeze=False, sharey="row", sharex="col", width_ratios=[6, 1]
    )
    for (left, right), layer in zip(grid, layers, strict=True):
        rows = frame[frame["layer"] == layer]
        table = rows.pivot(index="head", columns="position", values="attention")
        mesh = left.pcolormesh(table.columns, table.index, table.to_numpy(), vmin=0, vmax=1, cmap="magma")
        language = rows.loc[rows["part"] == "language", "position"].nunique()
        if language:
            left.axvline(language - 0.5, color="white", linewidth=1)
        share = rows[rows["part"] == "language"].groupby("head")["attention"].sum().reindex(table.index, fill_value=0)
        right.barh(share.index, share, height=0.8, color=style.PALETTE[0])
        right.set_xlim(0, 1)
        right.axvline(share.mean(), color="0.3", linewidth=0.8)
        right.set_title(f"mean {share.mean():.0%}", fontsize=7)
        left.set(ylabel="head", title=f"{layer.capitalize()} layer")
        left.invert_yaxis()
        left.set_yticks(range(0, heads, 2))
    labels = frame.drop_duplicates("position").sort_values("position")
    bottom = grid[-1, 0]
    bottom.set_xticks(labels["position"], labels["label"], rotation=90, fontsize=6)
    bottom.set_xlabel("position: the guide's tokens, then return-to-go R, state s and alpha a per tick")
    grid[-1, 1].set_xlabel("share on\nlanguage")
    figure.colorbar(mesh, ax=grid[:, 0], label="attention", location="left", shrink=0.5, pad=0.02)
    return closed(figure)


def gqpo_funnel(frame: pd.DataFrame) -> Figure:
    """What is left of the sampled chains of thought after each filter of Eq. 12-13: stage, count, in order."""
    _require(frame, "stage", "count")
    figure, (axes,) = panels(1, size=(4.6, 0.34 * len(frame) + 0.7))
    total = float(frame["count"].iloc[0])
    places = np.arange(len(frame))
    axes.barh(places, frame["count"], height=0.7, color=style.PALETTE[0])
    for place, count in zip(places, frame["count"], strict=True):
        share = f"  ({count / total:.0%})" if total else ""
        axes.text(float(count), float(place), f" {count:.0f}{share}", va="center", fontsize=7)
    axes.set_yticks(places, frame["stage"])
    axes.invert_yaxis()
    axes.set_xlim(0, max(total, 1) * 1.25)
    axes.set_xlabel("chains of thought")
    return closed(figure)


def protocols(frame: pd.DataFrame) -> Figure:
    """Replay against closed loop, one line per method: method, metric, replay, closed_loop (``disagreement``)."""
    _require(frame, "method", "metric", "replay", "closed_loop")
    figure, panes = panels(2)
    for axes, metric in zip(panes, ("conversions", "score"), strict=True):
        rows = frame[frame["metric"] == metric]
        places = np.arange(len(rows))
        axes.hlines(places, rows["replay"], rows["closed_loop"], color=style.PAPER_COLOUR, linewidth=1)
        axes.plot(rows["replay"], places, "o", color=style.PALETTE[0], label="replay")
        axes.plot(rows["closed_loop"], places, "D", color=style.PALETTE[1], label="closed loop")
        axes.set_yticks(places, rows["method"] if axes is panes[0] else [""] * len(rows))
        axes.invert_yaxis()
        axes.set(xlabel=f"{metric} per advertiser", xlim=(0, None))
    panes[1].legend()
    return figure


def _curve(axes: Axes, rows: pd.DataFrame, smooth: int, colour, label: str, line: str = "-") -> None:
    axes.plot(rows["step"], rows["loss"], color=colour, alpha=0.2, linewidth=0.6)
    axes.plot(rows["step"], _running_median(rows["loss"], smooth), line, color=colour, label=label)


def _band(axes: Axes, rows: pd.DataFrame, smooth: int, colour, label: str) -> None:
    """Mean and range over seeds, each seed smoothed by itself."""
    curves = rows.pivot(index="step", columns="seed", values="loss").apply(_running_median, smooth=smooth)
    axes.fill_between(curves.index, curves.min(axis=1), curves.max(axis=1), color=colour, alpha=0.2, linewidth=0)
    axes.plot(curves.index, curves.mean(axis=1), color=colour, label=label)


def _running_median(loss: pd.Series, smooth: int) -> pd.Series:
    return loss.rolling(min(smooth, max(len(loss) // 10, 1)), center=True, min_periods=1).median()


def _with_share(counts: pd.DataFrame) -> pd.DataFrame:
    total = counts.groupby(["model", "cpa_ratio"])["count"].transform("sum")
    return counts.assign(share=counts["count"] / total.where(total > 0))


def panels(n: int, size: tuple[float, float] = style.WIDE) -> tuple[Figure, list[Axes]]:
    """Figure with n panels side by side, in the house style; ``size`` in inches."""
    style.use()
    figure, grid = plt.subplots(1, n, figsize=size, squeeze=False)
    return figure, list(grid[0])


def closed(figure: Figure) -> Figure:
    """Closed, so that a notebook shows it only where it is the cell's value."""
    plt.close(figure)
    return figure


def _require(frame: pd.DataFrame, *columns: str) -> None:
    missing = [name for name in columns if name not in frame]
    if missing:
        raise ValueError(f"the frame has no column {missing[0]!r}; it has {', '.join(map(str, frame.columns))}")
    if frame.empty:
        raise ValueError("nothing to draw: the frame has no rows")

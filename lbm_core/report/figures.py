"""One function per figure; each draws from a frame of recorded results and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lbm_core import paths
from lbm_core.files import writing_file
from lbm_core.report import paper, style


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
    require(frame, "tick", "impressions", "mean_pvalue")
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
    require(frame, "tick", "source", "lwc")
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


def fig3_losses(frame: pd.DataFrame, *, smooth: int = 25, label: str = r"loss on $\log \alpha$") -> Figure:
    """Fig. 3: training loss of LLM-DT and LBM-Act, ours and (grey, in the paper's own unit) the published curves.

    Parameters
    ----------
    frame : method, step, loss[, seed]; with several seeds the line is their mean and the band their range
    smooth : width of the running median in recorded steps; the raw loss of a single seed is drawn faintly
    label : of our losses
    """
    require(frame, "method", "step", "loss")
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
    left.set(xlabel="training step", ylabel=label, title="Ours", yscale="log" if wide else "linear")
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
    require(frame, "layer", "head", "position", "label", "part", "attention")
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


def protocols(frame: pd.DataFrame) -> Figure:
    """Replay against closed loop, one line per method: method, metric, replay, closed_loop (``disagreement``)."""
    require(frame, "method", "metric", "replay", "closed_loop")
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


def panels(n: int, size: tuple[float, float] = style.WIDE) -> tuple[Figure, list[Axes]]:
    """Figure with n panels side by side, in the house style; ``size`` in inches."""
    style.use()
    figure, grid = plt.subplots(1, n, figsize=size, squeeze=False)
    return figure, list(grid[0])


def closed(figure: Figure) -> Figure:
    """Closed, so that a notebook shows it only where it is the cell's value."""
    plt.close(figure)
    return figure


def require(frame: pd.DataFrame, *columns: str) -> None:
    """Refuse a frame without rows or without one of the columns."""
    missing = [name for name in columns if name not in frame]
    if missing:
        raise ValueError(f"the frame has no column {missing[0]!r}; it has {', '.join(map(str, frame.columns))}")
    if frame.empty:
        raise ValueError("nothing to draw: the frame has no rows")

"""Figures of chapter 5, from recorded results alone."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from lbm_core.evaluation.advice import ANSWERS, MEASURES, RATIO_BINS
from lbm_core.evaluation.statistics import mean_interval
from lbm_core.report import paper, style
from lbm_core.report.figures import RATIO_SHOWN, closed, panels, require
from lbm_core.seeding import generator

_SIDES, _SIGNS = ["below_1", "above_1"], ["increase", "decrease"]


def direction_counts(samples: pd.DataFrame) -> pd.DataFrame:
    """Fig. 2's counts: model, delta_a (increase | decrease), cpa_ratio (below_1 | above_1), count, share.

    ``share`` is that of the column (samples with a CPA ratio on the same side of 1). Samples with no change of alpha
    belong to neither row and are left out.
    """
    require(samples, "model", "cpa_ratio", "delta_a")
    moved = samples[samples["delta_a"] != 0]
    side = np.where(moved["cpa_ratio"] < 1, "below_1", "above_1")
    sign = np.where(moved["delta_a"] > 0, "increase", "decrease")
    models = list(dict.fromkeys(samples["model"]))
    cells = pd.MultiIndex.from_product([models, _SIGNS, _SIDES], names=["model", "delta_a", "cpa_ratio"])
    counts = moved.assign(delta_a=sign, cpa_ratio=side).groupby(["model", "delta_a", "cpa_ratio"]).size()
    return with_share(counts.reindex(cells, fill_value=0).rename("count").reset_index())


def with_share(counts: pd.DataFrame) -> pd.DataFrame:
    """Counts of :func:`direction_counts` (or the paper's) with each one's share of its column."""
    total = counts.groupby(["model", "cpa_ratio"])["count"].transform("sum")
    return counts.assign(share=counts["count"] / total.where(total > 0))


def fig2_heatmaps(samples: pd.DataFrame) -> Figure:
    """Fig. 2: does alpha go down when the CPA ratio is above 1? Counts of a stratified sample, beside the paper's.

    Parameters
    ----------
    samples : model, cpa_ratio (so far, at the decision), delta_a (log alpha_t / alpha_{t-1}); as many below 1 as above
    """
    counts, published = direction_counts(samples), with_share(paper.figure2())
    models = list(dict.fromkeys(counts["model"]))
    figure, grid = panels(len(models), size=(max(3.4, 2.35 * len(models)), 2.4))
    for axes, model in zip(grid, models, strict=True):
        ours = counts[counts["model"] == model].set_index(["delta_a", "cpa_ratio"])
        theirs = published[published["model"] == model].set_index(["delta_a", "cpa_ratio"])
        shares = ours["share"].unstack().loc[_SIGNS, _SIDES]
        sns.heatmap(shares.fillna(0), ax=axes, vmin=0, vmax=1, cmap="Blues", cbar=False, linewidths=1, square=True)
        for row, sign in enumerate(_SIGNS):
            for place, side in enumerate(_SIDES):
                share, count = shares.loc[sign, side], ours.loc[(sign, side), "count"]
                dark = "white" if share > 0.6 else "0.15"
                head = f"{count}" if np.isnan(share) else f"{count} ({share:.0%})"
                axes.text(place + 0.5, row + 0.42, head, ha="center", color=dark, fontsize=7.5)
                if len(theirs):
                    text = f"paper {theirs.loc[(sign, side), 'count']} ({theirs.loc[(sign, side), 'share']:.0%})"
                    axes.text(place + 0.5, row + 0.68, text, ha="center", color=dark, fontsize=6.5, alpha=0.75)
        axes.set(title=model, xlabel="", ylabel="")
        axes.set_xticklabels(["CPA ratio < 1", "CPA ratio > 1"])
        axes.set_yticklabels(
            [r"$\Delta a > 0$", r"$\Delta a < 0$"] if axes is grid[0] else [], rotation=90, va="center"
        )
        axes.tick_params(length=0)
    return closed(figure)


def fig2_scatter(samples: pd.DataFrame) -> Figure:
    """Every sample of Fig. 2: the move of alpha against the CPA ratio, with both marginals; mean move per bin of the
    ratio with its 95 % interval (none below six samples).

    Parameters
    ----------
    samples : as of :func:`fig2_heatmaps`
    """
    require(samples, "model", "cpa_ratio", "delta_a")
    models = list(dict.fromkeys(samples["model"]))
    style.use()
    figure, grid = plt.subplots(
        2,
        2 * len(models),
        figsize=(max(3.4, 2.35 * len(models)), 2.7),
        squeeze=False,
        height_ratios=[1, 5],
        width_ratios=[5, 1] * len(models),
    )
    highest, rng = 1.05 * float(samples["delta_a"].abs().max()) or 1.0, generator(0, "bootstrap", 2)
    edges, bins = np.geomspace(*RATIO_SHOWN, 17), np.linspace(-highest, highest, 17)
    for place, model in enumerate(models):
        (top, corner), (main, side) = grid[:, 2 * place : 2 * place + 2]
        corner.axis("off")
        rows = samples[samples["model"] == model]
        ratio, moved = rows["cpa_ratio"].clip(*RATIO_SHOWN), rows["delta_a"]
        main.axvline(1, color="0.6", linewidth=0.8, zorder=0)
        main.axhline(0, color="0.6", linewidth=0.8, zorder=0)
        main.scatter(ratio, moved, s=6, alpha=0.45, linewidths=0, color=style.PALETTE[0])
        for low, high in RATIO_BINS.values():
            inside = moved[(rows["cpa_ratio"] > low) & (rows["cpa_ratio"] <= high)].to_numpy()
            if len(inside) == 0:
                continue
            mean, least, most = mean_interval(inside, rng)
            centre = np.sqrt(max(low, RATIO_SHOWN[0] * 3) * min(high, RATIO_SHOWN[1] / 3))
            main.plot([centre], [mean], "D", color=style.PALETTE[1], markersize=4)
            main.vlines(centre, least, most, color=style.PALETTE[1])
        main.set(xscale="log", xlim=(RATIO_SHOWN[0] * 0.9, RATIO_SHOWN[1] * 1.1), xlabel="CPA ratio so far")
        main.set_ylim(-highest, highest)
        top.hist(ratio, bins=edges, color=style.PALETTE[0], alpha=0.6)
        top.set(title=model, xscale="log", xlim=main.get_xlim(), xticklabels=[], yticks=[])
        side.hist(moved, bins=bins, orientation="horizontal", color=style.PALETTE[0], alpha=0.6)
        side.set(ylim=main.get_ylim(), yticklabels=[], xticks=[])
        if place:
            main.set_yticklabels([])
    grid[1, 0].set_ylabel(r"$\Delta a = \log(\alpha_t / \alpha_{t-1})$")
    return closed(figure)


def gqpo_funnel(frame: pd.DataFrame) -> Figure:
    """What is left of the sampled chains of thought after each filter of Eq. 12-13: stage, count, in order."""
    require(frame, "stage", "count")
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


def coin(shares: pd.DataFrame) -> Figure:
    """Who passes relative-Q > 0: source, adviser, passes, group, chosen (:func:`..pipeline.gqpo_study.coin_shares`)."""
    require(shares, "source", "adviser", "passes", "group", "chosen")
    advisers = list(dict.fromkeys(shares["adviser"]))
    places, sources = np.arange(len(advisers)), list(dict.fromkeys(shares["source"]))
    figure, panes = panels(3, size=(7.0, 0.27 * len(advisers) + 0.9))
    titles = ("one text passes", "something learned,\ngroup of three", "mean relative-Q\nof what is learned")
    for axes, name, title in zip(panes, ("passes", "group", "chosen"), titles, strict=True):
        for shift, source, marker in zip((-0.12, 0.12), sources, "oD", strict=False):
            rows = shares[shares["source"] == source].set_index("adviser").loc[advisers]
            axes.plot(rows[name], places + shift, marker, markersize=4, label=f"{source} moments")
        axes.set_yticks(places, advisers if axes is panes[0] else [""] * len(advisers))
        axes.set(xlabel=title, xlim=(-0.03, 1.03) if name != "chosen" else None)
        axes.invert_yaxis()
        axes.grid(axis="y", color="0.92")
    panes[0].axvline(0.5, color=style.PAPER_COLOUR, linestyle="--", linewidth=0.8)
    figure.legend(*panes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return closed(figure)


def sweep(frame: pd.DataFrame) -> Figure:
    """N, temperature and tolerance: share of groups that leave something, gain per group, share of texts accepted.

    Parameters
    ----------
    frame : rows of :func:`lbm_core.pipeline.gqpo_study.sweep`
    """
    require(frame, "temperature", "tolerance", "n", "accepted", "learned", "gain")
    figure, panes = panels(3, size=(7.0, 2.4))
    tolerances = list(dict.fromkeys(frame["tolerance"].astype(str)))
    free = frame[frame["tolerance"].astype(str) == tolerances[-1]]
    for temperature, rows in free.groupby("temperature"):
        for axes, name in zip(panes, ("learned", "gain"), strict=False):
            axes.plot(rows["n"], rows[name], "o-", markersize=3, label=f"T = {temperature:g}")
    for temperature, rows in frame[frame["n"] == frame["n"].max()].groupby("temperature"):
        shown = rows.assign(tolerance=rows["tolerance"].astype(str)).set_index("tolerance").loc[tolerances]
        panes[2].plot(range(len(tolerances)), shown["accepted"], "o-", markersize=3, label=f"T = {temperature:g}")
    ticks = sorted(frame["n"].unique())
    panes[0].set(xlabel="N, texts per group", ylabel="groups that teach", ylim=(0, 1.03), xticks=ticks)
    panes[1].set(xlabel="N, texts per group", ylabel="relative-Q per group", xticks=ticks)
    panes[2].set(xlabel="tolerance of the stated ratio", ylabel="texts accepted", ylim=(0, 1.03))
    panes[2].set_xticks(range(len(tolerances)), tolerances, rotation=30)
    figure.legend(*panes[0].get_legend_handles_labels(), loc="outside lower center", ncols=6)
    return closed(figure)


def before_after(table: pd.DataFrame) -> Figure:
    """Every measure of every model with its interval: model, measure, mean, low, high; empty where none is known."""
    require(table, "model", "measure", "mean", "low", "high")
    models = list(dict.fromkeys(table["model"]))
    shown = [name for name in MEASURES if name in set(table["measure"])]
    columns = (len(shown) + 1) // 2
    style.use()
    size = (2.3 * columns, 2 * (0.19 * len(models) + 0.65))
    figure, grid = plt.subplots(2, columns, figsize=size, sharex=True, sharey=True, squeeze=False)
    for axes, measure in zip(grid.flat, shown, strict=False):
        rows = table[table["measure"] == measure].set_index("model").reindex(models)
        for place, model in enumerate(models):
            row = rows.loc[model]
            axes.hlines(place, row["low"], row["high"], color=style.PALETTE[0])
            axes.plot([row["mean"]], [place], "o", color=style.PALETTE[0], markersize=4)
        axes.set_title(measure)
        axes.set_yticks(range(len(models)), models)
        axes.set_xlim(-0.03, 1.03)
        axes.grid(axis="y", color="0.92")
    for axes in list(grid.flat)[len(shown) :]:
        axes.axis("off")
    grid[0, 0].invert_yaxis()
    figure.supxlabel("share of held-out moments", fontsize=8)
    return closed(figure)


def answers_by_ratio(frame: pd.DataFrame) -> Figure:
    """What is advised at which CPA ratio, one panel per model: model, bin, answer, count, share."""
    require(frame, "model", "bin", "answer", "count", "share")
    models, bins = list(dict.fromkeys(frame["model"])), list(RATIO_BINS)
    figure, panes = panels(len(models), size=(max(3.4, 1.5 * len(models) + 0.6), 2.3))
    colour = dict(zip(ANSWERS, (style.PALETTE[0], "0.8", style.PALETTE[1], "white"), strict=True))
    for axes, model in zip(panes, models, strict=True):
        table = frame[frame["model"] == model].pivot(index="bin", columns="answer", values="share").loc[bins]
        counts = frame[frame["model"] == model].groupby("bin", sort=False)["count"].sum().loc[bins]
        bottom = np.zeros(len(bins))
        for answer in ANSWERS:
            heights = table[answer].fillna(0).to_numpy()
            axes.bar(
                bins, heights, 0.8, bottom=bottom, color=colour[answer], edgecolor="0.6", linewidth=0.5, label=answer
            )
            bottom += heights
        for place, count in enumerate(counts):
            axes.text(place, 1.02, f"{count}", ha="center", fontsize=6.5)
        axes.set(title=model, ylim=(0, 1.12), ylabel="share of answers" if axes is panes[0] else "")
        axes.tick_params(axis="x", rotation=45)
        if axes is not panes[0]:
            axes.set_yticklabels([])
    figure.supxlabel("CPA ratio so far (number of moments above each bar)", fontsize=8)
    figure.legend(*panes[0].get_legend_handles_labels(), loc="outside right center")
    return closed(figure)

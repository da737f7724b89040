"""The paper's figures by number; each draws from a frame of recorded results, ours beside the published."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lbm_core.evaluation.advice import RATIO_BINS
from lbm_core.evaluation.directions import SIDES, SIGNS, direction_counts, with_share
from lbm_core.evaluation.statistics import mean_interval
from lbm_core.report import paper
from lbm_core.report.schematics import schematic
from lbm_core.report.style import PALETTE, PAPER_COLOUR, RATIO_SHOWN, colours, curves, drawn, legend_below, plain
from lbm_core.seeding import generator


def fig1() -> Figure:
    """Fig. 1: LBM-Act is trained on instructed decisions (left), then LBM-Think by GQPO (right)."""
    return schematic("training_stages")


@drawn("model", "cpa_ratio", "delta_a")
def fig2(figure: Figure, samples: pd.DataFrame) -> None:
    """Fig. 2: does alpha go down when the CPA ratio is above 1? Counts of a stratified sample, beside the paper's.

    A row per decision: cpa_ratio so far, delta_a = log alpha_t / alpha_{t-1}; as many below 1 as above.
    """
    cells = ["model", "delta_a", "cpa_ratio"]
    counts, published = direction_counts(samples).set_index(cells), with_share(paper.figure(2)).set_index(cells)
    ours, theirs = (
        frame["count"].astype("str") + frame["share"].map(" ({:.0%})".format).where(frame["share"].notna(), "")
        for frame in (counts, published)
    )
    written = ours + ("\npaper " + theirs).reindex(counts.index).fillna("")
    models = list(samples["model"].unique())
    figure.set_size_inches(max(3.4, 2.35 * len(models)), 2.4)
    for k, (axes, model) in enumerate(zip(figure.subplots(1, len(models), squeeze=False)[0], models, strict=True)):
        shares, labels = (
            column.loc[model].unstack().loc[list(SIGNS), list(SIDES)] for column in (counts["share"], written)
        )
        look = {"vmin": 0, "vmax": 1, "cmap": "Blues", "cbar": False, "linewidths": 1, "square": True}
        sns.heatmap(shares.fillna(0), ax=axes, annot=labels, fmt="", annot_kws={"size": 7}, **look)
        axes.set(title=model, xlabel="", ylabel="")
        axes.set_xticklabels(["CPA ratio < 1", "CPA ratio > 1"])
        axes.set_yticklabels([r"$\Delta a > 0$", r"$\Delta a < 0$"] if k == 0 else ["", ""], rotation=90, va="center")
        axes.tick_params(length=0)


@drawn("model", "cpa_ratio", "delta_a")
def fig2_scatter(figure: Figure, samples: pd.DataFrame) -> None:
    """Every sample of :func:`fig2` with both marginals; mean per bin and 95 % interval (of six samples and more)."""
    models = list(samples["model"].unique())
    figure.set_size_inches(max(3.4, 2.35 * len(models)), 2.7)
    tops, mains = figure.subplots(2, 2 * len(models), height_ratios=[1, 5], width_ratios=[5, 1] * len(models))
    highest, rng = 1.05 * float(samples["delta_a"].abs().max()) or 1.0, generator(0, "bootstrap", 2)
    across, up = (RATIO_SHOWN[0] * 0.9, RATIO_SHOWN[1] * 1.1), (-highest, highest)
    for k, model in enumerate(models):
        (top, corner), (main, side) = tops[2 * k : 2 * k + 2], mains[2 * k : 2 * k + 2]
        rows = samples[samples["model"] == model]
        ratio, moved = rows["cpa_ratio"].clip(*RATIO_SHOWN), rows["delta_a"]
        main.axvline(1, color="0.6", linewidth=0.8, zorder=0)
        main.axhline(0, color="0.6", linewidth=0.8, zorder=0)
        main.scatter(ratio, moved, s=6, alpha=0.45, linewidths=0, color=PALETTE[0])
        for low, high in RATIO_BINS.values():
            inside = moved[rows["cpa_ratio"].between(low, high, inclusive="right")].to_numpy()
            if len(inside):
                mean, least, most = mean_interval(inside, rng)
                centre = np.sqrt(np.clip([low, high], RATIO_SHOWN[0] * 3, RATIO_SHOWN[1] / 3).prod())
                main.plot([centre], [mean], "D", color=PALETTE[1], markersize=4)
                main.vlines(centre, least, most, color=PALETTE[1])
        main.set(xscale="log", xlim=across, ylim=up, xlabel="CPA ratio so far")
        top.hist(ratio, bins=np.geomspace(*RATIO_SHOWN, 17), color=PALETTE[0], alpha=0.6)
        top.set(title=model, xscale="log", xlim=across, xticklabels=[], yticks=[])
        side.hist(moved, bins=np.linspace(*up, 17), orientation="horizontal", color=PALETTE[0], alpha=0.6)
        side.set(ylim=up, yticklabels=[], xticks=[])
        corner.axis("off")
        if k:
            main.set_yticklabels([])
    mains[0].set_ylabel(r"$\Delta a = \log(\alpha_t / \alpha_{t-1})$")


@drawn("method", "step", "loss")
def fig3(figure: Figure, losses: pd.DataFrame, *, label: str = r"loss on $\log \alpha$") -> None:
    """Fig. 3: training loss of LLM-DT and LBM-Act, ours and (grey, in the paper's own unit) the published curves.

    Of several values of a column ``seed`` the mean and (band) the range; of one the raw loss is drawn faintly, too.
    """
    left, right = figure.subplots(1, 2)
    colour = colours(list(losses["method"].unique()))
    for method, rows in losses.groupby("method", sort=False):
        _curve(left, rows, colour[str(method)], str(method))
    wide = losses["loss"].max() > 3 * losses["loss"].min()  # a logarithmic axis would have one label or two otherwise
    left.set(xlabel="training step", ylabel=label, title="Ours", yscale="log" if wide else "linear")
    for (method, rows), line in zip(paper.figure(3).groupby("method", sort=False), ("--", "-"), strict=True):
        _curve(right, rows.sort_values("step"), PAPER_COLOUR, str(method), line)
    right.set(xlabel="training step, thousands", ylabel=r"loss on $\alpha$ (scale not given)", yscale="log")
    right.set_title("The paper's (digitised)")
    right.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:.0f}")
    for axes, place in ((left, "lower left"), (right, "upper right")):
        axes.legend(loc=place)
        plain(axes.yaxis, "12357")  # the losses span less than a power of ten


@drawn("tick", "kind", "alpha_ratio", "conversions", size=(3.4, 3.2))
def fig4(figure: Figure, path: pd.DataFrame, case: pd.Series) -> None:
    """Fig. 4 as numbers: one advice (tick), the decision ten ticks before and after, and what was bought since."""
    (top, bottom), tick = figure.subplots(2, 1, sharex=True), int(case["tick"])
    for kind, colour, line in (("without", "0.45", "--"), ("with", PALETTE[0], "-")):
        day = path[(path["kind"] == kind) & path["tick"].between(tick - 10, tick + 10)].sort_values("tick")
        look = {"color": colour, "label": f"{kind} the advice", "marker": ".", "markersize": 3, "linestyle": line}
        top.plot(day["tick"], day["alpha_ratio"], **look)
        since = day[day["tick"] >= tick]
        bottom.plot([tick, *(since["tick"] + 1)], [0, *since["conversions"].cumsum()], **look)
    ends = day[day["alpha_ratio"].notna()].iloc[-1]
    if ends["tick"] < day["tick"].max():
        top.annotate(" budget gone", (ends["tick"], ends["alpha_ratio"]), va="center", fontsize=7)
    for axes in (top, bottom):
        axes.axvspan(tick - 1, tick, color="0.9", zorder=0)
    top.set_ylabel(r"decision: $\alpha / C$")
    bottom.set(xlabel="tick (grey: the text is written)", ylabel=f"expected conversions\nsince tick {tick}")
    top.legend()


@drawn("layer", "head", "position", "label", "part", "attention")
def fig5(figure: Figure, frame: pd.DataFrame) -> None:
    """Fig. 5: attention of the last query over positions (sums to 1) and heads, and each head's share on language."""
    layers = [name for name in ("first", "middle", "last") if name in set(frame["layer"])]
    heads = frame["head"].nunique()
    figure.set_size_inches(7.0, len(layers) * (0.5 + 0.13 * heads) + 0.5)
    grid = figure.subplots(len(layers), 2, squeeze=False, sharey="row", sharex="col", width_ratios=[6, 1])
    for (left, right), layer in zip(grid, layers, strict=True):
        rows = frame[frame["layer"] == layer]
        table, language = rows.pivot(index="head", columns="position", values="attention"), rows["part"] == "language"
        mesh = left.pcolormesh(table.columns, table.index, table.to_numpy(), vmin=0, vmax=1, cmap="magma")
        if language.any():
            left.axvline(rows.loc[language, "position"].nunique() - 0.5, color="white", linewidth=1)
        share = rows[language].groupby("head")["attention"].sum().reindex(table.index, fill_value=0)
        right.barh(share.index, share, height=0.8, color=PALETTE[0])
        right.axvline(share.mean(), color="0.3", linewidth=0.8)
        right.set_xlim(0, 1)
        right.set_title(f"mean {share.mean():.0%}", fontsize=7)
        left.set(ylabel="head", title=f"{layer.capitalize()} layer", yticks=range(0, heads, 2))
        left.invert_yaxis()
    labels = frame.drop_duplicates("position").sort_values("position")
    grid[-1, 0].set_xticks(labels["position"], labels["label"], rotation=90, fontsize=6)
    grid[-1, 0].set_xlabel("position: the instruction's tokens, then return-to-go R, state s and alpha a per tick")
    grid[-1, 1].set_xlabel("share on\nlanguage")
    figure.colorbar(mesh, ax=grid[:, 0], label="attention", location="left", shrink=0.5, pad=0.02)


@drawn("variant", "step", "length", "answered")
def fig6(figure: Figure, log: pd.DataFrame) -> None:
    """Fig. 6: tokens of GRPO's texts over the steps, the paper's beside ours, and how many of ours name alpha."""
    theirs, ours, answered = figure.subplots(1, 3)
    published = paper.figure(6)
    theirs.plot(published["step"], published["tokens"], color=PAPER_COLOUR)
    theirs.set(xlabel="step", ylabel="tokens per text", title="The paper (digitised)")
    few = log["step"].max() <= 20  # single steps are then worth a marker
    percent, marker = log.assign(answered=100 * log["answered"]).sort_values("step"), "o" if few else ""
    for axes, column in ((ours, "length"), (answered, "answered")):
        curves(axes, percent, "step", column, "variant", linestyle="by", marker=marker, markersize=4)
        if few:
            axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    ours.set(xlabel="step", ylabel="tokens per text", title="Ours", ylim=(0, 1.1 * log["length"].max()))
    answered.set(xlabel="step", ylabel="% of texts", title="One readable alpha", ylim=(-4, 104))
    theirs.set_ylim(bottom=0)
    legend_below(figure, ours)
    figure.set_layout_engine("constrained", wspace=0.06)


def _curve(axes: Axes, rows: pd.DataFrame, colour, label: str, line: str = "-") -> None:
    """The running median of a loss; of several seeds, each smoothed by itself, the mean and the range."""
    several = "seed" in rows and rows["seed"].nunique() > 1
    table = rows.pivot(index="step", columns="seed", values="loss") if several else rows.set_index("step")[["loss"]]
    curves = table.rolling(min(25, max(len(table) // 10, 1)), center=True, min_periods=1).median()
    if several:
        axes.fill_between(curves.index, curves.min(axis=1), curves.max(axis=1), color=colour, alpha=0.2, linewidth=0)
    else:
        axes.plot(table.index, table["loss"], color=colour, alpha=0.2, linewidth=0.6)
    axes.plot(curves.index, curves.mean(axis=1), line, color=colour, label=label)

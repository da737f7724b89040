"""Figures of chapters 2 and 3 that the paper does not have: LBM-Act under instructions, and critics."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lbm_core.auction.bidder import N_TICKS
from lbm_core.report import paper
from lbm_core.report.style import PALETTE, PAPER_COLOUR, colours, curves, dots, drawn, legend_below, lines, plain, sized

_COLOURS = {"decrease": PALETTE[3], "uncertain": PALETTE[7], "increase": PALETTE[2]}


@drawn("instruction", "log_move", size=(3.4, 2.4))
def instructed_moves(figure: Figure, frame: pd.DataFrame) -> None:
    """The same decisions under three sentences: how far log alpha moves."""
    axes, moves = figure.subplots(), frame.groupby("instruction")["log_move"]
    axes.boxplot([moves.get_group(name) for name in _COLOURS], tick_labels=list(_COLOURS), showfliers=False)
    axes.axhline(0, color=PAPER_COLOUR, linewidth=0.8)
    axes.set(ylabel=r"$\log(\tilde a_t / a_{t-1})$", xlabel="instructed to")


@drawn("layer", "head", "share", "even")
def language_share(figure: Figure, frame: pd.DataFrame) -> None:
    """Share of attention on words, one cell per layer and head; what even attention would give is marked."""
    table, even = 100 * frame.pivot(index="layer", columns="head", values="share"), 100 * frame["even"].iloc[0]
    axes, bar = sized(figure, min(0.36 * table.shape[1] + 2, 7), 0.26 * len(table) + 1.2, 1, 2, width_ratios=[1, 0.04])
    look = {"annot": table.size <= 60, "fmt": ".0f", "annot_kws": {"size": 6}}  # numbers where they can be read
    sns.heatmap(table, ax=axes, cbar_ax=bar, vmin=0, vmax=100, cmap="magma", **look)
    bar.axhline(even, color="white", linewidth=1.5)
    bar.set_yticks([0, even, 100], ["0", f"{even:.0f}, spread evenly", "100"])
    axes.set(xlabel="head", ylabel="layer", title="Attention on words, %")
    axes.tick_params(length=0, labelrotation=0)


@drawn("method", "tick", "alpha_ratio", "spent")
def running_away(figure: Figure, days: pd.DataFrame, drift: Mapping[str, float]) -> None:
    """One advertiser's day under constant instructions; dotted: the mean move of log alpha a tick under each."""
    left, right = figure.subplots(1, 2, sharex=True)
    for name, rows in days.groupby("method", sort=False):
        word = next((word for word in _COLOURS if word in str(name)), "uncertain")
        look = {"linestyle": "-" if name in _COLOURS else "--", "color": _COLOURS[word]}
        left.plot(rows["tick"], rows["alpha_ratio"], **look)
        right.plot(rows["tick"], rows["spent"], **look, label=_short(str(name)))
    for name, move in drift.items():
        left.plot(np.exp(move * np.arange(N_TICKS)), ":", color=_COLOURS[name], linewidth=0.9)
    reach = days["alpha_ratio"].min() / 1.5, days["alpha_ratio"].max() * 1.5
    left.set(xlabel="tick", ylabel=r"$\alpha / C$", yscale="log", ylim=reach, title="Bidding parameter")
    plain(left.yaxis, "25")
    right.set(xlabel="tick", ylabel="share of the budget", ylim=(0, 1.03), title="Spent so far")
    right.legend(loc="upper left", bbox_to_anchor=(1, 1))


@drawn("instruction", "way", "budget_utilization", "score")
def instruction_strength(figure: Figure, frame: pd.DataFrame) -> None:
    """Table 4 and what makes it mild: utilisation and score by way of instructing ("scale 0.25", …); paper: grey."""
    base, instructed = frame[frame["instruction"] == "base"].iloc[0], frame[frame["instruction"] != "base"]
    ways, published = list(instructed["way"].unique()), paper.table(4).set_index(["metric", "instruction"])["value"]
    panes = sized(figure, 7.0, 0.24 * len(ways) + 1.3, 1, 2, sharey=True)
    labels = {"budget_utilization": "share of the budget spent", "score": "score per advertiser"}
    for axes, (metric, label) in zip(panes, labels.items(), strict=True):
        table = instructed.pivot(index="way", columns="instruction", values=metric).loc[ways].assign(base=base[metric])
        _spans(axes, range(len(ways)), table)
        _spans(axes, [len(ways)], published[metric].to_frame().T, PAPER_COLOUR)
        axes.axhline(len(ways) - 0.5, color="0.85", linewidth=0.8)
        axes.set(xlabel=label, xlim=(0, None))
        lines(axes, [*ways, "paper, every tick"])
    legend_below(figure, panes[0])


@drawn("method", "difference", "low", "high")
def guides(figure: Figure, differences: pd.DataFrame, spending: pd.Series, reference: str) -> None:
    """Score of LBM-Act by instructor, less that under the reference, and the share of the budget spent by method."""
    names = differences["method"]
    left, right = sized(figure, 7.0, 0.24 * len(names) + 1.1, 1, 2, sharey=True, width_ratios=[3, 2])
    dots(left, differences.rename(columns={"difference": "mean"}), names.map(_short))
    left.axvline(0, color=PAPER_COLOUR, linewidth=0.8)
    left.set(xlabel=f"score minus that under '{_short(reference)}'", ylabel="who instructs, or bids alone")
    right.barh(range(len(names)), spending[names], height=0.6, color=PALETTE[7])
    right.axvline(spending[reference], color=PAPER_COLOUR, linestyle="--")
    right.set(xlabel=f"share of the budget spent (dashed: '{_short(reference)}')", xlim=(0, 1.03))


@drawn("size", "loss", "followed", "trained")
def sizes(figure: Figure, frame: pd.DataFrame) -> None:
    """Sizes of LBM-Act, the first the default: final loss beside the default's, who follows; lines: all trainings."""
    more = 100 * frame["loss"] / frame["loss"][frame["size"] == frame["size"].iloc[0]].mean() - 100
    groups, trainings = frame.assign(loss=more).groupby("size", sort=False), frame["size"].value_counts().min()
    labels = {"loss": "final loss, % above default", "followed": "share of moves as instructed"}
    panes = sized(figure, 5.0, 0.24 * len(groups) + 0.8, 1, 2, sharey=True)
    for axes, (column, label) in zip(panes, labels.items(), strict=True):
        rows = groups[[column]].agg(["mean", "min", "max"]).set_axis(["mean", "low", "high"], axis=1)
        dots(axes, rows, [f"{name} ({count:.2g} M)" for name, count in (groups["trained"].first() / 1e6).items()])
        axes.set_xlabel(label)
        axes.grid(axis="y", color="0.92")
    panes[1].set_xlim(-0.03, 1.06)
    note = f"line: range of {trainings} trainings" if trainings > 1 else "one training: no interval"
    panes[0].set_ylabel(f"weights trained in brackets\n{note}", fontsize=7)


@drawn("step", "q_loss", "v_loss")
def says_and_is(figure: Figure, losses: pd.DataFrame, verdicts: pd.DataFrame) -> None:
    """Losses of IQL, and what the critic says of other alphas (factor, relative_q) against what the replay gains."""
    left, right = figure.subplots(1, 2)
    for name, label in (("q_loss", "Q (Eq. 9)"), ("v_loss", "V (Eq. 8)")):
        left.plot(losses["step"], losses[name].rolling(10, min_periods=1).median(), label=label)
    left.set(xlabel="training step", ylabel="loss", yscale="log", title="IQL")
    left.legend()
    for factor, rows in verdicts.groupby("factor"):
        right.scatter(rows["relative_q"], rows["gain"], s=4, alpha=0.4, linewidth=0, label=f"alpha × {factor}")
    _cross(right)
    limit = verdicts["gain"].abs().quantile(0.98)
    right.set(xlabel="relative-Q", ylabel="replayed change of the score", title="Says, and is", ylim=(-limit, limit))
    right.legend(markerscale=2.5)


@drawn("method", "metric", "mean", "low", "high")
def variants(figure: Figure, validity: pd.DataFrame, steered: pd.DataFrame) -> None:
    """Critics side by side: sign_accuracy, rank_correlation, score where each (or "constant", a line) steers alone.

    ``validity`` holds the metrics always_lower and is_better, too: lines at what needs no critic.
    """
    names, steering = list(validity["method"].unique()), steered.set_index("method")
    tables = {str(metric): rows.set_index("method") for metric, rows in validity.groupby("metric")}
    figure.set_size_inches(7, 0.24 * len(names) + 1)
    titles = ("sign accuracy", "rank correlation", "score, steering alone")
    parts = (tables["sign_accuracy"], tables["rank_correlation"], steering)
    told = [tables["always_lower"]["mean"].iloc[0], 1 - tables["is_better"]["mean"].iloc[0]]
    known = (told, [0.0], [steering["mean"]["constant"]])
    for axes, title, rows, reference in zip(figure.subplots(1, 3, sharey=True), titles, parts, known, strict=True):
        dots(axes, rows.loc[names], names)
        for value, dashes in zip(reference, ("--", ":"), strict=False):
            axes.axvline(value, color=PAPER_COLOUR, linestyle=dashes)
        axes.set(xlabel=title)
    figure.supxlabel('dashed: always "lower", chance, alpha = C all day; dotted: always "not better"', fontsize=7)


@drawn("variant", "relative_q", "gain", size=(7, 2.3))
def calibration(figure: Figure, curve: pd.DataFrame, by_tick: pd.DataFrame, by_ratio: pd.DataFrame) -> None:
    """Mean gain where critics say about the same, and sign_accuracy (dashed: always_lower) by tick and CPA so far."""
    panes, palette = figure.subplots(1, 3), colours(list(curve["variant"].unique()))
    curves(panes[0], curve, "relative_q", "gain", "variant", palette=palette, marker="o", markersize=3)
    _cross(panes[0])
    panes[0].set(xlabel="relative-Q (mean of a bin)", ylabel="replayed gain (score)")
    for axes, frame, label in zip(panes[1:], (by_tick, by_ratio), ("tick", "CPA so far / C"), strict=True):
        curves(axes, frame, "bin", "sign_accuracy", "variant", palette=palette, marker="o", markersize=3)
        lower = frame.groupby("bin", sort=False)["always_lower"].mean()
        axes.plot(lower.index, lower, color=PAPER_COLOUR, linestyle="--", label='"lower" always')
        axes.set(xlabel=label, ylim=(0, 1))
        axes.tick_params(axis="x", rotation=30)
    panes[1].set_ylabel("sign accuracy")
    legend_below(figure, panes[1])


def _spans(axes: Axes, places: Sequence[int], table: pd.DataFrame, colour: str = "") -> None:
    """Decrease, base and increase of each row, joined by a line."""
    table = table[["decrease", "base", "increase"]]
    axes.hlines(places, table.min(axis=1), table.max(axis=1), color="0.8", linewidth=1, zorder=1)
    for (name, values), marker, own in zip(table.items(), "<|>", _COLOURS.values(), strict=True):
        axes.plot(values, places, marker, color=colour or own, label="_" if colour else name, markersize=6)


def _cross(axes: Axes) -> None:
    axes.axhline(0, color=PAPER_COLOUR, linewidth=0.8)
    axes.axvline(0, color=PAPER_COLOUR, linewidth=0.8)


def _short(name: str) -> str:
    return name.removeprefix("LBM-Act + ")

"""Figures of chapters 6, 7 and 8 that the paper does not have: leader boards, baselines, language baselines, claims."""

import textwrap
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from lbm_core.evaluation.claims import VERDICTS
from lbm_core.evaluation.statistics import MIN_TRAININGS
from lbm_core.report.board import KINDS, REFERENCE
from lbm_core.report.style import PALETTE, PAPER_COLOUR, curves, drawn, legend_below, lines, sized

# What became of a text keeps its colour in every figure, also where nothing was accepted.
_STATUSES = ("accepted", "truncated", "no alpha", "several alphas", "alpha not a number", "alpha out of range")
_STATUS_COLOURS = {name: PALETTE[place] for name, place in zip(_STATUSES, (2, 7, 1, 4, 5, 3), strict=True)}
# Of each verdict: a sign, which stays where colours are lost, the colour of its cell, and that of the sign.
_COLOURS, _INKS = (PALETTE[2], PALETTE[3], PALETTE[9], "0.7", "0.88"), ("white", "white", "black", "black", "black")
SIGNS = {verdict: look for verdict, *look in zip(VERDICTS, "✓✗○≠–", _COLOURS, _INKS, strict=True)}
_FIRST, _WIDTH = 2.65, 7.0  # inches: where the verdicts begin, and the whole
_LOOK: dict[str, Any] = {"fontsize": 6.5, "va": "center"}


@drawn("dataset", "method", "kind", "days", "trainings", "of_best", "low", "high")
def leader_board(figure: Figure, boards: pd.DataFrame) -> None:
    """The lines of :func:`lbm_core.report.board.summary` with their data set: per cent of the best constant alpha.

    Methods stand as on the first data set; hollow where one or two trainings decide nothing. Kinds differ in colour and
    in shape.
    """
    names, days = list(dict.fromkeys(boards["method"])), boards.groupby("method")["days"].unique()
    # One number of days, or one a data set.
    few = {n: f" ({', '.join(map(str, days[n]))} days)" for n in names if min(days[n]) < boards["days"].max()}
    told = [name.replace(", shares ", ",\nshares ") + few.get(name, "") for name in names]
    panes = sized(figure, 7, 0.175 * len(names) + 1, 1, boards["dataset"].nunique(), sharey=True, squeeze=False)[0]
    for axes, (dataset, rows) in zip(panes, boards.groupby("dataset", sort=False), strict=True):
        for colour, shape, name in zip(PALETTE, "o^sDvPX", KINDS, strict=False):
            of_kind = rows[rows["kind"] == name]
            for hollow, part in of_kind.groupby(of_kind["trainings"].between(1, MIN_TRAININGS - 1)):
                places = part["method"].map(names.index)
                axes.hlines(places, part["low"], part["high"], color=colour, linewidth=1)
                look = {"color": colour, "markersize": 4.5, "markerfacecolor": "white" if hollow else colour}
                axes.plot(part["of_best"], places, shape, **look)
            axes.plot([], [], shape, color=colour, markersize=4.5, label=name)
        if REFERENCE in set(rows["method"]):
            level = rows.loc[rows["method"] == REFERENCE, "of_best"].item()
            axes.axvline(level, color=PAPER_COLOUR, linestyle="--", linewidth=0.8, zorder=0)
        axes.set(title=dataset)
        axes.grid(axis="y", color="0.93", linewidth=0.6)
        axes.set_axisbelow(True)
        lines(axes, told)
    title = "score, % of the best constant alpha in hindsight (dashed: DT; hollow: fewer than three trainings)"
    figure.suptitle(title, fontsize=8)
    legend_below(figure, panes[0], ncols=4)


@drawn("method", "tick", "alpha_ratio", "cpa_ratio", "wrong_way")
def black_box_day(figure: Figure, day: pd.DataFrame) -> None:
    """One advertiser's alpha under several methods, and where it moves against the CPA so far (grey: above target)."""
    methods = day.groupby("method", sort=False)
    panes = sized(figure, 3.4, 0.75 * len(methods) + 0.7, len(methods), 1, sharex=True, sharey=True, squeeze=False)
    for axes, (name, rows) in zip(panes[:, 0], methods, strict=True):
        dear = rows["cpa_ratio"] > 1
        axes.fill_between(rows["tick"], 0, 1, dear, step="mid", color="0.88", transform=axes.get_xaxis_transform())
        axes.step(rows["tick"], rows["alpha_ratio"], where="mid", color="0.3", linewidth=0.9)
        for mark, colour, side, label in (("^", 3, dear, "raised above it"), ("v", 9, ~dear, "lowered below it")):
            wrong = rows[rows["wrong_way"] & side]
            axes.plot(wrong["tick"], wrong["alpha_ratio"], mark, markersize=4, color=PALETTE[colour], label=label)
        axes.set_ylabel(name, rotation=0, ha="right", va="center")
    figure.suptitle("alpha / C (grey: CPA so far above its target)", fontsize=8)
    panes[-1, 0].set_xlabel("tick")
    legend_below(figure, panes[0, 0])


@drawn("method", "train_seed", "step", "name", "value")
def learning_curves(figure: Figure, losses: pd.DataFrame) -> None:
    """Losses of every method, each on its own scale; a line per training seed."""
    methods, across = losses.groupby("method", sort=False), 4
    down = -(-len(methods) // across)
    grid = sized(figure, 7, 1.4 * down, down, across, squeeze=False)
    for axes, (method, rows) in zip(grid.flat, methods, strict=False):
        for colour, (name, of_name) in zip(PALETTE, rows.groupby("name", sort=False), strict=False):
            for k, (_, line) in enumerate(of_name.groupby("train_seed")):
                smooth = line["value"].rolling(5, center=True, min_periods=1).median()
                axes.plot(line["step"], smooth, color=colour, linewidth=0.8, label="_" if k else name)
        axes.set_title(method)
        axes.ticklabel_format(axis="x", style="sci", scilimits=(0, 3))
        if set(rows["name"]) != {"loss"}:
            axes.legend()
    for place, axes in enumerate(grid.flat):
        axes.set_visible(place < len(methods))
        if place + across >= len(methods):
            axes.set_xlabel("step")
    for axes in grid[:, 0]:
        axes.set_ylabel("loss")


@drawn("method", "change", "score")
def ablations(figure: Figure, worth: pd.DataFrame) -> None:
    """Score of methods as tuned (vertical lines) and with one decision undone."""
    methods = worth.groupby("method", sort=False)
    counts = [len(rows) - 1 for _, rows in methods]
    figure.set_size_inches(4.8, 0.28 * sum(counts) + 0.35 * len(counts) + 0.4)
    panes = figure.subplots(len(counts), 1, sharex=True, squeeze=False, height_ratios=counts)[:, 0]
    for axes, (name, rows), colour in zip(panes, methods, PALETTE, strict=False):
        tuned, changed = rows.loc[rows["change"] == "as tuned", "score"].item(), rows[rows["change"] != "as tuned"]
        axes.hlines(range(len(changed)), changed["score"], tuned, color=colour)
        axes.plot(changed["score"], range(len(changed)), "o", color=colour, markersize=4)
        axes.axvline(tuned, color=colour, linewidth=1.5)
        axes.set(title=name, xlim=(0, 1.04 * worth["score"].max()))
        lines(axes, changed["change"])
    panes[-1].set_xlabel("score per advertiser (line: as tuned)")


@drawn("metric", "w", "paper", "ours", "low", "high", size=(4.8, 2.2))
def penalty_sweep(figure: Figure, table: pd.DataFrame) -> None:
    """Table 3 as curves, w against score: the rows of :func:`lbm_core.report.tables.table3`, the paper's apart."""
    (left, right), rows = figure.subplots(1, 2), table[table["metric"] == "score"]
    left.plot(rows["w"], rows["ours"], "o-")
    left.fill_between(rows["w"], rows["low"].fillna(rows["ours"]), rows["high"].fillna(rows["ours"]), alpha=0.2)
    left.set(xlabel="w", ylabel="score per advertiser", title="ours")
    right.plot(rows["w"], rows["paper"], "o-", color=PAPER_COLOUR)
    right.set(xlabel="w", title="paper")


@drawn("method", "target_return", "score", "budget_utilization", size=(6.4, 2.4))
def return_targets(figure: Figure, sweep: pd.DataFrame) -> None:
    """Score and budget use against the first return-to-go."""
    means = sweep.groupby(["method", "target_return"], sort=False)[["score", "budget_utilization"]].mean().reset_index()
    for axes, column in zip(figure.subplots(1, 2), ("score", "budget_utilization"), strict=True):
        curves(axes, means, "target_return", column, "method", marker="o", markersize=3, linewidth=0.9)
        axes.set(xlabel="first return-to-go, in B / C", ylabel=column.replace("_", " "), xscale="log", ylim=(0, None))
        axes.set_xticks([0.6, 1, 2, 3.3], ["0.6", "1", "2", "3.3"])
        axes.set_xticks([], minor=True)
    axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5))


@drawn("method", "metric", "replay", "closed_loop")
def protocols(figure: Figure, frame: pd.DataFrame) -> None:
    """Replay against closed loop, one line per method."""
    panes = figure.subplots(1, 2, sharey=True)
    for axes, metric in zip(panes, ("conversions", "score"), strict=True):
        rows = frame[frame["metric"] == metric]
        places = range(len(rows))
        axes.hlines(places, rows["replay"], rows["closed_loop"], color=PAPER_COLOUR, linewidth=1)
        axes.plot(rows["replay"], places, "o", color=PALETTE[0], label="replay")
        axes.plot(rows["closed_loop"], places, "D", color=PALETTE[1], label="closed loop")
        axes.set(xlabel=f"{metric} per advertiser", xlim=(0, None))
        lines(axes, rows["method"])
    panes[1].legend()


@drawn("average", "floor", "risk", "step", "length")
def modelled_lengths(figure: Figure, model: pd.DataFrame) -> None:
    """Words per text in the model of one parameter, by floor (dotted) and average; risk is the chance per word."""
    floors = sorted(model["floor"].unique())
    panes = figure.subplots(1, len(floors), squeeze=False)[0]
    for axes, floor in zip(panes, floors, strict=True):
        here = model[model["floor"] == floor]
        safe = here[here["risk"] == 0]
        if len(safe):
            axes.plot(safe["step"], safe["length"], color="0.6", label="no risk")
        curves(axes, here[here["risk"] > 0], "step", "length", "average", linestyle="by")
        if floor:
            axes.axhline(floor, color="0.3", linestyle=(0, (1, 2)), linewidth=1)
        axes.set(xlabel="step", ylabel="words per text", title=f"Floor of {floor} words" if floor else "No floor")
        axes.set_ylim(0, 1.1 * model["length"].max())
    legend_below(figure, panes[0])


@drawn("method", "status", "count", size=(3.4, 1.7))
def statuses(figure: Figure, answers: pd.DataFrame) -> None:
    """What became of every consultation: the shares of :class:`~lbm_core.baselines.text_action.TextStatus`."""
    counts = answers.pivot_table(index="method", columns="status", values="count", sort=False, fill_value=0)
    shares = 100 * counts.div(counts.sum(axis=1), axis=0)[[name for name in _STATUS_COLOURS if name in counts]]
    axes: Any = shares.plot.barh(stacked=True, width=0.6, color=_STATUS_COLOURS, ax=figure.subplots(), legend=False)
    for bars in axes.containers:  # only what has room is written
        axes.bar_label(bars, fmt=lambda x: f"{x:.0f} %" if x >= 12 else "", label_type="center", color="white", size=7)
    axes.set_yticks(range(len(counts)), [f"{name}\n{total:g} asked" for name, total in counts.sum(axis=1).items()])
    axes.invert_yaxis()
    axes.set(xlabel="% of answers", xlim=(0, 100), ylabel="")
    legend_below(figure, axes, ncols=3)


@drawn("dataset", "short", "section", "verdict", "metric", "estimate", "low", "high", "measured", "seeds")
def scorecard(figure: Figure, cards: pd.DataFrame) -> None:
    """Cards of :func:`lbm_core.evaluation.claims.scorecard` with their data set: a line per claim, a cell per data set.

    Beside a verdict stands the number that decides it with its 95 % interval (Δ: a difference, above 0 if the paper is
    right), beside "not run" the reason.
    """
    claims, column = list(cards["short"].unique()), (_WIDTH - _FIRST) / cards["dataset"].nunique()
    axes = sized(figure, _WIDTH, 0.185 * len(claims) + 0.5)
    axes.set(xlim=(0, _WIDTH), ylim=(len(claims) + 1, -1.2))
    axes.axis("off")
    axes.hlines([place - 0.5 for place in range(len(claims) + 1)], 0, _WIDTH, color="0.92", linewidth=0.5)
    for place, row in enumerate(cards.drop_duplicates("short").to_dict("records")):
        axes.text(0, place, row["short"], **_LOOK)
        axes.text(_FIRST - 0.1, place, row["section"], **_LOOK | {"ha": "right", "color": "0.4", "fontsize": 6})
    cells = [(1.1 * place, len(claims) + 0.5, verdict, verdict) for place, verdict in enumerate(VERDICTS)]  # the legend
    axes.text(_WIDTH, len(claims) + 0.5, f"* fewer than {MIN_TRAININGS} trainings", **_LOOK | {"ha": "right"})
    for number, (dataset, card) in enumerate(cards.groupby("dataset", sort=False)):
        axes.text(_FIRST + number * column, -0.9, dataset, **_LOOK | {"fontsize": 8})
        for row in card.to_dict("records"):
            cells.append((_FIRST + number * column, claims.index(row["short"]), row["verdict"], _number(row)))
    for left, line, verdict, text in cells:
        sign, colour, ink = SIGNS[verdict]
        axes.barh(line, 0.2, 0.82, left=left, color=colour)
        axes.text(left + 0.1, line, sign, **_LOOK | {"ha": "center", "family": "DejaVu Sans", "color": ink})
        axes.text(left + 0.28, line, text, **_LOOK | {"fontsize": 6})


def _number(row: dict[Any, Any]) -> str:
    """The number that decides, or why there is none."""
    if pd.isna(row["estimate"]):
        return textwrap.shorten(row["measured"], 42, placeholder=" …")
    sign, digits = ("+", 2) if row["metric"].startswith("Δ") else ("", 3)
    numbers = [row[name] for name in ("estimate", "low", "high") if pd.notna(row[name])]
    mean, *bounds = (f"{round(value, 3):{sign}.{3 if abs(value) >= 99.5 else digits}g}" for value in numbers)
    text = f"{row['metric'].replace('budget_', '').replace('expected ', '').replace('expected_', '')} {mean}" + (
        f" [{', '.join(bounds)}]" if bounds else ""
    )
    return text.replace("_", " ").replace("-", "−") + ("*" if 0 < row["seeds"] < MIN_TRAININGS else "")

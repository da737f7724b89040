"""Figures of chapter 1: a bidding day, and how close the simulated market comes to the real one."""

import itertools
from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lbm_core.auction.bidder import N_TICKS
from lbm_core.report.style import PALETTE, PAPER_COLOUR, RATIO_SHOWN, curves, drawn, legend_below, lines, sized

PRICE_ROLES = {7: ", fitted", 14: ", held out"}  # what calibration does with a period


@drawn("tick", "impressions", "mean_pvalue", "category")
def traffic_day(figure: Figure, frame: pd.DataFrame) -> None:
    """A day of traffic, and the mean p-value of each category."""
    (left, right), counts = figure.subplots(1, 2), frame.drop_duplicates("tick")
    left.bar(counts["tick"], counts["impressions"] / 1000, width=0.85, color=PALETTE[0])
    left.set(xlabel="tick (48 a day)", ylabel="impressions, thousands", title="Traffic")
    curves(right, frame, "tick", "mean_pvalue", "category", drawstyle="steps-mid")
    right.legend(title="category", ncols=2)
    right.set(xlabel="tick", ylabel="conversions per impression", title="Mean predicted value", ylim=(0, None))


@drawn("tick", "impressions", "lwc", size=(7.0, 4.4))
def market_day(figure: Figure, ticks: pd.DataFrame, bidders: pd.DataFrame, groups: Sequence[str]) -> None:
    """A day of the market in four panels: impressions, prices, budgets and CPA of everybody.

    ``ticks`` hold the mean least winning cost, ``bidders`` advertiser, tick, budget_left (share after the tick),
    cpa_ratio (so far; NaN before there is one) and group: one of at most four ``groups``, or "", drawn in grey.
    """
    (traffic, prices), (budgets, ratios) = figure.subplots(2, 2, sharex=True)
    traffic.bar(ticks["tick"], ticks["impressions"] / 1000, width=0.85, color=PALETTE[0])
    traffic.set(ylabel="thousands", title="Impressions")
    prices.plot(ticks["tick"], ticks["lwc"], color=PALETTE[3])
    prices.set(ylabel="currency", title="Mean least winning cost", ylim=(0, None))
    looks: dict[str, dict[str, Any]] = {"": {"color": "0.75", "linewidth": 0.5, "zorder": 2}}
    looks |= {name: {"color": PALETTE[k], "zorder": 3} for name, k in zip(groups, (0, 1, 2, 4), strict=False)}
    for (group, _), rows in bidders.groupby(["group", "advertiser"]):
        budgets.plot(rows["tick"], rows["budget_left"], **looks[str(group)])
        ratios.plot(rows["tick"], rows["cpa_ratio"].clip(*RATIO_SHOWN), **looks[str(group)])
    for name in [*groups, ""] if (bidders["group"] == "").any() else groups:
        budgets.plot([], [], **looks[name], label=name or "the others")
    budgets.set(xlabel="tick", ylabel="share of the budget", title="Budget left", ylim=(-0.02, 1.04))
    _ratio_axis(ratios)
    _blocks(prices, budgets, ratios)
    legend_below(figure, budgets)
    _settle(figure)


@drawn(size=(7.0, 4.4))
def bidders_day(figure: Figure, frame: pd.DataFrame) -> None:
    """What bidders made of an advertiser's day, by :func:`lbm_core.report.widgets.day_frame`; of no rows empty axes."""
    alpha, budget, cpa, conversions = figure.subplots(2, 2, sharex=True).flat
    shown = frame.assign(cpa_ratio=frame["cpa_ratio"].clip(*RATIO_SHOWN))
    curves(alpha, shown, "tick", "multiple", "bidder", linestyle="by", drawstyle="steps-mid")
    for axes, column in ((budget, "budget_left"), (cpa, "cpa_ratio"), (conversions, "conversions")):
        curves(axes, shown, "tick", column, "bidder", linestyle="by")
    alpha.set(ylabel="alpha / CPA target", title="Action", ylim=(0, None))
    budget.set(ylabel="share of the budget", title="Budget left", ylim=(-0.02, 1.04))
    _ratio_axis(cpa)
    conversions.set(xlabel="tick", ylabel="count", title="Conversions so far", ylim=(0, None))
    conversions.set_xlim(-0.5, N_TICKS - 0.5)
    _blocks(*figure.axes)
    if len(frame):
        legend_below(figure, alpha, loc="outside upper center")
    _settle(figure)


@drawn("dataset", "feature", "moment", "ratio", "tolerance", size=(7.0, 4.2))
def moment_dots(figure: Figure, report: pd.DataFrame) -> None:
    """State moments of :func:`lbm_core.data.fidelity.moment_report`, ours over the real ones, and the band allowed."""
    features, names = list(report["feature"].unique()), list(report["dataset"].unique())
    both = figure.subplots(1, 2, sharey=True)
    low, high = 0.5, 1.6  # beyond: an arrow at the edge, with the value
    for axes, moment, title in zip(both, ("mean", "std"), ("Mean", "Standard deviation"), strict=True):
        part = report[report["moment"] == moment]
        band = part.drop_duplicates("feature").set_index("feature")["tolerance"].astype(float).loc[features]
        axes.barh(range(len(band)), 2 * band, left=1 - band, height=0.84, color="0.88", linewidth=0)
        axes.axvline(1, color="0.5", linewidth=0.8)
        for k, name in enumerate(names):
            rows = part[part["dataset"] == name]
            places = rows["feature"].map(features.index) + (k - (len(names) - 1) / 2) * 0.3
            inside = rows["ratio"].between(low, high)
            look = {"markersize": 4, "color": PALETTE[k]}
            axes.plot(rows["ratio"][inside], places[inside], "os"[k % 2], **look, label=name)
            for value, place in zip(rows["ratio"][~inside], places[~inside], strict=True):
                edge, marker, side, step = (high, ">", "right", -6) if value > high else (low, "<", "left", 6)
                axes.plot(edge, place, marker, **look)
                at = {"xytext": (step, 0), "textcoords": "offset points", "ha": side, "va": "center", "fontsize": 6}
                axes.annotate(f"{value:.2f}", (edge, place), **at)
        axes.set(xlim=(low - 0.03, high + 0.03), xlabel="ours / real", title=title)
        axes.tick_params(axis="y", length=0)
    lines(both[0], [name.replace("_", " ") for name in features])
    legend_below(figure, both[0])
    _settle(figure)


@drawn("period", "tick", "lwc")
def price_fit(figure: Figure, ours: pd.DataFrame, real: pd.DataFrame, agreement: pd.DataFrame) -> None:
    """Tick prices, ours beside the real ones, and their :func:`lbm_core.data.fidelity.price_agreement` by period."""
    panes = sized(figure, 3.5 * len(agreement), 2.6, 1, len(agreement), sharey=True, squeeze=False)[0]
    for axes, row in zip(panes, agreement.to_dict("records"), strict=True):
        dots, line = (frame[frame["period"] == row["period"]] for frame in (real, ours))
        axes.plot(line["tick"], line["lwc"], color=PALETTE[0], label="ours")
        axes.scatter(dots["tick"], dots["lwc"], s=9, color=PAPER_COLOUR, label="real", zorder=3)
        fit = f"correlation {row['correlation']:.2f}, relative error {row['relative_error']:.0%}"
        axes.set_title(f"Period {row['period']}{PRICE_ROLES.get(row['period'], '')}\n{fit}")
        axes.set(xlabel="tick", ylim=(0, 1.08 * max(ours["lwc"].max(), real["lwc"].max())))
        _blocks(axes)
    panes[0].set_ylabel("least winning cost, currency")
    panes[-1].legend()
    _settle(figure)


def _settle(figure: Figure) -> None:
    """Find the layout once: it would be sought again for every file that is written of the figure."""
    figure.align_ylabels()
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def _ratio_axis(axes: Axes) -> None:
    low, high = RATIO_SHOWN
    axes.set(yscale="log", ylim=(low * 0.9, high * 1.1), ylabel="ratio, cut at 0.1 and 10")
    axes.set(xlabel="tick", title="CPA so far over its target")
    axes.set_yticks([0.1, 0.3, 1, 3, 10], ["0.1", "0.3", "1", "3", "10"])
    axes.minorticks_off()
    axes.axhline(1, color="0.3", linewidth=0.8, zorder=1)


def _blocks(*panes: Axes) -> None:
    """Lines where the mean p-values change (every eight ticks), and prices with them."""
    for axes, start in itertools.product(panes, range(8, N_TICKS, 8)):
        axes.axvline(start - 0.5, color="0.93", linewidth=0.8, zorder=0)

"""Figures of a bidding day and of how close the simulated market comes to the real one (chapter 1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lbm_core.auction.bidder import N_TICKS
from lbm_core.report import style
from lbm_core.report.figures import closed, panels

MOMENTS_SHOWN = (0.5, 1.6)  # ratios beyond are drawn at the edge as an arrow, with their value
PRICE_ROLES: Mapping[int, str] = MappingProxyType({7: "fitted", 14: "held out"})  # what calibration does with a period
_BLOCK = 8  # ticks between two changes of the mean p-values
_BAND = "0.93"


def market_day(ticks: pd.DataFrame, bidders: pd.DataFrame, groups: Sequence[str] = ()) -> Figure:
    """A day of the market in four panels: impressions, prices, budgets and CPA of everybody.

    Parameters
    ----------
    ticks : tick, impressions, lwc (mean least winning cost, currency)
    bidders : advertiser, tick, budget_left (share after the tick), cpa_ratio (so far; NaN before there is one), group
        (at most four names; "" is drawn in grey)
    groups : order of the names; default as they appear
    """
    style.use()
    figure, ((traffic, prices), (budgets, ratios)) = plt.subplots(2, 2, figsize=(7.0, 4.4), sharex=True)
    traffic.bar(ticks["tick"], ticks["impressions"] / 1000, width=0.85, color=style.PALETTE[0])
    traffic.set(ylabel="thousands", title="Impressions")
    prices.plot(ticks["tick"], ticks["lwc"], color=style.PALETTE[3])
    prices.set(ylabel="currency", title="Mean least winning cost", ylim=(0, None))
    named = list(groups) or [name for name in bidders["group"].unique() if name]
    colour = dict(zip(named, (style.PALETTE[i] for i in (0, 1, 2, 4)), strict=False))
    for _, rows in bidders.groupby("advertiser"):
        group = rows["group"].iloc[0]
        look = {"color": colour.get(group, "0.75"), "linewidth": 1.2 if group else 0.5, "zorder": 3 if group else 2}
        budgets.plot(rows["tick"], rows["budget_left"], **look)
        ratios.plot(rows["tick"], rows["cpa_ratio"].clip(*style.RATIO_SHOWN), **look)
    for name in named:
        budgets.plot([], [], color=colour[name], label=name)
    if (bidders["group"] == "").any():
        budgets.plot([], [], color="0.75", linewidth=0.5, label="the others")
    figure.legend(*budgets.get_legend_handles_labels(), loc="outside lower center", ncols=len(named) + 1)
    budgets.set(xlabel="tick", ylabel="share of the budget", title="Budget left", ylim=(-0.02, 1.04))
    _ratio_axis(ratios)
    ratios.set(xlabel="tick", title="CPA so far over its target")
    for axes in (prices, budgets, ratios):
        _blocks(axes)
    figure.align_ylabels()
    return _settled(figure)


def bidders_day(frame: pd.DataFrame, colours: Mapping[str, object] | None = None) -> Figure:
    """What different bidders made of one advertiser's day.

    Parameters
    ----------
    frame : bidder, tick, multiple (alpha over CPA target), budget_left, conversions, cpa_ratio: after each tick, as
        :func:`lbm_core.report.game.day_frame` gives; an empty frame draws empty axes
    colours : of some bidders; default the house style's
    """
    style.use()
    figure, grid = plt.subplots(2, 2, figsize=(7.0, 4.4), sharex=True)
    alpha, budget, cpa, conversions = grid.flat
    names = list(frame["bidder"].unique())
    colour = {**style.colours(names), **(colours or {})}
    for name, line in zip(names, ("-", "-", "--", "-.", ":"), strict=False):
        rows = frame[frame["bidder"] == name]
        look = {"color": colour[name], "linestyle": line, "label": name}
        alpha.plot(rows["tick"], rows["multiple"], drawstyle="steps-mid", **look)
        budget.plot(rows["tick"], rows["budget_left"], **look)
        cpa.plot(rows["tick"], rows["cpa_ratio"].clip(*style.RATIO_SHOWN), **look)
        conversions.plot(rows["tick"], rows["conversions"], **look)
    alpha.set(ylabel="alpha / CPA target", title="Action", ylim=(0, None))
    budget.set(ylabel="share of the budget", title="Budget left", ylim=(-0.02, 1.04))
    _ratio_axis(cpa)
    cpa.set(xlabel="tick", title="CPA so far over its target")
    conversions.set(xlabel="tick", ylabel="count", title="Conversions so far", ylim=(0, None))
    conversions.set_xlim(-0.5, N_TICKS - 0.5)
    for axes in grid.flat:
        _blocks(axes)
    if names:
        figure.legend(*alpha.get_legend_handles_labels(), loc="outside upper center", ncols=len(names))
    figure.align_ylabels()
    return _settled(figure)


def moment_dots(report: pd.DataFrame) -> Figure:
    """All state moments, ours over the real ones, with the band that each is meant to lie in.

    Parameters
    ----------
    report : dataset, feature, moment ("mean" | "std"), ratio, tolerance, as
        :func:`lbm_core.data.fidelity.moment_report` gives
    """
    features = list(dict.fromkeys(report["feature"]))
    place = {name: float(i) for i, name in enumerate(features)}
    figure, both = panels(2, size=(7.0, 4.2))
    names = list(dict.fromkeys(report["dataset"]))
    low, high = MOMENTS_SHOWN
    for axes, moment, title in zip(both, ("mean", "std"), ("Mean", "Standard deviation"), strict=True):
        part = report[report["moment"] == moment]
        for feature, width in part.drop_duplicates("feature").set_index("feature")["tolerance"].astype(float).items():
            y = place[str(feature)]
            axes.fill_betweenx([y - 0.42, y + 0.42], 1 - width, 1 + width, color="0.88", linewidth=0)
        axes.axvline(1, color="0.5", linewidth=0.8)
        for k, name in enumerate(names):
            rows = part[part["dataset"] == name]
            y = rows["feature"].map(place) + (k - (len(names) - 1) / 2) * 0.3
            colour, shown = style.PALETTE[k], rows["ratio"].clip(low, high)
            inside = (shown == rows["ratio"]).to_numpy()
            axes.scatter(shown[inside], y[inside], s=16, color=colour, marker="os"[k % 2], label=name, zorder=3)
            for x, height, value in zip(shown[~inside], y[~inside], rows["ratio"][~inside], strict=True):
                end = -1 if x == high else 1
                axes.scatter([x], [height], s=16, color=colour, marker=">" if end < 0 else "<", zorder=3)
                axes.annotate(
                    f"{value:.2f}",
                    (x, height),
                    xytext=(6 * end, 0),
                    textcoords="offset points",
                    ha="right" if end < 0 else "left",
                    va="center",
                    fontsize=6,
                )
        axes.set(xlim=(low - 0.03, high + 0.03), ylim=(len(features) - 0.5, -0.5), xlabel="ours / real", title=title)
        axes.set_yticks(range(len(features)), [name.replace("_", " ") for name in features])
        axes.tick_params(axis="y", length=0)
    both[1].set_yticklabels([])
    figure.legend(*both[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(names) or 1)
    return _settled(figure)


def price_fit(
    ours: pd.DataFrame, real: pd.DataFrame, agreement: pd.DataFrame, roles: Mapping[int, str] = PRICE_ROLES
) -> Figure:
    """Tick prices of periods, the real ones as dots and ours as a line; how far they agree is in each title.

    Parameters
    ----------
    ours, real : period, tick, lwc
    agreement : period, correlation, relative_error (:func:`lbm_core.data.fidelity.price_agreement`)
    roles : what calibration did with a period
    """
    figure, both = panels(len(agreement), size=(3.5 * len(agreement), 2.6))
    columns = (agreement[name].to_list() for name in ("period", "correlation", "relative_error"))
    for axes, number, correlation, error in zip(both, *columns, strict=True):
        dots, line = (frame[frame["period"] == number] for frame in (real, ours))
        axes.plot(line["tick"], line["lwc"], color=style.PALETTE[0], label="ours")
        axes.scatter(dots["tick"], dots["lwc"], s=9, color=style.PAPER_COLOUR, label="real", zorder=3)
        role = f", {roles[number]}" if number in roles else ""
        axes.set_title(f"Period {number}{role}\ncorrelation {correlation:.2f}, relative error {error:.0%}")
        axes.set(xlabel="tick", ylim=(0, 1.08 * max(ours["lwc"].max(), real["lwc"].max())))
        _blocks(axes)
    both[0].set_ylabel("least winning cost, currency")
    for axes in both[1:]:
        axes.sharey(both[0])
    both[-1].legend()
    return _settled(figure)


def _settled(figure: Figure) -> Figure:
    """Closed, with its layout found once: it would be sought again for every file that is written of it."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return closed(figure)


def _ratio_axis(axes: Axes) -> None:
    axes.set(
        yscale="log", ylim=(style.RATIO_SHOWN[0] * 0.9, style.RATIO_SHOWN[1] * 1.1), ylabel="ratio, cut at 0.1 and 10"
    )
    axes.set_yticks([0.1, 0.3, 1, 3, 10], ["0.1", "0.3", "1", "3", "10"])
    axes.minorticks_off()
    axes.axhline(1, color="0.3", linewidth=0.8, zorder=1)


def _blocks(axes: Axes) -> None:
    """Lines where the mean p-values change, and prices with them."""
    for start in np.arange(_BLOCK, N_TICKS, _BLOCK):
        axes.axvline(start - 0.5, color=_BAND, linewidth=0.8, zorder=0)

"""Figures of the market: they draw what their frames hold."""

from __future__ import annotations

import matplotlib.colors
import numpy as np
import pandas as pd
import pytest

from lbm_core.data import fidelity
from lbm_core.report import market_figures

TICKS = np.arange(48)


def test_moments_outside_the_picture_are_written_at_its_edge():
    real = fidelity.published_moments("dense")
    ours = real.assign(mean=real["mean"] * np.where(real.index == 3, 4.0, 1.0))
    report = pd.concat([fidelity.moment_report(ours, "dense"), fidelity.moment_report(ours, "sparse")])
    figure = market_figures.moment_dots(report)
    left = figure.axes[0]
    assert "4.00" in [text.get_text() for text in left.texts]
    assert len(left.get_yticklabels()) == 16
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["dense", "sparse"]


def test_prices_name_the_role_and_the_agreement():
    real = fidelity.published_prices()
    ours = real.assign(lwc=real["lwc"] * 1.1)
    figure = market_figures.price_fit(ours, real, fidelity.price_agreement(ours))
    first, second = (axes.get_title() for axes in figure.axes)
    assert "Period 7, fitted" in first
    assert "Period 14, held out" in second
    assert "correlation 1.00, relative error 10%" in second
    alone = market_figures.price_fit(ours, real, fidelity.price_agreement(ours[ours["period"] == 14]))
    assert len(alone.axes) == 1


def test_a_day_draws_everybody_and_names_the_groups():
    ticks = pd.DataFrame({"tick": TICKS, "impressions": 10_000, "lwc": 0.1})
    bidders = pd.concat(
        pd.DataFrame(
            {"advertiser": k, "tick": TICKS, "budget_left": 1 - TICKS / 48, "cpa_ratio": np.nan, "group": group}
        )
        for k, group in enumerate(["", "", "lowest", "highest"])
    )
    figure = market_figures.market_day(ticks, bidders)
    budgets = figure.axes[2]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["lowest", "highest", "the others"]
    lines = [line for line in budgets.lines if len(line.get_xdata()) == 48]
    assert len(lines) == 4
    assert matplotlib.colors.to_hex(lines[0].get_color()) == "#bfbfbf"


def test_nobody_yet_gives_empty_axes():
    columns = ["bidder", "tick", "multiple", "budget_left", "conversions", "cpa_ratio"]
    figure = market_figures.bidders_day(pd.DataFrame(columns=columns))
    assert len(figure.axes) == 4
    assert not figure.legends


@pytest.mark.parametrize("factor", [1.04, 1.1])
def test_the_report_knows_which_moments_have_less_room(factor):
    real = fidelity.published_moments("sparse")
    report = fidelity.moment_report(real.assign(mean=real["mean"] * factor), "sparse")
    assert len(report) == 32
    missed = report[~report["within"]]
    expected = [] if factor < 1.05 else ["time_left", "current_pv_num", "last_three_pv_num_total"]
    assert missed["feature"].tolist() == [*expected, *(["historical_pv_num_total"] if expected else [])]
    assert (missed["moment"] == "mean").all()

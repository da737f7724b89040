"""Fidelity statistics: right on data whose statistics are known."""

import numpy as np
import pandas as pd
import pytest

from lbm_core.auction.state import FEATURES
from lbm_core.data import fidelity
from lbm_core.data.trajectories import TrajectorySet


def two_trajectories() -> TrajectorySet:
    """Lengths 2 and 48; every feature of row (i, t) is i + t."""
    states = np.add.outer([0.0, 1.0], np.arange(48.0))[:, :, None] * np.ones(16)
    length = np.array([2, 48])
    valid = np.arange(48) < length[:, None]
    return TrajectorySet(
        dataset="dense",
        period=np.array([7, 8]),
        advertiser=np.array([0, 1]),
        length=length,
        budget=np.array([750.0, 900.0]),
        cpa_target=np.array([8.0, 10.0]),
        states=states * valid[:, :, None],
        alphas=5.0 * valid,
        conversions=1.0 * valid,
        expected_conversions=1.0 * valid,
        costs=0.5 * valid,
    )


def test_published_facts_are_complete():
    for dataset, lwc in (("dense", 0.1178), ("sparse", 0.0991)):
        moments = fidelity.published_moments(dataset).set_index("feature")
        assert list(moments.index) == list(FEATURES)
        assert moments.loc["historical_least_winning_cost_mean", "mean"] == pytest.approx(lwc, abs=1e-4)
    prices = fidelity.published_prices()
    assert prices.groupby("period").size().to_dict() == {7: 31, 14: 47}


def test_moments_stop_at_the_first_done():
    moments = fidelity.state_moments(two_trajectories())
    values = np.concatenate([[0.0, 1.0], np.arange(1.0, 49.0)])  # two rows of the first, 48 of the second
    assert moments["mean"].to_numpy() == pytest.approx(np.full(16, values.mean()))
    assert moments["std"].to_numpy() == pytest.approx(np.full(16, values.std()))


def test_ratio_is_ours_over_published():
    real = fidelity.published_moments("sparse")
    ratios = fidelity.moment_report(real.assign(mean=real["mean"] * 2), "sparse").set_index("moment")["ratio"]
    assert ratios["mean"].to_numpy() == pytest.approx(2.0)
    assert ratios["std"].to_numpy() == pytest.approx(1.0)


def test_price_agreement_of_scaled_prices():
    scaled = fidelity.published_prices().assign(lwc=lambda frame: frame["lwc"] * 1.1)
    agreement = fidelity.price_agreement(scaled)
    assert agreement["correlation"].to_numpy() == pytest.approx(1.0)
    assert agreement["relative_error"].to_numpy() == pytest.approx(0.1)
    with pytest.raises(ValueError, match="periods 7 and 14"):
        fidelity.price_agreement(pd.DataFrame({"period": [3], "tick": [0], "lwc": [0.1]}))


def test_table7_counts_what_is_there():
    table = fidelity.table7(two_trajectories(), (0.0, 0.1)).set_index("parameter")
    assert table.loc["trajectories", "low"] == 2
    assert tuple(table.loc["cpa_range", ["low", "high"]]) == (8.0, 10.0)
    assert tuple(table.loc["total_conversion_range", ["low", "high"]]) == (2.0, 48.0)
    assert tuple(table.loc["action_range", ["low", "high"]]) == (5.0, 5.0)


@pytest.mark.parametrize("factor", [1.04, 1.1])
def test_the_report_knows_which_moments_have_less_room(factor):
    real = fidelity.published_moments("sparse")
    report = fidelity.moment_report(real.assign(mean=real["mean"] * factor), "sparse")
    assert len(report) == 32
    missed = report[~report["within"]]
    expected = [] if factor < 1.05 else ["time_left", "current_pv_num", "last_three_pv_num_total"]
    assert missed["feature"].tolist() == [*expected, *(["historical_pv_num_total"] if expected else [])]
    assert (missed["moment"] == "mean").all()

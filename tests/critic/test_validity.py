"""Counterfactuals: the logged action is its own counterfactual, and agreement is measured right."""

import numpy as np
import pandas as pd
import pytest
from small_period import small_period

from lbm_core.auction.controls import ScheduledAlpha
from lbm_core.auction.response_tables import ResponseTables, table_replay
from lbm_core.critic.validity import agreement, calibration, counterfactual_scores, validity


@pytest.fixture(scope="module")
def tables():
    return ResponseTables.from_period(small_period())


def test_factor_one_is_the_logged_day(tables):
    who = tables.advertisers
    alphas = np.repeat(who.cpa_target[:, None], 48, axis=1)
    logged = table_replay(tables, ScheduledAlpha(alphas)).summary()["expected_score"]
    scores = counterfactual_scores(tables, who, alphas, np.full(len(who), 10), [1.0, 3.0])
    assert scores[:, 0] == pytest.approx(logged)
    assert not np.allclose(scores[:, 1], logged), "another alpha at one tick changes somebody's day"


def test_persistent_change_is_a_scaled_day(tables):
    who = tables.advertisers
    alphas = np.repeat(who.cpa_target[:, None], 48, axis=1)
    scores = counterfactual_scores(tables, who, alphas, np.zeros(len(who), int), [0.8], persistent=True)
    scaled = table_replay(tables, ScheduledAlpha(alphas * 0.8)).summary()["expected_score"]
    assert scores[:, 0] == pytest.approx(scaled)


def test_agreement_of_a_perfect_and_an_inverted_critic():
    gain = np.array([[1.0, -2.0], [0.5, 0.0], [-1.0, 3.0]])
    right = agreement(gain, gain).iloc[0]
    assert right["samples"] == 5
    assert right["sign_accuracy"] == 1.0
    assert right["rank_correlation"] == pytest.approx(1.0)
    assert agreement(-gain, gain).iloc[0]["sign_accuracy"] == 0.0
    with pytest.raises(ValueError, match="nothing to compare"):
        agreement(gain, np.zeros_like(gain))


@pytest.fixture(scope="module")
def judged():
    rng = np.random.default_rng(0)
    gain = rng.normal(size=400)
    rows = pd.DataFrame({"period": np.repeat([7, 8], 200), "factor": np.tile([0.85, 1.15], 200), "gain": gain})
    right, wrong = rows.assign(variant="right", relative_q=gain / 3), rows.assign(variant="wrong", relative_q=-gain)
    return pd.concat([right, wrong], ignore_index=True).assign(change="one tick", half=np.tile(["early", "late"], 400))


def test_validity_of_each_critic_and_period(judged):
    found = validity(judged)
    assert found[["variant", "period"]].values.tolist() == [["right", 7], ["right", 8], ["wrong", 7], ["wrong", 8]]
    assert found["sign_accuracy"].tolist() == [1, 1, 0, 0]
    raised = judged[(judged["factor"] > 1) & (judged["variant"] == "right") & (judged["period"] == 7)]
    assert found["is_up"][0] == pytest.approx((raised["gain"] > 0).mean())
    assert found["says_up"][0] == found["is_up"][0]
    assert found["says_up"][2] == pytest.approx(1 - found["is_up"][2])
    halves = validity(judged, by=["half"])
    assert len(halves) == 8
    assert halves["samples"].eq(100).all()
    with pytest.raises(ValueError, match="nothing to compare"):
        validity(judged.assign(gain=0.0))


def test_calibration_of_a_straight_line(judged):
    found = calibration(judged, bins=4).set_index("variant")
    assert found.loc["right", "samples"].eq(100).all()
    np.testing.assert_allclose(found.loc["right", "gain"], 3 * found.loc["right", "relative_q"])
    assert found.loc["right", "gain"].is_monotonic_increasing
    assert found.loc["wrong", "gain"].is_monotonic_decreasing

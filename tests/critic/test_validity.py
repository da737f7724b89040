"""Counterfactuals: the logged action is its own counterfactual, and agreement is measured right."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from small_period import small_period

from lbm_core.auction.controls import ScheduledAlpha
from lbm_core.auction.hindsight import scores_from
from lbm_core.auction.metrics import score
from lbm_core.auction.response_tables import ResponseTables, table_replay
from lbm_core.critic.validity import agreement, calibration, counterfactual_scores, validity
from lbm_core.data.trajectories import TrajectorySet


@pytest.fixture(scope="module")
def tables():
    return ResponseTables.from_period(small_period())


@pytest.fixture(scope="module")
def days(tables):
    """Logged days that are replays themselves: alphas around twice the target, so that half the budgets run out."""
    wave = np.exp(0.4 * np.sin(np.arange(48) + np.arange(len(tables.advertisers))[:, None]))
    script = tables.advertisers.cpa_target[:, None] * wave
    return TrajectorySet.of_day(table_replay(tables, ScheduledAlpha(script)), "dense", tables.period)


def test_factor_one_is_the_logged_day_from_every_moment(tables, days):
    rows, ticks = np.nonzero(days.acting)
    logged = score(days.expected_conversions.sum(axis=1), days.costs.sum(axis=1), days.cpa_target)
    assert (days.length < 48).any(), "a budget that runs out is among the moments"
    scores = counterfactual_scores(tables, days, rows, ticks, [1.0, 3.0])
    np.testing.assert_allclose(scores[:, 0], logged[rows], rtol=1e-4)
    assert not np.allclose(scores[:, 1], logged[rows]), "another alpha at one tick changes somebody's day"


def test_at_the_first_tick_it_is_a_replay_of_the_whole_day(tables, days):
    rows = np.arange(len(days))
    scores = counterfactual_scores(tables, days, rows, np.zeros_like(rows), [0.8], to_end=True)
    script = np.where(days.alphas > 0, days.alphas, np.nan)
    script = pd.DataFrame(script).ffill(axis=1).to_numpy(np.float64)
    scaled = table_replay(tables, ScheduledAlpha(0.8 * script), advertisers=days.advertisers(rows)).summary()
    np.testing.assert_allclose(scores[:, 0], scaled["expected_score"], rtol=1e-9)


def test_the_truth_starts_with_the_logged_budget(tables, days):
    """A log that has spent a tenth of what a replay of its day would have: there is money left to be judged about."""
    rows, ticks = np.arange(len(days)), np.full(len(days), 44)
    low = replace(days, alphas=np.full((len(days), 48), 30.0), length=np.full(len(days), 48), costs=days.costs / 10)
    whole = table_replay(tables, ScheduledAlpha(low.alphas.astype(float)), advertisers=low.advertisers(rows))
    assert (whole.lengths < 44).all(), "the replay from the first tick has nothing left by then"
    for to_end in (False, True):
        scores = counterfactual_scores(tables, low, rows, ticks, [1.0, 0.3], to_end=to_end)
        assert (np.abs(scores[:, 1] - scores[:, 0]) > 1e-3).all()
    spent = replace(low, costs=np.repeat(low.budget[:, None] / 44, 48, axis=1))
    scores = counterfactual_scores(tables, spent, rows, ticks, [1.0, 0.3], to_end=True)
    np.testing.assert_array_equal(scores[:, 0], scores[:, 1])


def test_what_was_won_before_counts(tables, days):
    rows, ticks = np.array([0, 0]), np.array([20, 20])
    before = np.zeros(2), np.array([0.0, 5.0])
    alphas = np.full((2, 1, 1), 3.0)
    scores = scores_from(tables, days.advertisers(rows), ticks, alphas, *before)[:, 0]
    assert scores[1] == pytest.approx(scores[0] + 5.0), "alphas below the target never miss it"
    one_tick = np.where(np.arange(48) == 20, 3.0, 0.0)[None, None]
    cost, value, _ = tables.respond(20, np.array([0]), np.array([3.0]))
    assert cost[0] < days.budget[0]
    assert scores_from(tables, days.advertisers([0]), 20, one_tick, np.zeros(1), np.zeros(1))[0, 0] == value[0]


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
    first = judged[(judged["variant"] == "right") & (judged["period"] == 7)]
    lower = first["gain"].where(first["factor"] < 1, -first["gain"])
    assert found["always_lower"][0] == found["always_lower"][2] == pytest.approx((lower > 0).mean())
    told = validity(judged.assign(relative_q=1 - judged["factor"]))
    np.testing.assert_array_equal(told["sign_accuracy"], told["always_lower"])
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

"""Counterfactuals: the logged action is its own counterfactual, and agreement is measured right."""

import numpy as np
import pytest
from small_period import small_period

from lbm_core.auction.response_tables import ResponseTables, table_replay
from lbm_core.critic.validity import ScriptedBidder, agreement, counterfactual_scores


@pytest.fixture(scope="module")
def tables():
    return ResponseTables.from_period(small_period())


def test_factor_one_is_the_logged_day(tables):
    who = tables.advertisers
    alphas = np.repeat(who.cpa_target[:, None], 48, axis=1)
    logged = table_replay(tables, ScriptedBidder(alphas)).summary()["expected_score"]
    scores = counterfactual_scores(tables, who, alphas, np.full(len(who), 10), [1.0, 3.0])
    assert scores[:, 0] == pytest.approx(logged)
    assert not np.allclose(scores[:, 1], logged), "another alpha at one tick changes somebody's day"


def test_persistent_change_is_a_scaled_day(tables):
    who = tables.advertisers
    alphas = np.repeat(who.cpa_target[:, None], 48, axis=1)
    scores = counterfactual_scores(tables, who, alphas, np.zeros(len(who), int), [0.8], persistent=True)
    scaled = table_replay(tables, ScriptedBidder(alphas * 0.8)).summary()["expected_score"]
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


def test_script_of_another_shape(tables):
    with pytest.raises(ValueError, match="48 ticks"):
        table_replay(tables, ScriptedBidder(np.ones((2, 48))))

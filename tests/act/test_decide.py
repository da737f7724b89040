"""Decisions of LBM-Act: batched, in range, with the history that the model was trained on."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lbm_core.act.decide import LBMActBidder, decide
from lbm_core.act.guides import DECREASE, INCREASE, UNCERTAIN, ExpectedMove
from lbm_core.auction.bidder import Bidder
from lbm_core.data.trajectories import ALPHA_LIMIT, windows


@pytest.fixture
def full_days(days):
    return np.flatnonzero(days.length == 48)


def test_first_bid_is_the_target_and_enters_the_history(make, days, full_days):
    bidder = LBMActBidder(make())
    assert isinstance(bidder, Bidder)
    advertisers = days.advertisers(full_days)
    bidder.reset(advertisers)
    first = bidder.act(days.observation(full_days, 0))
    np.testing.assert_array_equal(first, advertisers.cpa_target)
    first[:] = 0
    assert (advertisers.cpa_target > 0).all(), "the caller may change what it was given"
    observed = replace(days.observation(full_days, 1), alphas=advertisers.cpa_target[:, None])
    np.testing.assert_allclose(bidder.windows(observed).alphas[:, -2], advertisers.cpa_target, rtol=1e-6)


def test_one_pass_serves_everyone_as_each_alone(make, days, full_days):
    model = make()
    bidder, alone = LBMActBidder(model), LBMActBidder(model)
    advertisers, observation = days.advertisers(full_days), days.observation(full_days, 17)
    bidder.reset(advertisers)
    together = bidder.act(observation)
    assert together.shape == (len(full_days),)
    for k in range(len(full_days)):
        alone.reset(advertisers[k : k + 1])
        np.testing.assert_allclose(alone.act(observation[k : k + 1]), together[k], rtol=1e-4)


def test_return_to_go_falls_with_conversions(make, days, full_days):
    bidder = LBMActBidder(make(), target_return=1.5)
    bidder.reset(days.advertisers(full_days))
    window = bidder.windows(days.observation(full_days, 20))
    gained = days.conversions[full_days, :20].sum(axis=1)
    wanted = 1.5 * days.budget[full_days] / days.cpa_target[full_days]
    np.testing.assert_allclose(window.returns_to_go[:, -1], wanted - gained, rtol=1e-4)


def test_guides_reach_the_model(make, days, full_days):
    model, asked = make(), []
    texts = ([INCREASE, DECREASE] * len(full_days))[: len(full_days)]

    def source(observation, advertisers):
        asked.append((observation.tick, len(advertisers)))
        return texts

    bidder = LBMActBidder(model, source)
    bidder.reset(days.advertisers(full_days))
    bidder.act(days.observation(full_days, 0))
    alphas = bidder.act(days.observation(full_days, 9))
    assert asked == [(9, len(full_days))]
    window = bidder.windows(days.observation(full_days, 9))
    np.testing.assert_array_equal(alphas, decide(model, window, texts))
    assert not np.allclose(alphas, decide(model, window, [UNCERTAIN] * len(full_days)))


def test_alpha_stays_in_the_range_of_the_data(make, days):
    model = make()
    window = windows(days, np.arange(4), np.full(4, 2))
    for level, expected in ((50.0, ALPHA_LIMIT["dense"]), (-50.0, 0.0)):
        torch.nn.init.constant_(model.head[-1].bias, level)
        np.testing.assert_allclose(decide(model, window, [UNCERTAIN] * 4), expected, atol=1e-9)


def test_models_without_language(make, days, full_days):
    model = make(guide="none")
    bidder = LBMActBidder(model)
    bidder.reset(days.advertisers(full_days))
    assert (bidder.act(days.observation(full_days, 5)) > 0).all()
    with pytest.raises(ValueError, match="LLM-DT takes no guides"):
        LBMActBidder(model, lambda observation, advertisers: [UNCERTAIN] * len(advertisers))
    with pytest.raises(ValueError, match="target_return"):
        LBMActBidder(model, target_return=0.0)


@pytest.mark.parametrize("layout", ["window", "day"])
def test_an_expected_move_is_the_mean_of_log_alpha_under_the_three_directions(make, days, full_days, layout):
    model, n = make(layout=layout), len(full_days)
    who, rng = days.advertisers(full_days), np.random.default_rng(0)
    chances = rng.dirichlet(np.ones(3), n)
    chances[0] = (0.0, 1.0, 0.0)
    expected, told = LBMActBidder(model, ExpectedMove(lambda *_: chances)), []
    for tick in (7, 8):  # twice, so that what is known of a running day is used
        observation = days.observation(full_days, tick)
        for text in (DECREASE, UNCERTAIN, INCREASE):
            alone = LBMActBidder(model, lambda *_, text=text: [text] * n)
            alone.reset(who)
            told.append(np.log(alone.act(observation)))
        expected.reset(who)
        moved = expected.act(observation)
        np.testing.assert_allclose(moved, np.exp((chances.T * told[-3:]).sum(axis=0)), rtol=1e-4)
    assert np.isfinite(expected.drift), "the first advertiser was told nothing"

"""Oracle imitation: its trees are scikit-learn's number for number, training and use see the same, and it learns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_period import small_period

from lbm_core.auction.bidder import Bidder, Observation
from lbm_core.auction.controls import ConstantAlpha
from lbm_core.auction.hindsight import best_constant
from lbm_core.auction.response_tables import ResponseTables, table_replay
from lbm_core.baselines.common import untargeted
from lbm_core.baselines.config import ImitationConfig
from lbm_core.baselines.oracle_imitation import ImitationBidder, OracleImitation, train_imitation
from lbm_core.data.features import StateEncoder
from lbm_core.data.trajectories import TrajectorySet, windows

CONFIG = ImitationConfig(steps=40, leaves=8, least_samples=20, learning_rate=0.1)


def _day(seed: int) -> ResponseTables:
    """Budgets between scarce and ample, so that the best level differs between advertisers."""
    period = small_period(seed, n=48)
    budget = period.advertisers.budget * np.exp(np.random.default_rng(seed).uniform(-0.5, 2.5, 48))
    return ResponseTables.from_period(replace(period, advertisers=replace(period.advertisers, budget=budget)))


@pytest.fixture(scope="module")
def days():
    return [_day(seed) for seed in range(4)]


@pytest.fixture(scope="module")
def trajectories(days):
    return TrajectorySet.of_day(table_replay(days[0], ConstantAlpha()), "dense", 7)


@pytest.fixture(scope="module")
def model(days, trajectories):
    return train_imitation(CONFIG, trajectories, days, progress=False)


def test_it_bids_nearer_to_hindsight_than_the_target_does(model, days):
    unseen = _day(9)
    bidder = ImitationBidder(model)
    assert isinstance(bidder, Bidder)
    day = table_replay(unseen, bidder)
    np.testing.assert_array_equal(day.alphas[:, 0], unseen.advertisers.cpa_target)
    constant = table_replay(unseen, ConstantAlpha()).summary()["expected_score"].mean()
    learned, best = day.summary()["expected_score"].mean(), best_constant(unseen)
    assert learned > constant + 0.5 * (best.score.mean() - constant)
    levels = np.log(best.alpha / unseen.advertisers.cpa_target)
    bidding = day.alphas[:, 5] > 0
    bid = np.log(day.alphas[bidding, 5] / unseen.advertisers.cpa_target[bidding])
    assert np.corrcoef(levels[bidding].clip(-2, 2), bid)[0, 1] > 0.7
    assert model.losses[:, 0].tolist() == [40, 80, 120]
    assert (model.losses[:, 1] < 0.5 * np.var(levels)).all()


def test_its_trees_are_scikit_learns_number_for_number(trajectories, tmp_path):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(500, 7))
    wanted = features[:, 0] * (features[:, 1] > 0) + 0.1 * rng.normal(size=500)
    model = OracleImitation(CONFIG, StateEncoder.fit(trajectories))
    np.testing.assert_array_equal(model.predict(features), 0)
    grown = model.fit(features, wanted)
    unseen = np.concatenate([rng.normal(size=(300, 7)), features[:50]])
    np.testing.assert_array_equal(model.predict(unseen), grown.predict(unseen))
    again = model.fit(features[:200], wanted[:200])  # smaller trees: nothing of the first ones is left
    np.testing.assert_array_equal(model.predict(unseen), again.predict(unseen))
    model.save(tmp_path / "imitation")
    loaded = OracleImitation.load(tmp_path / "imitation", CONFIG)
    np.testing.assert_array_equal(loaded.predict(unseen), again.predict(unseen))
    np.testing.assert_array_equal(loaded.losses, model.losses)
    assert not list((tmp_path / "imitation").glob("*.pkl"))
    with pytest.raises(ValueError, match="another leaves"):
        OracleImitation.load(tmp_path / "imitation", replace(CONFIG, leaves=9))
    with pytest.raises(FileNotFoundError, match="no oracle imitation"):
        OracleImitation.load(tmp_path / "nothing")


def test_training_and_use_see_the_same(model, days):
    seen = []

    class Watched(ImitationBidder):
        def bid(self, observation: Observation):
            seen.append(self.model.features(untargeted(observation, self.advertisers, 4)))
            return super().bid(observation)

    played = table_replay(days[1], Watched(model), np.random.default_rng(0))
    bid = TrajectorySet.of_day(played, "dense", 7)
    rows, ticks = np.nonzero(bid.acting & (np.arange(48) > 0))
    trained_on = model.features(windows(bid, rows, ticks, 4))
    np.testing.assert_allclose(np.stack(seen, axis=1)[rows, ticks - 1], trained_on, rtol=2e-4, atol=2e-4)
    first = rows == 0
    row = played.advertisers[:1]
    recent = played.costs[0, :].cumsum() - np.pad(played.costs[0, :].cumsum(), (3, 0))[:48]
    np.testing.assert_allclose(
        trained_on[first, -3], recent[ticks[first] - 1] / row.budget[0], rtol=1e-4, err_msg="cost of the last three"
    )


def test_training_is_reproducible_and_strays(days, trajectories):
    short = replace(CONFIG, steps=5, rounds=2)
    first, second = (train_imitation(short, trajectories, days[:1], progress=False) for _ in range(2))
    assert torch.equal(first.nodes, second.nodes)
    for change in ({"seed": 1}, {"spread": 0.0}, {"noise": 0.0}, {"rounds": 1}):
        other = train_imitation(replace(short, **change), trajectories, days[:1], progress=False)
        assert not torch.equal(other.nodes, first.nodes), change
    strayed = table_replay(days[0], ImitationBidder(first, np.full((48, 48), np.log(2.0)))).alphas
    assert strayed[0, 1] == pytest.approx(2 * table_replay(days[0], ImitationBidder(first)).alphas[0, 1])


def test_bad_settings_and_other_data_are_refused(days, trajectories):
    for change in ({"leaves": 1}, {"steps": 0}, {"spread": -0.1}, {"learning_rate": 0.0}):
        with pytest.raises(ValueError, match=next(iter(change))):
            replace(CONFIG, **change)
    with pytest.raises(ValueError, match="sparse data"):
        train_imitation(replace(CONFIG, dataset="sparse"), trajectories, days, progress=False)

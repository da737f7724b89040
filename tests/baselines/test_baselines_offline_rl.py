"""Offline RL: transitions by hand, the best action found where imitation cannot, checkpoints, bad inputs."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from known_best import best_log_ratio, known_best_observation, known_best_trajectories
from synthetic_trajectories import synthetic_trajectories

from lbm_core.auction.bidder import Advertisers, Bidder
from lbm_core.baselines.config import Algorithm, OfflineRLConfig
from lbm_core.baselines.offline_rl import OfflinePolicy, OfflineRLBidder, train_offline_rl, transitions
from lbm_core.critic.reward import reward_table
from lbm_core.data.features import StateEncoder

SMALL = OfflineRLConfig(
    hidden_size=32,
    batch_size=64,
    gamma=0.1,  # no tick reaches into the next
    state_kind="paper",
    reward="conversions",
    learning_rate=4e-3,
    reward_multiplier=200.0,
    conservative_weight=1.0,
)
STEPS = {"BC": 200, "BCQ": 400, "CQL": 300, "IQL": 600}


@pytest.fixture(scope="module")
def trajectories():
    return known_best_trajectories()


@pytest.fixture(scope="module")
def policies(trajectories):
    return {
        name: train_offline_rl(replace(SMALL, algorithm=name, steps=STEPS[name]), trajectories, progress=False)
        for name in get_args(Algorithm)
    }


def _bids(policy, observation=None):
    bidder = OfflineRLBidder(policy)
    assert isinstance(bidder, Bidder)
    observation = known_best_observation() if observation is None else observation
    bidder.reset(Advertisers(np.arange(48), np.full(48, 2400.0), np.full(48, 10.0)))
    return bidder.act(observation)


def test_values_find_the_best_action_where_imitation_finds_the_mean(policies):
    best = best_log_ratio(known_best_observation().state)
    found = {name: np.log(_bids(policy) / 10.0) for name, policy in policies.items()}
    error = {name: np.mean((ratio - best) ** 2) for name, ratio in found.items()}
    assert np.abs(np.mean(found["BC"])) < 0.2
    assert error["BC"] > 0.8 * best.var()
    for name in ("BCQ", "CQL", "IQL"):
        assert np.corrcoef(found[name], best)[0, 1] > 0.6, name
        assert error[name] < 0.75 * error["BC"], name


def test_transitions_by_hand():
    trajectories = synthetic_trajectories()
    config = OfflineRLConfig(gamma=0.9, n_step=1, reward="score_to_go", reward_multiplier=10.0)
    encoder = StateEncoder.fit(trajectories)
    data = transitions(trajectories, encoder, config)
    acting = trajectories.acting
    assert len(data["actions"]) == acting.sum(), "done rows with alpha 0 are no decisions"
    assert data["terminals"].sum() == (trajectories.last_action >= 0).sum(), "one end per day"
    row = int(np.argmin(trajectories.length))
    own = np.flatnonzero(np.nonzero(acting)[0] == row)
    last = trajectories.last_action[row]
    assert data["terminals"][own, 0].tolist() == [False] * last + [True]
    np.testing.assert_array_equal(data["next_observations"][own[:-1]], data["observations"][own[1:]])
    ratio = np.log(trajectories.alphas[row, : last + 1] / trajectories.cpa_target[row])
    np.testing.assert_allclose(data["actions"][own, 0], ratio, rtol=1e-5)
    rewards = reward_table(trajectories)[row]
    np.testing.assert_allclose(data["rewards"][own, 0], 10.0 * rewards[: last + 1], rtol=1e-5)
    two = transitions(trajectories, encoder, replace(config, n_step=2))
    assert two["rewards"][own[0], 0] == pytest.approx(10.0 * (rewards[0] + 0.9 * rewards[1]), rel=1e-5)
    assert two["terminals"][own, 0].tolist() == [False] * (last - 1) + [True, True]


@pytest.mark.parametrize("name", get_args(Algorithm))
def test_checkpoint_bids_the_same(policies, name, tmp_path):
    policy = policies[name]
    policy.save(tmp_path / name)
    assert {path.name for path in (tmp_path / name).iterdir()} == {"model.safetensors", "config.json", "losses.npy"}
    loaded = OfflinePolicy.load(tmp_path / name, policy.config)
    np.testing.assert_array_equal(_bids(loaded), _bids(policy))
    np.testing.assert_allclose(loaded.losses, policy.losses)
    with pytest.raises(ValueError, match="another steps"):
        OfflinePolicy.load(tmp_path / name, replace(policy.config, steps=7))


@pytest.mark.parametrize("name", get_args(Algorithm))
def test_training_is_reproducible_and_leaves_global_state_alone(trajectories, name):
    config = replace(SMALL, algorithm=name, steps=3)
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    first, second = (train_offline_rl(config, trajectories, progress=False) for _ in range(2))
    np.testing.assert_array_equal(first.losses, second.losses)
    np.testing.assert_array_equal(_bids(first), _bids(second))
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)
    other = train_offline_rl(replace(config, seed=1), trajectories, progress=False)
    assert not np.array_equal(first.losses, other.losses)


def test_bids_stay_within_the_range_of_the_data_and_open_at_the_target(policies, trajectories):
    far = known_best_observation()
    far.states[:, -1, 12] = 50.0
    for policy in policies.values():
        ratio = _bids(policy, far) / 10.0
        assert np.log(ratio).max() <= policy.high + 1e-9
        assert policy.high <= 1.2
        np.testing.assert_array_equal(_bids(policy, known_best_observation(tick=0)), np.full(48, 10.0))


def test_action_scaling_keeps_the_range_and_the_median(trajectories):
    skewed = replace(trajectories, alphas=trajectories.alphas * np.where(trajectories.period < 2, 0.05, 1.0)[:, None])
    policy = train_offline_rl(replace(SMALL, algorithm="BC", steps=1), skewed, progress=False)
    ratio = np.log(skewed.alphas / skewed.cpa_target[:, None], where=skewed.acting, out=np.zeros_like(skewed.alphas))
    ratio = ratio[skewed.acting]
    expected = [ratio.min(), np.median(ratio), ratio.max()]
    np.testing.assert_allclose([policy.low, policy.middle, policy.high], expected, atol=1e-5)
    np.testing.assert_allclose(policy.scale(np.array(expected)), [-1.0, 0.0, 1.0], atol=1e-5)
    # Hardly trained, it still bids near the median and not near the middle of the range.
    assert abs(np.median(np.log(_bids(policy) / 10.0)) - policy.middle) < 0.4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"algorithm": "SAC"}, "algorithm of OfflineRLConfig should be 'BC', 'BCQ', 'CQL' or 'IQL'"),
        ({"steps": 0}, "steps of OfflineRLConfig"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"gamma": 1.5}, "gamma"),
        ({"expectile": 1.0}, "expectile"),
        ({"dataset": "medium"}, "dataset of OfflineRLConfig should be"),
    ],
)
def test_bad_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **change)


def test_unsuitable_data_and_folders_are_refused(trajectories, tmp_path):
    with pytest.raises(ValueError, match="sparse data"):
        train_offline_rl(replace(SMALL, dataset="sparse"), trajectories, progress=False)
    equal = replace(trajectories, alphas=np.where(trajectories.acting, trajectories.cpa_target[:, None], 0))
    with pytest.raises(ValueError, match="must be an interval"):
        train_offline_rl(replace(SMALL, steps=1), equal, progress=False)
    with pytest.raises(FileNotFoundError, match="train one first"):
        OfflinePolicy.load(tmp_path / "nothing")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text('{"config": {"window_length": 3}}')
    with pytest.raises(ValueError, match="is no offline-RL policy"):
        OfflinePolicy.load(tmp_path / "other")

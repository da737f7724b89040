"""DT-Q: search and fine-tuning move a transformer towards what a critic values; DT-score; bad inputs."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from known_best import SIGNAL, best_log_ratio, known_best_observation, known_best_trajectories

from lbm_core.auction.bidder import Advertisers, Bidder
from lbm_core.baselines.config import DTConfig, DTQConfig
from lbm_core.baselines.decision_transformer import DecisionTransformer, DTBidder, train_dt
from lbm_core.baselines.dt_q import DTQSearchBidder, finetune_dt
from lbm_core.critic.config import CriticConfig
from lbm_core.critic.network import Critic
from lbm_core.data.features import StateEncoder

TINY = DTConfig(hidden_size=16, layers=1, heads=2, window_length=4, steps=150, batch_size=32, learning_rate=5e-3)
CRITIC = CriticConfig(hidden_size=8, layers=1, heads=1, window_length=5, state_kind="paper")
WHO = Advertisers(np.arange(48), np.full(48, 2400.0), np.full(48, 10.0))


class KnowingCritic(Critic):
    """Knows the problem: Q = 1 - 0.1 (log(alpha / C) - best)^2."""

    def min_q(self, states, actions, mask):
        signal = states[:, -1, SIGNAL] * float(self.encoder.std[SIGNAL]) + float(self.encoder.mean[SIGNAL])
        return 1 - 0.1 * (actions[:, -1] - 0.5 * signal) ** 2


@pytest.fixture(scope="module")
def trajectories():
    return known_best_trajectories()


@pytest.fixture(scope="module")
def transformer(trajectories):
    return train_dt(TINY, trajectories, progress=False)


@pytest.fixture(scope="module")
def critic(trajectories):
    return KnowingCritic(StateEncoder.fit(trajectories, "paper"), CRITIC)


def _error(bidder) -> float:
    """Mean squared distance to the best log(alpha / C)."""
    assert isinstance(bidder, Bidder)
    observation = known_best_observation()
    bidder.reset(WHO)
    return float(np.mean((np.log(bidder.act(observation) / 10.0) - best_log_ratio(observation.state)) ** 2))


def test_search_takes_the_candidate_with_the_highest_q(transformer, critic):
    observation = known_best_observation()
    plain, multiples = DTBidder(transformer), (0.5, 0.8, 1.0, 1.25, 2.0)
    plain.reset(WHO)
    candidates = np.log(plain.act(observation)[:, None] * multiples / 10.0)
    best = best_log_ratio(observation.state)
    nearest = candidates[np.arange(48), np.abs(candidates - best[:, None]).argmin(axis=1)]
    bidder = DTQSearchBidder(transformer, critic, multiples)
    bidder.reset(WHO)
    np.testing.assert_allclose(np.log(bidder.act(observation) / 10.0), nearest, atol=1e-9)
    assert _error(bidder) < 0.3 * _error(plain)
    assert _error(DTQSearchBidder(transformer, critic, [1.0])) == pytest.approx(_error(plain))
    assert _error(DTQSearchBidder(transformer, critic, (0.9, 1.0, 1.1))) < _error(plain)
    opening = known_best_observation(tick=0)
    np.testing.assert_array_equal(bidder.act(opening), WHO.cpa_target)


def test_finetuning_moves_towards_the_valued_action(transformer, critic, trajectories):
    config = DTQConfig(steps=120, batch_size=32, learning_rate=5e-3, q_weight=50.0)
    before = {name: tensor.clone() for name, tensor in transformer.model.state_dict().items()}
    tuned = finetune_dt(config, transformer, critic, trajectories, progress=False)
    imitating = finetune_dt(replace(config, q_weight=0.0), transformer, critic, trajectories, progress=False)
    plain = _error(DTBidder(transformer))
    assert _error(DTBidder(tuned)) < 0.4 * plain
    assert _error(DTBidder(imitating)) > 0.7 * plain
    assert all(torch.equal(before[name], tensor) for name, tensor in transformer.model.state_dict().items())
    assert all(parameter.requires_grad for parameter in critic.parameters()), "the critic is as it was"


def test_finetuning_is_reproducible_and_its_checkpoint_bids_the_same(transformer, critic, trajectories, tmp_path):
    config = DTQConfig(steps=3)
    first, second = (finetune_dt(config, transformer, critic, trajectories, progress=False) for _ in range(2))
    np.testing.assert_array_equal(first.losses, second.losses)
    other = finetune_dt(replace(config, seed=1), transformer, critic, trajectories, progress=False)
    assert not np.array_equal(first.losses, other.losses)
    first.save(tmp_path / "dt_q")
    loaded = DecisionTransformer.load(tmp_path / "dt_q", TINY)
    assert _error(DTBidder(loaded)) == _error(DTBidder(first)) != _error(DTBidder(transformer))


def test_a_trained_critic_fits_in(transformer, trajectories):
    """The real networks: gradients reach the transformer through the critic."""
    critic = Critic(StateEncoder.fit(trajectories, "paper"), CRITIC)
    config = DTQConfig(steps=2, q_weight=100.0)
    tuned = finetune_dt(config, transformer, critic, trajectories, progress=False)
    plain = finetune_dt(replace(config, q_weight=0.0), transformer, critic, trajectories, progress=False)
    assert not np.array_equal(tuned.losses, plain.losses)
    assert np.isfinite(_error(DTQSearchBidder(tuned, critic, (0.9, 1.0, 1.1))))


@pytest.mark.parametrize(
    ("change", "message"),
    [({"steps": 0}, "steps"), ({"learning_rate": -1.0}, "learning_rate"), ({"q_weight": -1}, "q")],
)
def test_bad_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(DTQConfig(), **change)


def test_models_that_do_not_fit_are_refused(transformer, critic, trajectories):
    sparse = Critic(StateEncoder.fit(trajectories, "paper"), replace(CRITIC, dataset="sparse"))
    with pytest.raises(ValueError, match="the critic for sparse"):
        DTQSearchBidder(transformer, sparse, (0.9, 1.0, 1.1))
    with pytest.raises(ValueError, match="the critic for sparse"):
        finetune_dt(DTQConfig(), transformer, sparse, trajectories, progress=False)
    with pytest.raises(ValueError, match="trajectories are sparse"):
        finetune_dt(DTQConfig(), transformer, critic, replace(trajectories, dataset="sparse"), progress=False)
    for multiples in ([], [1.0, 0.0]):
        with pytest.raises(ValueError, match="multiples must be positive"):
            DTQSearchBidder(transformer, critic, multiples)

"""The critic: its losses are Eq. 8-9, the day's end is learned, pads and later ticks stay out."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from killed import killed_after
from synthetic_trajectories import synthetic_trajectories
from torch.nn.modules.module import register_module_forward_hook

from lbm_core.critic import iql
from lbm_core.critic.config import CriticConfig
from lbm_core.critic.iql import expectile_loss, n_step_returns, train_critic
from lbm_core.critic.network import Critic, CriticEnsemble
from lbm_core.critic.reward import PRIOR, reward_table, smoothed_score
from lbm_core.data.features import StateEncoder, return_unit
from lbm_core.data.trajectories import sample_ends, windows

TINY = CriticConfig(hidden_size=16, layers=1, heads=2, steps=60, batch_size=32, learning_rate=3e-3, n_step=12)


@pytest.fixture(scope="module")
def days():
    return synthetic_trajectories(24, seed=3)


@pytest.fixture(scope="module")
def trained(days):
    return train_critic(TINY, days, progress=False)


@pytest.fixture
def fresh(days):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Critic(StateEncoder.fit(days, TINY.state_kind), TINY).eval()


def test_a_critic_gets_the_states_that_it_was_made_for(days):
    with pytest.raises(ValueError, match="the encoder gives 'paper' states, the config wants 'extended'"):
        Critic(StateEncoder.fit(days, "paper"), replace(TINY, state_kind="extended"))


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=20), st.floats(0.05, 0.95))
def test_expectile_loss_is_its_formula(differences, expectile):
    u = np.array(differences)
    expected = np.mean(np.abs(expectile - (u < 0)) * u**2)
    assert expectile_loss(torch.tensor(u), expectile).item() == pytest.approx(expected, rel=1e-5, abs=1e-9)


def test_expectile_minimiser_lies_above_the_mean():
    values = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64)
    grid = torch.linspace(0, 1, 1001, dtype=torch.float64)
    best = {e: grid[torch.stack([expectile_loss(values - v, e) for v in grid]).argmin()].item() for e in (0.5, 0.7)}
    assert best[0.5] == pytest.approx(0.25, abs=2e-3)
    assert best[0.7] == pytest.approx(0.7 / (0.7 + 3 * 0.3), abs=2e-3)


@pytest.mark.parametrize("counted", ["expected", "sampled"])
def test_score_to_go_telescopes(days, counted):
    total = reward_table(days, "score_to_go", counted=counted).astype(np.float64).sum(axis=1)
    unit = return_unit(days.budget, days.cpa_target)
    counts = days.conversions if counted == "sampled" else days.expected_conversions
    final = smoothed_score(counts.sum(axis=1), days.costs.sum(axis=1), days.cpa_target)
    np.testing.assert_allclose(total, (final - PRIOR) / unit, rtol=1e-4, atol=1e-5)


def test_rewards(days):
    conversions = reward_table(days, "conversions", "dataset", "sampled")
    np.testing.assert_allclose(conversions, days.conversions / 1500, rtol=1e-6)
    expected = reward_table(days, "conversions", "dataset")
    np.testing.assert_allclose(expected, days.expected_conversions / 1500, rtol=1e-6)
    score = reward_table(days, "score_to_go", counted="sampled")
    assert (score < 0).any(), "a conversion that cost too much takes score away"
    after_end = np.arange(48) >= days.length[:, None]
    assert (score[after_end] == 0).all()
    with pytest.raises(ValueError, match="unknown reward"):
        reward_table(days, "clicks")
    with pytest.raises(ValueError, match="unknown conversions"):
        reward_table(days, counted="hoped for")


def test_smoothed_score_formula():
    assert smoothed_score(np.array(0.0), np.array(0.0), np.array(8.0)) == 2
    # 10 conversions for 160 at a target of 8: (12) * (12 * 8 / (160 + 16))^2
    assert smoothed_score(np.array(10.0), np.array(160.0), np.array(8.0)) == pytest.approx(12 * (96 / 176) ** 2)
    assert smoothed_score(np.array(10.0), np.array(40.0), np.array(8.0)) == 12


def test_n_step_returns_by_hand():
    rewards = np.zeros((1, 48), dtype=np.float32)
    rewards[0, :4] = [1, 2, 4, 8]
    returns, over = n_step_returns(rewards, np.array([3]), 0.5, 2)
    np.testing.assert_allclose(returns[0, :4], [2, 4, 8, 8])
    assert over[0, :4].tolist() == [False, False, True, True]
    one, over = n_step_returns(rewards, np.array([3]), 0.5, 1)
    np.testing.assert_array_equal(one, rewards)
    assert over[0, :4].tolist() == [False, False, False, True]
    whole, over = n_step_returns(rewards, np.array([3]), 0.5, 48)
    np.testing.assert_allclose(whole[0, 0], 1 + 1 + 1 + 1)
    assert over.all()


def test_losses_fall(trained):
    assert trained.history.shape == (60, 2)
    assert np.isfinite(trained.history).all()
    assert trained.history[-10:, 0].mean() < 0.3 * trained.history[:3, 0].mean()
    assert not trained.training


@pytest.mark.parametrize("n_step", [1, 3])
def test_value_of_the_last_bid_is_its_reward(n_step):
    """Toy: only the terminal transition pays, 1 or 3 by its action; nothing may be bootstrapped behind it."""
    days = synthetic_trajectories(60, seed=5)
    rows, last, valid = np.arange(60), np.full(60, 3), np.arange(48) < 4
    up = rows % 2 == 1
    states = np.zeros_like(days.states)
    states[:, :4, 0] = np.arange(4)
    alphas = np.where(valid, days.cpa_target[:, None], 0)
    alphas[rows, last] *= np.where(up, 2.0, 0.5)
    conversions = np.zeros_like(days.conversions)
    conversions[rows, last] = np.where(up, 3.0, 1.0) * days.budget / days.cpa_target
    short = replace(
        days, length=last + 1, states=states, alphas=alphas, conversions=conversions, costs=days.costs * valid
    )
    sizes = {"n_step": n_step, "steps": 200, "learning_rate": 5e-3}
    config = replace(TINY, reward="conversions", counted="sampled", state_kind="paper", **sizes)
    critic = train_critic(config, short, progress=False)
    window = windows(short, rows, last)
    q = critic.q(window, alphas[rows, last])
    assert q[up].mean() == pytest.approx(3, abs=0.5)
    assert q[~up].mean() == pytest.approx(1, abs=0.5)
    assert (critic.relative_q(window, 2 * days.cpa_target, alphas[rows, last])[~up] > 1).all()


def test_q_reads_the_candidate_and_v_does_not(fresh, days):
    rows, ticks = sample_ends(days, 20, np.random.default_rng(0))
    window = windows(days, rows, ticks)
    changed = replace(window, alphas=window.alphas.copy())
    changed.alphas[:, -1] *= 3
    np.testing.assert_allclose(fresh.v(changed), fresh.v(window), rtol=1e-6)
    candidate = window.alphas[:, -1] * 1.1
    np.testing.assert_allclose(fresh.q(changed, candidate), fresh.q(window, candidate), rtol=1e-6)
    assert (np.abs(fresh.q(window, 3 * candidate) - fresh.q(window, candidate)) > 1e-5).all()


def test_many_candidates_are_one_column_each(fresh, days):
    rows, ticks = sample_ends(days, 7, np.random.default_rng(0))
    window, logged = windows(days, rows, ticks), days.alphas[rows, ticks]
    many = logged[:, None] * np.array([0.8, 1.0, 1.2])
    q = fresh.q(window, many)
    assert q.shape == (7, 3)
    np.testing.assert_allclose(q[:, 2], fresh.q(window, many[:, 2]), rtol=1e-5)
    relative = fresh.relative_q(window, many, logged)
    np.testing.assert_allclose(relative[:, 1], 0, atol=1e-6)
    np.testing.assert_allclose(relative[:, 0], fresh.relative_q(window, many[:, 0], logged), atol=1e-6)


def test_min_of_the_twins(fresh, days):
    window = windows(days, np.arange(5), np.full(5, 2))
    states, actions, mask = fresh.inputs(window)
    with torch.inference_mode():
        both = torch.stack([q(states, actions, mask, with_last_action=True) for q in fresh.twin_q])
    assert (both[0] != both[1]).all(), "the twins start apart"
    np.testing.assert_allclose(fresh.q(window, window.alphas[:, -1]), both.min(dim=0).values.numpy(), rtol=1e-5)


def test_pads_have_no_influence_and_batching_changes_nothing(fresh, days):
    window = windows(days, np.array([0, 1, 2]), np.array([1, 20, 40]))
    states, actions, mask = fresh.inputs(window)
    network = fresh.twin_q[0]
    usual = network(states, actions, mask, True)
    states[~mask] = 7.0
    actions[~mask] = -3.0
    torch.testing.assert_close(network(states, actions, mask, True), usual)
    together = fresh.q(window, window.alphas[:, -1])
    alone = [fresh.q(window[k : k + 1], window.alphas[k : k + 1, -1])[0] for k in range(3)]
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-6)


def test_dropout_is_off_when_scoring(days):
    config = replace(TINY, dropout=0.5, steps=2)
    critic = train_critic(config, days, progress=False).train()
    window = windows(days, np.arange(4), np.full(4, 2))
    np.testing.assert_array_equal(critic.v(window), critic.v(window))


def test_target_follows_slowly_and_losses_stay_apart(fresh, days):
    window = windows(days, np.arange(8), np.full(8, 2))
    batch = fresh.inputs(window)
    fresh.train()
    iql.value_loss(fresh, fresh.twin_q, batch).backward()
    assert all(p.grad is None for p in fresh.twin_q.parameters()), "V's loss does not move Q"
    assert any(p.grad is not None for p in fresh.value.parameters())
    fresh.zero_grad(set_to_none=True)
    iql.q_loss(fresh, batch, torch.zeros(8), torch.zeros(8)).backward()
    assert all(p.grad is None for p in fresh.value.parameters())
    assert all(p.grad is not None for p in fresh.twin_q.parameters())


def test_save_and_load(trained, days, tmp_path):
    trained.save(tmp_path)
    loaded = Critic.load(tmp_path, TINY)
    window = windows(days, np.arange(5), np.full(5, 2))
    np.testing.assert_allclose(loaded.v(window), trained.v(window), rtol=1e-6)
    np.testing.assert_array_equal(loaded.history, trained.history)
    with pytest.raises(ValueError, match="another reward"):
        Critic.load(tmp_path, replace(TINY, reward="conversions"))
    with pytest.raises(FileNotFoundError, match="train one first"):
        Critic.load(tmp_path / "absent")


def test_a_killed_training_resumes_exactly(days, tmp_path):
    config, folder = replace(TINY, steps=7), tmp_path / "checkpoints"
    whole = train_critic(config, days, progress=False)
    with killed_after(5):
        train_critic(config, days, checkpoints=folder, checkpoint_every=2, progress=False)
    assert [found.name for found in folder.iterdir()] == ["step-00000004"]
    resumed = train_critic(config, days, checkpoints=folder, checkpoint_every=2, progress=False)
    window = windows(days, np.arange(5), np.full(5, 2))
    np.testing.assert_allclose(resumed.history, whole.history, rtol=1e-4)
    np.testing.assert_allclose(resumed.v(window), whole.v(window), rtol=1e-4)
    assert not folder.exists()


def test_one_thread_trains_and_judges(trained, days):
    used, usual = set(), torch.get_num_threads()
    hook = register_module_forward_hook(lambda *_: used.add(torch.get_num_threads()))
    torch.set_num_threads(2)
    try:
        train_critic(replace(TINY, steps=1), days, progress=False)
        trained.q(windows(days, np.arange(5), np.full(5, 2)), np.full(5, 8.0))
        assert used == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(usual)
        hook.remove()


def test_bad_input(fresh, days):
    window = windows(days, np.arange(3), np.full(3, 2))
    assert np.isfinite(fresh.q(window, np.full(3, 0.5))).all(), "an alpha below 1 is one"
    for wrong in (np.array([1.0, np.nan, 2.0]), np.array([1.0, 0.0, 2.0]), np.array([1.0, np.inf, 2.0])):
        with pytest.raises(ValueError, match="positive number"):
            fresh.q(window, wrong)
    with pytest.raises(ValueError, match="must be"):
        fresh.q(window, np.ones(2))
    with pytest.raises(ValueError, match="windows of 10"):
        fresh.v(windows(days, np.arange(3), np.full(3, 2), length=5))
    with pytest.raises(ValueError, match="sparse data"):
        train_critic(replace(TINY, dataset="sparse"), days)


@pytest.mark.parametrize(
    "wrong", [{"expectile": 1.0}, {"gamma": 0.0}, {"tau": 2.0}, {"reward": "x"}, {"heads": 3}, {"n_step": 0}]
)
def test_wrong_settings(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        CriticConfig(**({"hidden_size": 16} | wrong))


def test_defaults_are_table_9():
    config = CriticConfig()
    assert (config.hidden_size, config.layers, config.heads, config.batch_size) == (512, 6, 8, 128)
    assert (config.steps, config.learning_rate, config.weight_decay, config.window_length) == (400_000, 1e-4, 1e-2, 10)
    assert (config.gamma, config.tau, config.expectile, config.n_step) == (0.99, 0.01, 0.7, 1)


def test_an_ensemble_is_the_mean_less_the_disagreement(days):
    small = replace(TINY, steps=2)
    critics = [train_critic(replace(small, seed=seed), days, progress=False) for seed in (0, 1, 2)]
    rows, ticks = sample_ends(days, 9, np.random.default_rng(0))
    window, logged = windows(days, rows, ticks), np.full(9, 5.0)
    tried = logged[:, None] * [0.5, 2.0]
    each = np.stack([critic.relative_q(window, tried, logged) for critic in critics])
    np.testing.assert_allclose(CriticEnsemble(critics).relative_q(window, tried, logged), each.mean(axis=0))
    careful = CriticEnsemble(critics, pessimism=2.0)
    expected = each.mean(axis=0) - 2 * each.std(axis=0, ddof=1)
    np.testing.assert_allclose(careful.relative_q(window, tried, logged), expected)
    assert (careful.q(window, logged) < CriticEnsemble(critics).q(window, logged)).all()
    other = train_critic(replace(small, reward="conversions"), days, progress=False)
    with pytest.raises(ValueError, match="must share data set, window length and reward"):
        CriticEnsemble([critics[0], other])
    with pytest.raises(ValueError, match="at least two"):
        CriticEnsemble(critics[:1])
    with pytest.raises(ValueError, match="pessimism"):
        CriticEnsemble(critics, pessimism=-1.0)

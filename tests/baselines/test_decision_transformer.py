"""Decision transformer: what its action may depend on, the loss, DT-score's penalty, checkpoints, the bidder."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from lbm_core.auction.bidder import Advertisers, Bidder, Observation
from lbm_core.baselines.config import DTConfig
from lbm_core.baselines.decision_transformer import DecisionTransformer, DTBidder, penalty_to_go, train_dt
from lbm_core.data.features import log_alpha_ratio
from lbm_core.data.trajectories import TrajectorySet, sample_ends, windows

TINY = DTConfig(hidden_size=16, layers=1, heads=2, window_length=4, steps=120, batch_size=32, learning_rate=5e-3)


def _trajectories(n: int = 40, dataset: str = "dense", seed: int = 0) -> TrajectorySet:
    """Advertisers who bid C times e^(feature 15 of the state): an action that a model can learn exactly."""
    rng = np.random.default_rng(seed)
    length = rng.integers(20, 49, n)
    valid = np.arange(48) < length[:, None]
    states = rng.normal(size=(n, 48, 16)) * valid[..., None]
    cpa_target = rng.uniform(6, 12, n)
    alphas = cpa_target[:, None] * np.exp(0.5 * states[:, :, 15]) * valid
    exhausted = length < 40
    alphas[np.flatnonzero(exhausted), length[exhausted] - 1] = 0.0  # their done row
    conversions = rng.poisson(3, (n, 48)) * valid
    return TrajectorySet(
        dataset=dataset,
        period=np.arange(n) // 8,
        advertiser=np.arange(n) % 48,
        length=length,
        budget=rng.uniform(2000, 4000, n),
        cpa_target=cpa_target,
        states=states,
        alphas=np.minimum(alphas, 54.0),
        conversions=conversions,
        expected_conversions=conversions * 1.1,
        costs=rng.uniform(10, 60, (n, 48)) * valid,
    )


@pytest.fixture(scope="module")
def trajectories():
    return _trajectories()


@pytest.fixture(scope="module")
def trained(trajectories):
    return train_dt(TINY, trajectories, progress=False)


def _windows(trajectories, n=16, length=4):
    rows, ticks = sample_ends(trajectories, n, np.random.default_rng(1))
    return windows(trajectories, rows, ticks, length)


def test_training_lowers_the_loss_and_beats_the_mean_action(trained, trajectories):
    assert trained.losses[-1, 0] == TINY.steps
    assert trained.losses[-1, 1] < 0.3 * trained.losses[0, 1]
    window = _windows(trajectories, 200)
    with torch.no_grad():
        predicted = trained.predict(window)[:, -1].numpy()
    logged = log_alpha_ratio(window.alphas, window.cpa_target)[:, -1]
    assert np.mean((predicted - logged) ** 2) < 0.3 * np.var(logged)


def test_an_action_depends_on_its_past_and_not_on_itself_or_on_pads(trained, trajectories):
    window = _windows(trajectories)
    assert not window.mask.all(), "the sample should hold short windows"
    changed = replace(window, alphas=window.alphas.copy(), returns_to_go=window.returns_to_go.copy())
    changed.alphas[:, -1] *= 3
    changed.alphas[~window.mask] = 7.0
    changed.returns_to_go[~window.mask] = 99.0
    past = replace(window, alphas=window.alphas.copy())
    past.alphas[:, -2] = np.where(window.mask[:, -2], past.alphas[:, -2] * 3, 0.0)
    with torch.no_grad():
        base, same, other = (trained.predict(w)[:, -1].numpy() for w in (window, changed, past))
    np.testing.assert_array_equal(base, same)
    has_past = window.mask[:, -2]
    assert (np.abs(other - base)[has_past] > 1e-6).all()
    np.testing.assert_array_equal(other[~has_past], base[~has_past])


def test_a_short_window_is_read_alike_whatever_its_padding(trained, trajectories):
    rows, ticks = np.arange(10), np.full(10, 1)
    with torch.no_grad():
        short, padded = (
            trained.predict(windows(trajectories, rows, ticks, length))[:, -1].numpy() for length in (2, 4)
        )
    np.testing.assert_allclose(short, padded, atol=1e-5)


def test_done_rows_stay_out_of_the_loss(trajectories):
    """Moving the states of done rows, where alpha is 0, changes nothing that is learned."""
    config = replace(TINY, steps=3)
    states = trajectories.states.copy()
    done = (trajectories.alphas == 0) & (np.arange(48) == trajectories.length[:, None] - 1)
    assert done.any()
    states[done] += 50.0
    moved = replace(trajectories, states=states)
    first, second = (train_dt(config, t, progress=False).losses for t in (trajectories, moved))
    np.testing.assert_allclose(first, second)


def test_training_is_reproducible_and_leaves_global_state_alone(trajectories):
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    config = replace(TINY, steps=3)
    first, second = (train_dt(config, trajectories, progress=False) for _ in range(2))
    np.testing.assert_array_equal(first.losses, second.losses)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)
    other = train_dt(replace(config, seed=1), trajectories, progress=False)
    assert not np.array_equal(first.losses, other.losses)


def test_penalty_to_go_by_hand(trajectories):
    penalty = penalty_to_go(trajectories)
    row, tick = 3, 5
    allowed = trajectories.conversions[row, tick:].sum() * trajectories.cpa_target[row]
    assert penalty[row, tick] == pytest.approx(min(1.0, allowed / trajectories.costs[row, tick:].sum()), rel=1e-5)
    nothing = replace(trajectories, conversions=np.zeros_like(trajectories.conversions))
    assert penalty_to_go(nothing)[row, tick] == 0.0
    assert penalty_to_go(nothing)[row, -1] == (1.0 if trajectories.length[row] < 48 else 0.0)


def test_penalty_weight_reaches_the_model(trajectories):
    window = _windows(trajectories)
    plain = train_dt(replace(TINY, steps=3), trajectories, progress=False)
    weighted = train_dt(replace(TINY, steps=3, penalty_weight=0.5), trajectories, progress=False)
    with torch.no_grad():
        assert torch.equal(plain.predict(window, 0.0), plain.predict(window, 1.0))
        assert not torch.equal(weighted.predict(window, 0.0), weighted.predict(window, 1.0))


def test_return_scale_reaches_the_model(trained, trajectories):
    """Doubling budget and returns changes nothing under "budget", where only return * C / B counts."""
    window = _windows(trajectories)
    doubled = replace(window, returns_to_go=2 * window.returns_to_go, budget=2 * window.budget)
    encoder = trained.encoder
    plain = replace(TINY, state_kind="paper")
    for config, same in ((plain, True), (replace(plain, return_scale="dataset"), False)):
        statistics = type(encoder)("paper", encoder.mean[:16], encoder.std[:16])
        transformer = DecisionTransformer(config, statistics)
        transformer.model.eval()
        with torch.no_grad():
            assert torch.equal(transformer.predict(window), transformer.predict(doubled)) == same


def test_checkpoint_round_trip(trained, trajectories, tmp_path):
    trained.save(tmp_path / "dt")
    loaded = DecisionTransformer.load(tmp_path / "dt", TINY)
    window = _windows(trajectories)
    with torch.no_grad():
        assert torch.equal(loaded.predict(window), trained.predict(window))
    np.testing.assert_allclose(loaded.losses, trained.losses)
    assert json.loads((tmp_path / "dt" / "config.json").read_text())["config"]["steps"] == TINY.steps
    with pytest.raises(ValueError, match="another steps, seed"):
        DecisionTransformer.load(tmp_path / "dt", replace(TINY, steps=7, seed=3))
    with pytest.raises(FileNotFoundError, match="train one first"):
        DecisionTransformer.load(tmp_path / "nothing")


def test_bidder_bids_for_all_rows_within_the_data_range(trained):
    bidder = DTBidder(trained)
    assert isinstance(bidder, Bidder)
    rng = np.random.default_rng(0)
    advertisers = Advertisers(np.arange(5), np.full(5, 3000.0), np.linspace(6, 12, 5))
    bidder.reset(advertisers)
    for tick in (0, 1, 12):
        observation = Observation(
            tick,
            rng.normal(size=(5, tick + 1, 16)),
            rng.uniform(5, 9, (5, tick)),
            rng.poisson(3.0, (5, tick)).astype(float),
            rng.uniform(0, 9, (5, tick)),
        )
        alphas = bidder.act(observation)
        assert alphas.shape == (5,)
        assert ((alphas > 0) & (alphas <= 54.0)).all()
        if tick == 0:
            np.testing.assert_array_equal(alphas, advertisers.cpa_target)
            continue
        expected = advertisers.cpa_target * np.exp(0.5 * observation.state[:, 15])
        assert np.corrcoef(np.log(alphas), np.log(expected))[0, 1] > 0.8  # it learned the rule of the data


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps"),
        ({"heads": 3}, "multiple of heads"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"return_scale": "none"}, "return_scale"),
        ({"dataset": "medium"}, "dataset of DTConfig should be"),
        ({"dropout": 1.0}, "dropout"),
    ],
)
def test_bad_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(TINY, **change)


def test_wrong_data_set_and_target_are_refused(trained, trajectories):
    with pytest.raises(ValueError, match="sparse data"):
        train_dt(replace(TINY, dataset="sparse"), trajectories, progress=False)
    with pytest.raises(ValueError, match="target_return"):
        DTBidder(trained, target_return=0.0)

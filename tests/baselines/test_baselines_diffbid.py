"""DiffBid: returns asked for lead to the bids that brought them; completion keeps the past; checkpoints; bad inputs."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from synthetic_trajectories import synthetic_trajectories

from lbm_core.auction.bidder import Advertisers, Bidder, Observation
from lbm_core.baselines.config import DiffBidConfig
from lbm_core.baselines.diffbid import DiffBid, DiffBidBidder, conditioned, state_paths, train_diffbid
from lbm_core.data.features import StateEncoder
from lbm_core.data.trajectories import TrajectorySet

LEVEL = 0.6  # |log(alpha / C)| of a good (+) and a bad (-) day
SMALL = DiffBidConfig(channels=16, steps=120, batch_size=32, learning_rate=4e-3, sampling_steps=5)
WITH_Q = replace(SMALL.with_q(), untold=1.0, candidates=8)
WHO = Advertisers(np.arange(24), np.full(24, 1000.0), np.full(24, 10.0))


def _states(ratio):
    """Time left, and the last move in the bid features; (n, 48, 16) of (n, 48) log(alpha / C)."""
    states = np.zeros((*ratio.shape, 16))
    states[:, :, 0] = (48 - np.arange(48)) / 48
    states[:, 1:, 2] = states[:, 1:, 3] = ratio[:, :-1]
    return states


def _two_kinds_of_days(n: int = 60) -> TrajectorySet:
    """After an opening at C, half the advertisers bid high and convert well, half bid low and convert badly."""
    rng = np.random.default_rng(0)
    good = np.arange(n) % 2 == 0
    ratio = np.where(good, LEVEL, -LEVEL)[:, None] + rng.normal(0, 0.05, (n, 48))
    ratio[:, 0] = 0.0
    conversions = np.where(good, 3.0, 1.0)[:, None] * np.ones(48)
    return TrajectorySet(
        dataset="dense",
        period=np.zeros(n),
        advertiser=np.arange(n) % 48,
        length=np.full(n, 48),
        budget=np.full(n, 1000.0),
        cpa_target=np.full(n, 10.0),
        states=_states(ratio),
        alphas=10.0 * np.exp(ratio),
        conversions=conversions,
        expected_conversions=conversions,
        costs=np.full((n, 48), 10.0),
    )


def _observation(tick: int = 1, ratio: float = 0.0) -> Observation:
    past = np.full((24, 48), ratio)
    past[:, 0] = 0.0
    return Observation(
        tick,
        _states(past)[:, : tick + 1],
        10.0 * np.exp(past[:, :tick]),
        np.full((24, tick), 2.0),
        np.full((24, tick), 10.0),
    )


@pytest.fixture(scope="module")
def trajectories():
    return _two_kinds_of_days()


@pytest.fixture(scope="module")
def models(trajectories):
    return {config.method: train_diffbid(config, trajectories, progress=False) for config in (SMALL, WITH_Q)}


def _ratio(model, target=None, observation=None):
    bidder = DiffBidBidder(model, target)
    assert isinstance(bidder, Bidder)
    bidder.reset(WHO)
    return np.log(bidder.act(observation or _observation()) / 10.0)


def test_the_return_asked_for_decides_between_the_two_days(models):
    good, bad = (_ratio(models["DiffBid"], target).mean() for target in (3.0 * 0.48, 1.0 * 0.48))
    assert good > 0.5 * LEVEL
    assert bad < 0.0
    assert good - bad > LEVEL


def test_best_of_n_takes_the_better_day_without_being_asked(models, trajectories):
    model = models["DiffBid-Q"]
    paths = torch.as_tensor(state_paths(trajectories, model.encoder))
    with torch.no_grad():
        worth = model.value(paths, model.context(trajectories.budget, trajectories.cpa_target))
    assert worth[::2].min() > worth[1::2].max(), "the return model knows good days from bad ones"
    single = DiffBid(replace(WITH_Q, candidates=1), model.encoder)
    single.load_state_dict(model.state_dict())
    single.eval()
    assert _ratio(model).mean() > _ratio(single).mean() + 0.2 * LEVEL


def test_diffbid_draws_one_day_whatever_the_number_of_candidates(models):
    model = models["DiffBid"]
    many = DiffBid(replace(SMALL, candidates=8), model.encoder)
    many.load_state_dict(model.state_dict())
    np.testing.assert_array_equal(_ratio(many.eval()), _ratio(model))


def test_inverse_dynamics_read_the_action(models, trajectories):
    model = models["DiffBid"]
    paths = torch.as_tensor(state_paths(trajectories, model.encoder))
    context = model.context(trajectories.budget, trajectories.cpa_target)
    with torch.no_grad():
        read = model.action(paths[:, 10], paths[:, 11], context).numpy()
    assert np.abs(read - np.log(trajectories.alphas[:, 10] / 10.0)).max() < 0.2


@pytest.mark.parametrize("method", ["DiffBid", "DiffBid-Q"])
def test_completion_keeps_what_was_seen(models, method):
    model = models[method]
    history = torch.randn(3, 20, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        paths = model.complete(history, conditioned(torch.zeros(3, 2)), torch.Generator().manual_seed(1))
    assert torch.equal(paths[:, :20], history)
    assert torch.isfinite(paths).all()
    assert paths[:, 20:].std() > 0


def test_paths_end_with_their_last_state_and_the_time_running_on():
    trajectories = synthetic_trajectories()
    encoder = StateEncoder.fit(trajectories, "paper")
    paths = state_paths(trajectories, encoder)
    row = int(np.argmin(trajectories.length))
    stop = trajectories.length[row]
    raw = paths[row] * encoder.std + encoder.mean
    np.testing.assert_allclose(raw[:stop, 1:], trajectories.states[row, :stop, 1:], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(raw[:, 0], (48 - np.arange(48)) / 48, atol=1e-3)
    np.testing.assert_array_equal(paths[row, stop:, 1:], np.tile(paths[row, stop - 1, 1:], (48 - stop, 1)))


@pytest.mark.parametrize("method", ["DiffBid", "DiffBid-Q"])
def test_checkpoint_bids_the_same(models, method, tmp_path):
    model = models[method]
    model.save(tmp_path / "model")
    loaded = DiffBid.load(tmp_path / "model", model.config)
    np.testing.assert_array_equal(_ratio(loaded), _ratio(model))
    np.testing.assert_allclose(loaded.losses, model.losses)
    with pytest.raises(ValueError, match="another steps"):
        DiffBid.load(tmp_path / "model", replace(model.config, steps=9))
    with pytest.raises(FileNotFoundError, match="no DiffBid"):
        DiffBid.load(tmp_path / "nothing")


def test_training_is_reproducible_and_leaves_global_state_alone(trajectories):
    config = replace(SMALL, steps=3)
    state = torch.get_rng_state()
    first, second = (train_diffbid(config, trajectories, progress=False) for _ in range(2))
    np.testing.assert_array_equal(first.losses, second.losses)
    np.testing.assert_array_equal(_ratio(first), _ratio(second))
    assert torch.equal(state, torch.get_rng_state())
    other = train_diffbid(replace(config, seed=1), trajectories, progress=False)
    assert not np.array_equal(first.losses, other.losses)


def test_first_and_last_tick(models):
    np.testing.assert_allclose(_ratio(models["DiffBid"], None, _observation(0)), 0.0, atol=1e-12)
    np.testing.assert_allclose(_ratio(models["DiffBid"], None, _observation(47, 0.3)), 0.3, atol=1e-12)
    late = _ratio(models["DiffBid"], None, _observation(46, LEVEL))
    assert np.isfinite(late).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "CBD"}, "method of DiffBidConfig should be 'DiffBid' or 'DiffBid-Q'"),
        ({"channels": 12}, "multiple of 8"),
        ({"steps": 0}, "steps of DiffBid"),
        ({"sampling_steps": 500}, "sampling_steps 500 of DiffBid must not exceed noise_levels"),
        ({"untold": 1.2}, "untold"),
        ({"learning_rate": float("nan")}, "learning_rate"),
    ],
)
def test_bad_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **change)


def test_unsuitable_data_and_targets_are_refused(models, trajectories):
    with pytest.raises(ValueError, match="sparse data"):
        train_diffbid(replace(SMALL, dataset="sparse"), trajectories, progress=False)
    silent = replace(trajectories, alphas=np.where(np.arange(48) == 5, trajectories.alphas, 0.0))
    only_the_last = replace(silent, length=np.full(len(silent), 6))
    with pytest.raises(ValueError, match="no bid to learn from"):
        train_diffbid(SMALL, only_the_last, progress=False)
    with pytest.raises(ValueError, match="target_return"):
        DiffBidBidder(models["DiffBid"], 0.0)

import json
from dataclasses import fields, replace

import numpy as np
import pytest
from synthetic_trajectories import synthetic_trajectories

from lbm_core.auction.state import FEATURES
from lbm_core.data.features import EXTRA_FEATURES, StateEncoder, log_alpha_ratio, return_unit
from lbm_core.data.trajectories import sample_ends, windows


@pytest.fixture(scope="module")
def trajectories():
    return synthetic_trajectories(40)


@pytest.mark.parametrize(("kind", "d"), [("paper", 16), ("extended", 23), ("no_bids", 16)])
def test_encoding_is_standardised_and_zero_at_pads(trajectories, kind, d):
    encoder = StateEncoder.fit(trajectories, kind)
    rows, ticks = np.nonzero(trajectories.acting)
    encoded = encoder.encode(windows(trajectories, rows, ticks))
    assert encoded.shape == (len(rows), 10, d)
    assert encoded.dtype == np.float32
    mask = windows(trajectories, rows, ticks).mask
    assert (encoded[~mask] == 0).all()
    last = encoded[:, -1].astype(float)
    np.testing.assert_allclose(last.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(last.std(0), 1, atol=1e-3)


def test_a_position_is_encoded_alike_in_every_window(trajectories):
    encoder = StateEncoder.fit(trajectories)
    row = int(np.argmax(trajectories.length))
    long = encoder.encode(windows(trajectories, [row], [20], 10))
    short = encoder.encode(windows(trajectories, [row], [17], 3))
    np.testing.assert_allclose(long[:, 4:7], short, rtol=1e-5)


def test_extra_features_by_hand(trajectories):
    encoder = StateEncoder("extended", np.zeros(23), np.ones(23))
    row, tick = int(np.argmax(trajectories.length)), 6
    extra = encoder.encode(windows(trajectories, [row], [tick]))[0, -1, 16:]
    cost, count = trajectories.costs[row, :tick].sum(), trajectories.conversions[row, :tick].sum()
    target, budget = trajectories.cpa_target[row], trajectories.budget[row]
    expected = [
        np.log(target),
        np.log(budget / target),
        np.log((cost + 2 * target) / (count + 2) / target),
        count * target / budget,
        *np.log(trajectories.alphas[row, [5, 4, 3]] / target),
    ]
    assert len(expected) == len(EXTRA_FEATURES)
    np.testing.assert_allclose(extra, expected, rtol=1e-4)


def test_without_bids_the_past_alphas_leave_no_trace(trajectories):
    window = windows(trajectories, [0, 1], [6, 9])
    states = window.states.copy()
    states[..., [k for k, name in enumerate(FEATURES) if name.endswith(("bid_mean", "win_mean"))]] += 0.5
    other = replace(window, states=states, previous_alphas=2 * window.previous_alphas, alphas=3 * window.alphas)
    encoder = StateEncoder.fit(trajectories, "no_bids")
    np.testing.assert_array_equal(encoder.encode(other), encoder.encode(window))
    seen = StateEncoder.fit(trajectories, "extended")
    assert not np.allclose(seen.encode(other), seen.encode(window))
    kept = StateEncoder("no_bids", np.zeros(16), np.ones(16)).encode(window)[0, -1]
    np.testing.assert_allclose(kept[0], window.states[0, -1, 0], err_msg="time left")
    np.testing.assert_allclose(kept[-4], np.log(window.cpa_target[0]), rtol=1e-6, err_msg="log C")


def test_the_last_ticks_of_longer_windows_are_the_shorter_ones(trajectories):
    rows, ticks = [0, 1, 2], [3, 12, 20]
    cut, short = windows(trajectories, rows, ticks, 48).last(10), windows(trajectories, rows, ticks, 10)
    for column in fields(cut):
        np.testing.assert_array_equal(getattr(cut, column.name), getattr(short, column.name), err_msg=column.name)
    with pytest.raises(ValueError, match="windows of 11 ticks are wanted; these have 10"):
        short.last(11)


def test_features_use_no_outcome_of_the_current_tick(trajectories):
    encoder = StateEncoder.fit(trajectories)
    rows, ticks = sample_ends(trajectories, 50, np.random.default_rng(1))
    window = windows(trajectories, rows, ticks)
    before = encoder.encode(window)
    for name in ("alphas", "conversions", "costs", "expected_conversions"):
        getattr(window, name)[:, -1] = 1e6
    np.testing.assert_array_equal(encoder.encode(window), before)


def test_constant_feature_keeps_unit_std(trajectories):
    one = trajectories.select(np.array([int(np.argmax(trajectories.length))]))
    encoder = StateEncoder.fit(one)
    assert encoder.std[16] == 1.0  # log C of a single advertiser
    rows, ticks = np.nonzero(one.acting)
    assert np.isfinite(encoder.encode(windows(one, rows, ticks))).all()


def test_plain_values_round_trip(trajectories):
    encoder = StateEncoder.fit(trajectories)
    back = StateEncoder.from_dict(json.loads(json.dumps(encoder.to_dict())))
    assert back.kind == encoder.kind
    np.testing.assert_array_equal(back.mean, encoder.mean)
    np.testing.assert_array_equal(back.std, encoder.std)


def test_bad_encoders_are_refused(trajectories):
    with pytest.raises(ValueError, match="unknown state kind"):
        StateEncoder.fit(trajectories, "huge")
    with pytest.raises(ValueError, match="23 finite numbers"):
        StateEncoder("extended", np.zeros(16), np.ones(16))
    with pytest.raises(ValueError, match="std must be positive"):
        StateEncoder("paper", np.zeros(16), np.zeros(16))
    with pytest.raises(ValueError, match="missing"):
        StateEncoder.from_dict({"kind": "paper"})
    with pytest.raises(ValueError, match="no tick with alpha"):
        StateEncoder.fit(trajectories.select(np.array([], dtype=int)))


def test_an_unknown_return_scale_is_refused(trajectories):
    with pytest.raises(ValueError, match="unknown return scale 'day'; one of budget, dataset"):
        return_unit(trajectories.budget, trajectories.cpa_target, "day")


def test_log_alpha_ratio_is_finite_at_zero():
    ratio = log_alpha_ratio(np.array([[0.0, 8.0, 16.0]]), np.array([8.0]))
    np.testing.assert_allclose(ratio, [[-5, 0, np.log(2)]], rtol=1e-6)

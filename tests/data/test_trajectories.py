import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_trajectories import synthetic_trajectories

from lbm_core.auction.bidder import Advertisers
from lbm_core.auction.log import PeriodLog
from lbm_core.data.trajectories import ALPHA_LIMIT, TrajectorySet, sample_ends, windows
from lbm_core.data.windows import windows_of_observation


@pytest.fixture(scope="module")
def trajectories():
    return synthetic_trajectories(30)


def make_log(period=7, dataset="dense", lengths=None):
    rng = np.random.default_rng(period)
    lengths = np.full(48, 48) if lengths is None else lengths
    table = {k: rng.uniform(1, 2, (48, 48)) for k in ("bids", "pvalues", "costs", "wins", "exposures")}
    return PeriodLog(
        dataset=dataset,
        period=period,
        scheme="data",
        engine="exact",
        advertisers=Advertisers(np.arange(48), np.full(48, 900.0), np.full(48, 8.0)),
        counts=np.full(48, 2),
        alphas=rng.uniform(1, 100, (48, 48)),
        conversions=rng.poisson(2.0, (48, 48)).astype(float),
        expected_conversions=rng.uniform(1, 2, (48, 48)),
        states=rng.uniform(0, 1, (48, 48, 16)),
        lengths=lengths,
        least_winning_cost=rng.uniform(0.1, 0.2, 96),
        **table,
    )


def test_from_logs_cuts_at_done_clips_and_drops_short():
    lengths = np.full(48, 48)
    lengths[:3] = (2, 5, 48)
    log = make_log(lengths=lengths)
    made = TrajectorySet.from_logs([log, make_log(8)])
    assert len(made) == 95  # the one of two ticks is gone
    assert made.length[0] == 5
    assert (made.alphas[0, 5:] == 0).all()
    assert (made.states[0, 5:] == 0).all()
    assert (made.conversions[0, 5:] == 0).all()
    np.testing.assert_allclose(made.costs[0, :5], log.costs[1, :5], rtol=1e-6)
    assert made.alphas.max() == pytest.approx(ALPHA_LIMIT["dense"])
    assert set(made.period) == {7, 8}


def test_from_logs_refuses_mixed_and_empty():
    with pytest.raises(ValueError, match="of the same data set"):
        TrajectorySet.from_logs([make_log(7), make_log(8, dataset="sparse")])
    with pytest.raises(ValueError, match="at least one period log"):
        TrajectorySet.from_logs([])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"budget": np.zeros(30)}, "positive"),
        ({"alphas": np.full((30, 48), np.nan)}, "alphas holds NaN"),
        ({"states": np.zeros((30, 48, 15))}, "states has shape"),
        ({"length": np.zeros(30)}, "lengths must lie"),
        ({"dataset": "medium"}, "unknown dataset"),
    ],
)
def test_bad_columns_are_refused(trajectories, change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(trajectories, **change)


def test_save_and_load_round_trip(trajectories, tmp_path):
    trajectories.save(tmp_path / "set.npz")
    back = TrajectorySet.load(tmp_path / "set.npz")
    for field in dataclasses.fields(TrajectorySet):
        np.testing.assert_array_equal(getattr(back, field.name), getattr(trajectories, field.name))
    with pytest.raises(FileNotFoundError, match="generate the data set"):
        TrajectorySet.load(tmp_path / "none.npz")
    np.savez(tmp_path / "bad.npz", dataset="dense")
    with pytest.raises(ValueError, match="column 'period' is missing"):
        TrajectorySet.load(tmp_path / "bad.npz")


def test_returns_and_totals_before(trajectories):
    t = trajectories
    np.testing.assert_allclose(t.returns_to_go[:, 0], t.conversions.sum(1))
    np.testing.assert_allclose(t.returns_to_go[:, 47], t.conversions[:, 47])
    np.testing.assert_allclose(t.returns_to_go + t.conversions_before, t.conversions.sum(1)[:, None] + 0 * t.costs)
    np.testing.assert_allclose(t.costs_before[:, 5], t.costs[:, :5].sum(1), rtol=1e-5)


def test_last_action_precedes_the_done_row(trajectories):
    early = trajectories.length < 48
    assert early.any()
    np.testing.assert_array_equal(trajectories.last_action[early], trajectories.length[early] - 2)
    np.testing.assert_array_equal(trajectories.last_action[~early], 47)


@given(seed=st.integers(0, 1000), length=st.integers(1, 20))
@settings(max_examples=25, deadline=None)
def test_windows_hold_exactly_the_last_ticks(seed, length):
    t = synthetic_trajectories(6, seed)
    rows, ticks = sample_ends(t, 8, np.random.default_rng(seed))
    w = windows(t, rows, ticks, length)
    for k, (row, tick) in enumerate(zip(rows, ticks, strict=True)):
        real = min(length, tick + 1)
        assert w.mask[k].tolist() == [False] * (length - real) + [True] * real
        span = slice(tick + 1 - real, tick + 1)
        np.testing.assert_array_equal(w.timesteps[k, length - real :], np.arange(span.start, span.stop))
        for name in ("states", "alphas", "costs", "returns_to_go", "conversions_before"):
            values = getattr(w, name)[k]
            np.testing.assert_array_equal(values[length - real :], getattr(t, name)[row, span])
            assert (values[: length - real] == 0).all()
        earlier = [t.alphas[row, tick - j] if tick >= j else t.cpa_target[row] for j in (1, 2, 3)]
        np.testing.assert_array_equal(w.previous_alphas[k, -1], earlier)


def test_sampled_ends_are_uniform_over_acting_ticks(trajectories):
    rows, ticks = sample_ends(trajectories, 20_000, np.random.default_rng(0))
    assert trajectories.acting[rows, ticks].all()
    drawn = np.bincount(rows * 48 + ticks, minlength=trajectories.acting.size)[trajectories.acting.ravel()]
    expected = 20_000 / trajectories.acting.sum()
    assert drawn.min() > 0
    assert ((drawn - expected) ** 2 / expected).mean() == pytest.approx(1.0, abs=0.2)


def test_nothing_to_sample_from(trajectories):
    for nobody in (
        trajectories.select(np.array([], dtype=int)),
        dataclasses.replace(trajectories, alphas=0 * trajectories.alphas),
    ):
        with pytest.raises(ValueError, match="no tick to sample from"):
            sample_ends(nobody, 4, np.random.default_rng(0))


def test_window_after_the_end_is_refused(trajectories):
    row = int(np.argmin(trajectories.length))
    with pytest.raises(ValueError, match="outside its"):
        windows(trajectories, [row], [trajectories.length[row]])
    with pytest.raises(ValueError, match="length of at least 1; got 0"):
        windows(trajectories, [row], [0], 0)


@pytest.mark.parametrize("tick", [0, 1, 4, 20])
def test_a_bidder_sees_the_same_window_as_in_training(trajectories, tick):
    rows = np.flatnonzero(trajectories.length > tick)
    trained = windows(trajectories, rows, np.full(len(rows), tick))
    used = windows_of_observation(
        trajectories.observation(rows, tick),
        trajectories.advertisers(rows),
        trajectories.returns_to_go[rows, : tick + 1],
    )
    for name in ("states", "mask", "timesteps", "returns_to_go", "previous_alphas", "budget", "cpa_target"):
        np.testing.assert_array_equal(getattr(used, name), getattr(trained, name), err_msg=name)
    for name in ("conversions_before", "costs_before"):
        np.testing.assert_allclose(getattr(used, name), getattr(trained, name), rtol=1e-5)
    for name in ("alphas", "conversions", "costs"):  # not known yet at the last position
        np.testing.assert_array_equal(getattr(used, name)[:, :-1], getattr(trained, name)[:, :-1])
        assert (getattr(used, name)[:, -1] == 0).all()


def test_observation_windows_check_their_input(trajectories):
    rows = np.flatnonzero(trajectories.length > 3)
    seen, who = trajectories.observation(rows, 3), trajectories.advertisers(rows)
    with pytest.raises(ValueError, match="returns_to_go"):
        windows_of_observation(seen, who, np.ones((len(rows), 3)))
    with pytest.raises(ValueError, match="NaN"):
        windows_of_observation(seen, who, np.full((len(rows), 4), np.nan))
    short = dataclasses.replace(seen, states=seen.states[:, :-1])
    with pytest.raises(ValueError, match=r"states of the observation at tick 3 has shape"):
        windows_of_observation(short, who, np.ones((len(rows), 4)))

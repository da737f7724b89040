"""The readable auction of one tick against the public environment, and its properties."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lbm_core.auction import mechanism

DATA = Path(__file__).parents[1] / "known"
BIDS = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 12), st.integers(4, 8)),
    elements=st.one_of(st.just(0.0), st.floats(0, 3), st.floats(0, 3e-4)),
)


def test_allocation_of_the_public_environment_exactly():
    with np.load(DATA / "public_auction.npz") as public:
        ours = mechanism.allocate(public["bids"], float(public["reserve"]))
        for slot in range(3):
            assert np.array_equal(ours.winners[:, slot], np.argmax(public["slot"] == slot + 1, axis=1))
        assert np.array_equal(ours.prices, public["market_prices"])
        assert np.array_equal(ours.least_winning_cost, public["least_winning_cost"])
        rows = np.arange(len(ours.winners))[:, None]
        assert np.array_equal(public["cost"][rows, ours.winners], ours.prices)


@given(BIDS)
def test_allocation_properties(bids):
    result = mechanism.allocate(bids)
    assert (np.diff(result.prices, axis=1) <= 0).all()
    assert (result.prices >= mechanism.RESERVE_PRICE).all()
    sold = result.winners >= 0
    rows = np.nonzero(sold)[0]
    assert (bids[rows, result.winners[sold]] >= result.prices[sold]).all()
    assert (result.prices[sold] > mechanism.RESERVE_PRICE).all()
    for winners in result.winners:
        real = winners[winners >= 0]
        assert len(set(real)) == len(real)


def test_what_mutants_survived():
    """The rules' numbers, the shapes, who is shown, and a chance that is at most 1."""
    assert (mechanism.EXPOSURE, mechanism.LEAST_BUDGET) == ((1.0, 0.8, 0.6), 0.1)
    rng = np.random.default_rng(0)
    limits = mechanism.truncation(6, rng)
    assert limits.shape == (6, 2)
    many = np.ones((4_000, 6))
    outcome = mechanism.run_tick(many, many * 0.1, many * 0.01, limits, np.full(6, 1e9), rng)
    np.testing.assert_allclose(outcome.shown.mean(axis=0), [1.0, 0.8, 0.48], atol=0.03)
    values = mechanism.conversion_values(np.full(500, 0.99), np.full(500, 0.3), np.tile(limits[0], (500, 1)), rng)
    assert values.max() == 1.0


def test_viewing_depth():
    depth = mechanism.viewing_depth(200_000, np.random.default_rng(0))
    np.testing.assert_allclose(np.bincount(depth, minlength=4)[1:] / 200_000, [0.2, 0.32, 0.48], atol=0.005)


def test_conversion_shift_is_the_mean_of_the_values():
    rng = np.random.default_rng(0)
    limits = mechanism.truncation(5, rng)
    draws = 100_000
    for row, shift in zip(limits, mechanism.conversion_shift(limits), strict=True):
        values = mechanism.conversion_values(np.full(draws, 0.01), np.full(draws, 0.003), np.tile(row, (draws, 1)), rng)
        assert values.mean() == pytest.approx(0.01 + 0.003 * shift, abs=4 * 0.003 / np.sqrt(draws))
        assert values.min() >= 0.01 - 0.006 * row[0]
        assert values.max() <= 0.01 + 0.006 * row[1]


@settings(max_examples=50, deadline=None)
@given(BIDS, st.integers(0, 2**32 - 1), st.data())
def test_tick_properties(bids, seed, data):
    n, m = bids.shape
    remaining = data.draw(hnp.arrays(np.float64, m, elements=st.floats(0, 4)))
    pvalues = np.full((n, m), 0.5)
    rng = np.random.default_rng(seed)
    result = mechanism.run_tick(bids, pvalues, 0.2 * pvalues, mechanism.truncation(m, rng), remaining, rng)
    assert (result.cost <= remaining).all()
    assert (result.cost[remaining < mechanism.LEAST_BUDGET] == 0).all()
    assert (result.conversions <= result.exposures).all()
    assert (result.exposures <= result.wins).all()
    assert ((result.bids == bids) | (result.bids == 0)).all()
    assert result.wins.sum() == (result.allocation.winners >= 0).sum()


def test_only_the_overspender_loses_wins():
    bids = np.tile([[5.0, 4.0, 3.0, 2.0, 1.0]], (100, 1))
    remaining = np.array([20.0, 1e9, 1e9, 1e9, 1e9])  # its 100 wins cost 400
    rng = np.random.default_rng(0)
    pvalues = np.full_like(bids, 0.1)
    result = mechanism.run_tick(bids, pvalues, 0 * pvalues, mechanism.truncation(5, rng), remaining, rng)
    assert result.wins[0] == 5
    assert result.cost[0] == 20
    assert result.wins.tolist()[1:] == [100, 100, 95, 0]
    assert (bids[:, 0] == 5.0).all()  # the caller's bids are untouched

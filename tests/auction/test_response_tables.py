import numpy as np
import pytest
from scipy.optimize import linprog
from small_period import small_period

from lbm_core.auction.bidder import Advertisers
from lbm_core.auction.controls import ConstantAlpha, OnlineLpBidder, PacingBidder, PidBidder, ScheduledAlpha
from lbm_core.auction.hindsight import best_constant, lp_bound
from lbm_core.auction.replay import replay
from lbm_core.auction.response_tables import ResponseTables, table_replay


@pytest.fixture(scope="module")
def period():
    return small_period(1, per_tick=500, budget=800.0)


@pytest.fixture(scope="module")
def tables(period):
    return ResponseTables.from_period(period)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_grid_points_are_exact(period, tables, rng):
    a = period.advertisers
    rich = Advertisers(a.index, a.budget * 1e6, a.cpa_target)
    alphas = np.tile(tables.alphas[[100, 120, 140, 160, 200, 239]][:, None], (1, 48))
    exact = replay(period, ScheduledAlpha(alphas), rng, advertisers=rich)
    table = table_replay(tables, ScheduledAlpha(alphas), advertisers=rich)
    for name in ("costs", "expected_conversions", "wins"):
        np.testing.assert_allclose(getattr(table, name), getattr(exact, name), rtol=1e-5)


@pytest.mark.parametrize(
    "bidder", [ConstantAlpha(0.6), ConstantAlpha(1.0), ConstantAlpha(1.7), PacingBidder(), PidBidder(cpa_weight=0.0)]
)
def test_close_to_the_impression_level_replay(period, tables, rng, bidder):
    exact, table = replay(period, bidder, rng), table_replay(tables, bidder)
    for name in ("costs", "expected_conversions", "wins"):
        total, reference = getattr(table, name).sum(axis=1), getattr(exact, name).sum(axis=1)
        np.testing.assert_allclose(total, reference, rtol=0.02, err_msg=name)
        assert total.mean() == pytest.approx(reference.mean(), rel=0.005)
    np.testing.assert_allclose(table.states[:, 1:, 12], exact.states[:, 1:, 12])
    np.testing.assert_allclose(table.states[:, 1:, 2].mean(), exact.states[:, 1:, 2].mean(), rtol=0.02)


def test_responses_rise_with_alpha_and_start_at_zero(tables):
    index = np.full(300, 2)
    alphas = np.concatenate([[0.0], np.geomspace(0.01, 1e4, 299)])
    for values in tables.respond(5, index, alphas):
        assert values[0] == 0
        assert (np.diff(values) >= 0).all()
        assert values[-1] > 0


def test_sampled_conversions_scatter_around_expected(tables):
    table = table_replay(tables, ConstantAlpha())
    drawn = np.mean(
        [table_replay(tables, ConstantAlpha(), np.random.default_rng(s)).conversions.sum(1) for s in range(100)], 0
    )
    expected = table.conversions.sum(axis=1)
    assert (np.abs(drawn - expected) < 4 * np.sqrt(expected / 100)).all()


def test_nobody_overspends(tables):
    result = table_replay(tables, ConstantAlpha(8.0))
    assert (result.costs.sum(axis=1) <= result.advertisers.budget + 1e-9).all()
    assert result.lengths.max() < 48


@pytest.mark.parametrize("budget", [0.2, 1.0, 50.0])
def test_lp_bound_against_a_solver(budget):
    period = small_period(3, per_tick=12, n=4, budget=60.0 * budget)
    bound = lp_bound(ResponseTables.from_period(period, bins=2000))
    who, price = period.advertisers, period.least_winning_cost
    for k in range(4):
        p = period.pvalues[k]
        solved = linprog(
            -p,
            A_ub=np.stack([price, price - who.cpa_target[k] * p]),
            b_ub=[who.budget[k], 0.0],
            bounds=(0, 1),
            method="highs",
        )
        assert bound.conversions[k] == pytest.approx(-solved.fun, rel=2e-3)
    assert (bound.cost <= who.budget * (1 + 1e-9)).all()
    assert (bound.cost <= who.cpa_target * bound.conversions * (1 + 1e-9)).all()


@pytest.mark.parametrize("factor", [0.3, 1.0, 10.0])
def test_nothing_beats_the_references(period, tables, rng, factor):
    a = period.advertisers
    who = Advertisers(a.index, a.budget * factor, a.cpa_target)
    constant, program = best_constant(tables, who), lp_bound(tables, who)
    assert (constant.score <= constant.conversions).all()
    played = table_replay(tables, ScheduledAlpha(np.tile(constant.alpha[:, None], (1, 48))), advertisers=who)
    np.testing.assert_allclose(played.summary()["expected_score"], constant.score, rtol=1e-4)
    for bidder in (*(ConstantAlpha(m) for m in (0.5, 1.0, 1.5, 2.5)), PidBidder(), PacingBidder()):
        s = replay(period, bidder, rng, advertisers=who).summary()
        if isinstance(bidder, ConstantAlpha):
            assert (s["expected_score"] <= constant.score * 1.02 + 0.5).all()
        met = s["expected_cpa_ratio"] <= 1
        assert (s["expected_conversions"] <= program.conversions * 1.005 + 0.5)[met].all()


def test_online_lp_with_the_true_day_is_near_the_program(tables):
    played = table_replay(tables, OnlineLpBidder([tables], cap=50.0)).summary()
    bound = lp_bound(tables)
    assert (played["expected_conversions"] >= 0.95 * bound.conversions).all()
    assert (played["expected_cpa_ratio"] <= 1.02).all()


def test_bad_tables_are_refused(period, tables):
    with pytest.raises(ValueError, match="at least 2 bins"):
        ResponseTables.from_period(period, bins=1)
    with pytest.raises(ValueError, match="at least one past period"):
        OnlineLpBidder([])
    with pytest.raises(ValueError, match="different grids"):
        OnlineLpBidder([tables, ResponseTables.from_period(period, bins=100)])

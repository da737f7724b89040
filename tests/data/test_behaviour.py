import dataclasses
import json

import numpy as np
import pytest

from lbm_core.auction.bidder import Observation
from lbm_core.auction.controls import ConstantAlpha
from lbm_core.auction.replay import ReplayPeriod, replay
from lbm_core.auction.traffic import Traffic
from lbm_core.data.advertisers import period_advertisers
from lbm_core.data.behaviour import (
    BehaviourParameters,
    behaviour_parameters,
    behaviour_population,
    past_traffic_share,
    plan_day,
    simulate_period,
    simulate_trajectories,
    typical_day,
)
from lbm_core.data.fidelity import moment_report, price_agreement, state_moments, tick_prices
from lbm_core.data.trajectories import TrajectorySet


@pytest.fixture(scope="module")
def dense():
    return simulate_period("dense", 14, seed=0)


@pytest.fixture(scope="module")
def sparse():
    return simulate_period("sparse", 14, seed=0)


def first_alphas(dataset, seed, parameters=None):
    who = period_advertisers(dataset, 14)
    bidder = behaviour_population(dataset, who, np.random.default_rng(seed), parameters)
    bidder.reset(who)
    states = np.zeros((48, 1, 16))
    states[:, 0, :2] = 1.0
    return bidder.act(Observation(0, states, *np.zeros((3, 48, 0)))) / who.cpa_target


def test_openings_differ_and_are_reproducible():
    openings = np.concatenate([first_alphas("dense", seed) for seed in range(10)])
    assert np.quantile(openings, 0.1) < 0.8
    assert np.quantile(openings, 0.9) > 1.6
    assert openings.min() > 0
    np.testing.assert_array_equal(first_alphas("dense", 3), first_alphas("dense", 3))


def test_shares_choose_the_kinds():
    knobs = dataclasses.replace(
        behaviour_parameters("dense"),
        share_pid=0.0,
        share_pacing=0.0,
        share_online_lp=0.0,
        share_constant=1.0,
        share_learned=0.0,
        opening=0.7,
        opening_spread=0.0,
        noise=0.0,
    )
    np.testing.assert_allclose(first_alphas("dense", 0, knobs), 0.7)


def test_a_population_bids_for_its_own_advertisers_only():
    who = period_advertisers("dense", 7)
    population = behaviour_population("dense", who, np.random.default_rng(0))
    with pytest.raises(ValueError, match="bids for 48 advertisers; got 3"):
        population.reset(who[np.arange(3)])


@pytest.mark.parametrize("dataset", ["dense", "sparse"])
def test_states_resemble_the_published_moments(dataset, request):
    # One period of 48 advertisers: sampling alone moves a moment by several percent.
    log = request.getfixturevalue(dataset)
    ratios = moment_report(state_moments(TrajectorySet.from_logs([log])), dataset).set_index("moment")["ratio"]
    assert ratios["mean"].between(0.7, 1.4).all(), ratios
    assert ratios["std"].between(0.6, 1.6).all(), ratios


def test_prices_follow_the_published_day(dense):
    agreement = price_agreement(tick_prices([dense])).set_index("period").loc[14]
    assert agreement["correlation"] > 0.7
    assert agreement["relative_error"] < 0.35


def test_trajectories_are_good_and_bad(dense):
    spent = dense.costs.sum(axis=1) / dense.advertisers.budget
    paid = dense.costs.sum(axis=1) / np.maximum(dense.expected_conversions.sum(axis=1), 1e-9)
    ratio = paid / dense.advertisers.cpa_target
    assert (dense.lengths < 48).sum() >= 3  # some exhaust their budget
    assert (spent < 0.8).sum() >= 3  # some hardly spend
    assert (ratio > 1.2).sum() >= 5  # some miss their target
    assert (ratio < 0.9).sum() >= 5  # some meet it
    assert (spent <= 1 + 1e-9).all()


def test_a_period_is_reproducible_and_seeds_matter(dense):
    again, other = simulate_period("dense", 14, seed=0), simulate_period("dense", 14, seed=1)
    np.testing.assert_array_equal(again.costs, dense.costs)
    np.testing.assert_array_equal(again.least_winning_cost, dense.least_winning_cost)
    assert not np.allclose(other.costs, dense.costs)


def test_public_scheme_runs():
    log = simulate_period("dense", 1, seed=0, scheme="public")
    assert (log.engine, log.scheme) == ("exact", "public")
    assert log.conversions.sum() > 0


def test_simulate_trajectories_stacks_periods(dense):
    made = simulate_trajectories("dense", [14, 15], seed=0)
    assert set(made.period) == {14, 15}
    one = made.select(made.period == 14)
    np.testing.assert_array_equal(one.costs, TrajectorySet.from_logs([dense]).costs)
    with pytest.raises(ValueError, match="at least one period log"):
        simulate_trajectories("dense", [], seed=0)


def test_replay_of_a_log_regenerates_its_impressions(dense):
    period = ReplayPeriod.from_log(dense)
    traffic = Traffic(14, "dense")
    for tick in (0, 30):
        span = slice(period.starts[tick], period.starts[tick + 1])
        np.testing.assert_array_equal(period.pvalues[:, span].T, traffic.tick_pvalues(tick))
        np.testing.assert_array_equal(period.least_winning_cost[span], dense.tick_prices(tick))
    result = replay(period, ConstantAlpha(), np.random.default_rng(0))
    assert 50 < result.conversions.sum(axis=1).mean() < 1000
    with pytest.raises(ValueError, match="not those of its traffic"):
        ReplayPeriod.from_log(dataclasses.replace(dense, counts=dense.counts + 1))
    with pytest.raises(ValueError, match="engine='exact'"):
        ReplayPeriod.from_log(dataclasses.replace(dense, engine="fast"))


def test_planned_day_of_the_online_lp():
    day = typical_day("dense")
    assert day.counts.sum() == pytest.approx(500_000, rel=0.01)
    # whoever bids very high wins all but what is worth next to nothing
    np.testing.assert_allclose(day.wins[:, 0, -1], day.counts, rtol=0.1)
    mean_price = day.costs[:, :, -1].sum() / day.wins[:, :, -1].sum()
    assert 0.06 < mean_price < 0.13
    doubled = plan_day("dense", 2 * Traffic(7, "dense").mean_pvalues)
    assert doubled.values[:, :, -1].sum() == pytest.approx(2 * day.values[:, :, -1].sum(), rel=0.02)
    assert past_traffic_share().sum() == pytest.approx(1)


def test_parameters_round_trip_and_are_checked(tmp_path):
    knobs = behaviour_parameters("sparse")
    (tmp_path / "knobs.json").write_text(json.dumps(dataclasses.asdict(knobs)))
    assert BehaviourParameters.load(tmp_path / "knobs.json") == knobs
    stored = json.loads((tmp_path / "knobs.json").read_text())
    (tmp_path / "more.json").write_text(json.dumps(stored | {"luck": 1.0}))
    with pytest.raises(ValueError, match="luck"):
        BehaviourParameters.load(tmp_path / "more.json")
    with pytest.raises(FileNotFoundError):
        BehaviourParameters.load(tmp_path / "none.json")
    for change, message in (
        ({"share_pid": 0.99}, "sum to 1"),
        ({"step_down": 1.3}, "step_down <= 1"),
        ({"noise": float("nan")}, "noise of BehaviourParameters"),
        ({"cpa_share": 2.0}, "cpa_share"),
    ):
        with pytest.raises(ValueError, match=message):
            dataclasses.replace(knobs, **change)

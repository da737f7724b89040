"""USCB: it finds the alpha that a made-up day rewards; environment and bidder agree; checkpoints; bad inputs."""

import random
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from known_best import known_best_observation
from small_periods import small_advertisers

from lbm_core.auction.bidder import Advertisers, Bidder, Observation
from lbm_core.auction.controls import ScheduledAlpha
from lbm_core.auction.day import play
from lbm_core.auction.environment import Day
from lbm_core.auction.replay import ReplayPeriod, replay
from lbm_core.auction.response_tables import ResponseTables, table_replay
from lbm_core.auction.state import StateBuilder
from lbm_core.baselines.config import UscbConfig
from lbm_core.baselines.uscb import UscbBidder, UscbPolicy
from lbm_core.baselines.uscb_train import UscbEnvironment, table_days, train_uscb
from lbm_core.data.features import StateEncoder
from lbm_core.data.trajectories import TrajectorySet

BEST = 0.6  # log(alpha / C)
SMALL = UscbConfig(hidden_size=32, steps=2_500, learning_starts=500, learning_rate=1e-3, gamma=0.8, tau=0.02)
ONE = Advertisers(np.array([3]), np.array([2000.0]), np.array([10.0]))


def _made_up_day(rng) -> Day:
    """5 conversions a tick at log(alpha / C) = BEST, fewer beside it, each for half the CPA target."""
    return Day(1, ONE, lambda rng: _ticks())


def _ticks():
    """Such a day, whose states tell of nothing but time and budget."""
    states, alphas, costs, conversions = np.zeros((1, 48, 16)), *np.zeros((3, 1, 48))
    builder = StateBuilder(ONE.budget)
    for tick in range(48):
        states[:, tick] = builder.state(np.full(1, 0.005), 100)
        alphas[:, tick] = yield Observation(
            tick, states[:, : tick + 1], alphas[:, :tick], conversions[:, :tick], costs[:, :tick]
        )
        conversions[:, tick] = 5 * np.exp(-2 * (np.log(alphas[:, tick] / 10.0) - BEST) ** 2)
        costs[:, tick] = 5.0 * conversions[:, tick]
        past = {name: np.zeros(1) for name in ("bid", "least_winning_cost", "pvalue", "conversion_rate", "win_rate")}
        builder.update(**past, count=100, remaining=builder.remaining - costs[:, tick])
    return SimpleNamespace(costs=costs, conversions=conversions, alphas=alphas, states=states)


def _play(bidder):
    """Costs, conversions and alphas (48,), and states (48, 16)."""
    day = play(_ticks(), ONE, bidder)
    return day.costs[0], day.conversions[0], day.alphas[0], day.states[0]


@pytest.fixture(scope="module")
def trajectories():
    """Made-up days of random bidders, for the statistics of the states."""
    rng = np.random.default_rng(0)
    days = [_play(ScheduledAlpha(10.0 * np.exp(rng.normal(0, 0.8, (1, 48))))) for _ in range(20)]
    costs, conversions, alphas, states = (np.stack(column) for column in zip(*days, strict=True))
    n = len(days)
    return TrajectorySet(
        dataset="dense",
        period=np.ones(n),
        advertiser=np.full(n, 3),
        length=np.full(n, 48),
        budget=np.full(n, 2000.0),
        cpa_target=np.full(n, 10.0),
        states=states,
        alphas=alphas,
        conversions=conversions,
        expected_conversions=conversions,
        costs=costs,
    )


@pytest.fixture(scope="module")
def policy(trajectories):
    return train_uscb(SMALL, trajectories, _made_up_day, progress=False)


def test_it_learns_to_turn_alpha_to_the_rewarded_level(policy):
    bidder = UscbBidder(policy)
    assert isinstance(bidder, Bidder)
    _, conversions, alphas, _ = _play(bidder)
    assert alphas[0] == 10.0
    assert abs(np.median(np.log(alphas[8:] / 10.0)) - BEST) < 0.3
    assert conversions.sum() > 0.85 * 48 * 5, "constant alpha = C brings 0.49 of it"
    assert policy.returns[-10:, 1].mean() > policy.returns[:10, 1].mean()


def test_environment_plays_the_day_as_the_bidder_does(policy):
    environment = UscbEnvironment(policy, _made_up_day)
    observed, _ = environment.reset(seed=0)
    _, conversions, alphas, _ = _play(UscbBidder(policy))
    total, ratios = 0.0, []
    for tick in range(1, 48):
        move = policy.moves(observed[None])
        observed, reward, over, _, info = environment.step(move.astype(np.float32))
        total += reward
        ratios.append(environment._ratio[0])
        assert over == (tick == 47)
    np.testing.assert_allclose(np.array(ratios) * 10.0, alphas[1:], rtol=1e-4)
    assert info["conversions"] == pytest.approx(conversions.sum(), rel=1e-4)
    # Rewards add up to the growth of the score: no penalty here, conversions cost half their target.
    assert total == pytest.approx(SMALL.reward_multiplier * conversions[1:].sum() * 10.0 / 2000.0, rel=1e-3)


def test_days_of_response_tables(policy):
    rng = np.random.default_rng(0)
    counts = np.full(48, 40)
    period = ReplayPeriod(
        "dense", 5, small_advertisers(), counts, rng.uniform(0, 0.01, (48, 1920)), rng.gamma(2, 0.02, 1920)
    )
    tables = ResponseTables.from_period(period)
    day = table_days([tables])(np.random.default_rng(1))
    assert day.period == 5
    played = play(day.start(np.random.default_rng(2)), day.advertiser, UscbBidder(policy))
    row = int(day.advertiser.index[0])
    again = table_replay(tables, UscbBidder(policy), np.random.default_rng(2), rows=[row])
    np.testing.assert_array_equal(played.costs, again.costs)
    np.testing.assert_array_equal(played.conversions, again.conversions)
    result = replay(period, UscbBidder(policy), np.random.default_rng(0))
    assert (result.costs.sum(axis=1) <= period.advertisers.budget + 1e-6).all()
    with pytest.raises(ValueError, match="at least one period"):
        table_days([])


def test_checkpoint_bids_the_same_and_training_is_reproducible(policy, trajectories, tmp_path):
    policy.save(tmp_path / "uscb")
    loaded = UscbPolicy.load(tmp_path / "uscb", SMALL)
    np.testing.assert_array_equal(_play(UscbBidder(loaded))[2], _play(UscbBidder(policy))[2])
    np.testing.assert_allclose(loaded.returns, policy.returns)
    with pytest.raises(ValueError, match="another seed"):
        UscbPolicy.load(tmp_path / "uscb", replace(SMALL, seed=1))
    with pytest.raises(FileNotFoundError, match="no USCB policy"):
        UscbPolicy.load(tmp_path / "nothing")
    config = replace(SMALL, steps=120, learning_starts=60)
    before = random.getstate(), torch.get_rng_state(), torch.get_num_threads()
    first, second = (train_uscb(config, trajectories, _made_up_day, progress=False) for _ in range(2))
    assert before[0] == random.getstate()
    assert torch.equal(before[1], torch.get_rng_state())
    assert before[2] == torch.get_num_threads()
    for a, b in zip(first.actor.parameters(), second.actor.parameters(), strict=True):
        assert torch.equal(a, b)
    other = train_uscb(replace(config, seed=1), trajectories, _made_up_day, progress=False)
    assert not torch.equal(first.actor[0].weight, other.actor[0].weight)


def test_at_most_a_quarter_of_a_training_is_random(trajectories):
    short = replace(SMALL, steps=120, learning_starts=30)
    quarter, more, less = (
        train_uscb(replace(short, learning_starts=n), trajectories, _made_up_day, progress=False).actor[0].weight
        for n in (30, 5_000, 10)
    )
    assert torch.equal(quarter, more)
    assert not torch.equal(quarter, less)


def test_alpha_stays_within_its_bounds(trajectories):
    policy = UscbPolicy(SMALL, StateEncoder.fit(trajectories))
    assert policy.turn(np.array([1.0, 0.1, 5.0]), np.array([9.0, -1.0, 1.0])).tolist() == [1.2, 0.1, 5.0]
    bidder = UscbBidder(policy)
    bidder.reset(Advertisers(np.arange(48), np.full(48, 2400.0), np.full(48, 10.0)))
    done = known_best_observation()
    done.alphas[:, -1] = 0.0  # an advertiser without budget; its bid does not count, but must be one
    assert (bidder.act(done) > 0).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps of UscbConfig"),
        ({"largest_move": 1.0}, "largest_move"),
        ({"lowest": 2.0}, "lowest of UscbConfig should be less than 1"),
        ({"highest": 0.5}, "highest"),
        ({"state_kind": "none"}, "state_kind"),
        ({"learning_rate": 0.0}, "learning_rate"),
    ],
)
def test_bad_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **change)


def test_another_data_set_is_refused(trajectories):
    with pytest.raises(ValueError, match="sparse data"):
        train_uscb(replace(SMALL, dataset="sparse"), trajectories, _made_up_day, progress=False)

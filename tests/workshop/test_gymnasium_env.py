"""lbm/AuctionNet-v0: both checkers, agreement with the replay and the market."""

import warnings

import numpy as np
import pytest
from small_periods import SmallTraffic, WavyBidder, invented_period, small_advertisers

from lbm_core.auction.day import play as play_day
from lbm_core.auction.day import run_day
from lbm_core.auction.market import run_market
from lbm_core.auction.replay import ReplayPeriod, replay

gymnasium = pytest.importorskip("gymnasium", reason="pip install 'lbm-companion[rl]'")

from lbm_core.auction.environment import AuctionNetEnv, Day  # noqa: E402
from lbm_core.workshop.gymnasium_env import ENVIRONMENT_ID, auctionnet, simulated_day  # noqa: E402

# The action is log(alpha / C) in natural units, not scaled to [-1, 1]: both checkers only recommend that.
UNSCALED = r".*we recommend.* a symmetric and normalized"


def small_logged_period() -> ReplayPeriod:
    traffic = SmallTraffic(7)
    log = run_market(traffic, small_advertisers(), WavyBidder(), np.random.default_rng(0))
    pvalues = np.concatenate([p for _, p, _ in traffic.ticks()]).T
    return ReplayPeriod("dense", 7, log.advertisers, log.counts, pvalues, log.least_winning_cost)


@pytest.fixture(scope="module")
def logged():
    return small_logged_period()


def small_market_day(row) -> Day:
    return simulated_day(SmallTraffic(28), small_advertisers(28), row)


def make(against, logged, **options):
    if against == "log":
        return gymnasium.make(ENVIRONMENT_ID, against="log", logs=(logged,), **options)
    return AuctionNetEnv(lambda rng: small_market_day(int(rng.integers(48))))


@pytest.mark.parametrize("against", ["log", "market"])
def test_gymnasium_checker(against, logged):
    from gymnasium.utils.env_checker import check_env

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message="(?i)" + UNSCALED)
        check_env(make(against, logged).unwrapped, skip_render_check=True)


@pytest.mark.parametrize("against", ["log", "market"])
def test_stable_baselines_checker(against, logged):
    checker = pytest.importorskip("stable_baselines3.common.env_checker", reason="pip install 'lbm-companion[rl]'")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message="(?i)" + UNSCALED)
        checker.check_env(make(against, logged), skip_render_check=True)


def play(environment, seed, action):
    observations, rewards = [environment.reset(seed=seed)[0]], []
    while True:
        observation, reward, terminated, truncated, info = environment.step(np.array([action], dtype=np.float32))
        observations.append(observation)
        rewards.append(reward)
        assert not truncated
        if terminated:
            return np.array(observations), np.array(rewards), info


class Constant:
    def __init__(self, ratio):
        self.ratio = ratio

    def reset(self, advertisers):
        self.advertisers = advertisers

    def act(self, observation):
        return self.advertisers.cpa_target * np.exp(self.ratio)


@pytest.mark.parametrize("row", [0, 17])
def test_same_day_as_the_replay(logged, row):
    environment = make("log", logged, advertisers=(row,))
    observations, rewards, info = play(environment, 3, 0.25)
    # Draw as the environment did: the day first, then the seed of its conversions.
    generator, _ = gymnasium.utils.seeding.np_random(3)
    day = environment.unwrapped._days(generator)
    expected = replay(logged, Constant(0.25), np.random.default_rng(generator.integers(2**63)), rows=[row])
    steps = len(rewards)
    assert np.array_equal(rewards, expected.conversions[0, :steps])
    assert expected.conversions[0, steps:].sum() == 0
    np.testing.assert_allclose(observations[:steps], expected.states[0, :steps], rtol=1e-6)
    assert info["cost"] == pytest.approx(expected.costs.sum())
    assert info["conversions"] == rewards.sum()
    assert info["budget_left"] == pytest.approx(1 - expected.costs.sum() / day.advertiser.budget[0])
    assert info["cpa_ratio"] == pytest.approx(float(expected.summary()["cpa_ratio"][0]))
    assert (info["advertiser"], info["period"]) == (row, 7)


def test_same_day_as_the_market():
    day = small_market_day(5)
    played = [play_day(day.start(np.random.default_rng(4)), day.advertiser, Constant(ratio)) for ratio in (0.0, 1.0)]
    again = AuctionNetEnv(lambda rng: day._replace(start=lambda _: day.start(np.random.default_rng(4))))
    _, rewards, info = play(again, 0, 0.0)
    assert np.array_equal(rewards, played[0].conversions[5, : len(rewards)])
    assert info["cost"] == pytest.approx(played[0].costs[5].sum())
    # a higher bid buys more in the first tick, same traffic and competitors
    assert played[1].costs[5, 0] > played[0].costs[5, 0]


def test_terminates_with_the_budget_and_needs_reset(logged):
    environment = make("log", logged)
    _, rewards, info = play(environment, 1, 2.0)
    assert len(rewards) < 48
    assert info["budget_left"] * info["budget"] < 0.1
    _, rewards, info = play(environment, 1, -2.0)
    assert len(rewards) == 48
    assert info["budget_left"] > 0
    with pytest.raises(RuntimeError, match="call reset"):
        environment.unwrapped.step(np.zeros(1, dtype=np.float32))
    environment.reset(seed=0)
    for bad in (np.array([np.nan]), np.array([3.0]), np.zeros(2)):
        with pytest.raises(ValueError, match="is not in Box"):
            environment.unwrapped.step(bad)


def test_resets_draw_periods_and_advertisers(logged):
    environment = make("log", logged)
    infos = [environment.reset(seed=seed)[1] for seed in range(12)]
    assert len({info["advertiser"] for info in infos}) > 5
    assert {info["cost"] for info in infos} == {0.0}
    assert {info["cpa_ratio"] for info in infos} == {0.0}
    environment.close()


def test_an_error_inside_the_period_reaches_the_player():
    def broken(tick, alphas, remaining):
        raise ArithmeticError("inside")

    one = small_advertisers()[np.array([0])]
    ticks = run_day(one, np.full(48, 1), lambda tick: np.zeros(1), broken)
    environment = AuctionNetEnv(lambda rng: Day(7, one, lambda rng: ticks))
    environment.reset(seed=0)
    with pytest.raises(ArithmeticError, match="inside"):
        environment.step(np.zeros(1, dtype=np.float32))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"against": "nobody"}, "against must be 'market' or 'log'"),
        ({"advertisers": (48,)}, "advertisers must be numbers in 0 … 47"),
        ({"advertisers": ()}, "advertisers must be numbers"),
        ({"periods": ()}, "periods must name at least one"),
        ({"max_log_ratio": 0.0}, "max_log_ratio must be a positive number"),
        ({"logs": (1,)}, "logs are for against='log'"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        auctionnet(**options)


def test_a_log_of_the_fast_engine_is_refused():
    environment = auctionnet(against="log", logs=(invented_period(engine="fast"),))
    with pytest.raises(ValueError, match="engine='fast'"):
        environment.reset(seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("against", ["market", "log"])
def test_whole_size_period(against):
    environment = gymnasium.make(ENVIRONMENT_ID, against=against, dataset="sparse", periods=(30,))
    observations, rewards, info = play(environment, 0, 0.0)
    assert observations[0, 13] > 1000  # impressions
    assert len(observations) == len(rewards) + 1
    assert 0 < info["cost"] <= info["budget"] * (1 + 1e-12)  # costs of 48 ticks, summed

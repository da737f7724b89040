"""lbm/AuctionNet-v0: both checkers, agreement with the replay and the market, threads that end; the Minari export."""

import gc
import threading
import time
import warnings

import numpy as np
import pytest
from small_periods import SmallTraffic, WavyBidder, invented_period, small_advertisers

from lbm_core.auction.market import run_market
from lbm_core.auction.replay import ReplayPeriod, replay
from lbm_core.data.trajectories import TrajectorySet

gymnasium = pytest.importorskip("gymnasium", reason="pip install 'lbm-companion[rl]'")

from lbm_core.auction.environment import AuctionNetEnv, Day, LockStep  # noqa: E402
from lbm_core.data.environment import ENVIRONMENT_ID, _market_day, auctionnet  # noqa: E402

# The action is log(alpha / C) in natural units, not scaled to [-1, 1]: both checkers only recommend that.
UNSCALED = r".*we recommend.* a symmetric and normalized"


def small_logged_period() -> ReplayPeriod:
    traffic = SmallTraffic(7)
    log = run_market(traffic, small_advertisers(), WavyBidder(), np.random.default_rng(0))
    pvalues = np.concatenate([p for _, p, _ in traffic.ticks()]).T
    return ReplayPeriod.from_arrays("dense", 7, log.advertisers, log.counts, pvalues, log.least_winning_cost)


@pytest.fixture(scope="module")
def logged():
    return small_logged_period()


def make(against, logged, **options):
    if against == "log":
        return gymnasium.make(ENVIRONMENT_ID, against="log", logs=(logged,), **options)
    small = {"traffic": SmallTraffic, "bidders": lambda dataset, period: small_advertisers(period, dataset)}
    return gymnasium.make(ENVIRONMENT_ID, **small, **options)


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
    day = _market_day("dense", SmallTraffic(28), small_advertisers(28), 5, "exact")
    costs, conversions = day.run(Constant(0.0), np.random.default_rng(4))
    again = AuctionNetEnv(lambda rng: Day(28, day.advertiser, lambda b, _: day.run(b, np.random.default_rng(4))))
    _, rewards, info = play(again, 0, 0.0)
    assert np.array_equal(rewards, conversions[: len(rewards)])
    assert info["cost"] == pytest.approx(costs.sum())
    more = day.run(Constant(1.0), np.random.default_rng(4))[0]
    assert more[0] > costs[0]  # a higher bid buys more in the first tick, same traffic and competitors


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


def test_no_threads_are_left(logged):
    def settled():
        deadline = time.monotonic() + 5
        while threading.active_count() > before and time.monotonic() < deadline:
            time.sleep(0.01)
        return threading.active_count() <= before

    before = threading.active_count()
    environment = make("log", logged)
    for seed in range(5):
        environment.reset(seed=seed)
        environment.step(np.zeros(1, dtype=np.float32))
    environment.close()
    assert settled()
    environment.reset(seed=9)
    del environment
    gc.collect()
    assert settled()


def test_an_error_inside_the_period_reaches_the_player():
    def broken(bidder):
        bidder.act("first question")
        raise ArithmeticError("inside")

    play = LockStep(broken)
    assert play.question() == "first question"
    play.answer(np.ones(1))
    with pytest.raises(ArithmeticError, match="inside"):
        play.question()


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
    with pytest.raises(ValueError, match="log of the fast engine"):
        environment.reset(seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("against", ["market", "log"])
def test_whole_size_period(against):
    environment = gymnasium.make(ENVIRONMENT_ID, against=against, dataset="sparse", periods=(30,))
    observations, rewards, info = play(environment, 0, 0.0)
    assert observations[0, 13] > 1000  # impressions
    assert len(observations) == len(rewards) + 1
    assert 0 < info["cost"] <= info["budget"] * (1 + 1e-12)  # costs of 48 ticks, summed


def test_minari_export(tmp_path, monkeypatch):
    minari = pytest.importorskip("minari", reason="pip install 'lbm-companion[rl]'")
    from lbm_core.workshop.export import export_minari

    trajectories = TrajectorySet.from_logs([invented_period(period=30)])
    alphas = trajectories.alphas.copy()
    ends_early = trajectories.length < 48
    alphas[ends_early, trajectories.length[ends_early] - 1] = 0
    trajectories = TrajectorySet(**{**vars(trajectories), "alphas": alphas})
    path = export_minari(tmp_path, trajectories)
    assert path == tmp_path / "lbm" / "auctionnet-dense-v0"
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    dataset = minari.load_dataset("lbm/auctionnet-dense-v0")
    assert dataset.total_episodes == len(trajectories)
    assert dataset.total_steps == (trajectories.length - ends_early).sum()
    metadata = list(dataset.storage.get_episode_metadata(range(len(trajectories))))
    for row, episode in enumerate(dataset.iterate_episodes()):
        steps = len(episode.rewards)
        target = trajectories.cpa_target[row]
        np.testing.assert_allclose(np.exp(episode.actions[:, 0]) * target, trajectories.alphas[row, :steps], rtol=1e-5)
        assert np.array_equal(episode.observations[:steps], trajectories.states[row, :steps])
        assert np.array_equal(episode.rewards, trajectories.conversions[row, :steps])
        np.testing.assert_allclose(episode.infos["cost"][1:], trajectories.costs[row, :steps])
        assert episode.terminations.tolist() == [False] * (steps - 1) + [True]
        assert metadata[row]["budget"] == trajectories.budget[row]
        if ends_early[row]:
            assert np.array_equal(episode.observations[steps], trajectories.states[row, steps])
        else:
            assert episode.observations[steps, 0] == 0
    with pytest.raises(FileExistsError, match="is there already"):
        export_minari(tmp_path, trajectories)
    with pytest.raises(ValueError, match="takes 1 to"):
        export_minari(tmp_path / "x", trajectories.select(np.zeros(0, dtype=int)))
    monkeypatch.chdir(tmp_path)
    assert export_minari("relative", trajectories) == tmp_path / "relative" / "lbm" / "auctionnet-dense-v0"

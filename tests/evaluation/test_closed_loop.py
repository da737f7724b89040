"""Closed loop: the logged market when nobody changes, paired competitors, and how it disagrees with the replay."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
from small_period import small_period

from lbm_core.auction.controls import ConstantAlpha, PacingBidder
from lbm_core.auction.day import beside, play
from lbm_core.data.behaviour import populated_market, simulate_period
from lbm_core.evaluation.closed_loop import closed_loop, disagreement, groups, logged_rows
from lbm_core.evaluation.runner import evaluate, spread_rows

BIDDERS = {"one": lambda: ConstantAlpha(1.0), "pacing": lambda: PacingBidder(cap=1.2)}
MARKET = ("dense", 7, 0)


def market(contender=None, rows=(), spy=lambda population: population):
    """A market of the behaviour population in which a contender bids for some advertisers."""
    ticks, who, population = populated_market(*MARKET)
    if contender is None:
        return play(ticks, who, spy(population))
    rows = np.asarray(rows, dtype=int)
    return play(beside(ticks, who, spy(population), rows), who[rows], contender)


class Spy:
    """Notes what a bidder was shown and chose."""

    def __init__(self, bidder):
        self.bidder, self.seen, self.chosen = bidder, [], []

    def reset(self, advertisers):
        self.advertisers = advertisers
        self.bidder.reset(advertisers)

    def act(self, observation):
        self.seen.append(observation)
        self.chosen.append(np.array(self.bidder.act(observation)))
        return self.chosen[-1]


class Repeat:
    """Plays a table of alphas, (48, 48) by advertiser and tick."""

    def __init__(self, alphas):
        self.alphas = alphas

    def reset(self, advertisers):
        self.index = advertisers.index

    def act(self, observation):
        return self.alphas[self.index, observation.tick]


@pytest.fixture(scope="module")
def logged():
    """A logged market (exact) and the alphas that its bidders asked for."""
    spies = []
    log = market(spy=lambda population: spies.append(Spy(population)) or spies[-1])
    return log, np.stack(spies[0].chosen, axis=1)


@pytest.fixture(scope="module")
def frame():
    return closed_loop(BIDDERS, "dense", [7, 8], [0], rows=spread_rows(6), at_once=6)


def _same(log, other):
    for name in ("alphas", "costs", "conversions", "expected_conversions", "wins", "states", "least_winning_cost"):
        np.testing.assert_array_equal(getattr(log, name), getattr(other, name))


def test_nobody_replaced_is_the_logged_market(logged):
    log, _ = logged
    _same(simulate_period(*MARKET), log)
    _same(market(ConstantAlpha(), []), log)


@pytest.mark.parametrize("rows", [[3], range(5, 48, 8), range(48)], ids=["one", "six", "all"])
def test_the_replaced_bidders_own_alphas_give_the_logged_market(logged, rows):
    log, alphas = logged
    _same(market(Repeat(alphas), rows), log)


def test_repeating_the_log_gets_what_the_log_got(logged):
    log, alphas = logged
    rows = [40, 3, 17]
    repeated = closed_loop({"behaviour": lambda: Repeat(alphas)}, "dense", [7], [0], rows=rows, at_once=2)
    reference = logged_rows(log, 0, rows=rows)
    pd.testing.assert_frame_equal(repeated, reference)
    assert reference["advertiser"].tolist() == rows
    np.testing.assert_allclose(reference["cost"], log.costs[rows].sum(axis=1))


def test_competitors_are_the_same_for_every_method_until_they_react():
    first, noise, populations = [], [], []
    for multiple in (0.0, 1.0, 3.0):
        market(
            ConstantAlpha(multiple),
            [4, 12, 47],
            spy=lambda population: populations.append(Spy(population)) or populations[-1],
        )
        first.append(populations[-1].chosen[0])
        noise.append(populations[-1].bidder.rng.bit_generator.state)
    np.testing.assert_array_equal(first[0], first[1])
    np.testing.assert_array_equal(first[0], first[2])
    assert noise[0] == noise[1] == noise[2], "the same noise was drawn to the end"


def test_competitors_react_and_prices_change():
    rows = range(0, 48, 8)
    others = np.setdiff1d(np.arange(48), rows)
    logs = [market(ConstantAlpha(multiple), rows) for multiple in (0.0, 3.0)]
    assert logs[0].least_winning_cost.mean() < logs[1].least_winning_cost.mean()
    assert not np.array_equal(logs[0].alphas[others, 10], logs[1].alphas[others, 10])
    assert logs[0].costs[others].sum() > logs[1].costs[others].sum()


def test_the_contender_sees_its_own_rows_only():
    spies = []

    def spied():
        spies.append(Spy(ConstantAlpha(1.3)))
        return spies[-1]

    closed_loop({"spy": spied}, "dense", [7], [0], rows=[9, 2], at_once=2)
    spy = spies[0]
    log = market(ConstantAlpha(1.3), [9, 2])
    assert len(spies) == 1
    assert spy.advertisers.index.tolist() == [9, 2]
    np.testing.assert_array_equal(spy.advertisers.budget, log.advertisers.budget[[9, 2]])
    assert [len(observation) for observation in spy.seen] == [2] * 48
    np.testing.assert_array_equal(spy.seen[0].states, log.states[[9, 2], :1])
    np.testing.assert_array_equal(spy.seen[-1].states, log.states[[9, 2]])


@pytest.mark.parametrize(("n", "at_once"), [(48, 1), (48, 6), (48, 48), (48, 5), (6, 6), (6, 48), (7, 3)])
def test_groups_cover_every_advertiser_once(n, at_once):
    rows = spread_rows(n)
    parts = groups(rows, at_once)
    assert np.array_equal(np.sort(np.concatenate(parts)), rows)
    assert max(map(len, parts)) <= at_once
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    if n == 48 and at_once == 6:
        assert all(sorted(part // 8) == [0, 1, 2, 3, 4, 5] for part in parts), "one of each category"


def test_rows_are_those_of_the_replay(frame):
    replayed = evaluate(BIDDERS, [small_period()], [0], progress=False)
    assert frame.columns.tolist() == replayed.columns.tolist()
    assert len(frame) == 2 * 2 * 6
    assert not frame.duplicated(["method", "period", "seed", "advertiser"]).any()
    assert frame.groupby("method")["advertiser"].unique().map(list).tolist() == [spread_rows(6).tolist()] * 2


def test_nobody_overspends(frame):
    assert (frame["budget_utilization"] <= 1 + 1e-9).all()
    assert (frame["score"] <= frame["score_beta1"] + 1e-9).all()
    assert (frame["score_beta1"] <= frame["conversions"] + 1e-9).all()
    assert (frame["conversions"] > 0).any()


def test_methods_do_not_depend_on_what_else_is_evaluated(frame):
    alone = closed_loop({"pacing": BIDDERS["pacing"]}, "dense", [8], [0], rows=spread_rows(6), at_once=6)
    both = frame.query("method == 'pacing' and period == 8").reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, both)


def test_one_at_a_time_is_a_market_each():
    both = closed_loop({"one": BIDDERS["one"]}, "dense", [7], [0], rows=[0, 30])
    for row in (0, 30):
        alone = logged_rows(market(ConstantAlpha(1.0), [row]), 0, rows=[row], method="one")
        pd.testing.assert_frame_equal(both[both["advertiser"] == row].reset_index(drop=True), alone)


def test_bad_calls_are_refused():
    def call(bidders=BIDDERS, periods=(7,), seeds=(0,), **options):
        return closed_loop(bidders, "dense", periods, seeds, **options)

    for options, message in (
        ({"bidders": {}}, "distinct bidders"),
        ({"periods": []}, "distinct periods"),
        ({"periods": [7, 7]}, "distinct periods"),
        ({"seeds": []}, "distinct seeds"),
        ({"seeds": [1, 1]}, "distinct seeds"),
        ({"rows": []}, "distinct advertisers"),
        ({"rows": [1, 1]}, "distinct advertisers"),
        ({"rows": [48]}, "distinct advertisers"),
        ({"rows": [-1]}, "distinct advertisers"),
        ({"at_once": 0}, "at_once"),
        ({"at_once": 49}, "at_once"),
        ({"at_once": 1.5}, "at_once"),
    ):
        with pytest.raises(ValueError, match=message):
            call(**options)


def test_bad_alphas_are_refused():
    class Broken:
        def __init__(self, alphas):
            self.alphas = alphas

        def reset(self, advertisers):
            pass

        def act(self, observation):
            return self.alphas

    for alphas, message in (
        (np.array([np.nan, 1.0]), "finite"),
        (np.array([-1.0, 1.0]), "finite and >= 0"),
        (np.array([1.0]), r"shape \(1,\) at tick 0; expected \(2,\)"),
        (1.0, r"shape \(\)"),
    ):
        with pytest.raises(ValueError, match=message):
            closed_loop({"broken": partial(Broken, alphas)}, "dense", [7], [0], rows=[0, 1], at_once=2)


def _frame(levels, periods, seeds=(0,), advertisers=range(4)):
    rng = np.random.default_rng(0)
    day = {period: rng.normal() for period in periods}
    rows = [
        {
            "method": method,
            "period": period,
            "seed": seed,
            "advertiser": who,
            "score": level + day[period] + 0.01 * rng.normal(),
            "cost": 10.0,
            "cpa_ratio": 10 / level,
            "conversions": level / 2,
            "expected_conversions": level / 2,
            "cpa_target": 2.0,
        }
        for method, level in levels.items()
        for period in periods
        for seed in seeds
        for who in advertisers
    ]
    return pd.DataFrame(rows)


def compare(replayed, closed, **options):
    return disagreement(replayed, closed, np.random.default_rng(0), **options)


def test_disagreement_compares_what_both_protocols_share():
    replayed = _frame({"a": 10, "b": 20, "c": 30, "replay only": 5}, range(7, 19), seeds=(0, 1))
    closed = _frame({"behaviour": 1, "a": 12, "b": 25, "c": 22}, range(7, 13))
    table = compare(replayed, closed, metrics=["score", "group_cpa_ratio"])
    assert table["method"].tolist() == ["a", "b", "c"] * 2
    score = table[table["metric"] == "score"].set_index("method")
    np.testing.assert_allclose(score["difference"], [2, 5, -8], atol=0.05)
    np.testing.assert_allclose(score["difference"], score["closed_loop"] - score["replay"])
    assert (score["low"] < score["difference"]).all()
    assert (score["difference"] < score["high"]).all()
    assert score["verdict"].tolist() == ["above", "above", "below"]
    assert (score["periods"] == 6).all(), "days that only the replay met are left out"
    assert score["replay_rank"].tolist() == [3, 2, 1]
    assert score["closed_loop_rank"].tolist() == [3, 1, 2]
    ratio = table[table["metric"] == "group_cpa_ratio"].set_index("method")
    assert ratio["replay_rank"].tolist() == [3, 2, 1], "a low ratio is a good one"
    np.testing.assert_allclose(ratio["replay"], [10 / 10, 10 / 20, 10 / 30])
    once = [frame.assign(train_seed=0, weights="0123456789") for frame in (replayed, closed)]
    assert (compare(*once, metrics=["score"])["verdict"] == "open").all(), "one training decides nothing"
    with pytest.raises(ValueError, match="two models under one name"):
        compare(once[0], once[1].assign(weights="9876543210"), metrics=["score"])


def test_disagreement_compares_a_method_on_its_own_advertisers():
    replayed = _frame({"a": 10, "b": 20}, range(7, 13)).assign(advertiser=0)
    replayed = pd.concat([replayed, replayed.assign(advertiser=1, score=replayed["score"] + 100)])
    closed = replayed[(replayed["method"] == "b") | (replayed["advertiser"] == 0)]  # "a" met one advertiser only
    table = compare(replayed, closed, metrics=["score"]).set_index("method")
    np.testing.assert_allclose(table["difference"], 0, atol=1e-9)


def test_disagreement_needs_something_to_compare():
    one = _frame({"a": 10}, [7, 8])
    few = compare(one, one, metrics=["score"])
    assert few["low"].isna().all(), "no interval of two days"
    assert few["verdict"].tolist() == ["open"]
    with pytest.raises(ValueError, match="share no method"):
        compare(one, _frame({"b": 10}, [7]), metrics=["score"])
    with pytest.raises(ValueError, match="share no period"):
        compare(one, _frame({"a": 10}, [9]), metrics=["score"])
    with pytest.raises(ValueError, match="training seed"):
        compare(one.assign(train_seed=1), one.assign(train_seed=2), metrics=["score"])

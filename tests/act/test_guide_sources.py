"""Who may lead LBM-Act: what each guide says, how often, and how far it is followed."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from small_period import small_period

from lbm_core.act.config import ActConfig
from lbm_core.act.decide import LBMActBidder, decide
from lbm_core.act.dual_embedding import LBMAct
from lbm_core.act.following import following_rate, instructed_moves
from lbm_core.act.guide_sources import (
    Oracle,
    OracleBidder,
    constant,
    cumulative_rule,
    every,
    random_directions,
    spend_rate_rule,
    until,
)
from lbm_core.act.guides import DECREASE, FIRST, INCREASE, UNCERTAIN, directions
from lbm_core.auction.bidder import Advertisers, Observation
from lbm_core.auction.controls import ConstantAlpha, ScheduledAlpha
from lbm_core.auction.hindsight import best_constant
from lbm_core.auction.response_tables import ResponseTables, table_replay
from lbm_core.baselines.critic_search import CriticSearch, ReplayQ, ReplayQBidder
from lbm_core.data.trajectories import windows
from lbm_core.evaluation.runner import Foreseeing, evaluate
from lbm_core.think.delay import mistaken

WHO = Advertisers(np.arange(3), np.full(3, 480.0), np.full(3, 8.0))


def observed(costs, alphas=8.0, conversions=0.0) -> Observation:
    """Three advertisers after ticks of the same spending each; alphas and conversions as given."""
    costs = np.asarray(costs, dtype=float)
    tick = costs.shape[1]
    states = np.zeros((3, tick + 1, 16))
    states[:, :, 1] = 1 - np.pad(np.cumsum(costs, axis=1), ((0, 0), (1, 0))) / 480.0  # budget left
    shape = (3, tick)
    return Observation(
        tick, states, np.broadcast_to(alphas, shape), np.broadcast_to(conversions, shape).astype(float), costs
    )


# Three advertisers: too slow, on plan, too fast, after four ticks of a plan of 10 each.
PACES = np.repeat([[2.0], [10.0], [30.0]], 4, axis=1)


def test_the_rule_follows_the_spend_rate_within_its_band():
    rule = spend_rate_rule()
    assert rule(observed(PACES), WHO) == [INCREASE, UNCERTAIN, DECREASE]
    assert rule(observed(PACES, alphas=8 * 1.25), WHO) == [UNCERTAIN, UNCERTAIN, DECREASE], "no higher than the band"
    assert rule(observed(PACES, alphas=8 * 0.48), WHO) == [INCREASE, UNCERTAIN, UNCERTAIN], "no lower"
    assert rule(observed(PACES, alphas=16.0), WHO) == [DECREASE] * 3, "back into the band"
    assert rule(observed(PACES, alphas=2.0), WHO) == [INCREASE] * 3


def test_the_cumulative_rule_winds_up_where_the_spend_rate_does_not():
    costs = np.zeros((3, 24))
    costs[:, 12:] = [[16.0], [16.0], [25.0]]  # half a day lost; now faster than what is left allows, but for the first
    seen = observed(costs, conversions=4.0)
    assert cumulative_rule()(seen, WHO) == [INCREASE, INCREASE, DECREASE]
    assert spend_rate_rule()(seen, WHO)[:2] == [DECREASE, DECREASE]
    assert cumulative_rule()(observed(PACES), WHO) == [DECREASE] * 3, "no conversion yet: the target is missed"


def test_simple_sources():
    seen = observed(np.full((3, 6), 10.0))
    assert constant(1)(seen, WHO) == [INCREASE] * 3
    with pytest.raises(ValueError, match="direction"):
        constant(2)
    many = Advertisers(np.arange(48), np.full(48, 480.0), np.full(48, 8.0))
    day = [random_directions(1)(replace(seen, tick=tick), many) for tick in range(1, 40)]
    ups = np.mean([text == INCREASE for texts in day for text in texts])
    assert 0.45 < ups < 0.55
    assert {text for texts in day for text in texts} == {INCREASE, DECREASE}
    assert random_directions(1)(replace(seen, tick=1), many[np.array([7, 3])]) == [day[0][7], day[0][3]]
    assert random_directions(2)(replace(seen, tick=1), many) != day[0]
    thinned = every(3, constant(-1))
    assert [thinned(replace(seen, tick=tick), WHO)[0] for tick in (1, 2, 3, 4)] == [
        UNCERTAIN,
        UNCERTAIN,
        DECREASE,
        UNCERTAIN,
    ]
    with pytest.raises(ValueError, match="got 0"):
        every(0, constant(1))


def test_a_coin_of_given_shares():
    who, source, said = Advertisers(np.arange(48), np.full(48, 100.0), np.full(48, 8.0)), random_directions, []
    for tick in range(1, 13):
        past = np.ones((48, tick))
        observation = Observation(tick, np.zeros((48, tick + 1, 16)), past, past, past)
        said += directions(source(0, (0.1, 0.7, 0.2))(observation, who))
        assert said[-48:] == directions(source(0, (0.1, 0.7, 0.2))(observation, who)), "the same in every run"
    assert [np.mean(np.array(said) == d) for d in (-1, 0, 1)] == pytest.approx([0.1, 0.7, 0.2], abs=0.06)
    with pytest.raises(ValueError, match="sum to 1"):
        random_directions(0, (0.5, 0.5, 0.5))


def test_a_level_ends_an_instruction():
    ratios = np.ones((3, 6))
    ratios[:, -1] = 0.7, 1.0, 1.25
    seen = observed(np.full((3, 6), 10.0), alphas=ratios * WHO.cpa_target[:, None])
    assert until(1.2, constant(1))(seen, WHO) == [INCREASE, INCREASE, UNCERTAIN]
    assert until(1.2, constant(-1))(seen, WHO) == [UNCERTAIN, DECREASE, DECREASE]
    assert until(1.5, constant(-1))(seen, WHO) == [DECREASE] * 3
    assert until(1.2, constant(0))(seen, WHO) == [UNCERTAIN] * 3
    with pytest.raises(ValueError, match="factor above 1"):
        until(1.0, constant(1))


def test_a_critics_guide_names_the_best_multiple(days):
    class Prefers:
        config = ActConfig()

        def q(self, window, candidates):
            wanted = window.cpa_target * np.array([2.0, 1.0, 0.5])
            return -np.abs(np.log(candidates / wanted[:, None]))

    assert CriticSearch(Prefers())(observed(PACES), WHO) == [INCREASE, UNCERTAIN, DECREASE]


def test_the_oracle_points_at_the_best_constant_of_the_replayed_day(make):
    period = small_period()
    oracle = Oracle()
    n = len(period.advertisers)
    with pytest.raises(RuntimeError, match="replayed days only"):
        oracle(observed(PACES), WHO)
    tables = ResponseTables.from_period(period)
    oracle.foresee(tables)
    best = best_constant(tables, period.advertisers).alpha
    for factor, expected in ((0.5, INCREASE), (1.001, UNCERTAIN), (2.0, DECREASE)):
        blank = np.zeros((n, 1))
        seen = Observation(1, np.zeros((n, 2, 16)), factor * best[:, None], blank, blank)
        assert oracle(seen, period.advertisers) == [expected] * n
    bidder = OracleBidder(make(), Oracle())
    assert isinstance(bidder, Foreseeing)
    assert not isinstance(LBMActBidder(make()), Foreseeing)
    frame = evaluate({"oracle": lambda: bidder}, [period], [0], progress=False)
    assert len(frame) == n


def test_replay_q_says_what_the_rest_of_the_day_would_bring(make):
    period = small_period(budget=300.0)
    tables, who = ResponseTables.from_period(period), period.advertisers
    guide = ReplayQ("dense")
    with pytest.raises(RuntimeError, match="replayed days only"):
        guide(observed(PACES), WHO)
    guide.foresee(tables)
    alphas = np.repeat(who.cpa_target[:, None] * np.linspace(0.6, 1.6, len(who))[:, None], 20, axis=1)
    day = table_replay(tables, ScheduledAlpha(np.pad(alphas, ((0, 0), (0, 28)), mode="edge")))
    seen = Observation(20, day.states[:, :21], alphas, day.conversions[:, :20], day.costs[:, :20])
    values = []
    for multiple in guide.multiples:
        script = np.concatenate([alphas, np.repeat(multiple * alphas[:, -1:], 28, axis=1)], axis=1)
        values.append(table_replay(tables, ScheduledAlpha(script)).summary()["expected_score"])
    np.testing.assert_allclose(guide.q(seen, who, alphas[:, -1:] * guide.multiples), np.transpose(values), rtol=1e-9)
    words = [(DECREASE, UNCERTAIN, INCREASE)[k] for k in np.argmax(values, axis=0)]
    assert guide(seen, who) == words
    assert len(set(words)) > 1
    poor = replace(seen, costs=seen.costs + 0.4 * who.budget[:, None] / 20)
    assert not np.allclose(guide.q(poor, who, alphas[:, -1:]), values[1]), "what it has spent itself counts"
    bidders = {"LBM-Act": OracleBidder(make(), ReplayQ("dense")), "alone": ReplayQBidder("dense")}
    assert all(isinstance(bidder, Foreseeing) for bidder in bidders.values())
    factories = {"constant": ConstantAlpha, **{name: lambda one=one: one for name, one in bidders.items()}}
    means = evaluate(factories, [period], [0], progress=False).groupby("method")["expected_score"].mean()
    hindsight = best_constant(tables).score.mean()
    assert means["constant"] < means["alone"] < 1.05 * hindsight
    assert means["alone"] > 0.9 * hindsight


def test_guide_scale_multiplies_instructed_moves_only(make, days):
    model = make()
    full = np.flatnonzero(days.length == 48)
    window = windows(days, full, np.full(len(full), 20))
    before = window.previous_alphas[:, -1, 0]

    def moves(text, **options):
        return np.log(decide(model, window, [text] * len(window), **options) / before)

    np.testing.assert_allclose(moves(INCREASE, guide_scale=0.5), 0.5 * moves(INCREASE), rtol=1e-4, atol=1e-6)
    for text in (UNCERTAIN, FIRST):
        np.testing.assert_array_equal(moves(text, guide_scale=0.5), moves(text))
    loud = make(guide_scale=2.0)
    np.testing.assert_allclose(
        decide(loud, window, [INCREASE] * len(window)), decide(model, window, [INCREASE] * len(window), guide_scale=2.0)
    )
    assert LBMActBidder(loud).guide_scale == 2.0
    with pytest.raises(ValueError, match="guide_scale"):
        LBMActBidder(model, guide_scale=0.0)


def test_a_leak_lets_a_share_of_the_last_level_go(make, days):
    model = make()
    full = np.flatnonzero(days.length == 48)
    window, words = windows(days, full, np.full(len(full), 20)), [INCREASE] * len(full)
    level = np.log(window.previous_alphas[:, -1, 0] / window.cpa_target)
    kept, leaking = decide(model, window, words), decide(make(leak=0.1), window, words)
    np.testing.assert_allclose(np.log(leaking / kept), -0.1 * level, atol=1e-5)
    np.testing.assert_allclose(decide(model, window, words, leak=0.1), leaking)
    assert LBMActBidder(make(leak=0.1)).leak == 0.1
    with pytest.raises(ValueError, match="leak"):
        LBMActBidder(model, leak=1.5)


def test_an_offset_is_taken_off_where_nobody_instructs(make, days, tmp_path):
    model = make()
    window = windows(days, np.arange(3), np.array([5, 9, 20]))
    words = [INCREASE, UNCERTAIN, DECREASE]
    before = decide(model, window, words)
    model.offset = 0.05
    np.testing.assert_allclose(np.log(decide(model, window, words) / before), [0, -0.05, 0], atol=1e-6)
    model.save(tmp_path)
    assert LBMAct.load(tmp_path).offset == 0.05


def test_drift_is_the_mean_move_that_nobody_instructed(make, days):
    full = np.flatnonzero(days.length == 48)
    bidder = LBMActBidder(make(), lambda observation, who: [UNCERTAIN, INCREASE] * (len(who) // 2) + [UNCERTAIN])
    full = full[: len(full) - (len(full) + 1) % 2]  # an odd number
    bidder.reset(days.advertisers(full))
    assert np.isnan(bidder.drift)
    moves = []
    for tick in (3, 4):
        observation = days.observation(full, tick)
        moves.append(np.log(bidder.act(observation) / observation.alphas[:, -1])[::2])
    assert bidder.drift == pytest.approx(47 * np.mean(moves))


def test_following_rate(make, days):
    frame = following_rate([0.1, -0.2, 0.3, -0.4, 9.0], [1, 1, 1, -1, 0]).set_index("direction")
    assert frame.loc["increase", "followed"] == pytest.approx(2 / 3)
    assert frame.loc["increase", "median_move"] == pytest.approx(0.1)
    assert frame.loc["decrease", "mean_move"] == pytest.approx(0.4)
    assert frame.loc["all", "decisions"] == 4
    assert following_rate([0.1], [1])["direction"].tolist() == ["increase", "all"]
    with pytest.raises(ValueError, match="nobody"):
        following_rate([0.1], [0])
    with pytest.raises(ValueError, match="as many directions"):
        following_rate([0.1, 0.2], [1])
    window = windows(days, np.arange(3), np.full(3, 2))
    moved = instructed_moves(make(), window)
    assert isinstance(moved, pd.DataFrame)
    assert len(moved) == 9
    assert np.isfinite(moved["log_move"]).all()


def test_mistaken_words_are_drawn_from_all_three_and_the_rest_is_the_sources():
    asked = observed(PACES), WHO
    assert mistaken(constant(1), 0.0)(*asked) == [INCREASE] * 3
    drawn = [word for seed in range(400) for word in mistaken(constant(1), 0.6, seed)(*asked)]
    assert np.mean([word == INCREASE for word in drawn]) == pytest.approx(1 - 0.6 * 2 / 3, abs=0.05)
    assert {*drawn} == {INCREASE, DECREASE, UNCERTAIN}
    assert mistaken(constant(1), 0.6, 3)(*asked) == mistaken(constant(1), 0.6, 3)(*asked), "the same in every run"

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from small_period import small_period

from lbm_core.auction.bidder import Advertisers
from lbm_core.auction.controls import ConstantAlpha, PidBidder, ScheduledAlpha
from lbm_core.auction.mechanism import LEAST_BUDGET
from lbm_core.auction.replay import ReplayPeriod, replay


@pytest.fixture(scope="module")
def period():
    return small_period()


def rich(period, factor=1e6):
    a = period.advertisers
    return Advertisers(a.index, a.budget * factor, a.cpa_target)


def run(period, bidder, seed=0, **kwargs):
    return replay(period, bidder, np.random.default_rng(seed), **kwargs)


@pytest.mark.parametrize("multiplier", [0.3, 1.0, 2.0])
def test_against_plain_numpy(period, multiplier):
    result = run(period, ConstantAlpha(multiplier), advertisers=rich(period))
    who = period.advertisers
    for k in range(len(who)):
        won = multiplier * who.cpa_target[k] * period.pvalues[k] >= period.least_winning_cost
        for values, per_impression in (
            (result.costs, period.least_winning_cost),
            (result.expected_conversions, period.pvalues[k]),
            (result.wins, np.ones(len(won))),
        ):
            by_tick = np.add.reduceat(per_impression * won, period.starts[:-1])
            np.testing.assert_allclose(values[k], by_tick, rtol=1e-12)


schedules = st.integers(0, 10_000).map(lambda s: np.random.default_rng(s).gamma(2.0, 5.0, (6, 48)))


@given(
    lower=schedules, factor=st.floats(1.0, 4.0), seed=st.integers(0, 100), budget=st.sampled_from([2.0, 20.0, 200.0])
)
@settings(max_examples=60, deadline=None)
def test_spending_never_falls_when_alpha_rises(lower, factor, seed, budget):
    period = small_period(seed % 5, per_tick=20, budget=budget)
    rng = np.random.default_rng(seed)
    higher = lower * np.where(rng.random(lower.shape) < 0.5, factor, 1.0)
    cheap, dear = run(period, ScheduledAlpha(lower), seed), run(period, ScheduledAlpha(higher), seed)
    # Not even in the course of the day; an advertiser with less than 0.1 left has to stop (the benchmark's rule).
    assert (dear.costs.cumsum(axis=1) >= cheap.costs.cumsum(axis=1) - LEAST_BUDGET).all()
    stopped = dear.advertisers.budget - dear.costs.sum(axis=1)
    exact = (stopped >= LEAST_BUDGET) | (stopped <= 1e-9)
    assert (dear.costs.sum(axis=1) >= cheap.costs.sum(axis=1) - 1e-9)[exact].all()


@given(seed=st.integers(0, 1000), multiplier=st.floats(0.1, 10.0), budget=st.floats(0.5, 100.0))
@settings(max_examples=40, deadline=None)
def test_nobody_overspends_and_wins_cost_at_most_the_bid(seed, multiplier, budget):
    period = small_period(seed % 5, per_tick=20, budget=budget)
    result = run(period, ConstantAlpha(multiplier), seed)
    assert (result.costs.sum(axis=1) <= result.advertisers.budget * (1 + 1e-12)).all()
    # every win has price <= alpha * p, so spending is at most alpha times the p-values won
    assert (result.costs <= result.alphas * result.expected_conversions + 1e-9).all()
    assert (result.conversions <= result.wins).all()
    for key, value in result.summary().items():
        if key.endswith("score"):
            assert (value <= result.summary()[key.replace("score", "conversions")]).all()


def test_an_overspending_tick_keeps_a_random_share_and_ends_the_day(period):
    poor = Advertisers(period.advertisers.index, np.full(6, 3.0), period.advertisers.cpa_target)
    runs = [run(period, ConstantAlpha(5.0), seed, advertisers=poor) for seed in range(200)]
    first = runs[0]
    np.testing.assert_allclose(first.costs.sum(axis=1), 3.0)
    np.testing.assert_allclose(first.costs[:, 0], 3.0)
    assert (first.lengths == 2).all()  # tick 1 is the done row: alpha 0
    assert (first.alphas[:, 1:] == 0).all()
    # Random share: expected value kept = share of the money kept, on average over draws.
    everything = run(period, ConstantAlpha(5.0), advertisers=rich(period))
    share = 3.0 / everything.costs[:, 0]
    kept = np.mean([r.wins[:, 0] for r in runs], axis=0)
    np.testing.assert_allclose(kept, share * everything.wins[:, 0] + 0.5, rtol=0.1)


def test_conversions_scatter_around_the_p_values(period):
    runs = np.array([run(period, ConstantAlpha(), s, advertisers=rich(period)).conversions for s in range(300)])
    expected = run(period, ConstantAlpha(), advertisers=rich(period)).expected_conversions
    total = runs.sum(axis=2)
    noise = np.sqrt(expected.sum(axis=1) / 300)
    assert (np.abs(total.mean(axis=0) - expected.sum(axis=1)) < 4 * noise).all()
    # Bernoulli variance is a little below the mean, and advertisers and ticks are independent
    assert (total.var(axis=0) / expected.sum(axis=1)).mean() == pytest.approx(0.95, abs=0.15)
    assert np.abs(np.corrcoef(total.T) - np.eye(6)).max() < 0.25


def test_leaving_out_sigma_is_harmless():
    # E[clip(N(p, sigma), 0, 1)] / p for the largest sigma of the traffic, 0.3 p
    ratio = norm.cdf(1 / 0.3) + 0.3 * norm.pdf(1 / 0.3)
    assert 0 <= ratio - 1 < 4e-5


def test_common_random_numbers(period):
    low = run(period, ConstantAlpha(0.8), 3, advertisers=rich(period))
    high = run(period, ConstantAlpha(1.1), 3, advertisers=rich(period))
    other = run(period, ConstantAlpha(1.1), 4, advertisers=rich(period))
    # a higher alpha wins the same impressions and more, with the same conversions on the shared ones
    assert (high.conversions >= low.conversions).all()
    assert (high.conversions > low.conversions).any()
    assert (other.conversions != high.conversions).any()
    # the draws belong to the impression, not to the history: only the changed tick differs
    alphas = low.alphas.copy()
    alphas[:, 20] *= 1.5
    changed = run(period, ScheduledAlpha(alphas), 3, advertisers=rich(period))
    assert (changed.conversions[:, 20] > low.conversions[:, 20]).any()
    np.testing.assert_array_equal(np.delete(changed.conversions, 20, 1), np.delete(low.conversions, 20, 1))


def test_one_draw_from_the_generator_whatever_the_bidder(period):
    states = []
    for bidder in (ConstantAlpha(), PidBidder()):
        rng = np.random.default_rng(0)
        replay(period, bidder, rng)
        states.append(rng.bit_generator.state["state"])
    assert states[0] == states[1]


def test_rows_are_independent_of_the_batch(period):
    whole = run(period, PidBidder())
    part = run(period, PidBidder(), rows=[4, 1])
    for name in ("alphas", "costs", "conversions", "states", "lengths"):
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[[4, 1]])
    twice = run(period, PidBidder(), advertisers=period.advertisers[np.array([2, 2])])
    np.testing.assert_array_equal(twice.costs[0], twice.costs[1])


def test_state_sees_the_past_only(period):
    base = run(period, ConstantAlpha())
    alphas = base.alphas.copy()
    alphas[:, 10] *= 2
    changed = run(period, ScheduledAlpha(alphas))
    np.testing.assert_array_equal(changed.states[:, :11], base.states[:, :11])
    assert (changed.states[:, 11] != base.states[:, 11]).any()


def test_state_by_hand(period):
    result = run(period, ConstantAlpha(), advertisers=rich(period))
    counts, who = period.counts, result.advertisers
    state = result.states[2, 2]
    assert state[0] == 46 / 48
    assert state[1] == pytest.approx(1 - result.costs[2, :2].sum() / who.budget[2])
    assert state[2] == pytest.approx(who.cpa_target[2] * period.mean_pvalues[2, :2].mean())
    assert state[4] == pytest.approx(period.mean_prices[:2].mean())
    assert state[6] == pytest.approx((result.conversions[2, :2] / counts[:2]).mean())
    assert state[7] == pytest.approx((result.wins[2, :2] / counts[:2]).mean())
    assert state[12] == pytest.approx(period.mean_pvalues[2, 2])
    assert state[13] == counts[2]
    assert state[15] == counts[:2].sum()


def test_dropped_wins_count_as_bids_of_zero(period):
    poor = Advertisers(period.advertisers.index, np.full(6, 3.0), period.advertisers.cpa_target)
    result = run(period, ConstantAlpha(5.0), advertisers=poor)
    full = 5.0 * poor.cpa_target * period.mean_pvalues[:, 0]
    assert (result.states[:, 1, 2] < full).all()
    # what is left of the bids: losses and kept wins
    k = 0
    won = (
        5.0 * poor.cpa_target[k] * period.pvalues[k, : period.counts[0]]
        >= period.least_winning_cost[: period.counts[0]]
    )
    kept = 5.0 * poor.cpa_target[k] * (period.pvalues[k, : len(won)][~won].sum() + result.expected_conversions[k, 0])
    assert result.states[k, 1, 2] == pytest.approx(kept / len(won))


@pytest.mark.parametrize(
    ("alphas", "message"),
    [(np.ones(5), "shape"), (np.full(6, np.nan), "NaN"), (np.full(6, -1.0), "negative")],
)
def test_bad_bidders_are_refused(period, alphas, message):
    class Bad(ConstantAlpha):
        def act(self, observation):
            return alphas

    with pytest.raises(ValueError, match=message):
        run(period, Bad())


def test_bad_periods_are_refused(period):
    def build(**change):
        columns = {f.name: getattr(period, f.name) for f in dataclasses.fields(period)}
        del columns["mean_pvalues"], columns["mean_prices"]
        return ReplayPeriod(**(columns | change))

    with pytest.raises(ValueError, match="impressions, but"):
        build(least_winning_cost=period.least_winning_cost[:-1])
    with pytest.raises(ValueError, match="positive number"):
        build(least_winning_cost=period.least_winning_cost * np.nan)
    with pytest.raises(ValueError, match="counts must be"):
        build(counts=np.zeros(48))
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        build(pvalues=period.pvalues * 100)
    with pytest.raises(ValueError, match="has no p-values"):
        build(pvalues=period.pvalues[:3])

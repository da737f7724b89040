import numpy as np
import pytest
from small_period import small_period

from lbm_core.auction.bidder import Advertisers, Observation
from lbm_core.auction.controls import (
    ConstantAlpha,
    PacingBidder,
    PidBidder,
    ScheduledAlpha,
    checked_plan,
    cpa_error,
    even_plan,
    pacing_error,
)
from lbm_core.auction.replay import replay

WHO = Advertisers(np.arange(3), np.full(3, 480.0), np.array([6.0, 8.0, 10.0]))


def observe(costs, conversions, alphas=None):
    """Observation after some ticks of given costs and conversions, (n, t) each."""
    costs, conversions = np.asarray(costs, float), np.asarray(conversions, float)
    n, tick = costs.shape
    states = np.zeros((n, tick + 1, 16))
    spent = np.concatenate([np.zeros((n, 1)), costs.cumsum(axis=1)], axis=1)
    states[:, :, 1] = 1 - spent / WHO.budget[:n, None]
    alphas = np.tile(WHO.cpa_target[:n, None], (1, tick)) if alphas is None else alphas
    return Observation(tick, states, alphas, conversions, costs)


def act(bidder, observation, who=WHO):
    bidder.reset(who)
    return bidder.act(observation)


def test_constant_and_schedule():
    seen = observe(np.zeros((3, 4)), np.zeros((3, 4)))
    np.testing.assert_allclose(act(ConstantAlpha([1, 2, 0.5]), seen), [6, 16, 5])
    schedule = np.arange(3 * 48).reshape(3, 48)
    np.testing.assert_array_equal(act(ScheduledAlpha(schedule), seen), schedule[:, 4])
    with pytest.raises(ValueError, match="schedule has shape"):
        act(ScheduledAlpha(schedule[:2]), seen)
    with pytest.raises(ValueError, match="could not be broadcast"):
        act(ConstantAlpha([1, 2]), seen)


def test_errors_by_hand():
    seen = observe([[10.0] * 6, [20.0] * 6, [0.0] * 6], [[0] * 6, [4] * 5 + [0], [0] * 6])
    error = pacing_error(seen, WHO.budget, even_plan(), memory=1)
    assert error[0] == pytest.approx(0, abs=1e-6)  # 10 of 480 a tick is the plan
    # the last of six ticks: 380 left at its start, 43 ticks to go
    assert error[1] == pytest.approx(np.log(20 / (380 / 43)), rel=1e-4)
    assert error[2] == -1
    paid = cpa_error(seen, WHO.cpa_target)
    assert paid[0] == 1  # 60 for nothing: (60 + 12) / 2 is 6 targets, clipped
    assert paid[1] == pytest.approx(np.log((120 + 16) / 22 / 8))
    assert paid[2] == 0
    assert (pacing_error(seen, WHO.budget, even_plan(), lag=6) == 0).all()
    shorter = observe([[10.0] * 4, [20.0] * 4, [0.0] * 4], [[0] * 4, [20] * 4, [0] * 4])
    np.testing.assert_allclose(
        pacing_error(seen, WHO.budget, even_plan(), lag=2), pacing_error(shorter, WHO.budget, even_plan())
    )


@pytest.mark.parametrize("bidder", [PidBidder(), PidBidder(cpa_weight=0.0), PacingBidder(cap=5.0)])
def test_feedback_has_the_right_sign(bidder):
    # 0 spends on plan, 1 twice too fast, 2 too slow; conversions keep the CPA below the target
    costs = [[10.0] * 5, [20.0] * 5, [2.0] * 5]
    alphas = act(bidder, observe(costs, [[30] * 5] * 3))
    assert alphas[0] == pytest.approx(6.0, rel=0.02)
    assert alphas[1] < 8.0
    assert alphas[2] > 10.0


def test_pid_lowers_alpha_when_conversions_are_too_dear_only_if_asked():
    seen = observe([[10.0] * 5] * 3, [[0] * 5] * 3)
    assert (act(PidBidder(cpa_weight=1.0), seen) < WHO.cpa_target).all()
    np.testing.assert_allclose(act(PidBidder(cpa_weight=0.0), seen), WHO.cpa_target, rtol=0.02)


def test_pid_moves_are_bounded_and_do_not_wind_up():
    strong = PidBidder(proportional=5.0, integral=5.0)
    fast = observe([[40.0] * 6] * 3, [[1] * 6] * 3)
    slow = observe([[0.0] * 6] * 3, [[0] * 6] * 3)
    np.testing.assert_allclose(act(strong, fast) / WHO.cpa_target, 0.7)
    np.testing.assert_allclose(act(strong, slow) / WHO.cpa_target, 1.2)
    # after many slow ticks, the first fast one turns it round at once
    costs = np.zeros((3, 30))
    costs[:, -1] = 60.0
    turned = observe(costs, np.full((3, 30), 30))
    assert (act(PidBidder(memory=1), turned) < WHO.cpa_target).all()


def test_pacing_never_exceeds_its_cap():
    period = small_period(2)
    result = replay(period, PacingBidder(cap=1.2), np.random.default_rng(0))
    target = period.advertisers.cpa_target[:, None]
    assert (result.alphas <= 1.2 * target + 1e-12).all()
    # in a replay a win costs at most alpha per expected conversion
    assert result.summary()["expected_cpa_ratio"].max() <= 1.2


def test_bounds_of_pid():
    period = small_period(2, budget=1e5)
    result = replay(period, PidBidder(lowest=0.5, highest=1.5), np.random.default_rng(0))
    ratio = result.alphas / period.advertisers.cpa_target[:, None]
    assert ratio.max() == pytest.approx(1.5)
    assert ratio.min() >= 0.5


def test_feedback_spends_nearer_to_plan_than_a_constant():
    period = small_period(4, per_tick=100, budget=500.0)
    rng = np.random.default_rng
    late = {}
    for name, bidder in {"constant": ConstantAlpha(2.0), "pid": PidBidder(cpa_weight=0.0, opening=2.0)}.items():
        costs = replay(period, bidder, rng(0)).costs
        late[name] = (costs[:, 24:].sum(axis=1) / costs.sum(axis=1)).mean()
    assert late["constant"] < late["pid"] < 0.6


def test_plans():
    np.testing.assert_allclose(checked_plan(np.full(48, 3.0)), even_plan())
    for plan in (np.ones(47), np.zeros(48), np.full(48, np.nan)):
        with pytest.raises(ValueError, match="spending plan"):
            checked_plan(plan)

"""Numbers at the edge: nothing to share out, nobody else there, a loss that is none; each has one defined outcome."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from small_period import small_period
from synthetic_trajectories import synthetic_trajectories

from lbm_core.auction.bidder import Advertisers
from lbm_core.auction.controls import ConstantAlpha
from lbm_core.auction.mechanism import LEAST_BUDGET, RESERVE_PRICE, allocate, run_tick, truncation
from lbm_core.auction.metrics import CPA_RATIO_LIMIT, cpa_ratio, score, summarize
from lbm_core.auction.replay import ReplayPeriod, replay
from lbm_core.auction.state import StateBuilder
from lbm_core.training import EXPLODED, sound


def tick(bids, remaining, seed=0):
    bids, rng = np.asarray(bids, dtype=float), np.random.default_rng(seed)
    p = np.full(bids.shape, 0.1)
    return run_tick(bids, p, 0.1 * p, truncation(bids.shape[1], rng), np.asarray(remaining, dtype=float), rng)


def test_no_budget_buys_nothing():
    outcome = tick(np.full((50, 6), 2.0), [0.0, LEAST_BUDGET / 2, *[1e9] * 4])
    assert (outcome.wins[:2] == 0).all()
    assert (outcome.cost[:2] == 0).all()
    assert outcome.wins[2:].sum() == 150
    assert tick(np.full((1, 4), 0.01), [LEAST_BUDGET] * 4).wins.sum() == 3, "who has just so much left still bids"
    for who in (Advertisers, lambda index, budget, target: StateBuilder(budget)):
        with pytest.raises(ValueError, match="positive number"):
            who(np.arange(2), np.array([0.0, 1.0]), np.ones(2))


@pytest.mark.parametrize("m", [1, 2, 3])
def test_with_fewer_bidders_than_slots_the_last_finds_no_price_and_wins_nothing(m):
    found = allocate(np.arange(m, 0, -1)[None] * 1.0)
    assert found.winners.tolist() == [[*range(m - 1), *[-1] * (4 - m)]]
    assert found.prices.tolist() == [[*range(m - 1, 0, -1), *[RESERVE_PRICE] * (4 - m)]]
    assert tick(np.ones((20, m)), [1e9] * m).wins.sum() == 20 * (m - 1)


def test_one_advertiser_is_replayed_alone():
    period = small_period()
    alone = replay(period, ConstantAlpha(), np.random.default_rng(0), rows=[2])
    among = replay(period, ConstantAlpha(), np.random.default_rng(0))
    np.testing.assert_array_equal(alone.costs[0], among.costs[2])


def test_equal_bids_go_to_the_first_and_pay_the_bid():
    outcome = tick(np.ones((100, 6)), [1e9] * 6)
    assert outcome.wins.tolist() == [100, 100, 100, 0, 0, 0]
    assert (outcome.allocation.prices == 1.0).all()
    assert (outcome.allocation.least_winning_cost == 1.0).all()


def test_a_tick_without_impressions_brings_nothing_and_a_period_has_none():
    outcome = tick(np.ones((0, 6)), [1.0] * 6)
    assert outcome.cost.tolist() == outcome.wins.tolist() == outcome.conversions.tolist() == [0] * 6
    period = small_period()
    counts = np.where(np.arange(48) == 5, 0, period.counts)
    with pytest.raises(ValueError, match="positive numbers of impressions"):
        ReplayPeriod("dense", 7, period.advertisers, counts, period.pvalues, period.least_winning_cost)


def test_no_conversion_is_the_largest_ratio_no_score_and_nothing_spent_has_none():
    assert cpa_ratio(0, 5, 8) == CPA_RATIO_LIMIT
    assert math.isnan(cpa_ratio(0, 0, 8))
    assert score(0, [0, 5], 8).tolist() == [0, 0]
    table = summarize(0, 0, 100, 8)
    assert {name: float(value) for name, value in table.items() if name != "cpa_ratio"} == dict.fromkeys(
        ("cost", "budget_utilization", "conversions", "score", "score_beta1"), 0.0
    )
    period = small_period()
    nothing = ReplayPeriod("dense", 7, period.advertisers, period.counts, period.pvalues * 0, period.least_winning_cost)
    day = replay(nothing, ConstantAlpha(), np.random.default_rng(0))
    assert day.costs.sum() == day.conversions.sum() == 0
    assert np.isfinite(day.states).all()


# --- losses that are none --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf, EXPLODED, 1e300])
def test_a_loss_that_is_none_is_told_with_its_step(loss):
    assert sound(-3.5, "DT", 0) == -3.5
    with pytest.raises(FloatingPointError, match=re.escape(f"its loss is {loss:.3g} at step 8; lower")):
        sound(loss, "DT", 7)


def _critic(days, folder):
    from lbm_core.critic.config import CriticConfig
    from lbm_core.critic.iql import train_critic

    config = CriticConfig(steps=20, batch_size=8, hidden_size=8, learning_rate=1e12)
    train_critic(config, days, checkpoints=folder, checkpoint_every=1, progress=False)


def _dt(days, folder):
    from lbm_core.baselines.config import DTConfig
    from lbm_core.baselines.decision_transformer import train_dt

    train_dt(
        DTConfig(steps=20, batch_size=8, hidden_size=8, heads=1, layers=1, learning_rate=1e30), days, progress=False
    )


def _offline(days, folder):
    from lbm_core.baselines.config import OfflineRLConfig
    from lbm_core.baselines.offline_rl import train_offline_rl

    config = OfflineRLConfig(algorithm="CQL", steps=20, batch_size=8, hidden_size=8, learning_rate=1e20)
    train_offline_rl(config, days, progress=False)


def _diffbid(days, folder):
    from lbm_core.baselines.config import DiffBidConfig
    from lbm_core.baselines.diffbid import train_diffbid

    train_diffbid(DiffBidConfig(steps=20, batch_size=4, learning_rate=1e20), days, progress=False)


def _actor(days, folder):
    from tiny_backbone import save_tiny_backbone

    from lbm_core.act.config import ActConfig
    from lbm_core.act.train import train_act

    backbone = str(save_tiny_backbone(folder / "backbone"))
    config = ActConfig(backbone=backbone, steps=20, batch_size=8, learning_rate=1e30)
    train_act(config, days, checkpoints=folder / "kept", checkpoint_every=2, progress=False)


def _texts(days, folder):
    from tiny_language_model import tiny_language_model

    from lbm_core.think.config import FinetuneConfig
    from lbm_core.think.finetune import finetune

    backbone, start = tiny_language_model(), folder / "start"
    backbone.model.save_pretrained(start)
    backbone.tokenizer.save_pretrained(start)
    config = FinetuneConfig(backbone=str(start), epochs=8, batch_size=1, micro_batch_size=1, learning_rate=1e30)
    finetune(config, ["a", "b"], ["c", "d"], folder / "model", checkpoints=folder / "kept")


@pytest.mark.parametrize("train", [_critic, _dt, _offline, _diffbid, _actor, _texts])
def test_a_training_that_diverges_stops_with_step_and_cause_and_nothing_is_kept(train, tmp_path, monkeypatch):
    from lbm_core.lab.artifacts import Artifact

    monkeypatch.setenv("LBM_CACHE", str(tmp_path))
    days = synthetic_trajectories(24)
    artifact = Artifact("period", train.__name__, lambda _: train(days, artifact.checkpoints), lambda _: None, "")
    with pytest.raises(FloatingPointError, match=r"diverged: its loss is .* at step \d+; lower its learning_rate"):
        artifact.get()
    assert not artifact.exists
    assert not artifact.checkpoints.exists()


# --- what mutants of the metrics survived ----------------------------------------------------------------------------


def test_the_limit_and_both_penalties_by_hand():
    assert CPA_RATIO_LIMIT == 100
    table = summarize(4, 64, 100, 8)  # twice the target
    assert (table["cpa_ratio"], table["score"], table["score_beta1"]) == (2, 1, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1, np.nan], 1, 100, 8), "conversions holds NaN"),
        (([1, -1], 1, 100, 8), "conversions must be at least 0; got -1"),
        ((1, 1, [100, 0], 8), "budget must be positive; got 0"),
        ((1, 1, 100, [8, 0]), "cpa_target must be positive; got 0"),
    ],
)
def test_one_bad_amount_among_good_ones_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        summarize(*arguments)

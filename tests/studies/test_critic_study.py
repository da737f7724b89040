"""Variants of the critic: named, judged by the replay, and joined to ensembles."""

import numpy as np
import pytest
from synthetic_trajectories import synthetic_trajectories

from lbm_core.critic.config import CriticConfig
from lbm_core.critic.ensemble import CriticEnsemble
from lbm_core.critic.iql import train_critic
from lbm_core.data.behaviour import simulate_period
from lbm_core.data.trajectories import sample_ends, windows
from lbm_core.pipeline import critic_study
from lbm_core.tiers import TIER_NAMES, get_tier

TINY = {"hidden_size": 16, "layers": 1, "heads": 2, "steps": 5, "batch_size": 16}


@pytest.fixture(scope="module")
def days():
    return synthetic_trajectories(12, seed=3)


@pytest.fixture(scope="module")
def critics(days):
    return [train_critic(CriticConfig(**TINY, seed=seed), days, progress=False) for seed in (0, 1, 2)]


def test_an_ensemble_is_the_mean_less_the_disagreement(critics, days):
    rows, ticks = sample_ends(days, 9, np.random.default_rng(0))
    window, logged = windows(days, rows, ticks, 10), np.full(9, 5.0)
    tried = logged[:, None] * [0.5, 2.0]
    each = np.stack([critic.relative_q(window, tried, logged) for critic in critics])
    np.testing.assert_allclose(CriticEnsemble(critics).relative_q(window, tried, logged), each.mean(axis=0))
    careful = CriticEnsemble(critics, pessimism=2.0)
    expected = each.mean(axis=0) - 2 * each.std(axis=0, ddof=1)
    np.testing.assert_allclose(careful.relative_q(window, tried, logged), expected)
    assert careful.q(window, logged).shape == (9,)
    assert (careful.q(window, logged) < CriticEnsemble(critics).q(window, logged)).all()


def test_members_of_an_ensemble_judge_the_same_thing(critics, days):
    other = train_critic(CriticConfig(**TINY, reward="conversions"), days, progress=False)
    with pytest.raises(ValueError, match="must share data set, window length and reward"):
        CriticEnsemble([critics[0], other])
    with pytest.raises(ValueError, match="at least two"):
        CriticEnsemble(critics[:1])
    with pytest.raises(ValueError, match="pessimism"):
        CriticEnsemble(critics, pessimism=-1.0)


@pytest.mark.parametrize("name", TIER_NAMES)
def test_every_tier_names_variants_that_exist(name):
    shares = [f"share {share:g} of the data" for share in critic_study.DATA_SHARES]
    assert set(get_tier(name).critic.variants) <= {*critic_study.VARIANTS, *critic_study.ENSEMBLES, *shares}


def test_an_unknown_variant_is_refused():
    with pytest.raises(ValueError, match="no critic variant 'best'; one of default"):
        critic_study.critic_variants(get_tier("smoke"), "dense", 0, ["best"])


def test_share_of_the_data():
    tier = get_tier("smoke", data__train_periods=10)
    assert critic_study.with_share(tier, 0.3).data.train_periods == 3
    assert critic_study.with_share(tier, 0.01).data.train_periods == 1


def test_verdicts_of_a_logged_day(critics):
    log = simulate_period("dense", 7, 0)
    judges = {"one": critics[0], "ensemble": CriticEnsemble(critics)}
    rows = critic_study.verdicts(judges, [log], 0, factors=(0.5, 1.0, 2.0), samples=60)
    assert set(rows["variant"]) == set(judges)
    assert np.isfinite(rows[["relative_q", "gain", "cpa_ratio"]]).all().all()
    same = rows[rows["factor"] == 1.0]
    np.testing.assert_allclose(same["gain"], 0, atol=1e-9)
    np.testing.assert_allclose(same["relative_q"], 0, atol=1e-6)
    effect = rows.assign(size=rows["gain"].abs()).groupby("change")["size"].mean()
    assert effect["rest of the day"] > effect["one tick"] > 0
    by_state = rows.pivot_table(index=["tick", "factor", "change", "gain"], columns="variant", values="relative_q")
    assert by_state.notna().all().all(), "every critic is asked about the same states"

"""Variants of the critic: trained as named, judged by the replay and by steering alone."""

import numpy as np
import pytest
from small_period import small_period

from lbm_core.auction.response_tables import ResponseTables, table_replay
from lbm_core.baselines.critic_search import CriticBidder
from lbm_core.critic.network import CriticEnsemble
from lbm_core.data.behaviour import simulate_period
from lbm_core.evaluation.runner import evaluate
from lbm_core.files import weights_key
from lbm_core.lab import models
from lbm_core.lab.lab import Lab
from lbm_core.lab.tiers import tier
from lbm_core.settings import TIER_NAMES
from lbm_core.studies import chapter_03

KNOWN = chapter_03.VARIANTS | chapter_03.ENSEMBLES | chapter_03.DATA_SHARES


@pytest.mark.parametrize("name", TIER_NAMES)
def test_every_tier_names_variants_that_exist(name):
    assert {*tier(name).chapter3.variants, *tier(name).chapter3.searched} <= set(KNOWN)


def test_an_unknown_variant_is_refused(lab):
    with pytest.raises(ValueError, match="no critic variant 'best'; one of default"):
        chapter_03.critic_variants(lab, ("best",))


def test_table_9_is_trained_at_its_size_and_on_large_tiers_only(lab):
    table_9, small = (
        models.critic(lab, **chapter_03.VARIANTS[name]).config for name in ("as Table 9", "paper's recipe, small")
    )
    assert (table_9.hidden_size, table_9.layers, table_9.heads, table_9.window_length) == (512, 6, 8, 10)
    assert (table_9.steps, table_9.learning_rate, table_9.expectile, table_9.n_step) == (400_000, 1e-4, 0.7, 1)
    assert (small.hidden_size, small.steps) == (lab.tier.critic.hidden_size, lab.tier.critic.steps)
    assert {table_9.reward, small.reward} == {"conversions"}
    assert {table_9.state_kind, small.state_kind} == {"paper"}
    assert models.critic(lab.trained_with(3), **chapter_03.VARIANTS["as Table 9"]).config.seed == 3
    listed = [name for name in TIER_NAMES if "as Table 9" in tier(name).chapter3.variants]
    assert listed == ["gpu", "paper"]


def test_variants_are_what_their_names_say(lab):
    known = [name for name in KNOWN if "steps" not in chapter_03.VARIANTS.get(name, {})]  # those take their time
    critics = chapter_03.critic_variants(lab, tuple(known))
    assert list(critics) == known
    config = lab.critic().config
    for name, fields in chapter_03.VARIANTS.items():
        if name in critics:
            assert critics[name].config == lab.bound(lab.tier.critic, **fields)
    members = critics["ensemble"].critics
    assert [member.config.seed for member in members] == [0, 1]
    assert critics["ensemble, pessimistic"].pessimism > critics["ensemble"].pessimism == 0
    assert critics["share 0.1 of the data"].config == config
    weights = [next(critics[name].parameters()) for name in ("default", "share 0.1 of the data")]
    assert not np.array_equal(*(weight.detach().numpy() for weight in weights)), "other data, another critic"


def test_verdicts_of_a_logged_day(lab, monkeypatch):
    log = simulate_period("dense", 7, 0)
    one = lab.critic()
    judges = {"one": one, "ensemble": CriticEnsemble([one, lab.trained_with(1).critic()])}
    monkeypatch.setattr(chapter_03, "SAMPLES", 60)
    rows = chapter_03.verdicts(judges, [log], 0, factors=(0.5, 1.0, 2.0))
    assert set(rows["variant"]) == set(judges)
    assert (rows["period"] == 7).all()
    assert len(rows) == 2 * 2 * 3 * 60
    assert np.isfinite(rows[["relative_q", "gain", "cpa_ratio"]]).all().all()
    same = rows[rows["factor"] == 1.0]
    np.testing.assert_allclose(same["gain"], 0, atol=1e-9)
    np.testing.assert_allclose(same["relative_q"], 0, atol=1e-6)
    effect = rows.assign(size=rows["gain"].abs()).groupby("change")["size"].mean()
    assert effect["rest of the day"] > effect["one tick"] > 0
    by_state = rows.pivot_table(index=["tick", "factor", "change", "gain"], columns="variant", values="relative_q")
    assert by_state.notna().all().all(), "every critic is asked about the same states"


def test_critics_are_searched_on_tuning_periods(lab):
    table = ResponseTables.from_period(small_period(n=48))

    class Tuned(Lab):
        def tuning_tables(self):
            return [table]

    judge = lab.critic()
    rows = chapter_03.searched(Tuned(lab.tier), {"default": judge})
    assert rows[["variant", "step", "period"]].to_numpy().tolist() == [
        ["default", step, table.period] for step in chapter_03.SEARCHED_STEPS
    ]
    alone = table_replay(table, CriticBidder(judge, (1 / 1.14, 1.0, 1.14)), rows=range(0, 48, 8)).summary()
    assert rows["expected_score"][1] == pytest.approx(alone["expected_score"].mean())


def test_each_critic_steers_alone_beside_a_constant_alpha(lab):
    period = small_period(n=48)

    class Replayed(Lab):
        def held_out(self):
            return [period]

    studied = Replayed(lab.tier).changed({"evaluation.draws": 2})
    rows = chapter_03.steering(studied, {"default": lab.critic()})
    assert rows.groupby("method", sort=False).size().to_dict() == {"constant": 2 * 6, "default": 2 * 6}
    alone = evaluate({"constant": chapter_03.ConstantAlpha}, [period], [0], rows=range(0, 48, 8), progress=False)
    constant = rows[(rows["method"] == "constant") & (rows["seed"] == 0)]
    np.testing.assert_allclose(constant["score"], alone["score"])
    judge = models.critic(studied)
    assert rows.groupby("method")["weights"].unique().map(list).to_dict() == {
        "constant": [""],
        "default": [weights_key(judge.path)],
    }
    assert set(rows["train_seed"]) == {studied.training_seed}

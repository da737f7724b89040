"""Chapter 5's comparisons: what is asked of whom, and numbers that can be checked by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scripted import let_write
from small_period import small_period
from synthetic_trajectories import synthetic_trajectories

from lbm_core.act.decide import decide
from lbm_core.act.guides import SENTENCES
from lbm_core.auction.controls import ConstantAlpha
from lbm_core.auction.response_tables import ResponseTables
from lbm_core.lab import thinking
from lbm_core.lab.decisions import decisions_at, draw_decisions, joined
from lbm_core.lab.guided import Contender
from lbm_core.lab.tiers import tier
from lbm_core.settings import TIER_NAMES
from lbm_core.studies import chapter_05
from lbm_core.think.generate import Generation
from lbm_core.think.gqpo import RULES
from lbm_core.think.trainer import LOG

NAN = float("nan")


@pytest.fixture(scope="module")
def days():
    return synthetic_trajectories(12, seed=4)


@pytest.fixture(scope="module")
def lab(lab):
    """With a DT, one training seed and four decisions."""
    sizes = {"dt.hidden_size": 8, "dt.layers": 1, "dt.steps": 3, "evaluation.train_seeds": 1, "gqpo.prompts": 4}
    return lab.changed(sizes)


def _text(answer: str) -> Generation:
    return Generation(f"Hence {answer}", 5, "stop", 0.1)


@pytest.mark.parametrize("name", TIER_NAMES)
def test_every_tier_names_rules_that_exist(name):
    own = tier(name)
    assert set(own.chapter5.controls) <= set(RULES) - {"argmax"}
    assert own.think.sampling.temperature not in own.chapter5.temperatures
    assert own.chapter5.sweep_prompts <= own.gqpo.prompts
    assert own.gqpo.rounds == (2 if name == "laptop" else 1)


def test_paper_sizes():
    gqpo = tier("paper").gqpo
    assert (gqpo.samples, gqpo.learned, gqpo.on_policy) == (3, 2_000, 0.0)
    assert (gqpo.finetune.lora_rank, gqpo.finetune.batch_size, gqpo.finetune.epochs) == (0, 64, 5)


def test_decisions_know_the_rule_and_what_was_last_bid(days):
    drawn = draw_decisions(days, 20, np.random.default_rng(0))
    assert len(drawn) == 20
    assert (drawn.ticks > 0).all()
    np.testing.assert_allclose(drawn.last_alpha, days.alphas[drawn.rows, drawn.ticks - 1], rtol=1e-6)
    np.testing.assert_allclose(drawn.logged_alpha, days.alphas[drawn.rows, drawn.ticks], rtol=1e-6)
    assert set(drawn.ruled) <= {-1, 0, 1}
    again = decisions_at(days, drawn.rows[5:7], drawn.ticks[5:7])
    np.testing.assert_array_equal(again.ruled, drawn.ruled[5:7])
    both = joined([drawn, again])
    assert len(both.facts) == len(both.window) == len(both.ruled) == 22
    np.testing.assert_array_equal(both.cpa_ratio[20:], drawn.cpa_ratio[5:7])
    assert len(both.first(3).facts) == len(both.first(3).window) == len(both.first(3)) == 3


def test_a_share_of_the_decisions_is_met_by_lbm_act_itself(lab, capsys):
    mixed = lab.changed({"gqpo.on_policy": 0.5})
    asked = mixed.decisions()
    assert asked.on_policy.tolist() == [False, False, True, True]
    own = thinking.own_days(mixed).get()
    assert "days of LBM-Act instructed by random (dense, training seed 0): loaded" in capsys.readouterr().out
    assert set(own.period) == {1000, 1001}
    assert len(set(own.advertiser)) <= lab.tier.evaluation.advertisers
    np.testing.assert_allclose(own.alphas[:, 0], own.cpa_target, rtol=1e-6, err_msg="LBM-Act opens at the target")
    met = asked.rows[2:], asked.ticks[2:]
    np.testing.assert_allclose(asked.window.alphas[2:, -1], own.alphas[met], rtol=1e-6)
    logged = lab.decisions()
    np.testing.assert_array_equal(asked.ticks[:2], logged.ticks[:2])
    assert not logged.on_policy.any()
    later = thinking.decisions(lab, round_number=2)
    assert not np.array_equal(later.ticks, logged.ticks) or not np.array_equal(later.rows, logged.rows)
    assert lab.changed({"gqpo.on_policy": 1.0}).decisions().on_policy.all()
    before = thinking.gqpo(mixed, rounds=1)
    assert "instructed by LBM-Think" in thinking.own_days(mixed, before).what, "later, its own model leads"
    read = [thinking.gqpo(mixed.changed({"think.reading": how}), rounds=2).key for how in ("word", "expected")]
    assert read[0] == read[1], "another reading of the days bids with the same model"
    with pytest.raises(ValueError, match="on_policy_guide"):
        lab.changed({"gqpo.on_policy_guide": "oracle"})


def test_rounds_build_on_each_other_and_controls_are_kept_apart(lab, monkeypatch):
    rows = [(i, j, 1 - 2 * j, 0.1 - 0.3 * j, j == 0) for i in range(4) for j in range(2)]
    samples = pd.DataFrame(rows, columns=["prompt", "sample", "direction", "relative_q", "chosen"])
    trained = []

    def kept(config, prompts, texts, folder, *, weights=None, checkpoints=None):
        trained.append((config.backbone, set(texts), weights))
        (folder / LOG).write_text(f"step,loss\n1,{len(trained)}.0\n")

    models = let_write(monkeypatch, lambda prompt, k, j: _text(f"<answer>{1 - 2 * j}</answer>"))
    monkeypatch.setattr("lbm_core.think.gqpo.choose_chains", lambda *a, **o: type("Fake", (), {"samples": samples}))
    monkeypatch.setattr("lbm_core.think.finetune.finetune", kept)
    two = lab.changed({"gqpo.rounds": 2, "chapter5.controls": ("argmin", "weights")})
    folders = chapter_05.fine_tuned(two)
    assert list(folders) == ["LBM(GQPO), round 1", "LBM(GQPO)", "argmin", "weights"]
    assert len(set(folders.values())) == 4
    first, pretrained = folders["LBM(GQPO), round 1"], lab.tier.think.backbone
    assert models[:2] == [(pretrained, None), (pretrained, first)], "round 2 samples with the model of round 1 …"
    assert [start for start, _, _ in trained] == [pretrained, str(first), pretrained, pretrained], "… and trains it on"
    best, worst = ({_text(f"<answer>{answer}</answer>").text} for answer in (1, -1))
    assert [texts for _, texts, _ in trained[:3]] == [best, best, worst]
    assert trained[0][2] is None
    assert np.mean(trained[3][2]) == pytest.approx(1.0)
    losses = chapter_05.finetuning_losses(folders)
    assert losses.to_dict("list") == {"step": [1] * 4, "loss": [1.0, 2.0, 3.0, 4.0], "model": list(folders)}
    assert chapter_05.fine_tuned(two) == folders
    assert len(trained) == 4, "everything is found again"
    with pytest.raises(ValueError, match="rounds >= 1"):
        lab.gqpo(rounds=0)
    with pytest.raises(ValueError, match="rule must be one of argmax"):
        lab.gqpo(rule="best")
    with pytest.raises(ValueError, match="GQPO itself"):
        chapter_05.fine_tuned(lab.changed({"chapter5.controls": ("argmax",)}))


def test_no_adviser_has_the_name_of_a_control():
    advisers = {chapter_05.DT_NAME, chapter_05.RULE_NAME}
    assert not advisers & {*RULES, chapter_05.PRETRAINED, chapter_05.TUNED}


def test_a_sweep_by_hand():
    relative_q = [[0.1, -0.2, 0.3], [-0.1, -0.1, NAN]]
    errors = [[0.02, 0.5, 0.2], [0.0, NAN, NAN]]
    rows = [(i, j, relative_q[i][j], errors[i][j]) for i in range(2) for j in range(3)]
    samples = pd.DataFrame(rows, columns=["prompt", "sample", "relative_q", "ratio_error"])
    swept = chapter_05.swept(samples, tolerances=(0.03, 0.3)).set_index(["tolerance", "n"])
    assert swept.loc[("excused", 1), "accepted"] == pytest.approx(5 / 6)
    assert swept.loc[("0.3", 1), "accepted"] == pytest.approx(3 / 6)
    assert swept.loc[("0.03", 3), "learned"] == pytest.approx(1 / 2)
    assert swept.loc[("0.03", 3), "relative_q"] == pytest.approx(0.1)
    # Of two texts of the first group the best is 0.1, 0.3 and 0.3; the second leaves nothing.
    assert swept.loc[("excused", 2), "learned"] == pytest.approx(1 / 2)
    assert swept.loc[("excused", 2), "gain"] == pytest.approx((0.1 + 0.3 + 0.3) / 6)
    assert swept.loc[("excused", 1), "gain"] == pytest.approx((0.1 + 0.3) / 6)
    assert swept.loc[("excused", 3), "gain"] == pytest.approx(0.3 / 2)


def test_the_sweep_asks_at_every_temperature(lab, monkeypatch):
    asked = []

    def ask(setup, facts, purpose, n, model=None, *, sampling):
        asked.append((len(facts), n, sampling.temperature))
        return [[_text("<answer>1</answer>")] * n for _ in facts]

    monkeypatch.setattr(chapter_05, "ask", ask)
    sizes = {"chapter5.temperatures": (1.0, 0.2), "chapter5.sweep_prompts": 3, "chapter5.sweep_samples": 2}
    swept = chapter_05.sweep(lab.changed(sizes | {"think.sampling.temperature": 0.5}))
    assert asked == [(3, 2, 0.2), (3, 2, 0.5), (3, 2, 1.0)]
    assert set(swept["temperature"]) == {0.2, 0.5, 1.0}
    assert swept.query("tolerance == 'excused'")["accepted"].eq(1).all()
    assert swept.query("tolerance != 'excused'")["accepted"].eq(0).all(), "no text states a ratio"


def test_the_coins_directions_are_those_of_lbm_act(lab):
    coin = chapter_05.coin(lab.changed({"chapter5.coin_prompts": 6}))
    assert coin.groupby(["source", "direction"]).size().eq(6).all()
    assert set(coin["source"]) == {"logged", "on-policy"}
    assert np.isfinite(coin["relative_q"]).all()


def test_the_best_direction_of_the_simulator():
    """Far below the prices' level more alpha is better; far above it, with a low target, less."""
    tables, n = ResponseTables.from_period(small_period(budget=1e5)), 4
    days = replace(
        synthetic_trajectories(n),
        advertiser=np.arange(n),
        length=np.full(n, 48),
        budget=np.full(n, 1e5),
        cpa_target=np.array([12.0, 12.0, 6.0, 12.0]),
        alphas=np.repeat([[6.0], [6.0], [30.0], [0.4]], 48, axis=1),
    )
    some = decisions_at(days, np.arange(n), np.array([5, 30, 10, 5]))
    best = chapter_05.best_directions(tables, days, some)
    assert best[:3].tolist() == [1.0, 1.0, -1.0]
    assert np.isnan(best[3]), "nothing is won at any of the three"


def test_models_are_compared_at_the_same_decisions(lab, monkeypatch):
    some = draw_decisions(lab.trajectories(), 5, np.random.default_rng(2))
    flags = np.ones(5, dtype=bool)
    probes = chapter_05.Probes(some, flags, ~flags, np.array([1.0, -1.0, 0.0, NAN, 1.0]))
    said = ["<answer>1</answer>", "<answer>-1</answer>", "<answer>0</answer>", "none", "<answer>1</answer>"]
    monkeypatch.setattr(chapter_05, "ask", lambda *_: [[_text(answer)] for answer in said])
    answers = chapter_05.answers_at_probes(lab, probes, {"pretrained": None})
    assert answers.groupby("model", sort=False).size().to_dict() == {"pretrained": 5, "DT": 5, "spend-rate rule": 5}
    ours = answers[answers["model"] == "pretrained"]
    assert ours["direction"].fillna(9).tolist() == [1, -1, 0, 9, 1]
    followed = [SENTENCES[direction] for direction in (1, -1, 0, 0, 1)]
    np.testing.assert_allclose(ours["alpha"], decide(lab.actor(), some.window, followed), rtol=1e-5)
    np.testing.assert_allclose(ours["delta_a"], np.log(ours["alpha"] / some.last_alpha), rtol=1e-6)
    alphas, values = chapter_05.judged_directions(lab, some.window)
    np.testing.assert_allclose(ours["alpha"], alphas[np.arange(5), [2, 0, 1, 1, 2]])
    np.testing.assert_array_equal(ours["critic_best"], values.argmax(axis=1) - 1)
    np.testing.assert_allclose(ours["relative_q"], values[np.arange(5), [2, 0, 1, 1, 2]], atol=1e-5)
    rule = answers[answers["model"] == chapter_05.RULE_NAME]
    assert rule["direction"].astype(int).tolist() == some.ruled.tolist()
    assert answers.loc[answers["model"] == "DT", "status"].isna().all()


def test_probes_are_random_and_stratified_and_held_out(lab):
    probes = chapter_05.probes(lab.changed({"chapter5.probes": 10}))
    assert probes.random.sum() == 10
    ratio = probes.decisions.cpa_ratio[probes.stratified]
    assert (ratio < 1).sum() == (ratio > 1).sum() == 5
    assert len(probes.decisions) == len(probes.best) == (probes.random | probes.stratified).sum()
    assert set(probes.best[np.isfinite(probes.best)]) <= {-1.0, 0.0, 1.0}


def test_whole_days_under_guides_that_speak_as_seldom(lab, monkeypatch):
    let_write(monkeypatch, lambda *_: _text("<answer>1</answer>"))
    monkeypatch.setattr("lbm_core.lab.lab.Lab.gqpo", lambda lab: None)
    sizes = {"think.every": 24, "chapter5.advertisers": 2, "evaluation.train_seeds": 2}
    rows = chapter_05.whole_days(lab.changed(sizes))
    guides = ["none", *(f"{guide}, every 24 ticks" for guide in ("random", "rule", "critic"))]
    assert list(rows["method"].unique()) == [*(f"LBM-Act + {guide}" for guide in guides), "LBM(P)"]
    assert rows.groupby("method")["advertiser"].nunique().eq(2).all()
    trainings = rows.groupby("method")["train_seed"].nunique()
    assert trainings.pop("LBM(P)") == 2, "no training of LBM-Think stands in its way"
    assert trainings.eq(1).all()


def test_a_coin_has_the_shares_of_the_answers_at_random_moments(lab, monkeypatch):
    said = pd.DataFrame({"direction": pd.array([1, 1, -1, None, 0, -1], dtype="Int64")})
    said = said.assign(random=[True] * 5 + [False], model=chapter_05.TUNED)
    shares = chapter_05.own_shares(said)
    assert shares == (0.2, 0.4, 0.4), "no answer counts as unsure, and the last moment is not random"
    assert chapter_05.own_shares(said, "a model that learned nothing") is None
    let_write(monkeypatch, lambda *_: _text("<answer>1</answer>"))
    monkeypatch.setattr("lbm_core.lab.lab.Lab.gqpo", lambda lab: None)
    rows = chapter_05.whole_days(lab.changed({"think.every": 24, "chapter5.advertisers": 2}), shares)
    assert "LBM-Act + random, every 24 ticks, shares 0.20 / 0.40 / 0.40" in set(rows["method"])


def test_the_reading_is_chosen_on_tuning_periods(lab, monkeypatch):
    def contender(setup, guided):
        assert guided.guide == "LBM-Think (GQPO)"
        wanted = (setup.tier.think.reading, guided.scale) == ("expected", 2.0)
        return Contender((), lambda: ConstantAlpha(1.0 if wanted else 0.01), None)

    monkeypatch.setattr(chapter_05, "guided_contender", contender)
    monkeypatch.setattr("lbm_core.lab.lab.Lab.gqpo", lambda lab: Path("learned"))
    trials = chapter_05.readings(lab.changed({"chapter5.advertisers": 3}))
    assert set(trials["period"]) == {table.period for table in lab.tuning_tables()[:2]}
    assert chapter_05.best_reading(trials) == ("expected", 2.0)
    monkeypatch.setattr("lbm_core.lab.lab.Lab.gqpo", lambda lab: None)
    assert chapter_05.best_reading(chapter_05.readings(lab)) == ("word", 1.0), "nothing learned, nothing tried"


def test_another_reading_stands_under_its_own_name(lab, monkeypatch):
    let_write(monkeypatch, lambda *_: replace(_text("<answer>1</answer>"), chances=(0.2, 0.2, 0.6)))
    monkeypatch.setattr("lbm_core.lab.lab.Lab.gqpo", lambda lab: None)
    # Another temperature: texts that are kept from other tests have no chances.
    own = {"think.every": 24, "chapter5.advertisers": 2, "think.sampling.temperature": 0.9}
    rows = chapter_05.whole_days(lab.changed(own), read=("expected", 2.0))
    read = rows[rows["method"].str.startswith("LBM(P)")].groupby("method").size()
    assert dict(read) == {"LBM(P)": 2, "LBM(P), expected x 2": 2}


def test_the_last_finetuning_is_repeated_and_nothing_before_it(lab):
    first = lab.changed({"gqpo.on_policy": 0.5, "gqpo.rounds": 2})
    again = first.changed({"gqpo.finetune.seed": 1})
    for rule in ("argmax", "random"):
        one, other = thinking.gqpo(first, rule=rule), thinking.gqpo(again, rule=rule)
        assert one.key != other.key
        built_on = [{(model.stage, model.key) for model in each.inputs} for each in (one, other)]
        assert built_on[0] == built_on[1], "the same model of the first round, and the same days under it"
        assert {"gqpo", "own_days"} <= {stage for stage, _ in built_on[0]}


def test_finetunings_are_compared_on_the_same_days(lab, monkeypatch):
    def contender(setup, guided):
        alpha = {"LBM-Think": 0.1, "LBM-Think (GQPO)": 1.0 + setup.tier.gqpo.finetune.seed, "LBM-Think (random)": 0.2}
        return Contender((), lambda: ConstantAlpha(alpha[guided.guide]), None)

    monkeypatch.setattr(chapter_05, "guided_contender", contender)
    rows = chapter_05.refinetuned(lab.changed({"chapter5.finetunings": 2, "chapter5.advertisers": 3}))
    assert (rows["advertisers"] == 2).all()
    assert rows.groupby(["method", "train_seed"]).size().eq(lab.tier.chapter5.periods).all()
    won = rows.groupby(["method", "train_seed"])["expected_conversions"].mean().unstack()
    assert (won[0] == won[1]).drop("LBM(GQPO)").all()
    assert won.loc["LBM(GQPO)", 0] != won.loc["LBM(GQPO)", 1]


def test_a_teacher_is_made_wrong_as_often_as_said(lab):
    rows = chapter_05.teachers(lab.changed({"chapter5.advertisers": 2, "evaluation.periods": 1}))
    assert len(rows) == len(chapter_05.TEACHERS) == rows["method"].nunique()
    right = rows.set_index("method")["right"]
    assert right["LBM-Act + critic"] == 1
    assert right["LBM-Act + critic, wrong 0.6"] == pytest.approx(0.6)
    held = rows.set_index("method").loc["LBM-Act + critic, every 4 ticks, hold, wrong 0.4"]
    assert (held["every"], held["hold"]) == (4, True)

"""Chapter 5's studies: what is asked of whom, and numbers that can be checked by hand."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from small_period import small_period
from synthetic_trajectories import synthetic_trajectories
from tiny_backbone import save_tiny_backbone
from tiny_language_model import tiny_language_model

from lbm_core.act.decide import decide
from lbm_core.act.guides import SENTENCES
from lbm_core.auction.response_tables import ResponseTables
from lbm_core.pipeline import gqpo_study, moment_sets, thinking
from lbm_core.pipeline.moment_sets import draw_moments, joined, moments_at
from lbm_core.think.generate import Generation
from lbm_core.think.rules import RULES
from lbm_core.tiers import TIER_NAMES, get_tier

NAN = float("nan")
SIZES = {
    "act__steps": 3,
    "act__batch_size": 4,
    "act__layers": 1,
    "critic__hidden_size": 16,
    "critic__layers": 1,
    "critic__steps": 5,
    "baseline__dt_hidden_size": 16,
    "baseline__dt_layers": 1,
    "baseline__dt_steps": 5,
    "think__prompts": 4,
    "think__samples": 2,
}


@pytest.fixture(scope="module")
def days():
    return synthetic_trajectories(12, seed=4)


@pytest.fixture(scope="module")
def tier(tmp_path_factory, days):
    """Everything trained in a blink, on made-up days, and kept for the module."""
    folder = str(save_tiny_backbone(tmp_path_factory.mktemp("tiny")))
    tables = [ResponseTables.from_period(small_period(seed=k)) for k in (1, 2)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LBM_CACHE", str(tmp_path_factory.mktemp("cache")))
        for module in ("models", "thinking", "gqpo_study"):
            patch.setattr(f"lbm_core.pipeline.{module}.trajectories", lambda *arguments: days)
        patch.setattr(moment_sets, "past_tables", lambda *arguments: tables)
        patch.setattr(moment_sets, "spread_rows", np.arange)  # the small period has six advertisers, not 48
        yield get_tier("smoke", backbone=folder, evaluation__advertisers=5, **SIZES)


def _text(answer: str) -> Generation:
    return Generation(f"Hence {answer}", 5, "stop", 0.1)


@pytest.mark.parametrize("name", TIER_NAMES)
def test_every_tier_names_rules_that_exist(name):
    think = get_tier(name).think
    assert set(think.controls) <= set(RULES) - {"argmax"}
    assert think.temperature not in think.temperatures
    assert think.sweep_prompts <= think.prompts
    assert think.rounds == 1
    assert think.on_policy == 0


def test_paper_sizes():
    think = get_tier("paper").think
    assert (think.samples, think.learned, think.lora_rank, think.batch_size, think.epochs) == (3, 2_000, 0, 64, 5)


def test_moments_know_the_rule_and_what_was_last_bid(days):
    found = draw_moments(days, 20, np.random.default_rng(0))
    assert len(found) == 20
    assert (found.ticks > 0).all()
    np.testing.assert_allclose(found.last_alpha, days.alphas[found.rows, found.ticks - 1], rtol=1e-6)
    assert set(found.ruled) <= {-1, 0, 1}
    again = moments_at(days, found.rows[5:7], found.ticks[5:7])
    np.testing.assert_array_equal(again.ruled, found.ruled[5:7])
    both = joined([found, again])
    assert len(both.facts) == len(both.window) == len(both.ruled) == 22
    np.testing.assert_array_equal(both.cpa_ratio[20:], found.cpa_ratio[5:7])


def test_a_share_of_the_moments_is_met_by_lbm_act_itself(tier, capsys):
    mixed = replace(tier, think=replace(tier.think, on_policy=0.5))
    found = thinking.moments(mixed, "dense", 0)
    assert found.on_policy.tolist() == [False, False, True, True]
    own = thinking.on_policy_days(mixed, "dense", 0)
    assert "days of LBM-Act led by rule (dense): loaded" in capsys.readouterr().out
    assert set(own.period) == {7}
    assert set(own.advertiser) <= set(range(5))
    np.testing.assert_allclose(own.alphas[:, 0], own.cpa_target, rtol=1e-6, err_msg="LBM-Act opens at the target")
    met = found.rows[2:], found.ticks[2:]
    np.testing.assert_allclose(found.window.alphas[2:, -1], own.alphas[met], rtol=1e-6)
    logged = thinking.moments(tier, "dense", 0)
    np.testing.assert_array_equal(found.ticks[:2], logged.ticks[:2])
    assert not logged.on_policy.any()
    later = thinking.moments(tier, "dense", 0, round_number=2)
    assert not np.array_equal(later.ticks, logged.ticks) or not np.array_equal(later.rows, logged.rows)
    whole = thinking.moments(replace(tier, think=replace(tier.think, on_policy=1.0)), "dense", 0)
    assert whole.on_policy.all()
    with pytest.raises(ValueError, match="on_policy_guide"):
        thinking.on_policy_days(replace(tier, think=replace(tier.think, on_policy_guide="oracle")), "dense", 0)


def test_rounds_build_on_each_other_and_controls_are_kept_apart(tier, days, monkeypatch, tmp_path):
    asked, used, trained = draw_moments(days, 4, np.random.default_rng(1)), [], []
    groups = [[_text("<answer>1</answer>"), _text("<answer>-1</answer>")]] * 4
    rows = [(i, j, 1 if j == 0 else -1, 0.1 if j == 0 else -0.2, j == 0) for i in range(4) for j in range(2)]
    samples = pd.DataFrame(rows, columns=["prompt", "sample", "direction", "relative_q", "chosen"])

    def chains(*arguments, model=None, round_number=1, **options):
        used.append((model, round_number))
        return asked, groups

    def finetune(config, prompts, texts, folder, *, weights=None):
        trained.append((config.backbone, set(texts), weights))
        folder.mkdir(parents=True)
        (folder / "losses.csv").write_text("step,loss\n1,1.0\n")

    monkeypatch.setattr(thinking, "think_chains", chains)
    monkeypatch.setattr(thinking, "judged", lambda *a, **o: type("Fake", (), {"samples": samples}))
    monkeypatch.setattr("lbm_core.think.finetune.finetune", finetune)
    fake = type("Files", (), {"tokenizer": tiny_language_model().tokenizer})
    monkeypatch.setattr("lbm_core.act.backbone.backbone_files", lambda name: fake)
    two = replace(tier, think=replace(tier.think, rounds=2, controls=("argmin", "weights")))
    models = gqpo_study.fine_tuned(two, "dense", 0)
    assert list(models) == ["GQPO, round 1", "GQPO", "argmin", "weights"]
    assert len(set(models.values())) == 4
    first = models["GQPO, round 1"]
    assert used[:2] == [(None, 1), (first, 2)], "round 2 samples with the model of round 1 …"
    assert [config for config, _, _ in trained] == ["smollm2-135m", str(first), "smollm2-135m", "smollm2-135m"]
    best, worst = ({group[j].text for group in groups} for j in (0, 1))
    assert [texts for _, texts, _ in trained[:3]] == [best, best, worst]
    assert trained[0][2] is None
    assert np.mean(trained[3][2]) == pytest.approx(1.0)
    assert gqpo_study.fine_tuned(two, "dense", 0) == models
    assert len(trained) == 4, "everything is found again"
    with pytest.raises(ValueError, match="rounds >= 1"):
        thinking.gqpo_model(tier, "dense", 0, rounds=0)
    with pytest.raises(ValueError, match="rule must be one of argmax"):
        thinking.gqpo_model(tier, "dense", 0, rule="best")
    with pytest.raises(ValueError, match="GQPO itself"):
        gqpo_study.fine_tuned(replace(tier, think=replace(tier.think, controls=("argmax",))), "dense", 0)


def test_no_adviser_has_the_name_of_a_control():
    assert not {gqpo_study.DT_NAME, gqpo_study.RULE_NAME} & {*RULES, gqpo_study.PRETRAINED, gqpo_study.TUNED}


def test_a_sweep_by_hand():
    relative_q = [[0.1, -0.2, 0.3], [-0.1, -0.1, NAN]]
    errors = [[0.02, 0.5, 0.2], [0.0, NAN, NAN]]
    rows = [(i, j, relative_q[i][j], errors[i][j]) for i in range(2) for j in range(3)]
    samples = pd.DataFrame(rows, columns=["prompt", "sample", "relative_q", "ratio_error"])
    found = gqpo_study.swept(samples, tolerances=(0.03, 0.3)).set_index(["tolerance", "n"])
    assert found.loc[("excused", 1), "accepted"] == pytest.approx(5 / 6)
    assert found.loc[("0.3", 1), "accepted"] == pytest.approx(3 / 6)
    assert found.loc[("0.03", 3), "learned"] == pytest.approx(1 / 2)
    assert found.loc[("0.03", 3), "relative_q"] == pytest.approx(0.1)
    # Of two texts of the first group the best is 0.1, 0.3 and 0.3; the second leaves nothing.
    assert found.loc[("excused", 2), "learned"] == pytest.approx(1 / 2)
    assert found.loc[("excused", 2), "gain"] == pytest.approx((0.1 + 0.3 + 0.3) / 6)
    assert found.loc[("excused", 1), "gain"] == pytest.approx((0.1 + 0.3) / 6)
    assert found.loc[("excused", 3), "gain"] == pytest.approx(0.3 / 2)


def test_the_sweep_asks_at_every_temperature(tier, monkeypatch):
    asked = []

    def ask(tier, dataset, seed, facts, purpose, *, n, sampling):
        asked.append((len(facts), n, sampling.temperature))
        return [[_text("<answer>1</answer>")] * n for _ in facts]

    monkeypatch.setattr(gqpo_study, "ask", ask)
    settings = {"temperatures": (1.0, 0.2), "sweep_prompts": 3, "sweep_samples": 2}
    found = gqpo_study.sweep(replace(tier, think=replace(tier.think, **settings)), "dense", 0)
    assert asked == [(3, 2, 0.2), (3, 2, 0.5), (3, 2, 1.0)]
    assert set(found["temperature"]) == {0.2, 0.5, 1.0}
    assert found.query("tolerance == 'excused'")["accepted"].eq(1).all()
    assert found.query("tolerance != 'excused'")["accepted"].eq(0).all(), "no text states a ratio"


def test_what_a_coin_passes_by_hand():
    rows = [
        ("logged", m, d, q, 1)
        for m, qs in enumerate([(-0.1, 0.0, 0.2), (0.3, -0.1, 0.1)])
        for d, q in zip((-1, 0, 1), qs, strict=True)
    ]
    frame = pd.DataFrame(rows, columns=["source", "moment", "direction", "relative_q", "ruled"])
    found = gqpo_study.coin_shares(frame, n=2).set_index("adviser")
    assert found.loc["raise", "passes"] == 1
    assert found.loc["lower", "passes"] == 0.5
    assert found.loc["unsure", "passes"] == 0
    assert found.loc["rule", "relative_q"] == found.loc["raise", "relative_q"] == pytest.approx(0.15)
    assert found.loc["critic", "chosen"] == pytest.approx(0.25)
    assert found.loc["coin", "passes"] == 0.75
    # Two tosses: the better side is missed with probability 1/4, and at the first moment the other side fails.
    assert found.loc["coin", "group"] == pytest.approx((0.75 + 1) / 2)
    gained = 0.75 * 0.2 + 0.75 * 0.3 + 0.25 * 0.1
    assert found.loc["coin", "chosen"] == pytest.approx(gained / 1.75)


def test_the_coins_directions_are_those_of_lbm_act(tier):
    few = replace(tier, think=replace(tier.think, coin_moments=6))
    found = gqpo_study.coin(few, "dense", 0)
    assert found.groupby(["source", "direction"]).size().eq(6).all()
    assert set(found["source"]) == {"logged", "on-policy"}
    assert np.isfinite(found["relative_q"]).all()


def test_the_best_direction_of_the_simulator():
    """Far below the prices' level more alpha is better; far above it, with a low target, less."""
    period = small_period(budget=1e5)
    tables, n = ResponseTables.from_period(period), 4
    alphas = np.repeat([[6.0], [6.0], [30.0], [0.4]], 48, axis=1)
    made = synthetic_trajectories(n)
    days = replace(
        made,
        advertiser=np.arange(n),
        length=np.full(n, 48),
        budget=np.full(n, 1e5),
        cpa_target=np.array([12.0, 12.0, 6.0, 12.0]),
        alphas=alphas,
    )
    some = moments_at(days, np.arange(n), np.array([5, 30, 10, 5]))
    best = gqpo_study.best_directions(tables, days, some)
    assert best[:3].tolist() == [1.0, 1.0, -1.0]
    assert np.isnan(best[3]), "nothing is won at any of the three"


def test_models_are_compared_on_the_same_moments(tier, days, monkeypatch):
    some = draw_moments(days, 5, np.random.default_rng(2))
    flags = np.ones(5, dtype=bool)
    probes = gqpo_study.Probes(some, flags, ~flags, np.array([1.0, -1.0, 0.0, NAN, 1.0]))
    said = ["<answer>1</answer>", "<answer>-1</answer>", "<answer>0</answer>", "none", "<answer>1</answer>"]
    monkeypatch.setattr(gqpo_study, "ask", lambda *a, **o: [[_text(answer)] for answer in said])
    found = gqpo_study.compared(tier, "dense", 0, probes, {"pretrained": None})
    assert found.groupby("model", sort=False).size().to_dict() == {"pretrained": 5, "DT": 5, "spend-rate rule": 5}
    ours = found[found["model"] == "pretrained"]
    assert ours["direction"].fillna(9).tolist() == [1, -1, 0, 9, 1]
    actor = gqpo_study.act(tier, "dense", 0)
    followed = [SENTENCES[told] for told in (1, -1, 0, 0, 1)]
    np.testing.assert_allclose(ours["alpha"], decide(actor, some.window, followed), rtol=1e-5)
    np.testing.assert_allclose(ours["delta_a"], np.log(ours["alpha"] / some.last_alpha), rtol=1e-6)
    values = gqpo_study.relative_q_of_directions(tier, "dense", 0, some.window)
    np.testing.assert_array_equal(ours["critic_best"], values.argmax(axis=1) - 1)
    np.testing.assert_allclose(ours["relative_q"], values[np.arange(5), [2, 0, 1, 1, 2]], atol=1e-5)
    rule = found[found["model"] == gqpo_study.RULE_NAME]
    assert rule["direction"].astype(int).tolist() == some.ruled.tolist()
    assert found.loc[found["model"] == "DT", "status"].isna().all()


def test_probes_are_random_and_stratified_and_held_out(tier, monkeypatch):
    from lbm_core.data.behaviour import simulate_period

    log = simulate_period("dense", 7, 0)
    monkeypatch.setattr(gqpo_study, "held_out_periods", lambda *arguments: type("Days", (), {"logs": (log,)}))
    asked = gqpo_study.probes(replace(tier, think=replace(tier.think, probes=10)), "dense", 0)
    assert asked.random.sum() == 10
    ratio = asked.moments.cpa_ratio[asked.stratified]
    assert (ratio < 1).sum() == (ratio > 1).sum() == 5
    assert len(asked.moments) == len(asked.best) == (asked.random | asked.stratified).sum()
    assert set(asked.best[np.isfinite(asked.best)]) <= {-1.0, 0.0, 1.0}


def test_a_fine_tuned_model_says_how_many_texts_it_learned(tmp_path):
    from lbm_core.think.finetune import FinetuneConfig, finetune

    folder, made = tmp_path / "tiny", tiny_language_model()
    made.model.save_pretrained(folder)
    made.tokenizer.save_pretrained(folder)
    finetune(FinetuneConfig(str(folder), epochs=1), ["a:", "b:"], [" c", " d"], tmp_path / "tuned")
    assert json.loads((tmp_path / "tuned" / "finetune.json").read_text())["samples"] == 2


def test_texts_are_asked_for_in_the_style_that_is_given(tier, days, monkeypatch):
    from lbm_core.think.prompt import PromptStyle

    seen: list[str] = []

    class Listening:
        name, batch_size, tokenizer = "listening", 8, tiny_language_model().tokenizer

        def sample(self, prompts, n, sampling, seed):
            seen.extend(prompts)
            return [[_text("<answer>1</answer>")] * n for _ in prompts]

        def close(self):
            pass

    monkeypatch.setattr(thinking, "think_backend", lambda *arguments: Listening())
    facts = draw_moments(days, 2, np.random.default_rng(3)).facts
    own = PromptStyle(order="facts_last", worked_examples=3, first_example=1)
    for style in (None, own):
        thinking.ask(tier, "dense", 0, facts, "styles", n=1, style=style)
    usual, turned = sorted(seen[:2]), sorted(seen[2:])
    assert sorted(map(len, usual)) == sorted(map(len, turned))
    assert all(a != b for a, b in zip(usual, turned, strict=True)), "the same cases in another order"

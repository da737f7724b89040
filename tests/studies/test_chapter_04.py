"""Chapter 4's comparisons: texts of several models, a day that differs by one advice, and what shows it."""

from __future__ import annotations

import numpy as np
import pytest
from scripted import Scripted, let_write

from lbm_core.act.guides import INCREASE, UNCERTAIN
from lbm_core.report import figures, widgets
from lbm_core.studies import chapter_04
from lbm_core.think.generate import Generation
from lbm_core.think.hallucination import hallucination

RAISE = "So raise the bidding parameter. <ratio>1</ratio> <answer>1</answer>"
MUTE = "I would rather not say."


@pytest.fixture(scope="module")
def lab(lab):
    """With an LBM-Act of simulated days that heeds what it is told."""
    obedient = {"data.train_periods": 3, "act.steps": 100, "act.batch_size": 64}
    return lab.changed(obedient | {"evaluation.train_seeds": 1, "chapter4.day_every": 12})


@pytest.fixture(scope="module")
def day(lab):
    """Advice and silence by turns: advertiser by advertiser, starting anew with every consultation."""
    turns = Scripted("turns", lambda prompt, k, _: Generation(MUTE if k % 2 else RAISE, 9, "stop", 0.5))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lbm_core.lab.thinking.backend", lambda *_: turns)
        advice, paths = chapter_04.led_day(lab.changed({"think.ratio_required": False}))
    assert turns.closed
    assert all(any(facts in prompt for prompt in turns.prompts) for facts in advice["facts"]), "what was told"
    return advice, paths


def test_the_day_tells_what_was_advised_and_followed(day):
    advice, _ = day
    assert sorted(advice["tick"].unique()) == [12, 24, 36]
    followed = advice[advice["followed"]]
    assert len(followed) > 0
    assert followed["guide"].eq(INCREASE).all()
    assert followed["direction"].eq(1).all()
    assert advice.loc[~advice["followed"], "guide"].eq(UNCERTAIN).all()
    assert advice.loc[advice["text"] == MUTE, "check"].eq("no answer").all()
    wrong = followed["check"] == "ratio wrong"
    assert (wrong == ((followed["true_ratio"] - 1).abs() > 0.03)).all(), "the strict check, though the tier excuses it"
    for row in advice.itertuples():
        assert f"budget of {row.budget:.6g} " in row.facts


def test_days_differ_by_one_advice_and_share_the_past(day):
    advice, paths = day
    wide = paths.pivot(index=["advertiser", "advice_tick", "tick"], columns="kind", values=["cost", "conversions"])
    before = wide.index.get_level_values("tick") < wide.index.get_level_values("advice_tick")
    for column in ("cost", "conversions"):
        np.testing.assert_array_equal(wide[column]["with"][before], wide[column]["without"][before])
    silent = advice[~advice["followed"]]
    for column in ("alpha", "cost", "conversions", "score"):
        np.testing.assert_allclose(silent[f"{column}_with"], silent[f"{column}_without"])
    moved = advice[advice["followed"] & (advice["alpha_with"] > 0)]
    assert (moved["alpha_with"] > moved["alpha_without"]).mean() > 0.5, "told to raise, it raises"
    for row in advice.itertuples():
        mine = paths.query("advertiser == @row.advertiser and advice_tick == @row.tick and kind == 'with'")
        window = mine[mine["tick"].between(row.tick, row.tick + 3)]
        assert row.cost_with == pytest.approx(window["cost"].sum())
        assert row.conversions_with == pytest.approx(window["conversions"].sum())


def test_the_inspector_and_fig_4_read_what_the_day_gave(day):
    advice, paths = day
    shown = widgets.example(advice)
    assert shown["followed"]
    page = widgets.page(shown)
    for part in (f"{shown['advertiser']}", RAISE, INCREASE, shown["facts"].splitlines()[0]):
        assert part in page
    other = widgets.page(advice[~advice["followed"]].iloc[0])
    assert "ratio none" in other
    assert "answer none" in other
    menu, text = widgets.inspector(advice).children
    for k in range(len(advice)):
        menu.value = k
        assert "&lt;answer&gt;" in text.value or MUTE in text.value, "tags are shown, not obeyed"
    mine = paths[(paths["advertiser"] == shown["advertiser"]) & (paths["advice_tick"] == shown["tick"])]
    assert [len(axes.lines) for axes in figures.fig4(mine, shown).axes] == [2, 2], "with and without the advice"


def test_texts_of_several_models(lab, monkeypatch):
    def answer(prompt, k, j):
        return Generation(MUTE[:5], 40, "length", 0.1) if j else Generation(RAISE, 30, "stop", 0.1)

    models = let_write(monkeypatch, answer)
    several = lab.changed({"chapter4.models": ("somewhere/small.gguf", "thinks", "Qwen/Qwen2.5-3B-Instruct")})
    texts = chapter_04.checked_texts(several.changed({"think.backbone": "thinks", "think.ratio_required": False}))
    names = ["thinks", "small", "Qwen2.5-3B-Instruct"]
    assert [model for model, _ in models] == ["thinks", "somewhere/small.gguf", "Qwen/Qwen2.5-3B-Instruct"]
    assert list(dict.fromkeys(texts["model"])) == names
    assert len(texts) == 3 * 3 * 2
    assert texts.loc[texts["sample"] == 1, "status"].eq("truncated").all()
    first = texts[texts["sample"] == 0]
    assert first["stated"].eq(1).all()
    assert first["status"].ne("accepted").any(), "the ratio counts, though the tier excuses it"
    shares = hallucination(texts, np.random.default_rng(0))
    by_status = shares[shares["quantity"].isin({*texts["status"], "accepted"})]
    assert np.allclose(by_status.groupby("model")["value"].sum(), 1), "every text has one status"
    assert list(dict.fromkeys(shares["model"])) == names


def test_scores_by_model_are_of_lbm_with_each(lab, monkeypatch):
    asked = let_write(monkeypatch, lambda *_: Generation(RAISE, 9, "stop", 0.1))
    few = lab.changed({"chapter4.models": ("a/b",), "chapter4.advertisers": 2, "think.backbone": "thinks"})
    scores = chapter_04.scores_by_model(few.changed({"think.ratio_required": False, "think.every": 12}))
    assert scores.groupby("model", sort=False)["method"].unique().map(list).to_dict() == {
        "none": ["uncertain"],
        "thinks": ["LBM(P)"],
        "b": ["LBM(P)"],
    }
    assert {model for model, _ in asked} == {"thinks", "a/b"}
    assert scores["advertiser"].nunique() == 2
    won = scores.groupby("model")["expected_conversions"].sum()
    assert won["thinks"] == won["b"] != won["none"], "both say the same, and that changes the day"

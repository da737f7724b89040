"""Chapter 4's studies: texts of several models, a day that differs by one advice, and the inspector on top of it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from lbm_core.think.guide import ThinkGuide
from small_period import small_period
from synthetic_trajectories import synthetic_trajectories
from tiny_backbone import save_tiny_backbone
from tiny_language_model import tiny_language_model

from lbm_core.act.guides import INCREASE, UNCERTAIN
from lbm_core.pipeline import latency_study, think_study
from lbm_core.report import inspector, think_figures
from lbm_core.think.generate import Generation, Sampling
from lbm_core.think.hallucination import hallucination, ratio_errors
from lbm_core.think.prompt import PromptStyle, logged_facts
from lbm_core.tiers import get_tier

RAISE = "So raise the bidding parameter. <ratio>1</ratio> <answer>1</answer>"
MUTE = "I would rather not say."


class Turns:
    """Advice and silence by turns: prompt by prompt of a batch, starting anew with every batch."""

    name, batch_size = "turns", 64

    def __init__(self):
        self.tokenizer = tiny_language_model().tokenizer
        self.closed = False
        self.asked: list[tuple[int, int]] = []

    def sample(self, prompts, n, sampling, seed):
        self.asked.append((len(prompts), sampling.max_new_tokens))
        texts = [RAISE if k % 2 == 0 else MUTE for k in range(len(prompts))]
        return [[Generation(text, len(text) // 4, "stop", 0.5)] * n for text in texts]

    def close(self):
        self.closed = True


@pytest.fixture(scope="module")
def days():
    return synthetic_trajectories(60, seed=4)


@pytest.fixture(scope="module")
def tier(tmp_path_factory, days):
    """An LBM-Act trained in a blink, on made-up days."""
    folder = str(save_tiny_backbone(tmp_path_factory.mktemp("tiny")))
    sizes = {"act__steps": 40, "act__batch_size": 16, "act__layers": 2, "act__learning_rate": 3e-3}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LBM_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr("lbm_core.pipeline.models.trajectories", lambda *arguments: days)
        yield get_tier("smoke", backbone=folder, think__day_every=12, **sizes)


@pytest.fixture(scope="module")
def led(tier):
    backend = Turns()

    class Numbers:
        numbers = (7,)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(think_study, "held_out_periods", lambda *arguments: Numbers)
        patch.setattr(think_study, "replay_period", lambda *arguments: small_period(budget=90.0))
        patch.setattr(think_study, "spread_rows", np.arange)
        patch.setattr(
            think_study,
            "think_guide",
            lambda asked, *arguments: ThinkGuide(backend, think_every=asked.think.think_every, ratio_required=False),
        )
        found = think_study.led_day(tier, "dense", 0)
    assert backend.closed
    return found


def test_the_led_day_tells_what_was_said_and_followed(led):
    advice, _ = led
    assert sorted(advice["tick"].unique()) == [12, 24, 36]
    followed = advice[advice["followed"]]
    assert len(followed) > 0
    assert followed["guide"].eq(INCREASE).all()
    assert followed["direction"].eq(1).all()
    assert advice.loc[~advice["followed"], "guide"].eq(UNCERTAIN).all()
    assert advice.loc[advice["text"] == MUTE, "check"].eq("no answer").all()
    wrong = followed["check"] == "ratio wrong"
    assert (wrong == ((followed["true_ratio"] - 1).abs() > 0.03)).all(), "the strict check, though the tier excuses it"
    assert advice["facts"].str.contains("bidding parameter in each timestep").all()
    for row in advice.itertuples():
        assert f"budget of {row.budget:.6g} " in row.facts


def test_days_differ_by_one_advice_and_share_the_past(led):
    advice, paths = led
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


def test_the_inspector_shows_every_part_of_a_page(led):
    look = inspector.ChainInspector(led[0])
    who, tick = look.example()
    assert look.row(who, tick)["followed"]
    page = look.page(who, tick)
    for part in (f"ADVERTISER {who}, TICK {tick}", RAISE, INCREASE, "answer 1 (raise)", "with and without"):
        assert part in page
    silent = led[0][~led[0]["followed"]].iloc[0]
    other = look.page(int(silent["advertiser"]), int(silent["tick"]))
    assert "ratio none" in other
    assert "answer none" in other
    with pytest.raises(KeyError, match="no chain of thought"):
        look.row(who, 1)
    with pytest.raises(ValueError, match="columns"):
        inspector.ChainInspector(led[0].drop(columns="guide"))


def test_the_inspectors_menus(led):
    look = inspector.ChainInspector(led[0])
    board = inspector.InspectorBoard(look)
    assert (board.advertiser.value, board.tick.value) == look.example()
    for who in look.advertisers:
        board.advertiser.value = who
        assert list(board.tick.options) == look.ticks(who)
        for tick in look.ticks(who):
            board.tick.value = tick
            assert f"ADVERTISER {who}, TICK {tick}" in board.page.value
    assert "&lt;answer&gt;" in board.page.value or MUTE in board.page.value, "tags are shown, not obeyed"


def test_the_day_is_drawn(led):
    look = inspector.ChainInspector(led[0])
    who, tick = look.example()
    mine = led[1].query("advertiser == @who and advice_tick == @tick")
    figure = think_figures.advised_day(mine, look.row(who, tick))
    assert [len(axes.lines) for axes in figure.axes] == [3, 3, 3]
    assert {text.get_text() for text in figure.axes[0].get_legend().get_texts()} == {
        "with the advice",
        "without the advice",
    }


def chains_of(monkeypatch, days, models_seen):
    def think_chains(tier, dataset, seed):
        models_seen.append(tier.think_backbone)
        facts = logged_facts(days, np.arange(6), np.full(6, 20))
        asked = type("Asked", (), {"facts": facts})
        texts = [Generation(RAISE, 30, "stop", 0.1), Generation(MUTE[:5], 40, "length", 0.1)]
        return asked, [texts] * len(facts)

    monkeypatch.setattr(think_study, "think_chains", think_chains)
    monkeypatch.setattr(latency_study, "think_chains", think_chains)


def test_texts_of_several_models(tier, days, monkeypatch):
    seen: list[str] = []
    chains_of(monkeypatch, days, seen)
    several = get_tier("smoke", think__models=("somewhere/small.gguf", "smollm2-135m", "Qwen/Qwen2.5-3B-Instruct"))
    texts = think_study.checked_texts(several, "dense", 0)
    assert seen == ["smollm2-135m", "somewhere/small.gguf", "Qwen/Qwen2.5-3B-Instruct"]
    assert list(dict.fromkeys(texts["model"])) == ["smollm2-135m", "small", "Qwen2.5-3B-Instruct"]
    assert len(texts) == 3 * 6 * 2
    assert texts.loc[texts["sample"] == 1, "status"].eq("truncated").all()
    assert texts.loc[texts["sample"] == 0, "stated"].eq(1).all()
    shares = hallucination(texts, np.random.default_rng(0))
    drawn = texts.assign(ratio_error=ratio_errors(texts))
    statuses = shares[shares["quantity"].isin(set(texts["status"]) | {"accepted"})]
    figure = think_figures.outcomes(drawn, statuses)
    assert len(figure.axes) == 3
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(dict.fromkeys(texts["model"]))


def test_scores_by_model_ask_for_lbm_with_each(monkeypatch):
    asked = []

    def evaluate_methods(tier, dataset, seed, methods):
        asked.append((tier.think_backbone, tuple(methods), tier.evaluation.advertisers))
        return pd.DataFrame({"method": list(methods), "score": 1.0})

    monkeypatch.setattr(think_study, "evaluate_methods", evaluate_methods)
    tier = get_tier("smoke", think__models=("a/b",))
    frame = think_study.scores_by_model(tier, "dense", 0)
    assert frame["model"].tolist() == ["none", "smollm2-135m", "b"]
    few = tier.act.study_advertisers
    assert asked[1:] == [("smollm2-135m", ("LBM(P)",), few), ("a/b", ("LBM(P)",), few)]


def test_latencies_of_every_module(tier, days, monkeypatch):
    chains_of(monkeypatch, days, [])
    backend = Turns()
    monkeypatch.setattr(latency_study, "trajectories", lambda *arguments: days)
    monkeypatch.setattr(latency_study, "think_backend", lambda tier: backend)
    monkeypatch.setattr(latency_study, "think_settings", lambda tier: (Sampling(max_new_tokens=50), PromptStyle()))
    monkeypatch.setattr(latency_study, "_parameters", lambda name: 1_000)
    small = get_tier(
        "smoke",
        backbone=tier.backbone,
        think__latency_batch=4,
        critic__steps=2,
        critic__hidden_size=8,
        act__steps=40,
        act__batch_size=16,
        act__layers=2,
        act__learning_rate=3e-3,
    )
    frame, lengths = latency_study.modules(small, "dense", 0, repetitions=2)
    assert backend.closed
    assert sorted(zip(frame["module"], frame["batch"], strict=True)) == sorted(
        [(module, batch) for module in ("critic", "LBM-Act", "LBM-Think") for batch in (1, 4)] + [("LBM-Think", 1)]
    )
    assert (frame["median_seconds"] > 0).all()
    assert (frame["p99_seconds"] >= frame["median_seconds"]).all()
    assert sorted(lengths["tokens"].unique()) == [30, 40]
    assert lengths["truncated"].mean() == 0.5
    assert backend.asked == [(1, 1), (1, 1), (1, 9), (4, 1), (4, 9), (1, 50)], "one warm-up, then each part once"
    think = frame[frame["basis"] == latency_study.PUT_TOGETHER]
    assert think[["prompt_seconds", "step_seconds"]].notna().all(axis=None)
    with pytest.raises(ValueError, match="latency_batch"):
        latency_study.modules(get_tier("smoke", think__latency_batch=61), "dense", 0)


def test_lateness_and_timeline_are_drawn():
    rows = [
        ("rule", 0, 0.0, False, 1, 10.0, np.nan, np.nan, np.nan),
        ("rule", 1, 0.0, False, 1, 9.5, -0.5, -0.9, -0.1),
        ("rule", 4, 0.0, False, 1, 9.0, -1.0, -1.5, -0.5),
        ("rule", 4, 0.0, True, 4, 9.1, -0.9, np.nan, np.nan),
        ("rule", 1, 0.5, False, 1, 9.3, -0.7, -1.0, -0.4),
        ("rule", 1, 0.5, True, 1, 9.4, -0.6, -1.0, -0.2),
        ("rule", 1, 1.0, False, 1, 8.8, -1.2, -2.0, -0.3),
    ]
    columns = ["guide", "late", "missing", "hold", "every", "mean", "difference", "low", "high"]
    figure = think_figures.lateness(pd.DataFrame(rows, columns=columns))
    left, right = figure.axes
    assert list(left.lines[0].get_xdata()) == [0, 1, 4]
    assert list(left.lines[1].get_xdata()) == [0, 1, 4]
    assert list(right.lines[0].get_xdata()) == [0.0, 0.5]
    ready = pd.DataFrame(
        {"advertisers": [48, 5_000], "median_seconds": [60.0, 2_000.0], "p99_seconds": [80.0, 2_100.0]}
    )
    words = [text.get_text() for text in think_figures.timeline(ready, 1_800.0, 0.2).axes[0].texts]
    assert words == ["1,720 s left", "300 s too late"]
    measured = pd.DataFrame(
        {"module": ["critic", "LBM-Act"] * 2, "batch": [1, 1, 48, 48], "median_seconds": 0.1, "p99_seconds": 0.2}
    )
    assert len(think_figures.latencies(measured, 1_800.0).axes[0].patches) == 4


def test_the_same_moments_are_asked_about_with_each_example_last(monkeypatch, days):
    facts = logged_facts(days, np.arange(4), np.full(4, 20))
    asked = []

    def ask(tier, dataset, seed, facts, purpose, *, n, style):
        asked.append((tier.think_backbone, len(facts), n, style.first_example))
        copied = style.examples[-1][1] if tier.think_backbone == "a/copy" else RAISE
        return [[Generation(copied, 9, "stop", 0.1)]] * (len(facts) - 1) + [[Generation(MUTE, 9, "stop", 0.1)]]

    monkeypatch.setattr(think_study, "ask", ask)
    monkeypatch.setattr(think_study, "moments", lambda *a: type("Asked", (), {"facts": facts}))
    tier = get_tier("smoke", think_backbone="a/copy", think__models=("a/firm",), think__order_prompts=3)
    found = think_study.last_example_varied(tier, "dense", 0)
    assert asked == [(model, 3, 1, first) for model in ("a/copy", "a/firm") for first in range(3)]
    answered = found[found["direction"].notna()]
    assert len(found) - len(answered) == 6, "the last moment's text cannot be read"
    copies = answered[answered["model"] == "copy"]
    assert (copies["direction"] == copies["last"]).all()
    assert sorted(copies["last"].unique()) == [-1, 0, 1]
    assert answered.loc[answered["model"] == "firm", "direction"].eq(1).all()
    with pytest.raises(ValueError, match="two worked examples"):
        think_study.last_example_varied(get_tier("gpu"), "dense", 0)

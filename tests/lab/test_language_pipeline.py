"""Prompting, SFT and GRPO in the pipeline: trained once, found again, evaluated beside others; and their figures."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from tiny_language_model import tiny_language_model

from lbm_core import pipeline
from lbm_core.pipeline import contenders
from lbm_core.report import language_figures, paper
from lbm_core.tiers import get_tier


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A cache of its own, a language model of bytes, and a tier of seconds."""
    monkeypatch.setenv("LBM_CACHE", str(tmp_path / "cache"))
    for module in ("act.backbone", "baselines.text_training", "think.transformers_backend"):
        monkeypatch.setattr(f"lbm_core.{module}.load_backbone", lambda *_, **__: tiny_language_model())
    return get_tier(
        "smoke",
        data__train_periods=1,
        data__evaluation_periods=1,
        evaluation__advertisers=2,
        language__study_advertisers=1,
        language__trained_layers=1,
        language__worked_examples=0,
        language__max_new_tokens=8,
        language__grpo_length_floor=4,
        language__sft_samples=2,
        language__grpo_moments=2,
        language__grpo_steps=1,
        language__grpo_variants=("grpo", "grpo, length floor"),
    )


def test_models_are_trained_once_and_evaluated(tiny, capsys):
    lengths = pipeline.grpo_lengths(tiny, "dense", 0)
    assert list(lengths["variant"]) == ["grpo", "grpo, length floor"]
    assert (lengths["length"] <= 8).all()
    frame = pipeline.evaluate_methods(tiny, "dense", 0, ["constant", *pipeline.LANGUAGE])
    printed = capsys.readouterr().out
    assert "GRPO (grpo; dense, training seed 0): computed" in printed
    assert "SFT (dense, training seed 0): computed" in printed
    assert list(frame["method"].unique()) == ["constant", *pipeline.LANGUAGE]
    # Random bytes are never understood: such a bidder is the constant one.
    by_method = frame.groupby("method")["conversions"].sum()
    assert by_method.eq(by_method["constant"]).all()
    again = pipeline.evaluate_methods(tiny, "dense", 0, ["constant", *pipeline.LANGUAGE])
    assert again.equals(frame)
    assert "4 replays of 4 methods (dense): loaded" in capsys.readouterr().out
    assert len(pipeline.sft_losses(tiny, "dense", 0)) == 1


def test_settings_of_the_language_baselines_leave_the_others_known(tiny, capsys, monkeypatch):
    pipeline.evaluate_methods(tiny, "dense", 0, ["constant"])
    monkeypatch.setattr(contenders, "RECIPE", 99)
    capsys.readouterr()
    changed = replace(tiny, language=replace(tiny.language, sft_samples=99))
    pipeline.evaluate_methods(changed, "dense", 0, ["constant"])
    assert "1 replays of 1 methods (dense): loaded" in capsys.readouterr().out


def test_training_seeds_and_advertisers_of_their_own(tiny):
    more = replace(tiny, act=replace(tiny.act, seeds=3), language=replace(tiny.language, seeds=2))
    few = pipeline.language_tier(more)
    assert few.evaluation.advertisers == 1
    frame = pipeline.evaluate_methods(few, "dense", 0, ["constant", "Prompting", "SFT"])
    assert frame.groupby("method")["train_seed"].unique().map(list).to_dict() == {
        "constant": [0],
        "Prompting": [0],
        "SFT": [0, 1],
    }


def test_moments_hold_the_logged_alpha(tiny):
    asked = pipeline.text_moments(tiny, "dense", 0, 3)
    assert len(asked) == 3
    assert (asked.window.alphas[:, -1] > 0).all()
    for fact, last in zip(asked.facts, asked.window.alphas[:, -2], strict=True):
        assert fact.alphas[-1] == pytest.approx(float(last), rel=1e-5)
    with pytest.raises(ValueError, match="unknown language baseline"):
        pipeline.language_bidder(tiny, "dense", 0, "RLHF")


def test_figure_6_shows_every_variant_beside_the_papers_curve():
    steps = np.arange(1, 4)
    log = pd.concat(
        pd.DataFrame({"variant": name, "step": steps, "length": 50 - 10 * steps, "answered": steps / 4})
        for name in ("grpo", "dapo")
    )
    figure = language_figures.fig6_lengths(log, paper.figure6())
    theirs, ours, answered = figure.axes
    assert len(theirs.lines) == 1
    assert len(ours.lines) == len(answered.lines) == 2
    np.testing.assert_array_equal(ours.lines[0].get_ydata(), [40, 30, 20])
    np.testing.assert_array_equal(answered.lines[0].get_ydata(), [25, 50, 75])


def test_bars_of_answers_add_up_to_all():
    answers = pd.DataFrame(
        {
            "method": ["Prompting", "Prompting", "SFT"],
            "status": ["truncated", "accepted", "accepted"],
            "count": [3, 1, 2],
        }
    )
    (axes,) = language_figures.statuses(answers).axes
    widths = [[bar.get_width() for bar in group] for group in axes.containers]
    np.testing.assert_allclose(np.sum(widths, axis=0), [100, 100])
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["accepted", "truncated"]

"""Chapter 7's comparisons: Prompting, SFT and GRPO trained once, found again, evaluated beside others."""

from __future__ import annotations

import numpy as np
import pytest
from scripted import let_write

from lbm_core.evaluation.statistics import trainings
from lbm_core.lab import texts
from lbm_core.lab.methods import LANGUAGE
from lbm_core.lab.thinking import logged_decisions
from lbm_core.studies import chapter_07
from lbm_core.studies.sizes import few
from lbm_core.think.generate import Generation

SIZES = {
    "evaluation.advertisers": 2,
    "evaluation.train_seeds": 1,
    "chapter7.advertisers": 1,
    "chapter7.grpo_variants": ("grpo", "grpo, length floor"),
    "chapter7.length_floor": 4,
    "sft.samples": 2,
    "sft.trained_layers": 1,
    "grpo.prompts": 2,
    "grpo.steps": 1,
    "grpo.trained_layers": 1,
    "grpo.max_new_tokens": 8,
    "ask.style.worked_examples": 0,
    "ask.max_new_tokens": 8,
    "ask.every": 12,
}


@pytest.fixture(scope="module")
def lab(lab):
    """With text baselines of a few steps."""
    return lab.changed(SIZES)


def test_models_are_trained_once_and_evaluated(lab, capsys):
    lengths = chapter_07.grpo_lengths(lab)
    assert list(lengths["variant"]) == ["grpo", "grpo, length floor"]
    assert lengths.columns[:3].tolist() == ["variant", "step", "length"]
    assert (lengths["length"] <= 8).all()
    assert len(chapter_07.sft_losses(lab)) == 1
    rows = lab.evaluate(["constant", *LANGUAGE])
    printed = capsys.readouterr().out
    assert "GRPO (grpo; dense, training seed 0): computed" in printed
    assert "SFT (dense, training seed 0): computed" in printed
    assert printed.count("SFT (dense, training seed 0)") == 1, "once trained it is only used"
    assert list(rows["method"].unique()) == ["constant", *LANGUAGE]
    # Random bytes are never understood: such a bidder is the constant one.
    by_method = rows.groupby("method")["conversions"].sum()
    assert by_method.eq(by_method["constant"]).all()
    keys = rows.groupby("method")["weights"].unique().map(list).to_dict()
    assert keys["constant"] == [""]
    assert keys["Prompting"][0].startswith("+"), "nobody trained it"
    assert all(len(keys[name][0]) == 10 for name in ("SFT", "GRPO"))
    assert [trainings(rows, name) for name in ("constant", *LANGUAGE)] == [0, 0, 1, 1]
    again = lab.evaluate(["constant", *LANGUAGE])
    assert again.equals(rows)
    assert "4 replays of 4 methods (dense): loaded" in capsys.readouterr().out


def test_settings_of_the_language_baselines_leave_the_others_known(lab, capsys):
    lab.evaluate(["constant"])
    capsys.readouterr()
    lab.changed({"sft.samples": 99, "ask.every": 6}).evaluate(["constant"])
    assert "1 replays of 1 methods (dense): loaded" in capsys.readouterr().out


def test_training_seeds_and_advertisers_of_their_own(lab):
    own = few(lab.changed({"evaluation.train_seeds": 3, "evaluation.text_train_seeds": 2}), lab.tier.chapter7)
    rows = own.evaluate(["constant", "Prompting", "SFT"])
    assert rows["advertiser"].nunique() == 1
    assert rows.groupby("method")["train_seed"].unique().map(list).to_dict() == {
        "constant": [0],
        "Prompting": [0],
        "SFT": [0, 1],
    }


def test_what_is_read_from_a_days_texts(lab, monkeypatch):
    """Prompting answers twice the target, then says nothing; SFT and GRPO write random bytes."""

    def answer(prompt, k, j):
        answered.append(prompt)
        return Generation("" if len(answered) > 1 else " <alpha>12</alpha> ", 5, "stop", 0.1)

    answered: list[str] = []
    let_write(monkeypatch, answer)
    answers, shown = chapter_07.answers_of_a_day(lab)
    assert list(answers["method"].unique()) == list(LANGUAGE)
    assert set(answers["period"]) == {7}
    prompting = answers[answers["method"] == "Prompting"].set_index("status")
    assert prompting.loc["accepted", "count"] == 1
    said = shown[shown["method"] == "Prompting"]
    last = said.loc[said["status"] == "accepted", "last_alpha"].item()
    assert prompting.loc["accepted", "move"] == pytest.approx(np.log(12 / last))
    assert answers.loc[answers["status"] != "accepted", "move"].isna().all()
    assert said["text"].tolist()[:2] == ["<alpha>12</alpha>", "(nothing)"]
    assert shown.groupby(["method", "status"]).size().le(chapter_07.SHOWN_TEXTS).all()


def test_logged_decisions_hold_the_logged_alpha(lab):
    asked = logged_decisions(lab, 3)
    assert len(asked) == 3
    assert (asked.logged_alpha > 0).all()
    for fact, last in zip(asked.facts, asked.last_alpha, strict=True):
        assert fact.alphas[-1] == pytest.approx(float(last), rel=1e-5)
    with pytest.raises(ValueError, match="unknown variant"):
        texts.grpo_config(lab, "grpo, longer")

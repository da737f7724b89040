"""Shares of hallucinated texts: numbers that can be counted by hand, and intervals that cover."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lbm_core.think.hallucination import hallucination, ratio_errors

COLUMNS = ["model", "prompt", "sample", "true_ratio", "ratio", "direction", "stated", "status"]
NONE = np.nan


def of(rows, model="m"):
    return pd.DataFrame([(model, *row) for row in rows], columns=COLUMNS)


BY_HAND = of(
    [
        (0, 0, 2.0, 2.02, -1, -1, "accepted"),
        (0, 1, 2.0, 1.0, 1, -1, "ratio wrong"),  # contradicts its reasoning
        (1, 0, 0.5, NONE, NONE, 1, "no answer"),
        (1, 1, 0.5, 0.5, 1, 1, "accepted"),
        (2, 0, NONE, 0.7, 0, 1, "true ratio zero or undefined"),
        (2, 1, NONE, NONE, 1, NONE, "no ratio"),
    ]
)


def test_counted_by_hand():
    table = hallucination(BY_HAND, np.random.default_rng(0)).set_index("quantity")
    values = table["value"].to_dict()
    assert values["accepted"] == pytest.approx(2 / 6)
    assert values["ratio wrong"] == values["no answer"] == values["no ratio"] == pytest.approx(1 / 6)
    assert "truncated" not in values
    assert values["answered"] == pytest.approx(5 / 6)
    assert values["ratio right"] == pytest.approx(2 / 3)
    assert values["ratio error, median"] == pytest.approx(0.01)
    assert values["ratio error, 90th percentile"] == pytest.approx(0.01 + 0.8 * (0.5 - 0.01))
    assert values["contradiction"] == pytest.approx(1 / 3)
    assert values["raise below 1"] == pytest.approx(1.0 - 0.5)
    assert table["texts"].to_dict() | {"ratio right": 3, "contradiction": 3, "accepted": 6, "raise below 1": 3} == (
        table["texts"].to_dict()
    )
    assert table[["low", "high"]].isna().all(axis=None), "three prompts give no interval"
    shares = table.loc[["accepted", "ratio wrong", "no answer", "no ratio", "true ratio zero or undefined"], "value"]
    assert shares.sum() == pytest.approx(1.0)


def test_errors_need_a_ratio_and_a_truth():
    frame = pd.DataFrame({"true_ratio": [2.0, NONE, 0.0, 2.0], "ratio": [1.0, 1.0, 1.0, NONE]})
    np.testing.assert_array_equal(ratio_errors(frame), [0.5, NONE, NONE, NONE])


def test_intervals_follow_the_prompts_not_the_texts():
    """Texts of a prompt that all share one fate are worth one prompt: four times as many change nothing."""
    rng = np.random.default_rng(1)
    fate = rng.random(60) < 0.4
    once = [(p, 0, 1.0, 1.0, 1, 1, "accepted" if fate[p] else "no ratio") for p in range(60)]
    often = [(p, s, *row[2:]) for p, row in enumerate(once) for s in range(4)]
    spans = []
    for rows in (once, often):
        table = hallucination(of(rows), np.random.default_rng(2)).set_index("quantity").loc["accepted"]
        assert table["value"] == pytest.approx(fate.mean())
        assert table["low"] < fate.mean() < table["high"]
        spans.append(table["high"] - table["low"])
    assert spans[1] == pytest.approx(spans[0], rel=0.15)
    assert spans[0] == pytest.approx(2 * 1.96 * np.sqrt(fate.mean() * (1 - fate.mean()) / 60), rel=0.2)


def test_models_stand_side_by_side_and_may_have_nothing_to_say():
    silent = of([(p, 0, 1.5, NONE, NONE, NONE, "no answer") for p in range(8)], "silent")
    table = hallucination(pd.concat([BY_HAND, silent]), np.random.default_rng(0))
    assert list(dict.fromkeys(table["model"])) == ["m", "silent"]
    mute = table[table["model"] == "silent"].set_index("quantity")
    assert mute.loc["answered", ["value", "low"]].eq(0.0).all()
    assert mute.loc["answered", "high"] == pytest.approx(1 - 0.025 ** (1 / 8)), "none of 8 prompts is not never"
    assert mute.loc[["ratio right", "ratio error, median", "contradiction", "raise below 1"], "value"].isna().all()


def test_bad_frames_are_refused():
    with pytest.raises(ValueError, match="columns"):
        hallucination(BY_HAND.drop(columns="stated"), np.random.default_rng(0))
    with pytest.raises(ValueError, match="equally many"):
        hallucination(BY_HAND.iloc[:-1], np.random.default_rng(0))

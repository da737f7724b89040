"""Figures of chapter 2: they draw what their frames hold."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lbm_core.report import act_figures, paper

WAYS = ("every tick", "scale 0.25", "every 4 ticks")


def strengths():
    rows = [("base", "every tick", 0.9, 350.0)]
    for k, way in enumerate(WAYS):
        rows += [("increase", way, 1.0 - 0.02 * k, 100.0 + 80 * k), ("decrease", way, 0.1 + 0.3 * k, 50.0 + 90 * k)]
    return pd.DataFrame(rows, columns=["instruction", "way", "budget_utilization", "score"])


def days():
    tick = np.arange(48)
    frames = []
    for name, move in (
        ("increase", 0.13),
        ("uncertain", 0.0),
        ("decrease", -0.14),
        ("LBM-Act + decrease, scale 0.25", -0.03),
    ):
        frames.append(
            pd.DataFrame({"method": name, "tick": tick, "alpha_ratio": np.exp(move * tick), "spent": tick / 47})
        )
    return pd.concat(frames)


def sizes():
    names = ("default", "1 layer", "random, frozen")
    rows = [(name, seed, 0.1, 0.9, 1e6, 60.0 + k) for k, name in enumerate(names) for seed in (0, 1)]
    return pd.DataFrame(rows, columns=["size", "train_seed", "loss", "followed", "trained", "seconds"])


def test_strength_of_instructions_beside_the_papers():
    figure = act_figures.instruction_strength(strengths(), paper.table4())
    left, right = figure.axes
    assert [label.get_text() for label in left.get_yticklabels()] == [*WAYS, "paper, every tick"]
    assert left.get_xlim()[0] == right.get_xlim()[0] == 0
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["decrease", "base", "increase"]
    drawn = np.concatenate([line.get_xdata() for line in right.lines if line.get_marker() == ">"])
    np.testing.assert_allclose(sorted(drawn), [100, 180, 260, 315])


def test_running_away_draws_the_drift_as_a_line_on_a_logarithmic_axis():
    figure = act_figures.running_away(days(), {"increase": 0.13, "decrease": -0.14})
    left = figure.axes[0]
    assert left.get_yscale() == "log"
    dotted = [line for line in left.lines if line.get_linestyle() == ":"]
    assert len(dotted) == 2
    np.testing.assert_allclose(dotted[0].get_ydata()[-1], np.exp(0.13 * 47))


def test_share_of_attention_marks_what_even_attention_would_give():
    frame = pd.DataFrame([(layer, head, 0.1 * head, 7 / 36) for layer in range(3) for head in range(9)])
    figure = act_figures.language_share(frame.set_axis(["layer", "head", "share", "even"], axis=1))
    axes = figure.axes[0]
    assert "19 %" in axes.get_title()
    assert len(axes.texts) == 27
    assert axes.collections[0].get_array().max() == pytest.approx(80)


def test_guides_with_and_without_intervals():
    table = pd.DataFrame({"method": ["LBM-Act + rule", "critic alone"], "difference": [5.0, -3.0]})
    spending = pd.DataFrame({"method": ["LBM-Act + rule", "critic alone", "LBM-Act + none"], "budget_utilization": 0.9})
    figure = act_figures.guides(table.assign(low=[1.0, np.nan], high=[9.0, np.nan]), spending, "LBM-Act + none")
    left, right = figure.axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["rule", "critic alone"]
    assert len(right.patches) == 2


def test_moves_and_sizes():
    told = pd.DataFrame({"instruction": ["decrease", "uncertain", "increase"] * 4, "log_move": [-0.1, 0.0, 0.1] * 4})
    (axes,) = act_figures.instructed_moves(told).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["decrease", "uncertain", "increase"]
    figure = act_figures.sizes(sizes())
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [
        "default (1 M trained)",
        "1 layer (1 M trained)",
        "random, frozen (1 M trained)",
    ]

"""GQPO's selection on numbers that can be checked by hand; the models are stand-ins."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from synthetic_trajectories import synthetic_trajectories

from lbm_core.act.guides import SENTENCES
from lbm_core.data.trajectories import windows
from lbm_core.think import gqpo
from lbm_core.think.generate import Generation
from lbm_core.think.prompt import logged_facts

NAN = float("nan")
ACT = SimpleNamespace(config=SimpleNamespace(guide="sentence"))


class HigherIsBetter:
    """Relative-Q = alpha / logged alpha - 1."""

    def relative_q(self, window, alphas, logged):
        assert np.isfinite(alphas).all()
        return alphas / np.asarray(logged)[:, None] - 1.0


def text(answer, ratio=None, finish="stop"):
    tag = "" if ratio is None else f"<ratio>{ratio!r}</ratio>"
    return Generation(f"Thus {tag} {answer}", 7, finish, 0.5)


@pytest.fixture
def moments(monkeypatch):
    data = synthetic_trajectories()
    rows, ticks = np.array([0, 1, 2]), np.array([10, 20, 30])
    moved = {SENTENCES[1]: 1.1, SENTENCES[0]: 1.0, SENTENCES[-1]: 0.9}

    def decide(act, window, guides):  # an LBM-Act that obeys
        return window.alphas[:, -1] * np.array([moved.get(guide, 1.3) for guide in guides])

    monkeypatch.setattr(gqpo, "decide", decide)
    return windows(data, rows, ticks), logged_facts(data, rows, ticks)


def test_select_by_hand():
    relative_q = np.array([[0.1, 0.3, 0.2], [-0.1, 0.0, NAN], [NAN, NAN, 0.5], [0.2, 0.2, 0.1], [NAN, NAN, NAN]])
    np.testing.assert_array_equal(gqpo.select(relative_q), [1, -1, 2, 0, -1])


def test_the_whole_funnel(moments):
    window, facts = moments
    true = [fact.true_ratio for fact in facts]
    up, down, same = "<answer>1</answer>", "<answer>-1</answer>", "<answer>0</answer>"
    groups = [
        [text(up, true[0]), text(down, true[0]), text(up, 2 * true[0])],  # the first is right and better
        [text(down, true[1]), text(same, true[1]), text("no tag")],  # none is better than the log
        [text("", finish="length"), text(up), text(up, 1.01 * true[2])],  # the last alone is accepted
    ]
    strict = gqpo.choose_chains(ACT, HigherIsBetter(), window, facts, groups)
    np.testing.assert_array_equal(strict.chosen, [0, -1, 2])
    assert dict(zip(*strict.funnel().to_numpy().T, strict=True)) == {
        "sampled": 9,
        "one valid answer": 7,
        "ratio right": 5,
        "accepted": 5,
        "relative-Q > 0": 2,
        "chosen": 2,
    }
    samples = strict.samples.set_index(["prompt", "sample"])
    assert samples.loc[(0, 0), "relative_q"] == pytest.approx(0.1)
    assert samples.loc[(0, 1), "alpha"] == pytest.approx(0.9 * samples.loc[(0, 1), "logged_alpha"])
    assert samples.loc[(0, 2), "status"] == "ratio wrong"
    assert samples.loc[(0, 2), "direction"] == 1
    assert np.isnan(samples.loc[(0, 2), "relative_q"])
    assert samples.loc[(2, 0), "status"] == "truncated"
    assert samples["chosen"].sum() == 2

    lenient = gqpo.choose_chains(ACT, HigherIsBetter(), window, facts, groups, ratio_required=False)
    np.testing.assert_array_equal(lenient.chosen, [0, -1, 2], err_msg="of two equal ones the one with a right ratio")
    assert lenient.funnel()["count"].tolist() == [9, 7, 5, 7, 4, 2]


def test_counts_never_grow_along_the_strict_funnel_and_nothing_may_be_accepted(moments):
    window, facts = moments
    none = gqpo.choose_chains(ACT, HigherIsBetter(), window, facts, [[text("I do not know")]] * 3)
    assert none.funnel()["count"].tolist() == [3, 0, 0, 0, 0, 0]
    assert (none.chosen == -1).all()


def test_a_ratio_that_errs_by_all_that_is_allowed_is_right():
    columns = {"status": "accepted", "ratio_error": [0.03, 0.031, NAN], "relative_q": NAN, "chosen": False}
    selection = gqpo.Selection(pd.DataFrame(columns), np.full(3, -1), tolerance=0.03)
    assert selection.funnel().set_index("stage").loc["ratio right", "count"] == 1


def test_groups_of_several_sizes_leave_holes(moments):
    window, facts = moments
    groups = [[text("<answer>1</answer>")] * k for k in (1, 3, 2)]
    parsed = gqpo.parse_groups(groups, facts, ratio_required=False)
    alphas = gqpo.led_actions(ACT, window, groups, parsed)
    assert np.isfinite(alphas).tolist() == [[True, False, False], [True] * 3, [True, True, False]]


def test_an_act_trained_on_whole_texts_reads_the_whole_text(moments):
    window, facts = moments
    act = SimpleNamespace(config=SimpleNamespace(guide="cot"))
    groups = [[text("<answer>0</answer>", fact.true_ratio)] for fact in facts]
    chosen = gqpo.choose_chains(act, HigherIsBetter(), window, facts, groups)
    np.testing.assert_allclose(chosen.samples["relative_q"], 0.3, rtol=1e-6)


def test_bad_input_is_refused(moments):
    window, facts = moments
    with pytest.raises(ValueError, match="as many"):
        gqpo.choose_chains(ACT, HigherIsBetter(), window, facts[:2], [[text("")]] * 3)
    with pytest.raises(ValueError, match="same number"):
        gqpo.choose_chains(ACT, HigherIsBetter(), window, facts, [[text("")], [text("")], [text("")] * 2])

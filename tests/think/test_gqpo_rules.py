"""GQPO's controls: each learns as much as Eq. 13 does, and nothing that its rule forbids."""

from typing import get_args

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbm_core.think.config import Rule
from lbm_core.think.gqpo import RULES, learned, select, weights

NAN = float("nan")


def _samples(values, directions=None):
    table = np.asarray(values, dtype=float)
    chosen = select(table)
    rows = [(i, j, table[i, j], chosen[i] == j) for i in range(table.shape[0]) for j in range(table.shape[1])]
    frame = pd.DataFrame(rows, columns=["prompt", "sample", "relative_q", "chosen"])
    answers = np.zeros(len(frame), dtype=int) if directions is None else np.ravel(directions)
    return frame.assign(direction=pd.array(answers, dtype="Int64"))


def _pairs(rows):
    return list(zip(rows["prompt"].tolist(), rows["sample"].tolist(), strict=True))


GROUPS = _samples([[0.3, -0.1, NAN], [-0.2, -0.4, 0.1], [-0.3, NAN, NAN]], [[1, -1, 0], [-1, 1, 1], [0, 0, 0]])


def test_each_rule_by_hand():
    rng = np.random.default_rng(0)
    assert _pairs(learned(GROUPS, "argmax", rng, most=9)) == [(0, 0), (1, 2)]
    worst = [_pairs(learned(GROUPS, "argmin", np.random.default_rng(k), most=9)) for k in range(40)]
    assert {len(pairs) for pairs in worst} == {2}, "as many as Eq. 13 gives"
    assert {pair for pairs in worst for pair in pairs} == {(0, 1), (1, 1), (2, 0)}
    assert _pairs(learned(GROUPS, "rule", rng, most=9, ruled=[-1, 0, 1])) == [(0, 1)]
    drawn = [_pairs(learned(GROUPS, "random", np.random.default_rng(k), most=9)) for k in range(40)]
    assert drawn == [sorted(pairs) for pairs in drawn], "by prompt"
    assert {pair for pairs in drawn for pair in pairs} == {(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (2, 0)}


def test_every_rule_of_the_configuration_is_explained():
    assert tuple(RULES) == get_args(Rule)


def test_weights_only_for_the_weighted_form():
    rows = learned(GROUPS, "weights", np.random.default_rng(1), most=9)
    factors = weights(rows, "weights", 5.0)
    assert factors.mean() == pytest.approx(1.0)
    ratio = np.exp(5.0 * (rows["relative_q"].iloc[0] - rows["relative_q"].iloc[1]))
    assert factors[0] / factors[1] == pytest.approx(ratio)
    assert weights(rows, "argmax", 5.0) is None


@given(st.lists(st.lists(st.floats(-1, 1), min_size=3, max_size=3), min_size=1, max_size=6), st.integers(1, 5))
def test_no_rule_learns_more_than_eq_13(values, most):
    samples = _samples(values)
    count = min(most, int(samples["chosen"].sum()))
    for rule in RULES:
        rows = learned(samples, rule, np.random.default_rng(0), most=most, ruled=np.zeros(len(values), dtype=int))
        assert len(rows) <= count
        if rule in ("argmax", "random", "weights"):
            assert len(rows) == count
        if rule != "weights":
            assert rows["prompt"].is_unique
        assert rule != "argmin" or (rows["relative_q"] < 0).all()


def test_bad_input_is_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="no rule 'best' of what is learned; one of argmax"):
        learned(GROUPS, "best", rng, most=1)
    with pytest.raises(ValueError, match="limit of 0"):
        learned(GROUPS, "argmax", rng, most=0)
    with pytest.raises(ValueError, match="directions are needed"):
        learned(GROUPS, "rule", rng, most=1)

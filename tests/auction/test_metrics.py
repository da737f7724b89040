import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbm_core.auction.metrics import CPA_RATIO_LIMIT, cpa_ratio, score, summarize

amounts = st.floats(0, 1e6)
targets = st.floats(0.1, 1e3)


def test_by_hand():
    # 10 conversions for 160 at a target of 8: CPA 16, ratio 2, score 10 / 4, with beta 1 10 / 2
    assert cpa_ratio(10, 160, 8) == 2
    assert score(10, 160, 8) == 2.5
    assert score(10, 160, 8, beta=1) == 5
    assert score(10, 60, 8) == 10  # target met: no reward for being cheaper
    assert summarize(10, 60, 240, 8)["budget_utilization"] == 0.25


def test_money_without_conversions_is_the_limit_never_zero():
    ratio = cpa_ratio([0, 0, 1, 5], [10, 0, 1e9, 0], [8, 8, 8, 8])
    assert ratio[0] == CPA_RATIO_LIMIT
    assert np.isnan(ratio[1])
    assert ratio[2] == CPA_RATIO_LIMIT
    assert ratio[3] == 0
    np.testing.assert_array_equal(score([0, 0], [10, 0], [8, 8]), [0, 0])


def test_sparse_target_above_100_is_not_hidden():
    assert cpa_ratio(1, 130, 100) == 1.3
    assert score(1, 130, 100) < 1


@given(amounts, amounts, targets, st.floats(0, 4))
def test_score_never_exceeds_conversions(conversions, cost, target, beta):
    value = score(conversions, cost, target, beta)
    assert 0 <= value <= conversions
    if cost <= conversions * target:
        assert value == conversions


@given(amounts, amounts, targets)
def test_a_steeper_penalty_never_helps(conversions, cost, target):
    assert score(conversions, cost, target, 2) <= score(conversions, cost, target, 1)


def test_summarize_has_both_estimates():
    table = summarize([1, 2], [8, 40], [100, 100], [8, 8], expected_conversions=[1.5, 2.5])
    assert set(table) == {
        "cost",
        "budget_utilization",
        *(p + n for p in ("", "expected_") for n in ("conversions", "cpa_ratio", "score", "score_beta1")),
    }
    np.testing.assert_allclose(table["expected_score"], [1.5, 2.5 / 4])
    assert "expected_score" not in summarize([1, 2], [8, 40], [100, 100], [8, 8])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: summarize(1, 1, 0, 8), "budget must be positive"),
        (lambda: cpa_ratio(1, np.nan, 8), "cost holds NaN"),
        (lambda: score(-1, 1, 8), "conversions must be at least 0"),
        (lambda: score(1, 1, 8, beta=-1), "beta"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()

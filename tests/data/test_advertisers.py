import numpy as np
import pytest

from lbm_core.data.advertisers import benchmark_advertisers, period_advertisers


@pytest.mark.parametrize(("dataset", "low", "high"), [("dense", 6, 12), ("sparse", 60, 130)])
def test_table7(dataset, low, high):
    for period in (7, 27, 28, 1000):
        a = period_advertisers(dataset, period)
        assert len(a) == 48
        assert a.budget.sum() == 150_000
        assert a.cpa_target.min() >= low
        assert a.cpa_target.max() <= high


def test_published_values():
    dense = benchmark_advertisers("dense")
    assert dense.budget[[0, 11, 47]].tolist() == [750, 11850, 450]
    assert dense.cpa_target[[0, 1, 3, 47]].tolist() == [8, 7, 10, 12]
    sparse = benchmark_advertisers("sparse")
    assert sparse.budget[0] == 2900
    assert np.corrcoef(sparse.budget, sparse.cpa_target)[0, 1] == pytest.approx(-0.97, abs=0.01)


def test_later_periods_are_dealt_anew_and_reproducible():
    a, b = period_advertisers("dense", 100), period_advertisers("dense", 101)
    assert (a.budget != b.budget).any()
    np.testing.assert_array_equal(a.budget, period_advertisers("dense", 100).budget)
    listed = benchmark_advertisers("dense")
    assert sorted(zip(a.budget, a.cpa_target, strict=True)) == sorted(
        zip(listed.budget, listed.cpa_target, strict=True)
    )


def test_bad_input():
    with pytest.raises(ValueError, match="period must be"):
        period_advertisers("dense", -1)
    with pytest.raises(ValueError, match="unknown data set"):
        period_advertisers("medium", 7)

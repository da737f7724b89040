"""The fast market's p-values: normal, independent, and distributed as the exact ones."""

import numpy as np
import pytest
from fast_traffic import FastTraffic, counter_normals, simulate_fast
from scipy import stats

from lbm_core.auction.traffic import Traffic


def test_a_fast_market_runs_in_the_public_scheme_too():
    log = simulate_fast("dense", 1, seed=0, scheme="public")
    assert (log.engine, log.scheme) == ("fast", "public")
    assert log.conversions.sum() > 0


def test_fast_pvalues_have_the_exact_distribution():
    exact, fast = Traffic(3, "dense"), FastTraffic(3, "dense")
    deviations = []
    for tick in (0, 5, 20, 47):
        count = exact.counts[tick]
        theirs = exact.tick_pvalues(tick)
        ours, sums = fast.market_pvalues(tick)
        np.testing.assert_allclose(sums, ours.sum(axis=1, dtype=float), rtol=1e-5)
        again, _ = FastTraffic(3, "dense").market_pvalues(tick)
        np.testing.assert_array_equal(ours, again)
        error = theirs.std(axis=0) / np.sqrt(count / 2)
        deviations.append((theirs.mean(axis=0) - ours.mean(axis=1, dtype=float)) / error)
        np.testing.assert_allclose(ours.std(axis=1, dtype=float), theirs.std(axis=0), rtol=0.15)
    deviations = np.array(deviations)
    assert abs(deviations).max() < 4.5
    assert 0.8 < deviations.std() < 1.2


def test_counter_normals_are_normal():
    out, sums = np.empty((48, 20_001), np.float32), np.empty(48)
    counter_normals(np.uint32(1), np.uint32(2), np.full(48, 8.0), np.ones(48), out, sums)
    np.testing.assert_allclose(sums, out.sum(axis=1, dtype=float), rtol=1e-6)
    normals = out.astype(float) - 8
    assert stats.kstest(normals.ravel(), "norm").pvalue > 1e-3
    assert (abs(normals) > 4).sum() == pytest.approx(normals.size * 2 * stats.norm.sf(4), rel=0.5)
    # independent between rows, neighbours, and the two of a pair; in value and in size
    for values in (normals, normals**2 - 1):
        for one, other in (
            (values[1:], values[:-1]),
            (values[:, 1:], values[:, :-1]),
            (values[:, :10_000], values[:, 10_001:]),
        ):
            correlation = (one * other).mean() / (values**2).mean()
            assert abs(correlation) < 4.5 / np.sqrt(one.size)
    other_keys = np.empty_like(out)
    counter_normals(np.uint32(1), np.uint32(3), np.full(48, 8.0), np.ones(48), other_keys, sums)
    assert abs(np.corrcoef(out.ravel(), other_keys.ravel())[0, 1]) < 4.5 / np.sqrt(out.size)

"""The regenerated traffic against values of the real data (exact) and of the public generator (exact)."""

import json
from pathlib import Path

import numpy as np
import pytest

from lbm_core.auction.random_bits import clipped_normals
from lbm_core.auction.traffic import Traffic, base_profile, sigma_levels, std_ratios

DATA = Path(__file__).parents[1] / "known"


@pytest.fixture(scope="module")
def real():
    return json.loads((DATA / "traffic_fingerprints.json").read_text())


@pytest.fixture(scope="module")
def period7():
    return Traffic(7, "dense")


def test_counts_of_the_real_data(real, period7):
    assert Traffic(14, "dense").counts.tolist() == real["period14_counts"]
    assert period7.counts[17:41].tolist() == real["period7_counts_t17_t40"]
    assert period7.counts.sum() == real["period7_total"]


def test_mean_pvalues_of_the_real_data(real, period7):
    period14 = Traffic(14, "dense")
    ours = [pvalues[:, 0].mean() for _, pvalues, _ in period14.ticks()]
    np.testing.assert_allclose(ours, real["period14_advertiser0_mean_pvalue_dense"], rtol=0, atol=1e-16)
    for tick, expected in real["period7_dense_mean_pvalue_advertiser0"].items():
        assert abs(period7.tick_pvalues(int(tick))[:, 0].mean() - expected) < 1e-16


def test_single_values_of_the_real_data(real, period7):
    pvalues, sigmas = period7.tick(0)
    assert pvalues[:3, 0].round(7).tolist() == real["period7_dense_pvalue_t0_advertiser0_rows0_1_2"]
    assert [float(f"{s:.9g}") for s in sigmas[:3, 0]] == real["period7_general_track_sigma_t0_advertiser0_rows0_1_2"]
    expected = real["period7_dense_pvalue_t1_advertiser0_rows0_1_2"]
    assert period7.tick_pvalues(1)[:3, 0].round(8).tolist() == expected


@pytest.mark.parametrize("episode", [0, 1])
def test_public_scheme_bit_for_bit(episode):
    traffic = Traffic(episode, "sparse", "public")
    with np.load(DATA / "public_traffic.npz") as public:
        assert np.array_equal(traffic.counts, public[f"ep{episode}_counts"])
        for tick in (47, 0, 20):  # any order
            pvalues, sigmas = traffic.tick(tick)
            assert np.array_equal(pvalues[:8], public[f"ep{episode}_tick{tick}_pvalues_first8"])
            assert np.array_equal(sigmas[:8], public[f"ep{episode}_tick{tick}_sigmas_first8"])
            assert np.array_equal(pvalues.sum(axis=0), public[f"ep{episode}_tick{tick}_pvalue_colsum"])


def test_order_of_requests_does_not_matter():
    in_order = {tick: pvalues for tick, pvalues, _ in Traffic(9, "sparse").ticks() if tick in (3, 5)}
    other = Traffic(9, "sparse")
    assert np.array_equal(other.tick_pvalues(5), in_order[5])
    assert np.array_equal(other.tick_pvalues(3), in_order[3])


def test_ranges_and_scales():
    dense, sparse = Traffic(11, "dense"), Traffic(11, "sparse")
    pvalues, sigmas = dense.tick(4)
    assert pvalues.shape == sigmas.shape == (dense.counts[4], 48)
    assert pvalues.min() == 0
    assert pvalues.max() < 1
    assert ((sigmas >= 0) & (sigmas <= 0.3 * pvalues)).all()
    np.testing.assert_allclose(pvalues, 10 * sparse.tick_pvalues(4), rtol=1e-12)
    assert abs(base_profile().sum() - 1) < 1e-12
    assert ((std_ratios(11) > 0) & (std_ratios(11) <= 1)).all()
    assert ((sigma_levels(11) >= 0) & (sigma_levels(11) <= 0.3)).all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [((-1, "dense"), "period"), ((7.5, "dense"), "period"), ((7, "medium"), "data set"), ((7, "dense", "x"), "scheme")],
)
def test_bad_traffic_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        Traffic(*arguments)


def test_bad_request_is_refused(period7):
    with pytest.raises(ValueError, match=r"tick must lie in 0\.\.47, got 48"):
        period7.tick(48)


def test_compiled_normals_are_numpys_bits():
    """Long enough that the rare branches of the ziggurat (its wedges and its tail) are taken many times."""
    compiled, rng = np.random.default_rng(123), np.random.default_rng(123)
    means, stds = np.linspace(0.001, 0.3, 7), np.linspace(0.1, 0.5, 7)
    out, sums = np.empty((7, 100_001)), np.empty(7)
    clipped_normals(compiled, means, stds, out.T, sums)
    expected = np.clip(rng.normal(means, stds, (100_001, 7)), 0, 1)
    assert np.array_equal(out.T, expected)
    assert np.array_equal(sums, expected.sum(axis=0))
    assert compiled.bit_generator.state == rng.bit_generator.state


def test_a_ticks_pvalues_are_the_same_whatever_was_asked_before(period7):
    """In any order, and again; they are numpy's draws, clipped."""
    fresh = Traffic(7, "dense")
    for tick in (2, 2, 0, 3, 1):
        assert np.array_equal(fresh.tick_pvalues(tick), period7.tick_pvalues(tick))
    drawn = np.random.default_rng(7).normal(fresh.mean_pvalues[:, 0], fresh.std_pvalues[:, 0], (fresh.counts[0], 48))
    assert np.array_equal(fresh.tick_pvalues(0), np.clip(drawn, 0, 1))
    pvalues, sums = fresh.market_pvalues(2)
    assert np.array_equal(pvalues.T, period7.tick_pvalues(2))
    np.testing.assert_allclose(sums, pvalues.sum(axis=1), rtol=1e-12)


def test_sigmas_of_chosen_columns_are_the_traffics(period7):
    pvalues, sigmas = period7.tick(3)
    columns = np.random.default_rng(0).integers(0, 48, (len(pvalues), 4)).astype(np.int8)
    ratio = period7.sigma_ratio(3, columns)
    chosen = columns[:, :3].astype(int)
    assert np.array_equal(ratio * np.take_along_axis(pvalues, chosen, 1), np.take_along_axis(sigmas, chosen, 1))

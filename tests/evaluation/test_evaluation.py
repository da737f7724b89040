"""Evaluation: the paired runner on a small synthetic period."""

import numpy as np
import pytest

from lbm_core.auction.bidder import Advertisers
from lbm_core.auction.replay import ReplayPeriod
from lbm_core.evaluation.runner import evaluate, held_out, hindsight, period_means, spread_rows
from lbm_core.evaluation.statistics import paired_differences


class Multiple:
    """alpha = multiple of the CPA target."""

    def __init__(self, multiple):
        self.multiple = multiple

    def reset(self, advertisers):
        self.target = advertisers.cpa_target

    def act(self, observation):
        return self.multiple * self.target


def _period(number=7, budget=60.0):
    rng = np.random.default_rng(number)
    counts = np.full(48, 300)
    pvalues = np.clip(rng.normal(0.02, 0.01, (4, counts.sum())), 0, 1)
    prices = rng.lognormal(np.log(0.15), 0.4, counts.sum())
    advertisers = Advertisers(np.arange(4), np.array([budget, 2 * budget, 500.0, 500.0]), np.linspace(6, 12, 4))
    return ReplayPeriod("dense", number, advertisers, counts, pvalues, prices)


BIDDERS = {"low": lambda: Multiple(0.8), "one": lambda: Multiple(1.0), "high": lambda: Multiple(1.6)}


@pytest.fixture(scope="module")
def frame():
    return evaluate(BIDDERS, (_period(k) for k in (7, 8)), [0, 1], progress=False)


def test_one_row_per_method_period_seed_and_advertiser(frame):
    keys = ["method", "period", "seed", "advertiser"]
    assert len(frame) == 3 * 2 * 2 * 4
    assert not frame.duplicated(keys).any()
    assert frame.columns[:4].tolist() == keys
    wanted = {"conversions", "expected_conversions", "budget_utilization", "cpa_ratio", "score", "score_beta1"}
    assert wanted | {"cost", "budget", "cpa_target"} <= set(frame.columns)
    assert (frame["score"] <= frame["score_beta1"]).all()
    assert (frame["score_beta1"] <= frame["conversions"]).all()
    assert (frame["budget_utilization"] <= 1 + 1e-9).all()


def test_every_method_meets_the_same_draws(frame):
    again = evaluate({"same": BIDDERS["one"]}, [_period(7)], [1], progress=False)
    first = frame.query("method == 'one' and period == 7 and seed == 1")
    np.testing.assert_array_equal(again["conversions"], first["conversions"])
    twin = evaluate({"a": BIDDERS["one"], "b": BIDDERS["one"]}, [_period(7)], [0, 1], progress=False)
    by = twin.pivot(index=["period", "seed", "advertiser"], columns="method", values="conversions")
    np.testing.assert_array_equal(by["a"], by["b"])
    draws = twin.query("method == 'a'").pivot(index="advertiser", columns="seed", values="conversions")
    assert (draws[0] != draws[1]).any()


def test_seeds_change_conversions_around_their_expectation():
    rows = evaluate({"one": BIDDERS["one"]}, [_period(7)], range(40), rows=[3], budget_ratio=10, progress=False)
    assert rows["expected_conversions"].nunique() == 1, "alpha does not depend on conversions here"
    expected = rows["expected_conversions"].iloc[0]
    assert rows["conversions"].mean() == pytest.approx(expected, abs=4 * np.sqrt(expected / 40))


def test_rows_and_budget_ratio():
    part = evaluate(BIDDERS, [_period(7)], [0], rows=[0, 2], progress=False)
    assert sorted(part["advertiser"].unique()) == [0, 2]
    half = evaluate(BIDDERS, [_period(7)], [0], budget_ratio=0.5, progress=False)
    whole = evaluate(BIDDERS, [_period(7)], [0], progress=False)
    np.testing.assert_allclose(half["budget"], whole["budget"] / 2)
    tight = half["advertiser"] == 0
    assert (half.loc[tight, "cost"] < whole.loc[tight, "cost"]).all()


def test_period_means_average_over_advertisers_only(frame):
    means = period_means(frame.assign(train_seed=0))
    assert len(means) == 3 * 2 * 2
    assert (means["advertisers"] == 4).all()
    row = means.query("method == 'one' and period == 8 and seed == 0").iloc[0]
    part = frame.query("method == 'one' and period == 8 and seed == 0")
    assert row["score"] == pytest.approx(part["score"].mean())
    for kind in ("", "expected_"):
        owed = (part[f"{kind}conversions"] * part["cpa_target"]).sum()
        assert row[f"group_{kind}cpa_ratio"] == pytest.approx(part["cost"].sum() / owed)
    assert row["median_cpa_ratio"] == pytest.approx(part["cpa_ratio"].median())
    assert not {"cpa_ratio", "expected_cpa_ratio"} & set(means), "no mean of ratios"
    differences = [paired_differences(data, "one", np.random.default_rng(0))["difference"] for data in (frame, means)]
    np.testing.assert_allclose(*differences)


def test_a_group_has_a_ratio_where_advertisers_have_none():
    rows = evaluate({"one": BIDDERS["one"]}, [_period(7)], [0], progress=False)
    idle = rows["advertiser"] == 0
    rows = rows.assign(**{name: rows[name].mask(idle, 0.0) for name in ("cost", "conversions")})
    dear = rows["advertiser"] == 1
    rows = rows.assign(conversions=rows["conversions"].mask(dear, 0.0), cpa_ratio=rows["cpa_ratio"].mask(dear, 100.0))
    rows = rows.assign(cpa_ratio=rows["cpa_ratio"].mask(idle), weights=np.nan)  # who spent nothing has no ratio
    (row,) = period_means(rows).to_dict("records")
    others = rows[~idle & ~dear]
    owed = (others["conversions"] * others["cpa_target"]).sum()
    assert row["group_cpa_ratio"] == pytest.approx((others["cost"].sum() + rows.loc[dear, "cost"].iloc[0]) / owed)
    assert row["median_cpa_ratio"] == rows.loc[~idle, "cpa_ratio"].median()
    nothing = period_means(rows[idle].assign(expected_conversions=0.0))
    assert nothing[["group_cpa_ratio", "group_expected_cpa_ratio", "median_cpa_ratio"]].isna().all(axis=None)


def test_labels_stay_beside_the_means(frame):
    named = frame.assign(train_seed=0, weights=frame["method"].map({"low": "", "one": "abc", "high": None}))
    means = period_means(named)
    assert means.groupby("method")["weights"].agg(lambda values: values.iloc[0])["one"] == "abc"
    assert len(means) == 3 * 2 * 2, "a row without weights stays"


def test_an_advertiser_who_spends_nothing_has_no_cpa_ratio():
    rows = evaluate({"nothing": lambda: Multiple(0.0)}, [_period(7)], [0], progress=False)
    assert rows["cpa_ratio"].isna().all()
    assert (rows[["conversions", "cost", "score"]] == 0).all(axis=None)


def test_bad_calls_are_refused():
    for arguments, message in (
        (({}, [_period()], [0]), "at least one bidder"),
        ((BIDDERS, [_period()], []), "distinct seeds"),
        ((BIDDERS, [_period()], [1, 1]), "distinct seeds"),
        ((BIDDERS, [], [0]), "no period"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluate(*arguments, progress=False)
    with pytest.raises(ValueError, match="budget_ratio"):
        evaluate(BIDDERS, [_period()], [0], budget_ratio=0.0, progress=False)
    with pytest.raises(ValueError, match="NaN"):
        evaluate({"broken": lambda: Multiple(np.nan)}, [_period()], [0], progress=False)


def test_hindsight_bounds_what_bidders_reach(frame):
    bounds = hindsight(_period(k) for k in (7, 8))
    assert bounds.columns.tolist() == [name for name in frame.columns if name in bounds]
    best = bounds.groupby("method")["score"].mean()
    # Response curves have 240 bins, so the bound may miss by a bin.
    assert best["LP bound"] >= 0.99 * best["hindsight constant"]
    assert (frame.groupby("method")["expected_score"].mean() <= 1.01 * best["hindsight constant"]).all()
    lp = bounds[bounds["method"] == "LP bound"]
    assert (lp["cpa_ratio"] <= 1 + 1e-6).all()
    poor = hindsight([_period(7)], rows=[0])
    assert len(poor) == 2
    assert (poor["cost"] <= 60 + 1e-6).all()


def test_rows_are_spread_over_advertisers():
    assert spread_rows(48).tolist() == list(range(48))
    assert spread_rows(6).tolist() == [0, 8, 16, 24, 32, 40]
    with pytest.raises(ValueError, match="48 advertisers"):
        spread_rows(49)


def test_held_out_periods_are_the_benchmarks():
    assert held_out(1) == (7,)
    assert held_out(2) == (7, 27)
    assert held_out(21) == tuple(range(7, 28))
    assert len(set(held_out(12))) == 12
    assert held_out(6) == (7, 11, 14, 20, 23, 27)
    assert all(set(held_out(n)) <= set(held_out(12)) and len(set(held_out(n))) == n for n in range(1, 12))
    with pytest.raises(ValueError, match="21 held-out periods"):
        held_out(22)

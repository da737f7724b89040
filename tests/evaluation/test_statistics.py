"""Intervals: known answers, coverage, pairing, what is learned, refusal of what cannot be compared."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbm_core.evaluation.statistics import (
    MIN_PERIODS,
    intervals,
    mean_interval,
    one_identity,
    paired_differences,
    period_table,
    trainings,
    verdict,
)


def test_a_bound_of_zero_a_missing_method_and_rows_without_a_seed():
    assert [verdict(*bounds) for bounds in ((0, 1), (-1, 0), (1, 2), (-2, -1))] == ["open", "open", "above", "below"]
    with pytest.raises(ValueError, match="no column 'method'"):
        period_table(pd.DataFrame({"period": [1], "score": [1.0]}), "A", "score")
    unseeded = pd.DataFrame({"method": ["A", "A"], "train_seed": [np.nan] * 2, "weights": ["a", "b"]})
    with pytest.raises(ValueError, match="two models under one name"):
        one_identity(unseeded)


def _frame(effect=5.0, periods=10, train_seeds=(0,), noise=1.0, seed=0):
    """Two methods on the same periods; periods differ by 30, ``B`` is ``effect`` above ``A`` within ``noise``."""
    rng = np.random.default_rng(seed)
    day = 360 + 30 * rng.normal(size=periods)
    rows = []
    for method, shift in (("A", 0.0), ("B", effect)):
        for train_seed in train_seeds:
            level = 3 * rng.normal() if len(train_seeds) > 1 else 0.0
            for period in range(periods):
                own = noise * rng.normal()
                for draw in range(2):
                    for advertiser in range(3):
                        value = day[period] + shift + level + own + advertiser
                        rows.append((method, train_seed, 7 + period, draw, advertiser, value, value / 2))
    columns = ["method", "train_seed", "period", "seed", "advertiser", "conversions", "score"]
    return pd.DataFrame(rows, columns=columns).assign(weights="")


def test_mean_interval_agrees_with_the_normal_interval_on_many_periods():
    values = np.random.default_rng(1).normal(10, 2, 400)
    mean, low, high = mean_interval(values, np.random.default_rng(0))
    half = 1.96 * values.std() / 20
    assert mean == pytest.approx(values.mean())
    assert low == pytest.approx(mean - half, abs=0.03)
    assert high == pytest.approx(mean + half, abs=0.03)


def test_crossed_interval_is_wider_than_either_source_alone():
    rng = np.random.default_rng(2)
    seeds, periods = rng.normal(0, 1, (5, 1)), rng.normal(0, 1, (1, 12))
    width = {}
    for name, table in {
        "both": seeds + periods,
        "periods": np.zeros((5, 1)) + periods,
        "seeds": seeds + 0 * periods,
    }.items():
        _, low, high = mean_interval(table, np.random.default_rng(0))
        width[name] = high - low
    assert width["both"] == pytest.approx(np.hypot(width["periods"], width["seeds"]))
    assert width["seeds"] == pytest.approx(2 * 2.776 * seeds.std(ddof=1) / 5**0.5, rel=1e-3), "t of four degrees"


@pytest.mark.parametrize(
    ("of_seeds", "of_days"), [(0.0, 1.0), (0.1, 1.0), (0.3, 1.0), (1.0, 1.0), (1.0, 0.3), (1.0, 0.0)]
)
def test_three_trainings_and_twelve_days_cover_what_they_claim(of_seeds, of_days):
    rng, hits = np.random.default_rng(0), 0
    for _ in range(600):
        table = of_seeds * rng.normal(size=(3, 1)) + of_days * rng.normal(size=(1, 12)) + 0.1 * rng.normal(size=(3, 12))
        _, low, high = mean_interval(table, rng)
        hits += low <= 0 <= high
    assert 0.92 <= hits / 600 <= 0.995


def test_resampling_three_trainings_would_not_cover():
    """Why the interval is not the percentile bootstrap over seeds and days."""
    rng, hits = np.random.default_rng(0), 0
    for _ in range(300):
        table = rng.normal(size=(3, 1)) + 0.3 * rng.normal(size=(1, 12))
        drawn = table.mean(axis=1)[rng.integers(3, size=(300, 3))].mean(axis=1)
        drawn += (table.mean(axis=0)[rng.integers(12, size=(300, 12))] - table.mean()).mean(axis=1)
        low, high = np.quantile(drawn, [0.025, 0.975])
        hits += low <= 0 <= high
    assert hits / 300 < 0.85


def test_one_or_two_trainings_have_the_interval_of_their_days():
    table = np.random.default_rng(0).normal(size=(2, 12))
    several, mean = (mean_interval(each, np.random.default_rng(0)) for each in (table, table.mean(axis=0)))
    assert several == pytest.approx(mean)


def test_coverage_is_near_nominal():
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(200):
        _, low, high = mean_interval(rng.normal(0, 1, 20), rng, n_resamples=400)
        hits += low <= 0 <= high
    assert 0.86 <= hits / 200 <= 0.99


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-1e3, 1e3), min_size=MIN_PERIODS, max_size=12), st.floats(-100, 100), st.floats(0.1, 10))
def test_interval_holds_the_mean_and_moves_with_the_data(values, shift, scale):
    values = np.array(values)
    mean, low, high = mean_interval(values, np.random.default_rng(0), n_resamples=300)
    assert low - 1e-6 <= mean <= high + 1e-6
    moved = mean_interval(scale * values + shift, np.random.default_rng(0), n_resamples=300)
    np.testing.assert_allclose(moved, scale * np.array([mean, low, high]) + shift, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("periods", [1, 2, MIN_PERIODS - 1])
def test_few_periods_have_a_mean_and_no_interval(periods):
    mean, low, high = mean_interval(np.arange(periods, dtype=float), np.random.default_rng(0))
    assert mean == (periods - 1) / 2
    assert np.isnan([low, high]).all()


def test_intervals_average_draws_and_advertisers_first():
    frame = _frame()
    table = intervals(frame, np.random.default_rng(0), metrics=["conversions", "score"])
    row = table.query("method == 'A' and metric == 'conversions'").iloc[0]
    by_period = frame.query("method == 'A'").groupby("period")["conversions"].mean()
    assert row["mean"] == pytest.approx(by_period.mean())
    assert (row["periods"], row["seeds"], row["train_seeds"]) == (10, 2, 1)
    assert by_period.min() < row["low"] < row["mean"] < row["high"] < by_period.max()


def test_an_interval_needs_periods_enough_for_a_sign_test_and_one_table_of_them():
    assert 2 / 2**MIN_PERIODS <= 0.05 < 2 / 2 ** (MIN_PERIODS - 1)
    for shape in ((0,), (2, 0), (2, 3, 7)):
        with pytest.raises(ValueError, match=r"expected \(training seeds, periods\)"):
            mean_interval(np.zeros(shape), np.random.default_rng(0))


def test_intervals_count_each_methods_own_draws():
    """Of conversions and score where nothing is asked; one draw and training seed 0 where the rows name none."""
    frame, rng = _frame(), np.random.default_rng(0)
    table = intervals(frame[(frame["method"] == "B") | (frame["seed"] == 0)], rng)
    assert table["metric"].tolist() == ["conversions", "score"] * 2
    assert table["seeds"].tolist() == [1, 1, 2, 2]
    unnamed = frame.drop(columns=["seed", "train_seed"])
    assert set(intervals(unnamed, rng)["seeds"]) == {1}
    assert period_table(unnamed, "A", "score").index.tolist() == [0]


def test_pairing_resolves_what_unpaired_intervals_hide():
    frame = _frame(effect=5.0)
    separate = intervals(frame, np.random.default_rng(0), metrics=["conversions"]).set_index("method")
    assert separate.loc["A", "high"] > separate.loc["B", "low"], "the intervals of the two methods overlap"
    paired = paired_differences(frame, "A", np.random.default_rng(0))
    assert paired["verdict"].tolist() == ["above", "above"]
    assert paired["trainings"].tolist() == [0, 0]
    conversions = paired.set_index("metric").loc["conversions"]
    assert conversions["low"] < 5.0 < conversions["high"]
    assert conversions["relative"] == pytest.approx(
        conversions["difference"] / period_table(frame, "A", "conversions").to_numpy().mean()
    )


def test_no_effect_and_few_periods_stay_open():
    none = paired_differences(_frame(effect=0.0, noise=5.0), "A", np.random.default_rng(0))
    assert set(none["verdict"]) == {"open"}
    few = paired_differences(_frame(effect=50.0, periods=MIN_PERIODS - 1), "A", np.random.default_rng(0))
    assert set(few["verdict"]) == {"open"}
    assert (few["difference"] > 20).all()
    assert few["low"].isna().all()


def test_spread_of_training_seeds_widens_the_paired_interval():
    frame = _frame(effect=1.0, train_seeds=(0, 1, 2))
    crossed = paired_differences(frame, "A", np.random.default_rng(0), metrics=["conversions"]).iloc[0]
    pooled = paired_differences(
        frame.drop(columns="train_seed"), "A", np.random.default_rng(0), metrics=["conversions"]
    )
    assert crossed["high"] - crossed["low"] > 2 * float((pooled["high"] - pooled["low"]).iloc[0])


def test_an_untrained_control_meets_every_training_seed():
    frame = _frame(train_seeds=(0, 1, 2))
    frame = frame[(frame["method"] == "B") | (frame["train_seed"] == 0)]
    row = paired_differences(frame, "A", np.random.default_rng(0), metrics=["conversions"]).iloc[0]
    assert np.isfinite([row["low"], row["high"]]).all()


def test_verdict_needs_an_interval_beyond_zero():
    assert verdict(0.1, 2.0, 20) == "above"
    assert verdict(-2.0, -0.1, 20) == "below"
    assert verdict(-0.1, 2.0, 20) == "open"
    assert verdict(float("nan"), float("nan"), 20) == "open"
    assert verdict(0.1, 2.0, MIN_PERIODS - 1) == "open"
    assert [verdict(0.1, 2.0, 20, trainings) for trainings in range(4)] == ["above", "open", "open", "above"]


def test_what_is_learned_is_decided_with_three_trainings():
    def row(frame):
        return paired_differences(frame, "A", np.random.default_rng(0), metrics=["conversions"]).iloc[0]

    frame = _frame(effect=50.0)
    one = frame.assign(weights=np.where(frame["method"] == "B", "0123456789", ""))
    assert (row(one)["verdict"], row(one)["trainings"]) == ("open", 1)
    assert row(one)["low"] > 0, "the interval over days is shown"
    assert trainings(one.assign(weights=one["weights"].where(one["seed"] == 0)), "B") == 1, "some rows do not say it"
    prompted = one.assign(weights=np.where(frame["method"] == "B", "+0123456789", ""))
    assert (row(prompted)["verdict"], row(prompted)["trainings"]) == ("above", 0), "nobody trained the language model"
    seeds = _frame(effect=50.0, train_seeds=(0, 1, 2))
    alone = seeds[(seeds["method"] == "B") | (seeds["train_seed"] == 0)]
    assert (row(alone)["verdict"], row(alone)["trainings"]) == ("above", 3)
    assert row(seeds[seeds["train_seed"] < 2])["verdict"] == "open"
    learned = alone.assign(weights=np.where(alone["method"] == "A", "0123456789", ""))
    assert (row(learned)["verdict"], row(learned)["trainings"]) == ("open", 1), "one training in common"


def test_rows_older_than_weights_decide_only_what_they_can():
    old = _frame(effect=50.0).drop(columns="weights")
    assert trainings(old, "B") == 1, "it may have been trained once"
    assert paired_differences(old, "A", np.random.default_rng(0))["verdict"].eq("open").all()
    seeds = _frame(train_seeds=(0, 1, 2)).drop(columns="weights")
    beside = seeds[(seeds["method"] == "B") | (seeds["train_seed"] == 0)]
    assert (trainings(beside, "A"), trainings(beside, "B")) == (0, 3)
    assert trainings(old.drop(columns="train_seed"), "B") == 0, "nobody speaks of a training"


def test_two_models_under_one_name_are_refused():
    frame = _frame(train_seeds=(0, 1)).assign(tier="laptop", dataset="sparse")
    frame["weights"] = np.where(frame["train_seed"] == 0, "aaaa", "bbbb")
    assert one_identity(frame) is frame
    known = frame["weights"].where(frame["seed"] == 0)  # rows that do not say are no other model
    assert one_identity(frame.assign(weights=known)) is not None
    odd = (frame["method"] == "B") & (frame["train_seed"] == 1) & (frame["period"] == 9)
    mixed = frame.assign(weights=frame["weights"].mask(odd, "cccc"))
    message = "method B, tier laptop, dataset sparse, train_seed 1 bid with weights bbbb and with cccc"
    for refused in (one_identity, lambda rows: intervals(rows, None), lambda rows: paired_differences(rows, "A", None)):
        with pytest.raises(ValueError, match=message):
            refused(mixed)
    assert one_identity(mixed.assign(dataset=np.where(odd, "dense", "sparse"))) is not None


def test_methods_are_compared_on_the_days_that_both_have_met():
    frame, rng = _frame(), np.random.default_rng(0)
    fewer = frame[~((frame["method"] == "B") & (frame["period"] == 9))]
    both = frame[frame["period"] != 9]
    columns = ["method", "metric", "difference", "periods"]
    pd.testing.assert_frame_equal(
        paired_differences(fewer, "A", rng, methods=["B"])[columns],
        paired_differences(both, "A", rng, methods=["B"])[columns],
    )


def test_unpaired_or_unknown_rows_are_refused():
    frame = _frame()
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="not paired"):
        paired_differences(frame.assign(period=frame["period"] + 100 * (frame["method"] == "B")), "A", rng)
    with pytest.raises(ValueError, match="no rows of method 'C'"):
        paired_differences(frame, "C", rng, methods=["A"])
    with pytest.raises(ValueError, match="no column 'regret'"):
        intervals(frame, rng, metrics=["regret"])
    with pytest.raises(ValueError, match="NaN"):
        mean_interval(np.array([1.0, np.nan]), rng)
    holes = _frame(train_seeds=(0, 1))
    with pytest.raises(ValueError, match="did not meet all"):
        period_table(holes[~((holes["train_seed"] == 1) & (holes["period"] == 8))], "A", "conversions")
    apart = _frame(train_seeds=(0, 1))
    apart.loc[apart["method"] == "B", "train_seed"] += 5
    with pytest.raises(ValueError, match="share no training seed"):
        paired_differences(apart, "A", rng)

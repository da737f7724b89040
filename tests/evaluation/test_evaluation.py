"""Evaluation: the paired runner on a small synthetic period, and the claims' scorecard."""

import numpy as np
import pandas as pd
import pytest

from lbm_core.auction.bidder import Advertisers
from lbm_core.auction.replay import ReplayPeriod
from lbm_core.evaluation.claims import JUDGES, claims, experiments, scorecard
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


# --- the scorecard -------------------------------------------------------------------------------------------------


def _results(levels, periods=12, noise=1.0, **columns):
    rng = np.random.default_rng(0)
    day = 30 * rng.normal(size=periods)
    rows = [
        (method, 7 + period, 0, *(level + day[period] + noise * rng.normal() for level in pair))
        for method, pair in levels.items()
        for period in range(periods)
    ]
    return pd.DataFrame(rows, columns=["method", "period", "seed", "conversions", "score"]).assign(**columns)


def _verdicts(frames):
    return scorecard(frames, np.random.default_rng(0)).set_index("name")["verdict"]


PAPER_LIKE = {
    "DT": (364, 329),
    "LLM-DT": (366, 328),
    "Prompt-LLM-DT": (355, 322),
    "LBM(P)": (376, 340),
    "LBM(GQPO)": (382, 348),
}


def test_results_like_the_papers_support_its_claims():
    verdicts = _verdicts({"main_results": _results(PAPER_LIKE)})
    for name in ("beats_dt", "gqpo_helps", "best_backbone", "beats_llm_dt", "prompt_is_not_enough"):
        assert verdicts[name] == "agrees", name


def test_opposite_results_and_noise_do_not():
    reversed_levels = {name: (760 - a, 700 - b) for name, (a, b) in PAPER_LIKE.items()}
    assert _verdicts({"main_results": _results(reversed_levels)})["beats_dt"] == "opposite"
    noise = _verdicts({"main_results": _results(dict.fromkeys(PAPER_LIKE, (370, 330)), noise=5)})
    assert noise["gqpo_helps"] == "open"
    assert _verdicts({"main_results": _results(PAPER_LIKE, periods=2)})["beats_dt"] == "open"


def test_smoke_results_prove_the_path_not_the_numbers():
    frame = _results(PAPER_LIKE)
    assert _verdicts({"main_results": frame.assign(tier="laptop")})["beats_dt"] == "agrees"
    assert _verdicts({"main_results": frame.assign(tier="smoke")})["beats_dt"] == "not comparable"
    assert (
        _verdicts(
            {
                "main_results": pd.concat(
                    [frame.assign(tier="gpu"), frame.assign(tier="laptop", period=frame["period"] + 50)]
                )
            }
        )["beats_dt"]
        == "not comparable"
    )
    backbones = np.where(frame["period"] == 7, "small", "large")
    assert _verdicts({"main_results": frame.assign(backbone=backbones)})["beats_dt"] == "not comparable"


def test_fewer_than_three_trainings_leave_a_claim_open():
    frame = _results(PAPER_LIKE, train_seed=0, weights="0123456789")
    row = scorecard({"main_results": frame}, np.random.default_rng(0)).set_index("name").loc["beats_dt"]
    assert row["verdict"] == "open"
    assert row["measured"].endswith("(trainings: 1)")
    three = pd.concat([frame.assign(train_seed=seed, weights=f"{seed}{seed}") for seed in range(3)])
    assert _verdicts({"main_results": three})["beats_dt"] == "agrees"


def test_a_strong_control_refutes_the_best_method():
    frame = _results(PAPER_LIKE | {"spend-rate pacing": (390, 372)})
    row = scorecard({"main_results": frame}, np.random.default_rng(0)).set_index("name").loc["best_backbone"]
    assert row["verdict"] == "opposite"
    assert row["measured"].startswith("ahead of 4 of 5; least: LBM(GQPO) − spend-rate pacing: score -24")


def test_what_was_not_measured_is_not_tested():
    nothing = scorecard({}, np.random.default_rng(0))
    assert (nothing["verdict"] == "not run").all()
    assert len(nothing) == len(claims()) == nothing["name"].nunique()
    assert set(JUDGES) < set(nothing["name"]), "a judge without a claim"
    assert "main_results" in experiments()
    assert "think_size" not in experiments(), "nothing decides it yet"
    partial = scorecard({"main_results": _results({"DT": (1, 1), "constant": (1, 1)})}, np.random.default_rng(0))
    row = partial.set_index("name").loc["beats_dt"]
    assert (row["verdict"], row["measured"]) == ("not run", "no rows of LBM(P)")


def test_budget_sweep_needs_every_budget():
    sweep = pd.concat(
        [_results({"DT": (300 * r, 1), "LBM(P)": (300 * r + 9, 1)}, budget_ratio=r) for r in (0.5, 1.0, 1.5)]
    )
    assert _verdicts({"budget_sweep": sweep})["other_budgets"] == "agrees"
    worse = sweep["conversions"].where((sweep["budget_ratio"] != 1.5) | (sweep["method"] == "DT"), 1.0)
    assert _verdicts({"budget_sweep": sweep.assign(conversions=worse)})["other_budgets"] == "opposite"


def test_instructions():
    frame = _results({"increase": (368, 315), "decrease": (373, 325), "base": (382, 348)})
    shift = frame["method"].map({"increase": 0.03, "base": 0.0, "decrease": -0.04})
    noise = 0.002 * np.random.default_rng(1).normal(size=(2, len(frame)))
    frame = frame.assign(budget_utilization=0.938 + shift + noise[0], group_expected_cpa_ratio=0.96 + shift + noise[1])
    verdicts = _verdicts({"instructions": frame})
    assert verdicts["instructions"] == verdicts["base_beats_constant"] == "agrees"
    swapped = frame.replace({"method": {"increase": "decrease", "decrease": "increase"}})
    assert _verdicts({"instructions": swapped})["instructions"] == "opposite"
    old = frame.rename(columns={"group_expected_cpa_ratio": "expected_cpa_ratio"})
    row = scorecard({"instructions": old}, np.random.default_rng(0)).set_index("name").loc["instructions"]
    assert (row["verdict"], row["measured"]) == ("not run", "recorded without group_expected_cpa_ratio")


def test_loss_must_be_lower_in_every_training_seed():
    steps = np.arange(1, 101)
    rows = [
        pd.DataFrame({"method": method, "step": steps, "loss": level / steps**0.5, "seed": seed})
        for seed in (0, 1, 2)
        for method, level in (("LLM-DT", 1.0), ("LBM-Act", 0.5 if seed == 0 else 0.6))
    ]
    frame = pd.concat(rows)
    assert _verdicts({"act_loss": frame})["faster_training"] == "agrees"
    assert _verdicts({"act_loss": frame[frame["seed"] == 0]})["faster_training"] == "open"
    mixed = frame["loss"].where((frame["seed"] == 0) | (frame["method"] == "LLM-DT"), 2.0)
    assert _verdicts({"act_loss": frame.assign(loss=mixed)})["faster_training"] == "open"


def _directions(shares, n=400):
    rng = np.random.default_rng(0)
    rows = []
    for model, share in shares.items():
        ratio = np.where(np.arange(n) % 2, 0.7, 1.4)
        right = rng.random(n) < share
        rows.append(
            pd.DataFrame(
                {"model": model, "cpa_ratio": ratio, "delta_a": np.where(ratio < 1, 1, -1) * np.where(right, 0.1, -0.1)}
            )
        )
    return pd.concat(rows)


def _trained(frame):
    return pd.concat([frame.assign(train_seed=seed) for seed in range(3)])


def test_direction_principle():
    strong = _directions({"DT": 0.55, "LBM(P)": 0.53, "LBM(GQPO)": 0.75})
    assert _verdicts({"direction": strong})["principle"] == "open", "one training"
    three = _trained(strong)
    assert _verdicts({"direction": three})["principle"] == "agrees"
    one_fails = three["delta_a"].where(three["train_seed"] > 0, -three["delta_a"])
    assert _verdicts({"direction": three.assign(delta_a=one_fails)})["principle"] == "open"
    assert _verdicts({"direction": three.assign(delta_a=-three["delta_a"])})["principle"] == "opposite"
    same = _directions({"DT": 0.6, "LBM(P)": 0.6, "LBM(GQPO)": 0.6})
    assert _verdicts({"direction": _trained(same)})["principle"] == "open"
    few = _directions({"DT": 0.1, "LBM(P)": 0.1, "LBM(GQPO)": 0.9}, n=40)
    assert _verdicts({"direction": _trained(few)})["principle"] == "open"


def test_attention_heads():
    shares = {0: 0.9, 1: 0.1, 2: 0.4}
    rows = [
        ("last", head, part, value)
        for head, s in shares.items()
        for part, value in (("language", s), ("numbers", 1 - s))
    ]
    frame = pd.DataFrame(rows, columns=["layer", "head", "part", "attention"])
    assert _verdicts({"attention": frame})["fusion"] == "open", "one training"
    assert _verdicts({"attention": _trained(frame)})["fusion"] == "agrees"
    assert _verdicts({"attention": _trained(frame[frame["head"] != 0])})["fusion"] == "opposite"


def test_latency():
    frame = pd.DataFrame(
        [("LBM-Think", 48, 20.0, 25.0), ("LBM-Act", 48, 0.2, 0.3)],
        columns=["module", "batch", "median_seconds", "p99_seconds"],
    )
    assert _verdicts({"latency": frame})["in_time"] == "agrees"
    small_batches = frame.assign(batch=[8, 48], p99_seconds=[290.0, 0.3])
    assert _verdicts({"latency": small_batches})["in_time"] == "agrees"
    assert _verdicts({"latency": small_batches.assign(p99_seconds=[310.0, 0.3])})["in_time"] == "opposite"
    slow = frame.assign(p99_seconds=[2_000.0, 0.3])
    assert _verdicts({"latency": slow})["in_time"] == "opposite"
    assert _verdicts({"latency": frame[frame["module"] == "LBM-Act"]})["in_time"] == "not run"

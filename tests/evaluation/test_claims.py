"""The claims' scorecard: each rule on rows made for it, and every claim on the committed results."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from lbm_core import paths
from lbm_core.evaluation.advice import MEASURES
from lbm_core.evaluation.claims import VERDICTS, claims, experiments, scorecard
from lbm_core.evaluation.judges import FORESIGHT, JUDGES, LOST_PRICES, pairs
from lbm_core.report import board, results
from lbm_core.report import chapter_figures_baselines as figure
from lbm_core.settings import DATASETS

COMMITTED = {path.stem for path in paths.results_dir("cached").glob("*.csv")}


def _results(levels, periods=12, noise=1.0, **columns):
    rng = np.random.default_rng(0)
    day = 30 * rng.normal(size=periods)
    rows = [
        (method, 7 + period, 0, *(level + day[period] + noise * rng.normal() for level in pair))
        for method, pair in levels.items()
        for period in range(periods)
    ]
    return pd.DataFrame(rows, columns=["method", "period", "seed", "conversions", "score"]).assign(**columns)


def _card(frames):
    return scorecard(frames, np.random.default_rng(0)).set_index("name")


def _verdicts(frames):
    return _card(frames)["verdict"]


def _trained(frame, n=3):
    return pd.concat([frame.assign(train_seed=seed) for seed in range(n)])


PAPER_LIKE = {
    "DT": (364, 329),
    "LLM-DT": (366, 331),
    "Prompt-LLM-DT": (355, 322),
    "LBM(P)": (376, 340),
    "LBM(GQPO)": (382, 348),
    "LBM(random)": (374, 338),
}


# --- the rules -------------------------------------------------------------------------------------------------------


def test_results_like_the_papers_support_its_claims():
    card = _card({"board": _results(PAPER_LIKE, tier="laptop")})
    names = ["beats_dt", "gqpo_helps", "gqpo_needs_q", "best_backbone", "beats_llm_dt", "prompt_is_not_enough"]
    assert (card.loc[names, "verdict"] == "agrees").all()
    row = card.loc["gqpo_helps"]
    assert (row["days"], row["seeds"], row["tier"]) == (12, 0, "laptop")
    assert 0 < row["low"] < row["estimate"] < row["high"]
    assert row["estimate"] == pytest.approx(6, abs=2), "of conversions and score the one that gains less"


def test_opposite_results_and_noise_do_not():
    reversed_levels = {name: (760 - a, 700 - b) for name, (a, b) in PAPER_LIKE.items()}
    assert _verdicts({"board": _results(reversed_levels)})["beats_dt"] == "opposite"
    noise = _verdicts({"board": _results(dict.fromkeys(PAPER_LIKE, (370, 330)), noise=5)})
    assert noise["gqpo_helps"] == "open"
    assert _verdicts({"board": _results(PAPER_LIKE, periods=2)})["beats_dt"] == "open"


def test_the_number_shown_is_of_the_comparison_that_decides():
    levels = {"DT": (300, 300), "BCQ": (340, 260), "CQL": (200, 200), "IQL": (299, 299)}
    row = _card({"board": _results(levels)}).loc["generative"]
    assert (row["verdict"], row["metric"]) == ("opposite", "Δ conversions")
    assert row["estimate"] == pytest.approx(-40, abs=2)
    assert row["measured"].startswith("ahead in 5 of 6; least: DT − BCQ: conversions -")


def test_smoke_results_prove_the_path_not_the_numbers():
    frame = _results(PAPER_LIKE)
    assert _verdicts({"board": frame.assign(tier="laptop")})["beats_dt"] == "agrees"
    assert _verdicts({"board": frame.assign(tier="smoke")})["beats_dt"] == "not comparable"
    two_tiers = pd.concat([frame.assign(tier="gpu"), frame.assign(tier="laptop", period=frame["period"] + 50)])
    row = _card({"board": two_tiers}).loc["beats_dt"]
    assert (row["verdict"], row["tier"]) == ("not comparable", "gpu + laptop")
    backbones = np.where(frame["period"] == 7, "small", "large")
    assert _verdicts({"board": frame.assign(backbone=backbones)})["beats_dt"] == "not comparable"


def test_only_the_rows_that_are_judged_must_be_comparable():
    frame = _results(PAPER_LIKE).assign(tier="laptop")
    tiers = frame["tier"].mask(frame["method"] == "Prompt-LLM-DT", "smoke")
    verdicts = _verdicts({"board": frame.assign(tier=tiers)})
    assert (verdicts["beats_dt"], verdicts["prompt_is_not_enough"]) == ("agrees", "not comparable")


def test_fewer_than_three_trainings_leave_a_claim_open():
    frame = _results(PAPER_LIKE, train_seed=0, weights="0123456789")
    row = _card({"board": frame}).loc["beats_dt"]
    assert (row["verdict"], row["seeds"]) == ("open", 1)
    assert row["measured"].endswith("(trainings: 1)")
    three = pd.concat([frame.assign(train_seed=seed, weights=f"{seed}{seed}") for seed in range(3)])
    row = _card({"board": three}).loc["beats_dt"]
    assert (row["verdict"], row["seeds"]) == ("agrees", 3)


def test_two_methods_are_paired_on_the_days_and_trainings_that_both_met():
    frame = _results(PAPER_LIKE)
    three = _trained(frame).assign(weights=frame["method"].where(frame["method"] != "DT"))  # DT's rows are older
    late = three["method"].isin(["LBM(P)", "LBM(GQPO)"])
    half = late & ((three["period"] % 2 == 1) | (three["train_seed"] > 0))  # 6 of 12 days, one training
    assert three[late & ~half]["period"].nunique() == 6
    card = _card({"board": three[~half]})
    row = card.loc["beats_dt"]
    assert (row["verdict"], row["days"], row["seeds"]) == ("open", 6, 1)
    same = frame[frame["period"] % 2 == 0].pivot(index="period", columns="method", values="conversions")
    assert row["estimate"] == pytest.approx((same["LBM(P)"] - same["DT"]).mean())
    assert card.loc["prompt_is_not_enough", "days"] == 12
    elsewhere = frame.assign(period=frame["period"] + 50 * (frame["method"] == "LBM(P)"))
    row = _card({"board": elsewhere}).loc["beats_dt"]
    assert (row["verdict"], row["measured"]) == ("not run", "LBM(P) and DT met no day together")
    others = three.assign(train_seed=three["train_seed"] + 10 * (three["method"] == "LBM(P)"))
    row = _card({"board": others}).loc["beats_dt"]
    assert row["verdict"] == "not run"
    assert "share no training seed" in row["measured"]


def test_a_strong_control_refutes_the_best_method():
    frame = _results(PAPER_LIKE | {"spend-rate pacing": (390, 372)})
    row = _card({"board": frame}).loc["best_backbone"]
    assert row["verdict"] == "opposite"
    assert row["measured"].startswith("ahead in 5 of 6; least: LBM(GQPO) − spend-rate pacing: score -23.8 [")


def test_who_sees_prices_is_no_control():
    cheats = dict.fromkeys((*FORESIGHT, *LOST_PRICES), (450, 440))
    assert _verdicts({"board": _results(PAPER_LIKE | cheats)})["best_backbone"] == "agrees"
    alone = _card({"board": _results({"LBM(GQPO)": (382, 348)} | cheats)}).loc["best_backbone"]
    assert (alone["verdict"], alone["measured"]) == ("not run", "no rows of any other method")
    own = {"LBM(GQPO), expected x 2": (450, 440)}
    assert _verdicts({"board": _results(PAPER_LIKE | own)})["best_backbone"] == "agrees", "itself, read otherwise"


def test_a_claim_may_need_two_frames():
    sweep = _results({f"w = {w}": (360, 330 + 10 * w) for w in (0, 0.1, 0.2, 0.5, 1)})
    verdicts = _verdicts({"board": _results(PAPER_LIKE), "dt_score": sweep})
    assert verdicts["reward_design"] == "agrees"
    assert verdicts["best_w"] == "opposite"
    row = _card({"board": _results(PAPER_LIKE)}).loc["reward_design"]
    assert (row["verdict"], row["measured"]) == ("not run", "no recorded results of 'dt_score'")
    good = sweep["score"] + 30 * (sweep["method"] == "w = 0.5")
    verdicts = _verdicts({"board": _results(PAPER_LIKE), "dt_score": sweep.assign(score=good)})
    assert verdicts["reward_design"] == "opposite"


def test_what_was_not_measured_is_not_tested():
    nothing = scorecard({}, np.random.default_rng(0))
    assert (nothing["verdict"] == "not run").all()
    assert len(nothing) == len(claims())
    partial = _card({"board": _results({"DT": (1, 1), "constant": (1, 1)})})
    row = partial.loc["beats_dt"]
    assert (row["verdict"], row["measured"]) == ("not run", "no rows of LBM(P)")
    assert np.isnan(row["estimate"])


def test_budget_sweep_needs_every_budget():
    sweep = pd.concat(
        [
            _results({"DT": (300 * r, 1), "LBM(P)": (300 * r + 9, 1)}, budget_ratio=r)
            for r in (0.5, 0.75, 1.0, 1.25, 1.5)
        ]
    )
    assert _verdicts({"baseline_budgets": sweep})["other_budgets"] == "agrees"
    worse = sweep["conversions"].where((sweep["budget_ratio"] != 1.5) | (sweep["method"] == "DT"), 1.0)
    assert _verdicts({"baseline_budgets": sweep.assign(conversions=worse)})["other_budgets"] == "opposite"
    row = _card({"baseline_budgets": sweep[sweep["budget_ratio"] < 1.5]}).loc["other_budgets"]
    assert (row["verdict"], row["measured"]) == ("not run", "no rows of LBM(P) at 1.5 B")


def _instructed():
    frame = _results({"increase": (368, 315), "decrease": (373, 325), "uncertain": (382, 348)})
    shift = frame["method"].map({"increase": 0.03, "uncertain": 0.0, "decrease": -0.04})
    noise = 0.002 * np.random.default_rng(1).normal(size=(2, len(frame)))
    return frame.assign(budget_utilization=0.938 + shift + noise[0], group_expected_cpa_ratio=0.96 + shift + noise[1])


def test_instructions():
    frame, told = _instructed(), _results(PAPER_LIKE)
    verdicts = _verdicts({"act_table4": frame, "board": told})
    assert (verdicts[["instructions", "base_beats_constant", "instructions_mild"]] == "agrees").all()
    swapped = frame.replace({"method": {"increase": "decrease", "decrease": "increase"}})
    assert _verdicts({"act_table4": swapped})["instructions"] == "opposite"
    old = frame.rename(columns={"group_expected_cpa_ratio": "expected_cpa_ratio"})
    row = _card({"act_table4": old}).loc["instructions"]
    assert (row["verdict"], row["measured"]) == ("not run", "recorded without group_expected_cpa_ratio")


def test_a_loss_of_more_than_a_tenth_is_not_mild():
    frame = _instructed()
    fallen = frame["conversions"].where(frame["method"] != "decrease", 330.0)  # 0.86 of 382
    row = _card({"act_table4": frame.assign(conversions=fallen)}).loc["instructions_mild"]
    assert row["verdict"] == "opposite"
    base = frame.loc[frame["method"] == "uncertain", "conversions"].mean()
    assert row["estimate"] == pytest.approx(330 - 0.9 * base)


def test_sizes_of_lbm_think_are_alike_within_a_share():
    small, large = "smollm2-135m", "Qwen2.5-Coder-0.5B-Instruct"

    def scores(a, b):
        return pd.concat(
            [
                _results({"LBM(P)": (level, level)}, noise=1.0, model=model, backbone=model)
                for model, level in ((small, a), (large, b))
            ]
        )

    assert _verdicts({"think_scores": scores(376, 374)})["think_size"] == "agrees"
    assert _verdicts({"think_scores": scores(376, 330)})["think_size"] == "opposite"
    assert _verdicts({"think_scores": scores(330, 376)})["think_size"] == "opposite"


def _losses(ratios, number=0.9):
    steps = np.arange(1, 101)
    return pd.concat(
        [
            pd.DataFrame({"method": method, "step": steps, "loss": level / steps**0.5, "seed": seed})
            for seed, ratio in enumerate(ratios)
            for method, level in (("LLM-DT", 1.0), ("LBM-Act", ratio), ("LLM-DT + direction", number - 0.01 * seed))
        ]
    )


def test_loss_must_be_lower_in_every_training_seed():
    card = _card({"act_loss": _losses((0.5, 0.6, 0.61))})
    row = card.loc["faster_training"]
    assert (row["verdict"], row["seeds"]) == ("agrees", 3)
    assert row["estimate"] == pytest.approx(0.57)
    assert row["measured"] == "loss ratio 0.57 (trainings: 0.5, 0.6, 0.61)"
    assert np.isnan(row["low"]), "no interval decides: each training must say the same"
    assert _verdicts({"act_loss": _losses((0.5,))})["faster_training"] == "open"
    assert _verdicts({"act_loss": _losses((0.5, 1.2, 1.3))})["faster_training"] == "open"
    assert _verdicts({"act_loss": _losses((1.1, 1.2, 1.3))})["faster_training"] == "opposite"


def test_a_number_that_closes_the_gap_takes_the_credit_from_language():
    ratios = (0.5, 0.51, 0.49)
    assert _verdicts({"act_loss": _losses(ratios, number=0.97)})["language_does_it"] == "agrees"
    row = _card({"act_loss": _losses(ratios, number=0.51)}).loc["language_does_it"]
    assert row["verdict"] == "opposite"
    assert row["estimate"] == pytest.approx(1, abs=0.05)
    assert _verdicts({"act_loss": _losses(ratios, number=0.76)})["language_does_it"] == "open"
    assert _verdicts({"act_loss": _losses((0.5, 0.51), number=0.51)})["language_does_it"] == "open"


def _directions(shares, n=400):
    rng = np.random.default_rng(0)
    rows = []
    for model, share in shares.items():
        ratio = np.where(np.arange(n) % 2, 0.7, 1.4)
        move = np.where(ratio < 1, 0.1, -0.1) * np.where(rng.random(n) < share, 1, -1)
        rows.append(pd.DataFrame({"model": model, "cpa_ratio": ratio, "delta_a": move}))
    return pd.concat(rows)


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
    row = _card({"direction": strong[strong["cpa_ratio"] < 1]}).loc["principle"]
    assert (row["verdict"], row["measured"][:18]) == ("not run", "too few decisions ")


def test_shares_of_moves_weigh_both_sides_of_the_target_alike():
    strong = _directions({"DT": 0.5, "LBM(P)": 0.5, "LBM(GQPO)": 0.8}, n=2000)
    uneven = pd.concat([strong[strong["cpa_ratio"] < 1], strong[strong["cpa_ratio"] > 1].groupby("model").head(200)])
    row = _card({"direction": uneven}).loc["principle"]
    shares = uneven.assign(right=(uneven["delta_a"] > 0) == (uneven["cpa_ratio"] < 1))
    shares = shares.groupby(["model", "cpa_ratio"])["right"].mean().groupby("model").mean()
    assert row["estimate"] == pytest.approx(shares["LBM(GQPO)"] - shares[["DT", "LBM(P)"]].max())
    half = 1.96 * 0.5 * np.sqrt(0.16 / 1000 + 0.16 / 200 + 0.25 / 1000 + 0.25 / 200)
    assert row["high"] - row["low"] == pytest.approx(2 * half, rel=0.1)


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


def test_following_must_be_nearly_perfect_in_every_training():
    def told(*shares):
        rows = [("LBM-Act", "all", share, seed) for seed, share in enumerate(shares)]
        return pd.DataFrame(rows, columns=["method", "direction", "followed", "train_seed"])

    assert _verdicts({"act_following": told(0.99, 0.95, 0.97)})["follows"] == "agrees"
    assert _verdicts({"act_following": told(0.99, 0.95)})["follows"] == "open"
    assert _verdicts({"act_following": told(0.99, 0.85, 0.97)})["follows"] == "open"
    assert _verdicts({"act_following": told(0.4, 0.45, 0.5)})["follows"] == "opposite"


def test_texts_of_grpo():
    def lengths(last, steps):
        step = np.arange(1, steps + 1)
        return pd.DataFrame({"variant": "grpo", "step": step, "length": np.linspace(100, last, steps)})

    assert _verdicts({"grpo_lengths": lengths(5, 200)})["grpo_collapse"] == "open", "one training"
    assert _verdicts({"grpo_lengths": _trained(lengths(5, 200))})["grpo_collapse"] == "agrees"
    assert _verdicts({"grpo_lengths": _trained(lengths(90, 200))})["grpo_collapse"] == "opposite"
    row = _card({"grpo_lengths": _trained(lengths(90, 20))}).loc["grpo_collapse"]
    assert row["verdict"] == "open", "too short a run to refute it"
    assert row["estimate"] < 1


def test_prompted_models_that_calculate_well_refute_their_hallucination():
    def texts(*bounds):
        rows = [(f"m{k}", "ratio right", (low + high) / 2, low, high, 100) for k, (low, high) in enumerate(bounds)]
        rows += [("m0, warmed up", "ratio right", 0.95, 0.94, 0.96, 100)]
        return pd.DataFrame(rows, columns=["model", "quantity", "value", "low", "high", "texts"])

    row = _card({"think_hallucination": texts((0.1, 0.2), (0.3, 0.5))}).loc["hallucinates"]
    assert (row["verdict"], row["estimate"]) == ("agrees", 0.4)
    assert _verdicts({"think_hallucination": texts((0.1, 0.2), (0.92, 0.98))})["hallucinates"] == "opposite"
    assert _verdicts({"think_hallucination": texts((0.1, 0.2), (0.8, 0.98))})["hallucinates"] == "open"
    assert _verdicts({"think_hallucination": texts()})["hallucinates"] == "not run"


def _probes(models, n=200):
    """What each model answers: a share of right ratios, and a share of answers with the best Q."""
    rng, parts = np.random.default_rng(0), []
    for model, (right, best) in models.items():
        answers = np.where(rng.random(n) < best, 1, -1)
        errors = np.where(rng.random(n) < right, 0.0, 1.0)
        columns = {"model": model, "moment": range(n), "cpa_ratio": 1.5, "direction": answers, "ratio_error": errors}
        parts.append(pd.DataFrame(columns).assign(delta_a=0.1, relative_q=0.1, status="accepted"))
    return pd.concat(parts, ignore_index=True).assign(critic_best=1, simulator_best=1)


def test_advice_is_compared_moment_by_moment():
    probes = _probes({"LBM(P)": (0.5, 0.3), "LBM(GQPO)": (0.9, 0.6), "random": (0.6, 0.3)})
    card = _card({"gqpo_probes": _trained(probes)})
    row = card.loc["gqpo_hallucinates_less"]
    assert (row["verdict"], row["seeds"]) == ("agrees", 3)
    assert row["estimate"] == pytest.approx(0.4, abs=0.1)
    assert np.isnan(row["days"]), "moments are no days"
    assert card.loc["gqpo_agrees_with_q", "verdict"] == "agrees"
    as_good = _probes({"LBM(P)": (0.5, 0.3), "LBM(GQPO)": (0.9, 0.6), "random": (0.6, 0.9)})
    assert _verdicts({"gqpo_probes": _trained(as_good)})["gqpo_agrees_with_q"] == "opposite", "any text would do"
    assert _verdicts({"gqpo_probes": probes})["gqpo_hallucinates_less"] == "open", "one training"
    trained = _trained(probes)
    once = trained[(trained["model"] != "random") | (trained["train_seed"] == trained["train_seed"].min())]
    assert _verdicts({"gqpo_probes": once})["gqpo_agrees_with_q"] == "open", "one training of the control"
    worse = _trained(_probes({"LBM(P)": (0.5, 0.9), "LBM(GQPO)": (0.9, 0.3), "random": (0.6, 0.2)}))
    worse = worse[(worse["model"] != "random") | (worse["train_seed"] == worse["train_seed"].min())]
    row = _card({"gqpo_probes": worse}).loc["gqpo_agrees_with_q"]
    assert (row["verdict"], row["seeds"]) == ("opposite", 3), "the one that refutes has three, whatever the control has"
    assert "(trainings: 1)" not in row["measured"]
    assert {"hallucinated", "as the critic"} <= set(MEASURES)


def test_a_critic_must_know_more_than_one_answer_for_all():
    rng = np.random.default_rng(0)
    keys = [(change, period) for change in ("one tick", "rest of the day") for period in range(12)]
    frame = pd.DataFrame(keys, columns=["change", "period"]).assign(variant="default", tier="laptop")
    frame = frame.assign(always_lower=0.55, is_better=0.3, sign_accuracy=0.72 + 0.01 * rng.normal(size=24))
    row = _card({"critic_validity": frame}).loc["q_is_a_judge"]
    assert (row["verdict"], row["seeds"]) == ("open", 1), "one critic"
    assert row["estimate"] == pytest.approx(0.02, abs=0.01), "saying that no move helps is right in 0.7"
    assert "− never" in row["measured"]
    assert _verdicts({"critic_validity": _trained(frame)})["q_is_a_judge"] == "agrees", "three critics"
    worse = _trained(frame.assign(sign_accuracy=frame["sign_accuracy"] - 0.05))
    assert _verdicts({"critic_validity": worse})["q_is_a_judge"] == "opposite"


def test_moves_that_do_not_tell_their_training_decide_nothing():
    rows = [
        (name, day, 0.5 - 0.4 * (name == "PID")) for name in ("CQL", "IQL", "DT", "DiffBid", "PID") for day in range(6)
    ]
    moved = pd.DataFrame(rows, columns=["method", "period", "raised_above"]).assign(tier="laptop")
    row = _card({"black_box_moves": moved}).loc["black_box"]
    assert (row["verdict"], row["seeds"]) == ("open", 1)
    assert _verdicts({"black_box_moves": _trained(moved)})["black_box"] == "agrees"


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


# --- the claims and the committed results ----------------------------------------------------------------------------


def test_every_claim_is_decided_or_says_why_not():
    table = claims()
    for column in ("name", "short", "claim"):
        assert table[column].is_unique
    assert (table[["section", "test"]] != "").all(axis=None)
    judged = table[table["judge"] != ""]
    assert set(judged["judge"]) == set(JUDGES), "a judge without a claim, or a claim without its judge"
    assert set(experiments()) <= COMMITTED | {"board"}, "an experiment that nobody recorded decides a claim"
    assert ((judged["judge"] == "better") == (judged["pairs"] != "")).all()
    assert ((judged["pairs"] != "") == (judged["metrics"] != "")).all()
    for claim in judged[judged["pairs"] != ""].to_dict("records"):
        assert pairs(claim, pd.DataFrame({"method": ["A"]})), "a pair that cannot be read"


@pytest.fixture(scope="module", params=DATASETS)
def committed(request):
    """The committed frames of one data set, "board" among them."""
    frames = {}
    for name in sorted(COMMITTED):
        try:
            frames[name] = results.load(name, "cached", dataset=request.param)
        except FileNotFoundError:
            continue
    return frames | {"board": board.joined(lambda name: results.load(name, "cached", dataset=request.param))}


def test_no_claim_is_frozen_that_committed_results_could_decide(committed):
    card = scorecard(committed, np.random.default_rng(0))
    assert set(card["verdict"]) <= set(VERDICTS)
    recorded = {str(name) for frame in committed.values() for name in frame.get("method", ()) if _counts(frame)}
    for row, claim in zip(card.to_dict("records"), claims().to_dict("records"), strict=True):
        if row["verdict"] != "not run":
            assert np.isfinite(row["estimate"]), row["name"]
            assert row["tier"], row["name"]
            continue
        if not claim["judge"]:
            assert not set(claim["experiment"].split()) & {*committed}, f"{row['name']}: its results wait for a judge"
            continue
        assert row["measured"].startswith("no rows of "), f"{row['name']}: {row['measured']}"
        missing = row["measured"].removeprefix("no rows of ")
        assert missing not in recorded, f"{row['name']}: rows of {missing} are recorded elsewhere"


def _counts(frame):
    """Whether rows are of whole days of all advertisers, at a tier that decides something."""
    whole = {"period", "advertisers"} <= set(frame) and frame["advertisers"].max() == 48
    return whole and "smoke" not in set(frame["tier"])


def test_the_scorecard_is_drawn_with_signs_that_survive_grey(committed):
    card = scorecard(committed, np.random.default_rng(0)).assign(dataset="dense")
    drawn = figure.scorecard(pd.concat([card, card.assign(dataset="sparse", verdict="not comparable")]))
    texts = [text.get_text() for text in drawn.axes[0].texts]
    for verdict, sign in zip(VERDICTS, "✓✗○≠–", strict=True):
        expected = (card["verdict"] == verdict).sum() + (len(card) if verdict == "not comparable" else 0)
        assert texts.count(sign) == expected + 1, "and one in the legend"
    assert set(card["short"]) <= set(texts)
    FigureCanvasAgg(drawn).draw()
    assert drawn.get_size_inches()[0] == 7
    assert all(text.get_window_extent().x1 <= 7 * drawn.dpi + 1 for text in drawn.axes[0].texts), "nothing is cut off"

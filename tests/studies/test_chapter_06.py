"""Chapter 6's comparisons: baselines trained and tuned once, what a training took, single decisions undone, sweeps."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from lbm_core import paths
from lbm_core.auction.bidder import Bidder
from lbm_core.lab import days
from lbm_core.lab.days import FIRST_TUNING_PERIOD
from lbm_core.lab.methods import MAIN, OFFLINE_BASELINES, TRAINABLE, Choice, method
from lbm_core.studies import chapter_06

SIZES = {
    "data.train_periods": 3,  # real ones, as are the tables that methods are judged on
    "evaluation.advertisers": 2,
    "evaluation.train_seeds": 1,
    "dt.hidden_size": 8,
    "dt.layers": 1,
    "dt.steps": 3,
    "dt_q.steps": 2,
    "rl.hidden_size": 8,
    "rl.steps": 3,
    "uscb.periods": 1,
    "uscb.steps": 60,
    "diffbid.channels": 8,
    "diffbid.steps": 2,
}


@pytest.fixture(scope="module")
def lab(lab):
    """With baselines of a few weights."""
    return lab.changed(SIZES)


def test_every_baseline_bids_and_is_trained_once(lab, capsys):
    factories = lab.bidders(OFFLINE_BASELINES)
    tables = days.tables(days.past_periods(lab))[0]
    for name in OFFLINE_BASELINES:
        bidder = factories[name]()
        assert isinstance(bidder, Bidder), name
        bidder.reset(tables.advertisers)
    printed = capsys.readouterr().out
    for name in set(OFFLINE_BASELINES) & set(TRAINABLE):
        what = {"DT-score": "DT-score, w = 0.5 (", "DT-Q (fine-tuned)": "DT-Q (fine-tuned; "}.get(name, f"{name} (")
        assert f"{what}dense, training seed 0): computed" in printed, name
    for name in OFFLINE_BASELINES:
        factories[name]()
    assert "computed" not in capsys.readouterr().out


def test_chapter_6_has_baselines_that_chapter_8_leaves_to_it():
    assert not set(OFFLINE_BASELINES) & set(MAIN)
    assert set(chapter_06.BASELINES) > {*OFFLINE_BASELINES, "constant", "DT"}


def test_evaluation_of_baselines(lab):
    names = ["constant", "IQL", "DT-Q (search)", "DiffBid"]
    rows = lab.evaluate(names)
    assert rows.groupby("method").size().to_dict() == dict.fromkeys(names, 2)
    assert (rows["score"] <= rows["conversions"] + 1e-9).all()


def test_target_sweep(lab):
    sweep = chapter_06.target_sweep(lab, "DT", (0.5, 2.0))
    assert sweep["target_return"].tolist() == [0.5, 2.0]
    assert sweep["period"].eq(FIRST_TUNING_PERIOD).all()
    assert (sweep["score"] <= sweep["conversions"] + 1e-9).all()
    assert sweep["score"].nunique() == 2, "the target reaches the bids"
    with pytest.raises(ValueError, match="not conditioned on a return"):
        chapter_06.target_sweep(lab, "IQL")
    transformers = {"DT", "DT-score", "DT-Q (search)", "DT-Q (fine-tuned)"}
    assert set(chapter_06.RETURN_CONDITIONED) == {*transformers, "DiffBid", "DiffBid-Q"}


def test_what_a_training_took_is_kept_with_its_model(lab):
    longer = lab.changed({"rl.steps": 4})
    first, second = (longer.train("BC", tune=False) for _ in range(2))
    assert (first["computed"], second["computed"]) == (True, False)
    # Two hidden layers of 8 on 23 features, and one action.
    assert first["parameters"] == second["parameters"] == 23 * 8 + 8 + 8 * 8 + 8 + 8 + 1
    assert first["steps"] == 4
    assert first["seconds"] == second["seconds"] > 0
    assert first["peak_mib"] > 50
    assert lab.train("critic")["folder"].parent.name == "critic"


def test_every_search_has_the_same_trials_and_begins_with_the_defaults(lab, capsys):
    names = ["pacing", "critic alone", "IQL", "DT", "DT-Q (search)", "DT-Q (fine-tuned)"]
    three = lab.changed({"tuning.trials": 3})
    log = chapter_06.tuning_log(three, names)
    assert log.groupby("method").size().to_dict() == dict.fromkeys(names, 3)
    assert log.groupby("method")["chosen"].sum().eq(1).all()
    assert log.loc[log["chosen"], "score"].tolist() == log.groupby("method", sort=False)["score"].max().tolist()
    first = log[log["trial"] == 0].set_index("method")["setting"].map(json.loads)
    assert first["pacing"] == {"cap": 1.2, "gain": 0.2}
    usual = {"learning_rate": lab.tier.rl.learning_rate, "state_kind": "extended", "expectile": 0.7}
    assert first["IQL"] == usual | {"temperature": 3.0, "n_step": lab.tier.rl.n_step}
    assert first["DT-Q (fine-tuned)"] == {"q_weight": 10.0, "target_return": lab.tier.dt.target_return}
    assert not log.duplicated(["method", "setting"]).any()
    assert log.loc[log["method"] == "IQL", "steps"].eq(1).all(), "a share of three steps"
    capsys.readouterr()
    assert chapter_06.tuning_log(three, names).equals(log)
    assert "computed" not in capsys.readouterr().out
    with pytest.raises(ValueError, match="no settings to tune"):
        lab.tuned("constant")


def test_chosen_settings_reach_model_and_bidder(lab):
    choice = Choice({"learning_rate": 3e-3}, {"target_return": 0.8})
    bidder = method("DT").contend(lab, choice).make()
    assert bidder.model.config.learning_rate == 3e-3
    assert bidder.target_return == 0.8
    varied = chapter_06.varied(lab, "DT", target_return=1.7, learning_rate=2e-3).make()
    assert (varied.model.config.learning_rate, varied.target_return) == (2e-3, 1.7)
    assert lab.model("DT", tune=False).config.learning_rate == lab.tier.dt.learning_rate


def test_what_trainings_took_and_their_curves(lab):
    names = ["DT", "critic", "IQL", "DT-Q (search)", "DiffBid", "USCB"]
    report = chapter_06.training_report(lab, names)
    assert report["method"].tolist() == ["DT", "critic", "IQL", "DiffBid", "USCB"], "DT-Q's search has none"
    assert report.columns[:2].tolist() == ["method", "train_seed"]
    assert (report[["parameters", "steps", "seconds", "peak_mib"]] > 0).all(axis=None)
    curves = chapter_06.learning_curves(lab, names)
    kinds = curves.groupby("method", sort=False)["name"].unique().map(list).to_dict()
    two = ["states", "actions"]
    others = {"DT": ["loss"], "critic": ["q_loss", "v_loss"], "IQL": ["loss"], "USCB": ["return"]}
    assert kinds == {"DiffBid": two, **others}
    assert np.isfinite(curves["value"]).all()


def test_penalty_sweep_trains_one_transformer_per_weight(lab):
    sweep = chapter_06.penalty_sweep(lab.changed({"chapter6.penalty_weights": (0.0, 1.0)}))
    assert sweep.groupby("penalty_weight").size().to_dict() == {0.0: 2, 1.0: 2}
    assert sweep.groupby("penalty_weight")["weights"].nunique().to_dict() == {0.0: 1, 1.0: 1}
    assert sweep["weights"].nunique() == 2
    models = [chapter_06.varied(lab, "DT-score", penalty_weight=weight).make().model for weight in (0.0, 1.0)]
    assert [model.config.penalty_weight for model in models] == [0.0, 1.0]
    assert not np.array_equal(*(model.losses for model in models))


def test_single_decisions_undone(lab):
    worth = chapter_06.ablations(lab.changed({"chapter6.ablations": ("BC", "DT")}))
    changes = ["as tuned", "constant learning rate", "the 16 features alone"]
    assert worth[["change", "method"]].drop_duplicates().values.tolist() == [
        [change, name] for change in changes for name in ("BC", "DT")
    ]
    assert worth.columns.tolist() == [
        "method",
        "change",
        "weights",
        "period",
        "score",
        "conversions",
        "budget_utilization",
    ]
    scores = worth.pivot(index="method", columns="change", values="score")
    assert (scores["constant learning rate"] != scores["as tuned"]).all(), "the change reaches the bids"
    assert scores.loc["DT", "the 16 features alone"] != scores.loc["DT", "as tuned"]
    assert (worth["score"] <= worth["conversions"] + 1e-9).all()
    with pytest.raises(ValueError, match="nothing is undone of 'PID'"):
        chapter_06.ablations(lab.changed({"chapter6.ablations": ("PID",)}))


def test_budgets_are_those_that_may_be_spent(lab, capsys):
    board = lab.evaluate(["constant", "pacing"])
    sizes = {"chapter6.budget_ratios": (0.5, 1.0), "chapter6.budget_methods": ("constant", "pacing")}
    sweep = chapter_06.budget_sweep(lab.changed(sizes | {"evaluation.train_seeds": 3}))
    assert "2 replays of 2 methods (dense): loaded" in capsys.readouterr().out, "the whole budget is known"
    whole, half = (sweep[sweep["budget_ratio"] == ratio].reset_index(drop=True) for ratio in (1.0, 0.5))
    assert whole.drop(columns="budget_ratio").equals(board)
    np.testing.assert_allclose(half["budget"], whole["budget"] / 2)


def test_moves_against_the_cpa(lab):
    twice = {"evaluation.train_seeds": 2, "evaluation.periods": 2, "chapter6.watched_days": 2}
    counts, day = chapter_06.moves_against_the_cpa(lab.changed(twice))
    assert {*counts["period"]} == {7, 27}
    assert {*counts.loc[counts["method"] == "constant", "train_seed"]} == {0}, "it learns nothing"
    assert {*counts.loc[counts["method"] != "constant", "train_seed"]} == {0, 1}
    counts = counts[counts["period"] == 7]
    still = counts.set_index("method").loc["constant", ["raised_above", "lowered_below"]]
    assert still.fillna(0).eq(0).all()
    others = {"constant", "pacing", "online LP", "critic alone", "USCB", "BC"}
    # Whoever wins fewer than five conversions has no CPA yet.
    assert {"constant", "PID"} <= set(counts["method"]) <= {*chapter_06.WATCHED, *others}
    assert day["advertiser"].nunique() == 1
    assert set(day["method"]) <= set(chapter_06.WATCHED)
    assert {*day["period"]} == {7}
    assert {*day["train_seed"]} == {0}


def test_trainings_side_by_side_are_those_one_after_another(lab):
    two, names = lab.changed({"evaluation.train_seeds": 2, "rl.steps": 5}), ["BC", "IQL"]
    two.train_all(names, jobs=2)
    beside = chapter_06.learning_curves(two, names)
    for stage in ("offline_rl", "tuning"):
        shutil.rmtree(paths.cache_dir() / stage)
    two.train_all(names)
    assert chapter_06.learning_curves(two, names).equals(beside)


def test_changes_and_training_seeds_make_other_models(lab):
    base = lab.model("IQL", tune=False)
    other = lab.trained_with(1).model("IQL", tune=False)
    wide = lab.model("IQL", tune=False, hidden_size=16)
    assert (other.config.seed, wide.config.hidden_size) == (1, 16)
    assert not np.array_equal(base.losses, other.losses)

"""Baselines as artifacts and contenders, the sweep of return targets, and `lbm train`."""

import json
import shutil

import numpy as np
import pytest

from lbm_core import cli, pipeline
from lbm_core.auction.bidder import Bidder
from lbm_core.pipeline import stages
from lbm_core.pipeline.baselines import RETURN_CONDITIONED
from lbm_core.pipeline.tuning import Tuned
from lbm_core.tiers import Tier, get_tier

METHODS = pipeline.OFFLINE_BASELINES


def _tiny(**overrides) -> Tier:
    settings = {
        "data__train_periods": 1,
        "data__evaluation_periods": 1,
        "data__evaluation_seeds": 1,
        "evaluation__advertisers": 2,
        "critic__hidden_size": 8,
        "critic__layers": 1,
        "critic__heads": 1,
        "critic__steps": 3,
        "baseline__dt_hidden_size": 8,
        "baseline__dt_layers": 1,
        "baseline__dt_steps": 3,
        "baseline__dt_q_steps": 2,
        "baseline__rl_hidden_size": 8,
        "baseline__rl_steps": 3,
        "baseline__uscb_periods": 1,
        "baseline__uscb_steps": 60,
        "baseline__diffusion_channels": 8,
        "baseline__diffusion_steps": 2,
        "baseline__diffusion_candidates": 2,
    }
    return get_tier("smoke", **(settings | overrides))


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """One cache for the module, so that the market is simulated once."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LBM_CACHE", str(folder))
        tables = pipeline.past_tables(_tiny(), "dense", 0)
        patch.setattr("lbm_core.pipeline.recipes.past_tables", lambda *arguments: tables)
        patch.setattr("lbm_core.pipeline.baselines.past_tables", lambda *arguments: tables)
        patch.setattr("lbm_core.pipeline.tuning.tuning_tables", lambda *arguments: tables)
        patch.setattr("lbm_core.pipeline.baselines.tuning_tables", lambda *arguments: tables)
        pipeline.trajectories(_tiny(), "dense", 0)
        yield folder


def test_every_baseline_bids_and_is_trained_once(capsys):
    made = pipeline.bidders(_tiny(), "dense", 0, METHODS)
    tables = pipeline.past_tables(_tiny(), "dense", 0)[0]
    for name in METHODS:
        bidder = made[name]()
        assert isinstance(bidder, Bidder), name
        bidder.reset(tables.advertisers)
    said = capsys.readouterr().out
    for name in METHODS:
        if name != "DT-Q (search)":
            assert f"{name} (dense, training seed 0): computed" in said, name
    for name in METHODS:
        made[name]()
    assert "computed" not in capsys.readouterr().out


def test_default_methods_of_the_evaluation_are_unchanged():
    assert not set(pipeline.OFFLINE_BASELINES) & set(pipeline.METHODS)


def test_evaluation_of_baselines():
    frame = pipeline.evaluate_methods(_tiny(), "dense", 0, ["constant", "IQL", "DT-Q (search)", "DiffBid"])
    assert frame.groupby("method").size().to_dict() == dict.fromkeys(["constant", "IQL", "DT-Q (search)", "DiffBid"], 2)
    assert (frame["score"] <= frame["conversions"] + 1e-9).all()


def test_target_sweep():
    sweep = pipeline.target_sweep(_tiny(), "dense", 0, "DT", (0.5, 2.0), advertisers=[0, 9])
    assert sweep["target_return"].tolist() == [0.5, 2.0]
    assert sweep["period"].eq(stages.FIRST_TRAIN_PERIOD).all(), "the stand-in for the tuning periods"
    assert (sweep["score"] <= sweep["conversions"] + 1e-9).all()
    assert sweep["score"].nunique() == 2, "the target reaches the bids"
    with pytest.raises(ValueError, match="not conditioned on a return"):
        pipeline.target_sweep(_tiny(), "dense", 0, "IQL")
    assert set(RETURN_CONDITIONED) < set(pipeline.TRAINABLE)


def test_train_method_measures(capsys):
    tier = _tiny(baseline__rl_steps=4)
    first, second = (pipeline.train_method(tier, "dense", 0, "BC", tune=False) for _ in range(2))
    assert (first.computed, second.computed) == (True, False)
    # Two hidden layers of 8 on 23 features, and one action.
    assert first.parameters == second.parameters == 23 * 8 + 8 + 8 * 8 + 8 + 8 + 1
    assert first.steps == 4
    assert first.seconds == second.seconds > 0, "what the training took is kept with the model"
    assert first.peak_mib > 50
    critic = pipeline.train_method(tier, "dense", 0, "critic")
    assert critic.folder == stages.artifact_path("critic", _critic_key(tier))


def _critic_key(tier):
    from lbm_core.pipeline.models import critic_config, model_key

    return model_key("critic", tier, "dense", 0, critic_config(tier, "dense", 0))


def test_dt_of_the_pipeline_and_of_the_baselines_are_one(capsys):
    pipeline.baseline(_tiny(), "dense", 0, "DT")
    capsys.readouterr()
    pipeline.dt(_tiny(), "dense", 0)
    assert capsys.readouterr().out == "DT (dense, training seed 0): loaded\n"


def test_every_search_has_the_same_trials_and_begins_with_the_defaults(capsys):
    names = ["pacing", "critic alone", "IQL", "DT", "DT-Q (search)", "DT-Q (fine-tuned)"]
    log = pipeline.tuning_log(_tiny(baseline__tuning_trials=3), "dense", 0, names)
    assert log.groupby("method").size().to_dict() == dict.fromkeys(names, 3)
    assert log.groupby("method")["chosen"].sum().eq(1).all()
    assert log.loc[log["chosen"], "score"].tolist() == log.groupby("method", sort=False)["score"].max().tolist()
    first = log[log["trial"] == 0].set_index("method")["setting"].map(json.loads)
    assert first["pacing"] == {"cap": 1.2, "gain": 0.2}
    usual = {"learning_rate": 1e-3, "state_kind": "extended", "expectile": 0.7, "temperature": 3.0, "n_step": 12}
    assert first["IQL"] == usual
    assert not log.duplicated(["method", "setting"]).any()
    assert first["DT-Q (fine-tuned)"] == {"q_weight": 10.0, "target_return": 1.1}
    assert log.loc[log["method"] == "IQL", "steps"].eq(1).all(), "a share of three steps"
    capsys.readouterr()
    again = pipeline.tuning_log(_tiny(baseline__tuning_trials=3), "dense", 0, names)
    assert again.equals(log)
    assert "computed" not in capsys.readouterr().out
    with pytest.raises(ValueError, match="no settings to tune"):
        pipeline.tuned(_tiny(), "dense", 0, "constant")


def test_chosen_settings_reach_model_and_bidder(monkeypatch):
    log = pipeline.tuned(_tiny(), "dense", 0, "DT").trials
    other = Tuned({"learning_rate": 3e-3}, {"target_return": 0.8}, log)
    monkeypatch.setattr("lbm_core.pipeline.baselines.tuned", lambda *_: other)
    bidder = pipeline.baseline_bidder(_tiny(), "dense", 0, "DT")
    assert bidder.transformer.config.learning_rate == 3e-3
    assert bidder.target_return == 0.8
    assert pipeline.baseline_bidder(_tiny(), "dense", 0, "DT", tune=False).transformer.config.learning_rate == 1e-3


def test_what_trainings_took_and_their_curves():
    tier, names = _tiny(), ["DT", "critic", "IQL", "DT-Q (search)", "DiffBid", "USCB"]
    report = pipeline.training_report(tier, "dense", 0, names)
    assert report["method"].tolist() == ["DT", "critic", "IQL", "DiffBid", "USCB"], "DT-Q's search has none"
    assert (report[["parameters", "steps", "seconds", "peak_mib"]] > 0).all(axis=None)
    curves = pipeline.learning_curves(tier, "dense", 0, names)
    kinds = curves.groupby("method", sort=False)["name"].unique().map(list).to_dict()
    two = ["states", "actions"]
    others = {"DT": ["loss"], "critic": ["q_loss", "v_loss"], "IQL": ["loss"], "USCB": ["return"]}
    assert kinds == {"DiffBid": two, **others}
    assert np.isfinite(curves["value"]).all()


def test_penalty_sweep_trains_one_transformer_per_weight():
    found = pipeline.penalty_sweep(_tiny(), "dense", 0, (0.0, 1.0))
    assert found.groupby("penalty_weight").size().to_dict() == {0.0: 2, 1.0: 2}


def test_one_decision_put_back():
    constant = ("constant learning rate", "BC", {"decay": False})
    unextended = ("the 16 features alone", "DT", {"state_kind": "paper"})
    found = pipeline.put_back(_tiny(), "dense", 0, [constant, unextended])
    assert found[["change", "method"]].drop_duplicates().values.tolist() == [
        ["as tuned", "BC"],
        ["as tuned", "DT"],
        ["constant learning rate", "BC"],
        ["the 16 features alone", "DT"],
    ]
    own = found[found["change"] == "as tuned"].set_index("method")["score"]
    changed = found[found["change"] != "as tuned"].set_index("method")["score"]
    assert (own != changed).all(), "the change reaches the bids"
    assert (found["score"] <= found["conversions"] + 1e-9).all()


def test_trainings_side_by_side_are_those_one_after_another(tmp_path, monkeypatch):
    tier, names = _tiny(act__seeds=2), ["BC", "IQL"]
    pipeline.train_all(tier, "dense", 0, names, jobs=2)
    beside = pipeline.learning_curves(tier, "dense", 0, names)
    for name in ("offline_rl", "tuning"):
        shutil.rmtree(stages.artifact_path(name, {}).parent)
    pipeline.train_all(tier, "dense", 0, names)
    assert pipeline.learning_curves(tier, "dense", 0, names).equals(beside)


def test_overrides_and_train_seeds_make_other_models():
    base = pipeline.baseline(_tiny(), "dense", 0, "IQL")
    other = pipeline.baseline(_tiny(), "dense", 0, "IQL", train_seed=1)
    wide = pipeline.baseline(_tiny(), "dense", 0, "IQL", hidden_size=16)
    assert (other.config.seed, wide.config.hidden_size) == (1, 16)
    assert not np.array_equal(base.losses, other.losses)


def test_the_command_trains_and_reports(capsys, monkeypatch):
    real = get_tier
    monkeypatch.setattr("lbm_core.tiers.get_tier", lambda name: _tiny() if name == "smoke" else real(name))
    cli.main(["train", "--method", "CQL"], run=_standalone)
    said = capsys.readouterr().out.splitlines()
    assert said[-2].startswith("CQL: ")
    assert "parameters" in said[-2]
    assert "steps 3, training time" in said[-1]
    with pytest.raises(SystemExit):
        cli.main(["train", "--method", "SAC"], run=_standalone)
    assert "unknown method 'SAC'; choose one of DT, critic, BC" in capsys.readouterr().err


def _standalone(arguments, prog_name):
    return cli.app(arguments, prog_name=prog_name, standalone_mode=False)

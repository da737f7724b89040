"""Baselines as artifacts and contenders, the sweep of return targets, and `lbm train`."""

import numpy as np
import pytest

from lbm_core import cli, pipeline
from lbm_core.auction.bidder import Bidder
from lbm_core.pipeline import stages
from lbm_core.pipeline.baselines import RETURN_CONDITIONED
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
        patch.setattr("lbm_core.pipeline.baselines.past_tables", lambda *arguments: tables)
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
    assert sweep["period"].eq(stages.FIRST_TRAIN_PERIOD).all(), "targets are chosen on training periods"
    assert (sweep["score"] <= sweep["conversions"] + 1e-9).all()
    assert sweep["score"].nunique() == 2, "the target reaches the bids"
    with pytest.raises(ValueError, match="not conditioned on a return"):
        pipeline.target_sweep(_tiny(), "dense", 0, "IQL")
    assert set(RETURN_CONDITIONED) < set(pipeline.TRAINABLE)


def test_train_method_measures(capsys):
    tier = _tiny(baseline__rl_steps=4)
    first, second = (pipeline.train_method(tier, "dense", 0, "BC") for _ in range(2))
    assert (first.computed, second.computed) == (True, False)
    # Two hidden layers of 8 on 23 features, and one action.
    assert first.parameters == second.parameters == 23 * 8 + 8 + 8 * 8 + 8 + 8 + 1
    assert first.steps == 4
    assert first.seconds > second.seconds
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

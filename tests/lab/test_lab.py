"""The chain bound to a tier: made once, resumed where it was killed, refused where it makes no sense."""

import json
from pathlib import Path

import numpy as np
import pytest

from lbm_core.auction.response_tables import table_replay
from lbm_core.evaluation.runner import spread_rows
from lbm_core.files import weights_key
from lbm_core.lab import evaluations, models, tuning
from lbm_core.lab.artifacts import Artifact
from lbm_core.lab.guided import Guided
from lbm_core.lab.lab import Lab
from lbm_core.lab.methods import CONTROLS
from lbm_core.lab.tiers import tier

TINY = {
    "data.train_periods": 2,
    "tuning.trials": 1,
    "evaluation.advertisers": 4,
    "evaluation.draws": 2,
    "act.steps": 2,
    "act.batch_size": 4,
    "act.layers": 1,
    "critic.steps": 3,
    "dt.steps": 4,
    "imitation.steps": 5,
    "gqpo.prompts": 4,
    "gqpo.samples": 2,
    "think.sampling.max_new_tokens": 12,
    "think.every": 40,
    "think.warm_up": None,
    "think.style.form": "figure 4",
    "think.ratio_required": False,
    "think.tolerance": 0.03,
}


def _lab(**changes) -> Lab:
    dotted = {name.replace("__", "."): value for name, value in changes.items()}
    return Lab(tier("smoke", TINY | dotted))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """One cache for the module, so that the market is simulated once."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LBM_CACHE", str(folder))
        _lab().trajectories()
        _lab().held_out()
        yield folder


def test_trajectories_are_made_once_and_are_not_the_held_out_days(cache, capsys):
    lab = _lab()
    days = lab.trajectories()
    assert capsys.readouterr().out.endswith("dense periods: loaded\n")
    held_out = lab.held_out()
    assert set(days.period) == {1000, 1001}
    assert held_out.numbers == (7,)
    assert held_out[0].period == 7
    assert held_out[-1] is held_out[0], "the last period is kept in memory"
    with pytest.raises(IndexError, match="1 held-out"):
        held_out[1]


def test_a_model_is_trained_once_and_again_with_another_seed(cache, capsys):
    lab = _lab()
    first = lab.model("DT", tune=False)
    assert "DT (dense, training seed 0): computed in" in capsys.readouterr().out
    second = lab.model("DT", tune=False)
    assert capsys.readouterr().out == "DT (dense, training seed 0): loaded\n"
    np.testing.assert_array_equal(first.losses, second.losses)
    other = lab.trained_with(1).model("DT", tune=False)
    assert not np.array_equal(first.losses, other.losses)
    trained = lab.train("DT", tune=False)
    assert trained["parameters"] > 1000
    assert trained["steps"] == 4
    assert not trained["computed"]
    assert trained["seconds"] > 0
    taught = lab.train("oracle imitation")
    assert (taught["steps"], taught["computed"]) == (5, True)
    assert taught["parameters"] == 6 * 61 * 5, "a mean and five trees of at most 31 leaves, five numbers a node"
    assert lab.bidder("oracle imitation").model.losses[-1, 0] == 3 * 5


def test_evaluation_of_controls_and_learned_methods(cache, capsys):
    lab = _lab(evaluation__train_seeds=2)
    methods = ["constant", "pacing", "PID", "online LP", "critic alone", "DT"]
    frame = lab.evaluate(methods)
    assert set(frame["method"]) == set(methods)
    assert frame.groupby("method")["train_seed"].nunique().to_dict() == {
        name: 1 if name in CONTROLS else 2 for name in methods
    }
    assert frame.groupby(["method", "train_seed"]).size().eq(1 * 2 * 4).all()
    assert (frame["score"] <= frame["conversions"] + 1e-9).all()
    assert frame.groupby("method")["conversions"].sum().gt(0).all()
    keys = frame.groupby(["method", "train_seed"])["weights"].unique().map(list).to_dict()
    assert keys[("DT", 0)] == [weights_key(tuning.model(lab, "DT").path)]
    assert keys[("DT", 0)] != keys[("DT", 1)]
    assert all(keys[(name, 0)] == [""] for name in CONTROLS), "what learns nothing, or keeps no weights"
    capsys.readouterr()
    again = lab.evaluate(methods)
    assert capsys.readouterr().out.splitlines()[-1] == "8 replays of 6 methods (dense): loaded"
    assert again.equals(frame)
    half = lab.evaluate(["constant"], budget_ratio=0.5)
    np.testing.assert_allclose(half["budget"], frame.query("method == 'constant'")["budget"] / 2)


def test_an_upper_reference_foresees_replayed_days_only(cache):
    lab = _lab()
    means = lab.evaluate(["constant", "replay-Q alone"]).groupby("method")["expected_score"].mean()
    assert means["replay-Q alone"] > means["constant"]
    with pytest.raises(RuntimeError, match="replayed days only"):
        lab.closed_loop(["replay-Q alone"])


def test_rows_name_the_weights_that_bid_on_the_day(cache):
    lab = _lab(evaluation__draws=1)
    frame, kept = lab.evaluate(["DT"]), max((cache / "evaluation").iterdir(), key=lambda path: path.stat().st_mtime)
    rows = evaluations.pd.read_parquet(kept / "rows.parquet")
    assert set(frame["weights"]) == set(rows["weights"]) == {weights_key(tuning.model(lab, "DT").path)}
    rows.assign(weights="0000000000").to_parquet(kept / "rows.parquet")
    assert set(lab.evaluate(["DT"])["weights"]) == {"0000000000"}, "what bid on the day counts, not what is there now"


def test_a_killed_evaluation_resumes(cache):
    lab, played = _lab(evaluation__draws=1, evaluation__advertisers=3), []

    def play(own, number, one):
        played.extend(one)
        if len(played) == 2:
            raise KeyboardInterrupt
        ((name, make),) = one.items()
        make()
        return evaluations.pd.DataFrame({"method": [name], "score": [1.0]})

    def rows():
        return evaluations._each_kept("evaluation", "replays", lab, ["constant", "pacing"], (7,), {"a": 1}, play)

    with pytest.raises(KeyboardInterrupt):
        rows()
    frame = rows()
    assert played == ["constant", "pacing", "pacing"], "the finished replay is not repeated"
    assert set(frame["method"]) == {"constant", "pacing"}


def test_small_methods_share_out_their_days_over_processes(cache):
    several = _lab(evaluation__train_seeds=3, evaluation__periods=3)
    rows = several.evaluate(["constant", "pacing"])
    assert set(rows["period"]) == set(several.held_out().numbers)
    same = _lab().evaluate(["constant", "pacing"])
    shared = rows.merge(same, on=["method", "period", "seed", "advertiser"], suffixes=("", "_alone"))
    assert len(shared) == len(same)
    assert (shared["cost"] == shared["cost_alone"]).all()


def test_the_closed_loop_keeps_every_method_and_period(cache, capsys):
    lab = _lab(evaluation__periods=2, evaluation__advertisers=3)
    methods = ["behaviour", "constant", "pacing"]
    found = lab.closed_loop(methods)
    assert found.groupby("method", sort=False).size().to_dict() == dict.fromkeys(methods, 3)
    assert set(found["period"]) == {7}, "one of the two held-out days"
    capsys.readouterr()
    assert lab.closed_loop(methods).equals(found)
    assert capsys.readouterr().out.endswith("2 closed loops of 2 methods (dense): loaded\n")
    for bad, message in ((["nothing"], "unknown method"), ([], "no method")):
        with pytest.raises(ValueError, match=message):
            lab.closed_loop(bad)
    with pytest.raises(ValueError, match="closed_loop_periods is 5"):
        _lab(evaluation__closed_loop_periods=5).closed_loop(["constant"])


def test_unknown_methods_and_what_trains_nothing_are_refused():
    lab = _lab()
    with pytest.raises(ValueError, match="unknown method 'GAS'"):
        lab.bidders(["constant", "GAS"])
    with pytest.raises(ValueError, match="trains no weights of its own; choose one of critic, DT"):
        lab.train("pacing")
    with pytest.raises(ValueError, match="unknown method 'GAS'"):
        lab.train("GAS")
    with pytest.raises(ValueError, match="DTConfig has no setting 'stepz'"):
        lab.model("DT", tune=False, stepz=3)
    for seed in (-1, 1.5, True, "0"):
        with pytest.raises(ValueError, match="SEED must be an integer >= 0"):
            Lab(tier("smoke"), "dense", seed)
    with pytest.raises(ValueError, match="unknown DATASET 'thick'"):
        Lab(tier("smoke"), "thick")


def test_lbm_act_bids_as_its_search_chose(cache):
    lab = _lab(tuning__trials=2, act__leak=0.15)
    trials, trained = lab.tuned("LBM-Act").trials, lab.act()
    assert trials["score"].is_unique
    assert np.isfinite(trials["drift"]).all()
    assert '"leak": 0.15' in trials["setting"][0], "the tier's own use is tried first"
    played = lab.actor()
    assert (
        json.dumps({key: getattr(played.config, key) for key in ("target_return", "leak", "guide_scale")})
        == (trials.loc[trials["chosen"], "setting"].iloc[0])
    )
    assert lab.bidder("LBM-Act").model.config == lab.bidder(Guided("rule")).model.config == played.config
    for name, tensor in trained.state_dict().items():
        assert tensor.equal(played.state_dict()[name]), name
    assert lab.trained_with(1).actor().config.leak == played.config.leak, "one search for every training"
    assert lab.bidder(Guided("rule", leak=0.0)).leak == 0.0
    day, drifts = lab.tuning_tables()[0], {}
    for offset in (0.0, played.offset):
        bidder = lab.bidder("LBM-Act")
        bidder.model.offset = offset
        table_replay(day, bidder, rows=spread_rows(4))
        drifts[offset] = abs(bidder.drift)
    assert drifts[played.offset] < drifts[0.0], "centred"
    level = _lab(tuning__trials=3, act__layout="window", act__leak=0.0, act__predicts="level")
    assert level.tuned("LBM-Act").trials["setting"].str.contains('"leak": 0.0').all(), "a level cannot leak"
    assert level.actor().config.leak == 0
    unguided = lab.tuned("LLM-DT").trials
    assert "guide_scale" not in unguided["setting"][0]


def test_a_search_is_made_once_and_its_trials_are_kept(cache, capsys):
    lab = _lab(tuning__trials=3)
    tuned = lab.tuned("pacing")
    assert len(tuned.trials) == 3
    assert tuned.trials["setting"].is_unique
    assert tuned.trials.loc[tuned.trials["chosen"], "score"].iloc[0] == tuned.trials["score"].max()
    assert set(tuned.choice.in_use) <= {"cap", "gain"}
    assert not tuned.choice.training
    capsys.readouterr()
    assert lab.tuned("pacing").trials.equals(tuned.trials)
    assert capsys.readouterr().out == ""
    with pytest.raises(ValueError, match="no settings to tune"):
        lab.tuned("constant")


@pytest.fixture(scope="module")
def writer(tmp_path_factory):
    """A language model of one layer with random weights that reads and writes bytes, in a folder."""
    from tiny_language_model import tiny_language_model

    backbone, folder = tiny_language_model(), tmp_path_factory.mktemp("model")
    backbone.model.save_pretrained(folder)
    backbone.tokenizer.save_pretrained(folder)
    return str(folder)


def test_the_whole_chain_with_a_language_model(cache, writer, monkeypatch, capsys):
    lab = _lab(act__backbone=writer, think__backbone=writer)
    asked, groups = lab.chains()
    assert len(asked) == len(groups) == 4
    assert (asked.ticks > 0).all()
    assert capsys.readouterr().out.splitlines()[-1].startswith("4 x 2 chains of thought (dense, before GQPO): computed")
    selection = lab.selection()
    assert "chains of thought (dense, before GQPO): loaded" in capsys.readouterr().out
    assert (selection.chosen == -1).all(), "random bytes are no reasoning"
    assert lab.gqpo() is None
    methods = ["LLM-DT", "Prompt-LLM-DT", "LBM(P)", "LBM(GQPO)", "increase", "decrease"]
    frame = lab.evaluate(methods)
    assert "no chain of thought was worth learning" in capsys.readouterr().out
    assert set(frame["method"]) == set(methods) - {"LBM(GQPO)"}
    assert frame["cost"].gt(0).any()
    keys = frame.drop_duplicates("method").set_index("method")["weights"]
    own, text = keys["LBM(P)"].split("+")
    assert own == keys["increase"] == keys["decrease"] == weights_key(models.act(lab).path)
    assert text == weights_key(Path(writer))
    assert keys.nunique() == 4, "LLM-DT and Prompt-LLM-DT are other trainings"

    # With other sizes the chain is another one; suppose that there the first text of each group had been worth it.
    other = lab.changed({"gqpo.learned": 3})
    first = selection.samples.assign(chosen=selection.samples["sample"] == 0, relative_q=0.1)
    monkeypatch.setattr(
        "lbm_core.lab.thinking.judged", lambda *arguments, **options: type(selection)(first, None, 0.03)
    )
    tuned = other.gqpo()
    assert tuned is not None
    assert (tuned / "steps.csv").is_file()
    assert other.gqpo() == tuned
    assert capsys.readouterr().out.splitlines()[-1] == "LBM-Think after GQPO (dense, training seed 0): loaded"
    driven = other.evaluate(["LBM(GQPO)"])
    assert set(driven["method"]) == {"LBM(GQPO)"}
    assert set(driven["weights"]) == {f"{own}+{weights_key(tuned)}"}


def test_a_killed_training_leaves_no_artifact(cache):
    lab = _lab(dt__steps=6)
    from lbm_core.lab import models

    artifact = models.dt(lab)

    def killed(folder):
        raise KeyboardInterrupt

    broken = Artifact("dt", artifact.config, killed, artifact.load, artifact.what, artifact.inputs)
    with pytest.raises(KeyboardInterrupt):
        broken.get()
    assert not artifact.exists
    assert lab.model("DT", tune=False).losses[-1, 0] == 6

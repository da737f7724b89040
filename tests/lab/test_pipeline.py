"""Get-or-compute: second runs load, killed runs resume, configurations name everything upstream."""

from dataclasses import replace

import numpy as np
import pytest

from lbm_core import pipeline
from lbm_core.auction.bidder import Advertisers, Bidder
from lbm_core.pipeline import contenders, stages
from lbm_core.pipeline.models import act_config, critic_config, model_key
from lbm_core.tiers import Tier, get_tier


def _tiny(**overrides) -> Tier:
    settings = {
        "data__train_periods": 2,
        "data__evaluation_periods": 1,
        "data__evaluation_seeds": 2,
        "evaluation__advertisers": 4,
        "act__layers": 1,
        "act__steps": 2,
        "act__batch_size": 4,
        "critic__hidden_size": 16,
        "critic__layers": 1,
        "critic__steps": 5,
        "baseline__dt_hidden_size": 16,
        "baseline__dt_layers": 1,
        "baseline__dt_steps": 5,
        "think__prompts": 4,
        "think__samples": 2,
        "think__max_new_tokens": 8,
        "think__think_every": 40,
        "think__worked_examples": 0,
    }
    return get_tier("smoke", **(settings | overrides))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """One cache for the module, so that the market is simulated once."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LBM_CACHE", str(folder))
        pipeline.trajectories(_tiny(), "dense", 0)
        pipeline.held_out_periods(_tiny(), "dense", 0)
        yield folder


def test_trajectories_are_made_once_and_are_not_the_held_out_days(cache, capsys):
    tier = _tiny()
    found = pipeline.trajectories(tier, "dense", 0)
    assert capsys.readouterr().out.endswith("dense periods: loaded\n")
    held_out = pipeline.held_out_periods(tier, "dense", 0)
    assert set(found.period) == {1000, 1001}
    assert held_out.numbers == (7,)
    assert held_out[0].period == 7
    assert held_out[-1] is held_out[0], "the last period is kept in memory"
    with pytest.raises(IndexError, match="1 held-out"):
        held_out[1]
    other = stages.artifact_path("trajectories", stages.data_config(_tiny(data__train_periods=3), "dense", 0))
    assert not other.exists()


def test_a_model_is_trained_once(cache, capsys):
    tier = _tiny()
    first = pipeline.dt(tier, "dense", 0)
    assert "DT (dense, training seed 0): computed in" in capsys.readouterr().out
    second = pipeline.dt(tier, "dense", 0)
    assert capsys.readouterr().out == "DT (dense, training seed 0): loaded\n"
    np.testing.assert_array_equal(first.losses, second.losses)
    other = pipeline.dt(tier, "dense", 0, train_seed=1)
    assert not np.array_equal(first.losses, other.losses)


def test_keys_name_everything_upstream():
    config = act_config(_tiny(), "dense", 0)
    base = model_key("act", _tiny(), "dense", 0, config)
    more_data = _tiny(data__train_periods=5)
    assert model_key("act", more_data, "dense", 0, act_config(more_data, "dense", 0)) != base
    assert model_key("act", _tiny(), "dense", 1, config) != base
    longer = _tiny(act__steps=9)
    assert model_key("act", longer, "dense", 0, act_config(longer, "dense", 0)) != base
    unrelated = _tiny(think__prompts=9, baseline__dt_steps=9)
    assert model_key("act", unrelated, "dense", 0, act_config(unrelated, "dense", 0)) == base
    assert model_key("critic", _tiny(), "dense", 0, critic_config(_tiny(), "dense", 0)) != base


def test_evaluation_of_controls_and_learned_methods(cache, capsys):
    tier = _tiny(act__seeds=2)
    methods = ["constant", "pacing", "PID", "online LP", "critic alone", "DT"]
    frame = pipeline.evaluate_methods(tier, "dense", 0, methods)
    assert list(frame["method"].unique()) == methods
    assert frame.groupby("method")["train_seed"].nunique().to_dict() == {
        name: 1 if name in pipeline.CONTROLS else 2 for name in methods
    }
    assert frame.groupby(["method", "train_seed"]).size().eq(1 * 2 * 4).all()
    assert (frame["score"] <= frame["conversions"] + 1e-9).all()
    assert frame.groupby("method")["conversions"].sum().gt(0).all()
    capsys.readouterr()
    again = pipeline.evaluate_methods(tier, "dense", 0, methods)
    assert capsys.readouterr().out.splitlines()[-1] == "8 replays of 6 methods (dense): loaded"
    assert again.equals(frame)
    half = pipeline.evaluate_methods(tier, "dense", 0, ["constant"], budget_ratio=0.5)
    np.testing.assert_allclose(half["budget"], frame.query("method == 'constant'")["budget"] / 2)


def test_a_killed_evaluation_resumes(cache, monkeypatch):
    tier, calls = _tiny(data__evaluation_seeds=1), []
    real = contenders.evaluate

    def killed(bidders, periods, *arguments, **options):
        calls.extend(bidders)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(bidders, periods, *arguments, **options)

    monkeypatch.setattr(contenders, "evaluate", killed)
    with pytest.raises(KeyboardInterrupt):
        pipeline.evaluate_methods(tier, "dense", 0, ["constant", "pacing"])
    frame = pipeline.evaluate_methods(tier, "dense", 0, ["constant", "pacing"])
    assert calls == ["constant", "pacing", "pacing"], "the finished replay is not repeated"
    assert set(frame["method"]) == {"constant", "pacing"}


def test_light_methods_share_out_their_days_over_processes(cache, monkeypatch):
    monkeypatch.setattr("lbm_core.pipeline.contenders.cores", lambda: 2)
    one, several = _tiny(act__seeds=1), _tiny(act__seeds=3, data__evaluation_periods=2)
    rows = pipeline.evaluate_methods(several, "dense", 0, ["constant", "pacing"])
    assert set(rows["period"]) == set(pipeline.held_out_periods(several, "dense", 0).numbers)
    same = pipeline.evaluate_methods(one, "dense", 0, ["constant", "pacing"])
    shared = rows.merge(same, on=["method", "period", "seed", "advertiser"], suffixes=("", "_alone"))
    assert len(shared) == len(same)
    assert (shared["cost"] == shared["cost_alone"]).all()


def test_killed_training_leaves_no_artifact(cache, monkeypatch):
    from lbm_core.baselines import decision_transformer

    def killed(*arguments, **options):
        raise KeyboardInterrupt

    tier = _tiny(baseline__dt_steps=6)
    with monkeypatch.context() as patch:
        patch.setattr(decision_transformer, "train_dt", killed)
        with pytest.raises(KeyboardInterrupt):
            pipeline.dt(tier, "dense", 0)
    assert pipeline.dt(tier, "dense", 0).losses[-1, 0] == 6


def test_unknown_methods_are_refused():
    with pytest.raises(ValueError, match="unknown method 'GAS'"):
        pipeline.bidders(_tiny(), "dense", 0, ["constant", "GAS"])


def test_critic_alone_takes_the_best_multiple():
    from lbm_core.auction.bidder import Observation
    from lbm_core.baselines.critic_search import CriticBidder

    class Fake:
        config = critic_config(_tiny(), "dense", 0)

        def q(self, window, alphas):
            assert np.asarray(alphas).shape == (3, 3)
            return -np.abs(np.asarray(alphas) - np.array([[5.0], [10.0], [30.0]]))

    bidder = CriticBidder(Fake())  # type: ignore[arg-type]
    assert isinstance(bidder, Bidder)
    bidder.reset(Advertisers(np.arange(3), np.full(3, 1000.0), np.full(3, 10.0)))
    opening = Observation(0, np.zeros((3, 1, 16)), np.zeros((3, 0)), np.zeros((3, 0)), np.zeros((3, 0)))
    np.testing.assert_array_equal(bidder.act(opening), [10.0, 10.0, 10.0])
    later = Observation(1, np.zeros((3, 2, 16)), np.full((3, 1), 10.0), np.zeros((3, 1)), np.zeros((3, 1)))
    np.testing.assert_allclose(bidder.act(later), [8.8, 10.0, 11.4])
    done = replace(later, alphas=np.zeros((3, 1)))
    assert (bidder.act(done) > 0).all()
    with pytest.raises(ValueError, match="positive"):
        CriticBidder(Fake(), multiples=(1.0, 0.0))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory):
    """A language model of one layer with random weights that reads and writes bytes."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    vocabulary = {symbol: k for k, symbol in enumerate(["<end>", *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    plain = Tokenizer(models.BPE(vocabulary, []))
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, eos_token="<end>", pad_token="<end>")
    tokenizer.chat_template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant: "
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(
            LlamaConfig(vocab_size=len(vocabulary), num_key_value_heads=2, max_position_embeddings=8192, **sizes)
        )
    folder = tmp_path_factory.mktemp("model")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_the_whole_chain_with_a_language_model(cache, tiny_model, monkeypatch, capsys):
    tier = _tiny(backbone=tiny_model, think_backbone=tiny_model)
    asked, groups = pipeline.think_chains(tier, "dense", 0)
    assert len(asked) == len(groups) == 4
    assert (asked.ticks > 0).all()
    assert capsys.readouterr().out.splitlines()[-1].startswith("4 x 2 chains of thought (dense, pretrained): computed")
    selection = pipeline.gqpo_selection(tier, "dense", 0)
    assert "chains of thought (dense, pretrained): loaded" in capsys.readouterr().out
    assert (selection.chosen == -1).all(), "random bytes are no reasoning"
    methods = ["LLM-DT", "Prompt-LLM-DT", "LBM(P)", "LBM(GQPO)", "increase", "decrease"]
    frame = pipeline.evaluate_methods(tier, "dense", 0, methods)
    assert "LBM-Think after GQPO (dense): none" in capsys.readouterr().out
    assert list(frame["method"].unique()) == [name for name in methods if name != "LBM(GQPO)"]
    assert frame["cost"].gt(0).any()

    # Suppose the first chain of each moment had been worth learning.
    first = selection.samples.assign(chosen=selection.samples["sample"] == 0, relative_q=0.1)
    chosen = replace(selection, samples=first, chosen=np.zeros(4, dtype=np.int64))
    monkeypatch.setattr("lbm_core.think.gqpo.choose_chains", lambda *arguments, **options: chosen)
    tuned = pipeline.gqpo_model(tier, "dense", 0)
    assert tuned is not None
    assert (tuned / "losses.csv").is_file()
    assert pipeline.gqpo_model(tier, "dense", 0) == tuned
    assert capsys.readouterr().out.splitlines()[-1] == "LBM-Think after GQPO (dense): loaded"
    after = pipeline.evaluate_methods(tier, "dense", 0, ["LBM(GQPO)"])
    assert set(after["method"]) == {"LBM(GQPO)"}
    _, rewritten = pipeline.think_chains(tier, "dense", 0, model=tuned)
    assert rewritten != groups

"""SFT and GRPO on text with TRL: weights change, losses and lengths are recorded, the model is found again."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_language_model import tiny_language_model

from lbm_core.act.backbone import DTYPES, load_backbone
from lbm_core.baselines import grpo_text, text_training
from lbm_core.baselines.grpo_text import train_grpo
from lbm_core.baselines.text_config import GRPOTextConfig, LossType, SFTTextConfig
from lbm_core.baselines.text_prompt import answer_text
from lbm_core.baselines.text_training import load_text_model, train_sft

PROMPTS = ["The budget is 100. The next bidding parameter:", "It is late. The next bidding parameter:"]
ALPHAS = [8.0, 12.5]
SFT = SFTTextConfig(epochs=6, batch_size=2, learning_rate=1e-2, lora_rank=4)
GRPO = GRPOTextConfig(steps=2, generations=3, max_new_tokens=8, learning_rate=1e-2, lora_rank=4)


@pytest.fixture(autouse=True)
def start(monkeypatch):
    """A tiny model in the place of the pretrained one; a function that puts another there."""

    def set_start(make):
        def load(name, dtype="float32"):
            if name != SFT.backbone:
                return load_backbone(name, dtype=dtype)
            backbone = make()
            backbone.model.to(DTYPES[dtype])
            return backbone

        monkeypatch.setattr(text_training, "load_backbone", load)

    set_start(tiny_language_model)
    return set_start


def _logits(model, text=PROMPTS[0]):
    ids = torch.tensor([model.tokenizer(text)["input_ids"]])
    with torch.no_grad():
        return model.model(ids).logits


def test_sft_learns_the_answer_alone_and_is_found_again(tmp_path):
    before = _logits(tiny_language_model())
    model, losses = train_sft(SFT, PROMPTS, ALPHAS, tmp_path / "sft")
    assert list(losses["step"]) == [1, 2, 3, 4, 5, 6]
    assert losses["loss"].iloc[-1] < losses["loss"].iloc[0]
    assert not torch.allclose(before, _logits(model))
    assert pd.read_csv(tmp_path / "sft" / "steps.csv").equals(losses.round(16))
    assert not list((tmp_path / "sft").glob("model*.safetensors")), "low-rank updates are kept alone"
    again = load_text_model(tmp_path / "sft", SFT)
    torch.testing.assert_close(_logits(again), _logits(model))
    assert "updates sha256" in again.revision
    rounded = load_text_model(tmp_path / "sft", SFT, dtype="bfloat16")
    assert rounded.model.dtype == torch.bfloat16
    with pytest.raises(FileNotFoundError, match="low-rank"):
        load_text_model(tmp_path / "nowhere", SFT)


def test_the_first_loss_is_the_answers_likelihood_in_float32():
    fresh = tiny_language_model()
    prompt = fresh.tokenizer(PROMPTS[0])["input_ids"]
    answer = [*fresh.tokenizer(answer_text(8.0))["input_ids"], fresh.tokenizer.eos_token_id]
    with torch.no_grad():
        logits = fresh.model(torch.tensor([prompt + answer])).logits[0]
    expected = -torch.log_softmax(logits[:-1], -1)[np.arange(len(prompt + answer) - 1), (prompt + answer)[1:]]
    config = SFTTextConfig(epochs=1, batch_size=1, learning_rate=1e-9, lora_rank=4)
    model, losses = train_sft(config, PROMPTS[:1], ALPHAS[:1])
    assert losses["loss"].iloc[0] == pytest.approx(expected[len(prompt) - 1 :].mean().item(), rel=1e-3)
    assert model.model.dtype == torch.float32


def test_all_weights_on_request(tmp_path):
    config = SFTTextConfig(epochs=1, batch_size=2, learning_rate=1e-3, lora_rank=None)
    before = {n: p.clone() for n, p in tiny_language_model().model.named_parameters()}
    model, _ = train_sft(config, PROMPTS, ALPHAS, tmp_path / "full")
    assert all(not torch.equal(before[n], p) for n, p in model.model.named_parameters() if "lm_head" not in n)
    torch.testing.assert_close(_logits(load_text_model(tmp_path / "full", config)), _logits(model))


def test_only_the_last_layers_on_request(tmp_path):
    before = {n: p.clone() for n, p in tiny_language_model().model.named_parameters()}
    config = replace(SFT, trained_layers=1, precision="bfloat16")
    model, losses = train_sft(config, PROMPTS, ALPHAS, tmp_path / "last")
    assert losses["loss"].iloc[-1] < losses["loss"].iloc[0], "updates in float32 are not lost on bfloat16 weights"
    rounded = {n: p.to(torch.bfloat16).float() for n, p in before.items()}
    changed = {n for n, p in model.model.named_parameters() if not torch.equal(rounded[n], p)}
    assert changed, "something was trained"
    assert all(".layers.1." in name for name in changed)
    again = load_text_model(tmp_path / "last", config)
    assert all(torch.equal(before[n], p) for n, p in again.model.named_parameters() if ".layers.1." not in n)
    with pytest.raises(ValueError, match=r"1\.\.2"):
        train_sft(replace(SFT, trained_layers=3), PROMPTS, ALPHAS)
    with pytest.raises(ValueError, match="lora_rank"):
        SFTTextConfig(trained_layers=1, lora_rank=None)


@pytest.mark.parametrize("loss_type", get_args(LossType))
def test_grpo_changes_weights_and_records_lengths(loss_type, tmp_path, monkeypatch):
    """A tiny model never writes a tag: the reward is made to differ by the first byte written."""

    def by_first_byte(texts, limit):
        return [float(ord((text or " ")[0]) % 7) for text in texts]

    monkeypatch.setattr(grpo_text, "format_reward", by_first_byte)
    before = _logits(tiny_language_model())
    config = replace(GRPO, loss_type=loss_type)
    model, log = train_grpo(config, PROMPTS, ALPHAS, tmp_path / "grpo")
    assert list(log["step"]) == [1, 2]
    assert log["length"].between(1, 8).all()
    assert (log["shortest"] <= log["length"]).all()
    assert (log["length"] <= log["longest"]).all()
    assert log["answered"].between(0, 7).all()
    np.testing.assert_allclose(log["alpha_reward"], -grpo_text.WORST, rtol=1e-5)
    assert not torch.allclose(before, _logits(model))
    assert (tmp_path / "grpo" / "adapter_model.safetensors").is_file()
    assert len(pd.read_csv(tmp_path / "grpo" / "steps.csv")) == 2


def test_without_a_difference_in_reward_nothing_is_learned():
    before = _logits(tiny_language_model())
    model, log = train_grpo(GRPO, PROMPTS, ALPHAS)
    assert (log["idle"] == 1).all()
    torch.testing.assert_close(before, _logits(model))


def test_a_length_floor_enters_the_reward():
    config = replace(GRPO, length_floor=8, steps=1, kl=0.1)
    _, log = train_grpo(config, PROMPTS, ALPHAS)
    expected = -grpo_text.WORST + log["length"] / 8 - 1
    np.testing.assert_allclose(log["reward"], expected, rtol=1e-5)


def test_bad_input():
    with pytest.raises(ValueError, match="at least one"):
        train_sft(SFT, [], [])
    with pytest.raises(ValueError, match="positive"):
        train_sft(SFT, PROMPTS, [8.0, 0.0])
    with pytest.raises(ValueError, match="max_length"):
        train_sft(SFTTextConfig(max_length=4), PROMPTS, ALPHAS)
    with pytest.raises(ValueError, match="as many prompts"):
        train_grpo(GRPO, PROMPTS, [8.0])
    with pytest.raises(ValueError, match="positive"):
        train_grpo(GRPO, PROMPTS, [8.0, float("nan")])
    with pytest.raises(ValueError, match="epochs"):
        SFTTextConfig(epochs=0)


class Killed(Exception):
    """What ends a run in its middle."""


def killed_after(passes):
    """A language model whose forward passes end after so many, as those of a killed run do."""
    model, counted = tiny_language_model(), []

    def count(*_):
        counted.append(1)
        if len(counted) > passes:
            raise Killed

    model.model.register_forward_pre_hook(count)
    return model


@pytest.mark.parametrize(
    ("train", "config", "passes"), [(train_sft, SFT, 16), (train_grpo, replace(GRPO, steps=4), 28)]
)
def test_a_killed_training_resumes_to_the_same_model(train, config, passes, tmp_path, monkeypatch, start):
    monkeypatch.setattr(grpo_text, "format_reward", lambda texts, _: [float(ord((t or " ")[0]) % 7) for t in texts])
    prompts, alphas = [f"{k}. {PROMPTS[0]}" for k in range(4)], [8.0, 9.0, 12.5, 7.0]
    whole, expected = train(config, prompts, alphas)
    kept = {"checkpoints": tmp_path / "checkpoints"}
    monkeypatch.setattr("lbm_core.think.trainer.CHECKPOINT_SECONDS", 0.0)
    start(lambda: killed_after(passes))
    with pytest.raises(Killed):
        train(config, prompts, alphas, **kept)
    start(tiny_language_model)
    (only,) = (tmp_path / "checkpoints").glob("*/checkpoint-*")
    assert 2 <= int(only.name.split("-")[1]) < len(expected)
    (only.parent / "checkpoint-99").mkdir()  # one that was being written
    again, log = train(config, prompts, alphas, **kept)
    pd.testing.assert_frame_equal(log, expected)
    torch.testing.assert_close(_logits(again), _logits(whole))
    assert not list((tmp_path / "checkpoints").iterdir()), "a finished training keeps no checkpoint"


def test_short_trainings_write_no_checkpoint_and_other_settings_are_another_training(tmp_path, monkeypatch, start):
    start(lambda: killed_after(7))
    with pytest.raises(Killed):
        train_sft(SFT, PROMPTS, ALPHAS, checkpoints=tmp_path)
    assert not list(tmp_path.glob("*/checkpoint-*"))
    monkeypatch.setattr("lbm_core.think.trainer.CHECKPOINT_SECONDS", 0.0)
    with pytest.raises(Killed):
        train_sft(SFT, PROMPTS, ALPHAS, checkpoints=tmp_path)
    start(tiny_language_model)
    _, losses = train_sft(replace(SFT, seed=1), PROMPTS, ALPHAS, checkpoints=tmp_path)
    assert len(losses) == 6
    assert list(tmp_path.glob("*/checkpoint-*")), "of the first one, untouched"

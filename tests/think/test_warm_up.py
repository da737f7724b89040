"""What a small LBM-Think learns before GQPO: a short prompt, right arithmetic, a direction by chance."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from tiny_language_model import tiny_language_model

from lbm_core.act.backbone import load_backbone
from lbm_core.think.config import PromptStyle, ThinkConfig, WarmUpConfig
from lbm_core.think.finetune import finetune
from lbm_core.think.parse import Status, parse
from lbm_core.think.prompt import PromptFacts, indicators, messages, render
from lbm_core.think.trainer import ADAPTER, merged, with_adapter
from lbm_core.think.warm_up import BID_STEPS, LEVELS, chain_of_thought, lessons, level


def _facts(**changes) -> PromptFacts:
    usual = {
        "tick": 24,
        "budget": 1000.0,
        "cpa_target": 20.0,
        "time_left": (28 / 48, 27 / 48, 26 / 48, 25 / 48),
        "budget_left": (0.66, 0.64, 0.62, 0.5),
        "predicted_values": (1.0, 1.0, 1.0, 1.0),
        "conversions": (1.0, 0.0, 2.0, 1.0),
        "alphas": (18.0, 19.0, 20.0, 10.0),
        "total_conversions": 40.0,
    }
    return PromptFacts(**usual | changes)


def test_the_short_prompt_tells_shares_and_multiples():
    text = indicators(_facts())
    assert "Time left 0.50, budget left 0.50" in text
    assert "buys 25 conversions at the CPA target of 20" in text
    assert "40 conversions at a CPA of 12.5" in text
    # an even spend of the rest: 0.5 / 24 of the budget a tick
    assert "spend 0.96, 0.96, 5.8 of an even rate; conversions 0, 2, 1; bids 0.95, 1.00, 0.50 of the target" in text
    assert "no conversion." in indicators(_facts(total_conversions=0.0))


def test_spends_early_in_the_day_count_from_its_start():
    short = {"time_left": (1.0,), "budget_left": (0.9,), "predicted_values": (1.0,), "conversions": (1.0,)}
    early = _facts(tick=1, alphas=(20.0,), total_conversions=1.0, **short)
    assert early.pace == pytest.approx([0.1 / (0.9 / 47)])
    assert _facts().pace == pytest.approx([0.96, 0.96, 5.76])
    assert np.isfinite(_facts(budget_left=(0.2, 0.1, 0.05, 0.0)).pace).all(), "an empty budget has a rate"


def test_levels_split_at_their_steps():
    assert [level(x, BID_STEPS) for x in (0.1, 0.7, 1.0, 1.1, 5.0)] == list(LEVELS[:1] + LEVELS[1:])


@pytest.mark.parametrize("direction", [-1, 0, 1])
def test_every_wording_states_the_right_ratio_and_passes_the_check(direction):
    rng, seen = np.random.default_rng(0), set()
    for _ in range(40):
        spent = float(rng.uniform(0.2, 0.9))
        count = float(rng.integers(1, 60))
        facts = _facts(budget_left=(1.0, 1.0, 1.0, 1.0 - spent), total_conversions=count)
        text = chain_of_thought(facts, direction, rng)
        read = parse(text, facts.true_ratio, 0.015)  # three digits of the CPA, three of the ratio
        assert read.status is Status.ACCEPTED, text
        assert read.direction == direction
        seen.add(re.sub(r"[0-9.]+", "#", text))
    assert len(seen) > 6, "several ways to say it"


def test_before_the_first_conversion_there_is_no_ratio_to_state():
    facts = _facts(total_conversions=0.0)
    read = parse(chain_of_thought(facts, 1, np.random.default_rng(0)), facts.true_ratio)
    assert read.status is Status.ACCEPTED
    assert read.ratio_error == 0.0
    assert parse("<ratio>none</ratio> <answer>1</answer>", 0.8).status is Status.WRONG_RATIO
    assert parse("<ratio>1.1</ratio> <answer>1</answer>", float("nan")).status is Status.UNDEFINED_RATIO


def test_directions_are_a_fair_coin_whatever_the_facts():
    texts = lessons([_facts()] * 600, np.random.default_rng(1))
    shares = [np.mean([f"<answer>{d}</answer>" in text for text in texts]) for d in (-1, 0, 1)]
    assert np.allclose(shares, 1 / 3, atol=0.07)


def test_the_style_decides_the_prompt_and_what_it_may_hold():
    chat = messages(_facts(), PromptStyle(form="indicators"))
    assert [turn["role"] for turn in chat] == ["system", "user"]
    assert chat[1]["content"] == indicators(_facts())
    tokenizer = tiny_language_model().tokenizer
    assert render(_facts(), tokenizer, PromptStyle(form="indicators")).endswith("assistant: ")
    with pytest.raises(ValueError, match="no worked examples"):
        PromptStyle(form="indicators", worked_examples=1)
    with pytest.raises(ValueError, match=r"think\.warm_up"):
        ThinkConfig(warm_up=WarmUpConfig())


def test_updates_alone_give_the_trained_model_again(tiny_folder, tmp_path):
    config = WarmUpConfig(tiny_folder, learning_rate=1e-2, precision="float32", lora_rank=3, epochs=2, batch_size=2)
    trained, _ = finetune(config, ["a:", "b:"], [" one", " two"], tmp_path / "whole", adapter=tmp_path / "updates")
    assert (tmp_path / "updates" / ADAPTER).stat().st_size < 40_000
    again = merged(with_adapter(load_backbone(tiny_folder).model, tmp_path / "updates", 3))
    for name, value in again.state_dict().items():
        torch.testing.assert_close(value, trained.model.state_dict()[name], rtol=0, atol=0)
    with pytest.raises(ValueError, match="rank 4"):
        with_adapter(load_backbone(tiny_folder).model, tmp_path / "updates", 4)

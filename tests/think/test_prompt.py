"""The prompt of LBM-Think: Fig. 4's numbers, what may be known, and that its ratio can be computed from it."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbm_core.auction.bidder import Advertisers, Observation
from lbm_core.data.trajectories import TrajectorySet
from lbm_core.think.config import PromptStyle
from lbm_core.think.parse import parse
from lbm_core.think.prompt import (
    EXAMPLES,
    WORDING,
    PromptFacts,
    describe,
    logged_facts,
    messages,
    prompt_facts,
    render,
)

# The case printed in Fig. 4 of the paper.
FIG4 = PromptFacts(
    tick=35,
    budget=2850.0,
    cpa_target=8.0,
    time_left=(17 / 48, 16 / 48, 15 / 48, 14 / 48),
    budget_left=(0.953, 0.953, 0.953, 0.953),
    predicted_values=(28.0, 54.0, 46.0, 44.0),
    conversions=(0.0, 0.0, 0.0, 0.0),
    alphas=(6.845, 6.967, 7.063, 7.238),
    total_conversions=25.0,
)


class ChatML:
    """A stand-in for a tokenizer: the template of Fig. 4."""

    chat_template = "chatml"

    def apply_chat_template(self, chat, tokenize, add_generation_prompt):
        assert not tokenize
        assert add_generation_prompt
        turns = [f"<|im_start|>{turn['role']}\n{turn['content']}<|im_end|>\n" for turn in chat]
        return "".join(turns) + "<|im_start|>assistant\n"


def make_set(n=5, ticks=48, seed=0):
    rng = np.random.default_rng(seed)
    alive = np.arange(48) < ticks
    return TrajectorySet(
        dataset="dense",
        period=np.full(n, 7),
        advertiser=np.arange(n),
        length=np.full(n, ticks),
        budget=np.full(n, 3000.0),
        cpa_target=np.full(n, 8.0),
        states=rng.uniform(0.1, 1.0, (n, 48, 16)) * alive[:, None],
        alphas=rng.uniform(4, 12, (n, 48)) * alive,
        conversions=rng.poisson(2, (n, 48)) * alive,
        expected_conversions=np.full((n, 48), 2.0) * alive,
        costs=rng.uniform(0, 60, (n, 48)) * alive,
    )


def test_the_case_of_figure_4():
    assert FIG4.true_ratio == pytest.approx(0.6698, abs=1e-4)  # printed in the figure: 0.66, "5.386 / 8.0"
    assert parse("<ratio>0.66</ratio><answer>1</answer>", FIG4.true_ratio).accepted
    words = describe(FIG4)
    for numbers in (
        "from timestep 31 to timestep 34",
        "budget of 2850",
        "CPA constraint of 8.",
        "[0.354, 0.333, 0.312, 0.292]",
        "[0.953, 0.953, 0.953, 0.953]",
        "[28, 54, 46, 44]",
        "[0, 0, 0, 0]",
        "[6.845, 6.967, 7.063, 7.238]",
        "timestep 0: 25",
    ):
        assert numbers in words


def test_render_uses_the_chat_template_and_starts_the_answer():
    text = render(FIG4, ChatML())
    system, user, assistant = text.split("<|im_start|>")[1:]
    assert system.startswith("system\n")
    assert user.startswith("user\n")
    assert describe(FIG4) in user
    assert assistant == "assistant\n" + WORDING["assistant"]
    for tag in ("<ratio></ratio>", "<answer>1</answer>", "<answer>-1</answer>", "<answer>0</answer>"):
        assert user.count(tag) == 1


def test_styles_change_what_they_say_they_change():
    first = messages(FIG4)[1]["content"]
    rules = messages(FIG4, PromptStyle(worked_examples=1))[1]["content"]
    assert first.startswith(describe(FIG4))
    assert rules.endswith(describe(EXAMPLES[0][0]))
    assert first.split("\n\n")[1:] == rules.split("\n\n")[:-1]
    for wrong in ({"form": "random"}, {"worked_examples": -1}, {"worked_examples": 4}):
        with pytest.raises(ValueError, match=r"form|worked_examples"):
            PromptStyle(**wrong)


def test_worked_examples_are_earlier_turns_and_the_rules_are_told_once():
    chat = messages(FIG4, PromptStyle(worked_examples=3))
    assert [turn["role"] for turn in chat] == ["system", *["user", "assistant"] * 3, "user"]
    assert chat[-1]["content"] == describe(FIG4)
    assert ["Two things to know" in turn["content"] for turn in chat[1:]] == [True] + [False] * 6
    # What precedes the case to solve is the same for every case: it is computed once for a batch.
    other = messages(EXAMPLES[0][0], PromptStyle(worked_examples=3))
    assert other[:-1] == chat[:-1]


def test_the_worked_examples_are_right():
    for facts, solution in EXAMPLES:
        parsed = parse(solution, facts.true_ratio, tolerance=1e-9)
        assert parsed.accepted
        assert not parsed.contradiction
    assert sorted(parse(solution, facts.true_ratio).direction for facts, solution in EXAMPLES) == [-1, 0, 1]


def test_facts_are_the_same_from_logged_data_and_live():
    data = make_set()
    rows, ticks = np.array([3, 0, 4, 0]), np.array([20, 2, 20, 47])
    logged = logged_facts(data, rows, ticks)
    for facts, row, tick in zip(logged, rows, ticks, strict=True):
        live = Observation(
            int(tick),
            *(getattr(data, name)[[row], : tick + (name == "states")] for name in ("states", "alphas")),
            data.conversions[[row], :tick],
            data.costs[[row], :tick],
        )
        (expected,) = prompt_facts(live, data.advertisers(np.array([row])))
        for name, value in dataclasses.asdict(facts).items():
            assert value == pytest.approx(getattr(expected, name), rel=1e-6)
    assert [facts.tick for facts in logged] == ticks.tolist()
    assert [len(facts.alphas) for facts in logged] == [4, 2, 4, 4]


def test_facts_hold_the_right_ticks():
    data = make_set(n=1)
    (facts,) = logged_facts(data, [0], [10])
    assert facts.alphas == pytest.approx(data.alphas[0, 6:10])
    assert facts.conversions == pytest.approx(data.conversions[0, 6:10])
    assert facts.total_conversions == pytest.approx(data.conversions[0, :10].sum())
    assert facts.predicted_values == pytest.approx(data.states[0, 6:10, 12] * data.states[0, 6:10, 13])
    assert facts.time_left == pytest.approx([42 / 48, 41 / 48, 40 / 48, 39 / 48])
    assert facts.spent == pytest.approx(data.costs[0, :10].sum(), rel=1e-5)
    assert facts.true_ratio == pytest.approx(data.costs[0, :10].sum() / data.conversions[0, :10].sum() / 8, rel=1e-5)


def test_the_current_tick_and_the_future_change_nothing():
    data = make_set(n=2)
    before = logged_facts(data, [0, 1], [10, 10])
    states, alphas = data.states.copy(), data.alphas.copy()
    states[:, 10:], alphas[:, 10:] = 0.5, 1.0
    changed = dataclasses.replace(data, states=states, alphas=alphas, costs=np.where(np.arange(48) < 10, data.costs, 0))
    assert logged_facts(changed, [0, 1], [10, 10]) == before


@given(
    budget=st.floats(100, 10_000),
    cpa_target=st.floats(6, 130),
    spent_share=st.floats(1e-5, 1.0),
    conversions=st.integers(1, 500),
)
def test_the_ratio_can_be_computed_from_the_printed_numbers(budget, cpa_target, spent_share, conversions):
    facts = dataclasses.replace(
        FIG4,
        budget=budget,
        cpa_target=cpa_target,
        budget_left=(1.0, 1.0, 1.0, 1 - spent_share),
        total_conversions=float(conversions),
    )
    words = describe(facts)
    printed_budget, printed_target = map(float, re.search(r"budget of (\S+) and .* of (\S+)\. ", words).groups())
    left = float(re.search(r"budget ratio: \[.*, (\S+)\]", words)[1])
    count = float(re.search(r"since timestep 0: (\S+)", words)[1])
    from_text = printed_budget * (1 - left) / count / printed_target
    assert from_text == pytest.approx(facts.true_ratio, rel=0.01)  # leaves room inside the 3 % of the check


def test_ratio_is_undefined_without_conversions_and_zero_without_spending():
    assert np.isnan(dataclasses.replace(FIG4, total_conversions=0.0).true_ratio)
    assert dataclasses.replace(FIG4, budget_left=(1.0,) * 4).true_ratio == 0.0


def test_bad_input_is_refused():
    data = make_set()
    with pytest.raises(ValueError, match="tick 0"):
        logged_facts(data, [0], [0])
    with pytest.raises(ValueError, match="advertisers"):
        prompt_facts(data.observation(np.array([0]), 5), Advertisers(np.arange(2), np.ones(2), np.ones(2)))
    with pytest.raises(ValueError, match="alphas of PromptFacts should be a finite number"):
        dataclasses.replace(FIG4, alphas=(1.0, 2.0, 3.0, float("nan")))
    with pytest.raises(ValueError, match="per past tick"):
        dataclasses.replace(FIG4, alphas=(1.0,))
    with pytest.raises(ValueError, match="budget of PromptFacts should be greater than 0"):
        dataclasses.replace(FIG4, budget=0.0)
    base_model = ChatML()
    base_model.chat_template = None
    with pytest.raises(ValueError, match="chat template"):
        render(FIG4, base_model)

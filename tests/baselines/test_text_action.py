"""Alpha as text: what the prompt tells, what the parser takes, and a bidder that keeps its alpha where it fails."""

import numpy as np
import pytest

from lbm_core.auction.bidder import Advertisers, Bidder, Observation
from lbm_core.baselines.grpo_text import (
    WORST,
    alpha_reward,
    format_reward,
    length_reward,
    rewards_of,
)
from lbm_core.baselines.text_action import TextActionBidder, TextStatus, parse_alpha
from lbm_core.baselines.text_config import STOP, AskConfig, GRPOTextConfig, TextStyle
from lbm_core.baselines.text_prompt import answer_text, text_facts, text_messages, text_prompt
from lbm_core.think.generate import Generation
from lbm_core.think.prompt import EXAMPLES, prompt_facts


class _Tokenizer:
    chat_template = "any"

    def apply_chat_template(self, messages, tokenize, add_generation_prompt):
        return "\n".join(message["content"] for message in messages)


class _Scripted:
    """A backend that answers each advertiser by its budget, and remembers its prompts."""

    name, batch_size, tokenizer = "scripted", 8, _Tokenizer()

    def __init__(self, answers):
        self.answers, self.prompts = answers, []

    def sample(self, prompts, n, sampling, seed):
        self.prompts += prompts
        texts = [next((a for budget, a in self.answers.items() if f"budget of {budget} " in p), "?") for p in prompts]
        return [[Generation(text, 3, "stop", 0.1)] * n for text in texts]


WHO = Advertisers(np.arange(4), np.array([500.0, 600.0, 700.0, 80.0]), np.full(4, 8.0))


def _observation(tick: int, alphas: float = 7.0) -> Observation:
    states = np.full((4, tick + 1, 16), 0.5)
    costs = np.full((4, tick), 6.0)
    costs[3] = 80.0 / max(tick, 1)  # its budget is gone
    return Observation(tick, states, np.full((4, tick), alphas), np.ones((4, tick)), costs)


def test_the_prompt_holds_the_facts_and_alpha_relative_to_the_target():
    fact = prompt_facts(_observation(5), WHO)[0]
    words = text_facts(fact)
    assert "budget of 500 " in words
    assert "bidding parameter in each timestep: [7, 7, 7, 7]" in words
    assert words.endswith("bidding parameter divided by the CPA constraint: [0.875, 0.875, 0.875, 0.875]")
    assert "from timestep 1 to timestep 4" in words, "ticks before the one to decide only"


@pytest.mark.parametrize("reason", [True, False])
@pytest.mark.parametrize("examples", [0, 2, 3])
def test_worked_examples_are_turns_and_parse(reason, examples):
    fact = prompt_facts(_observation(5), WHO)[0]
    chat = text_messages(fact, TextStyle(reason, examples))
    assert [m["role"] for m in chat] == ["system"] + ["user", "assistant"] * examples + ["user"]
    assert chat[-1]["content"].endswith(text_facts(fact))
    for k, message in enumerate(m for m in chat if m["role"] == "assistant"):
        read = parse_alpha(message["content"], 54.0)
        assert read.accepted
        direction = np.sign(read.alpha - EXAMPLES[k][0].alphas[-1])
        assert f"<answer>{direction:.0f}</answer>" in EXAMPLES[k][1], "the same move as LBM-Think's example"
    assert ("reason about" in chat[1]["content"]) == reason


def test_prompts_need_a_chat_template_and_a_sane_style():
    fact = prompt_facts(_observation(5), WHO)[0]
    with pytest.raises(ValueError, match="chat template"):
        text_prompt(fact, object())
    with pytest.raises(ValueError, match="worked_examples"):
        TextStyle(worked_examples=4)


def test_answers_read_back():
    for alpha in (0.01234, 7.0, 13.456, 493.0):
        assert parse_alpha(answer_text(alpha), 500.0).alpha == pytest.approx(alpha, rel=1e-3)
    for bad in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="positive"):
            answer_text(bad)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("so <alpha>8.5</alpha>", 8.5),
        ("<alpha> 1,234.5 </alpha>", 1234.5),
        ("< alpha >+.5< / alpha >", 0.5),
        ("<alpha>2000</alpha>", 2000.0),
        ("<alpha>2000.1</alpha>", TextStatus.OUT_OF_RANGE),
        ("<alpha>0</alpha>", TextStatus.OUT_OF_RANGE),
        ("<alpha>-3</alpha>", TextStatus.OUT_OF_RANGE),
        ("<alpha>−3</alpha>", TextStatus.OUT_OF_RANGE),
        ("<alpha></alpha>", TextStatus.NOT_A_NUMBER),
        ("<alpha>85%</alpha>", TextStatus.NOT_A_NUMBER),
        ("<alpha>8 or 9</alpha>", TextStatus.NOT_A_NUMBER),
        ("<alpha>nan</alpha>", TextStatus.NOT_A_NUMBER),
        ("<alpha>1e3</alpha>", TextStatus.NOT_A_NUMBER),
        ("<alpha>٣</alpha>", TextStatus.NOT_A_NUMBER),
        ("<alpha>8</alpha> no, <alpha>9</alpha>", TextStatus.SEVERAL_ALPHAS),
        ("<alpha><alpha>8</alpha>", TextStatus.SEVERAL_ALPHAS),
        ("<alpha>8</alpha> or <alpha>9", TextStatus.SEVERAL_ALPHAS),
        ("alpha is 8", TextStatus.NO_ALPHA),
        ("", TextStatus.NO_ALPHA),
        ("<alpha>8", TextStatus.TRUNCATED),
    ],
)
def test_parser(text, expected):
    read = parse_alpha(text, 2000.0)
    if isinstance(expected, float):
        assert (read.alpha, read.status) == (pytest.approx(expected), TextStatus.ACCEPTED)
    else:
        assert (read.alpha, read.status) == (None, expected)


def test_a_cut_text_is_truncated_and_a_limit_must_be_positive():
    assert parse_alpha("I think", 50.0, truncated=True).status is TextStatus.TRUNCATED
    with pytest.raises(ValueError, match="positive"):
        parse_alpha("<alpha>1</alpha>", 0.0)


def test_the_bidder_follows_what_it_can_read_and_keeps_its_alpha_otherwise():
    answers = {"500": "<alpha>9</alpha>", "600": "<alpha>99</alpha>", "700": "no idea", "80": "<alpha>5</alpha>"}
    backend = _Scripted(answers)
    bidder = TextActionBidder(backend, 54.0, AskConfig(every=12))
    assert isinstance(bidder, Bidder)
    bidder.reset(WHO)
    for tick in (0, 1, 11):
        np.testing.assert_array_equal(bidder.act(_observation(tick)), WHO.cpa_target)
    assert not backend.prompts
    np.testing.assert_array_equal(bidder.act(_observation(12)), [9, 8, 8, 8])
    assert len(backend.prompts) == 3, "an advertiser without budget is not asked"
    assert list(bidder.consultations["status"]) == ["accepted", "alpha out of range", "no alpha"]
    assert (bidder.consultations["status"] != "accepted").sum() == 2
    backend.answers["500"] = "hm"
    np.testing.assert_array_equal(bidder.act(_observation(13)), [9, 8, 8, 8])
    np.testing.assert_array_equal(bidder.act(_observation(24)), [9, 8, 8, 8])
    assert (bidder.consultations["status"] != "accepted").sum() == 5
    bidder.reset(WHO)
    np.testing.assert_array_equal(bidder.act(_observation(0)), WHO.cpa_target)
    with pytest.raises(ValueError, match="every of AskConfig"):
        AskConfig(every=0)


def test_texts_end_behind_alpha_and_without_reasoning_soon():
    reasoned, bare = AskConfig(max_new_tokens=56), AskConfig(max_new_tokens=56, style=TextStyle(reason=False))
    assert reasoned.sampling.stop == bare.sampling.stop == STOP
    assert (reasoned.sampling.max_new_tokens, bare.sampling.max_new_tokens) == (56, 24)


def test_what_is_handed_out_is_not_the_bidders_own_memory():
    bidder = TextActionBidder(_Scripted({}), 54.0)
    bidder.reset(WHO)
    bidder.act(_observation(0))[:] = 99.0
    np.testing.assert_array_equal(bidder.act(_observation(0)), WHO.cpa_target)


def test_rewards():
    texts = ["<alpha>10</alpha>", "<alpha>20</alpha>", "<alpha>5</alpha>", "<alpha>0.001</alpha>", "none"]
    rewards = alpha_reward(texts, [10.0] * 5, 54.0)
    assert rewards == pytest.approx([0.0, -np.log(2), -np.log(2), -WORST, -WORST])
    assert format_reward(texts, 54.0) == [1, 1, 1, 1, 0]
    assert length_reward([0, 10, 20, 40], 20) == [-1.0, -0.5, 0.0, 0.0]


def test_the_length_floor_is_a_reward_of_its_own():
    plain, weights = rewards_of(GRPOTextConfig())
    assert [f.__name__ for f in plain] == ["alpha", "form"]
    assert weights == [1.0, 1.0]
    floored, weights = rewards_of(GRPOTextConfig(length_floor=20, format_weight=0.5))
    assert weights == [1.0, 0.5, 1.0]
    assert floored[2](prompts=[], completions=["a"], completion_ids=[[1] * 5]) == [-0.75]
    with_alpha = floored[0](completions=["<alpha>8</alpha>"], logged_alpha=[8.0], prompts=[], trainer_state=None)
    assert with_alpha == [0.0]


def test_bad_settings():
    for settings, match in (
        ({"loss_type": "ppo"}, "loss_type"),
        ({"generations": 1}, "generations"),
        ({"steps": 0}, "steps"),
        ({"length_floor": 99}, "length_floor"),
        ({"precision": "int8"}, "precision"),
        ({"lora_rank": 0}, "lora_rank"),
        ({"lora_rank": None, "trained_layers": 1}, "lora_rank"),
        ({"learning_rate": 0.0}, "learning_rate"),
    ):
        with pytest.raises(ValueError, match=match):
            GRPOTextConfig(**settings)

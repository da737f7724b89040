"""LBM-Think as a guide: it speaks when asked, ahead of its tick, and is not followed where it hallucinates."""

from dataclasses import replace

import numpy as np
import pytest

from lbm_core.act.guides import DECREASE, INCREASE, UNCERTAIN
from lbm_core.auction.bidder import Advertisers, Observation
from lbm_core.think.config import ThinkConfig
from lbm_core.think.generate import Generation
from lbm_core.think.parse import parse
from lbm_core.think.think_guide import ThinkGuide, as_read


class _Tokenizer:
    chat_template = "any"

    def apply_chat_template(self, messages, tokenize, add_generation_prompt):
        return "\n".join(message["content"] for message in messages)


class _Oracle:
    """A backend that answers 1, -1 and nonsense in turn, and remembers its prompts."""

    name, batch_size, tokenizer = "oracle", 8, _Tokenizer()

    def __init__(self):
        self.prompts = []

    def sample(self, prompts, n, sampling, seed):
        self.prompts += prompts
        answers = {"500": "<answer>1</answer>", "600": "<answer>-1</answer>"}
        texts = [next((a for budget, a in answers.items() if f"budget of {budget} " in p), "no idea") for p in prompts]
        return [[Generation(text, 3, "stop", 0.1)] * n for text in texts]


def _observation(tick: int) -> tuple[Observation, Advertisers]:
    who = Advertisers(np.arange(3), np.array([500.0, 600.0, 700.0]), np.full(3, 8.0))
    states = np.full((3, tick + 1, 16), 0.5)
    return Observation(tick, states, np.full((3, tick), 7.0), np.ones((3, tick)), np.full((3, tick), 6.0)), who


def test_it_speaks_every_k_ticks_and_only_what_passes_is_followed():
    backend = _Oracle()
    guide = ThinkGuide(backend, ThinkConfig(every=12, ratio_required=False))
    for tick in (0, 1, 11, 13):
        assert guide(*_observation(tick)) == [UNCERTAIN] * 3
    assert not backend.prompts
    assert guide(*_observation(12)) == [INCREASE, DECREASE, UNCERTAIN]
    assert list(guide.consultations["status"]) == ["accepted", "accepted", "no answer"]
    assert list(guide.consultations["tick"]) == [12, 12, 12]


def test_the_ratio_counts_where_it_is_required():
    assert ThinkGuide(_Oracle())(*_observation(5)) == [UNCERTAIN] * 3


def test_the_current_tick_is_not_told():
    backend = _Oracle()
    observation, who = _observation(6)
    ThinkGuide(backend)(observation, who)
    before = list(backend.prompts)
    observation.states[:, -1] = 99.0
    backend.prompts.clear()
    ThinkGuide(backend)(observation, who)
    assert sorted(backend.prompts) == sorted(before)


def test_an_answer_is_read_as_a_word_by_its_chances_or_as_an_expected_move():
    read = parse("<answer>-1</answer>", 1.0, ratio_required=False)
    text = Generation("<answer>-1</answer>", 3, "stop", 0.1, (0.3, 0.3, 0.4))
    assert as_read(text, read, "word").tolist() == [1, 0, 0]
    assert as_read(text, read, "most likely").tolist() == [0, 0, 1]
    assert as_read(text, read, "margin").tolist() == [0, 1, 0], "0.4 - 0.3 decides nothing"
    assert as_read(text, read, "expected").tolist() == [0.3, 0.3, 0.4]
    rejected = parse("<answer>7</answer>", 1.0, ratio_required=False)
    assert as_read(text, rejected, "expected").tolist() == [0, 1, 0]
    with pytest.raises(ValueError, match="does not tell"):
        as_read(replace(text, chances=None), read, "margin")

"""LBM-Think as a guide of a running day, with a language model that says what the test wants."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_language_model import tiny_language_model

from lbm_core.act.guides import DECREASE, INCREASE, UNCERTAIN
from lbm_core.auction.bidder import Advertisers, Observation
from lbm_core.think.config import ThinkConfig
from lbm_core.think.delay import Delayed
from lbm_core.think.generate import Generation
from lbm_core.think.think_guide import ThinkGuide

ADVERTISERS = Advertisers(np.array([3, 5, 9]), np.full(3, 100.0), np.full(3, 10.0))


class Says:
    """Answers by the advertiser's spending so far, which the prompt states as the remaining budget ratio."""

    def __init__(self, answers):
        self.name, self.batch_size, self.answers = "says", 8, answers
        self.tokenizer = tiny_language_model().tokenizer
        self.asked: list[str] = []

    def sample(self, prompts, n, sampling, seed):
        self.asked += prompts
        assert n == 1
        answers = [next(answer for left, answer in self.answers.items() if f"{left}]" in prompt) for prompt in prompts]
        return [[Generation(answer, 5, "stop", 0.1)] for answer in answers]


def observe(tick, spent=(10.0, 20.0, 30.0)):
    """Each advertiser spent the same every tick and won one conversion in all: ratio = spent / 1 / 10."""
    costs = np.repeat(np.array(spent)[:, None] / max(tick, 1), tick, axis=1)
    conversions = np.zeros((3, tick))
    conversions[:, :1] = 1.0
    return Observation(tick, np.ones((3, tick + 1, 16)), np.full((3, tick), 9.0), conversions, costs)


ANSWERS = {
    "0.900": "<ratio>1</ratio> <answer>1</answer>",
    "0.800": "<ratio>2.01</ratio> <answer>-1</answer>",
    "0.700": "<ratio>9</ratio> <answer>1</answer>",  # hallucinated: the truth is 3
    "0.990": "<ratio>0.1</ratio> <answer>-1</answer>",
}


def test_accepted_texts_lead_and_hallucinated_ones_do_not():
    guide = ThinkGuide(Says(ANSWERS))
    assert guide(observe(4), ADVERTISERS) == [INCREASE, DECREASE, UNCERTAIN]
    assert guide.consultations["status"].tolist() == ["accepted", "accepted", "ratio wrong"]
    assert guide.consultations["advertiser"].tolist() == [3, 5, 9]
    assert guide.consultations["text"].tolist() == [ANSWERS[left] for left in ("0.900", "0.800", "0.700")]
    excused = ThinkGuide(Says(ANSWERS), ThinkConfig(ratio_required=False))
    assert excused(observe(4), ADVERTISERS) == [INCREASE, DECREASE, INCREASE]


@pytest.mark.parametrize(
    ("wrap", "kept"),
    [
        (lambda guide: guide, [UNCERTAIN] * 3),
        (lambda guide: Delayed(guide, 0, until="last", every=guide.every), [INCREASE, DECREASE, UNCERTAIN]),
    ],
    ids=["uncertain", "hold"],
)
def test_between_consultations(wrap, kept):
    backend = Says(ANSWERS)
    guide = wrap(ThinkGuide(backend, ThinkConfig(every=4)))
    assert guide(observe(1), ADVERTISERS) == [UNCERTAIN] * 3
    assert not backend.asked
    guide(observe(4), ADVERTISERS)
    assert guide(observe(5), ADVERTISERS) == kept
    assert guide(observe(1), ADVERTISERS) == [UNCERTAIN] * 3, "a new day holds nothing of the last one"
    assert len(backend.asked) == 3


def test_who_has_no_budget_left_is_not_asked():
    backend = Says(ANSWERS)
    guide = ThinkGuide(backend)
    assert guide(observe(4, spent=(100.0, 1.0, 99.95)), ADVERTISERS) == [UNCERTAIN, DECREASE, UNCERTAIN]
    assert len(backend.asked) == 1
    assert guide(observe(5, spent=(100.0,) * 3), ADVERTISERS) == [UNCERTAIN] * 3


def test_texts_are_kept_and_not_written_twice(tmp_path):
    store = tmp_path / "texts.jsonl"
    first = ThinkGuide(Says(ANSWERS), store=store)(observe(4), ADVERTISERS)
    backend = Says(ANSWERS)
    assert ThinkGuide(backend, store=store)(observe(4), ADVERTISERS) == first
    assert not backend.asked


def test_intervals_outside_the_day_are_refused():
    for wrong in (0, 49):
        with pytest.raises(ValueError, match="every of ThinkConfig should be"):
            ThinkConfig(every=wrong)

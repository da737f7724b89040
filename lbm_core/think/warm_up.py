"""Warm-up of a small LBM-Think: chains of thought made by a program, about logged decisions, learned before GQPO.

A model of 135M parameters cannot be prompted into reasoning: it hardly ever states the CPA ratio right. Form and
arithmetic it can learn without any strategy: the prompt's own numbers say what is right (the self-supervision of A.3),
and the direction is a fair coin. Differs from the paper, whose 3B model needs none.
"""

from bisect import bisect
from collections.abc import Sequence

import numpy as np

from lbm_core.think.prompt import SHOWN, WORDING, PromptFacts, number

LEVELS = ("far below", "below", "on", "above", "far above")
# Between two levels: of the CPA ratio, of the last spends over an even rate, of the last alpha over the CPA target.
RATIO_STEPS, PACE_STEPS, BID_STEPS = (0.7, 0.9, 1.1, 1.4), (0.5, 0.8, 1.25, 2.0), (0.7, 0.9, 1.1, 1.4)
DIRECTIONS = (-1, 0, 1)


def level(value: float, steps: Sequence[float]) -> str:
    """One of :data:`LEVELS`, split at four ascending steps."""
    return LEVELS[bisect(steps, value)]


def chain_of_thought(facts: PromptFacts, direction: int, rng: np.random.Generator) -> str:
    """A chain of thought whose arithmetic is right, in one of several wordings, ending in a given direction."""
    words, count = WORDING["chain"], facts.total_conversions

    def said(name: str, **numbers: str) -> str:
        return str(rng.choice(words[name])).format(**numbers)

    if count > 0:
        cpa, target = number(facts.spent / count, 3), number(facts.cpa_target, 3)
        ratio = float(cpa) / float(target)
        sums = said("ratio", cpa=cpa, target=target, ratio=number(ratio, 3), side=level(ratio, RATIO_STEPS))
    else:
        sums = said("no_ratio")
    pace = said("pace", pace=level(float(np.mean(facts.pace[-SHOWN:])), PACE_STEPS))
    bid = said("bid", bid=level(facts.alphas[-1] / facts.cpa_target, BID_STEPS))
    return " ".join([sums, pace, bid, words["answer"].format(direction=direction)])


def lessons(facts: Sequence[PromptFacts], rng: np.random.Generator) -> list[str]:
    """A chain of thought about each decision, the directions drawn from a fair coin of three sides."""
    return [chain_of_thought(fact, int(rng.choice(DIRECTIONS)), rng) for fact in facts]

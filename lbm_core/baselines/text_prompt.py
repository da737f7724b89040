"""The prompt of the language baselines (§4.3, A.3): LBM-Think's facts in words, and a question for the next alpha."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lbm_core.auction.bidder import N_TICKS
from lbm_core.think.prompt import EXAMPLES, KNOWLEDGE, SYSTEM, PromptFacts, describe, in_template
from lbm_core.tiers import Tier

RELATIVE = "bidding parameter divided by the CPA constraint: {ratios}"
ANSWER_TASK = (
    "Give the bidding parameter of the next timestep as a plain number inside <alpha></alpha> tags, exactly once, "
    "and nothing else."
)
REASON_TASK = (
    "First reason about budget, time and CPA in a few short sentences. At the very end you MUST give the "
    "bidding parameter of the next timestep as a plain number inside <alpha></alpha> tags, exactly once."
)
REASON_START = "I will work through this step by step. My chain of thought:"
ANSWER_START = "The next bidding parameter:"
# Answers to the invented cases of :data:`lbm_core.think.prompt.EXAMPLES`: reasoning, and alpha.
_SOLVED = (
    ("Realized CPA = 1200 / 80 = 15, above 10, and the budget goes fast. I lower 13.8 to 13.", 13.0),
    ("Realized CPA = 800 / 160 = 5, below 8, and much budget is left. I raise 5.3 to 5.6.", 5.6),
    ("Realized CPA = 1500 / 125 = 12, as wanted, and the budget fits the time. I keep 12.", 12.0),
)


@dataclass(frozen=True)
class TextStyle:
    """Variations of the prompt.

    Attributes
    ----------
    reason : ask for a chain of thought before alpha (Prompting, GRPO), or for alpha alone (SFT)
    worked_examples : 0..3 solved cases before the question, as earlier turns of the conversation. Differs from the
        paper, whose models need none; one of 135M hardly ever fills in the tag without.
    """

    reason: bool = True
    worked_examples: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.worked_examples <= len(_SOLVED):
            raise ValueError(f"worked_examples must lie in 0..{len(_SOLVED)}; got {self.worked_examples}")

    @classmethod
    def from_tier(cls, tier: Tier, reason: bool = True) -> TextStyle:
        """The tier's worked examples for a prompt that asks for reasoning; none for SFT, which learns the form."""
        return cls(reason=reason, worked_examples=tier.language.worked_examples if reason else 0)


def answer_text(alpha: float) -> str:
    """What SFT learns to write: alpha, currency per conversion, with 4 significant digits in its tag.

    Raises
    ------
    ValueError
        alpha that is not a positive number.
    """
    if not (np.isfinite(alpha) and alpha > 0):
        raise ValueError(f"an alpha to write must be a positive number; got {alpha}")
    return f" <alpha>{_number(alpha)}</alpha>"


def text_facts(facts: PromptFacts) -> str:
    """LBM-Think's facts in words, and the past alphas in units of the CPA target."""
    ratios = ", ".join(_number(alpha / facts.cpa_target, 3) for alpha in facts.alphas)
    return f"{describe(facts)}\n{RELATIVE.format(ratios=f'[{ratios}]')}"


def text_messages(facts: PromptFacts, style: TextStyle | None = None) -> list[dict[str, str]]:
    """System and user message, before any chat template; worked examples are turns between the two.

    The rules are told once and first, so that all prompts share their beginning.
    """
    style = style or TextStyle()
    rules = f"{KNOWLEDGE}\n\n{REASON_TASK if style.reason else ANSWER_TASK}"
    cases = [case for case, _ in EXAMPLES[: style.worked_examples]]
    chat = [{"role": "system", "content": SYSTEM.format(n_ticks=N_TICKS)}]
    for number, case in enumerate([*cases, facts]):
        told = text_facts(case)
        chat.append({"role": "user", "content": f"{rules}\n\n{told}" if number == 0 else told})
        if number < len(cases):
            chat.append({"role": "assistant", "content": _solution(number, style)})
    return chat


def text_prompt(facts: PromptFacts, tokenizer: Any, style: TextStyle | None = None) -> str:
    """The whole prompt with the first words of the answer; errors as :func:`lbm_core.think.prompt.in_template`'s."""
    style = style or TextStyle()
    return in_template(text_messages(facts, style), tokenizer, REASON_START if style.reason else ANSWER_START)


def _solution(number: int, style: TextStyle) -> str:
    reasoning, alpha = _SOLVED[number]
    return f"{REASON_START} {reasoning}{answer_text(alpha)}" if style.reason else ANSWER_START + answer_text(alpha)


def _number(value: float, digits: int = 4) -> str:
    return np.format_float_positional(value, precision=digits, fractional=False, trim="-")

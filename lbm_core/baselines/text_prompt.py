"""The prompt of the language baselines (§4.3, A.3): LBM-Think's facts in words, and a question for the next alpha."""

from typing import Any

import numpy as np

from lbm_core.baselines.text_config import TextStyle
from lbm_core.think.prompt import EXAMPLES, WORDING, PromptFacts, conversation, describe, in_template, number

RELATIVE = "bidding parameter divided by the CPA constraint: {ratios}"
ANSWER_TASK = (
    "Give the bidding parameter of the next timestep as a plain number inside <alpha></alpha> tags, exactly once, "
    "and nothing else."
)
REASON_TASK = (
    "First reason about budget, time and CPA in a few short sentences. At the very end you MUST give the "
    "bidding parameter of the next timestep as a plain number inside <alpha></alpha> tags, exactly once."
)
ANSWER_START = "The next bidding parameter:"
# Answers to the invented cases of :data:`lbm_core.think.prompt.EXAMPLES`: reasoning, and alpha.
_SOLVED = (
    ("Realized CPA = 1200 / 80 = 15, above 10, and the budget goes fast. I lower 13.8 to 13.", 13.0),
    ("Realized CPA = 800 / 160 = 5, below 8, and much budget is left. I raise 5.3 to 5.6.", 5.6),
    ("Realized CPA = 1500 / 125 = 12, as wanted, and the budget fits the time. I keep 12.", 12.0),
)


def answer_text(alpha: float) -> str:
    """What SFT learns to write: alpha > 0, currency per conversion, with 4 significant digits in its tag."""
    if not (np.isfinite(alpha) and alpha > 0):
        raise ValueError(f"an alpha to write must be a positive number; got {alpha}")
    return f" <alpha>{number(float(alpha), 4)}</alpha>"


def text_facts(facts: PromptFacts) -> str:
    """LBM-Think's facts in words, and the past alphas in units of the CPA target."""
    ratios = ", ".join(number(alpha / facts.cpa_target, 3) for alpha in facts.alphas)
    return f"{describe(facts)}\n{RELATIVE.format(ratios=f'[{ratios}]')}"


def text_messages(facts: PromptFacts, style: TextStyle | None = None) -> list[dict[str, str]]:
    """System and user message, before any chat template; worked examples are turns between the two.

    The rules are told first, so that all prompts share their beginning.
    """
    style = style or TextStyle()
    rules = [WORDING["knowledge"], REASON_TASK if style.reason else ANSWER_TASK]
    solved = []
    for (case, _), (reasoning, alpha) in list(zip(EXAMPLES, _SOLVED, strict=True))[: style.worked_examples]:
        opening = f"{WORDING['assistant']} {reasoning}" if style.reason else ANSWER_START
        solved.append((text_facts(case), opening + answer_text(alpha)))
    return conversation(rules, solved, text_facts(facts), rules_first=True)


def text_prompt(facts: PromptFacts, tokenizer: Any, style: TextStyle | None = None) -> str:
    """The whole prompt with the first words of the answer; errors as :func:`lbm_core.think.prompt.in_template`'s."""
    style = style or TextStyle()
    return in_template(text_messages(facts, style), tokenizer, WORDING["assistant"] if style.reason else ANSWER_START)

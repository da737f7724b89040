"""What language models write where a ratio and a direction were asked for: a gallery with the verdict on each (A.3).

The rule behind the verdicts: a text is believed where it can be read in one way only. Spaces, signs and a percent
sign do not change what was said; anything that a reader would have to guess is rejected.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd

from lbm_core.think.parse import Parsed, Status, parse

_ACCEPTED = Status.ACCEPTED


@dataclass(frozen=True)
class Case:
    """One text, and what :func:`lbm_core.think.parse.parse` must make of it.

    Attributes
    ----------
    kind : "form", "answer", "ratio", "cut off" or "reasoning": which part of the reading it tries
    name : short description
    text : the model's text
    status : expected
    direction : expected, in {-1, 0, 1}; None where no single valid answer is given
    true_ratio : CPA ratio at the time of the prompt; NaN without a conversion
    truncated : whether the token limit ended the text
    contradiction : whether the answer moves the bid against the reasoning
    """

    kind: str
    name: str
    text: str
    status: Status
    direction: int | None
    true_ratio: float = 0.66
    truncated: bool = False
    contradiction: bool = False

    def read(self, *, ratio_required: bool = True) -> Parsed:
        """What the parser makes of it."""
        return parse(self.text, self.true_ratio, ratio_required=ratio_required, truncated=self.truncated)


def frame() -> pd.DataFrame:
    """The gallery as a table: kind, case, text, and as the parser reads it status, direction, ratio, contradiction."""
    rows = []
    for case in CASES:
        read = case.read()
        told = (read.status.value, read.direction, read.ratio, read.contradiction)
        rows.append((case.kind, case.name, case.text, *told))
    columns = ["kind", "case", "text", "status", "direction", "ratio", "contradiction"]
    return pd.DataFrame(rows, columns=columns, dtype=object)


def _form(name: str, text: str, status: Status = _ACCEPTED, direction: int | None = 1) -> Case:
    return Case("form", name, text, status, direction)


def _answer(name: str, content: str, status: Status = Status.BAD_ANSWER, direction: int | None = None) -> Case:
    return Case("answer", name, f"<ratio>0.66</ratio><answer>{content}</answer>", status, direction)


def _ratio(name: str, content: str, status: Status = _ACCEPTED, true_ratio: float = 0.66) -> Case:
    return Case("ratio", name, f"<ratio>{content}</ratio><answer>1</answer>", status, 1, true_ratio)


def _cut(name: str, text: str, status: Status, direction: int | None = None, truncated: bool = True) -> Case:
    return Case("cut off", name, text, status, direction, truncated=truncated)


def _said(name: str, reasoning: str, direction: int, contradiction: bool) -> Case:
    text = f"<ratio>0.66</ratio> {reasoning} <answer>{direction}</answer>"
    return Case("reasoning", name, text, _ACCEPTED, direction, contradiction=contradiction)


_GOOD = "The CPA ratio is <ratio>0.66</ratio>. Hence <answer>1</answer>"
_NONE, _SEVERAL = Status.NO_ANSWER, Status.SEVERAL_ANSWERS
_BAD, _WRONG, _UNDEFINED = Status.BAD_RATIO, Status.WRONG_RATIO, Status.UNDEFINED_RATIO

CASES: tuple[Case, ...] = (
    _form("as asked", _GOOD),
    _form("spaces in the tags", "< ratio > 0.66 </ ratio > < answer > -1 </ answer >", direction=-1),
    _form("line breaks in the tags", "<ratio>\n0.66\n</ratio>\n<answer>\n0\n</answer>", direction=0),
    _form("answer before ratio", "<answer>1</answer><ratio>0.66</ratio>"),
    _form("words after the answer", _GOOD + " Good luck!"),
    _form("Markdown around the tags", "**CPA ratio:** `<ratio>0.66</ratio>`\n\n**`<answer>1</answer>`**"),
    _form("empty", "", _NONE, None),
    _form("no tags", "I would raise the bids. Answer: 1", _NONE, None),
    _form("closing tag alone", "<ratio>0.66</ratio> 1</answer>", _NONE, None),
    _form("capitals are another tag", "<RATIO>0.66</RATIO><ANSWER>1</ANSWER>", _NONE, None),
    _form("square brackets", "[ratio]0.66[/ratio] [answer]1[/answer]", _NONE, None),
    _form("escaped tags", "&lt;ratio&gt;0.66&lt;/ratio&gt; &lt;answer&gt;1&lt;/answer&gt;", _NONE, None),
    _form("the same answer twice", _GOOD + "<answer>1</answer>", _SEVERAL, None),
    _form("two answers", "<ratio>0.66</ratio><answer>1</answer> or <answer>-1</answer>", _SEVERAL, None),
    _form("second answer begun", _GOOD + " so <answer>", _SEVERAL, None),
    _form("one opening, two closings", "<ratio>0.66</ratio><answer>1</answer> or 0</answer>", _SEVERAL, None),
    _form("nested answers", "<ratio>0.66</ratio><answer><answer>1</answer></answer>", _SEVERAL, None),
    _form("no ratio", "Raise it. <answer>1</answer>", Status.NO_RATIO),
    _form("unclosed ratio", "<ratio>0.66 <answer>1</answer>", Status.NO_RATIO),
    _form("two ratios", "<ratio>0.66</ratio>" + _GOOD, Status.SEVERAL_RATIOS),
    _form("nested ratios", "<ratio><ratio>0.66</ratio></ratio><answer>1</answer>", Status.SEVERAL_RATIOS),
    _form("answer inside the ratio", "<ratio>0.66 <answer>1</answer></ratio>", _BAD),
    _form("ratio inside the answer", "<answer><ratio>0.66</ratio>1</answer>", Status.BAD_ANSWER, None),
    _answer("plus sign", "+1", _ACCEPTED, 1),
    _answer("Unicode minus", "−1", _ACCEPTED, -1),
    _answer("a decimal", "-1.0", _ACCEPTED, -1),
    _answer("minus zero", "-0", _ACCEPTED, 0),
    _answer("empty", ""),
    _answer("a word", "increase"),
    _answer("a number in words", "one"),
    _answer("with a reason", "1 (increase)"),
    _answer("two", "2"),
    _answer("a half", "0.5"),
    _answer("the list of options", "-1, 0, 1"),
    _answer("plus or minus", "±1"),
    _answer("a dash for a minus", "–1"),
    _answer("backticks", "`1`"),
    _answer("bold", "**1**"),
    _answer("full-width digit", "１"),
    _answer("not a number", "NaN"),
    _ratio("3 % off", "1.03", true_ratio=1.0),
    _ratio("3.1 % off", "1.031", _WRONG, 1.0),
    _ratio("per cent", "66%"),
    _ratio("thousands", "1,234.5", true_ratio=1234.5),
    _ratio("power of ten", "6.6e-1"),
    _ratio("calculation in brackets", "0.66 (5.386 / 8.0)", true_ratio=0.67),
    _ratio("calculation, then the result", "5.386 / 8.0 = 0.673", true_ratio=0.67),
    _ratio("other number in brackets", "0.66 (or 0.7)", _BAD),
    _ratio("calculation without a result", "5.386 / 8.0", _BAD, 0.673),
    _ratio("fraction", "2/3", _BAD, 2 / 3),
    _ratio("decimal comma", "0,663", _BAD),
    _ratio("two numbers", "0.66 0.67", _BAD),
    _ratio("a range", "0.6-0.7", _BAD),
    _ratio("about", "about 0.66", _BAD),
    _ratio("a word", "low", _BAD),
    _ratio("empty", "", _BAD),
    _ratio("currency", "$0.66", _BAD),
    _ratio("LaTeX", r"\frac{2}{3}", _BAD),
    _ratio("full-width digits", "０.６６", _BAD),
    _ratio("not a number", "nan", _BAD),
    _ratio("infinite", "inf", _BAD),
    _ratio("beyond every float", "1e999", _BAD),
    _ratio("negative", "-0.66", _WRONG),
    _ratio("upside down", "1.5", _WRONG, 1 / 1.5),
    _ratio("zero, but money was spent", "0", _WRONG),
    _ratio("nothing spent", "0", _UNDEFINED, 0.0),
    _ratio("no conversion yet", "0.66", _UNDEFINED, math.nan),
    _cut("in the reasoning", "Spent budget = 2000 * (1 -", Status.TRUNCATED),
    _cut("in the answer", "<ratio>0.66</ratio><answer>1", Status.TRUNCATED),
    _cut("answer never closed", "<ratio>0.66</ratio><answer>1", Status.TRUNCATED, truncated=False),
    _cut("behind the answer", _GOOD + " In other words", _ACCEPTED, 1),
    _said("agrees", "So lowering the bidding parameter is better.", -1, False),
    _said("says lower, answers raise", "So decrease the bidding parameter.", 1, True),
    _said("says raise, answers lower", "It is best to increase the bids.", -1, True),
    _said("passive", "The bidding parameter should therefore be lowered.", 1, True),
    _said("negated", "Do not increase the bidding parameter.", 1, False),
    _said("negated, short form", "We shouldn't raise the bids. Lower the alpha.", 1, True),
    _said("no need", "There is no need to raise the bidding parameter.", 1, False),
    _said("changes its mind", "One could raise the bids. But better lower the bids.", -1, False),
    _said("says lower, answers unsure", "So decrease the bidding parameter.", 0, False),
    _said("says no direction, answers raise", "So no direction is clearly better for the bids.", 1, True),
    _said("says no direction, answers unsure", "So no direction is clearly better for the bids.", 0, False),
    _said("speaks of the budget only", "The budget decreases over time.", 1, False),
)

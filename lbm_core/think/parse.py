"""Read a chain of thought, and reject it where it hallucinates (§3.3, A.3).

It is accepted when it states the CPA ratio exactly once and right, inside ``<ratio>`` tags ("none" before the first
conversion), and gives exactly one direction in {-1, 0, 1}, inside ``<answer>`` tags.
"""

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from lbm_core.think.config import TOLERANCE
from lbm_core.think.generate import Generation, Group
from lbm_core.think.prompt import PromptFacts


class Status(StrEnum):
    """Why a chain of thought was accepted or rejected; the first that applies, in this order."""

    TRUNCATED = "truncated"  # ends in the middle: the token limit was hit before an answer was complete
    NO_ANSWER = "no answer"
    SEVERAL_ANSWERS = "several answers"
    BAD_ANSWER = "answer not -1, 0 or 1"
    NO_RATIO = "no ratio"
    SEVERAL_RATIOS = "several ratios"
    BAD_RATIO = "ratio not a number"
    UNDEFINED_RATIO = "true ratio zero or undefined"
    WRONG_RATIO = "ratio wrong"
    ACCEPTED = "accepted"


# Rejections for lack of an answer; the others concern the ratio.
ANSWER_FAILURES = (Status.TRUNCATED, Status.NO_ANSWER, Status.SEVERAL_ANSWERS, Status.BAD_ANSWER)
_UNREADABLE = (Status.NO_RATIO, Status.SEVERAL_RATIOS, Status.BAD_RATIO)


@dataclass(frozen=True)
class Parsed:
    """What a chain of thought says, and whether to believe it."""

    # -1 lower, 0 uncertain, 1 raise; None without exactly one valid answer. Set even where the ratio is rejected
    direction: int | None
    ratio: float | None  # the CPA ratio stated; None without exactly one readable ``<ratio>``
    ratio_error: float  # |ratio - true| / true; NaN where either is missing, 0 where "none" is right
    status: Status
    # What the reasoning's last recommendation speaks for: 1, -1, or 0 ("no direction is better"); None without any
    stated: int | None = None

    @property
    def accepted(self) -> bool:
        """Whether LBM-Act may follow it."""
        return self.status is Status.ACCEPTED

    @property
    def contradiction(self) -> bool:
        """Whether the answer moves the bid, 1 or -1, and the reasoning recommends the opposite or no direction."""
        return self.direction in (-1, 1) and self.stated is not None and self.direction != self.stated


_BLOCK = {tag: re.compile(rf"<\s*{tag}\s*>(.*?)<\s*/\s*{tag}\s*>", re.DOTALL) for tag in ("ratio", "answer")}
_TAG = {tag: re.compile(rf"<\s*(/?)\s*{tag}\s*>") for tag in ("ratio", "answer")}
# Digits are spelled out: \d would also take those of other scripts. "0,663" is no number with thousands.
_NUMBER = r"[+\-−]?(?:[1-9][0-9]{0,2}(?:,[0-9]{3})+(?:\.[0-9]*)?|[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+\-]?[0-9]+)?"
# One number, perhaps a percent sign, perhaps its calculation before "=" or in brackets: "0.66 (5.386 / 8.0)".
_RATIO = re.compile(rf"(?:[^=]*=)?\s*({_NUMBER})\s*(%?)\s*(?:\([0-9.,\s+\-−*/×÷=%]*\))?\s*\.?")
_ANSWER = re.compile(r"([+\-−]?)\s*([01])(?:\.0*)?")
_RAISE, _LOWER = r"increas\w*|rais(?:e|es|ed|ing)", r"decreas\w*|lower(?:s|ed|ing)?|reduc\w*"
_NEGATION = r"(?:\w+n['’]t|not|never|avoid|without|against|instead of|rather than|refrain from|no (?:need|reason) to)"
_BID = r"(?:bid\w*|parameters?|alphas?)"
_MOVE = re.compile(  # "increase the bidding parameter"; "the bidding parameter should be increased"
    rf"(?P<negation>\b{_NEGATION}\s+(?:\w+\s+)?)?"
    rf"\b(?:(?P<up>{_RAISE})|(?P<down>{_LOWER}))\s+(?:\w+\s+){{0,3}}?{_BID}\b"
    rf"|\b{_BID}\s+(?:should|must|ought to|needs? to)\s+(?P<kept>not\s+)?(?:\w+\s+)?be\s+"
    rf"(?:(?P<raised>{_RAISE})|(?P<lowered>{_LOWER}))\b"
    rf"|\b(?P<none>no direction is|direction is (?:\w+\s+)?(?:unclear|uncertain)"
    rf"|(?:cannot|can['’]t) (?:tell|decide))\b",
    re.IGNORECASE,
)


def parse(
    text: str, true_ratio: float, tolerance: float = TOLERANCE, *, ratio_required: bool = True, truncated: bool = False
) -> Parsed:
    """Read direction and CPA ratio from a chain of thought (without the prompt); the hallucination check of A.3.

    Parameters
    ----------
    true_ratio : (spent / conversions) / C at the time of the prompt, finite; NaN without a conversion
    tolerance : largest relative error of the stated ratio, >= 0
    ratio_required : False accepts on the answer alone (differs from the paper, see :mod:`lbm_core.think.config`)
    truncated : whether the generation stopped at its token limit
    """
    if not tolerance >= 0:
        raise ValueError(f"tolerance must be >= 0; got {tolerance}")
    if math.isinf(true_ratio):
        raise ValueError("the true ratio is infinite; pass NaN where there is no conversion")
    unanswered = Status.TRUNCATED if truncated or "" in _TAG["answer"].findall(text) else Status.NO_ANSWER
    direction, answer_status = _read("answer", text, _direction, (unanswered, *ANSWER_FAILURES[2:]))
    ratio, ratio_status = _read("ratio", text, _ratio, _UNREADABLE)
    defined, none = math.isfinite(true_ratio) and true_ratio > 0, ratio is not None and math.isnan(ratio)
    ratio, error = None if none else ratio, float("nan")
    if ratio is not None and defined:
        error = abs(ratio - true_ratio) / true_ratio
    elif none and math.isnan(true_ratio):
        error = 0.0
    if ratio_status is None and not error <= tolerance + 1e-12:
        ratio_status = Status.WRONG_RATIO if defined else Status.UNDEFINED_RATIO
    status = answer_status or (ratio_status if ratio_required else None) or Status.ACCEPTED
    return Parsed(direction, ratio, error, status, stated_direction(text))


def parse_groups(groups: Sequence[Group], facts: Sequence[PromptFacts], **check: Any) -> list[list[Parsed]]:
    """:func:`parse` of every text of every prompt; ``check`` holds its ``tolerance`` and ``ratio_required``."""
    return [
        [parse(text.text, fact.true_ratio, truncated=text.truncated, **check) for text in group]
        for group, fact in zip(groups, facts, strict=True)
    ]


def parsed_row(fact: PromptFacts, text: Generation, parsed: Parsed) -> dict[str, Any]:
    """What tables say of one chain of thought."""
    row: dict[str, Any] = {"tick": fact.tick, "true_ratio": fact.true_ratio}
    row |= {name: getattr(parsed, name) for name in ("ratio", "ratio_error", "direction", "stated")}
    return row | {"status": parsed.status.value, "tokens": text.tokens, "seconds": text.seconds}


def _read(tag: str, text: str, value_of: Callable[[str], Any], failures: Sequence[Status]) -> tuple[Any, Status | None]:
    """What a tag's only block says, and how that fails: no block, several, or one that says nothing."""
    none, several, bad = failures
    blocks, slashes = _BLOCK[tag].findall(text), _TAG[tag].findall(text)
    if not blocks:
        return None, none
    if slashes.count("") > 1 or slashes.count("/") > 1:
        return None, several
    value = value_of(blocks[0].strip())
    return value, bad if value is None else None


def _direction(text: str) -> int | None:
    match = _ANSWER.fullmatch(text)
    return match and int(match[2]) * (-1 if match[1] in ("-", "−") else 1)


def _ratio(text: str) -> float | None:
    return float("nan") if text.lower() == "none" else read_number(text)


def read_number(text: str) -> float | None:
    """The one finite number of a tag's content, else None: "0.66", "66%", "1,234.5", "0.7 (5.4 / 8)", "4 / 8 = 0.5"."""
    match = _RATIO.fullmatch(text.strip())
    if match is None:
        return None
    value = float(match[1].replace(",", "").replace("−", "-")) / (100.0 if match[2] else 1.0)
    return value if math.isfinite(value) else None


def stated_direction(text: str) -> int | None:
    """The last recommendation in the reasoning: 1 raise, -1 lower, 0 no direction, None if there is none.

    A rough reading by keywords; a negated verb ("do not increase the bids") counts for nothing.
    """
    found = _MOVE.finditer(_BLOCK["answer"].sub(" ", text))
    moves = [0 if m["none"] else 1 if m["up"] or m["raised"] else -1 for m in found if not (m["negation"] or m["kept"])]
    return moves[-1] if moves else None


@dataclass(frozen=True)
class Case:
    """One text, and what :func:`parse` must make of it."""

    kind: str  # "form", "answer", "ratio", "cut off" or "reasoning": which part of the reading it tries
    name: str  # short description
    text: str  # the model's
    status: Status  # expected
    direction: int | None  # expected, in {-1, 0, 1}; None where no single valid answer is given
    true_ratio: float | None = 0.66  # CPA ratio at the time of the prompt; None without a conversion
    truncated: bool = False  # whether the token limit ended the text
    contradiction: bool = False  # whether the answer moves the bid against the reasoning

    def read(self, *, ratio_required: bool = True) -> Parsed:
        """What the parser makes of it."""
        true_ratio = float("nan") if self.true_ratio is None else self.true_ratio
        return parse(self.text, true_ratio, ratio_required=ratio_required, truncated=self.truncated)


# What language models write where a ratio and a direction were asked for: a text is believed where it can be read in
# one way only; whatever a reader would have to guess is rejected.
_ROWS = json.loads(Path(__file__).with_name("gallery.json").read_text(encoding="utf-8"))
CASES: tuple[Case, ...] = tuple(Case(**row | {"status": Status(row["status"])}) for row in _ROWS)

"""What language models write where a ratio and a direction were asked for: a gallery with the verdict on each (A.3).

They are in ``gallery.json``. A text is believed where it can be read in one way only: spaces, signs and a percent sign
change nothing; anything that a reader would have to guess is rejected.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from lbm_core.think.parse import Parsed, Status, parse


@dataclass(frozen=True)
class Case:
    """One text, and what :func:`lbm_core.think.parse.parse` must make of it."""

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


_ROWS = json.loads(Path(__file__).with_name("gallery.json").read_text(encoding="utf-8"))
CASES: tuple[Case, ...] = tuple(Case(**row | {"status": Status(row["status"])}) for row in _ROWS)

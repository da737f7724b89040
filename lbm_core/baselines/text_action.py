"""A language model that writes alpha as text (Table 2's Prompting, SFT and GRPO): its parser and its bidder."""

import re
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lbm_core.auction.bidder import Advertisers, Observation
from lbm_core.auction.mechanism import LEAST_BUDGET
from lbm_core.baselines.text_config import AskConfig
from lbm_core.baselines.text_prompt import text_prompt
from lbm_core.think.generate import Backend, generate
from lbm_core.think.prompt import prompt_facts


class TextStatus(StrEnum):
    """Why a text was followed or not; the first that applies, in this order."""

    TRUNCATED = "truncated"  # the token limit was hit before the tag was closed
    NO_ALPHA = "no alpha"
    SEVERAL_ALPHAS = "several alphas"
    NOT_A_NUMBER = "alpha not a number"
    OUT_OF_RANGE = "alpha out of range"
    ACCEPTED = "accepted"


class TextAction(NamedTuple):
    """What a text says."""

    alpha: float | None  # currency per conversion; None unless accepted
    status: TextStatus

    @property
    def accepted(self) -> bool:
        """Whether the bidder follows it."""
        return self.status is TextStatus.ACCEPTED


_BLOCK = re.compile(r"<\s*alpha\s*>(.*?)<\s*/\s*alpha\s*>", re.DOTALL)
_OPENING = re.compile(r"<\s*alpha\s*>")
# A plain decimal number and nothing else: no unit, no percent sign, no calculation.
_NUMBER = re.compile(r"[+\-−]?(?:\d{1,3}(?:,\d{3})+(?:\.\d*)?|\d+(?:\.\d*)?|\.\d+)", re.ASCII)


def parse_alpha(text: str, limit: float, *, truncated: bool = False) -> TextAction:
    """Read alpha from a text (without the prompt): exactly one tag, one plain number in it, in (0, limit].

    ``limit`` is the largest alpha accepted, currency per conversion; ``truncated`` texts stopped at their token limit.
    """
    if not limit > 0:
        raise ValueError(f"the largest alpha must be positive; got {limit}")
    blocks, openings = _BLOCK.findall(text), len(_OPENING.findall(text))
    if not blocks:
        return TextAction(None, TextStatus.TRUNCATED if truncated or openings else TextStatus.NO_ALPHA)
    if len(blocks) > 1 or openings > 1:
        return TextAction(None, TextStatus.SEVERAL_ALPHAS)
    written = blocks[0].strip()
    if not _NUMBER.fullmatch(written):
        return TextAction(None, TextStatus.NOT_A_NUMBER)
    alpha = float(written.replace(",", "").replace("−", "-"))
    if not 0 < alpha <= limit:
        return TextAction(None, TextStatus.OUT_OF_RANGE)
    return TextAction(alpha, TextStatus.ACCEPTED)


class TextActionBidder:
    """Bids what a language model writes, asked as ``ask`` says; ``limit`` is the largest alpha accepted.

    The first alpha of the day is the CPA target, as LBM-Act's. In between two questions, and where a text is not
    accepted, the last alpha stays. Whoever has no budget left is not asked. Texts found in the jsonl file ``store`` are
    reused.
    """

    def __init__(
        self, backend: Backend, limit: float, ask: AskConfig | None = None, *, seed: int = 0, store: Path | None = None
    ) -> None:
        self.backend, self.limit, self.ask = backend, limit, ask or AskConfig()
        self.seed, self.store = seed, store
        self._rows: list[dict[str, Any]] = []

    def reset(self, advertisers: Advertisers) -> None:
        """Start a period for n advertisers."""
        self.advertisers = advertisers
        self._alphas = advertisers.cpa_target.copy()

    def act(self, observation: Observation) -> NDArray[np.float64]:
        """(n,) alpha, currency per conversion."""
        if observation.tick >= 1 and observation.tick % self.ask.every == 0:
            able = np.flatnonzero(self.advertisers.budget - observation.costs.sum(axis=1) >= LEAST_BUDGET)
            if len(able):
                self._ask(observation[able], able)
        return self._alphas.copy()

    def _ask(self, observation: Observation, rows: NDArray[np.int64]) -> None:
        facts = prompt_facts(observation, self.advertisers[rows])
        prompts = [text_prompt(fact, self.backend.tokenizer, self.ask.style) for fact in facts]
        sampling = self.ask.sampling
        groups = generate(prompts, 1, self.backend, sampling, seed=self.seed, store=self.store, progress=False)
        for row, fact, (text,) in zip(rows, facts, groups, strict=True):
            read = parse_alpha(text.text, self.limit, truncated=text.truncated)
            asked = {"advertiser": int(self.advertisers.index[row]), "tick": fact.tick, "last_alpha": self._alphas[row]}
            alpha = np.nan if read.alpha is None else read.alpha
            told = {"alpha": alpha, "cpa_target": fact.cpa_target, "status": read.status.value}
            wrote = {"tokens": text.tokens, "seconds": text.seconds, "text": text.text}
            self._rows.append(asked | told | wrote)
            if read.alpha is not None:
                self._alphas[row] = read.alpha

    @property
    def consultations(self) -> pd.DataFrame:
        """One row per text so far: advertiser, tick, last_alpha, alpha (NaN if not accepted), status, …"""
        return pd.DataFrame(self._rows)

"""LBM-Think in charge of LBM-Act: the guides of a running day (Eq. 3, Fig. 4)."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lbm_core.act.guides import sentences
from lbm_core.auction.bidder import Advertisers, Observation
from lbm_core.auction.mechanism import LEAST_BUDGET
from lbm_core.think.config import MARGIN, Reading, ThinkConfig
from lbm_core.think.generate import Backend, Generation, generate
from lbm_core.think.parse import Parsed, parse_groups, parsed_row
from lbm_core.think.prompt import prompt_facts, render


def as_read(text: Generation, parsed: Parsed, reading: Reading) -> NDArray[np.float64]:
    """(3,) chances of -1, 0 and 1 that a text speaks for; a rejected one for 0.

    ValueError where the reading needs the chances of its answer, and the backend did not tell them.
    """
    direction = parsed.direction if parsed.accepted and parsed.direction is not None else 0
    if parsed.accepted and reading != "word":
        if text.chances is None:
            raise ValueError(f"the reading {reading!r} needs the chances of answers, which this backend does not tell")
        if reading == "expected":
            return np.array(text.chances)
        lead = text.chances[2] - text.chances[0]
        surer = np.sign(lead) if abs(lead) > MARGIN else 0
        direction = int(surer if reading == "margin" else np.argmax(text.chances) - 1)
    return np.eye(3)[1 + direction]


class ThinkGuide:
    """Guide source for :class:`lbm_core.act.decide.LBMActBidder` that asks LBM-Think.

    The prompt for tick t holds ticks before t only, so that its text could be written during the interval before. Text
    that fails the hallucination check is "uncertain", and so are advertisers without budget, who are not asked about,
    and all ticks between two consultations (:class:`lbm_core.think.delay.Delayed` can hold the last word). Texts found
    in the jsonl file ``store`` are not written again.

    Differs from the paper where ``config.every`` is not 1: there LBM-Think speaks at every tick.
    """

    def __init__(
        self, backend: Backend, config: ThinkConfig | None = None, *, seed: int = 0, store: Path | None = None
    ) -> None:
        self.backend, self.config, self.seed, self.store = backend, config or ThinkConfig(), seed, store
        self.every = self.config.every  # ticks between two consultations
        self._rows: list[dict[str, Any]] = []

    def __call__(self, observation: Observation, advertisers: Advertisers) -> list[str]:
        """Guides of all advertisers for the observation's tick."""
        return sentences(self.chances(observation, advertisers).argmax(axis=1) - 1)

    def chances(self, observation: Observation, advertisers: Advertisers) -> NDArray[np.float64]:
        """(n, 3) chances of -1, 0 and 1 at the observation's tick, for :class:`~lbm_core.act.guides.ExpectedMove`; all
        on one direction unless the reading is "expected"."""
        chances = np.tile([0.0, 1.0, 0.0], (len(advertisers), 1))
        if observation.tick >= 1 and observation.tick % self.every == 0:
            able = np.flatnonzero(advertisers.budget - observation.costs.sum(axis=1) >= LEAST_BUDGET)
            if len(able):
                chances[able] = self._ask(observation[able], advertisers[able])
        return chances

    def _ask(self, observation: Observation, advertisers: Advertisers) -> list[NDArray[np.float64]]:
        """What one chain of thought each speaks for: chances of -1, 0 and 1."""
        config, facts = self.config, prompt_facts(observation, advertisers)
        prompts = [render(fact, self.backend.tokenizer, config.style) for fact in facts]
        groups = generate(prompts, 1, self.backend, config.sampling, seed=self.seed, store=self.store, progress=False)
        parsed = parse_groups(groups, facts, tolerance=config.tolerance, ratio_required=config.ratio_required)
        chances = []
        for index, fact, (text,), (read,) in zip(advertisers.index, facts, groups, parsed, strict=True):
            row = parsed_row(fact, text, read)
            self._rows.append({"advertiser": int(index), **row, "last_alpha": fact.alphas[-1], "text": text.text})
            chances.append(as_read(text, read, config.reading))
        return chances

    @property
    def consultations(self) -> pd.DataFrame:
        """One row per consultation so far: advertiser, columns of :func:`parsed_row`, last_alpha, text."""
        return pd.DataFrame(self._rows)

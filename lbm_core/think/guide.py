"""LBM-Think in charge of LBM-Act: the guides of a running day (Eq. 3, Fig. 4)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from lbm_core.act.guides import SENTENCES, UNCERTAIN
from lbm_core.auction.bidder import N_TICKS, Advertisers, Observation
from lbm_core.think.generate import Backend, Sampling, generate
from lbm_core.think.parse import TOLERANCE, parse
from lbm_core.think.prompt import PromptStyle, prompt_facts, render

SMALLEST_BUDGET = 0.1  # currency; whoever has less cannot bid (the benchmark's rule)


class ThinkGuide:
    """Guide source for :class:`lbm_core.act.decide.LBMActBidder` that asks LBM-Think.

    The prompt for tick t holds ticks before t only, so that its text could be written during the interval before.
    A text that does not pass the hallucination check becomes "uncertain", and so does an advertiser whose budget is
    used up: it is not asked about.

    Differs from the paper: there LBM-Think speaks at every tick (``think_every=1``).

    Parameters
    ----------
    backend : the language model
    sampling : how texts are drawn
    style : of the prompt
    think_every : ticks between two consultations, >= 1; the first is at tick ``think_every`` (tick 0 has no past)
    between : guide of the ticks between two consultations: "uncertain", or "hold" the last one
    tolerance, ratio_required : of :func:`lbm_core.think.parse.parse`
    pass_text : hand the whole text to an LBM-Act trained with ``guide="cot"`` instead of a sentence
    seed : of the texts
    store : jsonl file of all texts; those found there are not written again
    """

    def __init__(
        self,
        backend: Backend,
        sampling: Sampling | None = None,
        style: PromptStyle | None = None,
        *,
        think_every: int = 1,
        between: Literal["uncertain", "hold"] = "uncertain",
        tolerance: float = TOLERANCE,
        ratio_required: bool = True,
        pass_text: bool = False,
        seed: int = 0,
        store: Path | None = None,
    ) -> None:
        if not 1 <= think_every <= N_TICKS:
            raise ValueError(f"think_every must lie in 1..{N_TICKS}; got {think_every}")
        if between not in ("uncertain", "hold"):
            raise ValueError(f"between must be 'uncertain' or 'hold'; got {between!r}")
        self.between = between
        self.backend, self.sampling, self.style = backend, sampling or Sampling(), style
        self.think_every, self.tolerance, self.ratio_required = think_every, tolerance, ratio_required
        self.pass_text, self.seed, self.store = pass_text, seed, store
        self._said: list[dict] = []
        self._held: list[str] = []  # each advertiser's last guide of the day
        self._tick = 0

    def __call__(self, observation: Observation, advertisers: Advertisers) -> list[str]:
        """Guides of all advertisers for the observation's tick."""
        if observation.tick <= self._tick:  # a new day
            self._held = []
        self._tick = observation.tick
        if observation.tick < 1 or observation.tick % self.think_every:
            return self._held if self.between == "hold" and self._held else [UNCERTAIN] * len(advertisers)
        guides = np.full(len(advertisers), UNCERTAIN, dtype=object)
        able = np.flatnonzero(advertisers.budget - observation.costs.sum(axis=1) >= SMALLEST_BUDGET)
        if len(able):
            guides[able] = self._ask(observation[able], advertisers[able])
        self._held = guides.tolist()
        return self._held

    def _ask(self, observation: Observation, advertisers: Advertisers) -> list[str]:
        """Guides from one chain of thought each."""
        facts = prompt_facts(observation, advertisers)
        prompts = [render(fact, self.backend.tokenizer, self.style) for fact in facts]
        groups = generate(prompts, 1, self.backend, self.sampling, seed=self.seed, store=self.store, progress=False)
        guides = []
        for index, fact, (text,) in zip(advertisers.index, facts, groups, strict=True):
            read = parse(
                text.text,
                fact.true_ratio,
                self.tolerance,
                ratio_required=self.ratio_required,
                truncated=text.truncated,
            )
            followed = read.direction if read.accepted else None
            self._said.append(
                {
                    "advertiser": int(index),
                    "tick": fact.tick,
                    "true_ratio": fact.true_ratio,
                    "ratio": read.ratio,
                    "direction": read.direction,
                    "status": read.status.value,
                    "last_alpha": fact.alphas[-1],
                    "tokens": text.tokens,
                    "seconds": text.seconds,
                    "text": text.text,
                }
            )
            if followed is None:
                guides.append(UNCERTAIN)
            else:
                guides.append(text.text if self.pass_text else SENTENCES[followed])
        return guides

    @property
    def said(self) -> pd.DataFrame:
        """One row per consultation so far: advertiser, tick, true_ratio, ratio, direction, status, last_alpha, …"""
        return pd.DataFrame(self._said)

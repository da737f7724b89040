"""LBM-Think in charge of LBM-Act: the guides of a running day (Eq. 3, Fig. 4)."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from lbm_core.act.guides import SENTENCES, UNCERTAIN
from lbm_core.auction.bidder import N_TICKS, Advertisers, Observation
from lbm_core.think.generate import Backend, Sampling, generate
from lbm_core.think.parse import TOLERANCE, parse
from lbm_core.think.prompt import PromptStyle, prompt_facts, render


class ThinkGuide:
    """Guide source for :class:`lbm_core.act.decide.LBMActBidder` that asks LBM-Think.

    The prompt for tick t holds ticks before t only, so that its text could be written during the interval before.
    A text that does not pass the hallucination check becomes "uncertain", and so does every tick between two
    consultations.

    Differs from the paper: there LBM-Think speaks at every tick (``think_every=1``).

    Parameters
    ----------
    backend : the language model
    sampling : how texts are drawn
    style : of the prompt
    think_every : ticks between two consultations, >= 1; the first is at tick ``think_every`` (tick 0 has no past)
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
        tolerance: float = TOLERANCE,
        ratio_required: bool = True,
        pass_text: bool = False,
        seed: int = 0,
        store: Path | None = None,
    ) -> None:
        if not 1 <= think_every <= N_TICKS:
            raise ValueError(f"think_every must lie in 1..{N_TICKS}; got {think_every}")
        self.backend, self.sampling, self.style = backend, sampling or Sampling(), style
        self.think_every, self.tolerance, self.ratio_required = think_every, tolerance, ratio_required
        self.pass_text, self.seed, self.store = pass_text, seed, store
        self._said: list[dict] = []

    def __call__(self, observation: Observation, advertisers: Advertisers) -> list[str]:
        """Guides of all advertisers for the observation's tick."""
        if observation.tick < 1 or observation.tick % self.think_every:
            return [UNCERTAIN] * len(advertisers)
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

"""Guides that come late or not at all: what asynchrony does to a guide source (Fig. 4, A.2).

A chain of thought that is used at tick t and was written *during* an earlier interval can only know what was known
when its writing began. Fig. 4 lets it begin at t - 1: at that moment the outcome of tick t - 1 is still to come.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lbm_core.act.guides import UNCERTAIN, GuideSource
from lbm_core.auction.bidder import N_TICKS, Advertisers, Observation
from lbm_core.auction.state import FEATURES
from lbm_core.seeding import generator

_COUNT_NOW = FEATURES.index("current_pv_num")


class Delayed:
    """Passes on what a guide source says, ``late`` ticks after it was asked, or never (Fig. 4).

    The source is asked at tick t with what is known at its start, the outcomes of ticks before t. Its words arrive at
    tick t + late: ``late=1`` is Fig. 4, asked at t - 1 and used at t; more means that writing outlasts the interval.

    Common random numbers: whose words go missing depends on the seed, the day, the tick and the advertiser only, so a
    word that is missing at one share is missing at every larger one, whatever the guide or its lateness.

    Parameters
    ----------
    source : guides of all advertisers at a tick, e.g. :class:`lbm_core.think.think_guide.ThinkGuide`
    late : ticks from question to use, 0..47
    missing : probability in [0, 1] that a word never arrives
    until : what holds for an advertiser while nothing new has arrived: "uncertain", or "last", its last word of the day
    every : ask at every k-th tick only: a machine that needs several ticks for all texts, and begins with the next
        ones when it is done
    seed : of what goes missing

    Raises
    ------
    ValueError
        A lateness, probability, interval or ``until`` outside its range.
    """

    def __init__(
        self,
        source: GuideSource,
        late: int = 1,
        missing: float = 0.0,
        until: Literal["uncertain", "last"] = "uncertain",
        *,
        every: int = 1,
        seed: int = 0,
    ) -> None:
        if not (0 <= late < N_TICKS and 1 <= every <= N_TICKS and 0.0 <= missing <= 1.0):
            raise ValueError(
                f"late must lie in 0..{N_TICKS - 1} ticks, every in 1..{N_TICKS}, and missing is a probability; got "
                f"{late}, {every} and {missing}"
            )
        if until not in ("uncertain", "last"):
            raise ValueError(f"until must be 'uncertain' or 'last'; got {until!r}")
        self.source, self.late, self.missing, self.until = source, late, missing, until
        self.every, self.seed = every, seed
        self._pending: dict[int, list[str]] = {}  # words by the tick at which they were asked for
        self._last: list[str] = []
        self._tick = 0

    def __call__(self, observation: Observation, advertisers: Advertisers) -> list[str]:
        """Guides that have arrived by the observation's tick."""
        tick = observation.tick
        if tick <= self._tick:  # a new day
            self._pending, self._last = {}, []
        self._tick = tick
        if tick % self.every == 0:
            self._pending[tick] = self.source(observation, advertisers)
        held = self._last or [UNCERTAIN] * len(advertisers)
        words = self._pending.pop(tick - self.late, None)
        if words is None:
            words, came = held, np.zeros(len(advertisers), dtype=bool)
        else:
            came = ~lost(observation, advertisers, tick - self.late, self.missing, self.seed)
        self._last = [new if there else old for new, there, old in zip(words, came, held, strict=True)]
        if self.until == "last":
            return list(self._last)
        return [new if there else UNCERTAIN for new, there in zip(words, came, strict=True)]


def lost(observation: Observation, advertisers: Advertisers, tick: int, missing: float, seed: int) -> NDArray[np.bool_]:
    """Whose words of a tick never arrive.

    Parameters
    ----------
    observation : of the same day; its first tick's number of impressions tells days apart
    tick : at which the words were asked for
    missing : probability

    Returns
    -------
    (n,) bool
    """
    day = int(observation.states[0, 0, _COUNT_NOW])
    drawn = generator(seed, "evaluation", 6, day, tick).random(int(advertisers.index.max()) + 1)
    return drawn[advertisers.index] < missing

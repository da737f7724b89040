"""Guides that come late, not at all or wrong: what asynchrony (Fig. 4, A.2) and errors do to a guide source.

A chain of thought used at tick t and written *during* an earlier interval knows only what was known when its writing
began. Fig. 4 lets it begin at t - 1: the outcome of tick t - 1 is then still to come.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lbm_core.act.guide_sources import random_directions
from lbm_core.act.guides import UNCERTAIN, GuideSource
from lbm_core.auction.bidder import N_TICKS, Advertisers, Observation
from lbm_core.auction.state import FEATURES
from lbm_core.seeding import generator


class Delayed:
    """Passes on what a guide source says, ``late`` ticks after it was asked, or never (Fig. 4).

    The source, e.g. :class:`lbm_core.think.think_guide.ThinkGuide`, is asked with the outcomes of ticks before.
    ``late`` is in 0..47: 1 is Fig. 4, more means that writing outlasts the interval; ``missing`` is the probability
    that a word never arrives. Until something new has, "uncertain" or the "last" word of the day holds. It asks at
    ``every`` k-th tick only: a machine that needs so many for all texts, and then begins with the next ones.
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
            ranges = f"late must lie in 0..{N_TICKS - 1} ticks, every in 1..{N_TICKS}, and missing is a probability"
            raise ValueError(f"{ranges}; got {late}, {every} and {missing}")
        if until not in ("uncertain", "last"):
            raise ValueError(f"until must be 'uncertain' or 'last'; got {until!r}")
        self.source, self.late, self.missing, self.until = source, late, missing, until
        self.every, self.seed, self._tick = every, seed, N_TICKS

    def __call__(self, observation: Observation, advertisers: Advertisers) -> list[str]:
        """Guides that have arrived by the observation's tick."""
        tick, unsure = observation.tick, np.full(len(advertisers), UNCERTAIN, dtype=object)
        if tick <= self._tick:  # a new day
            self._pending: dict[int, list[str]] = {}  # words by the tick at which they were asked for
            self._last = unsure
        self._tick = tick
        if tick % self.every == 0:
            self._pending[tick] = self.source(observation, advertisers)
        question = tick - self.late
        words = self._pending.pop(question, None)
        if words is None:
            return (self._last if self.until == "last" else unsure).tolist()
        never = lost(observation, advertisers, question, self.missing, self.seed)
        self._last = np.where(never, self._last, words)
        return (self._last if self.until == "last" else np.where(never, unsure, words)).tolist()


def mistaken(source: GuideSource, share: float, seed: int = 0) -> GuideSource:
    """A guide source, a share of whose words are drawn from all three at random: what errors without a bias cost."""
    drawn = random_directions(seed, (1 / 3, 1 / 3, 1 / 3))

    def words(observation: Observation, advertisers: Advertisers) -> list[str]:
        wrong = lost(observation, advertisers, observation.tick, share, seed)
        return np.where(wrong, drawn(observation, advertisers), source(observation, advertisers)).tolist()

    return words


def lost(observation: Observation, advertisers: Advertisers, tick: int, missing: float, seed: int) -> NDArray[np.bool_]:
    """(n,) whether words asked for at a tick never arrive, as with probability ``missing``.

    Common random numbers: it depends on the seed, the day (told by its first tick's number of impressions), the tick
    and the advertiser only, so a word that is missing at one share is missing at every larger one, whatever the guide
    or its lateness.
    """
    day = int(observation.states[0, 0, FEATURES.index("current_pv_num")])
    drawn = generator(seed, "evaluation", 6, day, tick).random(int(advertisers.index.max()) + 1)
    return drawn[advertisers.index] < missing

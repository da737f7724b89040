"""Who may lead LBM-Act besides LBM-Think: does a chain of thought tell it more than these do?

Each is a ``GuideSource``: called with what may be known at a tick, it gives one sentence per advertiser. "None" is
:func:`lbm_core.act.guides.uninstructed`; a critic's is :class:`lbm_core.baselines.critic_search.CriticSearch`.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lbm_core.act.decide import LBMActBidder
from lbm_core.act.dual_embedding import LBMAct
from lbm_core.act.guides import UNCERTAIN, GuideSource, directions, sentences
from lbm_core.auction.bidder import N_TICKS, Advertisers, Observation
from lbm_core.auction.controls import even_plan, pacing_error
from lbm_core.auction.hindsight import best_constant
from lbm_core.auction.replay import ReplayPeriod
from lbm_core.auction.response_tables import ResponseTables
from lbm_core.seeding import generator

CLOSE = 0.02  # |log(alpha* / alpha)| up to which the oracle is content: "uncertain"


def constant(direction: int) -> GuideSource:
    """The same direction, -1, 0 or 1, for everyone at every tick (Table 4)."""
    sentences([direction])  # a wrong direction is refused now
    return lambda observation, advertisers: sentences([direction] * len(advertisers))


def random_directions(seed: int = 0, shares: Sequence[float] | None = None) -> GuideSource:
    """Increase or decrease by the toss of a coin; the same for an advertiser and tick in every run of a seed.

    ``shares`` are the chances of -1, 0 and 1, in sum 1; None: a half, none, a half.
    """
    if shares is not None and (len(shares) != 3 or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6):
        raise ValueError(f"shares must be three chances that sum to 1; got {tuple(shares)}")

    def source(observation: Observation, advertisers: Advertisers) -> list[str]:
        rng, count = generator(seed, "evaluation", 4, observation.tick), advertisers.index.max() + 1
        tossed = 2 * rng.integers(2, size=count) - 1 if shares is None else rng.choice((-1, 0, 1), size=count, p=shares)
        return sentences(tossed[advertisers.index])

    return source


def spend_rate_rule(
    *, dead_band: float = 0.1, lowest: float = 0.5, highest: float = 1.2, memory: int = 3
) -> GuideSource:
    """Spending projected at the rate of the last ticks: too fast, decrease; too slow, increase.

    The rate is measured against an even share of the budget *left* at each tick, so nothing winds up, and alpha is
    kept in a band: in a replay a bid of alpha pays at most alpha per conversion, so its upper edge guards the target.

    Parameters
    ----------
    dead_band : |log(spent / planned)| up to this is on plan: "uncertain"
    lowest, highest : band of the last alpha / C; beyond it the direction is back into it
    memory : ticks over which the rate is taken
    """
    plan = even_plan()

    def source(observation: Observation, advertisers: Advertisers) -> list[str]:
        error = pacing_error(observation, advertisers.budget, plan, memory)
        direction = np.where(np.abs(error) > dead_band, -np.sign(error), 0)
        ratio = observation.alphas[:, -1] / advertisers.cpa_target
        direction = direction.clip(np.where(ratio <= lowest, 0, -1), np.where(ratio >= highest, 0, 1))
        direction[ratio > highest * np.exp(dead_band)] = -1
        direction[ratio < lowest * np.exp(-dead_band)] = 1
        return sentences(direction)

    return source


def cumulative_rule() -> GuideSource:
    """Errors since the day's start: over the target, decrease; else behind an even plan, increase, ahead, decrease.

    What a first attempt looks like, and a warning: after a slow start it calls "increase" until the whole backlog is
    spent, however high alpha has climbed by then (integral wind-up).
    """
    due = np.cumsum(even_plan())

    def source(observation: Observation, advertisers: Advertisers) -> list[str]:
        spent, count = observation.costs.sum(axis=1), observation.conversions.sum(axis=1)
        behind = np.sign(due[observation.tick - 1] * advertisers.budget - spent)
        return sentences(np.where(spent > count * advertisers.cpa_target, -1, behind))

    return source


def every(k: int, source: GuideSource) -> GuideSource:
    """Ask a source at every k-th tick only (ticks k, 2k, …; k in 1..48, else ValueError); "uncertain" in between."""
    if not 1 <= k <= N_TICKS:
        raise ValueError(f"a guide may speak at every tick, or at every k-th up to {N_TICKS}; got {k}")

    def thinned(observation: Observation, advertisers: Advertisers) -> list[str]:
        return [UNCERTAIN] * len(advertisers) if observation.tick % k else source(observation, advertisers)

    return thinned


def until(level: float, source: GuideSource) -> GuideSource:
    """Pass a source's direction on only until alpha has got there; "uncertain" beyond.

    A constant word then names a level, "up to 1.2 times the target", instead of a move that is repeated all day:
    "increase" holds up to level * C, "decrease" down to C / level, with level > 1.
    """
    if not level > 1:
        raise ValueError(f"a level is a factor above 1, on the CPA target; got {level}")

    def stopped(observation: Observation, advertisers: Advertisers) -> list[str]:
        direction = np.array(directions(source(observation, advertisers)))
        way = np.log(np.maximum(observation.alphas[:, -1], 1e-9) / advertisers.cpa_target) * direction
        return sentences(np.where(way < np.log(level), direction, 0))

    return stopped


class Foresight(ABC):
    """A guide that knows the replayed day: an upper reference, not a method."""

    _day: ResponseTables | None = None

    def foresee(self, period: ReplayPeriod | ResponseTables) -> None:
        """Look at the day that will be replayed."""
        self._day = period if isinstance(period, ResponseTables) else ResponseTables.from_period(period)

    @property
    def day(self) -> ResponseTables:
        """What was foreseen; RuntimeError where nothing was: prices that react to bids cannot be."""
        if self._day is None:
            raise RuntimeError("an oracle knows replayed days only, and none was shown to it")
        return self._day

    @abstractmethod
    def __call__(self, observation: Observation, advertisers: Advertisers) -> list[str]:
        """One sentence per advertiser; RuntimeError as of :attr:`day`."""


class Oracle(Foresight):
    """Points toward the constant alpha with the best score in hindsight.

    In a replay the data's next move, which trained LBM-Act, does not exist, because the bidder has left the logged
    path. So the oracle's direction is sign(alpha* - alpha_{t-1}), with alpha* the best constant of the day for each
    advertiser (:func:`lbm_core.auction.hindsight.best_constant`). Within :data:`CLOSE` of it the direction is
    "uncertain".
    """

    _best: tuple[ResponseTables, NDArray[np.float64], NDArray[np.float64]] | None = None  # day, budgets, their alpha*

    def __call__(self, observation: Observation, advertisers: Advertisers) -> list[str]:
        best = self._best
        if best is None or best[0] is not self.day or not np.array_equal(best[1], advertisers.budget):
            best = self._best = self.day, advertisers.budget, best_constant(self.day, advertisers).alpha
        distance = np.log(best[2] / np.maximum(observation.alphas[:, -1], 1e-9))
        return sentences(np.where(np.abs(distance) > CLOSE, np.sign(distance), 0))


class OracleBidder(LBMActBidder):
    """LBM-Act led by a :class:`Foresight`, which sees each period before it is replayed.

    ``source`` passes the oracle's words on, e.g. ``every(2, oracle)``; default the oracle itself.
    """

    def __init__(self, model: LBMAct, oracle: Foresight, source: GuideSource | None = None, **options: Any) -> None:
        super().__init__(model, source or oracle, **options)
        self.oracle = oracle

    def foresee(self, period: ReplayPeriod | ResponseTables) -> None:
        """Look at a period; :func:`lbm_core.evaluation.runner.evaluate` shows it."""
        self.oracle.foresee(period)

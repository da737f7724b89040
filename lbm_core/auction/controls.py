"""Control bidders (§4.1): what nobody should lose to. All of them bid for n advertisers at once.

Parameters are scalars, or (n,) arrays with one value per advertiser. Except for the advertisers given at ``reset``
they remember nothing: the next alpha follows from the observation alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lbm_core.auction.bidder import N_TICKS, Advertisers, Bidder, Observation
from lbm_core.auction.response_tables import ResponseTables

ERROR_LIMIT = 1.0  # log errors are clipped to +-1: "more than e times too much" is all a control needs to know
_BUDGET_LEFT = 1  # column of the state
_PRIOR_CONVERSIONS = 2.0  # conversions at exactly the target that the CPA so far is smoothed with


class _Control:
    """Keeps the advertisers and gives parameters their shape."""

    advertisers: Advertisers

    def reset(self, advertisers: Advertisers) -> None:
        """Start a period for n advertisers."""
        self.advertisers = advertisers

    def _each(self, parameter: ArrayLike) -> NDArray[np.float64]:
        values = np.asarray(parameter, dtype=np.float64)
        n = len(self.advertisers)
        if values.ndim and values.shape != (n,):
            raise ValueError(f"a parameter has shape {values.shape}; there are {n} advertisers")
        return np.broadcast_to(values, (n,))


class ConstantAlpha(_Control):
    """alpha = multiplier * CPA target at every tick."""

    def __init__(self, multiplier: ArrayLike = 1.0) -> None:
        self.multiplier = multiplier

    def act(self, observation: Observation) -> NDArray[np.float64]:
        """(n,) alpha."""
        return self._each(self.multiplier) * self.advertisers.cpa_target


class ScheduledAlpha(_Control):
    """Plays given alphas: a logged trajectory, or one with a tick changed (counterfactuals).

    Parameters
    ----------
    alphas : (n, 48) currency per conversion, >= 0
    """

    def __init__(self, alphas: ArrayLike) -> None:
        self.alphas = np.asarray(alphas, dtype=np.float64)

    def act(self, observation: Observation) -> NDArray[np.float64]:
        """(n,) alpha of the schedule."""
        if self.alphas.shape != (len(observation), N_TICKS):
            raise ValueError(f"the schedule has shape {self.alphas.shape}; expected ({len(observation)}, {N_TICKS})")
        return self.alphas[:, observation.tick]


def pacing_error(
    observation: Observation, budget: NDArray[np.float64], plan: NDArray[np.float64], memory: int = 3, lag: int = 0
) -> NDArray[np.float64]:
    """Log of spending over planned spending in the last ticks; > 0 when too fast, 0 before the first tick ends.

    The plan of a tick is its share of the budget left at its start.

    Parameters
    ----------
    observation : n advertisers at tick t
    budget : (n,) currency per period
    plan : (48,) share of the budget meant for each tick
    memory : ticks looked at, >= 1
    lag : look at the error as it was ``lag`` ticks earlier

    Returns
    -------
    (n,) in [-1, 1]
    """
    stop = observation.tick - lag
    if stop <= 0:
        return np.zeros(len(budget))
    span = slice(max(stop - memory, 0), stop)
    still_planned = np.cumsum(plan[::-1])[::-1]
    left = observation.states[:, span, _BUDGET_LEFT] * budget[:, None]
    planned = (left * (plan / still_planned)[span]).sum(axis=1)
    spent = observation.costs[:, span].sum(axis=1)
    tiny = 1e-6 * budget
    return np.clip(np.log((spent + tiny) / (planned + tiny)), -ERROR_LIMIT, ERROR_LIMIT)


def cpa_error(observation: Observation, cpa_target: NDArray[np.float64], lag: int = 0) -> NDArray[np.float64]:
    """Log of the CPA so far over its target, smoothed with two conversions at the target; > 0 when too expensive.

    Returns
    -------
    (n,) in [-1, 1]
    """
    stop = max(observation.tick - lag, 0)
    spent = observation.costs[:, :stop].sum(axis=1)
    count = observation.conversions[:, :stop].sum(axis=1)
    paid = (spent + _PRIOR_CONVERSIONS * cpa_target) / (count + _PRIOR_CONVERSIONS)
    return np.clip(np.log(paid / cpa_target), -ERROR_LIMIT, ERROR_LIMIT)


def even_plan() -> NDArray[np.float64]:
    """(48,) the same spending in every tick."""
    return np.full(N_TICKS, 1.0 / N_TICKS)


class PidBidder(_Control):
    """PID controller on the log of alpha, in velocity form, so that nothing winds up.

    The error is spending against plan, or, while the CPA so far misses its target, that (weighted) if it is larger.
    log alpha moves by -(proportional * change of error + integral * error + derivative * change of change), at most
    from x0.7 to x1.2 a tick.

    Parameters
    ----------
    opening : first alpha / CPA target
    proportional, integral, derivative : gains on log errors, >= 0
    cpa_weight : 0 ignores the CPA target, 1 weighs it like the budget
    step_down, step_up : largest move per tick, factors
    lowest, highest : bounds of alpha / CPA target
    memory : ticks over which spending is compared with the plan
    plan : (48,) share of the budget per tick; default even
    """

    def __init__(
        self,
        opening: ArrayLike = 1.0,
        proportional: ArrayLike = 0.1,
        integral: ArrayLike = 0.05,
        derivative: ArrayLike = 0.0,
        cpa_weight: ArrayLike = 1.0,
        step_down: ArrayLike = 0.7,
        step_up: ArrayLike = 1.2,
        lowest: ArrayLike = 0.1,
        highest: ArrayLike = 1.5,
        memory: int = 3,
        plan: ArrayLike | None = None,
    ) -> None:
        self.opening, self.cpa_weight = opening, cpa_weight
        self.proportional, self.integral, self.derivative = proportional, integral, derivative
        self.step_down, self.step_up, self.lowest, self.highest = step_down, step_up, lowest, highest
        self.memory = memory
        self.plan = checked_plan(plan)

    def act(self, observation: Observation) -> NDArray[np.float64]:
        """(n,) alpha."""
        target = self.advertisers.cpa_target
        if observation.tick == 0:
            return self._each(self.opening) * target
        now, before, earlier = (self._error(observation, lag) for lag in range(3))
        move = -(
            self._each(self.proportional) * (now - before)
            + self._each(self.integral) * now
            + self._each(self.derivative) * (now - 2 * before + earlier)
        )
        factor = np.clip(np.exp(move), self._each(self.step_down), self._each(self.step_up))
        bounds = self._each(self.lowest) * target, self._each(self.highest) * target
        return np.clip(observation.alphas[:, -1] * factor, *bounds)

    def _error(self, observation: Observation, lag: int) -> NDArray[np.float64]:
        pace = pacing_error(observation, self.advertisers.budget, self.plan, self.memory, lag)
        priced = self._each(self.cpa_weight) * cpa_error(observation, self.advertisers.cpa_target, lag)
        # Only a missed target overrules the pace: one that is met must not hold back an advertiser that underspends.
        return np.where(priced > 0, np.maximum(pace, priced), pace)


class PacingBidder(_Control):
    """Spend-rate pacing: alpha follows planned over actual spending, and never exceeds ``cap`` times the target.

    Since a replayed impression costs at most alpha per conversion, the cap nearly guarantees the CPA target.

    Parameters
    ----------
    cap : largest alpha / CPA target
    gain : exponent on the ratio of planned to actual spending per tick
    opening : first alpha / CPA target
    memory : ticks over which spending is compared with the plan
    plan : (48,) share of the budget per tick; default even
    """

    def __init__(
        self,
        cap: ArrayLike = 1.2,
        gain: ArrayLike = 0.2,
        opening: ArrayLike = 1.0,
        memory: int = 3,
        plan: ArrayLike | None = None,
    ) -> None:
        self.cap, self.gain, self.opening, self.memory = cap, gain, opening, memory
        self.plan = checked_plan(plan)

    def act(self, observation: Observation) -> NDArray[np.float64]:
        """(n,) alpha."""
        target = self.advertisers.cpa_target
        highest = self._each(self.cap) * target
        if observation.tick == 0:
            return np.minimum(self._each(self.opening) * target, highest)
        error = pacing_error(observation, self.advertisers.budget, self.plan, self.memory)
        return np.minimum(observation.alphas[:, -1] * np.exp(-self._each(self.gain) * error), highest)


class OnlineLpBidder(_Control):
    """Online linear program: at every tick the best threshold for the rest of a typical past day.

    Of the program "maximise value subject to budget and CPA target" over the remaining ticks, with curves averaged
    over past periods, the dual gives alpha: the largest price per conversion that keeps both constraints.

    Parameters
    ----------
    past : response tables of past periods, never of the one bid for
    price_belief : prices expected today / prices of the past
    cap : largest alpha / CPA target
    """

    def __init__(self, past: Sequence[ResponseTables], price_belief: ArrayLike = 1.0, cap: ArrayLike = 3.0) -> None:
        if not past:
            raise ValueError("the online LP needs response tables of at least one past period")
        if any(not np.array_equal(tables.alphas, past[0].alphas) for tables in past):
            raise ValueError("the past periods' response tables have different grids")
        self.price_belief, self.cap = price_belief, cap
        self.grid = past[0].alphas
        # Bought from tick t to the end, (tick, advertiser, grid).
        self._costs = _to_the_end(np.mean([tables.costs for tables in past], axis=0))
        self._values = _to_the_end(np.mean([tables.values for tables in past], axis=0))

    def act(self, observation: Observation) -> NDArray[np.float64]:
        """(n,) alpha."""
        who, tick = self.advertisers, observation.tick
        spent = observation.costs.sum(axis=1)
        count = observation.conversions.sum(axis=1)
        # Dearer prices are the same curve with money, targets and alphas in a larger currency.
        belief = self._each(self.price_belief)
        costs = self._costs[tick, who.index] * belief[:, None]
        values = self._values[tick, who.index]
        left = observation.state[:, _BUDGET_LEFT] * who.budget
        earned = who.cpa_target[:, None] * (count[:, None] + values)
        allowed = (costs <= left[:, None]) & (spent[:, None] + costs <= earned)
        # The largest allowed grid point. CPA trouble can make cheap points infeasible alone: buying more repairs it.
        largest = len(self.grid) - 1 - np.argmax(allowed[:, ::-1], axis=1)
        alpha = np.where(allowed.any(axis=1), self.grid[largest], self.grid[0]) * belief
        return np.minimum(alpha, self._each(self.cap) * who.cpa_target)


class MixedBidder:
    """Different bidders for different advertisers.

    Parameters
    ----------
    parts : (rows, bidder) pairs; rows are positions within the n advertisers, each in exactly one part
    """

    def __init__(self, parts: Sequence[tuple[ArrayLike, Bidder]]) -> None:
        self.parts = [(np.asarray(rows, dtype=np.int64), bidder) for rows, bidder in parts]

    def reset(self, advertisers: Advertisers) -> None:
        """Start a period; every bidder gets its own advertisers."""
        rows = np.sort(np.concatenate([rows for rows, _ in self.parts]))
        if not np.array_equal(rows, np.arange(len(advertisers))):
            raise ValueError(f"the parts do not cover each of the {len(advertisers)} advertisers exactly once")
        for rows, bidder in self.parts:
            bidder.reset(advertisers[rows])

    def act(self, observation: Observation) -> NDArray[np.float64]:
        """(n,) alpha, each from the advertiser's own bidder."""
        alphas = np.empty(len(observation))
        for rows, bidder in self.parts:
            alphas[rows] = bidder.act(observation[rows])
        return alphas


def checked_plan(plan: ArrayLike | None) -> NDArray[np.float64]:
    """A spending plan scaled to sum 1; even where none is given."""
    if plan is None:
        return even_plan()
    values = np.asarray(plan, dtype=np.float64)
    if values.shape != (N_TICKS,) or not (np.isfinite(values).all() and (values > 0).all()):
        raise ValueError(f"a spending plan must be {N_TICKS} positive shares")
    return values / values.sum()


def _to_the_end(curves: NDArray) -> NDArray[np.float64]:
    return np.cumsum(curves[::-1], axis=0, dtype=np.float64)[::-1]

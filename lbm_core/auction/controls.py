"""Control bidders (§4.1): what nobody should lose to. All of them bid for n advertisers at once.

Parameters are scalars, or (n,) arrays with one value per advertiser. Except for the advertisers given at ``reset``
they remember nothing: the next alpha follows from the observation alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lbm_core.auction.bidder import N_TICKS, Advertisers, Observation
from lbm_core.auction.response_tables import ResponseTables

Parameter = float | NDArray[np.float64]
_ERROR_LIMIT = 1.0  # log errors are clipped to +-1: "more than e times too much" is all a control needs to know
_BUDGET_LEFT = 1  # column of the state
_PRIOR_CONVERSIONS = 2.0  # conversions at exactly the target that the CPA so far is smoothed with


class Remembering:
    """Keeps the advertisers."""

    advertisers: Advertisers

    def reset(self, advertisers: Advertisers) -> None:
        """Start a period for n advertisers."""
        self.advertisers = advertisers


@dataclass
class ConstantAlpha(Remembering):
    """alpha = multiplier * CPA target at every tick."""

    multiplier: Parameter = 1.0

    def act(self, observation: Observation) -> NDArray[np.float64]:
        """(n,) alpha."""
        return self.multiplier * self.advertisers.cpa_target


@dataclass
class ScheduledAlpha(Remembering):
    """Plays given alphas: a logged trajectory, or one with a tick changed (counterfactuals)."""

    alphas: NDArray[np.float64]  # (n, 48) currency per conversion, >= 0

    def act(self, observation: Observation) -> NDArray[np.float64]:
        """(n,) alpha of the schedule."""
        if self.alphas.shape != (len(observation), N_TICKS):
            raise ValueError(f"the schedule has shape {self.alphas.shape}; expected ({len(observation)}, {N_TICKS})")
        return self.alphas[:, observation.tick]


def pacing_error(
    observation: Observation, budget: NDArray[np.float64], plan: NDArray[np.float64], memory: int = 3, lag: int = 0
) -> NDArray[np.float64]:
    """Log of spending over planned spending in the last ticks, (n,) in [-1, 1]; > 0 when too fast, 0 at the first tick.

    The plan, (48,) shares of the budget, means of a tick its share of the budget left at its start. The last ``memory``
    >= 1 ticks are looked at, or those of ``lag`` ticks earlier.
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
    return np.clip(np.log((spent + tiny) / (planned + tiny)), -_ERROR_LIMIT, _ERROR_LIMIT)


def cpa_error(observation: Observation, cpa_target: NDArray[np.float64], lag: int = 0) -> NDArray[np.float64]:
    """(n,) log of the CPA so far over its target, in [-1, 1], smoothed with two conversions at the target."""
    stop = max(observation.tick - lag, 0)
    spent = observation.costs[:, :stop].sum(axis=1)
    count = observation.conversions[:, :stop].sum(axis=1)
    paid = (spent + _PRIOR_CONVERSIONS * cpa_target) / (count + _PRIOR_CONVERSIONS)
    return np.clip(np.log(paid / cpa_target), -_ERROR_LIMIT, _ERROR_LIMIT)


def even_plan() -> NDArray[np.float64]:
    """(48,) the same spending in every tick."""
    return np.full(N_TICKS, 1.0 / N_TICKS)


def checked_plan(plan: ArrayLike | None) -> NDArray[np.float64]:
    """(48,) a spending plan scaled to sum 1; even where none is given."""
    values = np.asarray(np.ones(N_TICKS) if plan is None else plan, dtype=np.float64)
    if values.shape != (N_TICKS,) or not (np.isfinite(values).all() and (values > 0).all()):
        raise ValueError(f"a spending plan must be {N_TICKS} positive shares")
    return values / values.sum()


@dataclass
class _Feedback(Remembering):
    """Compares spending with a plan."""

    opening: Parameter = 1.0  # first alpha / CPA target
    memory: int = 3  # ticks over which spending is compared with the plan
    plan: ArrayLike | None = None  # (48,) share of the budget per tick; default even

    def __post_init__(self) -> None:
        self._plan = checked_plan(self.plan)


@dataclass
class PidBidder(_Feedback):
    """PID controller on the log of alpha, in velocity form, so that nothing winds up.

    The error is spending against plan, or, while the CPA so far misses its target, that (weighted) if it is larger.
    log alpha moves by -(proportional * change of error + integral * error), at most from x0.7 to x1.2 a tick.
    """

    proportional: Parameter = 0.1  # gains on log errors, >= 0
    integral: Parameter = 0.05
    cpa_weight: Parameter = 1.0  # 0 ignores the CPA target, 1 weighs it like the budget
    step_down: Parameter = 0.7  # largest move per tick, factors
    step_up: Parameter = 1.2
    lowest: Parameter = 0.1  # bounds of alpha / CPA target
    highest: Parameter = 1.5

    def act(self, observation: Observation) -> NDArray[np.float64]:
        """(n,) alpha."""
        target = self.advertisers.cpa_target
        if observation.tick == 0:
            return self.opening * target
        now, before = self._error(observation, 0), self._error(observation, 1)
        move = self.proportional * (now - before) + self.integral * now
        factor = np.clip(np.exp(-move), self.step_down, self.step_up)
        return np.clip(observation.alphas[:, -1] * factor, self.lowest * target, self.highest * target)

    def _error(self, observation: Observation, lag: int) -> NDArray[np.float64]:
        pace = pacing_error(observation, self.advertisers.budget, self._plan, self.memory, lag)
        priced = self.cpa_weight * cpa_error(observation, self.advertisers.cpa_target, lag)
        # Only a missed target overrules the pace: one that is met must not hold back an advertiser that underspends.
        return np.where(priced > 0, np.maximum(pace, priced), pace)


@dataclass
class PacingBidder(_Feedback):
    """Spend-rate pacing: alpha follows planned over actual spending, and never exceeds ``cap`` times the target.

    Since a replayed impression costs at most alpha per conversion, the cap nearly guarantees the CPA target.
    """

    cap: Parameter = 1.2  # largest alpha / CPA target
    gain: Parameter = 0.2  # exponent on the ratio of planned to actual spending per tick

    def act(self, observation: Observation) -> NDArray[np.float64]:
        """(n,) alpha."""
        highest = self.cap * self.advertisers.cpa_target
        if observation.tick == 0:
            return np.minimum(self.opening * self.advertisers.cpa_target, highest)
        error = pacing_error(observation, self.advertisers.budget, self._plan, self.memory)
        return np.minimum(observation.alphas[:, -1] * np.exp(-self.gain * error), highest)


class OnlineLpBidder(Remembering):
    """Online linear program: at every tick the best threshold for the rest of a typical past day.

    Of the program "maximise value subject to budget and CPA target" over the remaining ticks, with curves averaged over
    past periods (never the one bid for), the dual gives alpha: the largest price per conversion that keeps both
    constraints. ``price_belief`` is prices expected today / prices of the past, ``cap`` the largest alpha / CPA target.
    """

    def __init__(self, past: Sequence[ResponseTables], price_belief: Parameter = 1.0, cap: Parameter = 3.0) -> None:
        if not past:
            raise ValueError("the online LP needs response tables of at least one past period")
        if any(not np.array_equal(tables.alphas, past[0].alphas) for tables in past):
            raise ValueError("the past periods' response tables have different grids")
        self.price_belief, self.cap = price_belief, cap
        self.grid = past[0].alphas
        bought = (np.mean([getattr(tables, name) for tables in past], axis=0)[::-1] for name in ("costs", "values"))
        # From tick t to the end, (tick, advertiser, grid).
        self._costs, self._values = (np.cumsum(curves, axis=0, dtype=np.float64)[::-1] for curves in bought)

    def act(self, observation: Observation) -> NDArray[np.float64]:
        """(n,) alpha."""
        who, tick = self.advertisers, observation.tick
        spent = observation.costs.sum(axis=1)
        count = observation.conversions.sum(axis=1)
        # Dearer prices are the same curve with money, targets and alphas in a larger currency.
        belief = np.broadcast_to(self.price_belief, len(who))
        costs = self._costs[tick, who.index] * belief[:, None]
        values = self._values[tick, who.index]
        left = observation.state[:, _BUDGET_LEFT] * who.budget
        earned = who.cpa_target[:, None] * (count[:, None] + values)
        allowed = (costs <= left[:, None]) & (spent[:, None] + costs <= earned)
        # The largest allowed grid point. CPA trouble can make cheap points infeasible alone: buying more repairs it.
        largest = len(self.grid) - 1 - np.argmax(allowed[:, ::-1], axis=1)
        alpha = np.where(allowed.any(axis=1), self.grid[largest], self.grid[0]) * belief
        return np.minimum(alpha, self.cap * who.cpa_target)

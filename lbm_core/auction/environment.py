"""The constrained bidding problem (§2.1, §2.2) as a Gymnasium environment: one advertiser, one delivery period.

An advertiser with budget B and CPA target C chooses alpha_t in every tick t < 48 and bids alpha_t * p for an impression
of predicted value p. It wants the most conversions with cost <= B and cost / conversions <= C.

What surrounds the advertiser is a :class:`Day`. Days of the simulated market and of logged periods, registered as
``lbm/AuctionNet-v0``, are made in the workshop.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from numpy.typing import NDArray

from lbm_core.auction.bidder import N_STATE_FEATURES, Advertisers
from lbm_core.auction.day import Ticks
from lbm_core.auction.mechanism import LEAST_BUDGET
from lbm_core.auction.metrics import cpa_ratio
from lbm_core.auction.traffic import NOMINAL_IMPRESSIONS

_MONEY_LIMIT = 1e4  # bound of bids and prices in the observation space; alpha * p stays far below
_SHARES = (0, 1, 5, 6, 7, 9, 10, 11, 12)  # features in [0, 1]: time and budget left, p-values, conversions, wins
_COUNTS = (13, 14, 15)


class Day(NamedTuple):
    """A delivery period as one advertiser meets it."""

    period: int  # its number
    advertiser: Advertisers  # the one that is bid for
    start: Callable[[np.random.Generator], Ticks[Any]]  # begins the period; asks for that advertiser's alphas alone
    row: int = 0  # the advertiser's row in what the period returns


class AuctionNetEnv(gymnasium.Env[NDArray[np.float32], NDArray[np.float32]]):
    """One advertiser's delivery period of 48 decisions.

    * observation: the 16 state features, float32, in the order of :data:`lbm_core.auction.state.FEATURES`;
    * action: log(alpha_t / C), (1,) float32, within +-``max_log_ratio`` (2: alpha from 0.14 C to 7.4 C); 0 bids exactly
      the CPA target per predicted conversion;
    * reward: conversions of the tick;
    * terminated: after 48 ticks, or when less than 0.1 of the budget's currency is left; never truncated;
    * info: ``cost`` and ``conversions`` so far, ``budget_left`` (share), ``cpa_ratio`` so far (0 before anything is
      spent, at most 100), and ``period``, ``advertiser``, ``budget``, ``cpa_target``.

    The CPA constraint is not part of the reward: use ``info`` to shape one, or to judge a policy with
    :func:`lbm_core.auction.metrics.score`.
    """

    def __init__(self, days: Callable[[np.random.Generator], Day], max_log_ratio: float = 2.0) -> None:
        if not (np.isfinite(max_log_ratio) and max_log_ratio > 0):
            raise ValueError(f"max_log_ratio must be a positive number; got {max_log_ratio}")
        high = np.full(N_STATE_FEATURES, _MONEY_LIMIT, dtype=np.float32)
        high[list(_SHARES)] = 1.0
        high[list(_COUNTS)] = NOMINAL_IMPRESSIONS
        self._highest = high
        self.observation_space = gymnasium.spaces.Box(np.zeros_like(high), high, dtype=np.float32)
        self.action_space = gymnasium.spaces.Box(-max_log_ratio, max_log_ratio, (1,), np.float32)
        self._days, self._max_log_ratio = days, max_log_ratio
        self._ticks: Ticks[Any] | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Draw a day and show its first tick; equal seeds give equal days, conversions and competitors."""
        super().reset(seed=seed)
        self._day = self._days(self.np_random)
        self._ticks = self._day.start(np.random.default_rng(self.np_random.integers(2**63)))
        self._observation = next(self._ticks)
        self._state = self._observation.state[0]
        self._cost, self._conversions = 0.0, 0.0
        return self._observed(), self._info()

    def step(self, action: NDArray[np.float32]) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Bid one tick with alpha = C * exp(action); ValueError: no such action, RuntimeError: the period is over."""
        ratio = np.asarray(action, dtype=np.float64)
        if ratio.shape != (1,) or not np.abs(ratio[0]) <= self._max_log_ratio * (1 + 1e-6):
            raise ValueError(f"action {action!r} is not in {self.action_space}")
        reward, over = self._bid(np.exp(ratio))
        return self._observed(), reward, over, False, self._info()

    def _bid(self, ratio: NDArray[np.float64]) -> tuple[float, bool]:
        """Bid one tick with alpha = C * ratio, (1,): its conversions, and whether the period is over."""
        if self._ticks is None:
            raise RuntimeError("the period is over or has not begun: call reset() first")
        row, over = 0, False
        try:
            past: Any = self._ticks.send(self._day.advertiser.cpa_target * ratio)
            self._observation, self._state = past, past.state[0]
        except StopIteration as end:
            past, row, over = end.value, self._day.row, True
        self._cost, self._conversions = float(past.costs[row].sum()), float(past.conversions[row].sum())
        left = float(self._day.advertiser.budget[0]) - self._cost
        if over:  # no tick follows: show the last one's features with nothing left to do
            self._state = np.concatenate([[0.0, left / self._day.advertiser.budget[0]], self._state[2:]])
        over = over or left < LEAST_BUDGET
        if over:
            self.close()
        return float(past.conversions[row, -1]), over

    def close(self) -> None:
        """Drop the period that is being played."""
        self._ticks = None

    def _observed(self) -> NDArray[np.float32]:
        return np.clip(self._state, 0.0, self._highest).astype(np.float32)

    def _info(self) -> dict[str, Any]:
        one = self._day.advertiser
        budget, target = float(one.budget[0]), float(one.cpa_target[0])
        ratio = cpa_ratio(self._conversions, self._cost, target) if self._cost > 0 else 0.0
        so_far = {"cost": self._cost, "conversions": self._conversions, "cpa_ratio": float(ratio)}
        fixed = {"period": self._day.period, "advertiser": int(one.index[0]), "budget": budget, "cpa_target": target}
        return so_far | {"budget_left": max(1.0 - self._cost / budget, 0.0)} | fixed

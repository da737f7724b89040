"""The benchmark's two CSV formats (§4.1): their columns in the order of the files, and what numbers may stand there."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lbm_core.auction.bidder import N_ADVERTISERS, N_TICKS

_LARGEST = float(np.finfo(float).max)


class Number(NamedTuple):
    """Finite numbers in [low, high], perhaps whole (printed as 7 or 7.0)."""

    low: float = 0.0
    high: float = _LARGEST
    whole: bool = False

    @property
    def expected(self) -> str:
        """How a sentence about a number out of range goes on."""
        if self.low > 0:
            return "it must be positive"
        return f"expected >= {self.low:g}" if self.high == _LARGEST else f"expected {self.low:g} … {self.high:g}"


TEXT = None  # in the place of a Number
_POSITIVE, _FLAG, _PERIOD = Number(5e-324), Number(0, 1, whole=True), Number(0, 10_000_000, whole=True)
_ADVERTISER, _TICK = Number(0, N_ADVERTISERS - 1, whole=True), Number(0, N_TICKS - 1, whole=True)

# A row per advertiser and impression, about 24 million a period.
TRAFFIC_COLUMNS: dict[str, Number | None] = {
    "deliveryPeriodIndex": _PERIOD,
    "advertiserNumber": _ADVERTISER,
    "advertiserCategoryIndex": Number(),
    "budget": _POSITIVE,
    "CPAConstraint": _POSITIVE,
    "timeStepIndex": _TICK,
    "remainingBudget": Number(),  # before the tick
    "pvIndex": Number(0, 1 << 40, whole=True),  # impression number
    "pValue": Number(0, 1),
    "pValueSigma": Number(),
    "bid": Number(),
    "xi": _FLAG,  # 1: won a slot
    "adSlot": Number(0, 3, whole=True),  # 0: none
    "cost": Number(),  # price of the slot, due only if shown
    "isExposed": _FLAG,
    "conversionAction": _FLAG,
    "leastWinningCost": Number(),
    "isEnd": _FLAG,  # 1: last tick, or budget used up
}
# A row per advertiser and tick.
TRAJECTORY_COLUMNS: dict[str, Number | None] = {
    "deliveryPeriodIndex": _PERIOD,
    "advertiserNumber": _ADVERTISER,
    "advertiserCategoryIndex": Number(),
    "budget": _POSITIVE,
    "CPAConstraint": _POSITIVE,
    "realAllCost": Number(),  # of the whole period
    "realAllConversion": Number(),
    "timeStepIndex": _TICK,
    "state": TEXT,  # "(x1, …, x16)"
    "action": Number(),
    "reward": Number(),
    "reward_continuous": Number(),
    "done": _FLAG,
    "next_state": TEXT,  # empty where done
}

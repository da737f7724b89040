"""§4.1: the 16 state features of AuctionNet's trajectories, built tick by tick."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lbm_core.auction.bidder import N_TICKS

# Order and names of the published trajectories. "historical" averages the means of all past ticks (a mean of tick
# means, not pooled over impressions), "last_three" those of the last three; both are 0 before the first tick ends.
FEATURES: tuple[str, ...] = (
    "time_left",  # (48 - t) / 48
    "budget_left",  # remaining / budget
    "historical_bid_mean",  # bid per impression, bids dropped for lack of budget counted as 0
    "last_three_bid_mean",
    "historical_least_winning_cost_mean",  # price of the last slot per impression
    "historical_pvalue_mean",
    "historical_conversion_mean",  # conversions per impression of the tick
    "historical_win_mean",  # slots won per impression of the tick
    "last_three_least_winning_cost_mean",
    "last_three_pvalue_mean",
    "last_three_conversion_mean",
    "last_three_win_mean",
    "current_pvalue_mean",  # of the tick about to start
    "current_pv_num",  # impressions of the tick about to start
    "last_three_pv_num_total",
    "historical_pv_num_total",
)
MEANS = ("bid", "least_winning_cost", "pvalue", "conversion_rate", "win_rate")  # what a tick tells the features
_HISTORICAL = [2, 4, 5, 6, 7]  # columns of these means, in their order
_LAST_THREE = [3, 8, 9, 10, 11]


class StateBuilder:
    """State features of n advertisers with (n,) budgets; market and replay share it.

    Ask for the state of tick t with :meth:`state`, then tell what happened in the tick with :meth:`update`. Apart from
    the two current features, the state of tick t knows ticks before t only.
    """

    def __init__(self, budget: ArrayLike) -> None:
        self.budget = np.array(budget, dtype=np.float64)
        if self.budget.ndim != 1 or not (np.isfinite(self.budget).all() and (self.budget > 0).all()):
            raise ValueError("budget must be an (n,) array of positive numbers")
        self.tick = 0
        self.remaining = self.budget.copy()
        self._sums = np.zeros((len(_HISTORICAL), len(self.budget)))
        self._recent: list[NDArray[np.float64]] = []  # tick means of the last three ticks, oldest first
        self._counts: list[int] = []  # impressions of all past ticks

    def state(self, pvalue_mean: ArrayLike, count: int) -> NDArray[np.float64]:
        """(n, 16) :data:`FEATURES` before a tick of so many impressions and of a mean p-value for each advertiser."""
        if self.tick >= N_TICKS:
            raise ValueError(f"the period is over: it has {N_TICKS} ticks")
        state = np.zeros((len(self.budget), len(FEATURES)))
        state[:, 0] = (N_TICKS - self.tick) / N_TICKS
        state[:, 1] = self.remaining / self.budget
        if self.tick:
            state[:, _HISTORICAL] = (self._sums / self.tick).T
            state[:, _LAST_THREE] = np.mean(self._recent, axis=0).T
        state[:, 12] = pvalue_mean
        state[:, 13] = count
        state[:, 14] = sum(self._counts[-3:])
        state[:, 15] = sum(self._counts)
        return state

    def update(self, *, count: int, remaining: ArrayLike, **means: ArrayLike) -> None:
        """Close the tick: its impressions, the (n,) currency left, :data:`MEANS` per impression (scalar or (n,))."""
        values = np.empty_like(self._sums)
        for row, name in enumerate(MEANS):
            values[row] = means[name]
        self._sums += values
        self._recent = [*self._recent[-2:], values]
        self._counts.append(int(count))
        self.remaining = np.array(remaining, dtype=np.float64)
        self.tick += 1

"""What a delivery period leaves behind: one row per advertiser and tick, and the price of every impression."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lbm_core.auction.bidder import Advertisers
from lbm_core.auction.metrics import Summarized
from lbm_core.files import writing_file
from lbm_core.settings import Dataset


@dataclass(frozen=True)
class PeriodLog(Summarized):
    """A simulated delivery period of the whole market.

    Arrays of shape (48, 48) are (advertiser, tick).

    Attributes
    ----------
    dataset, period, scheme, engine
        Which traffic it ran on (see :class:`lbm_core.auction.traffic.Traffic`) and which engine ran it.
    advertisers : the 48 advertisers
    counts : (48,) int, impressions per tick
    alphas : (48, 48) currency per conversion; 0 once the advertiser is done
    bids : (48, 48) mean bid per impression
    pvalues : (48, 48) mean predicted conversion probability
    costs : (48, 48) currency spent
    conversions : (48, 48) count (the reward)
    expected_conversions : (48, 48) sum of p over shown impressions (``reward_continuous``)
    wins : (48, 48) count of slots won (xi)
    exposures : (48, 48) count of slots shown
    states : (48, 48, 16) state features before each tick
    lengths : (48,) int in 1..48, ticks up to the first ``done``, inclusive
    least_winning_cost : (sum(counts),) currency, tick after tick; the offline replay's prices
    """

    dataset: Dataset
    period: int
    scheme: str
    engine: str
    advertisers: Advertisers
    counts: NDArray[np.int64]
    alphas: NDArray[np.float64]
    bids: NDArray[np.float64]
    pvalues: NDArray[np.float64]
    costs: NDArray[np.float64]
    conversions: NDArray[np.float64]
    expected_conversions: NDArray[np.float64]
    wins: NDArray[np.float64]
    exposures: NDArray[np.float64]
    states: NDArray[np.float64]
    lengths: NDArray[np.int64]
    least_winning_cost: NDArray[np.float64]

    def tick_prices(self, tick: int) -> NDArray[np.float64]:
        """(counts[tick],) least winning cost of a tick's impressions."""
        start = int(self.counts[:tick].sum())
        return self.least_winning_cost[start : start + int(self.counts[tick])]

    def save(self, path: Path) -> None:
        """Write one ``.npz`` under a temporary name, then rename it."""
        columns = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "advertisers"}
        with writing_file(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(
                file,
                **columns,
                advertiser_index=self.advertisers.index,
                advertiser_budget=self.advertisers.budget,
                advertiser_cpa_target=self.advertisers.cpa_target,
            )

    @classmethod
    def load(cls, path: Path) -> PeriodLog:
        """Read what :meth:`save` wrote."""
        with np.load(path, allow_pickle=False) as stored:
            columns = {f.name: stored[f.name] for f in fields(cls) if f.name != "advertisers"}
            advertisers = Advertisers(
                stored["advertiser_index"], stored["advertiser_budget"], stored["advertiser_cpa_target"]
            )
        for name in ("dataset", "scheme", "engine"):
            columns[name] = str(columns[name])
        columns["period"] = int(columns["period"])
        return cls(advertisers=advertisers, **columns)

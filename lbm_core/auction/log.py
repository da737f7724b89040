"""What a delivery period leaves behind: one row per advertiser and tick, and the price of every impression."""

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lbm_core.auction.bidder import Advertisers
from lbm_core.auction.day import DayResult
from lbm_core.files import writing_file
from lbm_core.settings import Dataset


@dataclass(frozen=True)
class PeriodLog(DayResult):
    """A simulated delivery period of the whole market.

    What it shares with :class:`~lbm_core.auction.day.DayResult` is of all 48 advertisers; ``alphas`` are the sum of the
    bids that stood over the sum of p-values, 0 once the advertiser is done.
    """

    dataset: Dataset  # which traffic it ran on (:class:`lbm_core.auction.traffic.Traffic`)
    period: int
    scheme: str
    engine: str
    counts: NDArray[np.int64]  # (48,) impressions per tick
    bids: NDArray[np.float64]  # (48, 48) mean bid per impression, (advertiser, tick)
    pvalues: NDArray[np.float64]  # (48, 48) mean predicted conversion probability
    exposures: NDArray[np.float64]  # (48, 48) count of slots shown
    least_winning_cost: NDArray[np.float64]  # (sum(counts),) currency, tick after tick; the offline replay's prices

    def tick_prices(self, tick: int) -> NDArray[np.float64]:
        """(counts[tick],) least winning cost of a tick's impressions."""
        start = int(self.counts[:tick].sum())
        return self.least_winning_cost[start : start + int(self.counts[tick])]

    def save(self, path: Path) -> None:
        """Write one ``.npz`` under a temporary name, then rename it."""
        columns = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "advertisers"}
        who = {f"advertiser_{f.name}": getattr(self.advertisers, f.name) for f in fields(Advertisers)}
        with writing_file(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **columns, **who)

    @classmethod
    def load(cls, path: Path) -> "PeriodLog":
        """Read what :meth:`save` wrote."""
        with np.load(path, allow_pickle=False) as stored:
            columns = {f.name: stored[f.name] for f in fields(cls) if f.name != "advertisers"}
            who = Advertisers(*(stored[f"advertiser_{f.name}"] for f in fields(Advertisers)))
        return cls(who, **{name: column if column.ndim else column.item() for name, column in columns.items()})

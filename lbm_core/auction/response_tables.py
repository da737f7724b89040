"""The replay in the form of response curves: what every alpha buys, per tick and advertiser.

In a replay an impression is won where alpha >= LWC / p. Sorted by that threshold into logarithmic bins, a tick of
20,000 impressions becomes a curve of 240 numbers, a replay step an interpolation, and hindsight optima, budget sweeps
and counterfactuals become nearly free. The impression-level replay (:mod:`lbm_core.auction.replay`) is the reference.
"""

from dataclasses import dataclass, fields

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from lbm_core.auction.bidder import N_TICKS, Advertisers, Bidder
from lbm_core.auction.day import DayResult, Outcome, Ticks, play, run_day
from lbm_core.auction.mechanism import LEAST_BUDGET
from lbm_core.auction.replay import ReplayPeriod, bidding
from lbm_core.settings import Dataset

# Alphas covered by the curves, currency per conversion (Table 7: CPA targets 6-12 dense, 60-130 sparse).
ALPHA_RANGE: dict[Dataset, tuple[float, float]] = {"dense": (0.3, 300.0), "sparse": (3.0, 3000.0)}
N_BINS = 240


@dataclass(frozen=True)
class ResponseTables:
    """Cumulative response curves of a period (6.6 MB).

    What it shares with :class:`lbm_core.auction.replay.ReplayPeriod` comes first, then the curves.
    """

    dataset: Dataset
    period: int
    advertisers: Advertisers
    counts: NDArray[np.int64]
    mean_pvalues: NDArray[np.float64]
    mean_prices: NDArray[np.float64]
    alphas: NDArray[np.float64]  # (G,) currency per conversion, log-spaced grid
    costs: NDArray[np.float32]  # (48, 48, G), (tick, advertiser, grid): what alphas[g] spends, if the budget allows
    values: NDArray[np.float32]  # the sum of p that it wins
    wins: NDArray[np.float32]  # the impressions that it wins

    @classmethod
    def from_period(cls, period: ReplayPeriod, bins: int = N_BINS) -> "ResponseTables":
        """Bin a period's impressions by the alpha that wins them; thresholds above the grid are never won."""
        if bins < 2:
            raise ValueError(f"response tables need at least 2 bins; got {bins}")
        low, high = ALPHA_RANGE[period.dataset]
        alphas = np.geomspace(low, high, bins)
        curves = np.zeros((3, N_TICKS, len(period.pvalues), bins))
        _bin(period.pvalues, period.least_winning_cost, period.starts, np.log(low), np.log(alphas[1] / low), curves)
        costs, values, wins = np.cumsum(curves, axis=-1).astype(np.float32)
        shared = {field.name: getattr(period, field.name) for field in fields(cls)[:6]}
        return cls(**shared, alphas=alphas, costs=costs, values=values, wins=wins)

    def respond(self, tick: int, index: NDArray[np.int64], alphas: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        """(n,) cost, value and wins of alphas in a tick, the budget aside; linear in log alpha between grid points."""
        last = len(self.alphas) - 1
        step = np.log(self.alphas[1] / self.alphas[0])
        with np.errstate(divide="ignore"):
            position = np.clip(np.log(alphas / self.alphas[0]) / step, -1.0, last)
        lower = np.minimum(np.floor(position).astype(np.int64), last - 1)
        share = position - lower
        bought = []
        for curve in (self.costs, self.values, self.wins):
            below = np.where(lower >= 0, curve[tick, index, np.maximum(lower, 0)], 0.0)
            bought.append(below + share * (curve[tick, index, lower + 1] - below))
        return bought


def table_replay(
    tables: ResponseTables,
    bidder: Bidder,
    rng: np.random.Generator | None = None,
    *,
    advertisers: Advertisers | None = None,
    rows: ArrayLike | None = None,
) -> DayResult:
    """:func:`lbm_core.auction.replay.replay` on response curves.

    A tick that would overspend keeps the same share of cost, value and wins. Conversions are the expected ones, or,
    with ``rng``, Poisson draws around them (the limit of many unlikely Bernoulli draws).
    """
    who = bidding(tables.advertisers, advertisers, rows)
    return play(table_day(tables, who, rng), who, bidder)


def table_day(
    tables: ResponseTables, advertisers: Advertisers, rng: np.random.Generator | None = None
) -> Ticks[DayResult]:
    """The day that :func:`table_replay` plays."""
    index = advertisers.index

    def auction(tick: int, alphas: NDArray, remaining: NDArray) -> Outcome:
        cost, value, wins = tables.respond(tick, index, alphas)
        bids = alphas * tables.mean_pvalues[index, tick] * tables.counts[tick]
        share = np.where(alphas > 0, affordable_share(cost, remaining), 0.0)
        value = value * share
        conversions = value if rng is None else rng.poisson(value).astype(np.float64)
        # Dropped wins bid 0; their share of the bids is not tabulated, their share of the impressions stands for it.
        kept_bids = bids * (1.0 - (1.0 - share) * wins / tables.counts[tick])
        return Outcome(cost * share, conversions, value, wins * share, kept_bids, tables.mean_prices[tick])

    return run_day(advertisers, tables.counts, lambda tick: tables.mean_pvalues[index, tick], auction)


def affordable_share(cost: NDArray[np.float64], remaining: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of a tick's wins that the remaining budget pays for; 0 once less than 0.1 is left."""
    left = np.maximum(remaining, 0.0)  # subtraction may leave -1e-13
    share = np.divide(left, cost, out=np.ones_like(cost), where=cost > left)
    return np.where(remaining >= LEAST_BUDGET, share, 0.0)


@numba.njit(cache=True, nogil=True)
def _bin(pvalues, prices, starts, log_low, log_step, curves):
    last = curves.shape[3] - 1
    for advertiser in range(len(pvalues)):
        p = pvalues[advertiser]
        for tick in range(len(starts) - 1):
            costs, values, wins = curves[0, tick, advertiser], curves[1, tick, advertiser], curves[2, tick, advertiser]
            for i in range(starts[tick], starts[tick + 1]):
                if p[i] <= 0.0:
                    continue
                # The first grid point that wins it; the small slack forgives rounding in the logarithm.
                g = max(int(np.ceil((np.log(prices[i] / p[i]) - log_low) / log_step - 1e-9)), 0)
                if g <= last:
                    costs[g] += prices[i]
                    values[g] += p[i]
                    wins[g] += 1.0

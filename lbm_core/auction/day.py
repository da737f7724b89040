"""One delivery period tick by tick (§2.2): the loop that market, replay, response tables and Gymnasium share.

A day is a generator: it yields what may be known before a tick, is sent alphas, and returns what the period brought.
So whoever plays, a bidder (:func:`play`) or an environment's ``step``, decides when the next tick comes.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lbm_core.auction.bidder import N_STATE_FEATURES, N_TICKS, Advertisers, Bidder, Observation
from lbm_core.auction.mechanism import LEAST_BUDGET
from lbm_core.auction.metrics import summarize
from lbm_core.auction.state import StateBuilder

T = TypeVar("T")
Ticks = Generator[Observation, ArrayLike, T]


class Outcome(NamedTuple):
    """What a tick brought n advertisers; arrays of shape (n,)."""

    costs: NDArray  # currency
    conversions: NDArray  # count
    expected_conversions: NDArray  # sum of p over what was won and shown
    wins: NDArray  # count
    bids: NDArray  # currency, sum over the tick's impressions; bids dropped for lack of budget count as 0
    price: float  # mean least winning cost


@dataclass(frozen=True)
class DayResult:
    """What n advertisers did and got, per tick."""

    advertisers: Advertisers  # n
    alphas: NDArray[np.float64]  # (n, 48) currency per conversion, as chosen; 0 once the budget is gone
    costs: NDArray[np.float64]  # (n, 48) currency
    conversions: NDArray[np.float64]  # (n, 48) count
    expected_conversions: NDArray[np.float64]  # (n, 48) sum of p over what was won and shown: conversions without noise
    wins: NDArray[np.float64]  # (n, 48) impressions won (a replay: and paid; a market: slots)
    states: NDArray[np.float64]  # (n, 48, 16) state before each tick
    lengths: NDArray[np.int64]  # (n,) in 1..48, ticks up to the first ``done``, inclusive

    def summary(self) -> dict[str, NDArray[np.float64]]:
        """Metrics per advertiser: columns of :func:`lbm_core.auction.metrics.summarize`, (n,) each."""
        tables = (self.conversions, self.costs, self.expected_conversions)
        count, spent, expected = (table.sum(axis=1) for table in tables)
        return summarize(count, spent, self.advertisers.budget, self.advertisers.cpa_target, expected)


def run_day(
    advertisers: Advertisers,
    counts: NDArray[np.int64],
    mean_pvalues: Callable[[int], NDArray[np.float64]],
    auction: Callable[[int, NDArray[np.float64], NDArray[np.float64]], Outcome],
) -> Ticks[DayResult]:
    """The 48 ticks of a period, around any auction: yields what n advertisers may know before each tick.

    It expects (n,) alphas, finite and >= 0 (else ValueError).

    Parameters
    ----------
    counts : (48,) impressions per tick
    mean_pvalues : tick -> (n,) mean predicted conversion probability; called before the tick's auction
    auction : (tick, (n,) alphas, (n,) currency left) -> what the tick brought; alphas of those who are done are 0
    """
    n = len(advertisers)
    builder = StateBuilder(advertisers.budget)
    states = np.zeros((n, N_TICKS, N_STATE_FEATURES))
    alphas, costs, conversions, expected, wins = np.zeros((5, n, N_TICKS))
    lengths = np.full(n, N_TICKS)
    for tick in range(N_TICKS):
        count, pvalues = int(counts[tick]), mean_pvalues(tick)
        states[:, tick] = builder.state(pvalues, count)
        reply = yield Observation(tick, states[:, : tick + 1], alphas[:, :tick], conversions[:, :tick], costs[:, :tick])
        active = builder.remaining >= LEAST_BUDGET
        lengths[~active & (lengths == N_TICKS)] = tick + 1
        alphas[:, tick] = chosen = np.where(active, checked_alphas(reply, n, tick), 0.0)
        brought = auction(tick, chosen, builder.remaining)
        costs[:, tick], conversions[:, tick], expected[:, tick], wins[:, tick] = brought[:4]
        means: dict[str, ArrayLike] = {"least_winning_cost": brought.price, "pvalue": pvalues}
        told = {"bid": brought.bids, "conversion_rate": conversions[:, tick], "win_rate": wins[:, tick]}
        means |= {name: values / count for name, values in told.items()}
        builder.update(**means, count=count, remaining=builder.remaining - costs[:, tick])
    return DayResult(advertisers, alphas, costs, conversions, expected, wins, states, lengths)


def play(ticks: Ticks[T], advertisers: Advertisers, bidder: Bidder) -> T:
    """Let a bidder play a day of these advertisers to its end; what the day returns."""
    bidder.reset(advertisers)
    observation = next(ticks)
    while True:
        alphas = bidder.act(observation)
        try:
            observation = ticks.send(alphas)
        except StopIteration as end:
            return end.value


def beside(ticks: Ticks[T], advertisers: Advertisers, population: Bidder, rows: ArrayLike) -> Ticks[T]:
    """A day in which only the advertisers of (k,) rows are asked for alphas; a population answers for the others.

    The population is asked for all n, so that its noise draws do not depend on who is replaced; whoever plays sees the
    chosen rows only.
    """
    chosen = np.asarray(rows, dtype=np.int64)
    population.reset(advertisers)
    observation = next(ticks)
    while True:
        alphas = np.array(population.act(observation), dtype=np.float64)
        # Checked here: NumPy would spread a single alpha over all rows.
        alphas[chosen] = checked_alphas((yield observation[chosen]), len(chosen), observation.tick)
        try:
            observation = ticks.send(alphas)
        except StopIteration as end:
            return end.value


def checked_alphas(alphas: ArrayLike, n: int, tick: int) -> NDArray[np.float64]:
    """A bidder's answer as (n,) finite numbers >= 0, or a ValueError."""
    values = np.asarray(alphas, dtype=np.float64)
    if values.shape != (n,):
        raise ValueError(f"the bidder returned alphas of shape {values.shape} at tick {tick}; expected ({n},)")
    if not (np.isfinite(values).all() and (values >= 0).all()):
        wrong = values[~(np.isfinite(values) & (values >= 0))][:3]
        raise ValueError(f"alphas must be finite and >= 0, not NaN or negative; at tick {tick} the bidder gave {wrong}")
    return values

"""A.1: the auction of one tick, written to be read. The market's kernels are tested against it.

An impression has three slots. The k-th highest bid takes slot k and pays the next bid below (at least the reserve
price), but only when its slot is shown. What a shown ad converts with scatters around the predicted p-value.
"""

from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm, truncnorm

N_SLOTS = 3
EXPOSURE = (1.0, 0.8, 0.6)  # a slot is shown with this probability if the slot before it was
RESERVE_PRICE = 1e-4  # currency; a slot sold at this price counts as unsold
LEAST_BUDGET = 0.1  # currency; an advertiser with less left bids no more


class Allocation(NamedTuple):
    """Who won which slot of n impressions at what price."""

    winners: NDArray[np.int64]  # (n, 3) advertiser in each slot, -1 where unsold
    prices: NDArray[np.float64]  # (n, 3) currency, descending
    least_winning_cost: NDArray[np.float64]  # (n,) currency, the lowest bid that would have bought a slot


def allocate(bids: NDArray[np.float64], reserve: float = RESERVE_PRICE) -> Allocation:
    """Generalised second-price auction of three slots: (n, m) bids in currency, one row per impression.

    No price is below the reserve; at the reserve, as where nobody bids next, a slot stays unsold.
    """
    bids = np.pad(bids, ((0, 0), (0, max(0, N_SLOTS + 1 - bids.shape[1]))))
    ranking = np.argsort(-bids, axis=1, kind="stable")[:, : N_SLOTS + 1]
    ranked_bids = np.take_along_axis(bids, ranking, axis=1)
    prices = np.maximum(ranked_bids[:, 1:], reserve)
    winners = np.where(prices > reserve, ranking[:, :N_SLOTS], -1)
    return Allocation(winners, prices, prices[:, -1])


def viewing_depth(n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """How many slots each user looks at (the cascade of :data:`EXPOSURE`): 1, 2 or 3 with 0.2, 0.32, 0.48.

    A property of the impression, not of who won: it stays when the auction of a tick is run again.
    """
    return 1 + (rng.random((n, N_SLOTS - 1)) < EXPOSURE[1:]).cumprod(axis=1).sum(axis=1)


def truncation(n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """(n, 2) how far below and above p each advertiser's true values may lie in a period, in units of 2 sigma."""
    return rng.random((n, 2))


def conversion_values(
    pvalues: ArrayLike, sigmas: ArrayLike, limits: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """True conversion probability of n shown ads: a normal around the p-value, cut off at -2 v1 sigma and +2 v2 sigma.

    P-values and sigmas are (n,), limits the (n, 2) v1 and v2 of each ad's advertiser (:func:`truncation`).
    """
    standard = truncnorm.rvs(-2 * limits[:, 0], 2 * limits[:, 1], random_state=rng)
    return np.clip(np.asarray(pvalues) + np.asarray(sigmas) * standard, 0.0, 1.0)


def conversion_shift(limits: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) mean of the truncated normal in units of sigma: a shown ad converts with probability p + sigma * shift.

    A conversion is a coin thrown with a random probability, which is a coin with that probability's mean. So
    nobody has to draw truncated normals (sigma <= 0.3 p, hence p + sigma * x >= 0.4 p: clipping at 0 never acts, and
    clipping at 1 only above p = 0.62, which AuctionNet does not reach).
    """
    low, high = -2 * limits[:, 0], 2 * limits[:, 1]
    return (norm.pdf(low) - norm.pdf(high)) / (norm.cdf(high) - norm.cdf(low))


class TickOutcome(NamedTuple):
    """What a tick brought each of m advertisers."""

    cost: NDArray[np.float64]  # (m,) currency paid
    conversions: NDArray[np.int64]  # (m,)
    wins: NDArray[np.int64]  # (m,) slots won
    exposures: NDArray[np.int64]  # (m,) slots shown
    bids: NDArray[np.float64]  # (n, m) the bids that stood in the end
    allocation: Allocation  # who won what in the end
    shown: NDArray[np.bool_]  # (n, 3) per impression and slot
    converted: NDArray[np.bool_]  # (n, 3)


def run_tick(
    bids: NDArray, pvalues: NDArray, sigmas: NDArray, limits: NDArray, remaining: NDArray, rng: np.random.Generator
) -> TickOutcome:
    """Auction of all impressions of a tick, repeated until nobody overspends.

    Whoever would pay more than is left, (m,) ``remaining`` currency, loses a random share of its wins, slot by slot:
    those bids become 0 and the auction runs again. Others then win these slots, and may overspend in turn. Bids,
    p-values and sigmas are (n, m), limits (m, 2), see :func:`truncation`.
    """
    bids = np.where(remaining < LEAST_BUDGET, 0.0, bids)
    depth = viewing_depth(len(bids), rng)
    while True:
        allocation = allocate(bids)
        shown = (np.arange(N_SLOTS) < depth[:, None]) & (allocation.winners >= 0)
        cost = np.bincount(allocation.winners[shown], allocation.prices[shown], minlength=len(remaining))
        if (cost <= remaining).all():
            break
        for advertiser in np.flatnonzero(cost > remaining):
            share = (cost[advertiser] - remaining[advertiser]) / cost[advertiser]
            for slot in range(N_SLOTS):
                won = np.flatnonzero(allocation.winners[:, slot] == advertiser)
                dropped = rng.choice(won, size=int(np.ceil(len(won) * share)), replace=False)
                bids[dropped, advertiser] = 0.0
    impressions, _ = np.nonzero(shown)
    who = allocation.winners[shown]
    values = conversion_values(pvalues[impressions, who], sigmas[impressions, who], limits[who], rng)
    converted = np.zeros_like(shown)
    converted[shown] = rng.random(len(who)) < values
    of_advertiser = partial(np.bincount, minlength=len(remaining))
    conversions, wins, exposures = (
        of_advertiser(allocation.winners[slots]) for slots in (converted, allocation.winners >= 0, shown)
    )
    return TickOutcome(cost.astype(np.float64), conversions, wins, exposures, bids, allocation, shown, converted)

"""Upper references of a replayed period: what the best bidding could have reached, knowing the whole day.

Bidding alpha * p wins exactly the impressions whose price per conversion LWC / p is at most alpha. The linear program
"maximise value subject to budget and CPA target" fills impressions in that same order, so its optimum is a threshold
and can be read off the response curves; no solver is needed (the tests compare it with one).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lbm_core.auction.bidder import N_TICKS, Advertisers
from lbm_core.auction.metrics import score
from lbm_core.auction.response_tables import ResponseTables, affordable_share


class Hindsight(NamedTuple):
    """Best outcome of n advertisers, in expected conversions; (n,) each."""

    alpha: NDArray[np.float64]  # currency per conversion; the threshold price per conversion
    conversions: NDArray[np.float64]
    cost: NDArray[np.float64]
    score: NDArray[np.float64]


def best_constant(tables: ResponseTables, advertisers: Advertisers | None = None) -> Hindsight:
    """The constant alpha with the highest score (out of the tables' grid), tick after tick under the budget rule."""
    who = tables.advertisers if advertisers is None else advertisers
    remaining = np.tile(who.budget[:, None], len(tables.alphas))
    conversions = np.zeros_like(remaining)
    for tick in range(N_TICKS):
        cost = tables.costs[tick, who.index].astype(np.float64)
        share = affordable_share(cost, remaining)
        conversions += tables.values[tick, who.index] * share
        remaining -= cost * share
    cost = who.budget[:, None] - remaining
    scores = score(conversions, cost, who.cpa_target[:, None])
    best = np.arange(len(who)), np.argmax(scores, axis=1)
    return Hindsight(tables.alphas[best[1]], conversions[best], cost[best], scores[best])


def scores_from(
    tables: ResponseTables, advertisers: Advertisers, ticks: ArrayLike, alphas: NDArray, spent: NDArray, won: NDArray
) -> NDArray[np.float64]:
    """(n, F) scores (beta = 2) of n days that go on from a moment in F ways, in expected conversions from there on.

    ``ticks`` are the (n,) first to be replayed, in 0..47, or one for all; alphas, (n, F, 48) currency per conversion,
    >= 0, or (n, F, 1), held to the end, are not read before. ``spent`` and ``won`` are (n,) currency and conversions of
    the days by then; what is left of the budget may still be spent.
    """
    plans, ticks = np.broadcast_to(alphas, (*alphas.shape[:2], N_TICKS)), np.reshape(ticks, (-1, 1))
    who = np.broadcast_to(advertisers.index[:, None], plans.shape[:2])
    cost, count = (np.repeat(before[:, None], plans.shape[1], axis=1).astype(np.float64) for before in (spent, won))
    for tick in range(ticks.min(), N_TICKS):
        price, value, _ = tables.respond(tick, who, plans[..., tick])
        share = np.where(tick >= ticks, affordable_share(price, advertisers.budget[:, None] - cost), 0.0)
        cost += price * share
        count += value * share
    return score(count, cost, advertisers.cpa_target[:, None])


def lp_bound(tables: ResponseTables, advertisers: Advertisers | None = None) -> Hindsight:
    """The linear program's optimum: most expected conversions within budget and CPA target, impressions divisible.

    Bins are bought in order of price per conversion until a constraint binds, the last bin in part.
    """
    who = tables.advertisers if advertisers is None else advertisers
    # Of the whole day, starting from nothing bought: (n, G + 1).
    values, costs = (
        np.pad(curves[:, who.index].sum(axis=0, dtype=np.float64), ((0, 0), (1, 0)))
        for curves in (tables.values, tables.costs)
    )
    allowed = (costs <= who.budget[:, None]) & (costs <= who.cpa_target[:, None] * values)
    # Both constraints hold on an interval that starts at nothing bought: prices per conversion only rise.
    last = np.argmin(np.pad(allowed, ((0, 0), (0, 1))), axis=1) - 1
    following = np.minimum(last + 1, values.shape[1] - 1)
    n = np.arange(len(who))
    value, cost = values[n, last], costs[n, last]
    more_value, more_cost = values[n, following] - value, costs[n, following] - cost
    priced = _room(who.cpa_target * value - cost, more_cost - who.cpa_target * more_value)
    share = np.minimum(_room(who.budget - cost, more_cost), priced)
    conversions, cost = value + share * more_value, cost + share * more_cost
    # Columns count from nothing bought, one before the grid's first alpha.
    return Hindsight(tables.alphas[following - 1], conversions, cost, score(conversions, cost, who.cpa_target))


def _room(slack: NDArray[np.float64], needed: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of a bin that fits: slack / needed, at most 1."""
    return np.divide(slack, needed, out=np.ones_like(slack), where=needed > slack)

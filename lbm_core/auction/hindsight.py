"""Upper references of a replayed period: what the best bidding could have reached, knowing the whole day.

Bidding alpha * p wins exactly the impressions whose price per conversion LWC / p is at most alpha. The linear program
"maximise value subject to budget and CPA target" fills impressions in that same order, so its optimum is a threshold
and can be read off the response curves; no solver is needed (the tests compare it with one).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lbm_core.auction.bidder import N_TICKS, Advertisers
from lbm_core.auction.metrics import score
from lbm_core.auction.response_tables import ResponseTables, affordable_share


@dataclass(frozen=True)
class Hindsight:
    """Best outcome per advertiser, in expected conversions.

    Attributes
    ----------
    alpha : (n,) currency per conversion; the threshold price per conversion
    conversions, cost, score : (n,)
    """

    alpha: NDArray[np.float64]
    conversions: NDArray[np.float64]
    cost: NDArray[np.float64]
    score: NDArray[np.float64]


def best_constant(tables: ResponseTables, advertisers: Advertisers | None = None, beta: float = 2.0) -> Hindsight:
    """The constant alpha with the highest score (out of the tables' grid), tick after tick under the budget rule."""
    who = tables.advertisers if advertisers is None else advertisers
    shape = (len(who), len(tables.alphas))
    remaining = np.broadcast_to(who.budget[:, None], shape).copy()
    conversions = np.zeros(shape)
    for tick in range(N_TICKS):
        cost = tables.costs[tick, who.index].astype(np.float64)
        share = affordable_share(cost, remaining)
        conversions += tables.values[tick, who.index] * share
        remaining -= cost * share
    return _best(tables.alphas, conversions, who.budget[:, None] - remaining, who, beta)


def best_score(tables: ResponseTables, advertisers: Advertisers | None = None, beta: float = 2.0) -> Hindsight:
    """Upper bound of the score: the best threshold, spending the budget on the cheapest conversions of the day.

    No policy can buy as many expected conversions for less, so none scores more.
    """
    who = tables.advertisers if advertisers is None else advertisers
    alphas, values, costs = _day_curves(tables, who)
    stops = [_fill(alphas, values, costs, who, cpa=cpa) for cpa in (False, True)]
    affordable = costs <= who.budget[:, None]
    candidates = [
        (np.broadcast_to(alphas, values.shape), np.where(affordable, values, 0.0), np.where(affordable, costs, 0.0)),
        *((stop.alpha[:, None], stop.conversions[:, None], stop.cost[:, None]) for stop in stops),
    ]
    alpha, conversions, cost = (np.concatenate([c[k] for c in candidates], axis=1) for k in range(3))
    return _best(alpha, conversions, cost, who, beta)


def lp_bound(tables: ResponseTables, advertisers: Advertisers | None = None) -> Hindsight:
    """The linear program's optimum: most expected conversions within budget and CPA target, impressions divisible."""
    who = tables.advertisers if advertisers is None else advertisers
    return _fill(*_day_curves(tables, who), who, cpa=True)


def _day_curves(
    tables: ResponseTables, who: Advertisers
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Threshold (G + 1,), value and cost (n, G + 1) of the whole day, starting from nothing bought."""
    values = tables.values[:, who.index].sum(axis=0, dtype=np.float64)
    costs = tables.costs[:, who.index].sum(axis=0, dtype=np.float64)
    return (
        np.concatenate([[0.0], tables.alphas]),
        np.pad(values, ((0, 0), (1, 0))),
        np.pad(costs, ((0, 0), (1, 0))),
    )


def _fill(
    alphas: NDArray[np.float64],
    values: NDArray[np.float64],
    costs: NDArray[np.float64],
    who: Advertisers,
    *,
    cpa: bool,
) -> Hindsight:
    """Buy bins in order of price per conversion until a constraint binds, the last bin in part."""
    n = np.arange(len(who))
    target = who.cpa_target[:, None]
    allowed = costs <= who.budget[:, None]
    if cpa:
        allowed &= costs <= target * values
    # Both constraints hold on an interval that starts at nothing bought: prices per conversion only rise.
    last = np.argmin(np.concatenate([allowed, np.zeros((len(who), 1), bool)], axis=1), axis=1) - 1
    following = np.minimum(last + 1, values.shape[1] - 1)
    more_value = values[n, following] - values[n, last]
    more_cost = costs[n, following] - costs[n, last]
    share = _room(who.budget - costs[n, last], more_cost)
    if cpa:
        share = np.minimum(
            share,
            _room(who.cpa_target * values[n, last] - costs[n, last], more_cost - who.cpa_target * more_value),
        )
    conversions = values[n, last] + share * more_value
    cost = costs[n, last] + share * more_cost
    return Hindsight(alphas[following], conversions, cost, score(conversions, cost, who.cpa_target))


def _room(slack: NDArray[np.float64], needed: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of a bin that fits: slack / needed, at most 1."""
    return np.divide(slack, needed, out=np.ones_like(slack), where=needed > slack)


def _best(
    alphas: NDArray[np.float64],
    conversions: NDArray[np.float64],
    cost: NDArray[np.float64],
    who: Advertisers,
    beta: float,
) -> Hindsight:
    scores = score(conversions, cost, who.cpa_target[:, None], beta)
    best = np.argmax(scores, axis=1)
    n = np.arange(len(who))
    alpha = np.broadcast_to(alphas, scores.shape)[n, best]
    return Hindsight(alpha, conversions[n, best], cost[n, best], scores[n, best])

"""§4.1: budget utilisation, CPA ratio and score of an advertiser-day."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

CPA_RATIO_LIMIT = 100.0  # reported ratio where money bought (almost) no conversion; a cap on the *ratio*, not the CPA


def cpa_ratio(conversions: ArrayLike, cost: ArrayLike, cpa_target: ArrayLike) -> NDArray[np.float64]:
    """Cost per conversion over its target, in [0, :data:`CPA_RATIO_LIMIT`]; at most 1 when the target is met.

    Conversions (count, perhaps expected) and cost (currency) are >= 0, the target > 0; their shapes broadcast. The
    ratio is the limit where money was spent without a conversion, NaN where neither money was spent nor a conversion
    won.

    Differs from the authors' code, which caps the CPA (not the ratio) at 100 and so hides every violation of a target
    of 100 or more.
    """
    _, cost, owed = _paid_and_owed(conversions, cost, cpa_target)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return np.minimum(cost / owed, CPA_RATIO_LIMIT)  # x/0 = inf -> limit; 0/0 stays NaN


def score(conversions: ArrayLike, cost: ArrayLike, cpa_target: ArrayLike, beta: float = 2.0) -> NDArray[np.float64]:
    """Conversions, penalised where the CPA target is missed: conversions * min(1 / CPA ratio, 1) ** beta, beta >= 0.

    Differs from the paper: its text prints the penalty without an exponent; its preprint, the benchmark and the
    authors' code use beta = 2. Arguments as of :func:`cpa_ratio`.
    """
    if not beta >= 0:
        raise ValueError(f"beta must be at least 0; got {beta}")
    conversions, cost, owed = _paid_and_owed(conversions, cost, cpa_target)
    share = np.divide(owed, cost, out=np.ones(np.broadcast_shapes(owed.shape, cost.shape)), where=owed < cost)
    return conversions * share**beta


def summarize(
    conversions: ArrayLike,
    cost: ArrayLike,
    budget: ArrayLike,
    cpa_target: ArrayLike,
    expected_conversions: ArrayLike | None = None,
) -> dict[str, NDArray[np.float64]]:
    """All metrics per advertiser and period, of (n,) sampled conversions and, where given, expected ones (sum of p).

    Columns, (n,): cost, budget_utilization, conversions, cpa_ratio, score, score_beta1 and, with expected conversions,
    expected_conversions, expected_cpa_ratio, expected_score, expected_score_beta1. Averages over advertisers are the
    paper's numbers; take ``nanmean`` of a ratio.
    """
    cost, budget = _amounts(cost=cost), _amounts(positive=True, budget=budget)
    table = {"cost": cost, "budget_utilization": cost / budget}
    kinds = {"": conversions} if expected_conversions is None else {"": conversions, "expected_": expected_conversions}
    for prefix, count in kinds.items():
        table[f"{prefix}conversions"] = _amounts(conversions=count)
        table[f"{prefix}cpa_ratio"] = cpa_ratio(count, cost, cpa_target)
        table[f"{prefix}score"] = score(count, cost, cpa_target, beta=2.0)
        table[f"{prefix}score_beta1"] = score(count, cost, cpa_target, beta=1.0)
    return table


def _paid_and_owed(conversions: ArrayLike, cost: ArrayLike, cpa_target: ArrayLike) -> tuple[NDArray[np.float64], ...]:
    """Conversions, cost, and what the conversions may cost at the target."""
    count = _amounts(conversions=conversions)
    return count, _amounts(cost=cost), count * _amounts(positive=True, cpa_target=cpa_target)


def _amounts(*, positive: bool = False, **named: ArrayLike) -> NDArray[np.float64]:
    ((name, values),) = named.items()
    array = np.asarray(values, dtype=np.float64)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or infinite values")
    if (array <= 0 if positive else array < 0).any():
        raise ValueError(f"{name} must be {'positive' if positive else 'at least 0'}; got {array.min()}")
    return array

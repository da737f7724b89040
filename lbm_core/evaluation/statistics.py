"""How sure we are: bootstrap intervals over delivery periods (and training seeds), paired differences, verdicts.

Conversion draws move a period's mean by 1 %, periods by 8 %, so periods are what is resampled; the seeds of the
conversion draws and the 48 advertisers are averaged first. Where a frame holds a column ``train_seed`` with several
values, training seeds are resampled too, crossed with the periods.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

METRICS = ("conversions", "expected_conversions", "budget_utilization", "cpa_ratio", "score", "score_beta1")
# With fewer paired periods not even a sign test can reach 5 % (2 / 2**5 > 0.05): no interval and no verdict then.
MIN_PERIODS = 6
RESOLVED, NOT_RESOLVED = "resolved", "not resolved"


def mean_interval(
    values: NDArray[np.float64], rng: np.random.Generator, *, n_resamples: int = 4_000
) -> tuple[float, float, float]:
    """Mean, low and high of a 95 % percentile bootstrap; rows and columns are resampled independently of each other.

    ``values`` are (training seeds, periods) or (periods,). Below :data:`MIN_PERIODS` periods low and high are NaN: the
    interval would be far too narrow (of two periods it spans exactly the two, and holds the truth half of the time).
    """
    table = np.atleast_2d(np.asarray(values, dtype=np.float64))
    if table.ndim != 2 or table.size == 0:
        raise ValueError(f"expected (training seeds, periods), got shape {np.shape(values)}")
    if not np.isfinite(table).all():
        raise ValueError("an interval of NaN or infinite values has no meaning: check the result frame")
    if table.shape[1] < MIN_PERIODS:
        return float(table.mean()), np.nan, np.nan
    samples = [np.arange(n) for n in table.shape if n > 1]

    def mean(*drawn: NDArray[np.int64], axis: int = -1) -> NDArray[np.float64]:  # scipy asks for the name axis
        if len(drawn) == 1:
            return table[0, drawn[0]].mean(axis=-1)
        return table[drawn[0][..., :, None], drawn[1][..., None, :]].mean(axis=(-2, -1))

    resampled = stats.bootstrap(samples, mean, vectorized=True, method="percentile", n_resamples=n_resamples, rng=rng)
    return float(table.mean()), float(resampled.confidence_interval.low), float(resampled.confidence_interval.high)


def period_table(frame: pd.DataFrame, method: str, metric: str) -> pd.DataFrame:
    """Means of one method over advertisers and conversion draws: one row per training seed, one column per period."""
    if missing := [name for name in ("method", "period", metric) if name not in frame]:
        raise ValueError(f"the result frame has no column {missing[0]!r}; it has {', '.join(map(str, frame.columns))}")
    rows = frame[frame["method"] == method]
    if rows.empty:
        raise ValueError(f"no rows of method {method!r}; there are {', '.join(sorted(frame['method'].unique()))}")
    rows = rows.assign(train_seed=rows.get("train_seed", 0))
    table = rows.pivot_table(index="train_seed", columns="period", values=metric, aggfunc="mean")
    if table.isna().any(axis=None):
        raise ValueError(f"{method}: some training seeds did not meet all {table.shape[1]} periods")
    return table


def intervals(frame: pd.DataFrame, rng: np.random.Generator, *, metrics: Sequence[str] = METRICS) -> pd.DataFrame:
    """Mean of every method and metric with its bootstrap interval.

    One row per method and metric of :func:`lbm_core.evaluation.runner.evaluate`'s rows (or their means per period),
    maybe with ``train_seed``: method, metric, mean, low, high, periods, seeds (conversion draws), train_seeds.
    """
    rows = []
    for method in frame["method"].unique():
        seeds = frame.loc[frame["method"] == method, "seed"].nunique() if "seed" in frame else 1
        for metric in metrics:
            table = period_table(frame, method, metric)
            rows.append((method, metric, *mean_interval(table.to_numpy(), rng), table.shape[1], seeds, len(table)))
    columns = ["method", "metric", "mean", "low", "high", "periods", "seeds", "train_seeds"]
    return pd.DataFrame(rows, columns=columns)


def paired_differences(
    frame: pd.DataFrame,
    reference: str,
    rng: np.random.Generator,
    *,
    metrics: Sequence[str] = ("conversions", "score"),
    methods: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Every method (default: all others) minus the reference on the same periods, conversion draws and advertisers.

    One row per method and metric: method, reference, metric, difference, low, high (same unit as the metric),
    relative (difference / mean of the reference), periods, verdict ("resolved" where the interval excludes 0 and at
    least :data:`MIN_PERIODS` periods are paired, else "not resolved").
    """
    bases = {metric: period_table(frame, reference, metric) for metric in metrics}
    keys = [name for name in ("period", "seed", "advertiser") if name in frame]
    met = {name: set(part[keys].itertuples(index=False, name=None)) for name, part in frame.groupby("method")}
    others = [name for name in frame["method"].unique() if name != reference]
    rows = []
    for method in others if methods is None else methods:
        for metric, base in bases.items():
            ours, level = period_table(frame, method, metric), float(base.to_numpy().mean())
            if met[method] != met[reference]:
                raise ValueError(f"{method} and {reference} are not paired: they met other {', '.join(keys)}s")
            if len(ours) > 1 and len(base) > 1:  # an untrained method, one row, meets every training seed of the other
                ours, base = ours.align(base, join="inner", axis=0)
                if ours.empty:
                    raise ValueError(f"{method} and {reference} share no training seed: they cannot be paired")
            mean, low, high = mean_interval(ours.to_numpy() - base.to_numpy(), rng)
            relative, periods = mean / level if level else np.nan, base.shape[1]
            rows.append((method, reference, metric, mean, low, high, relative, periods, verdict(low, high, periods)))
    columns = ["method", "reference", "metric", "difference", "low", "high", "relative", "periods", "verdict"]
    return pd.DataFrame(rows, columns=columns)


def verdict(low: float, high: float, periods: int) -> str:
    """ "resolved" if an interval of a difference excludes 0 on enough periods, else "not resolved"."""
    excluded = low > 0 or high < 0  # False where the bounds are NaN
    return RESOLVED if excluded and periods >= MIN_PERIODS else NOT_RESOLVED

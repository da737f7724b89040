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
    """Mean and 95 % percentile bootstrap interval; rows and columns are resampled independently of each other.

    Parameters
    ----------
    values : (training seeds, periods) or (periods,)

    Returns
    -------
    mean, low, high : low and high are NaN below :data:`MIN_PERIODS` periods, where the interval would be far too narrow
        (of two periods it spans exactly the two, and holds the truth half of the time)
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
    """Means of one method over advertisers and conversion draws: one row per training seed, one column per period.

    Raises
    ------
    ValueError
        A missing column, an unknown method, or a period that some training seed did not meet.
    """
    rows = _rows(frame, method, metric)
    if "train_seed" not in rows:
        rows = rows.assign(train_seed=0)
    table = rows.pivot_table(index="train_seed", columns="period", values=metric, aggfunc="mean")
    if table.isna().any(axis=None):
        raise ValueError(f"{method}: some training seeds did not meet all {table.shape[1]} periods")
    return table


def intervals(frame: pd.DataFrame, rng: np.random.Generator, *, metrics: Sequence[str] = METRICS) -> pd.DataFrame:
    """Mean of every method and metric with its bootstrap interval.

    Parameters
    ----------
    frame : rows of :func:`lbm_core.evaluation.runner.evaluate` (or their means per period), maybe with ``train_seed``

    Returns
    -------
    One row per method and metric: method, metric, mean, low, high, periods, seeds (conversion draws), train_seeds.
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
    """Every method minus the reference on the same periods, conversion draws and advertisers.

    Parameters
    ----------
    reference : name of the method to compare with
    methods : which to compare; default all others

    Returns
    -------
    One row per method and metric: method, reference, metric, difference, low, high (same unit as the metric),
    relative (difference / mean of the reference), periods, verdict ("resolved" where the interval excludes 0 and at
    least :data:`MIN_PERIODS` periods are paired, else "not resolved").

    Raises
    ------
    ValueError
        The two methods did not meet the same periods, draws and advertisers.
    """
    rows = []
    for method in [name for name in frame["method"].unique() if name != reference] if methods is None else methods:
        _require_paired(frame, method, reference)
        for metric in metrics:
            ours, base = period_table(frame, method, metric), period_table(frame, reference, metric)
            difference = _subtract(ours, base)
            mean, low, high = mean_interval(difference, rng)
            level, periods = float(base.to_numpy().mean()), difference.shape[1]
            relative = mean / level if level else np.nan
            rows.append((method, reference, metric, mean, low, high, relative, periods, verdict(low, high, periods)))
    columns = ["method", "reference", "metric", "difference", "low", "high", "relative", "periods", "verdict"]
    return pd.DataFrame(rows, columns=columns)


def verdict(low: float, high: float, periods: int) -> str:
    """ "resolved" if an interval of a difference excludes 0 on enough periods, else "not resolved"."""
    excluded = low > 0 or high < 0  # False where the bounds are NaN
    return RESOLVED if excluded and periods >= MIN_PERIODS else NOT_RESOLVED


def _subtract(ours: pd.DataFrame, base: pd.DataFrame) -> NDArray[np.float64]:
    """(training seeds, periods); a method that is not trained (one row) meets every training seed of the other."""
    if len(ours) > 1 and len(base) > 1:
        shared = ours.index.intersection(base.index)
        if shared.empty:
            raise ValueError("the two methods share no training seed, so their differences cannot be paired")
        ours, base = ours.loc[shared], base.loc[shared]
    return ours.to_numpy() - base.to_numpy()


def _rows(frame: pd.DataFrame, method: str, *columns: str) -> pd.DataFrame:
    missing = [name for name in ("method", "period", *columns) if name not in frame]
    if missing:
        raise ValueError(f"the result frame has no column {missing[0]!r}; it has {', '.join(map(str, frame.columns))}")
    rows = frame[frame["method"] == method]
    if rows.empty:
        raise ValueError(f"no rows of method {method!r}; there are {', '.join(sorted(frame['method'].unique()))}")
    return rows


def _require_paired(frame: pd.DataFrame, method: str, reference: str) -> None:
    keys = [name for name in ("period", "seed", "advertiser") if name in frame]
    ours, base = (set(_rows(frame, name)[keys].itertuples(index=False, name=None)) for name in (method, reference))
    if ours != base:
        raise ValueError(f"{method} and {reference} did not meet the same {', '.join(keys)}: their rows are not paired")

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
_KEYS = ["period", "seed", "advertiser"]


def mean_interval(
    values: NDArray[np.float64], rng: np.random.Generator, *, confidence: float = 0.95, n_resamples: int = 4_000
) -> tuple[float, float, float]:
    """Mean and percentile bootstrap interval; rows and columns are resampled independently of each other.

    Parameters
    ----------
    values : (training seeds, periods) or (periods,)
    confidence : in (0, 1)

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
    mean = float(table.mean())
    if table.shape[1] < MIN_PERIODS:
        return mean, float("nan"), float("nan")
    columns = np.arange(table.shape[1])
    samples = (columns,) if len(table) == 1 else (np.arange(len(table)), columns)

    def statistic(*drawn: NDArray[np.int64], axis: int = -1) -> NDArray[np.float64]:  # scipy asks for the name axis
        if len(drawn) == 1:
            return table[0, drawn[0]].mean(axis=-1)
        return table[drawn[0][..., :, None], drawn[1][..., None, :]].mean(axis=(-2, -1))

    result = stats.bootstrap(
        samples,
        statistic,
        vectorized=True,
        method="percentile",
        confidence_level=confidence,
        n_resamples=n_resamples,
        rng=rng,
    )
    return mean, float(result.confidence_interval.low), float(result.confidence_interval.high)


def period_table(frame: pd.DataFrame, method: str, metric: str) -> pd.DataFrame:
    """Means of one method over advertisers and conversion draws: one row per training seed, one column per period.

    Raises
    ------
    ValueError
        A missing column, an unknown method, or a period that some training seed did not meet.
    """
    _require(frame, ["method", "period", metric])
    rows = frame[frame["method"] == method]
    if rows.empty:
        raise ValueError(f"no rows of method {method!r}; there are {', '.join(sorted(frame['method'].unique()))}")
    if "train_seed" not in rows:
        rows = rows.assign(train_seed=0)
    table = rows.pivot_table(index="train_seed", columns="period", values=metric, aggfunc="mean")
    if table.isna().any(axis=None):
        raise ValueError(f"{method}: some training seeds did not meet all {table.shape[1]} periods")
    return table


def intervals(
    frame: pd.DataFrame,
    rng: np.random.Generator,
    *,
    metrics: Sequence[str] = METRICS,
    confidence: float = 0.95,
) -> pd.DataFrame:
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
            mean, low, high = mean_interval(table.to_numpy(), rng, confidence=confidence)
            rows.append((method, metric, mean, low, high, table.shape[1], seeds, len(table)))
    columns = ["method", "metric", "mean", "low", "high", "periods", "seeds", "train_seeds"]
    return pd.DataFrame(rows, columns=columns)


def paired_differences(
    frame: pd.DataFrame,
    reference: str,
    rng: np.random.Generator,
    *,
    metrics: Sequence[str] = ("conversions", "score"),
    methods: Sequence[str] | None = None,
    confidence: float = 0.95,
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
    if methods is None:
        methods = [name for name in frame["method"].unique() if name != reference]
    rows = []
    for method in methods:
        _require_paired(frame, method, reference)
        for metric in metrics:
            ours, base = period_table(frame, method, metric), period_table(frame, reference, metric)
            difference = _subtract(ours, base)
            mean, low, high = mean_interval(difference, rng, confidence=confidence)
            level = float(base.to_numpy().mean())
            relative = mean / level if level else float("nan")
            periods = difference.shape[1]
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


def _require(frame: pd.DataFrame, columns: Sequence[str]) -> None:
    missing = [name for name in columns if name not in frame]
    if missing:
        raise ValueError(f"the result frame has no column {missing[0]!r}; it has {', '.join(map(str, frame.columns))}")


def _require_paired(frame: pd.DataFrame, method: str, reference: str) -> None:
    keys = [name for name in _KEYS if name in frame]
    _require(frame, ["method", "period"])
    met = {
        name: set(frame.loc[frame["method"] == name, keys].itertuples(index=False, name=None))
        for name in (method, reference)
    }
    for name in met:
        if not met[name]:
            raise ValueError(f"no rows of method {name!r}; there are {', '.join(sorted(frame['method'].unique()))}")
    if met[method] != met[reference]:
        raise ValueError(f"{method} and {reference} did not meet the same {', '.join(keys)}: their rows are not paired")

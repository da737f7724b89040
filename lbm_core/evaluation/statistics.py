"""How sure we are: intervals over delivery periods and training seeds, paired differences, verdicts.

Conversion draws move a period's mean by 1 %, periods by 8 %, so periods are what is resampled; the seeds of the
conversion draws and the 48 advertisers are averaged first. What is learned has the luck of its trainings besides: fewer
than :data:`MIN_TRAININGS` of them decide nothing.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

# With fewer paired periods not even a sign test can reach 5 % (2 / 2**5 > 0.05): no interval and no verdict then.
MIN_PERIODS = 6
MIN_TRAININGS = 3  # of what is learned, below which an interval over periods is shown and nothing is decided
ABOVE, BELOW, OPEN = "above", "below", "open"


def mean_interval(
    values: NDArray[np.float64], rng: np.random.Generator, *, n_resamples: int = 4_000
) -> tuple[float, float, float]:
    """Mean, low and high of a 95 % interval; ``values`` are (training seeds, periods) or (periods,).

    With fewer than :data:`MIN_TRAININGS` training seeds it is the percentile bootstrap over periods of the seeds' mean,
    and does not hold the luck of training. With more, seeds and periods are two crossed samples whose errors add up:
    the interval's half width, squared, is the sum of the squares of two half widths, of the t interval over the seeds'
    means (each over all periods) and of that over the periods' means (each over all seeds; its variance is the
    bootstrap's, which for a mean needs no resampling). So added, t intervals hold the truth in at least 95 % of cases,
    whichever source is the larger (Banerjee 1960). What seed and period do together is in both parts: the interval errs
    on the wide side. Resampling three seeds would be far too narrow: the resampled variance is a third too small, and a
    percentile knows nothing of two degrees of freedom (t = 4.3 in the place of 2).

    Below :data:`MIN_PERIODS` periods low and high are NaN: the interval would be far too narrow (of two periods it
    spans exactly the two, and holds the truth half of the time).
    """
    table = np.atleast_2d(np.asarray(values, dtype=np.float64))
    if table.ndim != 2 or table.size == 0:
        raise ValueError(f"expected (training seeds, periods), got shape {np.shape(values)}")
    if not np.isfinite(table).all():
        raise ValueError("an interval of NaN or infinite values has no meaning: check the result frame")
    mean, seeds, periods = float(table.mean()), table.mean(axis=1), table.mean(axis=0)
    if len(periods) < MIN_PERIODS:
        return mean, np.nan, np.nan
    if len(seeds) >= MIN_TRAININGS:
        half = float(np.hypot(*(stats.t.ppf(0.975, len(part) - 1) * stats.sem(part) for part in (seeds, periods))))
        return mean, mean - half, mean + half
    resampled = stats.bootstrap((periods,), np.mean, method="percentile", n_resamples=n_resamples, rng=rng)
    return mean, float(resampled.confidence_interval.low), float(resampled.confidence_interval.high)


def period_table(frame: pd.DataFrame, method: str, metric: str) -> pd.DataFrame:
    """Means of one method over advertisers and conversion draws: one row per training seed, one column per period."""
    if missing := [name for name in ("method", "period", metric) if name not in frame]:
        raise ValueError(f"the result frame has no column {missing[0]!r}; it has {', '.join(map(str, frame.columns))}")
    rows = frame[frame["method"] == method]
    if rows.empty:
        raise ValueError(f"no rows of method {method!r}; there are {', '.join(sorted(frame['method'].unique()))}")
    rows = rows.assign(train_seed=pd.Series(rows.get("train_seed"), rows.index).fillna(0))
    table = rows.pivot_table(index="train_seed", columns="period", values=metric, aggfunc="mean")
    if table.isna().any(axis=None):
        raise ValueError(f"{method}: some training seeds did not meet all {table.shape[1]} periods")
    return table


def one_identity(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame itself; a ValueError where one method, data set and training seed bid with two different ``weights``.

    Such rows are of two models under one name, and their mean is nobody's.
    """
    keys = [name for name in ("method", "tier", "dataset", "train_seed") if name in frame]
    if "weights" in frame:
        known = frame.loc[frame["weights"].notna() & (frame["weights"] != ""), [*keys, "weights"]].drop_duplicates()
        for key, hashes in known.groupby(keys, sort=False, dropna=False)["weights"]:
            if len(hashes) > 1:
                who = ", ".join(f"{name} {value}" for name, value in zip(keys, key, strict=True))
                raise ValueError(f"two models under one name: {who} bid with weights {' and with '.join(hashes)}")
    return frame


def trainings(frame: pd.DataFrame, method: str) -> int:
    """How many trainings of a method the rows hold; 0 of one that learns nothing.

    A method learns if it has several training seeds, or ``weights`` that were trained (behind a "+" alone are those of
    a language model that nobody trained here). Rows older than ``weights`` do not say it where no method has several
    seeds: all of them count as learned then.
    """
    frame = frame.dropna(axis=1, how="all")  # what only another data set's rows fill
    seeds = frame.get("train_seed", pd.Series(0, frame.index)).groupby(frame["method"]).nunique()
    if seeds[method] > 1:
        return int(seeds[method])
    if "weights" in frame:
        weights = frame.loc[frame["method"] == method, "weights"].astype("object").fillna("")
        return int(weights.str.match("[^+]").any())
    return int("train_seed" in frame and seeds.max() == 1)


def intervals(
    frame: pd.DataFrame, rng: np.random.Generator, *, metrics: Sequence[str] = ("conversions", "score")
) -> pd.DataFrame:
    """Mean of every method and metric with its interval (:func:`mean_interval`).

    One row per method and metric of :func:`lbm_core.evaluation.runner.evaluate`'s rows (or their means per period),
    maybe with ``train_seed``: method, metric, mean, low, high, periods, seeds (conversion draws), train_seeds.
    """
    rows = []
    for method in one_identity(frame)["method"].unique():
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
    """Every method (default: all others) minus the reference on the periods, conversion draws and advertisers that both
    have met; a ValueError where there are none.

    One row per method and metric: method, reference, metric, difference, low, high (same unit as the metric),
    relative (difference / mean of the reference), periods, trainings (training seeds that the learned ones of the two
    share; 0 if neither learns), :func:`verdict`.
    """
    learned = {name: trainings(frame, name) for name in one_identity(frame)["method"].unique()}
    keys = [name for name in ("period", "seed", "advertiser", "advertisers") if name in frame]
    rows = []
    period_table(frame, reference, metrics[0])  # refuses a reference that nobody is
    for method in [name for name in learned if name != reference] if methods is None else methods:
        two = frame[frame["method"].isin([method, reference])]
        two = two[two.groupby(keys)["method"].transform("nunique") == 2]
        if two.empty:
            raise ValueError(f"{method} and {reference} are not paired: they met others of {', '.join(keys)}")
        for metric in metrics:
            ours, base = (period_table(two, name, metric) for name in (method, reference))
            level = float(base.to_numpy().mean())
            if learned[method] and learned[reference]:  # an untrained method meets every training seed of the other
                ours, base = ours.align(base, join="inner", axis=0)
                if ours.empty:
                    raise ValueError(f"{method} and {reference} share no training seed: they cannot be paired")
            differences = ours.to_numpy() - base.to_numpy()
            mean, low, high = mean_interval(differences, rng)
            count, periods = len(differences) if learned[method] or learned[reference] else 0, base.shape[1]
            judged = (mean / level if level else np.nan, periods, count, verdict(low, high, periods, count))
            rows.append((method, reference, metric, mean, low, high, *judged))
    columns = ["method", "reference", "metric", "difference", "low", "high"]
    return pd.DataFrame(rows, columns=[*columns, "relative", "periods", "trainings", "verdict"])


def verdict(low: float, high: float, periods: int = MIN_PERIODS, trainings: int = 0) -> str:
    """Where a difference lies: "above" or "below" 0 if its interval excludes 0, else "open".

    Fewer than :data:`MIN_PERIODS` periods leave it open, and so do one or two trainings of what is learned (0: nothing
    is), whatever the interval: it does not hold the luck of training.
    """
    if periods < MIN_PERIODS or 0 < trainings < MIN_TRAININGS:
        return OPEN
    return ABOVE if low > 0 else BELOW if high < 0 else OPEN  # open, too, where the bounds are NaN

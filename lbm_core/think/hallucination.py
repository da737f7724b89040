"""How often a language model hallucinates here, and how wrong it then is: shares and errors with intervals (A.3).

Texts of one prompt resemble each other, so prompts are what the bootstrap resamples (95 % percentile intervals).
"""

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from lbm_core.evaluation.statistics import MIN_PERIODS
from lbm_core.think.parse import ANSWER_FAILURES, TOLERANCE, Status

COLUMNS = ("model", "prompt", "sample", "true_ratio", "ratio", "direction", "stated", "status")
Statistic = Callable[[NDArray[np.int64]], NDArray[np.float64]]  # indices of prompts (..., n) -> (...)


def hallucination(texts: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """What becomes of each model's texts, with intervals over prompts.

    Texts have :data:`COLUMNS`, as many rows for every prompt of a model (else ValueError); NaN where a text gives no
    ratio, direction or recommendation, or the truth is undefined.

    Returns
    -------
    model, quantity, value, low, high, texts (how many the quantity is about), prompts. The quantities:

    - "accepted", and the share of every other :class:`~lbm_core.think.parse.Status` that occurs;
    - "answered": share with one valid direction;
    - "ratio right" and "ratio within 10 %": share within 3 and 10 % of the truth, among texts that state a ratio where
      the truth is defined;
    - "ratio error, median" and "… 90th percentile" of |stated - true| / true, among the same;
    - "contradiction": share of answers 1 or -1 whose reasoning could be read and recommends another direction or none;
    - "raise below 1": share that raises where the CPA ratio is below 1, minus the share where it is above.

    Intervals are NaN below six prompts, and where a quantity is undefined in some resample. Where all prompts agree on
    a share of 0 or 1, the interval is Clopper-Pearson's of as many draws as prompts.
    """
    missing = [name for name in COLUMNS if name not in texts]
    if missing or texts.empty:
        raise ValueError(f"hallucination needs texts with the columns {', '.join(COLUMNS)}; missing: {missing}")
    rows = [(model, *row) for model, own in texts.groupby("model", sort=False) for row in _of_model(own, rng)]
    return pd.DataFrame(rows, columns=["model", "quantity", "value", "low", "high", "texts", "prompts"])


def ratio_errors(texts: pd.DataFrame) -> pd.Series:
    """|stated - true| / true of every text; NaN where no ratio is stated or the truth is undefined or zero."""
    return (texts["ratio"] - texts["true_ratio"]).abs() / texts["true_ratio"].where(texts["true_ratio"] > 0)


def _of_model(texts: pd.DataFrame, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
    counts = texts.groupby("prompt").size()
    if counts.nunique() != 1:
        raise ValueError(f"prompts have between {counts.min()} and {counts.max()} texts; expected equally many")
    texts, n = texts.sort_values(["prompt", "sample"]), len(counts)
    truth, direction, stated, error = (
        column.to_numpy(dtype=float).reshape(n, -1)
        for column in (texts["true_ratio"], texts["direction"], texts["stated"], ratio_errors(texts))
    )
    status = texts["status"].to_numpy(dtype=str).reshape(n, -1)
    # A direction behind a ratio that is missing or wrong is a direction all the same.
    answered = ~np.isin(status, [failure.value for failure in ANSWER_FAILURES])
    opinion = answered & ~np.isnan(stated) & (direction != 0)
    low, high = answered & (truth < 1), answered & (truth > 1)
    always, known = np.ones_like(answered), ~np.isnan(error)
    occurring = [one.value for one in Status if one is not Status.ACCEPTED and (status == one.value).any()]
    shares = {name: (status == name, always) for name in (Status.ACCEPTED.value, *occurring)}
    shares |= {"answered": (answered, always), "ratio right": (error <= TOLERANCE + 1e-9, known)}
    shares["ratio within 10 %"] = (error <= 0.1 + 1e-9, known)
    below, above = _share(direction == 1, low), _share(direction == 1, high)
    quantities: dict[str, tuple[Statistic, NDArray[np.bool_], int]] = {
        **{name: (_share(hit, among), among, int(among.any(axis=1).sum())) for name, (hit, among) in shares.items()},
        "ratio error, median": (_statistic(error, partial(np.nanquantile, q=0.5)), known, 0),
        "ratio error, 90th percentile": (_statistic(error, partial(np.nanquantile, q=0.9)), known, 0),
        "contradiction": (_share(direction != stated, opinion), opinion, 0),
        "raise below 1": (lambda drawn: below(drawn) - above(drawn), low | high, 0),
    }
    for name, (statistic, about, agreeing) in quantities.items():
        yield name, *_with_interval(statistic, n, rng, agreeing), int(about.sum()), n


def _share(hit: NDArray[np.bool_], among: NDArray[np.bool_]) -> Statistic:
    return _statistic(np.where(among, hit, np.nan), np.nanmean)


def _statistic(values: NDArray[np.float64], reduced: Callable[..., Any]) -> Statistic:
    """Of texts (n, samples), NaN where one does not count, as a function of the prompts that are drawn."""

    def statistic(drawn: NDArray[np.int64]) -> NDArray[np.float64]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # nothing that counts: NaN is the answer
            return reduced(values[drawn].reshape(*drawn.shape[:-1], -1), axis=-1)

    return statistic


def _with_interval(statistic: Statistic, n: int, rng: np.random.Generator, agreeing: int) -> tuple[float, float, float]:
    """Value and interval; ``agreeing`` is the number of prompts of a share, 0 of anything else."""
    everyone = np.arange(n)
    value = float(statistic(everyone))
    if n < MIN_PERIODS or np.isnan(value):
        return value, float("nan"), float("nan")
    interval = stats.bootstrap(
        (everyone,),
        lambda drawn, axis: statistic(drawn.astype(np.int64)),
        n_resamples=2_000,
        batch=200,
        method="percentile",
        rng=rng,
    ).confidence_interval
    if agreeing and interval.low == interval.high and value in (0.0, 1.0):  # so many prompts agree
        interval = stats.binomtest(agreeing if value else 0, agreeing).proportion_ci()
    return value, float(interval.low), float(interval.high)

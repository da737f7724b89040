"""How often a language model hallucinates here, and how wrong it then is: shares and errors with intervals (A.3).

Texts of one prompt resemble each other, so prompts are what the bootstrap resamples.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from lbm_core.evaluation.statistics import MIN_PERIODS
from lbm_core.think.parse import ANSWER_FAILURES, TOLERANCE, Status

COLUMNS = ("model", "prompt", "sample", "true_ratio", "ratio", "direction", "stated", "status")
Statistic = Callable[[NDArray[np.int64]], NDArray[np.float64]]  # indices of prompts (..., n) -> (...)
Quantity = tuple[Statistic, int, int]  # with the number of texts that it is about, and of prompts where all may agree


def hallucination(texts: pd.DataFrame, rng: np.random.Generator, *, n_resamples: int = 2_000) -> pd.DataFrame:
    """What becomes of each model's texts, with 95 % percentile intervals over prompts.

    Parameters
    ----------
    texts : :data:`COLUMNS`, one row per text, the same number of texts for every prompt of a model; NaN where a text
        gives no ratio, direction or recommendation, or the truth is undefined

    Returns
    -------
    model, quantity, value, low, high, texts (how many the quantity is about), prompts. The quantities, in order:

    - "accepted", and the share of every other :class:`~lbm_core.think.parse.Status` that occurs;
    - "answered": share with one valid direction;
    - "ratio right": share within 3 % of the truth, among texts that state a ratio where the truth is defined;
    - "ratio error, median" and "… 90th percentile" of |stated - true| / true, among the same;
    - "contradiction": share whose reasoning recommends the opposite or no direction, among texts that answer 1 or -1
      and whose reasoning could be read;
    - "raise below 1": share that raises where the CPA ratio is below 1, minus the share where it is above: 0 if the
      answer does not depend on the ratio.

    Intervals are NaN below six prompts, and where a quantity is undefined in some resample. Where all prompts agree (a
    share of 0 or 1) a resample says nothing, and the interval is Clopper-Pearson's of as many draws as prompts.

    Raises
    ------
    ValueError
        A missing column, no text, or prompts with different numbers of texts.
    """
    missing = [name for name in COLUMNS if name not in texts]
    if missing or texts.empty:
        raise ValueError(f"hallucination needs texts with the columns {', '.join(COLUMNS)}; missing: {missing}")
    models = texts.groupby("model", sort=False)
    frames = [_of_model(rows, rng, n_resamples).assign(model=model) for model, rows in models]
    return pd.concat(frames, ignore_index=True)[["model", "quantity", "value", "low", "high", "texts", "prompts"]]


def copied(answers: pd.DataFrame, rng: np.random.Generator, *, n_resamples: int = 2_000) -> pd.DataFrame:
    """How often a readable answer is that of the last worked example, per model.

    Parameters
    ----------
    answers : model, moment, last, direction (NaN without one valid answer), every moment once with each case last

    Returns
    -------
    model, readable (share of the texts), same (share of the readable ones), low, high (95 % interval of ``same``, over
    moments), copied (share c of copies that explains ``same``, if the other answers do not know which case came last:
    same = c + (1 - c) / cases), moments
    """
    rows = []
    for model, own in answers.groupby("model", sort=False):
        table = own.pivot(index="moment", columns="last", values="direction")
        read, cases = table.notna().to_numpy(), table.shape[1]
        hit = table.to_numpy() == table.columns.to_numpy()
        same, low, high = _with_interval(_share(hit, read), len(table), rng, n_resamples, 0)
        rows.append((model, read.mean(), same, low, high, (cases * same - 1) / (cases - 1), len(table)))
    return pd.DataFrame(rows, columns=["model", "readable", "same", "low", "high", "copied", "moments"])


def ratio_errors(texts: pd.DataFrame) -> pd.Series:
    """|stated - true| / true of every text; NaN where no ratio is stated or the truth is undefined or zero."""
    return (texts["ratio"] - texts["true_ratio"]).abs() / texts["true_ratio"].where(texts["true_ratio"] > 0)


def _of_model(texts: pd.DataFrame, rng: np.random.Generator, n_resamples: int) -> pd.DataFrame:
    counts = texts.groupby("prompt").size()
    if counts.nunique() != 1:
        raise ValueError(f"prompts have between {counts.min()} and {counts.max()} texts; expected equally many")
    n = len(counts)
    numbers = {name: texts[name].astype(float) for name in ("true_ratio", "ratio", "direction", "stated")}
    texts = texts.assign(**numbers).sort_values(["prompt", "sample"])

    def table(values: pd.Series) -> NDArray:
        return values.to_numpy().reshape(n, -1)

    def share(hit: pd.Series, among: pd.Series) -> Quantity:
        return _share(table(hit & among), table(among)), int(among.sum()), int(table(among).any(axis=1).sum())

    status, error = texts["status"], ratio_errors(texts)
    direction, stated = texts["direction"], texts["stated"]
    # A direction behind a ratio that is missing or wrong is a direction all the same.
    answered = ~status.isin([failure.value for failure in ANSWER_FAILURES])
    opinion = answered & stated.notna() & (direction != 0)
    low, high = answered & (texts["true_ratio"] < 1), answered & (texts["true_ratio"] > 1)
    always, known = pd.Series(True, index=texts.index), error.notna()
    occurring = [one.value for one in Status if one is not Status.ACCEPTED and (status == one.value).any()]
    quantities = {name: share(status == name, always) for name in (Status.ACCEPTED.value, *occurring)}
    quantities["answered"] = share(answered, always)
    quantities["ratio right"] = share(error <= TOLERANCE + 1e-9, known)
    quantities["ratio error, median"] = _quantile(table(error), 0.5), int(known.sum()), 0
    quantities["ratio error, 90th percentile"] = _quantile(table(error), 0.9), int(known.sum()), 0
    quantities["contradiction"] = *share(direction != stated, opinion)[:2], 0
    (below, *_), (above, *_) = share(direction == 1, low), share(direction == 1, high)
    quantities["raise below 1"] = lambda drawn: below(drawn) - above(drawn), int((low | high).sum()), 0
    rows = []
    for name, (statistic, about, agreeing) in quantities.items():
        rows.append((name, *_with_interval(statistic, n, rng, n_resamples, agreeing), about, n))
    return pd.DataFrame(rows, columns=["quantity", "value", "low", "high", "texts", "prompts"])


def _share(hit: NDArray, among: NDArray) -> Statistic:
    hits, total = hit.sum(axis=1).astype(float), among.sum(axis=1).astype(float)

    def statistic(drawn: NDArray[np.int64]) -> NDArray[np.float64]:
        below = total[drawn].sum(axis=-1)
        return np.divide(hits[drawn].sum(axis=-1), below, out=np.full(below.shape, np.nan), where=below > 0)

    return statistic


def _quantile(values: NDArray, q: float) -> Statistic:
    def statistic(drawn: NDArray[np.int64]) -> NDArray[np.float64]:
        pool = values[drawn].reshape(*drawn.shape[:-1], -1).astype(float)
        empty = np.isnan(pool).all(axis=-1, keepdims=True)
        return np.where(empty[..., 0], np.nan, np.nanquantile(np.where(empty, 0.0, pool), q, axis=-1))

    return statistic


def _with_interval(
    statistic: Statistic, n: int, rng: np.random.Generator, n_resamples: int, agreeing: int
) -> tuple[float, float, float]:
    everyone = np.arange(n)
    value = float(statistic(everyone))
    if n < MIN_PERIODS or np.isnan(value):
        return value, float("nan"), float("nan")
    interval = stats.bootstrap(
        (everyone,),
        lambda drawn, axis=-1: statistic(drawn.astype(np.int64)),
        vectorized=True,
        method="percentile",
        n_resamples=n_resamples,
        batch=200,
        rng=rng,
    ).confidence_interval
    if agreeing and interval.low == interval.high and value in (0.0, 1.0):  # a share, and so many prompts agree
        interval = stats.binomtest(agreeing if value else 0, agreeing).proportion_ci()
    return value, float(interval.low), float(interval.high)

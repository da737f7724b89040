"""Advice before and after fine-tuning: hallucinations, answers by CPA ratio, agreement with the judges; a coin's."""

import numpy as np
import pandas as pd

from lbm_core.evaluation.statistics import mean_interval

TOLERANCE = 0.03  # largest relative error of a stated CPA ratio that is none (A.3)
# Columns of :func:`measures`, and what each is the share of.
MEASURES = {
    "answered": "one valid answer",
    "hallucinated": "no valid answer, or CPA ratio misstated",
    "with the ratio": "alpha moves against the CPA ratio",
    "better than the log": "relative-Q > 0",
    "as the critic": "answer has the best Q",
    "as the simulator": "answer has the best replayed score",
}
RATIO_BINS = {"below 0.8": (0.0, 0.8), "0.8 to 1": (0.8, 1.0), "1 to 1.25": (1.0, 1.25), "above 1.25": (1.25, np.inf)}


def measures(frame: pd.DataFrame) -> pd.DataFrame:
    """What each piece of advice is worth: model, moment, training, each of :data:`MEASURES` as 1, 0 or NaN (unknown).

    A text without a valid answer agrees with nobody, so that all shares of a model are of the same moments. ``weights``
    name the model: the luck of a training is in all of it, be it only the critic's, who judges. ``frame`` holds model,
    moment, cpa_ratio, direction, delta_a, relative_q, critic_best, simulator_best, and status and ratio_error (empty
    for who writes no texts), maybe train_seed.
    """
    ratio, advised = frame["cpa_ratio"], frame["direction"].astype("float64")
    simulator, stated = frame["simulator_best"], frame["ratio_error"].astype("float64") <= TOLERANCE + 1e-12
    writes, known = frame["status"].notna(), np.isfinite(ratio) & (ratio > 0)
    shares = {
        "answered": advised.notna().where(writes),
        "hallucinated": (advised.isna() | ~stated).where(writes & known),
        "with the ratio": (np.sign(frame["delta_a"]) == np.sign(1 - ratio)).where(known & (ratio != 1)),
        "better than the log": frame["relative_q"] > 0,
        "as the critic": advised == frame["critic_best"],
        "as the simulator": (advised == simulator).where(np.isfinite(simulator)),
    }
    rows = frame[["model", "moment"]].assign(train_seed=frame.get("train_seed", 0), weights=frame["model"], **shares)
    return rows.astype(dict.fromkeys(shares, "float64"))


def before_and_after(measured: pd.DataFrame, reference: str, rng: np.random.Generator) -> pd.DataFrame:
    """Mean of every measure with its interval over moments and trainings, and the paired difference to a reference.

    One row per model and measure of :func:`measures`: model, measure, mean, low, high, moments, difference,
    difference_low, difference_high (all three empty for the reference itself), trainings. Fewer than three trainings'
    interval does not hold their luck (:func:`lbm_core.evaluation.statistics.mean_interval`).
    """
    tables = {name: measured.pivot(index=["model", "train_seed"], columns="moment", values=name) for name in MEASURES}
    names = measured["model"].unique()
    if reference not in names:
        raise ValueError(f"no rows of {reference!r} to compare with; there are {', '.join(map(str, names))}")
    rows = []
    for name in names:
        for measure in MEASURES:
            values, base = (tables[measure].loc[[one]].droplevel(0).dropna(axis=1) for one in (name, reference))
            if values.empty:
                continue
            level = mean_interval(values.to_numpy(), rng)
            both = (values - base).dropna(how="all").dropna(axis=1)  # trainings and moments
            difference = mean_interval(both.to_numpy(), rng) if name != reference and both.size else (np.nan,) * 3
            rows.append((name, measure, *level, values.shape[1], *difference, len(values)))
    columns = ["model", "measure", "mean", "low", "high", "moments", "difference", "difference_low", "difference_high"]
    return pd.DataFrame(rows, columns=[*columns, "trainings"])


def coin_shares(directions: pd.DataFrame, n: int = 3) -> pd.DataFrame:
    """How often relative-Q > 0 lets through who knows nothing, and what the best of n texts adds.

    ``directions`` are of :func:`lbm_core.studies.chapter_05.coin`. One row per source and adviser ("raise", "lower",
    "unsure" always; "coin" raises or lowers; "rule"; "critic" takes the best of the three): passes (share with
    relative-Q > 0), relative_q (mean), group (share of groups of n such texts that leave something to learn), chosen
    (mean relative-Q of what Eq. 13 then learns; NaN if nothing).
    """
    rows = []
    for source, group in directions.groupby("source", sort=False):
        table = group.pivot(index="moment", columns="direction", values="relative_q")[[-1, 0, 1]].to_numpy()
        ruled = group.drop_duplicates("moment").sort_values("moment")["ruled"].to_numpy()
        down, same, up = table.T
        advisers = {"raise": up, "lower": down, "unsure": same, "rule": table[np.arange(len(table)), ruled + 1]}
        for adviser, values in (advisers | {"critic": table.max(axis=1)}).items():
            passed = values > 0
            learned = values[passed].mean() if passed.any() else np.nan
            rows.append((source, adviser, passed.mean(), values.mean(), passed.mean(), learned))
        # Of n tosses the best is the better side unless all n fell on the worse one.
        sides, chances = np.sort(np.stack([down, up]), axis=0), np.array([[0.5**n], [1 - 0.5**n]])
        leaves = (chances * (sides > 0)).sum(axis=0)
        learned = (chances * sides.clip(min=0)).sum() / leaves.sum() if leaves.any() else np.nan
        rows.append((source, "coin", (sides > 0).mean(), sides.mean(), leaves.mean(), learned))
    return pd.DataFrame(rows, columns=["source", "adviser", "passes", "relative_q", "group", "chosen"])

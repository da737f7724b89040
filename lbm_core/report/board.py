"""One leader board (Tables 1 and 2): every method that a chapter has played for all advertisers, on the same days."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from lbm_core.evaluation import claims
from lbm_core.evaluation.judges import FORESIGHT, LOST_PRICES
from lbm_core.evaluation.statistics import mean_interval, one_identity, paired_differences, period_table, trainings
from lbm_core.lab.methods import CONTROLS, INSTRUCTIONS, METHODS

# Recorded results that hold replays of whole days. Where two chapters played one method, the first file counts: its
# rows name their weights, those of "baseline_results" are older.
SOURCES = ("act_guides", "gqpo_replays", "language_results", "baseline_results")
BEST, REFERENCE = "hindsight constant", "DT"
KINDS = ("LBM", "no texts", "language model", "Table 1's", "learns nothing", "saw lost prices", "sees the day")


def joined(load: Callable[[str], pd.DataFrame]) -> pd.DataFrame:
    """Period means of all methods that met the most advertisers, of one data set, as chapters 2, 5, 6 and 7 recorded
    them; a FileNotFoundError where none has. ``load`` gives recorded rows by name, as of a session.
    """
    parts: list[pd.DataFrame] = []
    for name in SOURCES:
        try:
            rows = load(name)
        except FileNotFoundError:
            continue
        parts.append(rows.assign(source=name, advertisers=rows["advertisers"].astype("int64")))
    if not parts:
        raise FileNotFoundError(f"no replays are recorded: none of {', '.join(SOURCES)}; run chapters 2, 5, 6 or 7")
    whole = pd.concat(parts, ignore_index=True)
    whole = whole[whole["advertisers"] == whole["advertisers"].max()]
    told = [f"LBM-Act + {word}" for word in INSTRUCTIONS]  # Table 4's
    first = whole.groupby("method")["source"].transform("first")
    return one_identity(whole[(whole["source"] == first) & ~whole["method"].isin(told)].reset_index(drop=True))


def evidence(load: Callable[[str], pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """What :func:`lbm_core.evaluation.claims.scorecard` judges: the rows of :func:`joined` as "board", and the recorded
    results that claims name; those that nobody recorded are missing."""
    frames = {}
    for name in claims.experiments():
        try:
            frames[name] = joined(load) if name == "board" else load(name)
        except FileNotFoundError:
            continue
    return frames


def kind(method: str) -> str:
    """Which of :data:`KINDS` a method is."""
    if method in FORESIGHT:
        return KINDS[6]
    if method in LOST_PRICES:
        return KINDS[5]
    if method in CONTROLS:
        return KINDS[4]
    if method.startswith("LBM(") or "LBM-Think" in method:
        return KINDS[0]
    if method.startswith("LBM-Act") or method == "critic alone":  # LBM-Act under nobody or who writes no text
        return KINDS[1]
    return KINDS[2] if METHODS[method].table == "Table 2" else KINDS[3]


def summary(rows: pd.DataFrame, references: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """The board: a line per method, the best first.

    Columns: method, kind, days, trainings (0: it learns nothing), score and of_best (the expected score, without the
    luck of conversion draws, in per cent of that of the constant alpha that hindsight finds best, day by day, so that
    methods that met fewer days compare) with low and high, conversions, budget_utilization, regret (expected score lost
    to that constant), and minus_dt, dt_low, dt_high, verdict:
    the score minus DT's on the days and trainings that both met. The ``rows`` are of :func:`joined`, the ``references``
    of :func:`lbm_core.evaluation.runner.hindsight`, averaged over advertisers.
    """
    best = references[references["method"] == BEST].set_index("period")["score"]
    lines = []
    for method, part in rows.groupby("method", sort=False):
        table = period_table(rows, str(method), "score")
        expected = period_table(rows, str(method), "expected_score")  # as the best constant's: no luck of draws
        shares = 100 * expected / best[table.columns]
        of_best, low, high = mean_interval(shares.to_numpy(), rng)
        line: dict[str, Any] = {"method": method, "kind": kind(str(method)), "days": table.shape[1]}
        line |= {"trainings": trainings(rows, str(method)), "score": float(table.to_numpy().mean())}
        line |= {"of_best": of_best, "low": low, "high": high}
        for name in ("conversions", "budget_utilization"):
            line[name] = float(part[name].mean())
        line["regret"] = float((best[table.columns] - expected.mean()).mean())
        lines.append(line)
    board = pd.DataFrame(lines).sort_values("of_best", ascending=False, ignore_index=True)
    if REFERENCE not in set(rows["method"]):
        return board
    beside = paired_differences(rows, REFERENCE, rng, metrics=["score"])
    names = {"difference": "minus_dt", "low": "dt_low", "high": "dt_high"}
    beside = beside.rename(columns=names)[["method", *names.values(), "verdict"]]
    return board.merge(beside, on="method", how="left")

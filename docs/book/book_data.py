"""What the book's interactive parts are made of: small JSON, from the library and from results/."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from report_page import aged

from lbm_core.auction.bidder import Bidder
from lbm_core.auction.controls import PacingBidder, PidBidder
from lbm_core.auction.hindsight import best_constant
from lbm_core.auction.mechanism import LEAST_BUDGET
from lbm_core.auction.replay import ReplayPeriod
from lbm_core.auction.response_tables import ResponseTables, table_replay
from lbm_core.data.behaviour import simulate_period
from lbm_core.evaluation.latency import INTERVAL_SECONDS, WritingSpeed
from lbm_core.report import results
from lbm_core.settings import DATASETS, Dataset

PERIOD = 7  # held out: no method was trained on it
MULTIPLES = 0.1, 4.0  # of the CPA target: alphas that the player may choose


def rounded(values: ArrayLike) -> Any:
    """Numbers with four significant digits, as nested lists; a NaN is null in JSON."""
    if isinstance(values, np.ndarray) and values.ndim:
        return [rounded(value) for value in values]
    number = float(f"{float(values):.4g}")  # type: ignore[arg-type]
    return None if np.isnan(number) else int(number) if number.is_integer() else number


def bidder() -> list[dict[str, Any]]:
    """Days for the player: on each data set the advertisers whose best constant alpha over C is median, least and most.

    Of each: its response curves (cost and expected conversions per tick and alpha), the day of two controllers, and
    the best constant in hindsight.
    """
    return [day for dataset in DATASETS for day in _days(dataset)]


def _days(dataset: Dataset) -> list[dict[str, Any]]:
    tables = ResponseTables.from_period(ReplayPeriod.from_log(simulate_period(dataset, PERIOD, 0)))
    who, best = tables.advertisers, best_constant(tables)
    rivals: dict[str, Bidder] = {"PID": PidBidder(), "pacing": PacingBidder()}
    played = {name: table_replay(tables, rival) for name, rival in rivals.items()}
    order = np.argsort(best.alpha / who.cpa_target, kind="stable")
    made = []
    for row in (int(order[place]) for place in (len(order) // 2, 0, -1)):
        multiples = tables.alphas / who.cpa_target[row]
        low, high = (multiples[np.argmin(abs(multiples - limit))] for limit in MULTIPLES)
        own = best.alpha[row] / who.cpa_target[row]
        kept = (multiples >= min(low, own)) & (multiples <= max(high, own))
        controllers = {}
        for name, result in played.items():
            taken = {"multiples": result.alphas / who.cpa_target[:, None], "costs": result.costs}
            taken["conversions"] = result.expected_conversions
            controllers[name] = {what: rounded(values[row]) for what, values in taken.items()}
        made.append(
            {
                "dataset": dataset,
                "period": PERIOD,
                "advertiser": row,
                "budget": float(who.budget[row]),
                "target": float(who.cpa_target[row]),
                "least_budget": LEAST_BUDGET,
                "impressions": tables.counts.tolist(),
                "multiples": rounded(multiples[kept]),
                "costs": rounded(tables.costs[:, row, kept]),
                "conversions": rounded(tables.values[:, row, kept]),
                "rivals": controllers,
                "best": {"place": int(np.argmin(abs(multiples[kept] - own))), "score": rounded(best.score[row])},
            }
        )
    return made


def provenance(rows: pd.DataFrame) -> str:
    """With what rows were recorded, in words."""
    said = {name: ", ".join(str(value) for value in rows[name].unique()) for name in ("tier", "backbone", "commit")}
    return f"tier {said['tier']}, {said['backbone']}, commit {said['commit']}"


def sweep() -> dict[str, Any]:
    """Shares and gains of GQPO's selection by data set, temperature, tolerance and N."""
    made = {}
    for dataset in DATASETS:
        rows = results.load("gqpo_sweep", "cached", dataset=dataset)
        curves = []
        for (temperature, tolerance), part in rows.groupby(["temperature", "tolerance"], sort=False):
            ordered = part.sort_values("n")
            shares = {name: rounded(ordered[name].to_numpy()) for name in ("accepted", "learned", "gain")}
            curves.append(
                {"temperature": temperature, "tolerance": str(tolerance), "n": ordered["n"].tolist(), **shares}
            )
        note = f"{rows['prompts'].iloc[0]:.0f} decisions; {provenance(rows)}."
        if aged(rows):
            note += " The rows name no model's files: its texts may be of an earlier LBM-Think than that of chapter 5."
        made[dataset] = {"note": note, "curves": curves}
    return made


def late() -> dict[str, Any]:
    """How long texts take, and the scores of words that came late or not at all, by data set."""
    made = {}
    for dataset in DATASETS:
        timed = results.load("latency", "cached", dataset=dataset)
        lengths = results.load("latency_lengths", "cached", dataset=dataset)["tokens"]
        row = timed[(timed["module"] == "LBM-Think") & timed["step_seconds"].notna()].nlargest(1, "batch").iloc[0]
        speed = WritingSpeed(int(row["batch"]), float(row["prompt_seconds"]), float(row["step_seconds"]))
        rows = results.load("asynchrony", "cached", dataset=dataset)
        setting = ["guide", "late", "missing", "hold", "every"]
        means = rows.groupby(setting, sort=False)["expected_score"].mean().reset_index()
        days, few = rows["period"].nunique(), rows["advertisers"].iloc[0]
        made[dataset] = {
            "batch": speed.batch,
            "batch_seconds": rounded(speed.seconds(lengths.max())),
            "interval_seconds": INTERVAL_SECONDS,
            "machine": f"{row['backbone']} with {row['engine']} on {row['hardware']}",
            "settings": [{**one, "expected_score": rounded(one["expected_score"])} for one in means.to_dict("records")],
            "note": f"Scores: {few:.0f} advertisers, {days} days; {provenance(rows)}{aged(rows)}. "
            f"Times: {provenance(timed)}.",
        }
    return made

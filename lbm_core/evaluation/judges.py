"""Tests that decide the paper's claims: result rows in, a verdict out. Which claim takes which: :mod:`.claims`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from lbm_core.auction.bidder import N_ADVERTISERS
from lbm_core.evaluation.statistics import MIN_PERIODS, paired_differences

SUPPORTED, NOT_SUPPORTED, NOT_RESOLVED, NOT_TESTED = "supported", "not supported", "not resolved", "not tested"
TICK_SECONDS = 1800.0  # a decision step lasts half an hour (§2.1)
MIN_TRAIN_SEEDS = 3  # trainings below which a training curve is not judged
MIN_SAMPLES = 100  # decisions per model below which shares are not judged (the paper draws 1,000)


class Untestable(ValueError):
    """The recorded rows lack something that a test needs; the scorecard shows the reason."""


@dataclass(frozen=True)
class Judgement:
    """What the results say about one claim."""

    measured: str
    verdict: str


Judge = Callable[[pd.DataFrame, np.random.Generator], Judgement]


def better(pairs: Sequence[tuple[str, str]], metrics: Sequence[str]) -> Judge:
    """Every first method above its second one in every metric, on paired periods.

    Supported if every interval lies above 0, not supported if any lies below.
    """

    def judge(frame: pd.DataFrame, rng: np.random.Generator) -> Judgement:
        rows = []
        for method, reference in pairs:
            _require_methods(frame, (method, reference))
            rows.append(paired_differences(frame, reference, rng, metrics=metrics, methods=[method]))
        return _all_positive(pd.concat(rows, ignore_index=True))

    return judge


def best_of_all(method: str, metric: str) -> Judge:
    """A method above every other one that was measured, controls included."""

    def judge(frame: pd.DataFrame, rng: np.random.Generator) -> Judgement:
        _require_methods(frame, (method,))
        others = [name for name in frame["method"].unique() if name != method]
        if not others:
            raise Untestable(f"nothing was measured beside {method}")
        rows = [paired_differences(frame, other, rng, metrics=[metric], methods=[method]) for other in others]
        table = pd.concat(rows, ignore_index=True)
        nearest = _shown(next(table.sort_values("difference").head(1).itertuples()))
        ahead = int((table["difference"] > 0).sum())
        return Judgement(f"ahead of {ahead} of {len(others)}; least: {nearest}", _all_positive(table).verdict)

    return judge


def better_at_every_budget(method: str, reference: str) -> Judge:
    """More conversions at each budget ratio of Table 5."""

    def judge(frame: pd.DataFrame, rng: np.random.Generator) -> Judgement:
        rows = []
        for ratio, part in frame.groupby("budget_ratio"):
            _require_methods(part, (method, reference))
            row = paired_differences(part, reference, rng, metrics=["conversions"], methods=[method])
            rows.append(row.assign(metric=f"conversions at {ratio:g} B"))
        return _all_positive(pd.concat(rows, ignore_index=True))

    return judge


def instructions_steer(metrics: Sequence[str] = ("budget_utilization", "expected_cpa_ratio")) -> Judge:
    """ "increase" above "base" and "base" above "decrease" in spending and in CPA (Table 4).

    The CPA ratio is that of expected conversions: a day with little spending may well have no conversion at all, and
    then the sampled ratio is only a cap.
    """
    return better([("increase", "base"), ("base", "decrease")], metrics)


def lower_loss(method: str, reference: str, share: float) -> Judge:
    """Mean loss of the last tenth of training at most ``share`` of the reference's, for every training seed."""

    def judge(frame: pd.DataFrame, rng: np.random.Generator) -> Judgement:
        _require_methods(frame, (method, reference))
        last = frame[frame["step"] > 0.9 * frame["step"].max()]
        seed = last["train_seed"] if "train_seed" in last else last.get("seed", 0)
        table = last.assign(run=seed).pivot_table(index="run", columns="method", values="loss", aggfunc="mean")
        ratio = (table[method] / table[reference]).dropna().to_numpy()
        if len(ratio) == 0:
            raise Untestable("the two methods share no training seed")
        measured = f"loss ratio {ratio.mean():.2f} over {len(ratio)} training seeds"
        if len(ratio) < MIN_TRAIN_SEEDS:
            return Judgement(measured, NOT_RESOLVED)
        if (ratio <= share).all():
            return Judgement(measured, SUPPORTED)
        return Judgement(measured, NOT_SUPPORTED if (ratio >= 1).all() else NOT_RESOLVED)

    return judge


def follows_the_principle(model: str, references: Sequence[str]) -> Judge:
    """Higher share of decisions that lower alpha above the CPA target and raise it below (Fig. 2).

    The two columns (CPA ratio below and above 1) weigh the same, as in the figure.
    """

    def judge(frame: pd.DataFrame, rng: np.random.Generator) -> Judgement:
        _require_methods(frame, (model, *references), "model")
        moved = frame[frame["delta_a"] != 0]
        moved = moved.assign(above=moved["cpa_ratio"] > 1, right=(moved["delta_a"] > 0) == (moved["cpa_ratio"] < 1))
        sides = {key: rows["right"].to_numpy(float) for key, rows in moved.groupby(["model", "above"])}
        rows = []
        for reference in references:
            cells = [sides.get((name, above), np.empty(0)) for name in (model, reference) for above in (False, True)]
            if min(map(len, cells)) < 2:
                raise Untestable(f"too few decisions of {model} or {reference} on one side of the CPA target")

            def gap(a, b, c, d, axis=-1):
                return (a.mean(axis) + b.mean(axis) - c.mean(axis) - d.mean(axis)) / 2

            found = stats.bootstrap(cells, gap, vectorized=True, method="percentile", n_resamples=2_000, rng=rng)
            low, high = found.confidence_interval
            rows.append((f"{model} − {reference}", "share", float(gap(*cells)), low, high, min(map(len, cells))))
        table = pd.DataFrame(rows, columns=["method", "metric", "difference", "low", "high", "samples"])
        return _all_positive(table.assign(enough=table["samples"] >= MIN_SAMPLES / 2))

    return judge


def heads_specialise(high: float, low: float) -> Judge:
    """In the last layer some head gives more than ``high`` of its attention to language, another less than ``low``."""

    def judge(frame: pd.DataFrame, rng: np.random.Generator) -> Judgement:
        part = frame[(frame["layer"] == "last") & (frame["part"] == "language")]
        if part.empty:
            raise Untestable("no attention to language positions was recorded")
        share = part.groupby("head")["attention"].sum()
        measured = f"language share of a head from {share.min():.2f} to {share.max():.2f}"
        return Judgement(measured, SUPPORTED if share.max() > high and share.min() < low else NOT_SUPPORTED)

    return judge


def in_time() -> Judge:
    """A tick's time for the chains of thought of 48 advertisers, batch after batch, and LBM-Act faster than that.

    Of each module the largest batch measured counts; the 99th percentile of LBM-Think's is multiplied up to 48.
    """

    def judge(frame: pd.DataFrame, rng: np.random.Generator) -> Judgement:
        batch = frame.sort_values("batch").groupby("module").last()
        for module in ("LBM-Think", "LBM-Act"):
            if module not in batch.index:
                raise Untestable(f"no latency of {module}")
        think, act = batch.loc["LBM-Think"], batch.loc["LBM-Act"]
        texts_at_once = frame.loc[frame["module"] == "LBM-Think", "batch"].max()
        batches = math.ceil(N_ADVERTISERS / texts_at_once)
        longest = batches * think["p99_seconds"]
        measured = (
            f"48 advertisers: think {longest:.3g} s ({batches} x {texts_at_once:.0f}), "
            f"act {act['p99_seconds']:.3g} s (99th percentile)"
        )
        good = longest < TICK_SECONDS and act["median_seconds"] < batches * think["median_seconds"]
        return Judgement(measured, SUPPORTED if good else NOT_SUPPORTED)

    return judge


def _all_positive(rows: pd.DataFrame) -> Judgement:
    """Supported if every difference is resolved above 0; not supported if one is resolved below."""
    enough = rows["enough"] if "enough" in rows else rows["periods"] >= MIN_PERIODS
    above, below = (rows["low"] > 0) & enough, (rows["high"] < 0) & enough
    verdict = NOT_SUPPORTED if below.any() else SUPPORTED if above.all() else NOT_RESOLVED
    return Judgement("; ".join(_shown(row) for row in rows.itertuples()), verdict)


def _shown(row) -> str:
    name = f"{row.method} − {row.reference}" if hasattr(row, "reference") else row.method
    interval = "" if np.isnan(row.low) else f" [{row.low:+.3g}, {row.high:+.3g}]"
    return f"{name}: {row.metric} {row.difference:+.3g}{interval}"


def _require_methods(frame: pd.DataFrame, methods: Sequence[str], column: str = "method") -> None:
    missing = [name for name in methods if name not in set(frame[column])]
    if missing:
        raise Untestable(f"no rows of {missing[0]}")

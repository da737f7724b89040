"""The paper's claims (``claims.csv``), the test that decides each, and the scorecard over recorded results.

A judge takes result rows and a generator for the bootstrap, and says what it measured and its verdict.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from lbm_core import paths
from lbm_core.auction.bidder import N_ADVERTISERS
from lbm_core.evaluation.latency import INTERVAL_SECONDS
from lbm_core.evaluation.statistics import ABOVE, BELOW, MIN_TRAININGS, OPEN, paired_differences, verdict

AGREES, OPPOSITE, NOT_COMPARABLE, NOT_RUN = "agrees", "opposite", "not comparable", "not run"
MIN_SAMPLES = 100  # decisions per model below which shares are not judged (the paper draws 1,000)


class Untestable(ValueError):
    """The recorded rows lack something that a test needs; the scorecard shows the reason."""


class Judgement(NamedTuple):
    """What the results say about one claim."""

    measured: str
    verdict: str


def better(
    frame: pd.DataFrame, rng: np.random.Generator, *, pairs: Sequence[tuple[str, str]], metrics: Sequence[str]
) -> Judgement:
    """Every first method above its second one in every metric: each interval of the paired periods lies above 0."""
    rows = []
    if missing := [name for name in metrics if name not in frame]:
        raise Untestable(f"recorded without {missing[0]}")
    for method, reference in pairs:
        _require(frame, method, reference)
        rows.append(paired_differences(frame, reference, rng, metrics=metrics, methods=[method]))
    return _all_positive(pd.concat(rows))


def best_of_all(frame: pd.DataFrame, rng: np.random.Generator) -> Judgement:
    """The score of LBM(GQPO) above that of every other method that was measured, controls included."""
    _require(frame, "LBM(GQPO)")
    others = [name for name in frame["method"].unique() if name != "LBM(GQPO)"]
    if not others:
        raise Untestable("nothing was measured beside LBM(GQPO)")
    rows = [paired_differences(frame, name, rng, metrics=["score"], methods=["LBM(GQPO)"]) for name in others]
    table = pd.concat(rows)
    nearest, ahead = _all_positive(table.nsmallest(1, "difference")), int((table["difference"] > 0).sum())
    return Judgement(f"ahead of {ahead} of {len(others)}; least: {nearest.measured}", _all_positive(table).verdict)


def better_at_every_budget(frame: pd.DataFrame, rng: np.random.Generator) -> Judgement:
    """More conversions of LBM(P) than of DT at each budget ratio of Table 5."""
    rows = []
    for ratio, part in frame.groupby("budget_ratio"):
        _require(part, "LBM(P)", "DT")
        row = paired_differences(part, "DT", rng, metrics=["conversions"], methods=["LBM(P)"])
        rows.append(row.assign(metric=f"conversions at {ratio:g} B"))
    return _all_positive(pd.concat(rows))


def lower_loss(frame: pd.DataFrame, rng: np.random.Generator) -> Judgement:
    """LBM-Act's mean loss over the last tenth of training at most 0.9 of LLM-DT's, for every training seed."""
    _require(frame, "LBM-Act", "LLM-DT")
    last = frame[frame["step"] > 0.9 * frame["step"].max()]
    table = last.pivot_table(index="seed", columns="method", values="loss", aggfunc="mean")
    ratio = (table["LBM-Act"] / table["LLM-DT"]).dropna()
    if ratio.empty:
        raise Untestable("the two methods share no training seed")
    word = AGREES if (ratio <= 0.9).all() else OPPOSITE if (ratio >= 1).all() else OPEN
    word = word if len(ratio) >= MIN_TRAININGS else OPEN
    return Judgement(f"loss ratio {ratio.mean():.2f} over {len(ratio)} training seeds", word)


def in_every_training(
    frame: pd.DataFrame, rng: np.random.Generator, *, judge: Callable[[pd.DataFrame, np.random.Generator], Judgement]
) -> Judgement:
    """What a judge of one training says of each, where they are enough and all say the same; else "open"."""
    seeds = frame.get("train_seed", frame.get("seed", pd.Series(0, frame.index)))
    measured, words = zip(*(judge(part, rng) for _, part in frame.groupby(seeds, dropna=False)), strict=True)
    agreed = len(words) >= MIN_TRAININGS and len(set(words)) == 1
    number = f"{len(words)} training{'s' if len(words) > 1 else ''}"
    return Judgement(f"{measured[0]} ({number})", words[0] if agreed else OPEN)


def follows_the_principle(frame: pd.DataFrame, rng: np.random.Generator) -> Judgement:
    """LBM(GQPO) lowers alpha above the CPA target and raises it below more often than DT and LBM(P) do (Fig. 2).

    The two columns (CPA ratio below and above 1) weigh the same, as in the figure.
    """
    model, *references = "LBM(GQPO)", "DT", "LBM(P)"
    _require(frame, model, *references, column="model")
    moved = frame[frame["delta_a"] != 0]
    moved = moved.assign(above=moved["cpa_ratio"] > 1, right=(moved["delta_a"] > 0) == (moved["cpa_ratio"] < 1))
    sides = {key: rows["right"].to_numpy(float) for key, rows in moved.groupby(["model", "above"])}

    def gap(a, b, c, d, axis=-1):
        return (a.mean(axis) + b.mean(axis) - c.mean(axis) - d.mean(axis)) / 2

    rows = []
    for reference in references:
        cells = [sides.get((name, above), np.empty(0)) for name in (model, reference) for above in (False, True)]
        fewest = min(map(len, cells))
        if fewest < 2:
            raise Untestable(f"too few decisions of {model} or {reference} on one side of the CPA target")
        resampled = stats.bootstrap(cells, gap, vectorized=True, method="percentile", n_resamples=2_000, rng=rng)
        low, high = resampled.confidence_interval
        word = verdict(low, high) if fewest >= MIN_SAMPLES / 2 else OPEN
        rows.append((model, reference, "share", float(gap(*cells)), low, high, word))
    columns = ["method", "reference", "metric", "difference", "low", "high", "verdict"]
    return _all_positive(pd.DataFrame(rows, columns=columns))


def heads_specialise(frame: pd.DataFrame, rng: np.random.Generator) -> Judgement:
    """In the last layer some head gives more than half of its attention to language, another less than a fifth."""
    part = frame[(frame["layer"] == "last") & (frame["part"] == "language")]
    if part.empty:
        raise Untestable("no attention to language positions was recorded")
    share = part.groupby("head")["attention"].sum()
    word = AGREES if share.max() > 0.5 and share.min() < 0.2 else OPPOSITE
    return Judgement(f"language share of a head from {share.min():.2f} to {share.max():.2f}", word)


def in_time(frame: pd.DataFrame, rng: np.random.Generator) -> Judgement:
    """A tick's time for the chains of thought of 48 advertisers, batch after batch, and LBM-Act faster than that.

    Of each module the largest batch measured counts; the 99th percentile of LBM-Think's is multiplied up to 48.
    """
    _require(frame, "LBM-Think", "LBM-Act", column="module")
    largest = frame.sort_values("batch").groupby("module").last()
    think: Any = largest.loc["LBM-Think"]
    act: Any = largest.loc["LBM-Act"]
    texts = think["batch"]
    batches = math.ceil(N_ADVERTISERS / texts)
    longest = batches * think["p99_seconds"]
    good = longest < INTERVAL_SECONDS and act["median_seconds"] < batches * think["median_seconds"]
    measured = f"48 advertisers: think {longest:.3g} s ({batches} x {texts:.0f}), act {act['p99_seconds']:.3g} s"
    return Judgement(f"{measured} (99th percentile)", AGREES if good else OPPOSITE)


# The CPA of instructions is that of expected conversions: a day with little spending may well have no conversion at
# all, and then the sampled ratio is only a cap. Rows with the mean of advertisers' ratios alone are not judged.
JUDGES: Mapping[str, Callable[[pd.DataFrame, np.random.Generator], Judgement]] = {
    "beats_dt": partial(better, pairs=[("LBM(P)", "DT")], metrics=["conversions"]),
    "gqpo_helps": partial(better, pairs=[("LBM(GQPO)", "LBM(P)")], metrics=["conversions", "score"]),
    "best_backbone": best_of_all,
    "beats_llm_dt": partial(better, pairs=[("LBM(P)", "LLM-DT"), ("LBM(GQPO)", "LLM-DT")], metrics=["conversions"]),
    "prompt_is_not_enough": partial(better, pairs=[("LLM-DT", "Prompt-LLM-DT")], metrics=["conversions", "score"]),
    "other_budgets": better_at_every_budget,
    "instructions": partial(
        better,
        pairs=[("increase", "base"), ("base", "decrease")],
        metrics=["budget_utilization", "group_expected_cpa_ratio"],
    ),
    "base_beats_constant": partial(better, pairs=[("base", "increase"), ("base", "decrease")], metrics=["score"]),
    "faster_training": lower_loss,
    "principle": partial(in_every_training, judge=follows_the_principle),
    "fusion": partial(in_every_training, judge=heads_specialise),
    "in_time": in_time,
    "generative": partial(better, pairs=[("DT", name) for name in ("BCQ", "CQL", "IQL")], metrics=["conversions"]),
}


def claims() -> pd.DataFrame:
    """The paper's claims: name, claim (in our words), section, experiment (recorded results), test (or its lack)."""
    return pd.read_csv(paths.PACKAGE / "evaluation" / "claims.csv")


def experiments() -> list[str]:
    """Names of the recorded results that decide claims, in alphabetical order."""
    return sorted(set(claims().query("name in @JUDGES")["experiment"]))


def scorecard(frames: Mapping[str, pd.DataFrame], rng: np.random.Generator) -> pd.DataFrame:
    """Verdict on every claim: name, claim, section, test, measured, verdict.

    A verdict is "agrees", "opposite" (the data say the opposite), "open" (an interval that includes 0, too few periods,
    trainings or samples), "not comparable" (:func:`comparable`) or "not run" (``measured`` says why; an experiment that
    is missing leaves its claims so).

    Parameters
    ----------
    frames : recorded rows by experiment name, of one data set
    """
    table, judgements = claims(), []
    for row in table.to_dict("records"):
        frame, judge = frames.get(row["experiment"]), JUDGES.get(row["name"])
        try:
            if judge is None:
                raise Untestable(row["test"])
            if frame is None:
                raise Untestable(f"no recorded results of {row['experiment']!r}")
            judgement = judge(frame, rng)
            judgements.append(judgement if comparable(frame) else judgement._replace(verdict=NOT_COMPARABLE))
        except Untestable as reason:
            judgements.append(Judgement(str(reason), NOT_RUN))
    return table.drop(columns="experiment").join(pd.DataFrame(judgements))


def comparable(frame: pd.DataFrame) -> bool:
    """Whether rows may stand beside the paper: of one tier, which is not smoke (that proves the path, not the numbers),
    and of one backbone a method."""
    mixed = {"method", "backbone"} <= set(frame) and (frame.groupby("method")["backbone"].nunique() > 1).any()
    tiers = set(frame.get("tier", ()))
    return len(tiers) < 2 and "smoke" not in tiers and not mixed


def _all_positive(rows: pd.DataFrame) -> Judgement:
    """The paper is right if every difference lies above 0, and opposite if one lies below it."""
    words = set(rows["verdict"])
    word = OPPOSITE if BELOW in words else AGREES if words == {ABOVE} else OPEN
    measured = []
    for row in rows.to_dict("records"):
        interval = "" if np.isnan(row["low"]) else f" [{row['low']:+.3g}, {row['high']:+.3g}]"
        measured.append(f"{row['method']} − {row['reference']}: {row['metric']} {row['difference']:+.3g}{interval}")
    few = [count for count in rows.get("trainings", ()) if 0 < count < MIN_TRAININGS]
    return Judgement("; ".join(measured) + (f" (trainings: {min(few)})" if few else ""), word)


def _require(frame: pd.DataFrame, *methods: str, column: str = "method") -> None:
    if missing := [name for name in methods if name not in set(frame[column])]:
        raise Untestable(f"no rows of {missing[0]}")

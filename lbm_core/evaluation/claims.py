"""The paper's claims as data, each with the test that decides it, and the scorecard over recorded results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from lbm_core.evaluation.statistics import MIN_PERIODS, paired_differences

SUPPORTED, NOT_SUPPORTED, NOT_RESOLVED, NOT_TESTED = "supported", "not supported", "not resolved", "not tested"
TICK_SECONDS = 1800.0  # a decision step lasts half an hour (§2.1)
MIN_SAMPLES = 100  # decisions per model below which shares are not judged (the paper draws 1,000)


class Untestable(ValueError):
    """The recorded rows lack something that a test needs; the scorecard shows the reason."""


@dataclass(frozen=True)
class Judgement:
    """What the results say about one claim."""

    measured: str
    verdict: str


Judge = Callable[[pd.DataFrame, np.random.Generator], Judgement]


@dataclass(frozen=True)
class Claim:
    """One claim of the paper.

    Attributes
    ----------
    name : short, lower case
    claim : what the paper says, in our words
    section : where it says so
    experiment : name of the recorded results that decide it
    test : how, and with what threshold
    judge : the test; None while the project cannot test it yet, ``test`` then says what is missing
    """

    name: str
    claim: str
    section: str
    experiment: str
    test: str
    judge: Judge | None = None


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
        others = [name for name in frame["method"].unique() if name != method]
        return better([(method, other) for other in others], [metric])(frame, rng)

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


def instructions_steer(metrics: Sequence[str] = ("budget_utilization", "cpa_ratio")) -> Judge:
    """ "increase" above "base" and "base" above "decrease" in spending and in CPA (Table 4)."""
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
    """99th percentile of a chain of thought for 48 advertisers within a tick, and LBM-Act faster than LBM-Think."""

    def judge(frame: pd.DataFrame, rng: np.random.Generator) -> Judgement:
        batch = frame[frame["batch"] == 48].set_index("module")
        for module in ("LBM-Think", "LBM-Act"):
            if module not in batch.index:
                raise Untestable(f"no latency of {module} for 48 advertisers")
        think, act = batch.loc["LBM-Think"], batch.loc["LBM-Act"]
        measured = (
            f"48 advertisers: think {think['p99_seconds']:.3g} s, act {act['p99_seconds']:.3g} s (99th percentile)"
        )
        good = think["p99_seconds"] < TICK_SECONDS and act["median_seconds"] < think["median_seconds"]
        return Judgement(measured, SUPPORTED if good else NOT_SUPPORTED)

    return judge


CLAIMS = (
    Claim(
        "beats_dt",
        "LBM with a pretrained LBM-Think gains more conversions than DT",
        "§4.2, Table 1",
        "main_results",
        "conversions of LBM(P) minus DT above 0",
        better([("LBM(P)", "DT")], ["conversions"]),
    ),
    Claim(
        "gqpo_helps",
        "GQPO fine-tuning improves LBM further, in conversions and in score",
        "§4.2, Table 1",
        "main_results",
        "conversions and score of LBM(GQPO) minus LBM(P) above 0",
        better([("LBM(GQPO)", "LBM(P)")], ["conversions", "score"]),
    ),
    Claim(
        "best_backbone",
        "LBM(GQPO) is the best method of all",
        "§4.2, Tables 1, 2",
        "main_results",
        "score of LBM(GQPO) minus that of every other method measured, simple controls included, above 0",
        best_of_all("LBM(GQPO)", "score"),
    ),
    Claim(
        "beats_llm_dt",
        "Reasoning helps: LBM beats the same transformer without it",
        "§4.3, Table 2",
        "main_results",
        "conversions of LBM(P) and LBM(GQPO) minus LLM-DT above 0",
        better([("LBM(P)", "LLM-DT"), ("LBM(GQPO)", "LLM-DT")], ["conversions"]),
    ),
    Claim(
        "prompt_is_not_enough",
        "A task description as language input alone does not help LLM-DT",
        "§4.3, Table 2",
        "main_results",
        "conversions and score of LLM-DT minus Prompt-LLM-DT above 0",
        better([("LLM-DT", "Prompt-LLM-DT")], ["conversions", "score"]),
    ),
    Claim(
        "other_budgets",
        "LBM beats DT at budgets it was not trained on",
        "§4.2, Table 5",
        "budget_sweep",
        "conversions of LBM(P) minus DT above 0 at each of five budget ratios",
        better_at_every_budget("LBM(P)", "DT"),
    ),
    Claim(
        "instructions",
        "A constant instruction moves spending and CPA its way",
        "§4.3, Table 4",
        "instructions",
        "budget utilisation and CPA ratio: increase minus base and base minus decrease above 0",
        instructions_steer(),
    ),
    Claim(
        "base_beats_constant",
        "Free reasoning scores higher than either constant instruction",
        "§4.3, Table 4",
        "instructions",
        "score of base minus increase and base minus decrease above 0",
        better([("base", "increase"), ("base", "decrease")], ["score"]),
    ),
    Claim(
        "faster_training",
        "LBM-Act's training loss falls faster and further than LLM-DT's",
        "§4.3, Fig. 3",
        "act_loss",
        "loss over the last tenth of training at most 0.9 of LLM-DT's in every training seed (a label leaks: see 02)",
        lower_loss("LBM-Act", "LLM-DT", 0.9),
    ),
    Claim(
        "principle",
        "After GQPO, decisions follow the CPA principle more than DT's and the pretrained model's",
        "§4.2, Fig. 2",
        "direction",
        f"share of moves towards the target minus DT's and the LLM's above 0, {MIN_SAMPLES} samples or more",
        follows_the_principle("LLM+GQPO", ("DT", "LLM")),
    ),
    Claim(
        "fusion",
        "Some attention heads read the language, others the numbers",
        "§4.3, Fig. 5",
        "attention",
        "last layer: a head with more than 0.5 of its attention on language, and one with less than 0.2",
        heads_specialise(0.5, 0.2),
    ),
    Claim(
        "in_time",
        "LBM-Think is fast enough to reason ahead of the next tick, LBM-Act much faster",
        "A.2, Table 8",
        "latency",
        "99th percentile for 48 advertisers below 1,800 s, and the median of LBM-Act below LBM-Think's",
        in_time(),
    ),
    Claim("generative", "DT beats offline RL", "§4.2, Table 1", "main_results", "needs the offline-RL baselines"),
    Claim(
        "reward_design", "LBM scores above DT-score at every w", "§4.2, Table 3", "dt_score", "needs Table 3's sweep"
    ),
    Claim("language_only", "LLMs that write alpha as text lose", "§4.3, Table 2", "main_results", "needs those LLMs"),
    Claim("grpo_collapse", "GRPO's reasoning vanishes", "A.3, Fig. 6", "grpo_length", "needs GRPO training"),
    Claim("think_size", "A 3B LBM-Think does as well as 32B", "§4.3, Table 6", "think_size", "needs larger models"),
)


def scorecard(
    frames: Mapping[str, pd.DataFrame], rng: np.random.Generator, claims: Sequence[Claim] = CLAIMS
) -> pd.DataFrame:
    """Verdict on every claim.

    Parameters
    ----------
    frames : recorded rows by experiment name, of one data set; an experiment that is missing leaves its claims untested
    rng : for the bootstrap

    Returns
    -------
    name, claim, section, test, measured, verdict: "supported", "not supported" (the data say the opposite),
    "not resolved" (too few periods, or an interval that includes 0) or "not tested" (``measured`` says why).
    """
    rows = []
    for claim in claims:
        if claim.judge is None:
            result = Judgement(claim.test, NOT_TESTED)
        elif claim.experiment not in frames:
            result = Judgement(f"no recorded results of {claim.experiment!r}", NOT_TESTED)
        else:
            try:
                result = claim.judge(frames[claim.experiment], rng)
            except Untestable as reason:
                result = Judgement(str(reason), NOT_TESTED)
        rows.append((claim.name, claim.claim, claim.section, claim.test, result.measured, result.verdict))
    return pd.DataFrame(rows, columns=["name", "claim", "section", "test", "measured", "verdict"])


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

"""How recorded rows decide the paper's claims (``claims.csv``).

A judge takes the rows, a generator for the bootstrap and the claim, and says what it measured and its verdict.
"""

import math
import re
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from lbm_core.auction.bidder import N_ADVERTISERS
from lbm_core.evaluation.advice import measures
from lbm_core.evaluation.latency import INTERVAL_SECONDS
from lbm_core.evaluation.loss_gap import final_losses, share_closed
from lbm_core.evaluation.statistics import ABOVE, BELOW, MIN_TRAININGS, OPEN, paired_differences, verdict

AGREES, OPPOSITE, NOT_COMPARABLE, NOT_RUN = "agrees", "opposite", "not comparable", "not run"
FORESIGHT = ("LBM-Act + oracle", "LBM-Act + replay-Q", "replay-Q alone")  # they see the day that they bid on
LOST_PRICES = ("online LP", "oracle imitation")  # they saw what impressions cost that they did not win, on past days
MIN_SAMPLES = 100  # decisions per model below which shares are not judged (the paper draws 1,000)
COLLAPSE_STEPS = 150  # of GRPO, after which the paper's texts have no reasoning (Fig. 6)
SHOWN = 3  # comparisons of a claim that are written out; of more the least favourable


class Untestable(ValueError):
    """The recorded rows lack something that a test needs; the scorecard shows the reason."""


class Judgement(NamedTuple):
    """What the results say about one claim; its numbers are of the comparison that decides, the least favourable."""

    measured: str
    verdict: str
    metric: str = ""  # of a difference behind a "Δ"
    estimate: float = np.nan
    low: float = np.nan  # 95 % interval
    high: float = np.nan
    days: float = np.nan  # that all compared have met; NaN where days are not what is sampled
    seeds: float = np.nan  # trainings; 0 where nothing learns
    tier: str = ""


Claim = Mapping[Any, Any]  # a row of claims.csv
Pair = tuple[str, float, str]  # method, factor, reference
Judge = Callable[[pd.DataFrame, np.random.Generator, Claim], Judgement]


def named(experiment: str, rows: pd.DataFrame) -> pd.DataFrame:
    """Recorded rows as methods on days, each under a name that a claim's pairs can tell apart.

    Of "critic_validity" the share of right signs beside that of two constant answers, of "gqpo_probes" what each
    model's advice is worth (moments in the place of days); else a budget ratio or language model joins the name.
    """
    if experiment == "critic_validity":
        rows = rows[rows["variant"] == "default"].assign(never=1 - rows.is_better, train_seed=rows.get("train_seed", 0))
        rows = rows.rename(columns={"sign_accuracy": "relative-Q", "always_lower": "always lower"})
        keys, answers = ["tier", "change", "period", "train_seed"], ["relative-Q", "always lower", "never"]
        rows = rows.melt(keys, answers, var_name="method", value_name="right signs")
        return rows.assign(method=rows["method"] + ", " + rows["change"])
    if experiment == "gqpo_probes":
        return measures(rows).assign(tier=rows.get("tier", ""), method=rows["model"], period=rows["moment"])
    if experiment == "black_box_moves":
        rows = rows.assign(train_seed=rows.get("train_seed", 0))  # older rows do not tell: of one training
    for column, text in (("budget_ratio", " at {:g} B"), ("model", " with {}")):
        if {"method", column} <= set(rows):
            rows = rows.assign(method=rows["method"] + rows[column].map(text.format))
    return rows


def pairs(claim: Claim, rows: pd.DataFrame) -> list[Pair]:
    """What a claim compares: method, factor, reference, of "A > B | C > 0.9 × D".

    "A > *" puts A beside all others, but for those that see prices which no log tells.
    """
    found = []
    for text in claim["pairs"].split(" | ") if claim["pairs"] else ():
        method, factor, reference = re.fullmatch(r"(.+?) > (?:([\d.]+) × )?(.+)", text).groups()  # type: ignore[union-attr]
        known = [name for name in rows["method"].unique() if name not in (method, *FORESIGHT, *LOST_PRICES)]
        known = [name for name in known if not name.startswith(f"{method}, ")]  # itself, read another way
        others = (known or ["any other method"]) if reference == "*" else [reference]
        found += [(method, float(factor or 1), name) for name in others]
    return found


def better(rows: pd.DataFrame, rng: np.random.Generator, claim: Claim) -> Judgement:
    """Every method above (a share of) its reference in every metric: each interval over paired days lies above 0."""
    table = pd.concat([_differences(rows, rng, claim["metrics"].split(" | "), pair) for pair in pairs(claim, rows)])
    below = table["verdict"] == BELOW  # one of these refutes a claim, however few trainings the others have
    days, seeds = (table[below] if below.any() else table)[["periods", "trainings"]].min()
    return _all_positive(table)._replace(days=np.nan if "moment" in rows else days, seeds=seeds)


def in_every_training(judge: Judge) -> Judge:
    """What a judge of one training says of each, where they are enough and all say the same; else "open"."""

    @wraps(judge)
    def of_all(rows: pd.DataFrame, rng: np.random.Generator, claim: Claim) -> Judgement:
        seeds = rows.get("train_seed", rows.get("seed", pd.Series(0, rows.index)))
        each = [judge(part, rng, claim) for _, part in rows.groupby(seeds, dropna=False)]
        first, n = each[0], len(each)
        if n < MIN_TRAININGS:
            return first._replace(measured=f"{first.measured} (trainings: {n})", verdict=OPEN, seeds=n)
        values, mean = ", ".join(f"{one.estimate:.3g}" for one in each), float(np.mean([one.estimate for one in each]))
        word = first.verdict if len({one.verdict for one in each}) == 1 else OPEN
        return Judgement(f"{first.metric} {mean:.3g} (trainings: {values})", word, first.metric, mean, seeds=n)

    return of_all


@in_every_training
def lower_loss(rows: pd.DataFrame, rng: np.random.Generator, claim: Claim) -> Judgement:
    """LBM-Act's mean loss over the last tenth of training at most 0.9 of LLM-DT's."""
    _require(rows, "LBM-Act", "LLM-DT")
    loss = rows[rows["step"] > 0.9 * rows["step"].max()].groupby("method")["loss"].mean()
    ratio = loss["LBM-Act"] / loss["LLM-DT"]
    word = AGREES if ratio <= 0.9 else OPPOSITE if ratio >= 1 else OPEN
    return Judgement(f"loss ratio {ratio:.3g}", word, "loss ratio", ratio)


def closed_by_a_number(rows: pd.DataFrame, rng: np.random.Generator, claim: Claim) -> Judgement:
    """Less than half of LLM-DT's gap to LBM-Act closes when it is told the direction as a number."""
    control = "LLM-DT + direction"
    _require(rows, control, "LLM-DT", "LBM-Act")
    gap: Any = share_closed(final_losses(rows), control).iloc[0]
    side = verdict(gap["low"] - 0.5, gap["high"] - 0.5, trainings=gap["seeds"])
    measured = f"a number in the place of words closes {gap['share']:.0%} of the gap"
    word = {ABOVE: OPPOSITE, BELOW: AGREES, OPEN: OPEN}[side]
    return Judgement(measured, word, "share closed", gap["share"], gap["low"], gap["high"], seeds=gap["seeds"])


@in_every_training
def follows_the_principle(rows: pd.DataFrame, rng: np.random.Generator, claim: Claim) -> Judgement:
    """LBM(GQPO) lowers alpha above the CPA target and raises it below more often than DT and LBM(P) do (Fig. 2).

    The two columns (CPA ratio below and above 1) weigh the same, as in the figure.
    """
    model, *references = "LBM(GQPO)", "DT", "LBM(P)"
    _require(rows, model, *references, column="model")
    moved = rows[rows["delta_a"] != 0]
    above, right = moved["cpa_ratio"] > 1, (moved["delta_a"] > 0) == (moved["cpa_ratio"] < 1)
    cells: Any = right.astype("float64").groupby([moved["model"], above]).agg(["mean", "sem", "count"]).unstack()
    share, variance = cells["mean"].mean(axis=1), (cells["sem"] ** 2).sum(axis=1) / 4
    found = []
    for reference in references:
        fewest = cells["count"].reindex(columns=[False, True]).loc[[model, reference]].fillna(0).to_numpy().min()
        if fewest < 2:
            raise Untestable(f"too few decisions of {model} or {reference} on one side of the CPA target")
        gap, half = share[model] - share[reference], 1.96 * np.sqrt(variance[model] + variance[reference])
        word = verdict(gap - half, gap + half) if fewest >= MIN_SAMPLES / 2 else OPEN
        found.append((model, reference, "share", gap, gap, gap - half, gap + half, word))
    columns = ["method", "reference", "metric", "difference", "relative", "low", "high", "verdict"]
    return _all_positive(pd.DataFrame(found, columns=columns))


@in_every_training
def heads_specialise(rows: pd.DataFrame, rng: np.random.Generator, claim: Claim) -> Judgement:
    """In the last layer some head gives more than half of its attention to language, another less than a fifth."""
    part = rows[(rows["layer"] == "last") & (rows["part"] == "language")]
    if part.empty:
        raise Untestable("no attention to language positions was recorded")
    share = part.groupby("head")["attention"].sum()
    word = AGREES if share.max() > 0.5 and share.min() < 0.2 else OPPOSITE
    measured = f"language share of a head from {share.min():.2f} to {share.max():.2f}"
    return Judgement(measured, word, "largest language share", share.max())


@in_every_training
def follows_words(rows: pd.DataFrame, rng: np.random.Generator, claim: Claim) -> Judgement:
    """LBM-Act moves alpha the way it is told at more than nine moments of ten (a half is chance)."""
    _require(rows, "LBM-Act")
    share = rows.loc[(rows["method"] == "LBM-Act") & (rows["direction"] == "all"), "followed"].mean()
    word = AGREES if share > 0.9 else OPPOSITE if share <= 0.5 else OPEN
    return Judgement(f"follows {share:.1%} of its instructions", word, "followed", share)


@in_every_training
def collapses(rows: pd.DataFrame, rng: np.random.Generator, claim: Claim) -> Judgement:
    """GRPO's texts in the last quarter of its steps less than half as long as in the first; refuted by none before
    the step at which the paper's are."""
    lengths = rows[rows["variant"] == "grpo"].sort_values("step")
    if lengths.empty:
        raise Untestable("no texts of GRPO")
    quarter, steps = max(len(lengths) // 4, 1), lengths["step"].max()
    first, last = lengths["length"].iloc[:quarter].mean(), lengths["length"].iloc[-quarter:].mean()
    word = AGREES if last < first / 2 else OPPOSITE if steps >= COLLAPSE_STEPS else OPEN
    measured = f"{last:.0f} tokens after {steps:.0f} steps, {first:.0f} at first"
    return Judgement(measured, word, "length, last / first", last / first)


def misstates(rows: pd.DataFrame, rng: np.random.Generator, claim: Claim) -> Judgement:
    """No model that is only prompted states nine CPA ratios of ten right; the best one's share is shown."""
    right = rows[(rows["quantity"] == "ratio right") & ~rows["model"].str.endswith("warmed up")]
    if right.empty:
        raise Untestable("no texts of a model that is only prompted")
    best: Any = right.nlargest(1, "value").iloc[0]
    word = AGREES if (right["high"] < 0.9).all() else OPPOSITE if (right["low"] > 0.9).any() else OPEN
    measured = f"{best['model']} states {best['value']:.0%} of {best['texts']:.0f} ratios right"
    return Judgement(measured, word, "ratios right", best["value"], best["low"], best["high"], seeds=0)


def in_time(rows: pd.DataFrame, rng: np.random.Generator, claim: Claim) -> Judgement:
    """A tick's time for the chains of thought of 48 advertisers, batch after batch, and LBM-Act faster than that.

    Of each module the largest batch measured counts; the 99th percentile of LBM-Think's is multiplied up to 48. Where
    ``repetitions`` is 1 it is the only time that is known.
    """
    _require(rows, "LBM-Think", "LBM-Act", column="module")
    largest: Any = rows.sort_values("batch", kind="stable").groupby("module").tail(1).set_index("module")
    think, act = largest.loc["LBM-Think"], largest.loc["LBM-Act"]
    batches = math.ceil(N_ADVERTISERS / think["batch"])
    longest, rounds = batches * think["p99_seconds"], f"{batches} x {think['batch']:.0f}"
    good = longest < INTERVAL_SECONDS and act["median_seconds"] < batches * think["median_seconds"]
    what = "one run" if think.get("repetitions") == 1 else "99th percentile"
    measured = f"48 advertisers, {what}: think {longest:.3g} s ({rounds}), act {act['p99_seconds']:.3g} s"
    return Judgement(measured, AGREES if good else OPPOSITE, "seconds", longest, seeds=0)


def _differences(rows: pd.DataFrame, rng: np.random.Generator, metrics: list[str], pair: Pair) -> pd.DataFrame:
    """:func:`paired_differences` to a multiple of the reference, on the days that every training of the two has met."""
    method, factor, reference = pair
    if missing := [name for name in metrics if name not in rows]:
        raise Untestable(f"recorded without {missing[0]}")
    two = rows[rows["method"].isin([method, reference])].dropna(subset=metrics)
    _require(two, method, reference)
    if factor != 1:
        own, reference = reference, f"{factor:g} × {reference}"
        two = two.replace({"method": {own: reference}})
        two[metrics] = two[metrics].mul(np.where(two["method"] == reference, factor, 1.0), axis=0)
    keys = [name for name in ("method", "train_seed", "period") if name in two]
    met = two.groupby(keys, dropna=False).size().unstack("period", fill_value=0)
    two = two[two["period"].isin(met.columns[(met > 0).all()])]
    if two.empty:
        raise Untestable(f"{method} and {reference} met no day together")
    try:
        return paired_differences(two, reference, rng, metrics=metrics, methods=[method])
    except ValueError as reason:  # no training or conversion draw in common
        raise Untestable(str(reason)) from reason


def _all_positive(table: pd.DataFrame) -> Judgement:
    """The paper is right if every difference lies above 0, and opposite if one lies below it."""
    words = set(table["verdict"])
    word = OPPOSITE if BELOW in words else AGREES if words == {ABOVE} else OPEN
    order = table["verdict"].map([BELOW, OPEN, ABOVE].index)
    table = table.assign(order=order).sort_values(["order", "relative"], kind="stable")
    numbers, shown = [], table if len(table) <= SHOWN else table.head(1)
    for row in shown.to_dict("records"):
        interval = "" if np.isnan(row["low"]) else f" [{row['low']:+.3g}, {row['high']:+.3g}]"
        numbers.append(f"{row['method']} − {row['reference']}: {row['metric']} {row['difference']:+.3g}{interval}")
    ahead, least = (table["difference"] > 0).sum(), table.iloc[0]
    text = ("" if len(table) <= SHOWN else f"ahead in {ahead} of {len(table)}; least: ") + "; ".join(numbers)
    few = [count for count in table.get("trainings", ()) if 0 < count < MIN_TRAININGS and word != OPPOSITE]
    text += f" (trainings: {min(few)})" if few else ""
    share, times, _ = least["reference"].rpartition(" × ")
    return Judgement(
        text,
        word,
        f"Δ {least['metric']}{f', ×{share}' if times else ''}",
        least["difference"],
        least["low"],
        least["high"],
    )


def _require(rows: pd.DataFrame, *methods: str, column: str = "method") -> None:
    if missing := [name for name in methods if name not in set(rows[column])]:
        raise Untestable(f"no rows of {missing[0]}")


_ALL = (better, lower_loss, closed_by_a_number, follows_the_principle, heads_specialise, follows_words, collapses)
JUDGES: Mapping[str, Judge] = {judge.__name__: judge for judge in (*_ALL, misstates, in_time)}

"""The paper's tables by number, ours beside the published values: each one function of recorded rows.

Recorded rows are those of :func:`lbm_core.report.results.load`, of one data set: method, period[, train_seed, seed] and
metrics where a table is about methods.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from lbm_core.evaluation import statistics
from lbm_core.evaluation.claims import AGREES, NOT_COMPARABLE, OPPOSITE, comparable
from lbm_core.report import paper

FOUR_METRICS = ("budget_utilization", "cpa_ratio", "conversions", "score")
_CRITIC = {"sequence_length": "window_length", "attention_layers": "layers"}  # Table 9's names, CriticConfig's


def table1(rows: pd.DataFrame) -> pd.DataFrame:
    """Table 1, auto-bidding baselines, with what of Table 2 they were run with: differences to DT (:func:`beside`)."""
    published = paper.main_results()
    named = rows.assign(method=rows["method"].replace({"DT-Q (fine-tuned)": "DT-Q"}))  # the reading the paper describes
    named = named[named["method"].isin(published["method"])]
    return beside(published, named, metrics=("conversions", "score"), reference="DT", note=_replayed(rows, "backbone"))


def table2(rows: pd.DataFrame) -> pd.DataFrame:
    """Table 2, LLM-based methods: differences to LLM-DT in four metrics (:func:`beside`)."""
    published = paper.table(2)
    named = _with_ratio(rows[rows["method"].isin(published["method"])])
    return beside(published, named, metrics=FOUR_METRICS, reference="LLM-DT", note=_replayed(rows, "texts of"))


def table3(rows: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Table 3, a penalty in the return-to-go: metric, w, paper (dense), ours, low, high, periods; of rows "w = 0.5"."""
    ours = _intervals(_with_ratio(rows), rng, ["score", "conversions", "cpa_ratio"])
    ours = ours.assign(w=ours["method"].str.removeprefix("w = ").astype(float), ours=ours["mean"])
    published = paper.table(3).query("method == 'DT-score'").rename(columns={"value": "paper"})
    both = ours.merge(published[["w", "metric", "paper"]], on=["w", "metric"], how="left")
    return both[["metric", "w", "paper", "ours", "low", "high", "periods"]].sort_values(["metric", "w"])


def table4(rows: pd.DataFrame) -> pd.DataFrame:
    """Table 4, constant instructions: differences to the base (:func:`beside`); the paper's are of the dense data.

    Methods are "increase", "decrease" and "base", or "uncertain" in its place. The CPA ratio is that of the group's
    expected conversions: where hardly anything is won, the drawn ones make it jump.
    """
    if "base" not in set(rows["method"]):
        rows = rows.assign(method=rows["method"].replace({"uncertain": "base"}))
    ours = _with_ratio(rows[rows["method"].isin(["increase", "decrease", "base"])], "group_expected_cpa_ratio")
    dataset, tier = rows[["dataset", "tier"]].iloc[0]
    note = f"Ours: {dataset}, replay, tier {tier}, instructed at every tick, simulated prices. Paper: dense."
    published = paper.table(4).rename(columns={"instruction": "method"}).assign(dataset=dataset)
    table = beside(published, ours, metrics=FOUR_METRICS, reference="base", note=note)
    comparable = (table["method"] == "base") | (dataset == "dense")
    return table.assign(verdict=table["verdict"].where(comparable, NOT_COMPARABLE))


def table5(rows: pd.DataFrame) -> pd.DataFrame:
    """Table 5, other budgets: method, budget_ratio, paper, ours (conversions an advertiser)."""
    keys, published = ["method", "budget_ratio"], paper.table(5).rename(columns={"value": "paper"})
    published = published[published["dataset"].isin(rows["dataset"])]
    ours = rows.groupby(keys)["conversions"].mean().rename("ours").reset_index()
    return published[[*keys, "paper"]].merge(ours, on=keys, how="outer")


def table6(shares: pd.DataFrame, scores: pd.DataFrame | None = None) -> pd.DataFrame:
    """Table 6, size of LBM-Think: source, dataset, model, conversions, score, accepted, ratio right, contradiction.

    Ours: ``shares`` of :func:`lbm_core.think.hallucination.hallucination` and, if known, scores of days each model led.
    """
    (dataset, tier), texts = shares[["dataset", "tier"]].iloc[0], ["accepted", "ratio right", "contradiction"]
    published = paper.table(6).rename(columns={"model_size": "model"})
    published = published[published["dataset"] == dataset]
    theirs = published.pivot_table(index="model", columns="metric", values="value", sort=False).reset_index()
    ours = shares[shares["quantity"].isin(texts)].pivot(index="model", columns="quantity", values="value").reset_index()
    if scores is not None:
        means = scores.groupby("model")[["conversions", "score"]].mean().reset_index()
        ours = ours.merge(means, on="model", how="left")
    both = pd.concat([theirs.assign(source="paper"), ours.assign(source=f"ours, {tier}")], ignore_index=True)
    return both.assign(dataset=dataset)[["source", "dataset", "model", "conversions", "score", *texts]]


def table7(rows: pd.DataFrame) -> pd.DataFrame:
    """Table 7, data sets: parameter, dataset, and the paper's and our low and high."""
    published, keys = paper.table(7), ["parameter", "dataset"]
    note = "Trajectories and periods: what this tier generated. Alphas above 54 (dense) or 500 (sparse) are clipped."
    published = published[published["dataset"].isin(rows["dataset"])]
    return side_by_side(published, rows[[*keys, "low", "high"]], on=keys, note=note)


def table8(rows: pd.DataFrame) -> pd.DataFrame:
    """Table 8, latency: module, parameters, seconds, source; ours are medians of one advertiser."""
    ours = rows[(rows["batch"] == 1) & (rows["basis"] != "whole text")].rename(columns={"median_seconds": "seconds"})
    source, millions = "ours, " + ours["hardware"] + ", " + ours["engine"], ours["parameters"] / 1e6
    ours = ours.assign(source=source, parameters=millions.map("{:.1f}M".format))
    both = pd.concat([paper.table(8).assign(source="paper, H800, vLLM"), ours], ignore_index=True)
    return both[["module", "parameters", "seconds", "source"]]


def table9(config: Any, tier: str) -> pd.DataFrame:
    """Table 9, Q-value networks: hyperparameter, value_paper, value_ours (of a tier's CriticConfig)."""
    published = paper.table(9)
    fields = {name: _CRITIC.get(name, name) for name in published["hyperparameter"]}
    values = {name: str(getattr(config, field)) for name, field in fields.items() if hasattr(config, field)}
    ours = pd.DataFrame(values.items(), columns=["hyperparameter", "value"])
    return side_by_side(published, ours, on=["hyperparameter"], note=f"Ours: tier {tier}.")


def beside(
    published: pd.DataFrame, ours: pd.DataFrame, *, metrics: Sequence[str], reference: str, note: str = ""
) -> pd.DataFrame:
    """One row per method and metric, the paper's value and ours.

    Levels depend on the market, which is ours and not the benchmark's, so the verdict is about the *difference to a
    reference method* on the same periods: "agrees" if it is decided (:func:`lbm_core.evaluation.statistics.verdict`)
    and of the paper's sign, "opposite" if of the other, "open" if it is not decided, as with fewer than three
    ``trainings``; "not comparable" where the paper names no difference, the rows do not hold the metric, or they may
    not stand beside the paper (:func:`lbm_core.evaluation.claims.comparable`).

    ``ours`` are recorded rows of one data set: method, dataset, period, the metrics[, seed, advertiser, train_seed];
    ``published`` holds method, dataset, metric, value; ``note`` is shown below the table. Columns: method, metric,
    paper, ours, low, high, paper_difference, ours_difference, difference_low, difference_high, periods, seeds,
    trainings, verdict. A metric that was not recorded is NaN in the rows and here.
    """
    rng, dataset = np.random.default_rng(0), ours["dataset"].iloc[0]  # the same table at every call
    wanted = published[published["dataset"] == dataset]
    if wanted.empty:
        raise ValueError(f"the published frame has no rows of dataset {dataset!r}")
    theirs = wanted.set_index(["method", "metric"])["value"]
    if theirs.index.has_duplicates:
        raise ValueError("the published frame names a method and metric twice: select one setting first")
    table = _intervals(ours, rng, metrics).rename(columns={"mean": "ours"})
    differences = statistics.paired_differences(ours, reference, rng, metrics=_recorded(ours, metrics))
    named = {"difference": "ours_difference", "low": "difference_low", "high": "difference_high"}
    table = table.join(theirs.rename("paper"), on=["method", "metric"])
    base = theirs.reindex([(reference, metric) for metric in metrics]).droplevel("method")
    is_reference = table["method"] == reference
    table["paper_difference"] = (table["paper"] - table["metric"].map(base)).mask(is_reference)
    table = table.merge(differences.drop(columns="periods").rename(columns=named), on=["method", "metric"], how="left")
    judged = table["verdict"]
    published_side = np.sign(table["paper_difference"]).map({1: statistics.ABOVE, -1: statistics.BELOW})
    cases = {
        "reference": is_reference,
        NOT_COMPARABLE: published_side.isna() | judged.isna() | (not comparable(ours)),
        statistics.OPEN: judged == statistics.OPEN,
        AGREES: judged == published_side,
    }
    table["verdict"] = np.select(list(cases.values()), list(cases), OPPOSITE)
    columns = ["method", "metric", "paper", "ours", "low", "high", "paper_difference", "ours_difference"]
    table = table[[*columns, "difference_low", "difference_high", "periods", "seeds", "trainings", "verdict"]]
    table.attrs = {"source": published.attrs["source"], "note": note, "reference": reference}
    return table


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """A table of :func:`beside` for the eye: 3 digits, intervals as text, differences named after the reference; "–"
    for what is not there."""

    def texts(sign: str, *columns: str) -> list[str]:
        rows = table[list(columns)].map(lambda value: "" if np.isnan(value) else f"{value:{sign}.3g}").to_numpy()
        return [f"{mean} [{', '.join(bounds)}]" if any(bounds) else mean or "–" for mean, *bounds in rows]

    reference = table.attrs["reference"]
    frame = table[["method", "metric"]].assign(paper=texts("", "paper"))
    frame["ours [95 %]"] = texts("", "ours", "low", "high")
    frame[f"paper − {reference}"] = texts("+", "paper_difference")
    frame[f"ours − {reference} [95 %]"] = texts("+", "ours_difference", "difference_low", "difference_high")
    return frame.join(table[["periods", "seeds", "trainings", "verdict"]])


def side_by_side(published: pd.DataFrame, ours: pd.DataFrame, *, on: Sequence[str], note: str = "") -> pd.DataFrame:
    """The paper's facts (Tables 7, 9) beside ours, matched on some columns; rows that one side lacks stay."""
    keys = list(on)
    order = pd.concat([published[keys], ours[keys]]).drop_duplicates()
    frame = order.merge(published.merge(ours, on=keys, how="outer", suffixes=("_paper", "_ours")), on=keys)
    frame.attrs = {"source": published.attrs["source"], "note": note}
    return frame


def _with_ratio(rows: pd.DataFrame, column: str = "group_cpa_ratio") -> pd.DataFrame:
    """Rows whose CPA ratio is that of all advertisers together; NaN in rows that were recorded without it."""
    return rows.assign(cpa_ratio=rows.get(column, np.nan))


def _recorded(rows: pd.DataFrame, metrics: Sequence[str]) -> list[str]:
    return [name for name in metrics if rows[name].notna().any()]


def _intervals(rows: pd.DataFrame, rng: np.random.Generator, metrics: Sequence[str]) -> pd.DataFrame:
    """:func:`lbm_core.evaluation.statistics.intervals`, with NaN for metrics that were not recorded."""
    cells = pd.MultiIndex.from_product([rows["method"].unique(), metrics], names=["method", "metric"])
    known = statistics.intervals(rows, rng, metrics=_recorded(rows, metrics))
    return cells.to_frame(index=False).merge(known, on=["method", "metric"], how="left")


def _replayed(rows: pd.DataFrame, language_model: str) -> str:
    """The protocol of replayed rows, with the language model where there is one."""
    names = [f", {language_model} {name}" for name in rows["backbone"].unique() if name]
    return f"Ours: replay, tier {rows['tier'].iloc[0]}, simulated prices{names[0] if names else ''}."

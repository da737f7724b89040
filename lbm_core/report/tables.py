"""The paper beside ours: published value, our mean with its interval, and whether the comparison is resolved."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lbm_core.evaluation import statistics

NOT_COMPARABLE = "not comparable"


def beside(
    published: pd.DataFrame,
    ours: pd.DataFrame,
    *,
    metrics: Sequence[str],
    reference: str,
    dataset: str,
    rng: np.random.Generator | None = None,
    comparable: bool = True,
    note: str = "",
) -> pd.DataFrame:
    """One row per method and metric, the paper's value and ours.

    Levels depend on the market, which is ours and not the benchmark's, so the verdict is about the *difference to a
    reference method* on the same periods: "resolved" if its 95 % interval excludes zero (its sign is then in
    ``ours_difference``, the paper's in ``paper_difference``), "not resolved" if it does not, "not comparable" where the
    paper has no value for the method or the reference, or where ``comparable`` is False.

    Parameters
    ----------
    published : method, dataset, metric, value, as :func:`lbm_core.report.paper.main_results` gives
    ours : method, period, the metrics[, seed, advertiser, train_seed]: rows of an evaluation
    metrics : columns of ``ours`` and values of ``published["metric"]``
    reference : a method of ``ours``
    dataset : which rows of ``published``
    rng : for the bootstrap; default a fixed one, so that a table is the same at every call
    comparable : False where the protocols differ in more than the market, say why in ``note``
    note : the protocol, kept in ``attrs["note"]`` and shown below the table

    Returns
    -------
    method, metric, paper, ours, low, high, paper_difference, ours_difference, difference_low, difference_high, periods,
    seeds, verdict: methods in the order of ``ours``; ``attrs["source"]`` is the published frame's.
    """
    rng = np.random.default_rng(0) if rng is None else rng
    wanted = published[published["dataset"] == dataset]
    if wanted.empty:
        raise ValueError(f"the published frame has no rows of dataset {dataset!r}")
    theirs = wanted.set_index(["method", "metric"])["value"]
    if theirs.index.has_duplicates:
        raise ValueError("the published frame names a method and metric twice: select one setting first")
    table = statistics.intervals(ours, rng, metrics=metrics).rename(columns={"mean": "ours"})
    differences = statistics.paired_differences(ours, reference, rng, metrics=metrics)
    differences = differences.rename(
        columns={"difference": "ours_difference", "low": "difference_low", "high": "difference_high"}
    ).drop(columns=["reference", "relative", "periods"])
    keys = pd.MultiIndex.from_frame(table[["method", "metric"]])
    table["paper"] = theirs.reindex(keys).to_numpy()
    baseline = theirs.reindex(pd.MultiIndex.from_product([[reference], metrics])).droplevel(0)
    table["paper_difference"] = table["paper"] - table["metric"].map(baseline)
    table = table.merge(differences, on=["method", "metric"], how="left")
    is_reference = table["method"] == reference
    unpublished = table["paper_difference"].isna() | (not comparable)
    table["verdict"] = table["verdict"].mask(unpublished, NOT_COMPARABLE).mask(is_reference, "reference")
    table.loc[is_reference, "paper_difference"] = np.nan
    columns = ["method", "metric", "paper", "ours", "low", "high", "paper_difference", "ours_difference"]
    table = table[[*columns, "difference_low", "difference_high", "periods", "seeds", "verdict"]]
    table.attrs = {"source": published.attrs.get("source", ""), "note": note, "reference": reference}
    return table


def readable(table: pd.DataFrame, *, digits: int = 3) -> pd.DataFrame:
    """A table of :func:`beside` for the eye: intervals as text, one row per method and metric.

    ``difference`` columns are named after the reference method.
    """

    def interval(mean: pd.Series, low: pd.Series, high: pd.Series, sign: str) -> list[str]:
        shown = []
        for values in zip(mean, low, high, strict=True):
            middle, below, above = (f"{v:{sign}.{digits}g}" for v in values)
            shown.append(
                "" if np.isnan(values[0]) else middle if np.isnan(values[1]) else f"{middle} [{below}, {above}]"
            )
        return shown

    reference = table.attrs.get("reference", "the reference")
    frame = pd.DataFrame(
        {
            "method": table["method"],
            "metric": table["metric"],
            "paper": [f"{v:.{digits}g}" if np.isfinite(v) else "" for v in table["paper"]],
            "ours [95 %]": interval(table["ours"], table["low"], table["high"], ""),
            f"paper − {reference}": [f"{v:+.{digits}g}" if np.isfinite(v) else "" for v in table["paper_difference"]],
            f"ours − {reference} [95 %]": interval(
                table["ours_difference"], table["difference_low"], table["difference_high"], "+"
            ),
            "periods": table["periods"],
            "seeds": table["seeds"],
            "verdict": table["verdict"],
        }
    )
    frame.attrs = dict(table.attrs)
    return frame


def side_by_side(published: pd.DataFrame, ours: pd.DataFrame, *, on: Sequence[str], note: str = "") -> pd.DataFrame:
    """Published facts that are not evaluations (Tables 7, 8, 9) beside ours, matched on the columns ``on``.

    Columns of both carry ``_paper`` and ``_ours``; rows that only one side has stay, the paper's first.
    """
    missing = [name for name in on if name not in published or name not in ours]
    if missing:
        raise ValueError(f"both frames need the column {missing[0]!r}")
    keys = list(on)
    order = pd.concat([published[keys], ours[keys]]).drop_duplicates()
    frame = order.merge(published.merge(ours, on=keys, how="outer", suffixes=("_paper", "_ours")), on=keys)
    frame.attrs = {"source": published.attrs.get("source", ""), "note": note}
    return frame

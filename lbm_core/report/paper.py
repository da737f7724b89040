"""The published numbers, as tidy frames. The only home of a number that is the paper's and not ours.

The files in ``published/`` restate the paper's tables cell by cell; Figures 3 and 6 are digitised from its plots, so
their points carry a reading error of about one line width. Every frame names its source in ``frame.attrs["source"]``.
"""

from __future__ import annotations

import pandas as pd

from lbm_core import paths

CITATION = (
    "Li et al., LBM: Hierarchical Large Auto-Bidding Model via Reasoning and Acting, WWW '26, "
    "doi:10.1145/3774904.3792202 (CC BY 4.0)"
)
_FOLDER = paths.PACKAGE / "report" / "published"


def _published(name: str, where: str, *, dtype: dict[str, str] | None = None) -> pd.DataFrame:
    frame = pd.read_csv(_FOLDER / f"{name}.csv", dtype=dtype)
    frame.attrs["source"] = f"{where} of {CITATION}"
    return frame


def table1() -> pd.DataFrame:
    """Table 1, auto-bidding baselines: dataset, method, metric (conversions | score), value, std (LBM rows only)."""
    return _published("table1", "Table 1")


def table2() -> pd.DataFrame:
    """Table 2, LLM-based methods: dataset, method, metric (the four of §4.1), value."""
    return _published("table2", "Table 2")


def table3() -> pd.DataFrame:
    """Table 3, return-to-go with a penalty: dataset, method, w (NaN for LBM), metric, value.

    The paper does not say which data set; the values are those of the dense one in Tables 1 and 2.
    """
    return _published("table3", "Table 3")


def table4() -> pd.DataFrame:
    """Table 4, constant instructions: dataset (dense, as in :func:`table3`), instruction, metric, value."""
    return _published("table4", "Table 4")


def table5() -> pd.DataFrame:
    """Table 5, other budgets: dataset, method, budget_ratio (share of the usual budget), metric, value."""
    return _published("table5", "Table 5")


def table6() -> pd.DataFrame:
    """Table 6, size of LBM-Think: dataset, model_size, metric (conversions | score), value."""
    return _published("table6", "Table 6")


def table7() -> pd.DataFrame:
    """Table 7, data sets: parameter, dataset, low, high (equal unless the paper prints a range)."""
    return _published("table7", "Table 7")


def table8() -> pd.DataFrame:
    """Table 8, inference latency with vLLM on an H800: module, parameters, seconds."""
    return _published("table8", "Table 8")


def table9() -> pd.DataFrame:
    """Table 9, hyperparameters of the Q-value networks: hyperparameter, value (text)."""
    return _published("table9", "Table 9", dtype={"value": "str"})


def figure2() -> pd.DataFrame:
    """Figure 2, counts: model, delta_a (increase | decrease), cpa_ratio (below_1 | above_1), count.

    Of each model's 1,000 samples 500 (once 499) lie on either side of CPA ratio 1: the sample is stratified.
    """
    return _published("figure2", "Figure 2")


def figure3() -> pd.DataFrame:
    """Figure 3, training loss: method (LLM-DT | LBM-Act), step (to 100,000), loss (unit not given)."""
    return _published("figure3", "Figure 3 (digitised)")


def figure6() -> pd.DataFrame:
    """Figure 6, length of GRPO responses: step, tokens."""
    return _published("figure6", "Figure 6 (digitised)")


def main_results() -> pd.DataFrame:
    """Tables 1 and 2 in one frame: dataset, method, metric, value; the LBM rows of both agree and appear once."""
    both = pd.concat([table2(), table1().drop(columns="std")], ignore_index=True)
    both = both.drop_duplicates(["dataset", "method", "metric"], ignore_index=True)
    both.attrs["source"] = f"Tables 1 and 2 of {CITATION}"
    return both


def anchors() -> pd.DataFrame:
    """What others published for these methods on the real benchmark, for orientation: neither ours nor the paper's.

    Returns
    -------
    dataset, method, metric, value, source, protocol. "rlbidder": the published notebook of the open-source library of
    that name; "CBD paper": the article that introduced DiffBid-Q's completion
    """
    frame = pd.read_csv(_FOLDER / "anchors.csv")
    frame.attrs["source"] = "the sources named in the table"
    return frame

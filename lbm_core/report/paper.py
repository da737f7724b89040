"""The published numbers (their only home), where the paper is silent or odd, and where each part of it is here.

The files in ``published/`` restate the paper's tables cell by cell; Figures 3 and 6 are digitised from its plots, so
their points carry a reading error of about one line width. Every frame names its source in ``frame.attrs["source"]``.
"""

from pathlib import Path

import pandas as pd

from lbm_core import paths
from lbm_core.report import results

CITATION = (
    "Li et al., LBM: Hierarchical Large Auto-Bidding Model via Reasoning and Acting, WWW '26, "
    "doi:10.1145/3774904.3792202 (CC BY 4.0)"
)
PARTS = ("data", "act", "critic", "think", "baselines", "language", "evaluation")
_FOLDER = paths.PACKAGE / "report"


def table(number: int) -> pd.DataFrame:
    """One of the paper's tables.

    1, auto-bidding baselines: dataset, method, metric (conversions | score), value, std (LBM rows only)
    2, LLM-based methods: dataset, method, metric (the four of §4.1), value
    3, return-to-go with a penalty: dataset, method, w (NaN for LBM), metric, value. The paper does not say which data
    set; the values are those of the dense one in Tables 1 and 2
    4, constant instructions: dataset (dense, as in 3), instruction, metric, value
    5, other budgets: dataset, method, budget_ratio (share of the usual budget), metric, value
    6, size of LBM-Think: dataset, model_size, metric (conversions | score), value
    7, data sets: parameter, dataset, low, high (equal unless the paper prints a range)
    8, inference latency with vLLM on an H800: module, parameters, seconds
    9, hyperparameters of the Q-value networks: hyperparameter, value (text)
    """
    frame = pd.read_csv(_FOLDER / "published" / f"table{number}.csv", dtype={"value": "str"} if number == 9 else None)
    frame.attrs["source"] = f"Table {number} of {CITATION}"
    return frame


def figure(number: int) -> pd.DataFrame:
    """What one of the paper's figures shows; 3 and 6 are digitised.

    2, counts: model, delta_a (increase | decrease), cpa_ratio (below_1 | above_1), count. LBM(P) and LBM(GQPO) are what
    the figure calls LLM and LLM+GQPO. Of each model's 1,000 samples 500 (once 499) lie on either side of CPA ratio 1:
    the sample is stratified
    3, training loss: method (LLM-DT | LBM-Act), step (to 100,000), loss (unit not given)
    6, length of GRPO responses: step, tokens
    """
    frame = pd.read_csv(_FOLDER / "published" / f"figure{number}.csv")
    if number == 2:
        frame = frame.replace({"model": {"LLM": "LBM(P)", "LLM+GQPO": "LBM(GQPO)"}})
    frame.attrs["source"] = f"Figure {number}{'' if number == 2 else ' (digitised)'} of {CITATION}"
    return frame


def main_results() -> pd.DataFrame:
    """Tables 1 and 2 in one frame: dataset, method, metric, value; the LBM rows of both agree and appear once."""
    both = pd.concat([table(2), table(1).drop(columns="std")], ignore_index=True)
    both = both.drop_duplicates(["dataset", "method", "metric"], ignore_index=True)
    both.attrs["source"] = f"Tables 1 and 2 of {CITATION}"
    return both


def anchors() -> pd.DataFrame:
    """What others published for these methods on the real benchmark, for orientation: neither ours nor the paper's.

    Columns: dataset, method, metric, value, source, protocol. "rlbidder" is the published notebook of the open-source
    library of that name, "CBD paper" the article that introduced DiffBid-Q's completion.
    """
    frame = pd.read_csv(_FOLDER / "published" / "anchors.csv")
    frame.attrs["source"] = "the sources named in the table"
    return frame


def deviations(part: str | None = None) -> pd.DataFrame:
    """The ledger of decisions: where the paper is silent or its authors' released code does something else.

    Of one of :data:`PARTS`, default all: part, topic, paper (what it says), release (what the authors' code does),
    ours (the default here), toggle (dotted name of the setting that changes it, or "").
    """
    frame = pd.read_csv(_FOLDER / "deviations.csv", keep_default_na=False)
    if part is None:
        return frame
    if part not in PARTS:
        raise ValueError(f"unknown part {part!r}; choose one of {', '.join(PARTS)}")
    return frame[frame["part"] == part].drop(columns="part").reset_index(drop=True)


def oddities() -> pd.DataFrame:
    """Places in the paper that a careful reader will stumble over: where, what."""
    frame = pd.read_csv(_FOLDER / "oddities.csv", keep_default_na=False)
    frame.attrs["source"] = CITATION
    return frame


def paper_map(output: str | Path = "") -> pd.DataFrame:
    """One row for each equation (1-14), table (1-9) and figure (1-6) of the paper.

    Columns: item, what, function (dotted), notebook (numbers), results (names), and of the rows that the "cached" tier
    reads in ``output``: tiers, datasets, seeds (of training where something is trained) and status: "explained" if
    nothing is recorded for it, else by the weakest of its results "reproduced at <tier>", "smoke only" or "not run".
    """
    table = pd.read_csv(_FOLDER / "map.csv", keep_default_na=False, dtype="str")
    summaries = [_recorded(names.split(), output) for names in table["results"]]
    return table.join(pd.DataFrame(summaries, columns=["tiers", "datasets", "seeds", "status"]))


def _recorded(experiments: list[str], output: str | Path) -> tuple[str, str, str, str]:
    if not experiments:
        return "", "", "", "explained"
    try:
        parts = [results.load(name, "cached", output) for name in experiments]
    except FileNotFoundError:
        return "", "", "", "not run"
    rows = pd.concat(parts).astype({"seed": "object"})
    rows["seed"] = rows.get("train_seed", rows["seed"]).astype("object").fillna(rows["seed"])
    tiers = sorted(rows["tier"].unique(), key=results.COMPUTED_TIERS.index)
    status = "smoke only" if tiers[0] == "smoke" else f"reproduced at {tiers[0]}"
    seeds = sorted({seed.removesuffix(".0") for text in rows["seed"].astype("str") for seed in text.split()})
    return " ".join(tiers), " ".join(sorted(rows["dataset"].unique())), " ".join(seeds), status

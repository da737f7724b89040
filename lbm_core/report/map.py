"""Where everything of the paper is: each equation, table and figure with its function, notebook and results."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from lbm_core import paths
from lbm_core.report import results
from lbm_core.report.results import COMPUTED_TIERS


def paper_map(output: str | Path = "") -> pd.DataFrame:
    """One row for each equation (1-14), table (1-9) and figure (1-6) of the paper.

    Parameters
    ----------
    output : folder whose committed results count; default the checkout

    Returns
    -------
    item, what, function (dotted), notebook (numbers), results (names), and from the rows that the "cached" tier reads
    there: tiers, datasets, seeds (of training where something is trained) and status: "explained" if nothing is
    recorded for it, else by the weakest of its results "reproduced at <tier>", "smoke only" or "not run"
    """
    table = pd.read_csv(paths.PACKAGE / "report" / "map.csv", keep_default_na=False, dtype="str")
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
    tiers = sorted(rows["tier"].unique(), key=COMPUTED_TIERS.index)
    status = "smoke only" if tiers[0] == "smoke" else f"reproduced at {tiers[0]}"
    seeds = sorted({seed.removesuffix(".0") for text in rows["seed"].astype("str") for seed in text.split()})
    return " ".join(tiers), " ".join(sorted(rows["dataset"].unique())), " ".join(seeds), status

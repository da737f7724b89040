"""Where the paper is silent or its authors' released code does something else, and what this project does: as data."""

from __future__ import annotations

import pandas as pd

from lbm_core import paths
from lbm_core.report.paper import CITATION

PARTS = ("data", "act", "critic", "think", "baselines", "language", "evaluation")
_FOLDER = paths.PACKAGE / "report"


def load(part: str | None = None) -> pd.DataFrame:
    """The ledger of decisions.

    Parameters
    ----------
    part : one of :data:`PARTS`; default all

    Returns
    -------
    part, topic, paper (what it says), release (what the authors' code does), ours (the default here), toggle (dotted
    name of the setting that changes it; "" where there is none)
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

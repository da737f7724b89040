"""What do late and missing chains of thought cost? LBM-Act under guides whose words come late or never (chapter 9)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lbm_core.evaluation.statistics import paired_differences
from lbm_core.pipeline.act_study import AS_GUIDES, study_tier
from lbm_core.pipeline.contenders import evaluate_methods
from lbm_core.pipeline.guides import guide_of
from lbm_core.settings import Dataset
from lbm_core.tiers import Tier


def settings(tier: Tier) -> list[str]:
    """Names of the methods compared, for each of the tier's guides.

    The guide itself; its words late; missing, with "uncertain" or (", hold") the last word in their place; and, for
    lateness beyond one interval, written by a machine that starts the next texts only when the last are done ("every L
    ticks, late L").
    """
    names = []
    for guide in tier.think.late_guides:
        plain = f"LBM-Act + {guide}"
        names.append(plain)
        names += [f"{plain}, late {late}" for late in tier.think.late]
        names += [f"{plain}, every {late} ticks, late {late}, hold" for late in tier.think.late if late > 1]
        names += [f"{plain}, late 1, missing {share:g}" for share in tier.think.missing]
        names += [f"{plain}, late 1, missing {share:g}, hold" for share in tier.think.missing]
    return list(dict.fromkeys(names))


def late_guides_compared(tier: Tier, dataset: Dataset, seed: int) -> pd.DataFrame:
    """Replays of :func:`settings`, and of LBM-Act that is told "uncertain" all day ("LBM-Act + none").

    Returns
    -------
    Rows of :func:`~lbm_core.pipeline.contenders.evaluate_methods`
    """
    rows = evaluate_methods(study_tier(tier), dataset, seed, ["uncertain", *settings(tier)])
    return rows.assign(method=rows["method"].replace(AS_GUIDES))


def costs(rows: pd.DataFrame, rng: np.random.Generator, metric: str = "expected_score") -> pd.DataFrame:
    """Each setting minus its own guide without delay, paired by period and advertiser.

    Parameters
    ----------
    rows : of :func:`late_guides_compared`, or their means per period

    Returns
    -------
    guide, late, missing, hold, every, mean (of the metric), difference, low, high, relative, periods, verdict; the
    guide itself (late 0, missing 0) has no difference, and "none" is compared with each guide, as missing = 1
    """
    means = rows.groupby("method", sort=False)[metric].mean()
    frames = []
    for guide in dict.fromkeys(guide_of(name).guide for name in means.index):
        if guide == "none":
            continue
        plain = f"LBM-Act + {guide}"
        others = [name for name in means.index if guide_of(name).guide == guide and name != plain]
        found = paired_differences(rows, plain, rng, metrics=[metric], methods=[*others, "LBM-Act + none"])
        for row in pd.concat([pd.DataFrame({"method": [plain]}), found]).to_dict("records"):
            asked = guide_of(row["method"])
            none = asked.guide == "none"
            told = {"guide": guide, "late": 1 if none else asked.late, "missing": 1.0 if none else asked.missing}
            told |= {"hold": asked.hold, "every": asked.every, "mean": means[row["method"]]}
            kept = {
                key: row.get(key, np.nan) for key in ("difference", "low", "high", "relative", "periods", "verdict")
            }
            frames.append(told | kept)
    return pd.DataFrame(frames)

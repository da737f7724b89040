"""Does alpha move against the CPA so far? Fig. 2's counts, and §1's complaint about black boxes."""

from typing import Any

import numpy as np
import pandas as pd

from lbm_core.auction.day import DayResult

DEAD_BAND = 0.01  # moves of |log alpha| up to this are none
LEAST = 5  # conversions that an advertiser must have before its CPA counts for something
SIGNS, SIDES = ("increase", "decrease"), ("below_1", "above_1")


def direction_counts(samples: pd.DataFrame, dead_band: float = 0.0) -> pd.DataFrame:
    """Fig. 2's counts: model, delta_a (increase | decrease), cpa_ratio (below_1 | above_1), count, share of the column.

    ``samples`` hold model, cpa_ratio (so far, at the decision) and delta_a (log alpha_t / alpha_{t-1}). A column has
    those with a CPA ratio on one side of 1; samples that change log alpha by no more than ``dead_band`` are left out.
    """
    moved = samples[samples["delta_a"].abs() > dead_band]
    side = np.where(moved["cpa_ratio"] < 1, "below_1", "above_1")
    sign = np.where(moved["delta_a"] > 0, "increase", "decrease")
    levels: dict[str, Any] = {"model": samples["model"].unique(), "delta_a": SIGNS, "cpa_ratio": SIDES}
    cells = pd.MultiIndex.from_product(list(levels.values()), names=list(levels))
    counts = moved.assign(delta_a=sign, cpa_ratio=side).value_counts(list(levels))
    return with_share(counts.reindex(cells, fill_value=0).reset_index())


def with_share(counts: pd.DataFrame) -> pd.DataFrame:
    """Counts of :func:`direction_counts` (or the paper's) with each one's share of its column."""
    total = counts.groupby(["model", "cpa_ratio"])["count"].transform("sum")
    return counts.assign(share=counts["count"] / total.where(total > 0))


def moves(result: DayResult) -> pd.DataFrame:
    """Every decision after the first, beside the CPA so far: advertiser, tick, alpha_ratio (alpha / C), cpa_ratio (CPA
    so far / C), move (of log alpha), wrong_way.

    A row per advertiser and tick with both bids placed and at least :data:`LEAST` conversions. The wrong way is up
    where the CPA is above its target, or down where it is below, by more than :data:`DEAD_BAND`.
    """
    target, alphas = result.advertisers.cpa_target, result.alphas
    cost, won = (np.cumsum(table, axis=1)[:, :-1] for table in (result.costs, result.conversions))
    row, tick = np.nonzero((alphas[:, 1:] > 0) & (alphas[:, :-1] > 0) & (won >= LEAST))
    now, ratio = alphas[row, tick + 1], cost[row, tick] / won[row, tick] / target[row]
    move = np.log(now / alphas[row, tick])
    wrong = ((ratio > 1) & (move > DEAD_BAND)) | ((ratio < 1) & (move < -DEAD_BAND))
    frame = pd.DataFrame({"advertiser": result.advertisers.index[row], "tick": tick + 1})
    return frame.assign(alpha_ratio=now / target[row], cpa_ratio=ratio, move=move, wrong_way=wrong)


def wrong_way(frame: pd.DataFrame) -> pd.Series:
    """Of the rows of :func:`moves`: share of decisions that raise alpha where the CPA is above its target, that lower
    it where the CPA is below, and the number of decisions of either kind; NaN where there is none."""
    above, below = frame[frame["cpa_ratio"] > 1], frame[frame["cpa_ratio"] < 1]
    shares = {"raised_above": (above["move"] > DEAD_BAND).mean(), "lowered_below": (below["move"] < -DEAD_BAND).mean()}
    return pd.Series(shares | {"decisions_above": len(above), "decisions_below": len(below)})

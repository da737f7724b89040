"""Does alpha move against the CPA so far? Fig. 2's counts, and §1's complaint about black boxes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from lbm_core.auction.replay import ReplayResult

DEAD_BAND = 0.01  # moves of |log alpha| up to this are none
LEAST = 5  # conversions that an advertiser must have before its CPA counts for something
SIGNS, SIDES = ("increase", "decrease"), ("below_1", "above_1")


def direction_counts(samples: pd.DataFrame) -> pd.DataFrame:
    """Fig. 2's counts: model, delta_a (increase | decrease), cpa_ratio (below_1 | above_1), count, share.

    ``share`` is that of the column (samples with a CPA ratio on the same side of 1). Samples with no change of alpha
    belong to neither row and are left out.

    Parameters
    ----------
    samples : model, cpa_ratio (so far, at the decision), delta_a (log alpha_t / alpha_{t-1})
    """
    moved = samples[samples["delta_a"] != 0]
    side = np.where(moved["cpa_ratio"] < 1, "below_1", "above_1")
    sign = np.where(moved["delta_a"] > 0, "increase", "decrease")
    cells = pd.MultiIndex.from_product(
        [samples["model"].unique(), SIGNS, SIDES], names=["model", "delta_a", "cpa_ratio"]
    )
    counts = moved.assign(delta_a=sign, cpa_ratio=side).groupby(["model", "delta_a", "cpa_ratio"]).size()
    return with_share(counts.reindex(cells, fill_value=0).rename("count").reset_index())


def with_share(counts: pd.DataFrame) -> pd.DataFrame:
    """Counts of :func:`direction_counts` (or the paper's) with each one's share of its column."""
    total = counts.groupby(["model", "cpa_ratio"])["count"].transform("sum")
    return counts.assign(share=counts["count"] / total.where(total > 0))


def moves(result: ReplayResult) -> pd.DataFrame:
    """Every decision after the first, beside the CPA so far.

    Returns
    -------
    One row per advertiser and tick with both bids placed and at least :data:`LEAST` conversions: advertiser, tick,
    alpha_ratio (alpha / C), cpa_ratio (CPA so far / C), move (log), wrong_way: the ratio is above 1 and alpha rises, or
    it is below 1 and alpha falls, by more than :data:`DEAD_BAND`
    """
    who, alphas = result.advertisers, result.alphas
    cost = np.cumsum(result.costs, axis=1)[:, :-1]
    won = np.cumsum(result.conversions, axis=1)[:, :-1]
    row, tick = np.nonzero((alphas[:, 1:] > 0) & (alphas[:, :-1] > 0) & (won >= LEAST))
    ratio = cost[row, tick] / won[row, tick] / who.cpa_target[row]
    move = np.log(alphas[row, tick + 1] / alphas[row, tick])
    return pd.DataFrame(
        {
            "advertiser": who.index[row],
            "tick": tick + 1,
            "alpha_ratio": alphas[row, tick + 1] / who.cpa_target[row],
            "cpa_ratio": ratio,
            "move": move,
            "wrong_way": ((ratio > 1) & (move > DEAD_BAND)) | ((ratio < 1) & (move < -DEAD_BAND)),
        }
    )


def wrong_way(frame: pd.DataFrame) -> pd.Series:
    """Of the rows of :func:`moves`: share of decisions that raise alpha where the CPA is above its target, that lower
    it where the CPA is below, and the number of decisions of either kind; NaN where there is none."""
    above, below = frame[frame["cpa_ratio"] > 1], frame[frame["cpa_ratio"] < 1]
    return pd.Series(
        {
            "raised_above": (above["move"] > DEAD_BAND).mean(),
            "lowered_below": (below["move"] < -DEAD_BAND).mean(),
            "decisions_above": len(above),
            "decisions_below": len(below),
        }
    )

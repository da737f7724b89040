"""§1's complaint about black boxes: how often a bidder moves alpha against the CPA it has so far."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lbm_core.auction.replay import ReplayResult

DEAD_BAND = 0.01  # moves of |log alpha| up to this are none


def moves(result: ReplayResult, *, least: int = 5, band: float = DEAD_BAND) -> pd.DataFrame:
    """Every decision after the first, beside the CPA so far.

    Parameters
    ----------
    least : conversions that an advertiser must have before its CPA counts for something, >= 1
    band : smallest |log(alpha_t / alpha_{t-1})| that is a move

    Returns
    -------
    One row per advertiser and tick with both bids placed and enough conversions: advertiser, tick, alpha_ratio
    (alpha / C), cpa_ratio (CPA so far / C), move (log), wrong_way: the ratio is above 1 and alpha rises, or it is below
    1 and alpha falls

    Raises
    ------
    ValueError
        ``least`` below 1 or a negative ``band``.
    """
    if least < 1 or band < 0:
        raise ValueError(f"least must be at least 1 and band not negative; got {least} and {band}")
    who, alphas = result.advertisers, result.alphas
    cost = np.cumsum(result.costs, axis=1)[:, :-1]
    won = np.cumsum(result.conversions, axis=1)[:, :-1]
    row, tick = np.nonzero((alphas[:, 1:] > 0) & (alphas[:, :-1] > 0) & (won >= least))
    ratio = cost[row, tick] / won[row, tick] / who.cpa_target[row]
    move = np.log(alphas[row, tick + 1] / alphas[row, tick])
    return pd.DataFrame(
        {
            "advertiser": who.index[row],
            "tick": tick + 1,
            "alpha_ratio": alphas[row, tick + 1] / who.cpa_target[row],
            "cpa_ratio": ratio,
            "move": move,
            "wrong_way": ((ratio > 1) & (move > band)) | ((ratio < 1) & (move < -band)),
        }
    )


def shares(frame: pd.DataFrame, band: float = DEAD_BAND) -> pd.Series:
    """Of the rows of :func:`moves`: share of decisions that raise alpha where the CPA is above its target, that lower
    it where the CPA is below, and the number of decisions of either kind; NaN where there is none."""
    above, below = frame[frame["cpa_ratio"] > 1], frame[frame["cpa_ratio"] < 1]
    return pd.Series(
        {
            "raised_above": float((above["move"] > band).mean()) if len(above) else np.nan,
            "lowered_below": float((below["move"] < -band).mean()) if len(below) else np.nan,
            "decisions_above": len(above),
            "decisions_below": len(below),
        }
    )

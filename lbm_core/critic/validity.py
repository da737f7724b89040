"""Is the critic right? Its verdicts against what the replay says would have happened (Eq. 12 takes it for granted)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lbm_core.auction.bidder import N_TICKS, Advertisers
from lbm_core.auction.controls import ScheduledAlpha
from lbm_core.auction.metrics import score
from lbm_core.auction.response_tables import ResponseTables, table_replay

TIE = 1e-9  # gains up to this are no effect at all


def counterfactual_scores(
    tables: ResponseTables,
    advertisers: Advertisers,
    alphas: NDArray,
    ticks: NDArray[np.int64],
    factors: Sequence[float],
    *,
    persistent: bool = False,
) -> NDArray[np.float64]:
    """(n, F) scores (beta = 2, expected) of days if alpha had been another at one tick, or from there on (persistent).

    All else stays as logged.

    Parameters
    ----------
    tables : of the logged period
    advertisers, alphas : n, one per logged day, and (n, 48) logged; ticks after the logged end count as the last alpha
        > 0
    ticks : (n,) where alpha is changed
    factors : F multiples of the logged alpha
    """
    # A day cut at its ``done`` goes on as it was: the replay may have budget left.
    script = pd.DataFrame(np.where(alphas > 0, alphas, np.nan)).ffill(axis=1).fillna(0.0).to_numpy(np.float64)
    when = np.arange(N_TICKS)
    changed = when >= ticks[:, None] if persistent else when == ticks[:, None]
    scripts = np.where(changed[:, None], script[:, None] * np.asarray(factors)[None, :, None], script[:, None])
    repeated = advertisers[np.repeat(np.arange(len(script)), len(factors))]
    result = table_replay(tables, ScheduledAlpha(scripts.reshape(-1, N_TICKS)), advertisers=repeated)
    scores = score(result.expected_conversions.sum(axis=1), result.costs.sum(axis=1), repeated.cpa_target)
    return scores.reshape(scripts.shape[:2])


def validity(verdicts: pd.DataFrame, by: Sequence[str] = ()) -> pd.DataFrame:
    """:func:`agreement` of every critic, change, period and group by further columns, e.g. a bin of the tick.

    Verdicts hold variant, change, period, factor, relative_q, gain and ``by``; the result variant, change, *by, period,
    the columns of :func:`agreement`, and says_up, is_up: shares of the alternatives above the logged alpha that are
    called better, and that are better. Groups in which no alternative changed anything are left out.
    """
    rows: dict[Any, pd.DataFrame] = {}
    keys = ["variant", "change", *by, "period"]
    for key, moved in verdicts[verdicts["gain"].abs() > TIE].groupby(keys, sort=False, observed=True):
        up = moved[moved["factor"] > 1]
        shares = {"says_up": (up["relative_q"] > 0).mean(), "is_up": (up["gain"] > 0).mean()}
        rows[key] = agreement(moved["relative_q"].to_numpy(), moved["gain"].to_numpy()).assign(**shares)
    if not rows:
        raise ValueError("no alternative changed anything: nothing to compare the critics with")
    return pd.concat(rows, names=keys).droplevel(-1).reset_index()


def calibration(verdicts: pd.DataFrame, bins: int = 8) -> pd.DataFrame:
    """Mean counterfactual gain where a critic says about the same: bins of equal counts by relative-Q.

    Columns: variant, change, place (of the bin, from the lowest), relative_q and gain (means), samples.
    """
    moved = verdicts[verdicts["gain"].abs() > TIE]
    groups = moved.groupby(["variant", "change"], sort=False)["relative_q"]
    place = groups.transform(lambda values: pd.qcut(values.rank(method="first"), bins, labels=False))
    keys = ["variant", "change", "place"]
    means = moved.assign(place=place).groupby(keys, sort=False)[["relative_q", "gain"]]
    return means.mean().assign(samples=means.size()).reset_index().sort_values(keys, ignore_index=True)


def agreement(relative_q: NDArray, gain: NDArray) -> pd.DataFrame:
    """How well a critic's (n, F) relative-Q ranks F alternatives to the logged action by their (n, F) gain in score.

    One row: samples, sign_accuracy (0.5 is chance), rank_correlation (Spearman), says_better, is_better (shares). Exact
    ties (no effect at all) are left out.
    """
    verdict, truth = pd.Series(np.ravel(relative_q)), pd.Series(np.ravel(gain))
    verdict, truth = verdict[truth.abs() > TIE], truth[truth.abs() > TIE]
    if truth.empty:
        raise ValueError("no alternative changed anything: nothing to compare the critic with")
    row = {
        "samples": len(truth),
        "sign_accuracy": ((verdict > 0) == (truth > 0)).mean(),
        "rank_correlation": verdict.corr(truth, method="spearman"),
        "says_better": (verdict > 0).mean(),
        "is_better": (truth > 0).mean(),
    }
    return pd.DataFrame([row])

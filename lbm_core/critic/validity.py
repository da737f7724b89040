"""Is the critic right? Its verdicts against what the replay says would have happened (Eq. 12 takes it for granted)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from lbm_core.auction.bidder import N_TICKS
from lbm_core.auction.hindsight import scores_from
from lbm_core.auction.response_tables import ResponseTables
from lbm_core.data.trajectories import TrajectorySet

TIE = 1e-9  # gains up to this are no effect at all


def counterfactual_scores(
    tables: ResponseTables, days: TrajectorySet, rows: NDArray, ticks: NDArray, factors: ArrayLike, to_end: bool = False
) -> NDArray[np.float64]:
    """(n, F) scores (beta = 2) of logged days if alpha had been another at one tick, or from it to the day's end.

    The replay starts from the state that is judged: at its tick, with what the log has spent and won by then; what
    follows is expected conversions. A replay of the whole day would often get there without a budget. All else stays as
    logged.

    Parameters
    ----------
    tables : of the logged period
    rows, ticks : (n,) which of the days, and when alpha is changed
    factors : (F,) multiples of the logged alpha; ticks after the logged end count as the last alpha > 0
    to_end : whether alpha stays changed to the day's end
    """
    alphas = days.alphas[rows]
    # A day cut at its ``done`` goes on as it was: the replay may have budget left.
    script = pd.DataFrame(np.where(alphas > 0, alphas, np.nan)).ffill(axis=1).fillna(0.0).to_numpy(np.float64)
    changed = to_end | (np.arange(N_TICKS) == ticks[:, None])
    scripts = script[:, None] * np.where(changed[:, None], np.asarray(factors)[:, None], 1.0)
    before = days.costs_before[rows, ticks], days.conversions_before[rows, ticks]
    return scores_from(tables, days.advertisers(rows), ticks, scripts, *before)


def validity(verdicts: pd.DataFrame, by: Sequence[str] = ()) -> pd.DataFrame:
    """:func:`agreement` of every critic, change, period and group by further columns, e.g. a bin of the tick.

    Verdicts hold variant, change, period, factor, relative_q, gain and ``by``; the result variant, change, *by, period,
    the columns of :func:`agreement`, and says_up, is_up: shares of the alternatives above the logged alpha that are
    called better, and that are better; always_lower: sign accuracy of whoever always calls the lower alpha better.
    Groups in which no alternative changed anything are left out.
    """
    rows: dict[Any, pd.DataFrame] = {}
    keys = ["variant", "change", *by, "period"]
    for key, moved in verdicts[verdicts["gain"].abs() > TIE].groupby(keys, sort=False, observed=True):
        up = moved[moved["factor"] > 1]
        shares = {"says_up": (up["relative_q"] > 0).mean(), "is_up": (up["gain"] > 0).mean()}
        shares["always_lower"] = ((moved["gain"] > 0) == (moved["factor"] < 1)).mean()
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

    One row: samples, sign_accuracy, rank_correlation (Spearman), says_better, is_better (shares). Exact ties (no effect
    at all) are left out. Without a look at the state, "never better" has a sign accuracy of 1 - is_better.
    """
    verdict, truth = pd.Series(np.ravel(relative_q)), pd.Series(np.ravel(gain))
    verdict, truth = verdict[truth.abs() > TIE], truth[truth.abs() > TIE]
    if truth.empty:
        raise ValueError("no alternative changed anything: nothing to compare the critic with")
    row = {"samples": len(truth), "sign_accuracy": ((verdict > 0) == (truth > 0)).mean()}
    row |= {"rank_correlation": verdict.corr(truth, method="spearman")}
    return pd.DataFrame([row | {"says_better": (verdict > 0).mean(), "is_better": (truth > 0).mean()}])

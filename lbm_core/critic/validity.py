"""Is the critic right? Its verdicts against what the replay says would have happened (Eq. 12 takes it for granted)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from lbm_core.auction.bidder import N_TICKS, Advertisers, Observation
from lbm_core.auction.metrics import score
from lbm_core.auction.response_tables import ResponseTables, table_replay


class ScriptedBidder:
    """Bids given alphas, whatever happens.

    Parameters
    ----------
    alphas : (n, 48) currency per conversion
    """

    def __init__(self, alphas: ArrayLike) -> None:
        self.alphas = np.asarray(alphas, dtype=np.float64)

    def reset(self, advertisers: Advertisers) -> None:
        """Start a period for n advertisers."""
        if self.alphas.shape != (len(advertisers), N_TICKS):
            raise ValueError(
                f"the script is {self.alphas.shape}; {len(advertisers)} advertisers need {N_TICKS} ticks each"
            )

    def act(self, observation: Observation) -> NDArray[np.float64]:
        """(n,) the script's alpha of this tick."""
        return self.alphas[:, observation.tick]


def counterfactual_scores(
    tables: ResponseTables,
    advertisers: Advertisers,
    alphas: NDArray,
    ticks: NDArray[np.int64],
    factors: Sequence[float],
    *,
    persistent: bool = False,
) -> NDArray[np.float64]:
    """Score of the day if alpha had been another at one tick (or from there on), all else as logged.

    Parameters
    ----------
    tables : response tables of the logged period
    advertisers : n, one per logged day
    alphas : (n, 48) logged alphas; ticks after the logged end count as the last positive alpha
    ticks : (n,) where alpha is changed
    factors : F multiples of the logged alpha; 1 is what was logged
    persistent : change all ticks from ``ticks`` on

    Returns
    -------
    (n, F) expected score (beta = 2) at the day's end
    """
    script = np.asarray(alphas, dtype=np.float64).copy()
    for tick in range(1, N_TICKS):  # a day cut at its ``done`` goes on as it was: the replay may have budget left
        script[:, tick] = np.where(script[:, tick] > 0, script[:, tick], script[:, tick - 1])
    when = np.arange(N_TICKS)
    changed = when >= ticks[:, None] if persistent else when == ticks[:, None]
    n, n_factors = len(script), len(factors)
    scripts = np.where(changed[:, None], script[:, None] * np.asarray(factors)[None, :, None], script[:, None])
    repeated = advertisers[np.repeat(np.arange(n), n_factors)]
    result = table_replay(tables, ScriptedBidder(scripts.reshape(-1, N_TICKS)), advertisers=repeated)
    scores = score(result.expected_conversions.sum(axis=1), result.costs.sum(axis=1), repeated.cpa_target)
    return scores.reshape(n, n_factors)


def validity(verdicts: pd.DataFrame, by: Sequence[str] = ()) -> pd.DataFrame:
    """:func:`agreement` of every critic, change and period.

    Parameters
    ----------
    verdicts : variant, change, period, factor, relative_q, gain, and the columns of ``by``
    by : further columns to split by, e.g. a bin of the tick

    Returns
    -------
    variant, change, *by, period, the columns of :func:`agreement`, and says_up, is_up: shares of the alternatives above
    the logged alpha that are called better, and that are better. Groups in which no alternative changed anything are
    left out.
    """
    rows: list[pd.DataFrame] = []
    keys = ["variant", "change", *by, "period"]
    for key, group in verdicts.groupby(keys, sort=False, observed=True):
        told = group[group["gain"].abs() > 1e-9]
        if told.empty:
            continue
        raised = told[told["factor"] > 1]
        found = agreement(told["relative_q"].to_numpy(), told["gain"].to_numpy())
        shares = {"says_up": (raised["relative_q"] > 0).mean(), "is_up": (raised["gain"] > 0).mean()}
        rows.append(pd.concat([pd.DataFrame([key], columns=keys), found.assign(**shares)], axis=1))
    if not rows:
        raise ValueError("no alternative changed anything: nothing to compare the critics with")
    found = pd.concat(rows, ignore_index=True)
    return found[[*keys, *(name for name in found if name not in keys)]]


def calibration(verdicts: pd.DataFrame, bins: int = 8) -> pd.DataFrame:
    """Mean counterfactual gain where a critic says about the same: bins of equal counts by relative-Q.

    Returns
    -------
    variant, change, place (of the bin, from the lowest), relative_q and gain (means), samples
    """
    kept = verdicts[verdicts["gain"].abs() > 1e-9]
    groups = kept.groupby(["variant", "change"], sort=False)["relative_q"]
    place = groups.transform(lambda said: pd.qcut(said.rank(method="first"), bins, labels=False))
    keys = ["variant", "change", "place"]
    means = kept.assign(place=place).groupby(keys, sort=False)[["relative_q", "gain"]]
    return means.mean().assign(samples=means.size()).reset_index().sort_values(keys, ignore_index=True)


def agreement(relative_q: NDArray, gain: NDArray) -> pd.DataFrame:
    """How well relative-Q ranks alternatives to the logged action.

    Parameters
    ----------
    relative_q : (n, F) critic's verdict on F alternatives
    gain : (n, F) counterfactual score minus the logged one; exact ties (no effect at all) are left out

    Returns
    -------
    One row: samples, sign_accuracy (0.5 is chance), rank_correlation (Spearman), says_better, is_better (shares)
    """
    said, true = np.ravel(relative_q), np.ravel(gain)
    kept = np.abs(true) > 1e-9
    if not kept.any():
        raise ValueError("no alternative changed anything: nothing to compare the critic with")
    said, true = said[kept], true[kept]
    return pd.DataFrame(
        {
            "samples": [len(true)],
            "sign_accuracy": [float(np.mean((said > 0) == (true > 0)))],
            "rank_correlation": [float(pd.Series(said).corr(pd.Series(true), method="spearman"))],
            "says_better": [float(np.mean(said > 0))],
            "is_better": [float(np.mean(true > 0))],
        }
    )

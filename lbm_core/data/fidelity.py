"""How close our simulated data come to the benchmark's published facts (A.1, Table 7).

Source of ``state_moments.csv`` and ``lwc_tick_means.csv``: statistics published with AuctionNet's trajectory data.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from lbm_core import paths
from lbm_core.auction.bidder import N_TICKS
from lbm_core.auction.log import PeriodLog
from lbm_core.auction.state import FEATURES
from lbm_core.data.trajectories import TrajectorySet
from lbm_core.settings import Dataset

# Relative errors of a moment that calibration aims below. What follows from the traffic, and hardly from who bids, has
# less room: counts and the time left (which depends on bidders only through those who stop early).
TOLERANCE = 0.15
TIGHT_TOLERANCE = 0.05
TIGHT = ("time_left", "current_pv_num", "last_three_pv_num_total", "historical_pv_num_total")
_FOLDER = paths.PACKAGE / "data"


def published_moments(dataset: Dataset) -> pd.DataFrame:
    """Mean and standard deviation of the 16 state features over the real trajectory data: feature, mean, std."""
    table = pd.read_csv(_FOLDER / "state_moments.csv")
    return pd.DataFrame({"feature": list(FEATURES), "mean": table[f"{dataset}_mean"], "std": table[f"{dataset}_std"]})


def published_prices() -> pd.DataFrame:
    """Mean least winning cost per tick of the real dense periods 7 (from tick 16) and 14: period, tick, lwc."""
    table = pd.read_csv(_FOLDER / "lwc_tick_means.csv").melt("tick", var_name="period", value_name="lwc").dropna()
    table["period"] = table["period"].str.extract(r"(\d+)").astype(int)
    return table[["period", "tick", "lwc"]].reset_index(drop=True)


def state_moments(trajectories: TrajectorySet) -> pd.DataFrame:
    """Moments of our states, over all rows up to each trajectory's first ``done``: feature, mean, std."""
    rows = trajectories.states[np.arange(N_TICKS) < trajectories.length[:, None]].astype(np.float64)
    return pd.DataFrame({"feature": list(FEATURES), "mean": rows.mean(axis=0), "std": rows.std(axis=0)})


def moment_report(ours: pd.DataFrame, dataset: Dataset) -> pd.DataFrame:
    """All 32 moments of a data set (feature, mean, std) beside the published ones.

    Columns: dataset, feature, moment ("mean" | "std"), ours, real, ratio, tolerance (relative error that calibration
    aims below), within.
    """
    mine = ours.set_index("feature").loc[list(FEATURES), ["mean", "std"]]
    frame = mine.melt(var_name="moment", value_name="ours", ignore_index=False)
    frame["real"] = published_moments(dataset).set_index("feature").melt()["value"].to_numpy()
    frame = frame.reset_index()
    frame.insert(0, "dataset", dataset)
    frame["ratio"] = frame["ours"] / frame["real"]
    frame["tolerance"] = np.where(frame["feature"].isin(TIGHT), TIGHT_TOLERANCE, TOLERANCE)
    frame["within"] = (frame["ratio"] - 1).abs() <= frame["tolerance"]
    return frame


def tick_prices(logs: Iterable[PeriodLog]) -> pd.DataFrame:
    """Mean least winning cost of our periods: period, tick, lwc (currency)."""
    table = [(log.period, tick, log.tick_prices(tick).mean()) for log in logs for tick in range(N_TICKS)]
    return pd.DataFrame(table, columns=["period", "tick", "lwc"])


def price_agreement(ours: pd.DataFrame) -> pd.DataFrame:
    """Our tick prices (period, tick, lwc) against the real dense ones of the same periods.

    Columns: period, ticks, correlation, relative_error (mean absolute error over the real mean).
    """
    both = published_prices().merge(ours, on=["period", "tick"], suffixes=("_real", "_ours"))
    if both.empty:
        raise ValueError("prices are published for periods 7 and 14 only; simulate one of them")
    rows = []
    for period, part in both.groupby("period"):
        error = (part["lwc_ours"] - part["lwc_real"]).abs().mean() / part["lwc_real"].mean()
        correlation = part["lwc_ours"].corr(part["lwc_real"])
        rows.append({"period": period, "ticks": len(part), "correlation": correlation, "relative_error": error})
    return pd.DataFrame(rows)


def table7(trajectories: TrajectorySet, pvalue_range: tuple[float, float]) -> pd.DataFrame:
    """Our data set in the rows of Table 7: parameter, dataset, low, high; trajectories know p-values only as means."""
    conversions = trajectories.conversions.sum(axis=1)
    acting = trajectories.alphas[np.arange(N_TICKS) < trajectories.length[:, None]]
    facts = {
        "trajectories": (len(trajectories),) * 2,
        "delivery_periods": (len(np.unique(trajectories.period)),) * 2,
        "time_steps_per_trajectory": (N_TICKS,) * 2,
        "state_dimension": (trajectories.states.shape[2],) * 2,
        "action_dimension": (1, 1),
        "action_range": (acting.min(), acting.max()),
        "impression_value_range": pvalue_range,
        "cpa_range": (trajectories.cpa_target.min(), trajectories.cpa_target.max()),
        "total_conversion_range": (conversions.min(), conversions.max()),
    }
    rows = [(name, trajectories.dataset, float(low), float(high)) for name, (low, high) in facts.items()]
    return pd.DataFrame(rows, columns=["parameter", "dataset", "low", "high"])

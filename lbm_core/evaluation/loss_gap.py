"""How much of a gap between two training losses a control closes, over training seeds (Fig. 3)."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from lbm_core.evaluation.statistics import MIN_TRAININGS, verdict


def relative_losses(losses: pd.DataFrame) -> pd.DataFrame:
    """Losses (method, seed, step, loss) as shares of what they were before the first step.

    Training seeds can be compared only so: each measures the loss on windows of its own, whose large moves decide it.
    """
    first = losses.sort_values("step").groupby(["method", "seed"])["loss"].transform("first")
    return losses.assign(loss=losses["loss"] / first)


def final_losses(losses: pd.DataFrame) -> pd.DataFrame:
    """Mean loss of the last fifth of the steps of every training (method, seed): method, seed, loss."""
    late = losses[losses["step"] > losses["step"].max() * 0.8]
    return late.groupby(["method", "seed"], sort=False)["loss"].mean().reset_index()


def share_closed(final: pd.DataFrame, control: str) -> pd.DataFrame:
    """Share of LLM-DT's gap to LBM-Act that a control closes in :func:`final_losses`: 0 as LLM-DT, 1 as LBM-Act.

    The share is a ratio of two differences that are uncertain together, so its interval is Fieller's, over training
    seeds that all three share (the same windows in the same order). Where the gap itself could be 0, no share can be
    named: its bounds are NaN.

    One row: control, seeds, gap (mean loss of LLM-DT less LBM-Act), share, low, high, closes ("above" or "below"
    where the 95 % interval lies so to 0, else "open"), differs (the same to 1, where words and control are alike)
    """
    plain, guided = "LLM-DT", "LBM-Act"
    table = final.pivot(index="seed", columns="method", values="loss")
    if missing := [name for name in (control, plain, guided) if name not in table]:
        raise ValueError(f"no losses of {missing[0]!r}; there are those of {', '.join(map(str, table.columns))}")
    table = table[[plain, control, guided]].dropna()
    if table.empty:
        raise ValueError(f"{control}, {plain} and {guided} share no training seed")
    closed, gap = ((table[plain] - table[name]).to_numpy(dtype=np.float64) for name in (control, guided))
    low, high = fieller_interval(closed, gap) if len(table) >= MIN_TRAININGS else (np.nan, np.nan)
    share = closed.mean() / gap.mean() if gap.mean() else np.nan
    words = verdict(low, high, trainings=len(table)), verdict(low - 1, high - 1, trainings=len(table))
    columns = ["control", "seeds", "gap", "share", "low", "high", "closes", "differs"]
    return pd.DataFrame([(control, len(table), gap.mean(), share, low, high, *words)], columns=columns)


def fieller_interval(above: NDArray[np.float64], below: NDArray[np.float64]) -> tuple[float, float]:
    """95 % bounds of mean(above) / mean(below): where mean(above - r below) is within its own t-interval of 0."""
    n = len(below)
    t = stats.t.ppf(0.975, n - 1)
    a, b = float(np.mean(above)), float(np.mean(below))
    (v_aa, v_ab), (_, v_bb) = np.cov(above, below) / n
    squared = b**2 - t**2 * v_bb
    if squared <= 0:  # the gap itself may be 0
        return np.nan, np.nan
    middle = a * b - t**2 * v_ab
    root = np.sqrt(max(middle**2 - squared * (a**2 - t**2 * v_aa), 0.0))
    return float((middle - root) / squared), float((middle + root) / squared)

"""What a tick was worth: conversions, as the paper, or the growth of the day's score."""

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from lbm_core.data.features import ReturnScale, return_unit
from lbm_core.data.trajectories import TrajectorySet

Reward = Literal["score_to_go", "conversions"]
Counted = Literal["expected", "sampled"]  # which conversions a reward counts
PRIOR = 2.0  # imagined conversions bought exactly at the CPA target, so that an empty day has a CPA ratio of 1


def smoothed_score(conversions: NDArray, costs: NDArray, cpa_target: NDArray) -> NDArray[np.float64]:
    """Score of the day so far, S = (n + 2) min(1, (n + 2) C / (cost + 2 C))^2, of n conversions and a cost in currency.

    The evaluation's score (beta = 2) with :data:`PRIOR` imagined conversions at the target C, which keep it from
    jumping at the first real ones.
    """
    counted = conversions + PRIOR
    ratio = (costs + PRIOR * cpa_target) / (counted * cpa_target)
    return counted * np.minimum(1.0, 1.0 / ratio) ** 2


def reward_table(
    trajectories: TrajectorySet,
    reward: Reward = "score_to_go",
    scale: ReturnScale = "budget",
    counted: Counted = "expected",
) -> NDArray[np.float32]:
    """Reward of every tick, (N, 48) float32, in units of :func:`lbm_core.data.features.return_unit`; 0 after the end.

    Differs from the paper: ``"conversions"`` is its reward (§2.2), which never hears of the CPA target.
    ``"score_to_go"``, the default, is r_t = S_{t+1} - S_t (:func:`smoothed_score`), whose sum over the day is the day's
    final score; a conversion that cost too much can count negatively.

    Conversions are rare, and whether one is drawn is luck that no action explains. ``counted="expected"`` counts the
    sum of p over the impressions shown instead, which the benchmark's logs hold as ``reward_continuous``.
    """
    for name, value, kinds in (("reward", reward, Reward), ("conversions", counted, Counted)):
        if value not in get_args(kinds):
            raise ValueError(f"unknown {name} {value!r}; one of {', '.join(get_args(kinds))}")
    unit = return_unit(trajectories.budget, trajectories.cpa_target, scale, trajectories.dataset)[:, None]
    drawn = trajectories.conversions if counted == "sampled" else trajectories.expected_conversions
    gained, costs = drawn.astype(np.float64), trajectories.costs.astype(np.float64)
    if reward == "score_to_go":
        target = trajectories.cpa_target[:, None].astype(np.float64)
        after = gained.cumsum(axis=1), costs.cumsum(axis=1)
        gained = smoothed_score(*after, target) - smoothed_score(after[0] - gained, after[1] - costs, target)
    return (gained / unit).astype(np.float32)

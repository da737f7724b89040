"""Does LBM-Act do as it is told? Moves of log alpha under instructions (Table 4's question, tick by tick)."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from lbm_core.act.decide import decide
from lbm_core.act.dual_embedding import LBMAct
from lbm_core.act.guides import sentences
from lbm_core.data.windows import Windows

INSTRUCTIONS = {"increase": 1, "uncertain": 0, "decrease": -1}


def instructed_moves(model: LBMAct, window: Windows) -> pd.DataFrame:
    """n moments under each instruction: instruction, direction, log_move (predicted, of log alpha; no leak); 3 n rows.

    No window may start a day, whose first bid follows no instruction.
    """
    before = np.maximum(window.previous_alphas[:, -1, 0], 1e-3).astype(np.float64)
    frames = []
    for name, direction in INSTRUCTIONS.items():
        alphas = decide(model, window, sentences([direction] * len(window)), leak=0.0)
        frames.append(pd.DataFrame({"instruction": name, "direction": direction, "log_move": np.log(alphas / before)}))
    return pd.concat(frames, ignore_index=True)


def following_rate(log_moves: ArrayLike, directions: ArrayLike) -> pd.DataFrame:
    """Share of decisions moved the way they were told to, and by how much.

    Moves are (n,) log(alpha_t / alpha_{t-1}), directions (n,) in {-1, 0, 1}; decisions told 0 cannot fail and are left
    out. One row per direction told, and "all": direction, decisions, followed (share in [0, 1]), mean_move and
    median_move (of log alpha, positive in the direction told). ValueError where nobody was told to move.
    """
    move, direction = np.asarray(log_moves, dtype=np.float64), np.asarray(directions)
    if move.shape != direction.shape or not np.isin(direction, (-1, 0, 1)).all():
        raise ValueError(f"{move.shape} moves need as many directions in -1, 0, 1; got {direction.shape}")
    rows = []
    for name, chosen in (("increase", direction > 0), ("decrease", direction < 0), ("all", direction != 0)):
        along = (move * direction)[chosen]
        if len(along):
            shares = {"followed": float(np.mean(along > 0)), "mean_move": along.mean(), "median_move": np.median(along)}
            rows.append({"direction": name, "decisions": len(along), **shares})
    if not rows:
        raise ValueError("nobody was told to move")
    return pd.DataFrame(rows)

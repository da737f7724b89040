"""Which chains of thought are learned: GQPO's rule (Eq. 13) and the controls that show what the Q in it is worth."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from lbm_core.think.gqpo import advantage_weights

RULES = {
    "argmax": "the best relative-Q of each group, if positive (Eq. 13)",
    "argmin": "the worst relative-Q of each group, if negative",
    "random": "any accepted text of each group",
    "rule": "any accepted text of each group whose answer is that of a rule on the spend rate; no Q",
    "weights": "accepted texts at random, each weighted by exp(beta * relative-Q) (Eq. 14, first line)",
}


def learned(
    samples: pd.DataFrame, rule: str, rng: np.random.Generator, *, most: int, ruled: ArrayLike | None = None
) -> pd.DataFrame:
    """The texts that a rule learns: as many as Eq. 13 gives, so that only the choice differs, not the amount.

    Parameters
    ----------
    samples : as of :class:`lbm_core.think.gqpo.Selection`; the result is some of its rows, by prompt
    rule : one of :data:`RULES`
    most : limit of their number, >= 1; the paper learns 2,000. Where there are more, chance decides.
    ruled : (prompts,) direction in {-1, 0, 1} that a rule gives; for "rule"
    """
    if rule not in RULES:
        raise ValueError(f"no rule {rule!r} of what is learned; one of {', '.join(RULES)}")
    if most < 1:
        raise ValueError(f"at least one chain of thought must be learned; got a limit of {most}")
    if rule == "rule" and ruled is None:
        raise ValueError("the rule's directions are needed, one per prompt")
    accepted = samples[samples["relative_q"].notna()]
    pool = accepted.iloc[rng.permutation(len(accepted))]
    if rule == "argmax":
        pool = pool[pool["chosen"]]
    elif rule == "argmin":
        worst = accepted.groupby("prompt")["relative_q"].idxmin()
        pool = pool[pool.index.isin(worst) & (pool["relative_q"] < 0)]
    elif rule == "rule":
        pool = pool[pool["direction"].to_numpy(dtype=np.int64) == np.asarray(ruled)[pool["prompt"].to_numpy()]]
    if rule in ("random", "rule"):
        pool = pool.drop_duplicates("prompt")
    return pool.head(min(most, int(samples["chosen"].sum()))).sort_values(["prompt", "sample"])


def weights(rows: pd.DataFrame, rule: str, beta: float) -> NDArray[np.float64] | None:
    """Factors of the learned texts' losses: exp(beta * relative-Q) with a mean of 1 for "weights", else None."""
    if rule != "weights":
        return None
    return advantage_weights(rows["relative_q"].to_numpy()[:, None], beta)[:, 0]

"""Group relative-Q policy optimisation (§3.3): from sampled chains of thought to the ones worth learning (Eq. 10-14).

Each chain of thought about a logged moment leads LBM-Act to an action; the critic compares it with the logged one
(relative-Q, Eq. 12); the best of the moment's group is kept if it beats the log (Eq. 13).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax

from lbm_core.act.decide import decide
from lbm_core.act.dual_embedding import LBMAct
from lbm_core.act.guides import SENTENCES
from lbm_core.critic.network import Critic
from lbm_core.data.windows import Windows
from lbm_core.think.config import TOLERANCE
from lbm_core.think.generate import Group
from lbm_core.think.parse import ANSWER_FAILURES, Parsed, parse_groups, parsed_row
from lbm_core.think.prompt import PromptFacts

STAGES = ("sampled", "one valid answer", "ratio right", "accepted", "relative-Q > 0", "chosen")


@dataclass(frozen=True)
class Selection:
    """What became of every chain of thought, and what there is to learn from."""

    # One row per chain of thought: prompt, sample, the columns of :func:`~lbm_core.think.parse.parsed_row`,
    # logged_alpha, alpha and relative_q (NaN if not accepted), chosen
    samples: pd.DataFrame
    chosen: NDArray[np.int64]  # (n,) index of the chosen sample of each prompt, -1 for none
    tolerance: float = TOLERANCE  # relative error of a right ratio

    def funnel(self) -> pd.DataFrame:
        """How many chains of thought pass each of :data:`STAGES`: stage, count.

        "accepted" is the stricter of the two filters before it, or the answer's alone where the ratio is excused.
        """
        rows = self.samples
        answered = ~rows["status"].isin([status.value for status in ANSWER_FAILURES])
        right = answered & (rows["ratio_error"] <= self.tolerance + 1e-12)
        passed = (answered, right, rows["relative_q"].notna(), rows["relative_q"] > 0, rows["chosen"])
        return pd.DataFrame({"stage": STAGES, "count": [len(rows), *(int(stage.sum()) for stage in passed)]})


def led_actions(
    act: LBMAct, window: Windows, groups: Sequence[Group], parsed: Sequence[Sequence[Parsed]]
) -> NDArray[np.float64]:
    """(n, N) alpha, currency per conversion, that chains of thought lead to (Eq. 4); NaN for one not accepted."""
    alphas = np.full((len(parsed), max(map(len, parsed))), np.nan)
    texts: dict[str, list[tuple[int, int]]] = {}  # what LBM-Act reads -> whom it concerns
    for i, group in enumerate(parsed):
        for j, one in enumerate(group):
            if one.accepted and one.direction is not None:
                text = groups[i][j].text if act.config.guide == "cot" else SENTENCES[one.direction]
                texts.setdefault(text, []).append((i, j))
    for text, places in texts.items():
        rows, columns = np.array(places).T
        alphas[rows, columns] = decide(act, window[rows], [text] * len(rows))
    return alphas


def relative_qs(
    critic: Critic, window: Windows, alphas: NDArray[np.float64], logged: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Relative-Q of (n, N) actions, Eq. 12: Q(s, a~) - Q(s, a) with (n,) logged a > 0; NaN where there is no action."""
    known = np.isfinite(alphas)
    difference = critic.relative_q(window, np.where(known, alphas, logged[:, None]), logged)
    return np.where(known, difference, np.nan)


def select(relative_q: NDArray[np.float64], errors: NDArray[np.float64] | None = None) -> NDArray[np.int64]:
    """(n,) index of the largest of (n, N) relative-Q, NaN aside; -1 where none is positive (Eq. 13).

    Texts with one answer lead to one action: of equally good ones the first, or that with the least of (n, N)
    ``errors`` of the stated ratio, NaN last.
    """
    better = np.where(np.isfinite(relative_q) & (relative_q > 0), relative_q, 0.0)
    best = (better > 0) & (better >= better.max(axis=1, keepdims=True) - 1e-12)
    order = np.where(best, 0.0 if errors is None else np.nan_to_num(errors, nan=1e9), np.inf)
    return np.where(better.any(axis=1), order.argmin(axis=1), -1)


def advantage_weights(relative_q: NDArray[np.float64], beta: float) -> NDArray[np.float64]:
    """Weights exp(beta * relative-Q) of Eq. 14's first line, scaled to a mean of 1 over the accepted; 0 elsewhere.

    An alternative to :func:`select`, Eq. 14's second line. ValueError for beta < 0, or where nothing is accepted.
    """
    if not beta >= 0:
        raise ValueError(f"beta must be at least 0; got {beta}")
    known = np.isfinite(relative_q)
    if not known.any():
        raise ValueError("no chain of thought was accepted: there is nothing to weight")
    return softmax(np.where(known, beta * relative_q, -np.inf)) * known.sum()


def choose_chains(
    act: LBMAct,
    critic: Critic,
    window: Windows,
    facts: Sequence[PromptFacts],
    groups: Sequence[Group],
    *,
    tolerance: float = TOLERANCE,
    ratio_required: bool = True,
) -> Selection:
    """The whole selection of GQPO for n logged moments, with the fate of every chain of thought.

    The last alpha of the n windows is the logged action, > 0; facts and groups are of the n prompts, with N texts each.
    """
    if not len(window) == len(facts) == len(groups):
        raise ValueError(f"{len(window)} windows, {len(facts)} facts and {len(groups)} groups must be as many")
    if len({len(group) for group in groups}) != 1:
        raise ValueError("every group must hold the same number of chains of thought, at least one group")
    logged = window.alphas[:, -1].astype(np.float64)
    parsed = parse_groups(groups, facts, tolerance=tolerance, ratio_required=ratio_required)
    alphas = led_actions(act, window, groups, parsed)
    relative_q = relative_qs(critic, window, alphas, logged)
    errors = np.array([[one.ratio_error for one in group] for group in parsed])
    chosen, shape = select(relative_q, errors), alphas.shape
    prompt, sample = (places.ravel() for places in np.indices(shape))
    rows = [parsed_row(facts[i], groups[i][j], parsed[i][j]) for i, j in np.ndindex(shape)]
    samples = pd.DataFrame(rows).astype({"ratio": "float64", "direction": "Int64", "stated": "Int64"})
    samples.insert(0, "prompt", prompt)
    samples.insert(1, "sample", sample)
    samples["logged_alpha"], samples["alpha"] = logged[prompt], alphas.ravel()
    samples["relative_q"], samples["chosen"] = relative_q.ravel(), chosen[prompt] == sample
    return Selection(samples, chosen, tolerance)


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

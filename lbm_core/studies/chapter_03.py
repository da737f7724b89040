"""Can relative-Q be trusted, and what does it take? Variants of the critic judged by replay and by steering alone."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from lbm_core.auction.bidder import Bidder
from lbm_core.auction.controls import ConstantAlpha
from lbm_core.auction.log import PeriodLog
from lbm_core.auction.replay import ReplayPeriod
from lbm_core.auction.response_tables import ResponseTables, table_replay
from lbm_core.baselines.critic_search import CriticBidder
from lbm_core.critic.config import CriticConfig
from lbm_core.critic.network import Critic, CriticEnsemble
from lbm_core.critic.validity import counterfactual_scores
from lbm_core.data.trajectories import TrajectorySet, sample_ends, windows
from lbm_core.evaluation.runner import evaluate, spread_rows
from lbm_core.lab.artifacts import Artifact, weights_of
from lbm_core.lab.lab import Lab
from lbm_core.lab.models import critic
from lbm_core.seeding import generator

Judge = Critic | CriticEnsemble
FACTORS = (0.85, 1.15)  # alternatives to the logged alpha
SEARCHED_STEPS = (1.07, 1.14, 1.3)  # factors on the last alpha, up; down by the same
SAMPLES = 400  # logged states per held-out period
_RECIPE = {"reward": "conversions", "counted": "sampled", "state_kind": "paper", "n_step": 1, "decay": False}
VARIANTS: dict[str, dict[str, Any]] = {  # fields of the critic's configuration that differ from the tier's
    "default": {},
    "without past bids": {"state_kind": "no_bids", "window_length": 1},
    "with past bids": {"state_kind": "extended"},
    "drawn conversions": {"counted": "sampled"},
    "conversions": {"reward": "conversions"},
    "16 features": {"state_kind": "paper"},
    "conversions, 16 features": {"reward": "conversions", "state_kind": "paper"},
    "paper's recipe, small": _RECIPE,
    # At its size, which is the default of every field but the data's own.
    "as Table 9": {k: v for k, v in asdict(CriticConfig()).items() if k not in ("dataset", "seed")} | _RECIPE,
    "one step": {"n_step": 1},
    "Monte Carlo": {"n_step": 48, "expectile": 0.5},
    "expectile 0.7": {"expectile": 0.7},
    "expectile 0.97": {"expectile": 0.97},
    "width 64": {"hidden_size": 64},
    "width 128": {"hidden_size": 128},
    "2,000 steps": {"steps": 2_000},
    "8,000 steps": {"steps": 8_000},
}
DATA_SHARES = {f"share {share:g} of the data": share for share in (0.1, 0.3)}  # of the training periods
ENSEMBLES = {"ensemble": 0.0, "ensemble, pessimistic": 1.0}  # name: pessimism


def critic_variants(lab: Lab, names: Sequence[str]) -> dict[str, Judge]:
    """Critics of :data:`VARIANTS`, :data:`ENSEMBLES` and :data:`DATA_SHARES`, each trained or loaded."""
    known = [*VARIANTS, *ENSEMBLES, *DATA_SHARES]
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"no critic variant {unknown[0]!r}; one of {', '.join(known)}")
    members = {name: [one.get() for one in _members(lab, name)] for name in names}
    return {n: CriticEnsemble(own, ENSEMBLES[n]) if n in ENSEMBLES else own[0] for n, own in members.items()}


def _members(lab: Lab, name: str) -> list[Artifact[Critic]]:
    """The trainings that a critic of the chapter is made of."""
    if name in ENSEMBLES:
        return [critic(own) for own in lab.trainings(max(2, lab.tier.evaluation.train_seeds))]
    return [critic(lab.with_share(DATA_SHARES[name]) if name in DATA_SHARES else lab, **VARIANTS.get(name, {}))]


def verdicts(
    critics: Mapping[str, Judge], logs: Iterable[PeriodLog], seed: int, factors: Sequence[float] = FACTORS
) -> pd.DataFrame:
    """What critics say of multiples of the logged alpha on unseen days, and what the replay says.

    One row per critic, logged state (drawn in every period), factor and change ("one tick" or "rest of the day"):
    variant, period, tick, cpa_ratio (of the day so far, smoothed), factor, change, relative_q (reward units), gain
    (score, conversions; of the day replayed from that state on).
    """
    frames = []
    for log in logs:
        held = TrajectorySet.from_logs([log])
        tables = ResponseTables.from_period(ReplayPeriod.from_log(log))
        rows, ticks = sample_ends(held, SAMPLES, generator(seed, "evaluation", 3, log.period))
        logged, target = held.alphas[rows, ticks].astype(np.float64), held.cpa_target[rows].astype(np.float64)
        conversions, costs = held.conversions_before[rows, ticks], held.costs_before[rows, ticks]
        ratio = (costs + 2 * target) / ((conversions + 2) * target)
        states = pd.DataFrame({"period": log.period, "tick": ticks, "cpa_ratio": ratio})
        gains = {}
        for change in ("one tick", "rest of the day"):
            tried, to_end = (1.0, *factors), change != "one tick"
            scores = counterfactual_scores(tables, held, rows, ticks, tried, to_end)
            gains[change] = scores[:, 1:] - scores[:, :1]
        for name, judge in critics.items():
            window = windows(held, rows, ticks, judge.config.window_length)
            relative_q = judge.relative_q(window, logged[:, None] * np.asarray(factors), logged)
            for change, gain in gains.items():
                for k, factor in enumerate(factors):
                    verdict = states.assign(variant=name, factor=factor, change=change)
                    frames.append(verdict.assign(relative_q=relative_q[:, k], gain=gain[:, k]))
    return pd.concat(frames, ignore_index=True)


def steering(lab: Lab, critics: Mapping[str, Judge]) -> pd.DataFrame:
    """Replays in which each critic alone steers, beside nobody steering ("constant", alpha = C all day).

    Rows of :func:`lbm_core.evaluation.runner.evaluate` with the columns train_seed (one) and weights.
    """
    steered = {name: partial(CriticBidder, judge) for name, judge in critics.items()}
    bidders: dict[str, Callable[[], Bidder]] = {"constant": ConstantAlpha, **steered}
    sizes = lab.tier.evaluation
    rows = evaluate(bidders, lab.held_out(), range(sizes.draws), rows=spread_rows(sizes.advertisers), progress=False)
    weights = {"constant": ""} | {name: weights_of(_members(lab, name)) for name in critics}
    return rows.assign(train_seed=lab.training_seed, weights=rows["method"].map(weights))


def searched(lab: Lab, critics: Mapping[str, Judge]) -> pd.DataFrame:
    """Where the tier's critic was chosen: each critic steers the tuning periods' response curves, with steps of a size.

    Columns: variant, step (the larger multiple of the last alpha), period, expected_score (mean per advertiser).
    """
    who = spread_rows(lab.tier.evaluation.advertisers)
    tried = [(name, step, day) for name in critics for step in SEARCHED_STEPS for day in lab.tuning_tables()]
    scores = []
    for name, step, day in tried:
        played = table_replay(day, CriticBidder(critics[name], (1 / step, 1.0, step)), rows=who)
        scores.append(played.summary()["expected_score"].mean())
    frame = pd.DataFrame(tried, columns=["variant", "step", "day"])
    return frame.assign(period=[day.period for day in frame.pop("day")], expected_score=scores)

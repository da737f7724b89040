"""Can relative-Q be trusted, and what does it take? Variants of the critic judged by replay and by steering alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from lbm_core.auction.bidder import Bidder
from lbm_core.auction.controls import ConstantAlpha
from lbm_core.auction.log import PeriodLog
from lbm_core.auction.replay import ReplayPeriod
from lbm_core.auction.response_tables import ResponseTables
from lbm_core.baselines.critic_search import CriticBidder
from lbm_core.critic.ensemble import CriticEnsemble
from lbm_core.critic.network import Critic
from lbm_core.critic.validity import counterfactual_scores
from lbm_core.data.trajectories import TrajectorySet, sample_ends, windows
from lbm_core.evaluation.runner import evaluate, spread_rows
from lbm_core.pipeline.models import critic
from lbm_core.pipeline.stages import Call, held_out_periods, side_by_side, trajectories
from lbm_core.seeding import generator
from lbm_core.settings import Dataset
from lbm_core.tiers import Tier

FACTORS = (0.85, 1.15)  # alternatives to the logged alpha
SAMPLES = 400  # logged states per held-out period
# Fields of the critic's configuration that differ from the tier's.
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "drawn conversions": {"counted": "sampled"},
    "conversions": {"reward": "conversions"},
    "16 features": {"state_kind": "paper"},
    "conversions, 16 features": {"reward": "conversions", "state_kind": "paper"},
    "as Table 9": {"reward": "conversions", "counted": "sampled", "state_kind": "paper", "n_step": 1, "decay": False},
    "one step": {"n_step": 1},
    "Monte Carlo": {"n_step": 48, "expectile": 0.5},
    "expectile 0.5": {"expectile": 0.5},
    "expectile 0.9": {"expectile": 0.9},
}
DATA_SHARES = (0.1, 0.3)  # of the training periods, for the default critic
ENSEMBLES = {"ensemble": 0.0, "ensemble, pessimistic": 1.0}  # name: pessimism


def critic_variants(
    tier: Tier, dataset: Dataset, seed: int, names: Iterable[str] | None = None, *, jobs: int = 1
) -> dict[str, Critic | CriticEnsemble]:
    """Critics to compare, each trained or loaded.

    Parameters
    ----------
    names : of :data:`VARIANTS`, :data:`ENSEMBLES` and ``"share 0.1 of the data"``; default the tier's
    jobs : processes that train side by side

    Raises
    ------
    ValueError
        No such variant.
    """
    wanted = tuple(tier.critic.variants if names is None else names)
    shares = {f"share {share:g} of the data": share for share in DATA_SHARES}
    for name in wanted:
        if name not in (*VARIANTS, *ENSEMBLES, *shares):
            raise ValueError(f"no critic variant {name!r}; one of {', '.join((*VARIANTS, *ENSEMBLES, *shares))}")
    members = range(seed, seed + max(2, tier.act.seeds))
    calls: dict[str, list[Call]] = {}
    for name in wanted:
        if name in VARIANTS:
            calls[name] = [(critic, (tier, dataset, seed), VARIANTS[name])]
        elif name in shares:
            calls[name] = [(critic, (with_share(tier, shares[name]), dataset, seed), {})]
        else:
            calls[name] = [(critic, (tier, dataset, seed), {"train_seed": each}) for each in members]
    if jobs > 1:
        trajectories(tier, dataset, seed)
        unique = {repr(call[1:]): call for several in calls.values() for call in several}
        side_by_side(list(unique.values()), jobs)
    found: dict[str, Critic | CriticEnsemble] = {}
    for name, several in calls.items():
        loaded = [function(*given, **options) for function, given, options in several]
        found[name] = loaded[0] if len(loaded) == 1 else CriticEnsemble(loaded, ENSEMBLES[name])
    return found


def with_share(tier: Tier, share: float) -> Tier:
    """The tier with only that share of its training periods, at least one."""
    return replace(tier, data=replace(tier.data, train_periods=max(1, round(share * tier.data.train_periods))))


def verdicts(
    critics: Mapping[str, Critic | CriticEnsemble],
    logs: Iterable[PeriodLog],
    seed: int,
    *,
    factors: Sequence[float] = FACTORS,
    samples: int = SAMPLES,
) -> pd.DataFrame:
    """What critics say of other alphas on unseen days, and what the replay says.

    Parameters
    ----------
    critics : name to critic
    logs : held-out periods
    factors : alternatives, multiples of the logged alpha
    samples : logged states drawn per period; those after a day's end are dropped

    Returns
    -------
    One row per critic, state, factor and change ("one tick" or "rest of the day"): variant, period, tick, cpa_ratio
    (of the day so far, smoothed), factor, change, relative_q (reward units), gain (score, conversions)
    """
    frames = []
    for log in logs:
        held = TrajectorySet.from_logs([log])
        tables = ResponseTables.from_period(ReplayPeriod.from_log(log))
        rows, ticks = sample_ends(held, samples, generator(seed, "evaluation", 3, log.period))
        acting = held.alphas[rows, ticks] > 0
        rows, ticks = rows[acting], ticks[acting]
        logged = held.alphas[rows, ticks].astype(np.float64)
        target = held.cpa_target[rows].astype(np.float64)
        conversions, costs = held.conversions_before[rows, ticks], held.costs_before[rows, ticks]
        ratio = (costs + 2 * target) / ((conversions + 2) * target)
        gains = {}
        for change in ("one tick", "rest of the day"):
            scores = counterfactual_scores(
                tables,
                held.advertisers(rows),
                held.alphas[rows],
                ticks,
                (1.0, *factors),
                persistent=change != "one tick",
            )
            gains[change] = scores[:, 1:] - scores[:, :1]
        for name, judge in critics.items():
            window = windows(held, rows, ticks, judge.config.window_length)
            said = judge.relative_q(window, logged[:, None] * np.asarray(factors), logged)
            for change, gain in gains.items():
                for k, factor in enumerate(factors):
                    part = {"tick": ticks, "cpa_ratio": ratio, "relative_q": said[:, k], "gain": gain[:, k]}
                    frames.append(
                        pd.DataFrame(part).assign(variant=name, period=log.period, factor=factor, change=change)
                    )
    return pd.concat(frames, ignore_index=True)


def steering(tier: Tier, dataset: Dataset, seed: int, critics: Mapping[str, Critic | CriticEnsemble]) -> pd.DataFrame:
    """What happens when each critic alone steers, beside nobody steering ("constant", alpha = C all day).

    Returns
    -------
    Rows of :func:`lbm_core.evaluation.runner.evaluate`
    """
    bidders: dict[str, Callable[[], Bidder]] = {"constant": ConstantAlpha}
    for name, judge in critics.items():
        bidders[name] = partial(CriticBidder, judge)
    rows, draws = spread_rows(tier.evaluation.advertisers), range(tier.data.evaluation_seeds)
    return evaluate(bidders, held_out_periods(tier, dataset, seed), draws, rows=rows, progress=False)

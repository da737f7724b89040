"""What do words do to LBM-Act? Losses with and without them, obedience, guides and sizes (chapter 2)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lbm_core.auction.replay import replay
from lbm_core.data.trajectories import TrajectorySet, sample_ends, windows
from lbm_core.data.windows import Windows
from lbm_core.evaluation.loss_gap import final_losses
from lbm_core.evaluation.runner import spread_rows
from lbm_core.files import artifact_path
from lbm_core.pipeline.contenders import INSTRUCTIONS, bidders, evaluate_methods
from lbm_core.pipeline.models import act, act_config, model_key
from lbm_core.pipeline.stages import TOOK, held_out_periods, replay_period
from lbm_core.seeding import generator
from lbm_core.settings import Dataset
from lbm_core.tiers import Tier

if TYPE_CHECKING:
    from lbm_core.act.dual_embedding import LBMAct

SAMPLES = 256  # moments at which obedience is asked for
# Fields of LBM-Act's configuration that differ from the tier's.
SIZES: dict[str, dict[str, Any]] = {
    "default": {},
    "1 layer": {"layers": 1},
    "2 layers": {"layers": 2},
    "random": {"initialise": "random"},
    "frozen": {"adapt": "frozen"},
    "random, frozen": {"initialise": "random", "adapt": "frozen"},
    "LoRA": {"adapt": "lora"},
}
# What Table 4's methods are called among guides.
AS_GUIDES = {"uncertain": "LBM-Act + none", "increase": "LBM-Act + increase", "decrease": "LBM-Act + decrease"}


def study_tier(tier: Tier) -> Tier:
    """The tier with the training seeds and advertisers of guides, instructions and sizes."""
    few = replace(tier.evaluation, advertisers=min(tier.act.study_advertisers, tier.evaluation.advertisers))
    return replace(tier, act=replace(tier.act, seeds=min(tier.act.study_seeds, tier.act.seeds)), evaluation=few)


def loss_curves(tier: Tier, dataset: Dataset, seed: int) -> pd.DataFrame:
    """Fig. 3: losses of the tier's language inputs and training seeds, all on the same windows.

    Returns
    -------
    method, seed, step (from 1), batch_loss (of the step's own batch), loss (of windows that stay the same): one row
    per step at which the latter was measured
    """
    frames = []
    for train_seed in _train_seeds(tier, seed):
        for guide in tier.act.curves:
            model = act(tier, dataset, seed, guide, train_seed=train_seed)
            columns = {"step": np.arange(1, len(model.history) + 1), **_columns(model)}
            frames.append(pd.DataFrame({"method": model.config.method, "seed": train_seed, **columns}))
    return pd.concat(frames, ignore_index=True).dropna(subset=["loss"])


def later_moments(days: TrajectorySet, seed: int, samples: int = SAMPLES) -> Windows:
    """Moments of logged days at which a direction can be told: any tick with a bid but the first."""
    rows, ticks = sample_ends(days, samples, generator(seed, "evaluation", 2))
    later = ticks > 0
    return windows(days, rows[later], ticks[later])


def obedience(tier: Tier, dataset: Dataset, seed: int, moments: Windows) -> pd.DataFrame:
    """Shares of instructed moves in the direction told, of those told in words and, as a control, by a number.

    Returns
    -------
    Rows of :func:`lbm_core.act.following.following_rate` with the columns method and train_seed
    """
    from lbm_core.act.config import TOLD
    from lbm_core.act.following import following_rate, instructed_moves

    frames = []
    for train_seed in _train_seeds(tier, seed):
        for guide in (name for name in tier.act.curves if name in TOLD):
            model = act(tier, dataset, seed, guide, train_seed=train_seed)
            moved = instructed_moves(model, moments)
            rates = following_rate(moved["log_move"], moved["direction"])
            frames.append(rates.assign(method=model.config.method, train_seed=train_seed))
    return pd.concat(frames, ignore_index=True)


def softer(tier: Tier) -> list[str]:
    """Names of constant instructions that are followed a part of the way, spoken now and then, or up to a level."""
    ways = [f"scale {scale:g}" for scale in tier.act.guide_scales]
    ways += [f"every {k} ticks" for k in tier.act.guide_intervals]
    ways += [f"up to {level:g}" for level in tier.act.guide_levels]
    return [f"LBM-Act + {told}, {way}" for way in ways for told in ("increase", "decrease")]


def forced(tier: Tier, dataset: Dataset, seed: int) -> pd.DataFrame:
    """Table 4: LBM-Act told the same all day, and the softer ways of it.

    Returns
    -------
    Rows of :func:`~lbm_core.pipeline.contenders.evaluate_methods` for :data:`INSTRUCTIONS` and :func:`softer`
    """
    return evaluate_methods(study_tier(tier), dataset, seed, [*INSTRUCTIONS, *softer(tier)])


def by_strength(rows: pd.DataFrame) -> pd.DataFrame:
    """Means of :func:`forced` (or of its periods), one row per instruction and way of giving it.

    Returns
    -------
    instruction ("increase", "decrease", "base"), way ("every tick" or what :func:`softer` adds), and the metrics
    """
    means = rows.groupby("method", sort=False)[
        ["budget_utilization", "expected_cpa_ratio", "conversions", "score"]
    ].mean()
    named = means.index.to_series().str.extract(r"^(?:LBM-Act \+ )?(?P<instruction>[a-z]+)(?:, (?P<way>.+))?$")
    named["instruction"] = named["instruction"].replace({"uncertain": "base"})
    return named.fillna({"way": "every tick"}).join(means).reset_index(drop=True)


def guides_compared(tier: Tier, dataset: Dataset, seed: int) -> pd.DataFrame:
    """LBM-Act under the tier's guides and constant words; with a critic's guide also the critic without LBM-Act.

    Returns
    -------
    Rows of :func:`~lbm_core.pipeline.contenders.evaluate_methods`; "LBM-Act + none" is told "uncertain" all day
    """
    guided = [f"LBM-Act + {name}" for name in tier.act.guides]
    if "critic" in tier.act.guides:
        guided.append("critic alone")
    rows = evaluate_methods(study_tier(tier), dataset, seed, [*INSTRUCTIONS, *guided])
    return rows.assign(method=rows["method"].replace(AS_GUIDES))


def days_under_instruction(tier: Tier, dataset: Dataset, seed: int, methods: Sequence[str]) -> pd.DataFrame:
    """One advertiser's day under each method: how far alpha goes.

    The advertiser is the one who bids longest under all of them, so that no line ends early for want of money.

    Returns
    -------
    method, period, advertiser, tick, alpha_ratio (alpha / C), spent (share of the budget, after the tick); ticks with
    a bid only
    """
    period = replay_period(dataset, held_out_periods(tier, dataset, seed).numbers[-1], seed)
    rows = spread_rows(study_tier(tier).evaluation.advertisers)
    played = {
        name: replay(period, make(), generator(seed, "evaluation", period.period), rows=rows)
        for name, make in bidders(tier, dataset, seed, methods).items()
    }
    who = int(np.argmax(np.min([result.lengths for result in played.values()], axis=0)))
    frames = []
    for name, result in played.items():
        ratio = result.alphas[who] / result.advertisers.cpa_target[who]
        spent = np.cumsum(result.costs[who]) / result.advertisers.budget[who]
        day = pd.DataFrame({"tick": np.arange(len(ratio)), "alpha_ratio": ratio, "spent": spent})
        frames.append(day[day["alpha_ratio"] > 0].assign(method=name))
    frame = pd.concat(frames, ignore_index=True)
    return frame.assign(period=period.period, advertiser=int(result.advertisers.index[who]))


def sizes_compared(tier: Tier, dataset: Dataset, seed: int, moments: Windows) -> pd.DataFrame:
    """LBM-Acts of the tier's sizes: what is trained of the language model, and what it gives.

    Parameters
    ----------
    moments : where obedience is asked for

    Returns
    -------
    One row per size and training seed: size, train_seed, layers, parameters (of layers, embedding and head), trained
    (of those), loss (mean of the last fifth of the probes), followed (share), mean_move (of log alpha, along the
    direction told), seconds (of training)

    Raises
    ------
    ValueError
        No such size.
    """
    from lbm_core.act.following import following_rate, instructed_moves

    unknown = [name for name in tier.act.sizes if name not in SIZES]
    if unknown:
        raise ValueError(f"no size {unknown[0]!r}; one of {', '.join(SIZES)}")
    rows = []
    for train_seed in _train_seeds(study_tier(tier), seed):
        for name in tier.act.sizes:
            model = act(tier, dataset, seed, train_seed=train_seed, **SIZES[name])
            moved = instructed_moves(model, moments)
            rates = following_rate(moved["log_move"], moved["direction"]).set_index("direction").loc["all"]
            words = model.token_embedding.weight.numel()
            counts = {
                "layers": len(model.transformer.layers),
                "parameters": sum(p.numel() for p in model.parameters()) - words,
                "trained": sum(p.numel() for p in model.parameters() if p.requires_grad),
            }
            probes = pd.DataFrame({"method": name, "seed": train_seed, "step": 1 + np.arange(len(model.history))})
            last = final_losses(probes.assign(loss=model.history[:, 1]).dropna())["loss"].iloc[0]
            measured = {"loss": last, "followed": rates["followed"], "mean_move": rates["mean_move"]}
            took = {"seconds": _seconds(tier, dataset, seed, train_seed, SIZES[name])}
            rows.append({"size": name, "train_seed": train_seed} | counts | measured | took)
    return pd.DataFrame(rows)


def _train_seeds(tier: Tier, seed: int) -> range:
    return range(seed, seed + tier.act.seeds)


def _columns(model: LBMAct) -> dict[str, Any]:
    return {"batch_loss": model.history[:, 0], "loss": model.history[:, 1]}


def _seconds(tier: Tier, dataset: Dataset, seed: int, train_seed: int, fields: dict[str, Any]) -> float:
    """What a training took on the machine that did it."""
    config = act_config(tier, dataset, train_seed, **fields)
    path = artifact_path("act", model_key("act", tier, dataset, seed, config))
    return float(json.loads((path / TOOK).read_text())["seconds"])

"""Everything that makes a comparison of baselines fair, and lets a reader see that it is: searches, costs, curves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import pandas as pd

from lbm_core.auction.bidder import Bidder
from lbm_core.evaluation.runner import evaluate, spread_rows
from lbm_core.pipeline.baselines import baseline, train_method
from lbm_core.pipeline.recipes import OFFLINE_BASELINES, TRAINS, recipe, recipe_path, tuned
from lbm_core.pipeline.stages import Call, found_or_made, held_out_periods, side_by_side, trajectories, tuning_tables
from lbm_core.pipeline.tuning import SPACES, Tuned
from lbm_core.tiers import Dataset, Tier

PENALTY_WEIGHTS = (0.0, 0.1, 0.2, 0.5, 1.0)  # w of Table 3


def tuning_log(tier: Tier, dataset: Dataset, seed: int, methods: Iterable[str] = tuple(SPACES)) -> pd.DataFrame:
    """Every trial of every method's search; columns as in :class:`~lbm_core.pipeline.tuning.Tuned`."""
    return pd.concat([tuned(tier, dataset, seed, name).trials for name in methods], ignore_index=True)


def train_all(
    tier: Tier,
    dataset: Dataset,
    seed: int,
    methods: Sequence[str] = ("DT", "critic", *OFFLINE_BASELINES),
    *,
    jobs: int = 1,
) -> None:
    """Tune and train methods with every training seed of the tier, several at once.

    Parameters
    ----------
    methods : as in :func:`~lbm_core.pipeline.train_method`
    jobs : processes, one thread each; a method that builds on others starts after them
    """
    trajectories(tier, dataset, seed)
    tuning_tables(tier, dataset, seed)
    seeds = range(seed, seed + tier.act.seeds)
    later = [name for name in methods if name.startswith("DT-Q")]  # start from DT and judge by the critic
    first = [name for name in methods if name not in later]
    if later:
        first = list(dict.fromkeys(["DT", "critic", *first]))
    for wave in (first, later):
        searches: list[Call] = [(tuned, (tier, dataset, seed, name), {}) for name in wave if name in SPACES]
        side_by_side(searches, jobs)
        trainings: list[Call] = [
            (train_method, (tier, dataset, seed, name), {"train_seed": each}) for each in seeds for name in wave
        ]
        side_by_side(trainings, jobs)


def training_report(
    tier: Tier, dataset: Dataset, seed: int, methods: Iterable[str] = ("DT", "critic", *OFFLINE_BASELINES)
) -> pd.DataFrame:
    """What the training of every method took: one row per method and training seed.

    Returns
    -------
    method, train_seed, parameters (count), mib (of the weights), steps, seconds, peak_mib (of the process)
    """
    rows = []
    for train_seed in range(seed, seed + tier.act.seeds):
        for name in methods:
            if name not in TRAINS:
                continue
            found = train_method(tier, dataset, seed, name, train_seed=train_seed)
            took = (found.parameters, found.mib, found.steps, found.seconds, found.peak_mib)
            rows.append((name, train_seed, *took))
    columns = ["method", "train_seed", "parameters", "mib", "steps", "seconds", "peak_mib"]
    return pd.DataFrame(rows, columns=columns)


def learning_curves(
    tier: Tier, dataset: Dataset, seed: int, methods: Iterable[str] = ("DT", "critic", *OFFLINE_BASELINES)
) -> pd.DataFrame:
    """Losses of every training (of USCB, the return of its days): method, train_seed, step, name, value."""
    frames = []
    for train_seed in range(seed, seed + tier.act.seeds):
        for name in methods:
            if name not in TRAINS:
                continue
            model = baseline(tier, dataset, seed, name, train_seed=train_seed, tune=True)
            tall = _curve(model).melt("step", var_name="name", value_name="value")
            frames.append(tall.assign(method=name, train_seed=train_seed))
    return pd.concat(frames, ignore_index=True)[["method", "train_seed", "step", "name", "value"]]


def _curve(model: Any, rows: int = 100) -> pd.DataFrame:
    """A model's losses, thinned: column ``step`` and one per loss."""
    from lbm_core.critic.network import HISTORY

    if hasattr(model, "history"):  # the critic: one row per step
        curve = pd.DataFrame(model.history, columns=list(HISTORY)).rename_axis("step").reset_index()
    elif hasattr(model, "returns"):  # USCB plays: its days' results instead of a loss
        curve = pd.DataFrame(model.returns, columns=["step", "return"])
    else:
        names = {2: ["loss"], 3: ["states", "actions"]}[model.losses.shape[1]]
        curve = pd.DataFrame(model.losses, columns=["step", *names])
    blocks = curve.index * rows // len(curve) if len(curve) > rows else curve.index
    return curve.groupby(blocks).mean()


def penalty_sweep(tier: Tier, dataset: Dataset, seed: int, weights: Sequence[float] = PENALTY_WEIGHTS) -> pd.DataFrame:
    """Table 3: DT-score trained with several weights of the penalty, with DT-score's chosen settings otherwise.

    Returns
    -------
    Rows of :func:`lbm_core.evaluation.runner.evaluate` with the columns ``penalty_weight`` and ``train_seed``
    """
    chosen = tuned(tier, dataset, seed, "DT-score")
    periods, rows = held_out_periods(tier, dataset, seed), spread_rows(tier.evaluation.advertisers)
    draws, bidders = range(tier.data.evaluation_seeds), {}
    for train_seed in range(seed, seed + tier.act.seeds):
        for weight in weights:
            bidders[weight, train_seed] = partial(_penalised, tier, dataset, seed, train_seed, weight, chosen)
    frames = []
    for period in periods:  # each is built once for all
        for (weight, train_seed), make in bidders.items():
            found = evaluate({"DT-score": make}, [period], draws, rows=rows, progress=False)
            frames.append(found.assign(penalty_weight=weight, train_seed=train_seed))
    return pd.concat(frames, ignore_index=True)


def _penalised(tier: Tier, dataset: Dataset, seed: int, train_seed: int, weight: float, chosen: Tuned) -> Bidder:
    made = recipe(tier, dataset, seed, "DT-score", train_seed, chosen.training | {"penalty_weight": weight})
    what = f"DT-score with w = {weight:g} ({dataset}, training seed {train_seed})"
    model = found_or_made(what, recipe_path(made, tier, dataset, seed), made.make, made.load)
    return made.bidder(model, chosen.in_use)

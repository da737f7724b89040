"""Everything that makes a comparison of baselines fair, and lets a reader see that it is: searches, costs, curves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import pandas as pd

from lbm_core.auction.bidder import Bidder
from lbm_core.evaluation.runner import evaluate, spread_rows
from lbm_core.pipeline.baselines import baseline, baseline_bidder, table_means, train_method
from lbm_core.pipeline.recipes import OFFLINE_BASELINES, TRAINS, recipe, recipe_path, tuned
from lbm_core.pipeline.stages import Call, found_or_made, held_out_periods, side_by_side, trajectories, tuning_tables
from lbm_core.pipeline.tuning import SPACES, Tuned
from lbm_core.settings import Dataset
from lbm_core.tiers import Tier

PENALTY_WEIGHTS = (0.0, 0.1, 0.2, 0.5, 1.0)  # w of Table 3
# One decision at a time put back to how the method is usually run: what is changed, method, fields of its config.
PUT_BACK: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("constant learning rate", "BC", {"decay": False}),
    ("constant learning rate", "DT", {"decay": False}),
    ("constant learning rate", "IQL", {"decay": False}),
    ("constant learning rate", "DiffBid", {"decay": False}),
    ("the 16 features alone", "BC", {"state_kind": "paper"}),
    ("the 16 features alone", "DT", {"state_kind": "paper"}),
    ("conversions as drawn", "IQL", {"counted": "sampled"}),
    ("conversions as the reward", "IQL", {"reward": "conversions"}),
    ("rewards ten times as large", "IQL", {"reward_multiplier": 100.0}),
)


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


def put_back(
    tier: Tier,
    dataset: Dataset,
    seed: int,
    changes: Sequence[tuple[str, str, dict[str, Any]]] = PUT_BACK,
    *,
    jobs: int = 1,
) -> pd.DataFrame:
    """What single decisions are worth: methods as tuned, and with one decision put back, on the tuning periods.

    Everything else, the settings in use among it, stays as the method's search chose it; one training seed.

    Parameters
    ----------
    changes : (what is changed, method, fields of the method's config) each
    jobs : processes that train side by side

    Returns
    -------
    One row per method, change ("as tuned" first) and period: ``method``, ``change``, ``period`` and means over
    advertisers of expected ``score``, ``conversions`` and ``budget_utilization``
    """
    methods = dict.fromkeys(name for _, name, _ in changes)
    rows: list[tuple[str, str, dict[str, Any]]] = [*(("as tuned", name, {}) for name in methods), *changes]
    trajectories(tier, dataset, seed)
    trainings: list[Call] = [
        (baseline, (tier, dataset, seed, name), {"tune": True} | fields) for _, name, fields in rows
    ]
    side_by_side(trainings, jobs)
    tables, who = tuning_tables(tier, dataset, seed), spread_rows(tier.evaluation.advertisers)
    found = []
    for change, name, fields in rows:
        bidder = baseline_bidder(tier, dataset, seed, name, **fields)
        for table in tables:
            means = table_means(table, bidder, who)
            found.append({"method": name, "change": change, "period": table.period} | means)
    return pd.DataFrame(found)


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

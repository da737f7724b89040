"""The baselines of §4.1 that are no language models: found or trained, as bidders, compared and accounted for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from lbm_core.auction.bidder import Bidder
from lbm_core.auction.response_tables import ResponseTables, table_replay
from lbm_core.pipeline.models import critic
from lbm_core.pipeline.recipes import (
    DIFFUSION,
    Recipe,
    control_bidder,
    critic_bidder,
    recipe,
    recipe_path,
    tuned,
)
from lbm_core.pipeline.stages import TOOK, found_or_made, past_tables, trajectories, tuning_tables
from lbm_core.pipeline.tuning import SPACES
from lbm_core.settings import Dataset
from lbm_core.tiers import Tier

RETURN_CONDITIONED = ("DT", "DT-score", "DT-Q (search)", "DT-Q (fine-tuned)", *DIFFUSION)
RETURN_TARGETS = (0.6, 0.8, 1.1, 1.5, 2.0, 1 / 0.3)  # in units of B / C; the last is the release's


def baseline(
    tier: Tier,
    dataset: Dataset,
    seed: int,
    name: str,
    *,
    train_seed: int | None = None,
    tune: bool = False,
    **overrides: Any,
) -> Any:
    """Trained model of a baseline, out of the cache or trained.

    Parameters
    ----------
    seed : of the data
    name : one of :data:`TRAINABLE`
    train_seed : of initialisation and batches; default ``seed``
    tune : train with the settings that :func:`tuned` chose instead of the tier's
    overrides : fields of the method's config

    Raises
    ------
    ValueError
        An unknown method.
    """
    made = _settled(tier, dataset, seed, name, train_seed, tune, overrides)
    return _model(made, tier, dataset, seed, name, train_seed)


def baseline_bidder(
    tier: Tier,
    dataset: Dataset,
    seed: int,
    name: str,
    *,
    train_seed: int | None = None,
    tune: bool = True,
    target_return: float | None = None,
    **overrides: Any,
) -> Bidder:
    """Bidder of a baseline, a control or the critic alone, with the settings that a small search chose.

    Parameters
    ----------
    name : one of :data:`TRAINABLE`, "pacing", "PID" or "critic alone"
    seed, train_seed, tune : as in :func:`baseline`
    target_return : first return-to-go in units of B / C; default the chosen one. Methods outside
        :data:`RETURN_CONDITIONED` do not read it.
    overrides : fields of the config of one of :data:`TRAINABLE`, over what the search chose
    """
    in_use = tuned(tier, dataset, seed, name).in_use if tune and name in SPACES else {}
    if name in ("pacing", "PID"):
        return control_bidder(name, in_use)
    if name == "critic alone":
        return critic_bidder(critic(tier, dataset, seed, train_seed=train_seed), in_use)
    if target_return is not None:
        in_use = in_use | {"target_return": target_return}
    made = _settled(tier, dataset, seed, name, train_seed, tune, overrides)
    return made.bidder(_model(made, tier, dataset, seed, name, train_seed), in_use)


def table_means(tables: ResponseTables, bidder: Bidder, rows: ArrayLike | None = None) -> dict[str, float]:
    """Means over advertisers of expected ``score``, ``conversions`` and ``budget_utilization`` of a replayed period.

    Parameters
    ----------
    rows : numbers of the advertisers, default all 48
    """
    found = table_replay(tables, bidder, rows=rows).summary()
    return {name: float(np.mean(found[name])) for name in ("score", "conversions", "budget_utilization")}


def target_sweep(
    tier: Tier,
    dataset: Dataset,
    seed: int,
    name: str,
    targets: Sequence[float] = RETURN_TARGETS,
    *,
    train_seed: int | None = None,
    advertisers: Sequence[int] | None = None,
) -> pd.DataFrame:
    """What a return-conditioned method reaches with several first return-to-gos, on the tuning periods.

    The held-out periods stay unseen, so that a target may be chosen here.

    Parameters
    ----------
    name : one of :data:`RETURN_CONDITIONED`, with its tuned settings
    targets : in units of B / C
    advertisers : numbers, default all 48

    Returns
    -------
    One row per target and period: ``target_return``, ``period`` and means over advertisers of expected ``score``,
    ``conversions`` and ``budget_utilization``
    """
    if name not in RETURN_CONDITIONED:
        raise ValueError(f"{name!r} is not conditioned on a return; {', '.join(RETURN_CONDITIONED)} are")
    made = _settled(tier, dataset, seed, name, train_seed, True, {})
    model = _model(made, tier, dataset, seed, name, train_seed)
    in_use = tuned(tier, dataset, seed, name).in_use
    rows = []
    for tables in tuning_tables(tier, dataset, seed):
        for target in targets:
            bidder = made.bidder(model, in_use | {"target_return": target})
            rows.append({"target_return": target, "period": tables.period} | table_means(tables, bidder, advertisers))
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class Trained:
    """What a training took.

    Attributes
    ----------
    method, folder : what was trained, where it is kept
    parameters : count of the weights kept
    mib : their size
    steps : gradient steps (decisions for USCB)
    seconds : of the training alone, data and models it builds on aside
    peak_mib : largest memory of the process by its end
    computed : False if it was found in the cache
    """

    method: str
    folder: Path
    parameters: int
    mib: float
    steps: int
    seconds: float
    peak_mib: float
    computed: bool


def train_method(
    tier: Tier, dataset: Dataset, seed: int, name: str, *, train_seed: int | None = None, tune: bool = True
) -> Trained:
    """Train a method unless it is in the cache, and measure; what a training took is kept beside its model.

    Raises
    ------
    ValueError
        An unknown method.
    """
    made = _settled(tier, dataset, seed, name, train_seed, tune, {})
    folder = recipe_path(made, tier, dataset, seed)
    there = folder.exists()
    _model(made, tier, dataset, seed, name, train_seed)
    try:
        took = json.loads((folder / TOOK).read_text())
    except FileNotFoundError:  # killed between the model and this note, or made by an earlier version
        took = {"seconds": float("nan"), "peak_mib": float("nan")}
    parameters, size = _weights(folder)
    return Trained(
        name, folder, parameters, size / 2**20, made.steps, took["seconds"], took["peak_mib"], computed=not there
    )


def _settled(
    tier: Tier,
    dataset: Dataset,
    seed: int,
    name: str,
    train_seed: int | None,
    tune: bool,
    overrides: dict[str, Any],
) -> Recipe:
    """The recipe with the chosen settings below the overrides."""
    chosen = tuned(tier, dataset, seed, name).training if tune and name in SPACES else {}
    return recipe(tier, dataset, seed, name, train_seed, chosen | overrides)


def _model(made: Recipe, tier: Tier, dataset: Dataset, seed: int, name: str, train_seed: int | None) -> Any:
    what = f"{name} ({dataset}, training seed {seed if train_seed is None else train_seed})"
    folder = recipe_path(made, tier, dataset, seed)
    if not folder.exists():
        _prepare(tier, dataset, seed, name, train_seed)
    return found_or_made(what, folder, made.make, made.load)


def _prepare(tier: Tier, dataset: Dataset, seed: int, name: str, train_seed: int | None) -> None:
    """What a training starts from, so that it is not counted as training."""
    trajectories(tier, dataset, seed)
    if name == "USCB":
        past_tables(tier, dataset, seed, tier.baseline.uscb_periods)
    if name == "DT-Q (fine-tuned)":
        baseline(tier, dataset, seed, "DT", train_seed=train_seed, tune=True)
    if name.startswith("DT-Q"):
        critic(tier, dataset, seed, train_seed=train_seed)


def _weights(folder: Path) -> tuple[int, int]:
    """Count and bytes of the weights kept in a folder."""
    from safetensors import safe_open

    count = size = 0
    for file in sorted(folder.glob("*.safetensors")):
        size += file.stat().st_size
        with safe_open(file, "numpy") as stored:
            count += sum(int(np.prod(stored.get_slice(name).get_shape())) for name in stored.keys())  # noqa: SIM118
    return count, size

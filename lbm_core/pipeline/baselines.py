"""The baselines of §4.1 that are no language models, as artifacts and as bidders; and one command's training."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lbm_core.artifacts import artifact_path
from lbm_core.auction.bidder import Bidder
from lbm_core.auction.response_tables import table_replay
from lbm_core.pipeline.models import critic, critic_config, dt
from lbm_core.pipeline.stages import RECIPES, bars, data_config, found_or_made, past_tables, trajectories
from lbm_core.tiers import Dataset, Tier

_OFFLINE_RL = ("BC", "BCQ", "CQL", "IQL")
_DIFFUSION = ("DiffBid", "DiffBid-Q")
OFFLINE_BASELINES = (*_OFFLINE_RL, "USCB", "DT-score", "DT-Q (search)", "DT-Q (fine-tuned)", *_DIFFUSION)
TRAINABLE = ("DT", "critic", *OFFLINE_BASELINES)  # what `lbm train` knows
RETURN_CONDITIONED = ("DT", "DT-score", "DT-Q (search)", "DT-Q (fine-tuned)", *_DIFFUSION)
DT_SCORE_WEIGHT = 0.5  # w of Table 3 for "DT-score"; the paper tries 0.1, 0.2, 0.5 and 1
RETURN_TARGETS = (0.6, 0.8, 1.0, 1.1, 1.2, 1.5, 2.0, 1 / 0.3)  # in units of B / C; the last is the release's


@dataclass(frozen=True)
class _Recipe:
    """How a method is trained, found again and bid with."""

    stage: str  # key of RECIPES and folder in the cache
    key: dict[str, Any]  # configuration of the model and of the models it is made from, json-plain
    steps: int
    make: Callable[[Path], None]
    load: Callable[[Path], Any]
    bidder: Callable[[Any, float | None], Bidder]  # of a model and a first return-to-go


def baseline(
    tier: Tier, dataset: Dataset, seed: int, name: str, *, train_seed: int | None = None, **overrides: Any
) -> Any:
    """Trained model of a baseline, out of the cache or trained.

    Parameters
    ----------
    seed : of the data
    name : one of :data:`TRAINABLE`
    train_seed : of initialisation and batches; default ``seed``
    overrides : fields of the method's config

    Raises
    ------
    ValueError
        An unknown method.
    """
    recipe = _recipe(tier, dataset, seed, name, train_seed, overrides)
    what = f"{name} ({dataset}, training seed {seed if train_seed is None else train_seed})"
    return found_or_made(what, _path(recipe, tier, dataset, seed), recipe.make, recipe.load)


def baseline_bidder(
    tier: Tier,
    dataset: Dataset,
    seed: int,
    name: str,
    *,
    train_seed: int | None = None,
    target_return: float | None = None,
) -> Bidder:
    """Bidder of a baseline.

    Parameters
    ----------
    name, seed, train_seed : as in :func:`baseline`
    target_return : first return-to-go in units of B / C; default the config's. Methods outside
        :data:`RETURN_CONDITIONED` do not read it.
    """
    recipe = _recipe(tier, dataset, seed, name, train_seed, {})
    return recipe.bidder(baseline(tier, dataset, seed, name, train_seed=train_seed), target_return)


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
    """What a return-conditioned method reaches with several first return-to-gos, in periods of the *training* data.

    The held-out periods stay unseen, so that a target may be chosen here.

    Parameters
    ----------
    name : one of :data:`RETURN_CONDITIONED`
    targets : in units of B / C
    advertisers : numbers, default all 48

    Returns
    -------
    One row per target and period: ``target_return``, ``period`` and means over advertisers of expected ``score``,
    ``conversions`` and ``budget_utilization``
    """
    if name not in RETURN_CONDITIONED:
        raise ValueError(f"{name!r} is not conditioned on a return; {', '.join(RETURN_CONDITIONED)} are")
    recipe = _recipe(tier, dataset, seed, name, train_seed, {})
    model = baseline(tier, dataset, seed, name, train_seed=train_seed)
    rows = []
    for tables in past_tables(tier, dataset, seed):
        for target in targets:
            found = table_replay(tables, recipe.bidder(model, target), rows=advertisers).summary()
            means = {k: float(np.mean(found[k])) for k in ("score", "conversions", "budget_utilization")}
            rows.append({"target_return": target, "period": tables.period} | means)
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
    peak_mib : largest memory of the process so far
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


def train_method(tier: Tier, dataset: Dataset, seed: int, name: str, *, train_seed: int | None = None) -> Trained:
    """Train a method unless it is in the cache, and measure.

    Raises
    ------
    ValueError
        An unknown method.
    """
    recipe = _recipe(tier, dataset, seed, name, train_seed, {})
    folder = _path(recipe, tier, dataset, seed)
    there = folder.exists()
    if not there:
        _prepare(tier, dataset, seed, name, train_seed)
    start = time.monotonic()
    if not there:
        recipe.make(folder)
    seconds = time.monotonic() - start
    parameters, size = _weights(folder)
    return Trained(name, folder, parameters, size / 2**20, recipe.steps, seconds, _peak_mib(), not there)


def _recipe(
    tier: Tier, dataset: Dataset, seed: int, name: str, train_seed: int | None, overrides: dict[str, Any]
) -> _Recipe:
    of_training = seed if train_seed is None else train_seed

    def data() -> Any:
        return trajectories(tier, dataset, seed)

    if name in _OFFLINE_RL:
        from lbm_core.baselines import offline_rl

        rl = offline_rl.OfflineRLConfig.from_tier(tier, dataset, of_training, name, **overrides)  # type: ignore[arg-type]
        return _Recipe(
            "offline_rl",
            asdict(rl),
            rl.steps,
            lambda path: offline_rl.train_offline_rl(rl, data(), progress=bars()).save(path),
            lambda path: offline_rl.OfflinePolicy.load(path, rl),
            lambda model, _: offline_rl.OfflineRLBidder(model),
        )
    if name == "USCB":
        from lbm_core.baselines import uscb

        turning = uscb.UscbConfig.from_tier(tier, dataset, of_training, **overrides)
        periods = tier.baseline.uscb_periods

        def play(path: Path) -> None:
            from lbm_core.baselines.uscb_train import table_days, train_uscb

            days = table_days(past_tables(tier, dataset, seed, periods))
            train_uscb(turning, data(), days, progress=bars()).save(path)

        return _Recipe(
            "uscb",
            asdict(turning) | {"periods": periods},
            turning.steps,
            play,
            lambda path: uscb.UscbPolicy.load(path, turning),
            lambda model, _: uscb.UscbBidder(model),
        )
    if name in ("DT", "DT-score", "DT-Q (search)"):
        return _transformer(tier, dataset, seed, name, train_seed, overrides)
    if name == "DT-Q (fine-tuned)":
        return _finetuned(tier, dataset, seed, train_seed, overrides)
    if name in _DIFFUSION:
        from lbm_core.baselines import diffbid

        diffusing = diffbid.DiffBidConfig.from_tier(tier, dataset, of_training, name, **overrides)  # type: ignore[arg-type]
        return _Recipe(
            "diffbid",
            asdict(diffusing),
            diffusing.steps,
            lambda path: diffbid.train_diffbid(diffusing, data(), progress=bars()).save(path),
            lambda path: diffbid.DiffBid.load(path, diffusing),
            lambda model, target: diffbid.DiffBidBidder(model, target),
        )
    if name == "critic":
        from lbm_core.baselines.critic_search import CriticBidder
        from lbm_core.critic import iql

        judging = critic_config(tier, dataset, of_training, **overrides)

        def judge(path: Path) -> None:
            iql.train_critic(judging, data(), folder=path, progress=bars())

        return _Recipe(
            "critic",
            asdict(judging),
            judging.steps,
            judge,
            lambda path: iql.Critic.load(path, judging),
            lambda model, _: CriticBidder(model),
        )
    raise ValueError(f"unknown method {name!r}; choose one of {', '.join(TRAINABLE)}")


def _transformer(
    tier: Tier, dataset: Dataset, seed: int, name: str, train_seed: int | None, overrides: dict[str, Any]
) -> _Recipe:
    """DT, DT-score, and DT-Q as search, whose model is the plain DT."""
    from lbm_core.baselines.decision_transformer import DecisionTransformer, DTBidder, DTConfig, train_dt
    from lbm_core.baselines.dt_q import DTQSearchBidder

    if name == "DT-score":
        overrides = {"penalty_weight": DT_SCORE_WEIGHT} | overrides
    config = DTConfig.from_tier(tier, dataset, seed if train_seed is None else train_seed, **overrides)

    def bidder(model: Any, target: float | None) -> Bidder:
        if name == "DT-Q (search)":
            return DTQSearchBidder(model, critic(tier, dataset, seed, train_seed=train_seed), target_return=target)
        return DTBidder(model, target)

    def make(path: Path) -> None:
        train_dt(config, trajectories(tier, dataset, seed), progress=bars()).save(path)

    return _Recipe(
        "dt", asdict(config), config.steps, make, lambda path: DecisionTransformer.load(path, config), bidder
    )


def _finetuned(tier: Tier, dataset: Dataset, seed: int, train_seed: int | None, overrides: dict[str, Any]) -> _Recipe:
    from lbm_core.baselines.decision_transformer import DecisionTransformer, DTBidder, DTConfig
    from lbm_core.baselines.dt_q import DTQConfig, finetune_dt

    of_training = seed if train_seed is None else train_seed
    config = DTQConfig.from_tier(tier, of_training, **overrides)
    start = DTConfig.from_tier(tier, dataset, of_training)
    judge = critic_config(tier, dataset, of_training)

    def make(path: Path) -> None:
        transformer = dt(tier, dataset, seed, train_seed=train_seed)
        values = critic(tier, dataset, seed, train_seed=train_seed)
        finetune_dt(config, transformer, values, trajectories(tier, dataset, seed), progress=bars()).save(path)

    return _Recipe(
        "dt_q",
        {"dt_q": asdict(config), "dt": asdict(start), "critic": asdict(judge)},
        config.steps,
        make,
        lambda path: DecisionTransformer.load(path, start),
        lambda model, target: DTBidder(model, target),
    )


def _path(recipe: _Recipe, tier: Tier, dataset: Dataset, seed: int) -> Path:
    key = {"recipe": RECIPES[recipe.stage], "data": data_config(tier, dataset, seed), "config": recipe.key}
    return artifact_path(recipe.stage, key)


def _prepare(tier: Tier, dataset: Dataset, seed: int, name: str, train_seed: int | None) -> None:
    """What a training starts from, so that it is not counted as training."""
    trajectories(tier, dataset, seed)
    if name == "USCB":
        past_tables(tier, dataset, seed, tier.baseline.uscb_periods)
    if name == "DT-Q (fine-tuned)":
        dt(tier, dataset, seed, train_seed=train_seed)
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


def _peak_mib() -> float:
    """Largest resident memory of this process so far."""
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10

"""Trained models as artifacts: DT, LBM-Act and its unguided relatives, the critic."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lbm_core.files import artifact_path
from lbm_core.pipeline.stages import RECIPES, bars, data_config, found_or_made, trajectories
from lbm_core.settings import Dataset
from lbm_core.tiers import Tier

if TYPE_CHECKING:
    from lbm_core.act.dual_embedding import LBMAct
    from lbm_core.baselines.decision_transformer import DecisionTransformer
    from lbm_core.critic.network import Critic


def dt(
    tier: Tier, dataset: Dataset, seed: int, *, train_seed: int | None = None, **overrides: Any
) -> DecisionTransformer:
    """Decision transformer (§4.1).

    Parameters
    ----------
    seed : of the data
    train_seed : of initialisation and batches; default ``seed``
    overrides : fields of :class:`~lbm_core.baselines.decision_transformer.DTConfig`
    """
    from lbm_core.baselines.decision_transformer import DecisionTransformer, DTConfig, train_dt

    config = DTConfig.from_tier(tier, dataset, seed if train_seed is None else train_seed, **overrides)

    def make(path: Path) -> None:
        train_dt(config, trajectories(tier, dataset, seed), progress=bars()).save(path)

    return found_or_made(
        f"DT ({dataset}, training seed {config.seed})",
        artifact_path("dt", model_key("dt", tier, dataset, seed, config)),
        make,
        lambda path: DecisionTransformer.load(path, config),
    )


def act(
    tier: Tier,
    dataset: Dataset,
    seed: int,
    guide: str = "sentence",
    *,
    train_seed: int | None = None,
    log_folder: Path | None = None,
    checkpoint_every: int = 500,
    **overrides: Any,
) -> LBMAct:
    """LBM-Act (§3.2), or LLM-DT or Prompt-LLM-DT (A.3).

    Parameters
    ----------
    seed, train_seed : as in :func:`dt`
    guide : "sentence" is LBM-Act, "none" LLM-DT, "task" Prompt-LLM-DT, "number" Fig. 3's control
    log_folder, checkpoint_every : as in :func:`lbm_core.act.train.train_act`
    overrides : fields of :class:`~lbm_core.act.config.ActConfig`
    """
    from lbm_core.act.train import load, train_act

    config = act_config(tier, dataset, seed if train_seed is None else train_seed, guide, **overrides)

    def make(path: Path) -> None:
        found = trajectories(tier, dataset, seed)
        train_act(config, found, folder=path, checkpoint_every=checkpoint_every, log_folder=log_folder, progress=bars())

    return found_or_made(
        f"{config.method} ({dataset}, training seed {config.seed})",
        artifact_path("act", model_key("act", tier, dataset, seed, config)),
        make,
        lambda path: load(path, config),
    )


def critic(tier: Tier, dataset: Dataset, seed: int, *, train_seed: int | None = None, **overrides: Any) -> Critic:
    """Twin Q and V (§3.3, Table 9).

    Parameters
    ----------
    seed, train_seed : as in :func:`dt`
    overrides : fields of :class:`~lbm_core.critic.config.CriticConfig`, e.g. ``reward="conversions"``
    """
    from lbm_core.critic.iql import train_critic
    from lbm_core.critic.network import Critic

    config = critic_config(tier, dataset, seed if train_seed is None else train_seed, **overrides)

    def make(path: Path) -> None:
        train_critic(config, trajectories(tier, dataset, seed), folder=path, progress=bars())

    return found_or_made(
        f"critic ({dataset}, {config.reward}, training seed {config.seed})",
        artifact_path("critic", model_key("critic", tier, dataset, seed, config)),
        make,
        lambda path: Critic.load(path, config),
    )


def act_config(tier: Tier, dataset: Dataset, train_seed: int, guide: str = "sentence", **overrides: Any) -> Any:
    """The ActConfig behind :func:`act`."""
    from lbm_core.act.config import ActConfig

    return ActConfig.from_tier(tier, dataset, train_seed, guide=guide, **overrides)


def critic_config(tier: Tier, dataset: Dataset, train_seed: int, **overrides: Any) -> Any:
    """The CriticConfig behind :func:`critic`."""
    from lbm_core.critic.config import CriticConfig

    return CriticConfig.from_tier(tier, dataset, train_seed, **overrides)


def model_key(stage: str, tier: Tier, dataset: Dataset, seed: int, config: Any) -> dict[str, Any]:
    """What names a model's artifact: its stage, its data and its own config."""
    return {"recipe": RECIPES[stage], "data": data_config(tier, dataset, seed), "config": asdict(config)}

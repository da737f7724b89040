"""Trained models of the paper as artifacts: LBM-Act and its unguided relatives (§3.2), the critic (§3.3)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lbm_core.lab.artifacts import Artifact
from lbm_core.lab.days import trajectories
from lbm_core.lab.setup import Setup, bars

if TYPE_CHECKING:
    from lbm_core.act.dual_embedding import LBMAct
    from lbm_core.critic.network import Critic


def act(
    setup: Setup, *, log_folder: Path | None = None, checkpoint_every: int = 500, **changes: Any
) -> Artifact[LBMAct]:
    """LBM-Act, or LLM-DT or Prompt-LLM-DT (A.3).

    Parameters
    ----------
    log_folder, checkpoint_every : as in :func:`lbm_core.act.train.train_act`
    changes : fields of :class:`~lbm_core.act.config.ActConfig`; ``guide="none"`` is LLM-DT, "task" Prompt-LLM-DT,
        "number" Fig. 3's control
    """
    config, data = setup.bound(setup.tier.act, **changes), trajectories(setup)

    def make(folder: Path) -> None:
        from lbm_core.act.train import train_act

        model = train_act(
            config,
            data.get(),
            checkpoints=artifact.checkpoints,
            checkpoint_every=checkpoint_every,
            log_folder=log_folder,
            progress=bars(),
        )
        model.save(folder)

    def load(folder: Path) -> LBMAct:
        from lbm_core.act.dual_embedding import LBMAct

        return LBMAct.load(folder, config)

    artifact = Artifact("act", config, make, load, f"{config.method} ({setup.label})", (data,))
    return artifact


def critic(setup: Setup, **changes: Any) -> Artifact[Critic]:
    """Twin Q and V (Table 9); ``changes`` are fields of :class:`~lbm_core.critic.config.CriticConfig`."""
    config, data = setup.bound(setup.tier.critic, **changes), trajectories(setup)

    def make(folder: Path) -> None:
        from lbm_core.critic.iql import train_critic

        train_critic(config, data.get(), checkpoints=artifact.checkpoints, progress=bars()).save(folder)

    def load(folder: Path) -> Critic:
        from lbm_core.critic.network import Critic

        return Critic.load(folder, config)

    artifact = Artifact("critic", config, make, load, f"critic ({config.reward}; {setup.label})", (data,))
    return artifact

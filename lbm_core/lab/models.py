"""Trained models as artifacts: LBM-Act and its relatives (§3.2), the critic (§3.3), the numeric baselines (§4.1)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lbm_core.lab.artifacts import Artifact
from lbm_core.lab.days import past_periods, tables, trajectories
from lbm_core.lab.setup import Setup, bars

if TYPE_CHECKING:
    from lbm_core.act.dual_embedding import LBMAct
    from lbm_core.critic.network import Critic


def _trained(
    stage: str,
    config: Any,
    train: Callable[..., Any],
    load: Callable[[Path, Any], Any],
    what: str,
    inputs: tuple[Artifact[Any], ...],
    past: tuple[Artifact[Any], ...] = (),
    resumable: bool = False,
    **options: Any,
) -> Artifact[Any]:
    """What ``train(config, *inputs, ...)`` gives and ``load(folder, config)`` reads again.

    The tables of ``past`` periods are another argument of ``train``; a ``resumable`` one is told where to keep itself.
    """

    def make(folder: Path) -> None:
        given = [one.get() for one in inputs] + ([tables(past)] if past else [])
        kept = {"checkpoints": artifact.checkpoints} if resumable else {}
        train(config, *given, progress=bars(), **kept, **options).save(folder)

    artifact = Artifact(stage, config, make, lambda folder: load(folder, config), what, (*inputs, *past))
    return artifact


def act(
    setup: Setup, *, log_folder: Path | None = None, checkpoint_every: int = 500, **changes: Any
) -> Artifact[LBMAct]:
    """LBM-Act; ``guide="none"`` is LLM-DT, "task" Prompt-LLM-DT (A.3), "number" Fig. 3's control.

    ``changes`` are fields of :class:`~lbm_core.act.config.ActConfig`, the others arguments of
    :func:`lbm_core.act.train.train_act`.
    """
    from lbm_core.act.dual_embedding import LBMAct
    from lbm_core.act.train import train_act

    options: dict[str, Any] = {"log_folder": log_folder, "checkpoint_every": checkpoint_every}
    config = setup.bound(setup.tier.act, **changes)
    what, inputs = f"{config.method} ({setup.label})", (trajectories(setup),)
    return _trained("act", config, train_act, LBMAct.load, what, inputs, resumable=True, **options)


def critic(setup: Setup, **changes: Any) -> Artifact[Critic]:
    """Twin Q and V (Table 9); ``changes`` are fields of :class:`~lbm_core.critic.config.CriticConfig`."""
    from lbm_core.critic.iql import train_critic
    from lbm_core.critic.network import Critic

    own = dict(setup.tier.critic_on.get(setup.dataset, {}))
    config = setup.bound(setup.tier.critic, **(own | changes))
    what, inputs = f"critic ({config.reward}; {setup.label})", (trajectories(setup),)
    return _trained("critic", config, train_critic, Critic.load, what, inputs, resumable=True)


def dt(setup: Setup, **changes: Any) -> Artifact[Any]:
    """Decision transformer; with a ``penalty_weight`` DT-score (Table 3)."""
    from lbm_core.baselines.decision_transformer import DecisionTransformer, train_dt

    config = setup.bound(setup.tier.dt, **changes)
    name = f"DT-score, w = {config.penalty_weight:g}" if config.penalty_weight else "DT"
    return _trained("dt", config, train_dt, DecisionTransformer.load, f"{name} ({setup.label})", (trajectories(setup),))


def dt_q(setup: Setup, base: Artifact[Any], **changes: Any) -> Artifact[Any]:
    """DT-Q as fine-tuning: a trained DT, trained on with the critic's values."""
    from lbm_core.baselines.decision_transformer import DecisionTransformer
    from lbm_core.baselines.dt_q import finetune_dt

    config, inputs = setup.bound(setup.tier.dt_q, **changes), (base, critic(setup), trajectories(setup))
    what, load = f"DT-Q (fine-tuned; {setup.label})", lambda path, _: DecisionTransformer.load(path, base.config)
    return _trained("dt_q", config, finetune_dt, load, what, inputs)


def offline_rl(setup: Setup, algorithm: Literal["BC", "BCQ", "CQL", "IQL"], **changes: Any) -> Artifact[Any]:
    """BC, BCQ, CQL or IQL, by d3rlpy."""
    from lbm_core.baselines.offline_rl import OfflinePolicy, train_offline_rl

    config = setup.bound(setup.tier.rl, algorithm=algorithm, **changes)
    what, inputs = f"{algorithm} ({setup.label})", (trajectories(setup),)
    return _trained("offline_rl", config, train_offline_rl, OfflinePolicy.load, what, inputs)


def uscb(setup: Setup, **changes: Any) -> Artifact[Any]:
    """USCB, which plays in the response tables of past periods."""
    from lbm_core.baselines.uscb import UscbPolicy
    from lbm_core.baselines.uscb_train import table_days, train_uscb

    def train(config: Any, data: Any, days: Any, **options: Any) -> Any:
        return train_uscb(config, data, table_days(days), **options)

    config, what, inputs = setup.bound(setup.tier.uscb, **changes), f"USCB ({setup.label})", (trajectories(setup),)
    return _trained("uscb", config, train, UscbPolicy.load, what, inputs, past=past_periods(setup, config.periods))


def oracle_imitation(setup: Setup, **changes: Any) -> Artifact[Any]:
    """Oracle imitation, taught on the response tables of past periods: those of impressions it has lost, too."""
    from lbm_core.baselines.oracle_imitation import OracleImitation, train_imitation

    config, what = setup.bound(setup.tier.imitation, **changes), f"oracle imitation ({setup.label})"
    inputs, past = (trajectories(setup),), past_periods(setup, config.periods)
    return _trained("oracle_imitation", config, train_imitation, OracleImitation.load, what, inputs, past=past)


def diffbid(setup: Setup, name: Literal["DiffBid", "DiffBid-Q"], **changes: Any) -> Artifact[Any]:
    """DiffBid, or DiffBid-Q (CBD): completions of a trajectory, of which a return model chooses."""
    from lbm_core.baselines.diffbid import DiffBid, train_diffbid

    sizes = setup.tier.diffbid if name == "DiffBid" else setup.tier.diffbid.with_q()
    what, inputs = f"{name} ({setup.label})", (trajectories(setup),)
    return _trained("diffbid", setup.bound(sizes, **changes), train_diffbid, DiffBid.load, what, inputs)

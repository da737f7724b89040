"""The numeric baselines of Table 1 as artifacts, and their bidders (§4.1)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from lbm_core.lab.artifacts import Artifact
from lbm_core.lab.days import past_periods, tables, trajectories
from lbm_core.lab.models import critic
from lbm_core.lab.setup import Setup, bars

if TYPE_CHECKING:
    from lbm_core.auction.bidder import Bidder
    from lbm_core.baselines.decision_transformer import DecisionTransformer
    from lbm_core.critic.network import Critic

Settings = Mapping[str, Any]


class Chosen(Protocol):
    """What a bidder reads of a method's choice."""

    @property
    def in_use(self) -> Settings:
        """Settings of the bidder."""
        ...


def dt(setup: Setup, changes: Settings) -> Artifact[DecisionTransformer]:
    """Decision transformer; with a ``penalty_weight`` DT-score (Table 3)."""
    config, data = setup.bound(setup.tier.dt, **changes), trajectories(setup)

    def make(folder: Path) -> None:
        from lbm_core.baselines.decision_transformer import train_dt

        train_dt(config, data.get(), progress=bars()).save(folder)

    def load(folder: Path) -> DecisionTransformer:
        from lbm_core.baselines.decision_transformer import DecisionTransformer

        return DecisionTransformer.load(folder, config)

    name = f"DT-score, w = {config.penalty_weight:g}" if config.penalty_weight else "DT"
    return Artifact("dt", config, make, load, f"{name} ({setup.label})", (data,))


def dt_q(setup: Setup, changes: Settings, base: Settings) -> Artifact[DecisionTransformer]:
    """DT-Q as fine-tuning: a trained DT, trained on with the critic's values.

    Parameters
    ----------
    base : of the DT that it starts from
    """
    config, data = setup.bound(setup.tier.dt_q, **changes), trajectories(setup)
    plain, judge = dt(setup, base), critic(setup)

    def make(folder: Path) -> None:
        from lbm_core.baselines.dt_q import finetune_dt

        finetune_dt(config, plain.get(), judge.get(), data.get(), progress=bars()).save(folder)

    def load(folder: Path) -> DecisionTransformer:
        from lbm_core.baselines.decision_transformer import DecisionTransformer

        return DecisionTransformer.load(folder, plain.config)

    return Artifact("dt_q", config, make, load, f"DT-Q (fine-tuned; {setup.label})", (data, plain, judge))


def dt_bidder(setup: Setup, model: DecisionTransformer, choice: Chosen) -> Bidder:
    """DT, DT-score or the fine-tuned DT-Q, asked for a return."""
    from lbm_core.baselines.decision_transformer import DTBidder

    return DTBidder(model, choice.in_use.get("target_return"))


def search_bidder(model: DecisionTransformer, judge: Critic, in_use: Settings) -> Bidder:
    """DT-Q as search: the critic chooses around DT's alpha."""
    from lbm_core.baselines.dt_q import MULTIPLES, DTQSearchBidder

    tried = multiples(in_use["span"]) if "span" in in_use else MULTIPLES
    return DTQSearchBidder(model, judge, tried, in_use.get("target_return"))


def multiples(span: float) -> tuple[float, ...]:
    """Candidates of DT-Q's search around DT's alpha, as shares of a span; 0.1 gives its defaults."""
    return tuple(round(1 + span * share, 6) for share in (-1, -0.5, -0.1, 0, 0.1, 0.5, 1))


def offline_rl(setup: Setup, algorithm: Literal["BC", "BCQ", "CQL", "IQL"], changes: Settings) -> Artifact[Any]:
    """BC, BCQ, CQL or IQL, by d3rlpy."""
    config, data = setup.bound(setup.tier.rl, algorithm=algorithm, **changes), trajectories(setup)

    def make(folder: Path) -> None:
        from lbm_core.baselines.offline_rl import train_offline_rl

        train_offline_rl(config, data.get(), progress=bars()).save(folder)

    def load(folder: Path) -> Any:
        from lbm_core.baselines.offline_rl import OfflinePolicy

        return OfflinePolicy.load(folder, config)

    return Artifact("offline_rl", config, make, load, f"{algorithm} ({setup.label})", (data,))


def offline_bidder(setup: Setup, model: Any, choice: Chosen) -> Bidder:
    """Bids with an offline-RL policy."""
    from lbm_core.baselines.offline_rl import OfflineRLBidder

    return OfflineRLBidder(model)


def uscb(setup: Setup, changes: Settings) -> Artifact[Any]:
    """USCB, which plays in the response tables of past periods."""
    config, data = setup.bound(setup.tier.uscb, **changes), trajectories(setup)
    past = past_periods(setup, config.periods)

    def make(folder: Path) -> None:
        from lbm_core.baselines.uscb_train import table_days, train_uscb

        train_uscb(config, data.get(), table_days(tables(past)), progress=bars()).save(folder)

    def load(folder: Path) -> Any:
        from lbm_core.baselines.uscb import UscbPolicy

        return UscbPolicy.load(folder, config)

    return Artifact("uscb", config, make, load, f"USCB ({setup.label})", (data, *past))


def uscb_bidder(setup: Setup, model: Any, choice: Chosen) -> Bidder:
    """Bids with USCB."""
    from lbm_core.baselines.uscb import UscbBidder

    return UscbBidder(model)


def diffbid(setup: Setup, name: Literal["DiffBid", "DiffBid-Q"], changes: Settings) -> Artifact[Any]:
    """DiffBid, or DiffBid-Q (CBD): completions of a trajectory, of which a return model chooses."""
    sizes = setup.tier.diffbid if name == "DiffBid" else setup.tier.diffbid.with_q()
    config, data = setup.bound(sizes, **changes), trajectories(setup)

    def make(folder: Path) -> None:
        from lbm_core.baselines.diffbid import train_diffbid

        train_diffbid(config, data.get(), progress=bars()).save(folder)

    def load(folder: Path) -> Any:
        from lbm_core.baselines.diffbid import DiffBid

        return DiffBid.load(folder, config)

    return Artifact("diffbid", config, make, load, f"{name} ({setup.label})", (data,))


def diffusion_bidder(setup: Setup, model: Any, choice: Chosen) -> Bidder:
    """Bids with DiffBid or DiffBid-Q."""
    from lbm_core.baselines.diffbid import DiffBidBidder

    return DiffBidBidder(model, choice.in_use.get("target_return"))

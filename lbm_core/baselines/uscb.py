"""USCB (He et al., KDD 2021): reinforcement learning that turns alpha up and down, trained online (§4.1).

The policy multiplies the last alpha, alpha_t = alpha_{t-1} (1 + a_t). It learns by bidding in the simulator
(:mod:`lbm_core.baselines.uscb_train`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lbm_core.auction.bidder import Advertisers, Observation
from lbm_core.baselines.decision_transformer import one_thread
from lbm_core.baselines.offline_rl import current_states
from lbm_core.data.features import N_FEATURES, StateEncoder, StateKind
from lbm_core.data.trajectories import ALPHA_LIMIT
from lbm_core.settings import DATASETS, Dataset
from lbm_core.tiers import Tier
from lbm_core.training import load_config, load_weights, save_model


@dataclass(frozen=True)
class UscbConfig:
    """Everything that makes a USCB policy; it names the checkpoint."""

    dataset: Dataset = "dense"
    state_kind: StateKind = "extended"  # "paper": the 16 features alone
    hidden_size: int = 64  # of two hidden layers
    steps: int = 2_000  # decisions taken in the simulator, one gradient step each
    learning_starts: int = 500  # decisions at random before the first gradient step
    batch_size: int = 64
    learning_rate: float = 1e-3  # Adam, actor and critic
    gamma: float = 0.99  # discount per tick
    tau: float = 0.005  # share of the online networks in each update of the target networks
    n_step: int = 1  # rewards summed before bootstrapping; published: 1
    noise: float = 0.3  # standard deviation of the exploration, in units of the largest move
    largest_move: float = 0.2  # largest |a_t|: alpha changes by at most this share per tick
    lowest: float = 0.1  # bounds of alpha / C
    highest: float = 5.0
    reward_multiplier: float = 10.0  # of a reward in units of B / C
    seed: int = 0

    def __post_init__(self) -> None:
        choices: dict[str, Any] = {"dataset": DATASETS, "state_kind": tuple(N_FEATURES)}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} of USCB must be one of {', '.join(allowed)}; got {getattr(self, name)!r}")
        for name in ("hidden_size", "steps", "batch_size", "n_step"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} of USCB must be at least 1; got {getattr(self, name)}")
        for name in ("learning_rate", "reward_multiplier"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} of USCB must be positive; got {getattr(self, name)}")
        for name in ("gamma", "tau"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} of USCB must lie in (0, 1]; got {getattr(self, name)}")
        if not (0 < self.largest_move < 1 and self.noise >= 0 and self.learning_starts >= 0):
            raise ValueError("largest_move must lie in (0, 1); noise and learning_starts must not be negative")
        if self.learning_starts >= self.steps:
            raise ValueError(f"USCB would learn nothing: {self.steps} steps, the first {self.learning_starts} random")
        if not 0 < self.lowest < 1 < self.highest:
            raise ValueError(f"lowest and highest must enclose 1; got {self.lowest} and {self.highest}")

    @classmethod
    def from_tier(cls, tier: Tier, dataset: Dataset, seed: int = 0, **overrides: Any) -> UscbConfig:
        """The sizes of a tier."""
        sizes = tier.baseline
        settings: dict[str, Any] = {
            "dataset": dataset,
            "hidden_size": sizes.rl_hidden_size,
            "steps": sizes.uscb_steps,
            "learning_starts": min(overrides.get("steps", sizes.uscb_steps) // 4, 5_000),
            "n_step": sizes.rl_n_step,
            "seed": seed,
        }
        return cls(**(settings | overrides))


class UscbPolicy:
    """How much to turn alpha up or down in a state.

    Attributes
    ----------
    config : UscbConfig
    encoder : StateEncoder
    actor : network from (n, d) normalised states to (n, 1) in [-1, 1]
    returns : (k, 2) decisions taken, score of a day (in units of B / C) averaged over the days since the row before
    """

    def __init__(self, config: UscbConfig, encoder: StateEncoder) -> None:
        self.config, self.encoder = config, encoder
        width = config.hidden_size
        with torch.random.fork_rng(devices=[]):
            # The layout of Stable-Baselines3's actor, so that bidding needs none of it.
            self.actor = nn.Sequential(
                nn.Linear(encoder.dimension, width),
                nn.ReLU(),
                nn.Linear(width, width),
                nn.ReLU(),
                nn.Linear(width, 1),
                nn.Tanh(),
            )
        self.returns = np.empty((0, 2))

    def turn(self, ratio: NDArray[np.float64], moves: NDArray[np.float64]) -> NDArray[np.float64]:
        """alpha_t / C = alpha_{t-1} / C (1 + largest_move * move), within bounds; moves in [-1, 1]."""
        config = self.config
        return np.clip(ratio * (1 + config.largest_move * np.clip(moves, -1, 1)), config.lowest, config.highest)

    def moves(self, states: NDArray[np.float32]) -> NDArray[np.float64]:
        """(n,) in [-1, 1] for (n, d) normalised states."""
        with one_thread(), torch.inference_mode():
            return self.actor(torch.as_tensor(states))[:, 0].double().numpy()

    def save(self, folder: Path) -> None:
        """Write the actor, config, state statistics and returns into a new folder."""
        save_model(folder, self.config, self.encoder, {"actor": self.actor}, returns=self.returns.tolist())

    @classmethod
    def load(cls, folder: Path, config: UscbConfig | None = None) -> UscbPolicy:
        """Read what :meth:`save` wrote.

        Raises
        ------
        FileNotFoundError, ValueError
            No policy there; one that was trained with another config.
        """
        found, encoder, stored = load_config(folder, UscbConfig, config, "USCB policy")
        policy = cls(found, encoder)
        load_weights(folder, {"actor": policy.actor})
        policy.returns = np.asarray(stored["returns"]).reshape(-1, 2)
        return policy


class UscbBidder:
    """Bids with USCB: opens at the CPA target, then multiplies its last alpha.

    Parameters
    ----------
    policy : UscbPolicy
    """

    def __init__(self, policy: UscbPolicy) -> None:
        self.policy = policy

    def reset(self, advertisers: Advertisers) -> None:
        """Start a period for n advertisers."""
        self.advertisers = advertisers

    def act(self, observation: Observation) -> NDArray[np.float64]:
        """(n,) alpha, currency per conversion."""
        target = self.advertisers.cpa_target
        if observation.tick == 0:
            return target.copy()
        moves = self.policy.moves(current_states(self.policy.encoder, observation, self.advertisers))
        alphas = target * self.policy.turn(observation.alphas[:, -1] / target, moves)
        return np.minimum(alphas, ALPHA_LIMIT[self.policy.config.dataset])

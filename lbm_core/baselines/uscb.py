"""USCB (He et al., KDD 2021): reinforcement learning that turns alpha up and down, trained online (§4.1).

alpha_t = alpha_{t-1} (1 + a_t); a_t is learned by bidding in the simulator (:mod:`lbm_core.baselines.uscb_train`).
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lbm_core.auction.bidder import Observation
from lbm_core.baselines.common import Opening, Stored, current_states, perceptron
from lbm_core.baselines.config import UscbConfig
from lbm_core.data.features import StateEncoder
from lbm_core.data.trajectories import ALPHA_LIMIT
from lbm_core.seeding import integer_seed
from lbm_core.training import small_network


class UscbPolicy(Stored):
    """How much to turn alpha up or down in a state."""

    kind, label, log = UscbConfig, "USCB policy", "returns"

    def __init__(self, config: UscbConfig, encoder: StateEncoder) -> None:
        self.config, self.encoder = config, encoder
        sizes = encoder.dimension, config.hidden_size, config.hidden_size, 1
        with small_network(integer_seed(config.seed, "train", 1)):
            # (n, d) states to (n, 1) in [-1, 1]. The layout of Stable-Baselines3's actor: bidding needs none of it.
            self.actor = nn.Sequential(*perceptron(*sizes), nn.Tanh())
        self.returns = np.empty((0, 2))  # decisions taken, mean score (in units of B / C) of days since the row before

    def turn(self, ratio: NDArray[np.float64], moves: NDArray[np.float64]) -> NDArray[np.float64]:
        """alpha_t / C = alpha_{t-1} / C (1 + largest_move * move), within bounds; moves in [-1, 1]."""
        config = self.config
        return np.clip(ratio * (1 + config.largest_move * np.clip(moves, -1, 1)), config.lowest, config.highest)

    def moves(self, states: NDArray[np.float32]) -> NDArray[np.float64]:
        """(n,) in [-1, 1] for (n, d) normalised states."""
        with small_network(), torch.inference_mode():
            return self.actor(torch.as_tensor(states))[:, 0].double().numpy()

    def networks(self) -> dict[str, nn.Module]:
        return {"actor": self.actor}


class UscbBidder(Opening):
    """Bids with a :class:`UscbPolicy`: multiplies its last alpha."""

    def __init__(self, policy: UscbPolicy) -> None:
        self.policy = policy

    def bid(self, observation: Observation) -> NDArray[np.float64]:
        target = self.advertisers.cpa_target
        moves = self.policy.moves(current_states(self.policy.encoder, observation, self.advertisers))
        alphas = target * self.policy.turn(observation.alphas[:, -1] / target, moves)
        return np.minimum(alphas, ALPHA_LIMIT[self.policy.config.dataset])

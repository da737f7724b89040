"""The critic alone as a bidder: no sequence model, no language. What it reaches, nothing after it may claim."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lbm_core.act.guides import sentences
from lbm_core.auction.bidder import Advertisers, Observation
from lbm_core.baselines.common import Opening, untargeted
from lbm_core.critic.ensemble import CriticEnsemble
from lbm_core.critic.network import Critic
from lbm_core.data.trajectories import ALPHA_LIMIT
from lbm_core.training import small_network

STEPS = (0.88, 1.0, 1.14)  # multiples of the last alpha that mean down, stay and up


class CriticSearch:
    """Takes the multiple (candidates, each > 0) of an alpha that has the highest Q."""

    def __init__(self, critic: Critic | CriticEnsemble, multiples: Sequence[float] = STEPS) -> None:
        if len(multiples) == 0 or not all(multiple > 0 for multiple in multiples):
            raise ValueError(f"multiples must be positive numbers, at least one; got {list(multiples)}")
        self.critic, self.multiples = critic, np.asarray(multiples, dtype=np.float64)

    def best(
        self, observation: Observation, advertisers: Advertisers, alphas: NDArray[np.float64] | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """(n,) best alpha around ``alphas`` (default the last ones), within the data's range; place of its multiple."""
        config = self.critic.config
        if alphas is None:  # a done advertiser's last alpha is 0; no replay counts its bid, but Q needs a positive one
            alphas = np.maximum(observation.alphas[:, -1], 1e-3 * advertisers.cpa_target)
        window = untargeted(observation, advertisers, config.window_length)
        candidates = np.clip(alphas[:, None] * self.multiples, 1e-6, ALPHA_LIMIT[config.dataset])
        with small_network():
            best = self.critic.q(window, candidates).argmax(axis=1)
        return candidates[np.arange(len(observation)), best], best


class CriticBidder(Opening, CriticSearch):
    """Tries a few multiples of the last alpha and takes the one with the highest Q."""

    def bid(self, observation: Observation) -> NDArray[np.float64]:
        return self.best(observation, self.advertisers)[0]


class CriticGuide(CriticSearch):
    """Guide source: up, stay or down, whichever multiple of the last alpha (:data:`STEPS`) has the highest Q."""

    def __call__(self, observation: Observation, advertisers: Advertisers) -> list[str]:
        """One sentence per advertiser."""
        return sentences(self.best(observation, advertisers)[1] - 1)

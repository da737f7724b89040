"""The critic alone as a bidder: no sequence model, no language. What it reaches, nothing after it may claim.

Beside it what a perfect critic would reach, whose Q is a replay of the day's rest.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lbm_core.act.guide_sources import Foresight
from lbm_core.act.guides import sentences
from lbm_core.auction.bidder import Advertisers, Observation
from lbm_core.auction.hindsight import scores_from
from lbm_core.baselines.common import Opening, untargeted
from lbm_core.critic.network import Critic, CriticEnsemble
from lbm_core.data.trajectories import ALPHA_LIMIT
from lbm_core.settings import Dataset

STEPS = (0.88, 1.0, 1.14)  # multiples of the last alpha that mean down, stay and up


class Search(ABC):
    """Takes the multiple (candidates, each > 0) of an alpha that has the highest Q.

    Called as a guide source, it says up, stay or down, whichever of :data:`STEPS` that is.
    """

    def __init__(self, dataset: Dataset, multiples: Sequence[float] = STEPS) -> None:
        if len(multiples) == 0 or not all(multiple > 0 for multiple in multiples):
            raise ValueError(f"multiples must be positive numbers, at least one; got {list(multiples)}")
        self.dataset, self.multiples = dataset, np.asarray(multiples, dtype=np.float64)

    @abstractmethod
    def q(self, observation: Observation, advertisers: Advertisers, alphas: NDArray) -> NDArray[np.float64]:
        """(n, K) values of bidding (n, K) alphas > 0, currency per conversion."""

    def best(
        self, observation: Observation, advertisers: Advertisers, alphas: NDArray[np.float64] | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """(n,) best alpha around ``alphas`` (default the last ones), within the data's range; place of its multiple."""
        if alphas is None:  # a done advertiser's last alpha is 0; no replay counts its bid, but Q needs a positive one
            alphas = np.maximum(observation.alphas[:, -1], 1e-3 * advertisers.cpa_target)
        candidates = np.clip(alphas[:, None] * self.multiples, 1e-6, ALPHA_LIMIT[self.dataset])
        best = self.q(observation, advertisers, candidates).argmax(axis=1)
        return candidates[np.arange(len(observation)), best], best

    def __call__(self, observation: Observation, advertisers: Advertisers) -> list[str]:
        """One sentence per advertiser."""
        return sentences(self.best(observation, advertisers)[1] - 1)


class CriticSearch(Search):
    """Searches with the Q of a trained critic."""

    def __init__(self, critic: Critic | CriticEnsemble, multiples: Sequence[float] = STEPS) -> None:
        super().__init__(critic.config.dataset, multiples)
        self.critic = critic

    def q(self, observation: Observation, advertisers: Advertisers, alphas: NDArray) -> NDArray[np.float64]:
        return self.critic.q(untargeted(observation, advertisers, self.critic.config.window_length), alphas)


class ReplayQ(Search, Foresight):
    """Searches with the score that the day's own prices give an alpha that is held from this moment to the end.

    What a perfect critic would say, and no method: it knows the prices to come, of lost impressions, too.
    """

    def q(self, observation: Observation, advertisers: Advertisers, alphas: NDArray) -> NDArray[np.float64]:
        before = observation.costs.sum(axis=1), observation.conversions.sum(axis=1)
        return scores_from(self.day, advertisers, observation.tick, alphas[..., None], *before)


class SearchBidder(Opening, Search):
    """Bids what its search finds around the last alpha."""

    def bid(self, observation: Observation) -> NDArray[np.float64]:
        return self.best(observation, self.advertisers)[0]


class CriticBidder(SearchBidder, CriticSearch):
    """Searches with the Q of a trained critic."""


class ReplayQBidder(SearchBidder, ReplayQ):
    """Searches with replay-Q; each period must be shown to it."""

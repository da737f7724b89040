"""The critic alone as a bidder: no sequence model, no language. What it reaches, nothing after it may claim."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lbm_core.act.guides import sentences
from lbm_core.auction.bidder import Advertisers, Observation
from lbm_core.critic.ensemble import CriticEnsemble
from lbm_core.critic.network import Critic
from lbm_core.data.trajectories import ALPHA_LIMIT
from lbm_core.data.windows import windows_of_observation


def best_multiples(
    critic: Critic | CriticEnsemble, observation: Observation, advertisers: Advertisers, multiples: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Candidates (n, K), alpha in currency per conversion, and (n,) which of them has the highest Q."""
    config = critic.config
    no_target = np.zeros((len(observation), observation.tick + 1))  # Q is not conditioned on a return
    window = windows_of_observation(observation, advertisers, no_target, config.window_length)
    # A done advertiser's last alpha is 0; the replay ignores its bid, but Q is defined for positive ones only.
    last = np.maximum(observation.alphas[:, -1], 1e-3 * advertisers.cpa_target)
    candidates = np.minimum(last[:, None] * multiples, ALPHA_LIMIT[config.dataset])
    return candidates, critic.q(window, candidates).argmax(axis=1)


class CriticBidder:
    """Tries a few multiples of the last alpha and takes the one with the highest Q; opens at the CPA target.

    Parameters
    ----------
    critic : Critic
    multiples : candidates per tick, in units of the last alpha, each > 0
    """

    def __init__(self, critic: Critic | CriticEnsemble, multiples: Sequence[float] = (0.88, 1.0, 1.14)) -> None:
        if len(multiples) == 0 or not all(multiple > 0 for multiple in multiples):
            raise ValueError(f"multiples must be positive numbers, at least one; got {list(multiples)}")
        self.critic, self.multiples = critic, np.asarray(multiples, dtype=np.float64)

    def reset(self, advertisers: Advertisers) -> None:
        """Start a period for n advertisers."""
        self.advertisers = advertisers

    def act(self, observation: Observation) -> NDArray[np.float64]:
        """(n,) alpha, currency per conversion, within the range of the data."""
        if observation.tick == 0:
            return self.advertisers.cpa_target.copy()
        candidates, best = best_multiples(self.critic, observation, self.advertisers, self.multiples)
        return candidates[np.arange(len(observation)), best]


class CriticGuide:
    """Guide source: the direction, up, stay or down, whose multiple of the last alpha has the highest Q.

    Parameters
    ----------
    critic : Critic
    multiples : what "decrease", "uncertain" and "increase" stand for, in units of the last alpha
    """

    def __init__(
        self, critic: Critic | CriticEnsemble, multiples: tuple[float, float, float] = (0.88, 1.0, 1.14)
    ) -> None:
        self.critic, self.multiples = critic, np.asarray(multiples, dtype=np.float64)

    def __call__(self, observation: Observation, advertisers: Advertisers) -> list[str]:
        """One sentence per advertiser."""
        _, best = best_multiples(self.critic, observation, advertisers, self.multiples)
        return sentences(best - 1)

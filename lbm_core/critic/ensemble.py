"""Several critics as one: the mean of their verdicts, lowered where they disagree."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lbm_core.critic.network import Critic
from lbm_core.data.windows import Windows


class CriticEnsemble:
    """Critics of one configuration but for the training seed; judges like a :class:`~lbm_core.critic.network.Critic`.

    Differs from the paper, which has one pair of twins.

    Parameters
    ----------
    critics : at least two
    pessimism : standard deviations between members that are taken off their mean, >= 0

    Attributes
    ----------
    config : of the first member
    """

    def __init__(self, critics: Sequence[Critic], pessimism: float = 0.0) -> None:
        if len(critics) < 2:
            raise ValueError(f"an ensemble needs at least two critics; got {len(critics)}")
        if not pessimism >= 0:
            raise ValueError(f"pessimism must be at least 0; got {pessimism}")
        first = critics[0].config
        for other in critics[1:]:
            if (other.config.dataset, other.config.window_length, other.config.reward, other.config.reward_scale) != (
                first.dataset,
                first.window_length,
                first.reward,
                first.reward_scale,
            ):
                raise ValueError("the members of an ensemble must share data set, window length and reward")
        self.critics, self.pessimism, self.config = tuple(critics), pessimism, first

    def q(self, window: Windows, alphas: ArrayLike) -> NDArray[np.float64]:
        """(n,) or (n, K) values of bidding ``alphas``; as :meth:`lbm_core.critic.network.Critic.q`."""
        return self._joined([critic.q(window, alphas) for critic in self.critics])

    def relative_q(self, window: Windows, alphas: ArrayLike, logged_alphas: ArrayLike) -> NDArray[np.float64]:
        """Eq. 12 of every member, then joined: members that differ in level but not in verdict do not disagree."""
        return self._joined([critic.relative_q(window, alphas, logged_alphas) for critic in self.critics])

    def _joined(self, values: list[NDArray[np.float64]]) -> NDArray[np.float64]:
        stacked = np.stack(values)
        return stacked.mean(axis=0) - self.pessimism * stacked.std(axis=0, ddof=1)

"""Several critics as one: the mean of their verdicts, lowered where they disagree."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lbm_core.critic.network import Critic
from lbm_core.data.windows import Windows


class CriticEnsemble:
    """At least two critics that differ in their training seed; judges as a :class:`~lbm_core.critic.network.Critic`.

    Its ``config`` is that of the first member. Differs from the paper, which has one pair of twins.

    Parameters
    ----------
    pessimism : standard deviations between members that are taken off their mean, >= 0
    """

    def __init__(self, critics: Sequence[Critic], pessimism: float = 0.0) -> None:
        if len(critics) < 2:
            raise ValueError(f"an ensemble needs at least two critics; got {len(critics)}")
        if not pessimism >= 0:
            raise ValueError(f"pessimism must be at least 0; got {pessimism}")
        configs = [critic.config for critic in critics]
        if len({(c.dataset, c.window_length, c.reward, c.reward_scale) for c in configs}) > 1:
            raise ValueError("the members of an ensemble must share data set, window length and reward")
        self.critics, self.pessimism, self.config = tuple(critics), pessimism, configs[0]

    def q(self, window: Windows, alphas: ArrayLike) -> NDArray[np.float64]:
        """(n,) or (n, K) values of bidding ``alphas``; as :meth:`lbm_core.critic.network.Critic.q`."""
        return self._joined([critic.q(window, alphas) for critic in self.critics])

    def relative_q(self, window: Windows, alphas: ArrayLike, logged_alphas: ArrayLike) -> NDArray[np.float64]:
        """Eq. 12 of every member, then joined: members that differ in level but not in verdict do not disagree."""
        return self._joined([critic.relative_q(window, alphas, logged_alphas) for critic in self.critics])

    def _joined(self, values: list[NDArray[np.float64]]) -> NDArray[np.float64]:
        stacked = np.stack(values)
        return stacked.mean(axis=0) - self.pessimism * stacked.std(axis=0, ddof=1)

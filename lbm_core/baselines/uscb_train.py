"""USCB's training: DDPG of Stable-Baselines3 in this package's Gymnasium environment (the ``rl`` extra)."""

import contextlib
import random
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from lbm_core.auction.environment import AuctionNetEnv, Day
from lbm_core.auction.response_tables import ResponseTables, table_day
from lbm_core.baselines.common import current_states
from lbm_core.baselines.config import UscbConfig
from lbm_core.baselines.uscb import UscbPolicy
from lbm_core.critic.reward import smoothed_score
from lbm_core.data.trajectories import TrajectorySet
from lbm_core.seeding import integer_seed
from lbm_core.training import fitted_encoder, small_network, sound, without_notices

Days = Callable[[np.random.Generator], Day]


def table_days(tables: Sequence[ResponseTables]) -> Days:
    """Days of a random advertiser in a random one of some periods, at their logged prices; conversions are drawn.

    Differs from the paper: USCB's simulator is its platform's own log, too. A market that reacts
    (``lbm/AuctionNet-v0``) fits as well, at some ten times the time per decision.
    """
    if not tables:
        raise ValueError("USCB needs response tables of at least one period to play in")

    def draw(rng: np.random.Generator) -> Day:
        one = tables[int(rng.integers(len(tables)))]
        who = one.advertisers[rng.integers(len(one.advertisers), size=1)]
        return Day(one.period, who, lambda rng: table_day(one, who, rng))

    return draw


class UscbEnvironment(AuctionNetEnv):
    """A day from its second tick on; the first is bid at the CPA target.

    * observation: (d,) normalised features of the policy's encoder;
    * action: (1,) in [-1, 1], turned into alpha by :meth:`~lbm_core.baselines.uscb.UscbPolicy.turn`;
    * reward: growth of the day's smoothed score in units of B / C, times ``reward_multiplier``;
    * terminated and info as in :class:`~lbm_core.auction.environment.AuctionNetEnv`.
    """

    def __init__(self, policy: UscbPolicy, days: Days) -> None:
        super().__init__(days)
        self.policy = policy
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (policy.encoder.dimension,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
        self._scores: list[tuple[int, float]] = []
        self._decisions = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Draw a day and play its first tick at the CPA target."""
        super().reset(seed=seed)
        over = self._play(np.ones(1))
        return self.reset(options=options) if over else (self._observed(), self._info())

    def step(self, action: NDArray[np.float32]) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Turn alpha and bid one tick."""
        before, move = self._score, np.asarray(action, dtype=np.float64).reshape(1)
        over = self._play(self.policy.turn(self._ratio, move))
        self._decisions += 1
        if over:
            self._scores.append((self._decisions, self._score))
        reward = self.policy.config.reward_multiplier * (self._score - before)
        return self._observed(), reward, over, False, self._info()

    def averages(self) -> NDArray[np.float64]:
        """(k, 2) decisions taken, mean score of the days that ended since the row before; at most 100 rows."""
        parts = np.array_split(np.asarray(self._scores).reshape(-1, 2), min(100, max(len(self._scores), 1)))
        return np.array([(part[-1, 0], part[:, 1].mean()) for part in parts if len(part)]).reshape(-1, 2)

    def _play(self, ratio: NDArray[np.float64]) -> bool:
        """Bid one tick and note the day's score so far; whether the day is over."""
        (_, over), who = self._bid(ratio), self._day.advertiser
        score = smoothed_score(np.array([self._conversions]), np.array([self._cost]), who.cpa_target)
        self._ratio, self._score = ratio, float((score * who.cpa_target / who.budget)[0])
        return over

    def _observed(self) -> NDArray[np.float32]:
        return current_states(self.policy.encoder, self._observation, self._day.advertiser)[0]


def train_uscb(config: UscbConfig, trajectories: TrajectorySet, days: Days, *, progress: bool = True) -> UscbPolicy:
    """Train USCB by bidding in the days that ``days`` draws, e.g. :func:`table_days`.

    The reward of a tick is the growth of the day's score, whose sum is the final score: the CPA target counts, as
    USCB's constraints do. Trajectories only normalise the state features; nothing is learned from their actions.
    """
    with without_notices():
        from stable_baselines3 import DDPG
        from stable_baselines3.common.noise import NormalActionNoise

    policy = UscbPolicy(config, fitted_encoder(config, trajectories))
    environment = UscbEnvironment(policy, days)
    seed = integer_seed(config.seed, "train", 0)
    bar = tqdm(total=config.steps, desc="USCB", disable=not progress)
    with contextlib.ExitStack() as stack:  # Stable-Baselines3 seeds Python's and NumPy's generators: give them back
        stack.callback(random.setstate, random.getstate())
        stack.callback(np.random.set_state, np.random.get_state())  # noqa: NPY002
        stack.enter_context(small_network(seed))
        stack.enter_context(bar)
        way: dict[str, Any] = {name: getattr(config, name) for name in ("learning_rate", "batch_size", "tau", "gamma")}
        way |= {"learning_starts": min(config.learning_starts, config.steps // 4), "n_steps": config.n_step}
        way |= {"buffer_size": min(config.steps, 200_000), "seed": seed, "device": "cpu"}  # tiny networks
        way |= {"action_noise": NormalActionNoise(np.zeros(1), np.full(1, config.noise))}
        way |= {"policy_kwargs": {"net_arch": [config.hidden_size, config.hidden_size]}}
        learner = DDPG("MlpPolicy", environment, **way)

        def watch(*_: Any) -> bool:
            sound(learner.logger.name_to_value["train/critic_loss"], "USCB", int(bar.n))
            return bar.update() or True

        learner.learn(config.steps, callback=watch)
    policy.actor.load_state_dict(learner.actor.mu.state_dict())
    policy.actor.eval()
    policy.returns = environment.averages()
    return policy

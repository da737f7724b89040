"""USCB's training: DDPG of Stable-Baselines3 in this package's Gymnasium environment (the ``rl`` extra)."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm.auto import tqdm

from lbm_core.auction.environment import Day
from lbm_core.auction.response_tables import ResponseTables, table_day
from lbm_core.baselines.decision_transformer import one_thread
from lbm_core.training import without_notices
from lbm_core.baselines.uscb import UscbConfig, UscbPolicy
from lbm_core.baselines.uscb_environment import Days, UscbEnvironment
from lbm_core.data.features import StateEncoder
from lbm_core.data.trajectories import TrajectorySet
from lbm_core.seeding import integer_seed


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


def train_uscb(config: UscbConfig, trajectories: TrajectorySet, days: Days, *, progress: bool = True) -> UscbPolicy:
    """Train USCB by bidding.

    The reward of a tick is the growth of the day's score, whose sum is the final score: the CPA target counts, as
    USCB's constraints do.

    Parameters
    ----------
    trajectories : what state features are normalised with; nothing is learned from their actions
    days : draws what is played, e.g. :func:`table_days`

    Raises
    ------
    ValueError
        Trajectories of another data set than the config's.
    """
    if trajectories.dataset != config.dataset:
        raise ValueError(f"the config is for {config.dataset} data, the trajectories are {trajectories.dataset}")

    with without_notices():
        from stable_baselines3 import DDPG
        from stable_baselines3.common.callbacks import BaseCallback
        from stable_baselines3.common.noise import NormalActionNoise

    policy = UscbPolicy(config, StateEncoder.fit(trajectories, config.state_kind))
    environment = UscbEnvironment(policy, days)

    class Progress(BaseCallback):
        """Moves the bar."""

        def _on_step(self) -> bool:
            bar.update()
            return True

    with _global_randomness(), one_thread(), tqdm(total=config.steps, desc="USCB", disable=not progress) as bar:
        learner = DDPG(
            "MlpPolicy",
            environment,
            learning_rate=config.learning_rate,
            buffer_size=min(config.steps, 200_000),
            learning_starts=config.learning_starts,
            batch_size=config.batch_size,
            tau=config.tau,
            gamma=config.gamma,
            n_steps=config.n_step,
            action_noise=NormalActionNoise(np.zeros(1), np.full(1, config.noise)),
            policy_kwargs={"net_arch": [config.hidden_size, config.hidden_size]},
            seed=integer_seed(config.seed, "train", 0),
            device="cpu",  # tiny networks
        )
        learner.learn(config.steps, callback=Progress())
    environment.close()
    policy.actor.load_state_dict(learner.actor.mu.state_dict())
    policy.actor.eval()
    policy.returns = environment.averages()
    return policy


@contextmanager
def _global_randomness() -> Iterator[None]:
    """Stable-Baselines3 seeds the process's global generators; give them back as they were."""
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(legacy)  # noqa: NPY002

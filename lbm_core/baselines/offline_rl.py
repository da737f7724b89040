"""Offline reinforcement learning on (s_t, alpha_t, r_t): BC, BCQ, CQL and IQL (§4.1), through d3rlpy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn
from tqdm.auto import trange

from lbm_core.auction.bidder import Advertisers, Observation
from lbm_core.baselines.common import averaged, current_states
from lbm_core.baselines.config import OfflineRLConfig
from lbm_core.critic.iql import n_step_returns
from lbm_core.critic.reward import reward_table
from lbm_core.data.features import LOG_RATIO_LIMIT, StateEncoder, log_alpha_ratio
from lbm_core.data.trajectories import TrajectorySet, windows
from lbm_core.seeding import generator, integer_seed
from lbm_core.training import (
    fitted_encoder,
    load_config,
    load_modules,
    of_modules,
    save_model,
    small_network,
    without_notices,
)


@dataclass(frozen=True)
class Transitions:
    """Logged decisions of one tick each, M of them; only ticks at which the advertiser bid.

    Attributes
    ----------
    states, next_states : (M, d) normalised; where ``terminal``, the next state is not read
    actions : (M,) log(alpha / C)
    rewards : (M,) discounted reward of the next ``n_step`` ticks
    terminal : (M,) bool, nothing to bootstrap from after these rewards
    """

    states: NDArray[np.float32]
    actions: NDArray[np.float32]
    rewards: NDArray[np.float32]
    next_states: NDArray[np.float32]
    terminal: NDArray[np.bool_]

    @classmethod
    def from_trajectories(
        cls, trajectories: TrajectorySet, encoder: StateEncoder, config: OfflineRLConfig
    ) -> Transitions:
        """Every bid of the data; the last of a day is terminal, the ``done`` row (alpha 0) is no decision."""
        rows, ticks = np.nonzero(trajectories.acting)
        if len(rows) == 0:
            raise ValueError("no transition to learn from: nobody ever bid")
        rewards = reward_table(trajectories, config.reward, counted=config.counted)
        rewards = rewards * np.float32(config.reward_multiplier)
        returns, over = n_step_returns(rewards, trajectories.last_action, config.gamma, config.n_step)
        terminal = over[rows, ticks]
        following = np.where(terminal, ticks, ticks + config.n_step)

        def encoded(at: NDArray[np.int64]) -> NDArray[np.float32]:
            return encoder.encode(windows(trajectories, rows, at, length=1))[:, 0]

        actions = log_alpha_ratio(trajectories.alphas[rows, ticks], trajectories.cpa_target[rows])
        return cls(encoded(ticks), actions, returns[rows, ticks], encoded(following), terminal)

    def __len__(self) -> int:
        return len(self.actions)


class OfflinePolicy:
    """A policy alpha(s), trained or about to be.

    Attributes
    ----------
    config : OfflineRLConfig
    encoder : StateEncoder, fitted on the training trajectories
    low, middle, high : range and median of log(alpha / C) in the data. d3rlpy's actions -1, 0 and 1 mean these, linear
        between them: no policy bids what was never bid, and an untrained one bids like the median. (The middle of the
        range lies far below the median, and a short training would end there.)
    losses : (k, 2) gradient step, loss of the critic (of the actions for BC) averaged since the row before
    """

    def __init__(self, config: OfflineRLConfig, encoder: StateEncoder, low: float, middle: float, high: float) -> None:
        if not (-LOG_RATIO_LIMIT <= low < middle < high <= LOG_RATIO_LIMIT):
            raise ValueError(f"the range of log(alpha / C) must be an interval; got {low} … {middle} … {high}")
        self.config, self.encoder = config, encoder
        self.low, self.middle, self.high = float(low), float(middle), float(high)
        self.losses = np.empty((0, 2))

    @cached_property
    def learner(self) -> Any:
        """d3rlpy's algorithm with fresh weights."""
        with small_network(integer_seed(self.config.seed, "train", 0)):
            learner = _learner(self.config)
            learner.create_impl((self.encoder.dimension,), 1)
        return learner

    @property
    def modules(self) -> dict[str, nn.Module]:
        """The networks that bid; what else was trained is not kept."""
        modules = self.learner.impl.modules
        names = {"BC": ("imitator",), "BCQ": ("policy", "vae_decoder", "q_funcs")}
        return {name: getattr(modules, name) for name in names.get(self.config.algorithm, ("policy",))}

    def scale(self, actions: NDArray) -> NDArray[np.float32]:
        """log(alpha / C) to [-1, 1]."""
        return np.interp(actions, (self.low, self.middle, self.high), (-1, 0, 1)).astype(np.float32)

    def decide(self, states: NDArray[np.float32], key: int = 0) -> NDArray[np.float64]:
        """(n,) log(alpha / C) of (n, d) normalised states.

        Parameters
        ----------
        key : names the random numbers with which BCQ draws its candidates; equal keys give equal bids
        """
        with small_network(integer_seed(self.config.seed, "evaluation", key)):
            action = self.learner.predict(np.ascontiguousarray(states))[:, 0].astype(np.float64)
        return np.interp(action, (-1, 0, 1), (self.low, self.middle, self.high))

    def save(self, folder: Path) -> None:
        """Write the networks that bid, config, range, state statistics and losses into a folder."""
        extra = {"range": [self.low, self.middle, self.high], "losses": self.losses}
        save_model(folder, self.config, self.encoder, of_modules(self.modules), **extra)

    @classmethod
    def load(cls, folder: Path, config: OfflineRLConfig | None = None) -> OfflinePolicy:
        """Read what :meth:`save` wrote; errors as of :func:`lbm_core.training.load_config`."""
        trained_with, encoder, stored = load_config(folder, OfflineRLConfig, config, "offline-RL policy")
        policy = cls(trained_with, encoder, *stored["range"])
        load_modules(folder, policy.modules)
        policy.losses = stored["losses"]
        return policy


def train_offline_rl(config: OfflineRLConfig, trajectories: TrajectorySet, *, progress: bool = True) -> OfflinePolicy:
    """Train BC, BCQ, CQL or IQL on logged trajectories.

    d3rlpy gives networks, losses and updates. Batches are ours: cut from arrays, which is many times faster than its
    buffer of single transitions, and seeded.

    Raises
    ------
    ValueError
        Trajectories of another data set than the config's, or without a bid, or all bids equal.
    """
    encoder = fitted_encoder(config, trajectories)
    data = Transitions.from_trajectories(trajectories, encoder, config)
    low, high = data.actions.min(), data.actions.max()
    margin = 0.1 * (high - low)
    middle = np.clip(np.median(data.actions), low + margin, high - margin)
    policy = OfflinePolicy(config, encoder, float(low), float(middle), float(high))
    data = replace(data, actions=policy.scale(data.actions))
    rng = generator(config.seed, "train", 1)
    name = "loss" if config.algorithm == "BC" else "critic_loss"
    learner, losses = policy.learner, []
    with small_network(integer_seed(config.seed, "train", 2)):  # sampled actions and latents
        for _ in trange(config.steps, desc=config.algorithm, disable=not progress):
            batch = _batch(data, rng.integers(len(data), size=config.batch_size), config.n_step)
            losses.append(learner.update(batch)[name])
    policy.losses = averaged(losses)
    return policy


class OfflineRLBidder:
    """Bids with an offline-RL policy; opens at the CPA target, as every learned method here.

    Parameters
    ----------
    policy : OfflinePolicy
    """

    def __init__(self, policy: OfflinePolicy) -> None:
        self.policy = policy

    def reset(self, advertisers: Advertisers) -> None:
        """Start a period for n advertisers."""
        self.advertisers = advertisers

    def act(self, observation: Observation) -> NDArray[np.float64]:
        """(n,) alpha, currency per conversion, within the data's range of alpha / C."""
        if observation.tick == 0:
            return self.advertisers.cpa_target.copy()
        states = current_states(self.policy.encoder, observation, self.advertisers)
        return self.advertisers.cpa_target * np.exp(self.policy.decide(states, observation.tick))


def _learner(config: OfflineRLConfig) -> Any:
    """d3rlpy's algorithm of a configuration."""
    with without_notices():
        from d3rlpy import algos
        from d3rlpy.models.encoders import VectorEncoderFactory
        from d3rlpy.optimizers import AdamFactory
        from d3rlpy.optimizers.lr_schedulers import CosineAnnealingLRFactory

    encoder = VectorEncoderFactory([config.hidden_size, config.hidden_size])
    adam = AdamFactory(lr_scheduler_factory=CosineAnnealingLRFactory(T_max=config.steps) if config.decay else None)
    own: dict[str, dict[str, Any]] = {
        "BC": {},
        "BCQ": {"n_action_samples": config.action_samples, "action_flexibility": config.flexibility},
        "CQL": {
            "conservative_weight": config.conservative_weight,
            "alpha_learning_rate": 0.0,  # the weight of the penalty is a setting, not learned
            "temp_learning_rate": config.learning_rate,
            "n_action_samples": config.action_samples,
        },
        "IQL": {"expectile": config.expectile, "weight_temp": config.temperature, "value_encoder_factory": encoder},
    }
    arguments = own[config.algorithm]
    prefixes = {"BC": [""], "BCQ": ["actor_", "critic_", "imitator_"]}.get(config.algorithm, ["actor_", "critic_"])
    for prefix in prefixes:
        arguments |= {
            f"{prefix}learning_rate": config.learning_rate,
            f"{prefix}encoder_factory": encoder,
            f"{prefix}optim_factory": adam,
        }
    if config.algorithm != "BC":
        arguments |= {"gamma": config.gamma, "tau": config.tau}
    return getattr(algos, f"{config.algorithm}Config")(batch_size=config.batch_size, **arguments).create(False)


def _batch(data: Transitions, chosen: NDArray[np.int64], n_step: int) -> Any:
    from d3rlpy.dataset import TransitionMiniBatch

    def column(values: NDArray) -> NDArray[np.float32]:
        return values[chosen, None].astype(np.float32)

    return TransitionMiniBatch(
        observations=data.states[chosen],
        actions=column(data.actions),
        rewards=column(data.rewards),
        next_observations=data.next_states[chosen],
        next_actions=column(data.actions),  # read by none of the four
        terminals=column(data.terminal),
        intervals=np.full((len(chosen), 1), n_step, dtype=np.float32),
        transitions=[],
    )

"""Offline reinforcement learning on (s_t, alpha_t, r_t): BC, BCQ, CQL and IQL (§4.1), through d3rlpy."""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn
from tqdm.auto import trange

from lbm_core.auction.bidder import Observation
from lbm_core.baselines.common import Opening, Stored, averaged, current_states
from lbm_core.baselines.config import OfflineRLConfig
from lbm_core.critic.iql import n_step_returns
from lbm_core.critic.reward import reward_table
from lbm_core.data.features import LOG_RATIO_LIMIT, StateEncoder, log_alpha_ratio
from lbm_core.data.trajectories import TrajectorySet, windows
from lbm_core.seeding import generator, integer_seed
from lbm_core.training import fitted_encoder, small_network, sound, without_notices


def transitions(
    trajectories: TrajectorySet, encoder: StateEncoder, config: OfflineRLConfig
) -> dict[str, NDArray[np.float32]]:
    """Every logged bid as a decision of one tick, M > 0 of them (else ValueError); the ``done`` row (alpha 0) is none.

    Columns: observations, next_observations (M, d), normalised states; actions, log(alpha / C), rewards, discounted
    over the next ``n_step`` ticks, and terminals, 1 where nothing is to bootstrap from after these, as after the last
    bid of a day, (M, 1). Where terminal, the next observation is not read.
    """
    rows, ticks = np.nonzero(trajectories.acting)
    if len(rows) == 0:
        raise ValueError("no transition to learn from: nobody ever bid")
    rewards = reward_table(trajectories, config.reward, counted=config.counted)
    rewards = rewards * np.float32(config.reward_multiplier)
    returns, over = n_step_returns(rewards, trajectories.last_action, config.gamma, config.n_step)
    terminal = over[rows, ticks]
    following = np.where(terminal, ticks, ticks + config.n_step)
    actions = log_alpha_ratio(trajectories.alphas[rows, ticks], trajectories.cpa_target[rows])
    columns = {"actions": actions, "rewards": returns[rows, ticks], "terminals": terminal}
    states = {"observations": ticks, "next_observations": following}
    return {name: values[:, None].astype(np.float32) for name, values in columns.items()} | {
        name: encoder.encode(windows(trajectories, rows, at, length=1))[:, 0] for name, at in states.items()
    }


class OfflinePolicy(Stored):
    """A policy alpha(s), trained or about to be.

    ``low``, ``middle`` and ``high`` are range and median of log(alpha / C) in the data. d3rlpy's actions -1, 0 and 1
    mean these, linear between them: no policy bids what was never bid, and an untrained one bids like the median. (The
    middle of the range lies far below the median, and a short training would end there.)
    """

    kind, label = OfflineRLConfig, "offline-RL policy"

    def __init__(self, config: OfflineRLConfig, encoder: StateEncoder, low: float, middle: float, high: float) -> None:
        if not (-LOG_RATIO_LIMIT <= low < middle < high <= LOG_RATIO_LIMIT):
            raise ValueError(f"the range of log(alpha / C) must be an interval; got {low} … {middle} … {high}")
        self.config, self.encoder = config, encoder
        self.low, self.middle, self.high = float(low), float(middle), float(high)
        self.losses = np.empty((0, 2))  # step, mean loss of the critic (BC: of the actions) since the row before

    @cached_property
    def learner(self) -> Any:
        """d3rlpy's algorithm with fresh weights."""
        with small_network(integer_seed(self.config.seed, "train", 0)):
            learner = _learner(self.config)
            learner.create_impl((self.encoder.dimension,), 1)
        return learner

    def networks(self) -> dict[str, nn.Module]:
        """The networks that bid; what else was trained is not kept."""
        modules = self.learner.impl.modules
        names = {"BC": ("imitator",), "BCQ": ("policy", "vae_decoder", "q_funcs")}
        return {name: getattr(modules, name) for name in names.get(self.config.algorithm, ("policy",))}

    def scale(self, actions: NDArray) -> NDArray[np.float32]:
        """log(alpha / C) to [-1, 1]."""
        return np.interp(actions, (self.low, self.middle, self.high), (-1, 0, 1)).astype(np.float32)

    def decide(self, states: NDArray[np.float32], key: int = 0) -> NDArray[np.float64]:
        """(n,) log(alpha / C) of (n, d) normalised states; ``key`` names the random numbers of BCQ's candidates."""
        with small_network(integer_seed(self.config.seed, "evaluation", key)):
            action = self.learner.predict(np.ascontiguousarray(states))[:, 0].astype(np.float64)
        return np.interp(action, (-1, 0, 1), (self.low, self.middle, self.high))

    def save(self, folder: Path, **extra: Any) -> None:
        super().save(folder, range=[self.low, self.middle, self.high], **extra)


def train_offline_rl(config: OfflineRLConfig, trajectories: TrajectorySet, *, progress: bool = True) -> OfflinePolicy:
    """Train BC, BCQ, CQL or IQL on logged trajectories; d3rlpy gives networks, losses and updates.

    Batches are ours: cut from arrays, many times faster than its buffer of single transitions, and seeded.
    """
    encoder = fitted_encoder(config, trajectories)
    data = transitions(trajectories, encoder, config)
    actions = data["actions"]
    low, high = actions.min(), actions.max()
    margin = 0.1 * (high - low)
    middle = np.clip(np.median(actions), low + margin, high - margin)
    policy = OfflinePolicy(config, encoder, float(low), float(middle), float(high))
    data["actions"] = policy.scale(actions)
    rng = generator(config.seed, "train", 1)
    name = "loss" if config.algorithm == "BC" else "critic_loss"
    learner, losses = policy.learner, []
    with small_network(integer_seed(config.seed, "train", 2)):  # sampled actions and latents
        for step in trange(config.steps, desc=config.algorithm, disable=not progress):
            batch = _batch(data, rng.integers(len(actions), size=config.batch_size), config.n_step)
            update = learner.update(batch)
            sound(sum(update.values()), config.algorithm, step)
            losses.append(update[name])
    policy.losses = averaged(losses)
    return policy


class OfflineRLBidder(Opening):
    """Bids with an :class:`OfflinePolicy`, within the data's range of alpha / C."""

    def __init__(self, policy: OfflinePolicy) -> None:
        self.policy = policy

    def bid(self, observation: Observation) -> NDArray[np.float64]:
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
    # CQL's weight of the penalty is a setting, not learned.
    rates = {"alpha_learning_rate": 0.0, "temp_learning_rate": config.learning_rate}
    own: dict[str, dict[str, Any]] = {
        "BC": {},
        "BCQ": {"n_action_samples": config.action_samples, "action_flexibility": config.flexibility},
        "CQL": {"conservative_weight": config.conservative_weight, "n_action_samples": config.action_samples, **rates},
        "IQL": {"expectile": config.expectile, "weight_temp": config.temperature, "value_encoder_factory": encoder},
    }
    arguments = own[config.algorithm]
    prefixes = {"BC": [""], "BCQ": ["actor_", "critic_", "imitator_"]}.get(config.algorithm, ["actor_", "critic_"])
    shared = {"learning_rate": config.learning_rate, "encoder_factory": encoder, "optim_factory": adam}
    arguments |= {prefix + name: value for prefix in prefixes for name, value in shared.items()}
    if config.algorithm != "BC":
        arguments |= {"gamma": config.gamma, "tau": config.tau}
    return getattr(algos, f"{config.algorithm}Config")(batch_size=config.batch_size, **arguments).create(False)


def _batch(data: dict[str, NDArray[np.float32]], chosen: NDArray[np.int64], n_step: int) -> Any:
    """d3rlpy's batch of some transitions."""
    from d3rlpy.dataset import TransitionMiniBatch

    columns = {name: values[chosen] for name, values in data.items()}
    intervals = np.full((len(chosen), 1), n_step, dtype=np.float32)
    # None of the four algorithms reads the next actions.
    return TransitionMiniBatch(**columns, next_actions=columns["actions"], intervals=intervals, transitions=[])

"""Offline reinforcement learning on (s_t, alpha_t, r_t): BC, BCQ, CQL and IQL (§4.1), through d3rlpy."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from tqdm.auto import trange

from lbm_core.auction.bidder import Advertisers, Observation
from lbm_core.baselines.decision_transformer import one_thread
from lbm_core.critic.iql import n_step_returns
from lbm_core.critic.reward import COUNTS, REWARDS, Counted, Reward, reward_table
from lbm_core.data.features import LOG_RATIO_LIMIT, N_FEATURES, StateEncoder, StateKind, log_alpha_ratio
from lbm_core.data.trajectories import TrajectorySet, windows
from lbm_core.data.windows import windows_of_observation
from lbm_core.seeding import generator, integer_seed
from lbm_core.settings import DATASETS, Dataset
from lbm_core.tiers import Tier
from lbm_core.training import load_config, load_weights, save_model, without_notices

Algorithm = Literal["BC", "BCQ", "CQL", "IQL"]
ALGORITHMS: tuple[Algorithm, ...] = ("BC", "BCQ", "CQL", "IQL")


@dataclass(frozen=True)
class OfflineRLConfig:
    """Everything that makes an offline-RL policy; it names the checkpoint."""

    algorithm: Algorithm = "IQL"
    dataset: Dataset = "dense"
    reward: Reward = "score_to_go"  # paper: "conversions", which never hears of the CPA target
    counted: Counted = "expected"  # conversions that the reward counts; "sampled": as they were drawn
    # Of a reward in units of B / C. IQL weighs actions by exp(temperature * advantage); one tick decides about half a
    # per cent of a day, so that at 1 every weight would be 1 and IQL be BC. At 100 the weights follow the errors of Q:
    # a small tilt of every move, up or down, compounds over the day.
    reward_multiplier: float = 10.0
    state_kind: StateKind = "extended"  # "paper": the 16 features alone
    hidden_size: int = 256  # of two hidden layers; d3rlpy's and the published size
    steps: int = 1_000  # gradient steps
    batch_size: int = 256
    learning_rate: float = 3e-4  # Adam, actor and critic
    decay: bool = True  # whether it falls to 0 as half a cosine; published: IQL's actor only
    gamma: float = 0.99  # discount per tick
    tau: float = 0.005  # share of the online Q in each update of the target Q
    n_step: int = 1  # rewards summed before bootstrapping; published: 1
    expectile: float = 0.7  # of IQL
    temperature: float = 3.0  # of IQL's advantage weights
    conservative_weight: float = 5.0  # of CQL's penalty on actions that were not logged; d3rlpy's default
    action_samples: int = 10  # of BCQ and CQL; d3rlpy's 100 for BCQ costs many times more
    flexibility: float = 0.05  # of BCQ: how far it may leave an imitated action, in units of half the data's range
    seed: int = 0

    def __post_init__(self) -> None:
        choices: dict[str, Any] = {
            "algorithm": ALGORITHMS,
            "dataset": DATASETS,
            "reward": REWARDS,
            "counted": COUNTS,
            "state_kind": tuple(N_FEATURES),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}; got {getattr(self, name)!r}")
        for name in ("hidden_size", "steps", "batch_size", "n_step", "action_samples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} of {self.algorithm} must be at least 1; got {getattr(self, name)}")
        for name in ("learning_rate", "reward_multiplier", "temperature", "flexibility"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} of {self.algorithm} must be positive; got {getattr(self, name)}")
        for name in ("gamma", "tau"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} of {self.algorithm} must lie in (0, 1]; got {getattr(self, name)}")
        if not (0 < self.expectile < 1 and self.conservative_weight >= 0):
            raise ValueError("expectile must lie in (0, 1) and conservative_weight be at least 0")

    @classmethod
    def from_tier(
        cls, tier: Tier, dataset: Dataset, seed: int = 0, algorithm: Algorithm = "IQL", **overrides: Any
    ) -> OfflineRLConfig:
        """The sizes of a tier."""
        sizes = tier.baseline
        settings: dict[str, Any] = {
            "algorithm": algorithm,
            "dataset": dataset,
            "hidden_size": sizes.rl_hidden_size,
            "steps": sizes.rl_steps,
            "batch_size": sizes.rl_batch_size,
            "learning_rate": sizes.rl_learning_rate,
            "n_step": sizes.rl_n_step,
            "seed": seed,
        }
        return cls(**(settings | overrides))


@dataclass(frozen=True)
class Transitions:
    """Logged decisions of one tick each, M of them; only ticks at which the advertiser bid.

    Attributes
    ----------
    states, next_states : (M, d) normalised; where ``terminal``, the next state is not read
    actions : (M,) log(alpha / C)
    rewards : (M,) discounted reward of the next ``n_step`` ticks
    terminal : (M,) bool, nothing to bootstrap from after these rewards
    n_step : ticks between a state and its next state
    """

    states: NDArray[np.float32]
    actions: NDArray[np.float32]
    rewards: NDArray[np.float32]
    next_states: NDArray[np.float32]
    terminal: NDArray[np.bool_]
    n_step: int

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
        return cls(encoded(ticks), actions, returns[rows, ticks], encoded(following), terminal, config.n_step)

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
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(integer_seed(self.config.seed, "train", 0))
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
        for module in self.modules.values():
            module.eval()
        with one_thread(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(integer_seed(self.config.seed, "evaluation", key))
            action = self.learner.predict(np.ascontiguousarray(states))[:, 0].astype(np.float64)
        return np.interp(action, (-1, 0, 1), (self.low, self.middle, self.high))

    def save(self, folder: Path) -> None:
        """Write the networks that bid, config, range and state statistics into a new folder."""
        extra = {"low": self.low, "middle": self.middle, "high": self.high, "losses": self.losses.tolist()}
        save_model(folder, self.config, self.encoder, self.modules, **extra)

    @classmethod
    def load(cls, folder: Path, config: OfflineRLConfig | None = None) -> OfflinePolicy:
        """Read what :meth:`save` wrote.

        Raises
        ------
        FileNotFoundError, ValueError
            No policy there; one that was trained with another config.
        """
        found, encoder, stored = load_config(folder, OfflineRLConfig, config, "offline-RL policy")
        policy = cls(found, encoder, stored["low"], stored["middle"], stored["high"])
        load_weights(folder, policy.modules)
        policy.losses = np.asarray(stored["losses"])
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
    if trajectories.dataset != config.dataset:
        raise ValueError(f"the config is for {config.dataset} data, the trajectories are {trajectories.dataset}")
    encoder = StateEncoder.fit(trajectories, config.state_kind)
    data = Transitions.from_trajectories(trajectories, encoder, config)
    low, high = data.actions.min(), data.actions.max()
    margin = 0.1 * (high - low)
    middle = np.clip(np.median(data.actions), low + margin, high - margin)
    policy = OfflinePolicy(config, encoder, float(low), float(middle), float(high))
    actions = policy.scale(data.actions)
    rng = generator(config.seed, "train", 1)
    log_every = max(1, config.steps // 100)
    losses: list[float] = []
    history: list[tuple[int, float]] = []
    with one_thread(), torch.random.fork_rng(devices=[]):
        learner = policy.learner
        torch.manual_seed(integer_seed(config.seed, "train", 2))  # sampled actions and latents
        for step in trange(1, config.steps + 1, desc=config.algorithm, disable=not progress):
            found = learner.update(_batch(data, actions, rng.integers(len(data), size=config.batch_size)))
            losses.append(found["loss" if config.algorithm == "BC" else "critic_loss"])
            if step % log_every == 0 or step == config.steps:
                history.append((step, float(np.mean(losses))))
                losses = []
    policy.losses = np.asarray(history)
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


def current_states(encoder: StateEncoder, observation: Observation, advertisers: Advertisers) -> NDArray[np.float32]:
    """(n, d) normalised features of the tick to bid in."""
    no_target = np.zeros((len(observation), observation.tick + 1))  # these policies ask for no return
    return encoder.encode(windows_of_observation(observation, advertisers, no_target, length=1))[:, 0]


def _learner(config: OfflineRLConfig) -> Any:
    with without_notices():
        from d3rlpy import algos
        from d3rlpy.models.encoders import VectorEncoderFactory
        from d3rlpy.optimizers import AdamFactory
        from d3rlpy.optimizers.lr_schedulers import CosineAnnealingLRFactory

    encoder = VectorEncoderFactory([config.hidden_size, config.hidden_size])
    adam = AdamFactory(lr_scheduler_factory=CosineAnnealingLRFactory(T_max=config.steps) if config.decay else None)
    if config.algorithm == "BC":
        return algos.BCConfig(
            batch_size=config.batch_size,
            learning_rate=config.learning_rate,
            encoder_factory=encoder,
            optim_factory=adam,
        ).create(False)
    shared: dict[str, Any] = {
        "batch_size": config.batch_size,
        "gamma": config.gamma,
        "tau": config.tau,
        "actor_learning_rate": config.learning_rate,
        "critic_learning_rate": config.learning_rate,
        "actor_encoder_factory": encoder,
        "critic_encoder_factory": encoder,
        "actor_optim_factory": adam,
        "critic_optim_factory": adam,
    }
    if config.algorithm == "IQL":
        return algos.IQLConfig(
            expectile=config.expectile, weight_temp=config.temperature, value_encoder_factory=encoder, **shared
        ).create(False)
    if config.algorithm == "CQL":
        return algos.CQLConfig(
            conservative_weight=config.conservative_weight,
            alpha_learning_rate=0.0,  # the weight of the penalty is a setting, not learned
            temp_learning_rate=config.learning_rate,
            n_action_samples=config.action_samples,
            **shared,
        ).create(False)
    return algos.BCQConfig(
        imitator_learning_rate=config.learning_rate,
        imitator_encoder_factory=encoder,
        imitator_optim_factory=adam,
        n_action_samples=config.action_samples,
        action_flexibility=config.flexibility,
        **shared,
    ).create(False)


def _batch(data: Transitions, actions: NDArray[np.float32], chosen: NDArray[np.int64]) -> Any:
    from d3rlpy.dataset import TransitionMiniBatch

    def column(values: NDArray) -> NDArray[np.float32]:
        return values[chosen, None].astype(np.float32)

    return TransitionMiniBatch(
        observations=data.states[chosen],
        actions=column(actions),
        rewards=column(data.rewards),
        next_observations=data.next_states[chosen],
        next_actions=column(actions),  # read by none of the four
        terminals=column(data.terminal),
        intervals=np.full((len(chosen), 1), data.n_step, dtype=np.float32),
        transitions=[],
    )

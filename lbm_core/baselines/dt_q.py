"""DT-Q: a decision transformer and a Q-function (§4.1), in both readings.

:class:`DTQSearchBidder` asks the critic at bidding time, as GAS does: it scores alphas around the transformer's and
bids the best. :func:`finetune_dt` asks it in training, as the paper's text says: the Q-value of the predicted action
enters the loss, and the result bids as any DT.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import trange

from lbm_core.auction.bidder import Advertisers, Observation
from lbm_core.baselines.decision_transformer import DecisionTransformer, DTBidder, one_thread, penalty_to_go
from lbm_core.critic.network import Critic
from lbm_core.data.features import log_alpha_ratio
from lbm_core.data.trajectories import ALPHA_LIMIT, TrajectorySet, sample_ends, windows
from lbm_core.data.windows import Windows, windows_of_observation
from lbm_core.seeding import generator, integer_seed
from lbm_core.tiers import Tier

# Multiples of DT's alpha that the search compares; GAS tries steps of a per cent, whose Q-values hardly differ.
MULTIPLES = (0.90, 0.95, 0.99, 1.0, 1.01, 1.05, 1.10)


class DTQSearchBidder:
    """DT-Q as search in use (GAS): bids the multiple of DT's alpha with the highest Q.

    Parameters
    ----------
    transformer : DecisionTransformer
    critic : Critic of the same data set
    multiples : candidates in units of DT's alpha, each > 0
    target_return : first return-to-go in units of B / C; default the transformer's

    Raises
    ------
    ValueError
        No multiples, or some not positive; models of different data sets.
    """

    def __init__(
        self,
        transformer: DecisionTransformer,
        critic: Critic,
        multiples: Sequence[float] = MULTIPLES,
        target_return: float | None = None,
    ) -> None:
        if len(multiples) == 0 or not all(multiple > 0 for multiple in multiples):
            raise ValueError(f"multiples must be positive numbers, at least one; got {list(multiples)}")
        _check_same_data(transformer, critic)
        self.dt, self.critic = DTBidder(transformer, target_return), critic
        self.multiples = np.asarray(multiples, dtype=np.float64)

    def reset(self, advertisers: Advertisers) -> None:
        """Start a period for n advertisers."""
        self.advertisers = advertisers
        self.dt.reset(advertisers)

    def act(self, observation: Observation) -> NDArray[np.float64]:
        """(n,) alpha, currency per conversion, within the range of the data."""
        proposed = self.dt.act(observation)
        if observation.tick == 0:  # every learned method opens at the CPA target
            return proposed
        config = self.critic.config
        no_target = np.zeros((len(observation), observation.tick + 1))  # Q is not conditioned on a return
        window = windows_of_observation(observation, self.advertisers, no_target, config.window_length)
        candidates = np.clip(proposed[:, None] * self.multiples, 1e-6, ALPHA_LIMIT[config.dataset])
        with one_thread():
            best = self.critic.q(window, candidates).argmax(axis=1)
        return candidates[np.arange(len(observation)), best]


@dataclass(frozen=True)
class DTQConfig:
    """How a trained DT is fine-tuned with Q-values; it names the checkpoint together with DT's and the critic's."""

    # Of mean Q / mean |Q| against the squared error of log(alpha / C). One tick decides about half a per cent of a day,
    # so that a weight of 1 would change nothing.
    q_weight: float = 10.0
    steps: int = 100  # gradient steps
    batch_size: int = 64
    learning_rate: float = 1e-4  # AdamW
    gradient_norm: float = 0.25  # largest norm of the gradient
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} of DT-Q must be at least 1; got {getattr(self, name)}")
        for name in ("learning_rate", "gradient_norm"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} of DT-Q must be positive; got {getattr(self, name)}")
        if not self.q_weight >= 0:
            raise ValueError(f"q_weight must be at least 0; got {self.q_weight}")

    @classmethod
    def from_tier(cls, tier: Tier, seed: int = 0, **overrides: Any) -> DTQConfig:
        """The sizes of a tier."""
        sizes = tier.baseline
        settings: dict[str, Any] = {"steps": sizes.dt_q_steps, "batch_size": sizes.dt_batch_size, "seed": seed}
        return cls(**(settings | overrides))


def finetune_dt(
    config: DTQConfig,
    transformer: DecisionTransformer,
    critic: Critic,
    trajectories: TrajectorySet,
    *,
    progress: bool = True,
) -> DecisionTransformer:
    """DT-Q as fine-tuning: squared error of the logged actions minus the weighted Q of the predicted one.

    Q is taken at the last tick of a window, where the critic knows the whole past; the critic stays as it is.

    Parameters
    ----------
    transformer : trained DT; a copy of it is trained
    critic : trained critic of the same data set

    Returns
    -------
    DecisionTransformer whose ``losses`` are those of the fine-tuning

    Raises
    ------
    ValueError
        Models or trajectories of different data sets.
    """
    _check_same_data(transformer, critic)
    if trajectories.dataset != transformer.config.dataset:
        raise ValueError(f"DT is for {transformer.config.dataset} data, the trajectories are {trajectories.dataset}")
    tuned = DecisionTransformer(transformer.config, transformer.encoder)
    tuned.model.load_state_dict(copy.deepcopy(transformer.model.state_dict()))
    model = tuned.model.train()
    judge = copy.deepcopy(critic).requires_grad_(False).eval()
    rng = generator(config.seed, "train", 3)
    weighted = transformer.config.penalty_weight > 0
    penalties = penalty_to_go(trajectories) if weighted else np.ones_like(trajectories.alphas)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate)
    history: list[tuple[int, float]] = []
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(integer_seed(config.seed, "train", 4))  # dropout
        for step in trange(1, config.steps + 1, desc="DT-Q", disable=not progress):
            rows, ticks = sample_ends(trajectories, config.batch_size, rng)
            window = windows(trajectories, rows, ticks, transformer.config.window_length)
            predicted = tuned.predict(window, penalties[rows[:, None], window.timesteps])
            counted = torch.as_tensor(window.mask & (window.alphas > 0))
            logged = torch.as_tensor(log_alpha_ratio(window.alphas, window.cpa_target))
            imitation = torch.nn.functional.mse_loss(predicted[counted], logged[counted])
            judged = windows(trajectories, rows, ticks, critic.config.window_length)
            loss = imitation - config.q_weight * relative_value(judge, judged, predicted[:, -1])
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.gradient_norm)
            optimizer.step()
            history.append((step, float(loss.detach())))
    tuned.losses = np.asarray(history)
    model.eval()
    return tuned


def relative_value(critic: Critic, window: Windows, actions: Tensor) -> Tensor:
    """Mean Q of bidding ``actions`` (n,) log(alpha / C) at the last tick of n windows, over the mean of |Q|."""
    states, logged, mask = critic.inputs(window)
    q = critic.min_q(states, torch.cat([logged[:, :-1], actions[:, None]], dim=1), mask)
    return q.mean() / q.detach().abs().mean().clamp(min=1e-6)


def _check_same_data(transformer: DecisionTransformer, critic: Critic) -> None:
    if transformer.config.dataset != critic.config.dataset:
        raise ValueError(f"DT is for {transformer.config.dataset} data, the critic for {critic.config.dataset}")

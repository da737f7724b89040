"""DT-Q: a decision transformer and a Q-function (§4.1), in both readings.

:class:`DTQSearchBidder` asks the critic at bidding time, as GAS does: it bids the best of some alphas around the
transformer's. :func:`finetune_dt` asks it in training, as the paper's text says: the Q-value of the predicted action
enters the loss, and the result bids as any DT.
"""

import copy
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm.auto import trange

from lbm_core.auction.bidder import Observation
from lbm_core.baselines.common import averaged
from lbm_core.baselines.config import DTQConfig
from lbm_core.baselines.critic_search import CriticSearch
from lbm_core.baselines.decision_transformer import DecisionTransformer, DTBidder, penalty_to_go
from lbm_core.critic.network import Critic
from lbm_core.data.trajectories import TrajectorySet, sample_ends, windows
from lbm_core.seeding import generator, integer_seed
from lbm_core.training import small_network, sound


class DTQSearchBidder(DTBidder):
    """DT-Q as search in use: bids the multiple of DT's alpha with the highest Q.

    GAS tries multiples that are a per cent apart, whose Q-values hardly differ; ``target`` is the return asked for.
    """

    def __init__(
        self, transformer: DecisionTransformer, critic: Critic, multiples: Sequence[float], target: float | None = None
    ) -> None:
        _check_same_data(transformer, critic)
        super().__init__(transformer, target)
        self.search = CriticSearch(critic, multiples)

    def bid(self, observation: Observation) -> NDArray[np.float64]:
        """(n,) alpha after the first tick, within the range of the data."""
        return self.search.best(observation, self.advertisers, super().bid(observation))[0]


def finetune_dt(
    config: DTQConfig,
    transformer: DecisionTransformer,
    critic: Critic,
    trajectories: TrajectorySet,
    *,
    progress: bool = True,
) -> DecisionTransformer:
    """DT-Q as fine-tuning: squared error of the logged actions minus the weighted Q of the predicted one.

    Q is taken at the last tick of a window, where the critic knows the whole past; the critic stays as it is. A copy of
    the transformer is trained; its ``losses`` are those of the fine-tuning.
    """
    _check_same_data(transformer, critic)
    if trajectories.dataset != transformer.config.dataset:
        raise ValueError(f"DT is for {transformer.config.dataset} data, the trajectories are {trajectories.dataset}")
    tuned, judge = copy.deepcopy(transformer), copy.deepcopy(critic).requires_grad_(False).eval()
    model = tuned.model.train()
    rng, penalties = generator(config.seed, "train", 3), penalty_to_go(trajectories)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate)
    losses = []
    with small_network(integer_seed(config.seed, "train", 4)):  # dropout
        for step in trange(config.steps, desc="DT-Q", disable=not progress):
            rows, ticks = sample_ends(trajectories, config.batch_size, rng)
            imitation, predicted = tuned.imitation(trajectories, rows, ticks, penalties)
            states, logged, mask = judge.inputs(windows(trajectories, rows, ticks, critic.config.window_length))
            q = judge.min_q(states, torch.cat([logged[:, :-1], predicted[:, -1:]], dim=1), mask)
            loss = imitation - config.q_weight * q.mean() / q.detach().abs().mean().clamp(min=1e-6)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.gradient_norm)
            optimizer.step()
            losses.append(sound(loss.item(), "DT-Q", step))
    tuned.losses = averaged(losses)
    model.eval()
    return tuned


def _check_same_data(transformer: DecisionTransformer, critic: Critic) -> None:
    if transformer.config.dataset != critic.config.dataset:
        raise ValueError(f"DT is for {transformer.config.dataset} data, the critic for {critic.config.dataset}")

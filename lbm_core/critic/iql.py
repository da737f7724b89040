"""Implicit Q-learning (Kostrikov et al. 2022) of the critic from logged bids alone (§3.3, Eq. 8-9)."""

import copy
import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm.auto import tqdm

from lbm_core.auction.bidder import N_TICKS
from lbm_core.critic.config import CriticConfig
from lbm_core.critic.network import HISTORY, Critic
from lbm_core.critic.reward import reward_table
from lbm_core.data.trajectories import TrajectorySet, sample_ends, windows
from lbm_core.seeding import generator, integer_seed
from lbm_core.training import Resumable, fingerprint, fitted_encoder, small_network, sound


def expectile_loss(difference: Tensor, expectile: float) -> Tensor:
    """Expectile loss, Eq. 8: mean of |tau - 1(u < 0)| u^2 with u = Q - V.

    With tau > 1/2 a V below Q costs more than one above, so V climbs towards the better of the logged actions without
    ever asking for the value of one that was not logged.
    """
    weight = torch.where(difference < 0, 1 - expectile, expectile)
    return (weight * difference**2).mean()


def value_loss(critic: Critic, target_q: nn.ModuleList, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Eq. 8: V(s_t) towards an upper expectile of Q(s_t, a_t), the target twins' smaller one."""
    with torch.no_grad():
        q = torch.minimum(*(network(*batch, with_last_action=True) for network in target_q))
    return expectile_loss(q - critic.value(*batch, with_last_action=False), critic.config.expectile)


def q_loss(critic: Critic, batch: tuple[Tensor, Tensor, Tensor], returns: Tensor, next_value: Tensor) -> Tensor:
    """Eq. 9: Q(s_t, a_t) towards r_t + gamma V(s_{t+1}); the sum over both twins.

    ``returns`` are the (n,) discounted rewards of the next ``n_step`` ticks, ``next_value`` the discounted V after
    them, 0 once the day is over.
    """
    target = returns + next_value
    errors = [network(*batch, with_last_action=True) - target for network in critic.twin_q]
    return torch.stack(errors).square().mean(dim=1).sum()


def n_step_returns(
    rewards: NDArray[np.float32], last_action: NDArray[np.int64], gamma: float, n_step: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Discounted rewards of ticks t .. t + n - 1, (N, 48), and whether the day is over then, (N, 48) bool.

    Rewards are (N, 48), ``last_action`` (N,) the last ticks with a bid. Where the day is over, nothing is bootstrapped.
    """
    returns = np.zeros(rewards.shape, dtype=np.float64)
    for k in range(min(n_step, rewards.shape[1])):
        returns[:, : rewards.shape[1] - k] += gamma**k * rewards[:, k:]
    over = np.arange(rewards.shape[1]) + n_step > last_action[:, None]
    return returns.astype(np.float32), over


def train_critic(
    config: CriticConfig,
    trajectories: TrajectorySet,
    *,
    checkpoints: Path | None = None,
    checkpoint_every: int = 5_000,
    progress: bool = True,
) -> Critic:
    """Train twin Q and V on logged trajectories: a Critic in ``eval()`` mode, on the GPU if there is one.

    Differs from the authors' release: the last bid of a day is learned (its target is its reward alone), no dropout
    remains when scoring, and ties need no normalisation. With ``n_step`` > 1 a short training reaches back over the
    day, at the price of following the logged policy for longer; paper: 1.

    ``checkpoints`` is the folder of the unfinished training, from which a killed one goes on; None keeps nothing.
    """
    encoder = fitted_encoder(config, trajectories)
    resumable = Resumable(checkpoints, asdict(config) | {"data": fingerprint(trajectories)})
    with small_network(integer_seed(config.seed, "train", 0)):
        critic = Critic(encoder, config)
        critic.to("cuda" if torch.cuda.is_available() else "cpu").train()
        _train(critic, trajectories, resumable, checkpoint_every, progress)
    resumable.clear()
    return critic.eval()


def _train(
    critic: Critic, trajectories: TrajectorySet, resumable: Resumable, checkpoint_every: int, progress: bool
) -> None:
    """Eq. 8 and 9 at every step, on the same transitions."""
    config, device = critic.config, critic.value.embed_place.weight.device
    rewards = reward_table(trajectories, config.reward, config.reward_scale, config.counted)
    returns, over = n_step_returns(rewards, trajectories.last_action, config.gamma, config.n_step)
    target_q = copy.deepcopy(critic.twin_q).requires_grad_(False).eval()
    optimizer = torch.optim.AdamW(
        critic.parameters(), config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    state = dict(critic.state_dict()) | {f"target.{k}": t for k, t in target_q.state_dict().items()}
    critic.history = np.zeros((config.steps, len(HISTORY)), dtype=np.float32)
    done = resumable.resume(state, optimizer)
    start = 0 if done is None else len(done)
    critic.history[:start] = 0 if done is None else done
    bar = tqdm(range(start, config.steps), desc="critic", initial=start, total=config.steps, disable=not progress)
    for step in bar:
        rows, ticks = sample_ends(trajectories, config.batch_size, generator(config.seed, "train", 2, step))
        batch = critic.inputs(windows(trajectories, rows, ticks, config.window_length))
        ends = over[rows, ticks]
        following = np.where(ends, ticks, np.minimum(ticks + config.n_step, N_TICKS - 1))
        with torch.no_grad():
            later = critic.inputs(windows(trajectories, rows, following, config.window_length))
            next_value = config.gamma**config.n_step * critic.value(*later, with_last_action=False)
            next_value = torch.where(torch.as_tensor(ends, device=device), 0.0, next_value)
        left = 0.5 * (1 + math.cos(math.pi * step / config.steps)) if config.decay else 1.0
        for group in optimizer.param_groups:  # set anew at every step, so that a resumed training needs no other state
            group["lr"] = left * config.learning_rate
        v = value_loss(critic, target_q, batch)
        q = q_loss(critic, batch, torch.as_tensor(returns[rows, ticks], device=device), next_value)
        optimizer.zero_grad()
        (v + q).backward()  # one optimizer: neither loss reaches the other's networks
        optimizer.step()
        with torch.no_grad():
            for slow, fast in zip(target_q.parameters(), critic.twin_q.parameters(), strict=True):
                slow.lerp_(fast, config.tau)
        critic.history[step] = sound(q.item(), "the critic", step), v.item()
        if step % 20 == 0:
            bar.set_postfix_str("Q {:.5f} V {:.5f}".format(*critic.history[step]), refresh=False)
        if (step + 1) % checkpoint_every == 0 and step + 1 < config.steps:
            resumable.save(state, optimizer, critic.history[: step + 1])

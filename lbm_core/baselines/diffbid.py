"""DiffBid (KDD 2024) and DiffBid-Q (CBD): the day as a state path out of noise, and the alpha that follows it (§4.1).

A diffusion model completes the 48 states of a day, given those seen and the return wanted; inverse dynamics read from
the present and the next state which alpha leads there. DiffBid-Q learns to complete a clean beginning, draws several
ends and follows the one that a trajectory return model likes best. The noise schedule is diffusers'.
"""

from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR
from tqdm.auto import trange

from lbm_core.auction.bidder import N_TICKS, Observation
from lbm_core.baselines.common import Stored, WantingBidder, averaged, perceptron, untargeted
from lbm_core.baselines.config import DiffBidConfig
from lbm_core.baselines.decision_transformer import penalty_to_go
from lbm_core.baselines.denoiser import PathValue, TemporalUNet
from lbm_core.critic.reward import reward_table
from lbm_core.data.features import StateEncoder, log_alpha_ratio, return_unit
from lbm_core.data.trajectories import ALPHA_LIMIT, TrajectorySet, windows
from lbm_core.seeding import generator, integer_seed
from lbm_core.training import fitted_encoder, small_network, sound

N_CONTEXT = 2  # log C and log(B / C), normalised
N_CONDITION = N_CONTEXT + 3  # and return, share of the CPA target kept, and whether these two are told
TIME_LEFT = 0  # column of the state


class DiffBid(Stored, nn.Module):
    """Denoiser, inverse dynamics and, for DiffBid-Q, the judge of days."""

    kind, label = DiffBidConfig, "DiffBid"
    context_mean: Tensor
    context_std: Tensor

    def __init__(self, config: DiffBidConfig, encoder: StateEncoder) -> None:
        super().__init__()
        self.config, self.encoder = config, encoder
        self.losses = np.empty((0, 3))  # step, loss of the states and of the actions, means since the row before
        d = encoder.dimension
        with small_network(integer_seed(config.seed, "train", 0)):
            self.denoiser = TemporalUNet(d, N_CONDITION, config.channels)
            self.dynamics = perceptron(2 * d + N_CONTEXT, 4 * config.channels, 4 * config.channels, 1)
            self.value = PathValue(d, N_CONTEXT, config.channels) if config.method == "DiffBid-Q" else None
        self.register_buffer("context_mean", torch.zeros(N_CONTEXT))
        self.register_buffer("context_std", torch.ones(N_CONTEXT))

    @cached_property
    def scheduler(self) -> Any:
        """diffusers' noise schedule. Nothing is clipped: normalised states leave [-1, 1]."""
        from diffusers.schedulers.scheduling_ddim import DDIMScheduler

        way: dict[str, Any] = {"prediction_type": "sample", "clip_sample": False, "timestep_spacing": "trailing"}
        return DDIMScheduler(self.config.noise_levels, beta_schedule="squaredcos_cap_v2", **way)

    def context(self, budget: NDArray, cpa_target: NDArray) -> Tensor:
        """(n, 2) normalised log C and log(B / C)."""
        return (raw_context(budget, cpa_target) - self.context_mean) / self.context_std

    def action(self, states: Tensor, following: Tensor, context: Tensor) -> Tensor:
        """(n,) log(alpha / C) that led from one state to the next, by inverse dynamics."""
        return self.dynamics(torch.cat([states, following, context], dim=1))[:, 0]

    def denoising_loss(
        self, paths: Tensor, condition: Tensor, rng: np.random.Generator, randomness: torch.Generator
    ) -> Tensor:
        """Mean squared error of the clean states predicted from noisy ones; for DiffBid-Q after a clean beginning."""
        n = len(paths)
        level = torch.as_tensor(rng.integers(self.config.noise_levels, size=n))
        noisy = self.scheduler.add_noise(paths, torch.randn(paths.shape, generator=randomness), level)
        known = torch.zeros(n, N_TICKS)
        if self.value is not None:
            known = (torch.arange(N_TICKS) < torch.as_tensor(rng.integers(1, N_TICKS, size=n))[:, None]).float()
            noisy = torch.where(known[..., None] > 0, paths, noisy)
        errors = (self.denoiser(noisy, known, level, condition) - paths).square().mean(dim=-1)
        return (errors * (1 - known)).sum() / (1 - known).sum()

    def complete(self, history: Tensor, condition: Tensor, randomness: torch.Generator) -> Tensor:
        """(n, 48, d) whole days, drawn from noise around the (n, t + 1, d) states seen, under :func:`conditioned`."""
        scheduler = self.scheduler
        scheduler.set_timesteps(self.config.sampling_steps)
        n, seen, d = history.shape
        known = torch.zeros(n, N_TICKS)
        if self.value is not None:
            known[:, :seen] = 1
        path = torch.randn(n, N_TICKS, d, generator=randomness)
        unconditional = conditioned(condition[:, :N_CONTEXT])
        for level in scheduler.timesteps:
            past = history
            if self.value is None:  # DiffBid learned from days that are noisy all along
                noise = torch.randn(history.shape, generator=randomness)
                past = scheduler.add_noise(history, noise, level.expand(n))
            path[:, :seen] = past
            clean = self.denoiser(path, known, level.expand(n), condition)
            if self.config.guidance != 1:
                plain = self.denoiser(path, known, level.expand(n), unconditional)
                clean = plain + self.config.guidance * (clean - plain)
            path = scheduler.step(clean, level, path).prev_sample
        path[:, :seen] = history
        return path

    def decide(self, history: NDArray[np.float32], context: Tensor, target_return: float) -> NDArray[np.float64]:
        """(n,) log(alpha / C) at the last tick t < 47 of (n, t + 1, d) normalised states."""
        n, candidates = len(history), 1 if self.value is None else self.config.candidates
        randomness = torch.Generator().manual_seed(integer_seed(self.config.seed, "evaluation", history.shape[1]))
        with small_network(), torch.inference_mode():
            seen = torch.as_tensor(history).repeat_interleave(candidates, dim=0)
            whose = context.repeat_interleave(candidates, dim=0)
            wanted = torch.tensor([[target_return, 1.0]]).expand(len(seen), 2)
            paths = self.complete(seen, conditioned(whose, wanted), randomness)
            if self.value is not None:
                best = self.value(paths, whose).reshape(n, candidates).argmax(dim=1)
                paths = paths.reshape(n, candidates, *paths.shape[1:])[torch.arange(n), best]
            tick = history.shape[1] - 1
            return self.action(paths[:, tick], paths[:, tick + 1], context).double().numpy()

    def networks(self) -> dict[str, nn.Module]:
        return {"diffbid": self}


def conditioned(context: Tensor, wanted: Tensor | None = None) -> Tensor:
    """(n, 5) condition: context, return and kept share of the CPA target, 1; zeros for the last three if untold."""
    told = torch.zeros(len(context), 3) if wanted is None else nn.functional.pad(wanted, (0, 1), value=1.0)
    return torch.cat([context, told], dim=1)


def raw_context(budget: NDArray, cpa_target: NDArray) -> Tensor:
    """(n, 2) log C and log(B / C)."""
    target = np.asarray(cpa_target, dtype=np.float64)
    return torch.as_tensor(np.stack([np.log(target), np.log(budget / target)], axis=1).astype(np.float32))


def state_paths(trajectories: TrajectorySet, encoder: StateEncoder) -> NDArray[np.float32]:
    """(N, 48, d) normalised states; after the end of a day the last one, with the time that is left then."""
    ticks, n = np.arange(N_TICKS), len(trajectories)
    at = np.minimum(ticks, trajectories.length[:, None] - 1).ravel()
    seen = windows(trajectories, np.repeat(np.arange(n), N_TICKS), at, length=1)
    paths = encoder.encode(seen).reshape(n, N_TICKS, encoder.dimension)
    paths[:, :, TIME_LEFT] = ((N_TICKS - ticks) / N_TICKS - encoder.mean[TIME_LEFT]) / encoder.std[TIME_LEFT]
    return paths


def train_diffbid(config: DiffBidConfig, trajectories: TrajectorySet, *, progress: bool = True) -> DiffBid:
    """Train denoiser, inverse dynamics and, for DiffBid-Q, the return model, side by side.

    DiffBid learns to denoise whole days. DiffBid-Q is shown a clean beginning of random length and learns the rest.
    Differs from CBD: the return model chooses among completions in use; the denoiser is not tuned with it.
    """
    model = DiffBid(config, fitted_encoder(config, trajectories)).train()
    raw = raw_context(trajectories.budget, trajectories.cpa_target)
    model.context_mean.copy_(raw.mean(dim=0))
    model.context_std.copy_(raw.std(dim=0, correction=0).clamp(min=1e-3))
    context = model.context(trajectories.budget, trajectories.cpa_target)
    paths = torch.as_tensor(state_paths(trajectories, model.encoder))
    unit = return_unit(trajectories.budget, trajectories.cpa_target, dataset=config.dataset)
    day = np.stack([trajectories.returns_to_go[:, 0] / unit, penalty_to_go(trajectories)[:, 0]], axis=1)
    wanted = torch.as_tensor(day.astype(np.float32))
    worth = torch.as_tensor(reward_table(trajectories, "score_to_go").sum(axis=1))
    actions = torch.as_tensor(log_alpha_ratio(trajectories.alphas, trajectories.cpa_target))
    moves = np.argwhere(trajectories.acting & (np.arange(N_TICKS) + 1 < trajectories.length[:, None]))
    if len(moves) == 0:
        raise ValueError("no bid to learn from that a further state follows")
    rng = generator(config.seed, "train", 1)
    randomness = torch.Generator().manual_seed(integer_seed(config.seed, "train", 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    schedule = CosineAnnealingLR(optimizer, config.steps) if config.decay else None
    history = []
    with small_network():
        for step in trange(config.steps, desc=config.method, disable=not progress):
            rows = torch.as_tensor(rng.integers(len(paths), size=config.batch_size))
            condition = conditioned(context[rows], wanted[rows])
            untold = torch.as_tensor(rng.random(len(rows)) < config.untold)
            condition[untold] = conditioned(context[rows])[untold]
            states = model.denoising_loss(paths[rows], condition, rng, randomness)
            row, tick = torch.as_tensor(moves[rng.integers(len(moves), size=4 * config.batch_size)]).unbind(dim=1)
            read = model.action(paths[row, tick], paths[row, tick + 1], context[row])
            acting = nn.functional.mse_loss(read, actions[row, tick])
            loss = states + acting
            if model.value is not None:
                loss = loss + nn.functional.mse_loss(model.value(paths[rows], context[rows]), worth[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if schedule is not None:
                schedule.step()
            sound(loss.item(), config.method, step)
            history.append((states.item(), acting.item()))
    model.losses = averaged(history)
    return model.eval()


class DiffBidBidder(WantingBidder):
    """Bids towards the day that :class:`DiffBid` draws; keeps its alpha in the last tick."""

    def bid(self, observation: Observation) -> NDArray[np.float64]:
        who, tick, model = self.advertisers, observation.tick, self.model
        if tick == N_TICKS - 1:  # no state follows that inverse dynamics could read
            return observation.alphas[:, -1].copy()
        history = model.encoder.encode(untargeted(observation, who, length=tick + 1))
        ratio = model.decide(history, model.context(who.budget, who.cpa_target), self.target_return)
        return np.clip(who.cpa_target * np.exp(ratio), 0.0, ALPHA_LIMIT[model.config.dataset])

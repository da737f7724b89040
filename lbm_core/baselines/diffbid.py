"""DiffBid (KDD 2024) and DiffBid-Q (CBD): the day as a state path out of noise, and the alpha that follows it (§4.1).

A diffusion model completes the 48 states of a day, given those seen and the return wanted; inverse dynamics read from
the present and the next state which alpha leads there. DiffBid-Q learns to complete a clean beginning, draws several
ends and follows the one that a trajectory return model likes best. The noise schedule is diffusers'.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR
from tqdm.auto import trange

from lbm_core.auction.bidder import N_TICKS, Advertisers, Observation
from lbm_core.baselines.decision_transformer import one_thread, penalty_to_go
from lbm_core.baselines.denoiser import InverseDynamics, PathValue, TemporalUNet
from lbm_core.critic.reward import reward_table
from lbm_core.data.features import N_FEATURES, StateEncoder, StateKind, log_alpha_ratio
from lbm_core.data.returns import return_unit
from lbm_core.data.trajectories import ALPHA_LIMIT, TrajectorySet, windows
from lbm_core.data.windows import windows_of_observation
from lbm_core.seeding import generator, integer_seed
from lbm_core.settings import DATASETS, Dataset
from lbm_core.tiers import Tier
from lbm_core.training import load_config, load_weights, save_model

Method = Literal["DiffBid", "DiffBid-Q"]
METHODS: tuple[Method, ...] = ("DiffBid", "DiffBid-Q")
N_CONTEXT = 2  # log C and log(B / C), normalised
N_CONDITION = N_CONTEXT + 3  # and return, share of the CPA target kept, and whether these two are told
TIME_LEFT = 0  # column of the state


@dataclass(frozen=True)
class DiffBidConfig:
    """Everything that makes a DiffBid or DiffBid-Q; it names the checkpoint."""

    method: Method = "DiffBid"
    dataset: Dataset = "dense"
    # The 16 features: the extended ones hold past alphas, from which inverse dynamics could copy.
    state_kind: StateKind = "paper"
    channels: int = 32  # of the U-Net's first level, a multiple of 8
    steps: int = 500  # gradient steps
    batch_size: int = 64  # advertiser-days
    learning_rate: float = 5e-4  # Adam
    decay: bool = True  # whether it falls to 0 as half a cosine; published: constant
    noise_levels: int = 100  # in training
    sampling_steps: int = 10  # in use (DDIM)
    guidance: float = 1.2  # weight of the condition in use (classifier-free guidance); 1: as learned
    untold: float = 0.2  # share of training days whose return is not told
    target_return: float = 1.1  # return of the day asked for, in units of B / C
    candidates: int = 1  # N of DiffBid-Q: completions to choose from at every tick
    seed: int = 0

    def __post_init__(self) -> None:
        choices: dict[str, Any] = {"method": METHODS, "dataset": DATASETS, "state_kind": tuple(N_FEATURES)}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}; got {getattr(self, name)!r}")
        for name in ("steps", "batch_size", "noise_levels", "sampling_steps", "candidates"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} of {self.method} must be at least 1; got {getattr(self, name)}")
        if self.channels < 8 or self.channels % 8:
            raise ValueError(f"channels of {self.method} must be a multiple of 8; got {self.channels}")
        for name in ("learning_rate", "target_return", "guidance"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} of {self.method} must be positive; got {getattr(self, name)}")
        if not 0 <= self.untold <= 1 or self.sampling_steps > self.noise_levels:
            raise ValueError("untold must lie in [0, 1], and sampling_steps not exceed noise_levels")
        if self.method == "DiffBid" and self.candidates != 1:
            raise ValueError(f"DiffBid has nothing to choose with: candidates must be 1; got {self.candidates}")

    @classmethod
    def from_tier(
        cls, tier: Tier, dataset: Dataset, seed: int = 0, method: Method = "DiffBid", **overrides: Any
    ) -> DiffBidConfig:
        """The sizes of a tier."""
        sizes = tier.baseline
        settings: dict[str, Any] = {
            "method": method,
            "dataset": dataset,
            "channels": sizes.diffusion_channels,
            "steps": sizes.diffusion_steps,
            "batch_size": sizes.diffusion_batch_size,
            "sampling_steps": sizes.diffusion_sampling,
            "seed": seed,
        }
        if method == "DiffBid-Q":  # its completions are chosen from, which guidance would make alike, at twice the time
            settings |= {"candidates": sizes.diffusion_candidates, "guidance": 1.0}
        return cls(**(settings | overrides))


class DiffBid(nn.Module):
    """Denoiser, inverse dynamics and, for DiffBid-Q, the judge of days.

    Attributes
    ----------
    config : DiffBidConfig
    encoder : StateEncoder, fitted on the training trajectories
    losses : (k, 3) gradient step, loss of the states and of the actions, averaged since the row before
    """

    context_mean: Tensor
    context_std: Tensor

    def __init__(self, config: DiffBidConfig, encoder: StateEncoder) -> None:
        super().__init__()
        self.config, self.encoder = config, encoder
        self.losses = np.empty((0, 3))
        d = encoder.dimension
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(integer_seed(config.seed, "train", 0))
            self.denoiser = TemporalUNet(d, N_CONDITION, config.channels)
            self.dynamics = InverseDynamics(d, N_CONTEXT, 4 * config.channels)
            self.value = PathValue(d, N_CONTEXT, config.channels) if config.method == "DiffBid-Q" else None
        self.register_buffer("context_mean", torch.zeros(N_CONTEXT))
        self.register_buffer("context_std", torch.ones(N_CONTEXT))

    def scheduler(self) -> Any:
        """diffusers' noise schedule. Nothing is clipped: normalised states leave [-1, 1]."""
        from diffusers.schedulers.scheduling_ddim import DDIMScheduler

        return DDIMScheduler(
            num_train_timesteps=self.config.noise_levels,
            beta_schedule="squaredcos_cap_v2",
            prediction_type="sample",
            clip_sample=False,
            timestep_spacing="trailing",
        )

    def context(self, budget: NDArray, cpa_target: NDArray) -> Tensor:
        """(n, 2) normalised log C and log(B / C)."""
        return (raw_context(budget, cpa_target) - self.context_mean) / self.context_std

    def complete(self, history: Tensor, condition: Tensor, randomness: torch.Generator) -> Tensor:
        """(n, 48, d) whole days, drawn from noise around what is known.

        Parameters
        ----------
        history : (n, t + 1, d) normalised states seen
        condition : (n, 5), see :func:`conditioned`
        """
        scheduler = self.scheduler()
        scheduler.set_timesteps(self.config.sampling_steps)
        n, seen, d = history.shape
        completing = self.config.method == "DiffBid-Q"
        known = torch.zeros(n, N_TICKS)
        if completing:
            known[:, :seen] = 1
        path = torch.randn(n, N_TICKS, d, generator=randomness)
        unconditional = conditioned(condition[:, :N_CONTEXT])
        for level in scheduler.timesteps:
            past = history
            if not completing:  # DiffBid learned from days that are noisy all along
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
        n, candidates = len(history), self.config.candidates
        randomness = torch.Generator().manual_seed(integer_seed(self.config.seed, "evaluation", history.shape[1]))
        with one_thread(), torch.inference_mode():
            seen = torch.as_tensor(history).repeat_interleave(candidates, dim=0)
            whose = context.repeat_interleave(candidates, dim=0)
            wanted = torch.tensor([[target_return, 1.0]]).expand(len(seen), 2)
            paths = self.complete(seen, conditioned(whose, wanted), randomness)
            if self.value is not None:
                best = self.value(paths, whose).reshape(n, candidates).argmax(dim=1)
                paths = paths.reshape(n, candidates, *paths.shape[1:])[torch.arange(n), best]
            tick = history.shape[1] - 1
            return self.dynamics(paths[:, tick], paths[:, tick + 1], context).double().numpy()

    def save(self, folder: Path) -> None:
        """Write weights, config, state statistics and losses into a new folder."""
        save_model(folder, self.config, self.encoder, {"diffbid": self}, losses=self.losses.tolist())

    @classmethod
    def load(cls, folder: Path, config: DiffBidConfig | None = None) -> DiffBid:
        """Read what :meth:`save` wrote.

        Raises
        ------
        FileNotFoundError, ValueError
            No model there; one that was trained with another config.
        """
        found, encoder, stored = load_config(folder, DiffBidConfig, config, "DiffBid")
        model = cls(found, encoder)
        load_weights(folder, {"diffbid": model})
        model.losses = np.asarray(stored["losses"])
        return model


def conditioned(context: Tensor, wanted: Tensor | None = None) -> Tensor:
    """(n, 5) condition: context, return and kept share of the CPA target, 1; zeros for the last three if untold."""
    told = torch.zeros(len(context), 3)
    if wanted is not None:
        told = torch.cat([wanted, torch.ones(len(context), 1)], dim=1)
    return torch.cat([context, told], dim=1)


def raw_context(budget: NDArray, cpa_target: NDArray) -> Tensor:
    """(n, 2) log C and log(B / C)."""
    target = np.asarray(cpa_target, dtype=np.float64)
    return torch.as_tensor(np.stack([np.log(target), np.log(budget / target)], axis=1).astype(np.float32))


def state_paths(trajectories: TrajectorySet, encoder: StateEncoder) -> NDArray[np.float32]:
    """(N, 48, d) normalised states; after the end of a day the last one, with the time that is left then."""
    ticks = np.arange(N_TICKS)
    rows, at = np.nonzero(ticks < trajectories.length[:, None])
    paths = np.zeros((len(trajectories), N_TICKS, encoder.dimension), dtype=np.float32)
    paths[rows, at] = encoder.encode(windows(trajectories, rows, at, length=1))[:, 0]
    last = np.minimum(ticks, trajectories.length[:, None] - 1)
    paths = np.take_along_axis(paths, last[:, :, None], axis=1)
    left = ((N_TICKS - ticks) / N_TICKS - encoder.mean[TIME_LEFT]) / encoder.std[TIME_LEFT]
    paths[:, :, TIME_LEFT] = left
    return paths


def train_diffbid(config: DiffBidConfig, trajectories: TrajectorySet, *, progress: bool = True) -> DiffBid:
    """Train denoiser, inverse dynamics and, for DiffBid-Q, the return model, side by side.

    DiffBid learns to denoise whole days. DiffBid-Q is shown a clean beginning of random length and learns the rest.
    Differs from CBD: the return model chooses among completions in use; the denoiser is not tuned with it.

    Raises
    ------
    ValueError
        Trajectories of another data set than the config's.
    """
    if trajectories.dataset != config.dataset:
        raise ValueError(f"the config is for {config.dataset} data, the trajectories are {trajectories.dataset}")
    model = DiffBid(config, StateEncoder.fit(trajectories, config.state_kind)).train()
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
    followed = trajectories.acting & (np.arange(N_TICKS) + 1 < trajectories.length[:, None])
    moves = np.argwhere(followed)
    if len(moves) == 0:
        raise ValueError("no bid to learn from that a further state follows")
    scheduler, rng = model.scheduler(), generator(config.seed, "train", 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    schedule = CosineAnnealingLR(optimizer, config.steps) if config.decay else None
    log_every = max(1, config.steps // 100)
    losses: list[tuple[float, float]] = []
    history: list[tuple[float, float, float]] = []
    with one_thread():
        randomness = torch.Generator().manual_seed(integer_seed(config.seed, "train", 2))
        for step in trange(1, config.steps + 1, desc=config.method, disable=not progress):
            rows = torch.as_tensor(rng.integers(len(paths), size=config.batch_size))
            condition = conditioned(context[rows], wanted[rows])
            untold = torch.as_tensor(rng.random(len(rows)) < config.untold)
            condition[untold] = conditioned(context[rows])[untold]
            states = denoising_loss(model, scheduler, paths[rows], condition, rng, randomness)
            chosen = torch.as_tensor(moves[rng.integers(len(moves), size=4 * config.batch_size)])
            row, tick = chosen[:, 0], chosen[:, 1]
            read = model.dynamics(paths[row, tick], paths[row, tick + 1], context[row])
            acting = nn.functional.mse_loss(read, actions[row, tick])
            loss = states + acting
            if model.value is not None:
                loss = loss + nn.functional.mse_loss(model.value(paths[rows], context[rows]), worth[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if schedule is not None:
                schedule.step()
            losses.append((float(states.detach()), float(acting.detach())))
            if step % log_every == 0 or step == config.steps:
                history.append((step, *np.mean(losses, axis=0)))
                losses = []
    model.losses = np.asarray(history)
    return model.eval()


def denoising_loss(
    model: DiffBid,
    scheduler: Any,
    paths: Tensor,
    condition: Tensor,
    rng: np.random.Generator,
    randomness: torch.Generator,
) -> Tensor:
    """Mean squared error of the clean states predicted from noisy ones; for DiffBid-Q after a clean beginning."""
    n = len(paths)
    level = torch.as_tensor(rng.integers(model.config.noise_levels, size=n))
    noisy = scheduler.add_noise(paths, torch.randn(paths.shape, generator=randomness), level)
    known = torch.zeros(n, N_TICKS)
    if model.config.method == "DiffBid-Q":
        known = (torch.arange(N_TICKS) < torch.as_tensor(rng.integers(1, N_TICKS, size=n))[:, None]).float()
        noisy = torch.where(known[..., None] > 0, paths, noisy)
    errors = (model.denoiser(noisy, known, level, condition) - paths).square().mean(dim=-1)
    return (errors * (1 - known)).sum() / (1 - known).sum()


class DiffBidBidder:
    """Bids towards the day that diffusion draws; opens at the CPA target and keeps its alpha in the last tick.

    Parameters
    ----------
    model : DiffBid
    target_return : of the whole day in units of B / C; default the config's
    """

    def __init__(self, model: DiffBid, target_return: float | None = None) -> None:
        self.model = model
        self.target_return = model.config.target_return if target_return is None else target_return
        if not self.target_return > 0:
            raise ValueError(f"target_return must be positive; got {self.target_return}")

    def reset(self, advertisers: Advertisers) -> None:
        """Start a period for n advertisers."""
        self.advertisers = advertisers

    def act(self, observation: Observation) -> NDArray[np.float64]:
        """(n,) alpha, currency per conversion, within the range of the data."""
        who, tick, model = self.advertisers, observation.tick, self.model
        if tick == 0:
            return who.cpa_target.copy()
        if tick == N_TICKS - 1:  # no state follows that inverse dynamics could read
            return observation.alphas[:, -1].copy()
        no_target = np.zeros((len(observation), tick + 1))
        window = windows_of_observation(observation, who, no_target, length=tick + 1)
        ratio = model.decide(
            model.encoder.encode(window), model.context(who.budget, who.cpa_target), self.target_return
        )
        return np.clip(who.cpa_target * np.exp(ratio), 0.0, ALPHA_LIMIT[model.config.dataset])

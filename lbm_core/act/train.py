"""Language-guided decision training of LBM-Act (§3.2, Eq. 5)."""

import math
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import GradientAccumulationPlugin, is_tensorboard_available
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import get_ema_multi_avg_fn
from tqdm.auto import tqdm
from transformers import get_constant_schedule_with_warmup, get_cosine_schedule_with_warmup

from lbm_core.act.backbone import backbone_of
from lbm_core.act.config import GUIDED, ActConfig
from lbm_core.act.dual_embedding import ActBatch, LBMAct
from lbm_core.act.guides import FIRST, SENTENCES, TrainingGuides, anchors, training_sentences
from lbm_core.act.whole_days import CODES, DayNetwork
from lbm_core.auction.bidder import N_TICKS
from lbm_core.data.trajectories import TrajectorySet, sample_ends, windows
from lbm_core.data.windows import Windows
from lbm_core.seeding import generator, integer_seed
from lbm_core.training import Resumable, fingerprint, fitted_encoder, sound, trainable

PROBE_DECISIONS = 4_096  # on which a training measures its loss again and again
PROBES = 10  # how often, besides at the last step; in short trainings less, at every PROBE_STEPS-th step
PROBE_STEPS = 5
LOG_STEPS = 10  # steps between two entries of a log: reading a loss makes the device wait
Told = list[str] | NDArray[np.int64] | None  # a guide per window, or a code per tick of a day


def action_loss(predicted: Tensor, batch: ActBatch, config: ActConfig) -> Tensor:
    """Error of (n, L) predicted log(alpha / C), Eq. 5: squared, or Huber's (``config.loss``).

    ``config.loss_on`` "last" counts the position that the guide speaks of, "all" every position of the window (the
    release); in layout "day" every tick has a guide, and counts.

    Differs from the paper: Eq. 5 is on alpha itself; see :class:`~lbm_core.act.dual_embedding.LBMAct`. Ticks without a
    bid (the ``done`` row of an exhausted advertiser) do not count.
    """
    logged, counted = batch.actions, batch.counted
    if config.loss_on == "last" and config.layout == "window":
        predicted, logged, counted = predicted[:, -1], logged[:, -1], counted[:, -1]
    predicted, logged = predicted.float()[counted], logged[counted]
    if config.loss == "huber":
        return torch.nn.functional.huber_loss(predicted, logged, delta=config.huber_delta)
    return torch.nn.functional.mse_loss(predicted, logged)


def train_act(
    config: ActConfig,
    trajectories: TrajectorySet,
    *,
    checkpoints: Path | None = None,
    checkpoint_every: int = 500,
    guides: TrainingGuides | None = None,
    log_folder: Path | None = None,
    progress: bool = True,
) -> LBMAct:
    """Train LBM-Act, or (``config.guide`` "none" | "task") LLM-DT | Prompt-LLM-DT, on logged trajectories.

    The draws of a step depend on (seed, step) alone, so that a resumed training continues as the uninterrupted one
    would have, and so that under ``accelerate launch`` several processes, each with its share of the step's windows,
    train the model that one would have (up to rounding; with ``loss_on="all"`` up to the shares' numbers of bids).
    Every process then returns that model, in ``eval()`` mode; the main one should save it.

    Parameters
    ----------
    checkpoints : folder of the unfinished training, from which a killed one goes on; None keeps nothing
    checkpoint_every : steps between two checkpoints
    guides : texts, for ``config.guide == "cot"`` and no other
    log_folder : where TensorBoard (``pip install tensorboard``) finds loss, probe loss, learning rate and speed
    """
    encoder = fitted_encoder(config, trajectories)
    _check(config, trajectories, guides)
    accelerator = _accelerator(config, log_folder)
    size, rest = divmod(config.batch_size, accelerator.num_processes * config.accumulation)
    if rest:
        raise ValueError(
            f"a batch of {config.batch_size} cannot be shared evenly by {accelerator.num_processes} processes with "
            f"{config.accumulation} pieces each"
        )
    starts = range(accelerator.process_index * size, config.batch_size, accelerator.num_processes * size)
    cuts = [slice(start, start + size) for start in starts]  # of a step's windows, this process's pieces
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(integer_seed(config.seed, "train", 0))
        model = LBMAct(backbone_of(config), encoder, config).to(accelerator.device).train()
    weights = [p for p in model.parameters() if p.requires_grad]
    groups = [{"params": weights, "initial_lr": config.learning_rate}]
    optimizer = torch.optim.AdamW(groups, config.learning_rate, weight_decay=config.weight_decay, fused=True)
    resumable = Resumable(checkpoints, asdict(config) | {"data": fingerprint(trajectories), "revision": model.revision})
    history = torch.full((config.steps, 2), torch.nan, device=accelerator.device)  # there: reading it would wait for it
    averaged = [weight.detach().clone() for weight in weights] if config.ema else []
    state = trainable(model) | {f"ema.{k}": each for k, each in enumerate(averaged)}
    done = resumable.resume(state, optimizer)
    start = 0 if done is None else len(done)
    history[:start] = torch.nan if done is None else torch.as_tensor(done)
    schedule = learning_rates(config, optimizer, start)
    average = get_ema_multi_avg_fn(config.ema)
    network, optimizer = accelerator.prepare(DayNetwork(model) if config.layout == "day" else model, optimizer)
    plain = accelerator.unwrap_model(network)
    network = torch.compile(network) if config.compile else network

    def draw(size: int, *keys: int) -> tuple[Windows, Told]:
        rng = generator(config.seed, "train", *keys)
        if config.layout == "day":
            return training_days(config, trajectories, size, rng)
        return training_windows(config, trajectories, size, rng, guides)

    def loss_of(network: Any, window: Windows, guide: Told) -> Tensor:
        batch = model.batch(window, guide)
        return action_loss(network(batch), batch, config)

    probe, probe_every = draw(probe_size(config), 3), max(PROBE_STEPS, config.steps // PROBES)
    hidden = not (progress and accelerator.is_main_process)
    bar = tqdm(range(start, config.steps), desc=config.method, initial=start, total=config.steps, disable=hidden)
    logged, then = start - 1, time.perf_counter()
    for step in bar:
        probed = step % probe_every == 0 or step + 1 == config.steps
        if probed:
            with torch.no_grad():
                parts = [_cut(probe, slice(k, k + size)) for k in range(0, len(probe[0]), size)]
                history[step, 1] = torch.stack([loss_of(plain, *part) for part in parts]).mean()
            bar.set_postfix_str(f"loss {history[step, 1]:.4f}", refresh=False)
        drawn = draw(config.batch_size, 1, step)
        losses = []
        for cut in cuts:
            with accelerator.accumulate(network):
                loss = loss_of(network, *_cut(drawn, cut))
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(weights, config.gradient_norm)
                optimizer.step()
                optimizer.zero_grad()
            losses.append(loss.detach())
        if config.ema:
            average(averaged, [weight.detach() for weight in weights], step)
        history[step, 0] = torch.stack(losses).mean()
        if probed or (step + 1) % checkpoint_every == 0:  # not always: the device waits for it
            for at, loss in enumerate(history[: step + 1, 0].tolist()):
                sound(loss, config.method, at)
        if log_folder is not None and (probed or (step + 1) % LOG_STEPS == 0):
            speed = (step - logged) * config.batch_size / (time.perf_counter() - then)
            curves = {"learning_rate": schedule.get_last_lr()[0], "windows_per_second": speed}
            measured = zip(("loss/batch", "loss/probe"), history[step].tolist()[: 1 + probed], strict=False)
            accelerator.log(curves | dict(measured), step)
            logged, then = step, time.perf_counter()
        schedule.step()
        if (step + 1) % checkpoint_every == 0 and step + 1 < config.steps:
            so_far = accelerator.reduce(history[: step + 1], "mean").cpu().numpy()
            if accelerator.is_main_process:
                resumable.save(state, optimizer, so_far)
    for tracker in accelerator.trackers:  # Accelerator.end_training would end the processes' group, too
        tracker.finish()
    accelerator.unwrap_model(network, keep_fp32_wrapper=False)
    with torch.no_grad():
        for weight, mean in zip(weights, averaged, strict=False):
            weight.copy_(mean)
    model.history = accelerator.reduce(history, "mean").cpu().numpy()
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        resumable.clear()
    return model.eval()


def probe_size(config: ActConfig) -> int:
    """Windows or days on which a training measures its loss: 4,096 decisions, or a tenth of what a short one learns."""
    whole = math.ceil(PROBE_DECISIONS / (N_TICKS - 4)) if config.layout == "day" else PROBE_DECISIONS
    return max(min(whole, config.steps * config.batch_size // PROBES), config.batch_size)


def _cut(drawn: tuple[Windows, Told], cut: slice) -> tuple[Windows, Told]:
    window, guide = drawn
    return window[cut], None if guide is None else guide[cut]


def training_days(
    config: ActConfig, trajectories: TrajectorySet, n: int, rng: np.random.Generator
) -> tuple[Windows, NDArray[np.int64] | None]:
    """Whole days to learn from, and the code of each tick's guide; None for LLM-DT and Prompt-LLM-DT."""
    rows = rng.integers(len(trajectories), size=n)
    window = windows(trajectories, rows, trajectories.length[rows] - 1, N_TICKS)
    if config.guide not in GUIDED:
        return window, None
    directions = anchors(window, config.dead_band)
    directions = np.where(rng.random(directions.shape) < config.guide_dropout, 0, directions)
    codes = np.where(directions < 0, CODES.index(SENTENCES[-1]), directions)
    codes[window.timesteps == 0] = CODES.index(FIRST)
    return window, codes


def training_windows(
    config: ActConfig,
    trajectories: TrajectorySet,
    n: int,
    rng: np.random.Generator,
    guides: TrainingGuides | None = None,
) -> tuple[Windows, list[str] | None]:
    """n windows to learn from, and the guide of each; None for LLM-DT and Prompt-LLM-DT.

    The first half of them ends at ``guides.moments`` where there are some.

    Differs from the paper: its authors' release draws a window's *start*, so that short windows occur only at the end
    of a training episode but at the start of an evaluated one; ``config.windows_by == "start"`` does so.
    """
    rows, ticks = sample_ends(trajectories, n, rng)
    if guides is not None and guides.moments is not None:
        chosen = rng.integers(len(guides.moments[0]), size=n // 2)
        rows[: n // 2], ticks[: n // 2] = (values[chosen] for values in guides.moments)
    first = np.zeros_like(ticks)
    if config.windows_by == "start":
        first = ticks
        ticks = np.minimum(ticks + config.window_length - 1, trajectories.last_action[rows])
    window = windows(trajectories, rows, ticks, config.window_length)
    mask = window.mask & (window.timesteps >= first[:, None])
    window = replace(window, mask=mask, returns_to_go=window.returns_to_go * mask, timesteps=window.timesteps * mask)
    if guides is not None:
        return window, guides.texts(rows, ticks)
    if config.guide in GUIDED:
        return window, training_sentences(window, rng, config.guide_dropout, config.dead_band)
    return window, None


def learning_rates(config: ActConfig, optimizer: torch.optim.Optimizer, start: int = 0) -> LambdaLR:
    """Linear warm-up, then constant or half a cosine down to 0; ``start`` is the step from which a training goes on.

    A step ahead of transformers' own count: no step is taken at a rate of 0, neither the first nor the last.
    """
    rising = max(1, round(config.warm_up * config.steps))
    if config.schedule == "constant":
        return get_constant_schedule_with_warmup(optimizer, rising, last_epoch=start)
    return get_cosine_schedule_with_warmup(optimizer, rising, config.steps + 1, last_epoch=start)


def processes() -> PartialState:
    """This process among those that train together; alone unless a launcher said otherwise."""
    return PartialState(cpu=not torch.cuda.is_available())  # without the flag, processes on CPUs do not find each other


def _check(config: ActConfig, trajectories: TrajectorySet, guides: TrainingGuides | None) -> None:
    if (guides is None) == (config.guide == "cot"):
        raise ValueError("guides are given to train_act exactly when the config's guide is 'cot'")
    moments = None if guides is None else guides.moments
    if moments is not None and not (len(moments[0]) and trajectories.acting[moments].all()):
        raise ValueError("moments must name at least one logged tick, and ticks with a bid only")


def _accelerator(config: ActConfig, log_folder: Path | None) -> Accelerator:
    if log_folder is not None and not is_tensorboard_available():
        raise ModuleNotFoundError("TensorBoard logs need its package: pip install tensorboard")
    processes()
    AcceleratorState._reset_state()  # as transformers does: an earlier training may have had another precision
    accelerator = Accelerator(
        mixed_precision="bf16" if config.precision == "bfloat16" else "no",
        # As a plugin, because a number would give way to an environment variable.
        gradient_accumulation_plugin=GradientAccumulationPlugin(config.accumulation, sync_with_dataloader=False),
        log_with=None if log_folder is None else "tensorboard",
        project_dir=log_folder,
    )
    accelerator.init_trackers(config.method)
    return accelerator

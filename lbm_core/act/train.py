"""Language-guided decision training of LBM-Act (§3.2, Eq. 5), and its checkpoints."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import reduce
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from tqdm.auto import tqdm

from lbm_core.act.backbone import Backbone, load_backbone
from lbm_core.act.config import ActConfig
from lbm_core.act.dual_embedding import ActBatch, LBMAct
from lbm_core.act.guides import TrainingGuides
from lbm_core.act.packed import PackedDays, Places
from lbm_core.act.training_log import Log
from lbm_core.training import Resumable, fingerprint, load_into, trainable
from lbm_core.data.features import StateEncoder
from lbm_core.data.trajectories import TrajectorySet
from lbm_core.files import writing
from lbm_core.seeding import generator, integer_seed

PROBE_WINDOWS = 128  # windows on which a training measures its loss again and again
PROBES = 10  # how often, besides at the last step; in short trainings less, at every PROBE_STEPS-th step
PROBE_STEPS = 5
Draw = tuple[Places, NDArray[np.int64] | Sequence[str] | None]  # windows, and what each is told

__all__ = ["ActConfig", "action_loss", "load", "save", "train_act"]


def action_loss(predicted: Tensor, batch: ActBatch, loss_on: str = "last") -> Tensor:
    """Squared error of log(alpha / C), Eq. 5.

    Differs from the paper: Eq. 5 is on alpha itself; see :class:`~lbm_core.act.dual_embedding.LBMAct`. Ticks without a
    bid (the ``done`` row of an exhausted advertiser) do not count.

    Parameters
    ----------
    predicted : (n, L)
    loss_on : "last", the position that the guide speaks of; "all", every position of the window (the release)
    """
    logged, counted = batch.actions, batch.counted
    if loss_on == "last":
        predicted, logged, counted = predicted[:, -1], logged[:, -1], counted[:, -1]
    return torch.nn.functional.mse_loss(predicted.float()[counted], logged[counted])


def train_act(
    config: ActConfig,
    trajectories: TrajectorySet,
    *,
    folder: Path | None = None,
    checkpoint_every: int = 500,
    guides: TrainingGuides | None = None,
    moments: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None,
    device: str | None = None,
    log_folder: Path | None = None,
    progress: bool = True,
) -> LBMAct:
    """Train LBM-Act, or (``config.guide`` "none" | "task") LLM-DT | Prompt-LLM-DT, on logged trajectories.

    The draws of a step depend on (seed, step) alone, so that a resumed training continues as the uninterrupted one
    would have, and so that under ``accelerate launch`` several processes, each with its share of the step's windows,
    train the model that one would have (up to rounding; with ``loss_on="all"`` up to the shares' numbers of bids).

    Parameters
    ----------
    config : ActConfig
    trajectories : logged advertiser-days of ``config.dataset``
    folder : where the finished model is kept; one that is there already is loaded instead of trained again. A killed
        training goes on from its last checkpoint beside it. None keeps nothing.
    checkpoint_every : steps between two checkpoints
    guides : texts of (trajectory, tick) pairs, for ``config.guide == "cot"``
    moments : (m,) trajectories and (m,) ticks, e.g. those that have a text: half of every step's windows end there, and
        half anywhere. Default: all of them end anywhere
    device : torch device; default the GPU if there is one, under ``accelerate launch`` the process's own
    log_folder : where TensorBoard finds loss, probe loss, learning rate and speed; needs ``pip install tensorboard``

    Returns
    -------
    LBMAct in ``eval()`` mode, with its ``losses`` and ``probe_losses``

    Raises
    ------
    ValueError
        Trajectories of another data set, guides missing or not wanted, moments without a bid, a checkpoint of another
        training, a batch that cannot be shared out evenly.
    """
    if trajectories.dataset != config.dataset:
        raise ValueError(f"the config is for {config.dataset} data, the trajectories are {trajectories.dataset}")
    if (guides is None) == (config.guide == "cot"):
        raise ValueError("guides are given to train_act exactly when the config's guide is 'cot'")
    if moments is not None and not (len(moments[0]) and trajectories.acting[moments].all()):
        raise ValueError("moments must name at least one logged tick, and ticks with a bid only")
    crew = processes()
    shares = crew.num_processes * config.accumulation
    if config.batch_size % shares:
        raise ValueError(f"a batch of {config.batch_size} cannot be shared evenly by {shares} (processes x pieces)")
    if crew.num_processes > 1:
        device = str(crew.device)
    if folder is not None and folder.exists():
        return load(folder, config, device=device)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    encoder = StateEncoder.fit(trajectories, config.state_kind)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(integer_seed(config.seed, "train", 0))
        model = LBMAct(backbone_of(config), encoder, config).to(device).train()
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad],
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        fused=True,
    )
    resumable = Resumable(folder, asdict(config) | {"data": fingerprint(trajectories), "revision": model.revision})
    history = torch.full((config.steps, 2), torch.nan, device=device)  # on the device: reading it would wait for it
    done = resumable.resume(trainable(model), optimizer)
    start = 0 if done is None else len(done)
    if done is not None:
        history[:start] = torch.as_tensor(done)
    days = PackedDays(trajectories, model)
    team: Any = model
    if crew.num_processes > 1:
        team = DistributedDataParallel(model, device_ids=[device] if "cuda" in device else None)
    network = torch.compile(team) if config.compile else team

    def draw(size: int, *keys: int) -> Draw:
        places, codes = days.draw(size, generator(config.seed, "train", *keys), moments)
        return places, codes if guides is None else guides(*places[:2])

    def loss_of(network: Any, drawn: Draw) -> Tensor:
        batch = days.batch(*drawn)
        with torch.autocast(device.split(":")[0], torch.bfloat16, enabled=config.precision == "bfloat16"):
            predicted = network(batch)
        return action_loss(predicted, batch, config.loss_on)

    probe, probe_every = draw(PROBE_WINDOWS, 3), max(PROBE_STEPS, config.steps // PROBES)
    log = Log(log_folder if crew.is_main_process else None)
    hidden = not progress or not crew.is_main_process
    bar = tqdm(range(start, config.steps), desc=config.method, initial=start, total=config.steps, disable=hidden)
    for step in bar:
        probed = step % probe_every == 0 or step + 1 == config.steps
        if probed:
            with torch.no_grad():
                history[step, 1] = loss_of(model, probe)
            bar.set_postfix_str(f"loss {history[step, 1]:.4f}", refresh=False)
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * learning_rate_factor(step, config)
        optimizer.zero_grad()
        losses = []
        own = _pieces(draw(config.batch_size, 1, step), shares)[crew.process_index :: crew.num_processes]
        for piece in own:
            waits = crew.num_processes > 1 and piece is not own[-1]  # gradients travel once a step
            with team.no_sync() if waits else nullcontext():
                loss = loss_of(network, piece)
                (loss / len(own)).backward()
            losses.append(loss.detach())
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.gradient_norm)
        optimizer.step()
        history[step, 0] = torch.stack(losses).mean()
        log.step(step, history[step], optimizer.param_groups[0]["lr"], config.batch_size, probed=probed)
        if (step + 1) % checkpoint_every == 0 and step + 1 < config.steps:
            so_far = reduce(history[: step + 1], "mean").cpu().numpy()
            if crew.is_main_process:
                resumable.save(trainable(model), optimizer, so_far)
    log.close()
    model.history = reduce(history, "mean").cpu().numpy()
    model.eval()
    if folder is not None and crew.is_main_process:
        save(model, folder)
        resumable.clear()
    crew.wait_for_everyone()
    return model


def processes() -> PartialState:
    """This process among those that train together; alone unless a launcher said otherwise."""
    return PartialState(cpu=not torch.cuda.is_available())  # without the flag, processes on CPUs do not find each other


def _pieces(drawn: Draw, n: int) -> list[Draw]:
    """n equal parts of a draw."""
    (rows, ticks, first), told = drawn
    size = len(rows) // n
    cuts = [slice(k * size, (k + 1) * size) for k in range(n)]
    return [((rows[cut], ticks[cut], first[cut]), None if told is None else told[cut]) for cut in cuts]


def learning_rate_factor(step: int, config: ActConfig) -> float:
    """Share of the learning rate used at a step: linear warm-up, then constant or half a cosine down to 0."""
    rising = max(1, round(config.warm_up * config.steps))
    if step < rising:
        return (step + 1) / rising
    if config.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, config.steps - rising)))


def backbone_of(config: ActConfig) -> Backbone:
    """The language model that a config starts from."""
    random_seed = integer_seed(config.seed, "train", 4) if config.initialise == "random" else None
    return load_backbone(config.backbone, layers=config.layers, random_seed=random_seed)


def save(model: LBMAct, folder: Path) -> None:
    """Write a finished model: trained tensors, config, state statistics, losses. Frozen token embeddings stay out."""
    with writing(Path(folder)) as temporary:
        save_file(trainable(model), temporary / "model.safetensors")
        np.save(temporary / "history.npy", model.history)
        stored = {"config": asdict(model.config), "encoder": model.encoder.to_dict(), "revision": model.revision}
        (temporary / "config.json").write_text(json.dumps(stored, indent=1))


def load(folder: Path, config: ActConfig | None = None, *, device: str | None = None) -> LBMAct:
    """Read what :func:`save` wrote; the frozen token embedding comes from the backbone.

    Raises
    ------
    FileNotFoundError
        No model there.
    ValueError
        It was trained with another config than the one asked for, or on another revision of the backbone.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"no LBM-Act in {folder}: train one first (train_act)")
    stored = json.loads((folder / "config.json").read_text())
    found = ActConfig(**stored["config"])
    if config is not None and found != config:
        differs = [k for k, v in asdict(config).items() if asdict(found)[k] != v]
        raise ValueError(f"the LBM-Act in {folder} was trained with another {', '.join(differs)}")
    backbone = backbone_of(found)
    if backbone.revision != stored["revision"]:
        raise ValueError(f"the LBM-Act in {folder} was trained on {stored['revision']}, not on {backbone.revision}")
    model = LBMAct(backbone, StateEncoder.from_dict(stored["encoder"]), found)
    load_into(trainable(model), folder / "model.safetensors")
    model.history = np.load(folder / "history.npy", allow_pickle=False)
    return model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()

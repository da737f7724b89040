"""Language-guided decision training of LBM-Act (§3.2, Eq. 5), and its checkpoints."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from tqdm.auto import tqdm

from lbm_core.act.backbone import load_backbone
from lbm_core.act.config import ActConfig
from lbm_core.act.dual_embedding import LBMAct
from lbm_core.act.guides import TrainingGuides, training_sentences
from lbm_core.artifacts import writing
from lbm_core.checkpoint import Resumable, fingerprint, load_into, trainable
from lbm_core.data.features import StateEncoder, log_alpha_ratio
from lbm_core.data.trajectories import TrajectorySet, sample_ends, windows
from lbm_core.data.windows import Windows
from lbm_core.seeding import generator, integer_seed

PROBE_WINDOWS = 128  # windows on which a training measures its loss again and again
PROBES = 10  # how often, besides at the last step

__all__ = ["ActConfig", "action_loss", "load", "save", "train_act"]


def action_loss(predicted: Tensor, window: Windows, loss_on: str = "last") -> Tensor:
    """Squared error of log(alpha / C), Eq. 5.

    Differs from the paper: Eq. 5 is on alpha itself; see :class:`~lbm_core.act.dual_embedding.LBMAct`. Ticks without a
    bid (the ``done`` row of an exhausted advertiser) do not count.

    Parameters
    ----------
    predicted : (n, L)
    loss_on : "last", the position that the guide speaks of; "all", every position of the window (the release)
    """
    counted = torch.as_tensor(window.mask & (window.alphas > 0), device=predicted.device)
    logged = torch.as_tensor(log_alpha_ratio(window.alphas, window.cpa_target), device=predicted.device)
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
    device: str | None = None,
    progress: bool = True,
) -> LBMAct:
    """Train LBM-Act, or (``config.guide`` "none" | "task") LLM-DT | Prompt-LLM-DT, on logged trajectories.

    Windows are drawn by their end tick. The draws of a step depend on (seed, step) alone, so that a resumed training
    continues as the uninterrupted one would have.

    Parameters
    ----------
    config : ActConfig
    trajectories : logged advertiser-days of ``config.dataset``
    folder : where the finished model is kept; one that is there already is loaded instead of trained again. A killed
        training goes on from its last checkpoint beside it. None keeps nothing.
    checkpoint_every : steps between two checkpoints
    guides : texts of (trajectory, tick) pairs, for ``config.guide == "cot"``
    device : torch device; default the GPU if there is one

    Returns
    -------
    LBMAct in ``eval()`` mode, with its ``losses`` and ``probe_losses``

    Raises
    ------
    ValueError
        Trajectories of another data set, guides missing or not wanted, a checkpoint of another training.
    """
    if trajectories.dataset != config.dataset:
        raise ValueError(f"the config is for {config.dataset} data, the trajectories are {trajectories.dataset}")
    if (guides is None) == (config.guide == "cot"):
        raise ValueError("guides are given to train_act exactly when the config's guide is 'cot'")
    if folder is not None and folder.exists():
        return load(folder, config, device=device)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    encoder = StateEncoder.fit(trajectories, config.state_kind)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(integer_seed(config.seed, "train", 0))
        model = LBMAct(load_backbone(config.backbone, layers=config.layers), encoder, config).to(device).train()
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad],
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        fused=True,
    )
    resumable = Resumable(folder, asdict(config) | {"data": fingerprint(trajectories), "revision": model.revision})
    history = np.full((config.steps, 2), np.nan, dtype=np.float32)
    done = resumable.resume(trainable(model), optimizer)
    start = 0 if done is None else len(done)
    if done is not None:
        history[:start] = done

    def draw(size: int, *keys: int) -> tuple[Windows, list[str] | None]:
        rng = generator(config.seed, "train", *keys)
        rows, ticks = sample_ends(trajectories, size, rng)
        window = windows(trajectories, rows, ticks, config.window_length)
        if config.guide == "sentence":
            return window, training_sentences(window, rng, config.guide_dropout, config.dead_band)
        return window, None if guides is None else guides(rows, ticks)

    def loss_of(window: Windows, texts: list[str] | None) -> Tensor:
        with torch.autocast(device.split(":")[0], torch.bfloat16, enabled=config.precision == "bfloat16"):
            predicted = model(model.batch(window, texts))
        return action_loss(predicted, window, config.loss_on)

    probe, probe_every = draw(PROBE_WINDOWS, 3), max(1, config.steps // PROBES)
    bar = tqdm(range(start, config.steps), desc=config.method, initial=start, total=config.steps, disable=not progress)
    for step in bar:
        if step % probe_every == 0 or step + 1 == config.steps:
            with torch.no_grad():
                history[step, 1] = loss_of(*probe)
            bar.set_postfix_str(f"loss {history[step, 1]:.4f}", refresh=False)
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * learning_rate_factor(step, config)
        loss = loss_of(*draw(config.batch_size, 1, step))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.gradient_norm)
        optimizer.step()
        history[step, 0] = loss.detach()
        if (step + 1) % checkpoint_every == 0 and step + 1 < config.steps:
            resumable.save(trainable(model), optimizer, history[: step + 1])
    model.history = history
    model.eval()
    if folder is not None:
        save(model, folder)
        resumable.clear()
    return model


def learning_rate_factor(step: int, config: ActConfig) -> float:
    """Share of the learning rate used at a step: linear warm-up, then constant or half a cosine down to 0."""
    rising = max(1, round(config.warm_up * config.steps))
    if step < rising:
        return (step + 1) / rising
    if config.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, config.steps - rising)))


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
    backbone = load_backbone(found.backbone, layers=found.layers)
    if backbone.revision != stored["revision"]:
        raise ValueError(f"the LBM-Act in {folder} was trained on {stored['revision']}, not on {backbone.revision}")
    model = LBMAct(backbone, StateEncoder.from_dict(stored["encoder"]), found)
    load_into(trainable(model), folder / "model.safetensors")
    model.history = np.load(folder / "history.npy", allow_pickle=False)
    return model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()

"""Training LBM-Act: a straightforward loop against the package's, in one run on one machine.

    python benchmarks/act_training.py                # about ten minutes; writes results/benchmark_act_training.csv
    python benchmarks/act_training.py --steps 2 --layers 1 --batch 4 --no-compile --output DIR     # does it run?

Both train the same network (same backbone, layers, optimiser, batch size) on the same trajectories:

- "plain": what one writes first. A data set of one dict per window, cut and encoded one by one behind a DataLoader;
  the guide tokenised at every step; float32; no attention mask; AdamW as it comes.
- "ours": ``train_act``'s parts. A step's windows cut and encoded together, guides tokenised once, bfloat16 autocast,
  fused AdamW, and the attention mask, which costs time that the plain loop saves.
- the same in float32, and both with torch.compile, to see what each is worth on this machine: bfloat16 pays only where
  the processor multiplies it faster (compare ``peak_flops``), compiling only in trainings much longer than its warm-up.
  Neither is the configuration's default.

The ways take turns, step by step. Columns: windows per second and CPU seconds (medians over steps after warm-up),
speedup over "plain", seconds of the warm-up (with compiling), flops_per_step (2 per weight and position forward, twice
that backward, plus attention; weights that are looked up do not count), peak_flops (the best of several 2048-wide
matrix products in the row's precision on this machine with the same threads: what this machine reaches, no data
sheet's number), and flop_utilisation, achieved over peak. Nothing asserts a time.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader, Dataset

from lbm_core.act.backbone import backbone_of
from lbm_core.act.config import ActConfig
from lbm_core.act.dual_embedding import ITEMS, ActBatch, LBMAct
from lbm_core.act.guides import anchor_directions, sentences
from lbm_core.act.train import action_loss, training_windows
from lbm_core.data.features import StateEncoder, log_alpha_ratio
from lbm_core.data.trajectories import TrajectorySet, windows
from lbm_core.lab.lab import Lab
from lbm_core.report import results
from lbm_core.seeding import generator

WARM_UP = 2  # steps before the clock starts


class PlainWindows(Dataset):
    """One dict per window, made when asked for."""

    def __init__(self, days: TrajectorySet, encoder: StateEncoder, length: int) -> None:
        self.days, self.encoder, self.length = days, encoder, length
        self.places = [(row, tick) for row in range(len(days)) for tick in range(48) if days.acting[row, tick]]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, k: int) -> dict:
        row, tick = self.places[k]
        window = windows(self.days, [row], [tick], self.length)
        unit = window.budget[0] / window.cpa_target[0]
        return {
            "returns_to_go": window.returns_to_go[0] / unit,
            "states": self.encoder.encode(window)[0],
            "actions": log_alpha_ratio(window.alphas, window.cpa_target)[0] * window.mask[0],
            "previous_actions": log_alpha_ratio(window.previous_alphas[:, :, 0], window.cpa_target)[0] * window.mask[0],
            "timesteps": window.timesteps[0],
            "mask": window.mask[0],
            "counted": window.mask[0] & (window.alphas[0] > 0),
            "guide": sentences(anchor_directions(window))[0],
        }


def plain_steps(model: LBMAct, days: TrajectorySet, config: ActConfig) -> Iterator[None]:
    """Endless training steps, each as it would first be written."""
    model.tokenizer.padding_side = "left"
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=config.learning_rate)
    data = PlainWindows(days, model.encoder, config.window_length)
    while True:
        for item in DataLoader(data, batch_size=config.batch_size, shuffle=True, drop_last=True):
            words = model.tokenizer(item.pop("guide"), return_tensors="pt", padding=True, add_special_tokens=False)
            batch = ActBatch(**{k: v.to(config_device()) for k, v in item.items()})
            batch = replace(batch, guide_ids=words["input_ids"].to(config_device()))
            z = torch.cat([model.token_embedding(batch.guide_ids), _numbers(model, batch)], dim=1)
            hidden = model.transformer(inputs_embeds=z, use_cache=False).last_hidden_state
            loss = action_loss(model.actions(hidden[:, batch.guide_ids.shape[1] :], batch), batch, config)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.gradient_norm)
            optimizer.step()
            loss.item()
            yield


def _numbers(model: LBMAct, batch: ActBatch) -> torch.Tensor:
    return model.embed(replace(batch, guide_ids=None))[0]


def our_steps(model: LBMAct, days: TrajectorySet, config: ActConfig) -> Iterator[None]:
    """Endless training steps as :func:`lbm_core.act.train.train_act` makes them."""
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=config.learning_rate, fused=True)
    network, step = torch.compile(model) if config.compile else model, 0
    while True:
        rng = generator(config.seed, "train", 1, step)
        batch = model.batch(*training_windows(config, days, config.batch_size, rng))
        enabled = config.precision == "bfloat16"
        with torch.autocast(config_device(), torch.bfloat16, enabled=enabled):
            predicted = network(batch)
        loss = action_loss(predicted, batch, config)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, config.gradient_norm)
        optimizer.step()
        loss.item()
        step += 1
        yield


def config_device() -> str:
    """The GPU if there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def step_flops(model: LBMAct, words: int) -> float:
    """Floating-point operations of a training step's matrix products, forward and backward."""
    config, shape = model.config, model.transformer.config
    places = words + len(ITEMS) * config.window_length - 1

    def weights(module: torch.nn.Module) -> int:
        return sum(p.numel() for p in module.parameters() if p.dim() == 2)

    layers = weights(model.transformer.layers)
    attention = 2 * shape.num_hidden_layers * places * shape.num_attention_heads * _head_size(shape)  # QK' and its use
    per_window = places * (layers + attention)
    for part in (model.embed_return, model.embed_state, model.embed_action, model.head):
        per_window += config.window_length * weights(part)
    return 3.0 * 2.0 * per_window * config.batch_size


def _head_size(shape) -> int:
    return getattr(shape, "head_dim", None) or shape.hidden_size // shape.num_attention_heads


def peak_flops(precision: str, width: int = 2048, repetitions: int = 6) -> float:
    """Best rate of square matrix products in a precision, operations per second."""
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    one, other = (torch.randn(width, width, device=config_device(), dtype=dtype) for _ in range(2))
    best = np.inf
    for _ in range(repetitions):
        began = time.perf_counter()
        (one @ other)[0, 0].item()
        best = min(best, time.perf_counter() - began)
    return 2 * width**3 / best


Way = tuple[Callable[[LBMAct, TrajectorySet, ActConfig], Iterator[None]], ActConfig]


def measure(ways: dict[str, Way], days: TrajectorySet, steps: int) -> list[dict[str, float | str]]:
    """Speed of several ways to train, which take turns step by step: a busy moment hits all of them."""
    running, models, rows = {}, {}, []
    for name, (steps_of, config) in ways.items():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = LBMAct(backbone_of(config), StateEncoder.fit(days, config.state_kind), config)
        models[name] = model.to(config_device()).train()
        running[name] = steps_of(model, days, config)
    warm_up = {name: timed(running[name], WARM_UP) for name in ways}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(steps):
        for name in ways:
            times[name].append(timed(running[name]))
    for name, (_, config) in ways.items():
        model, (wall, cpu) = models[name], np.median(times[name], axis=0)
        flops, peak = step_flops(model, words=model.tokenize(sentences([1]))[0].shape[1]), peak_flops(config.precision)
        first = rows[0]["seconds_per_step"] if rows else wall
        rows.append(
            {
                "way": name,
                "speedup": first / wall,
                "windows_per_second": config.batch_size / wall,
                "seconds_per_step": wall,
                "cpu_seconds_per_step": cpu,
                "slowest_step": max(times[name])[0],
                "warm_up_seconds": warm_up[name][0],
                "flops_per_step": flops,
                "peak_flops": peak,
                "flop_utilisation": flops / wall / peak,
                "layers": config.layers,
                "batch_size": config.batch_size,
                "precision": config.precision,
            }
        )
    return rows


def timed(running: Iterator[None], steps: int = 1) -> tuple[float, float]:
    """Wall and CPU seconds of some training steps."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(steps):
        next(running)
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed of training LBM-Act.")
    parser.add_argument("--backbone", default="smollm2-135m")
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20, help="timed steps of each way")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--output", default="", help="folder in the place of the checkout's results/")
    arguments = parser.parse_args()
    days = Lab.of("smoke", "dense").trajectories()
    base = ActConfig(
        backbone=arguments.backbone, layers=arguments.layers, batch_size=arguments.batch, learning_rate=1e-4
    )
    ways: dict[str, Way] = {
        "plain": (plain_steps, replace(base, attention_mask=False)),
        "ours, float32": (our_steps, base),
        "ours": (our_steps, replace(base, precision="bfloat16")),
    }
    if not arguments.no_compile:
        ways["ours, float32, compiled"] = (our_steps, replace(base, compile=True))
        ways["ours, compiled"] = (our_steps, replace(base, precision="bfloat16", compile=True))
    frame = pd.DataFrame(measure(ways, days, arguments.steps))
    frame = frame.assign(threads=torch.get_num_threads(), timed_steps=arguments.steps)
    print(frame.to_string(index=False, float_format="{:.4g}".format))
    results.record(
        "benchmark_act_training",
        frame,
        tier="laptop",
        dataset="dense",
        backbone=arguments.backbone,
        output=arguments.output,
    )


if __name__ == "__main__":
    main()

"""Training LBM-Act: decisions learned per second in the authors' release's way and in ours, in one run on one machine.

    python benchmarks/act_training.py                # about two minutes; writes results/benchmark_act_training.csv
    python benchmarks/act_training.py --steps 2 --layers 1 --output DIR                            # does it run?

All ways train a network of the same backbone and layers on the same trajectories, with the steps of ``train_act``
(windows cut and encoded together, guides tokenised once, fused AdamW):

- "release": the options closest to the authors' release. 32 windows of ten ticks, drawn by their start, pads not
  hidden, squared error of alpha's level at all positions, float32. Its own loop, which cuts windows one by one behind
  a DataLoader, is not measured: slower data would only flatter the others.
- "windows": as many windows of ours, which end at the tick drawn, masked, Huber's loss of the last position, bfloat16.
- "days": tier laptop's eight whole days, a fork per tick, bfloat16; "days, float32" tells what of it is the layout's.

A label is a decision that a step learns under the guide that speaks of it: the last position of a window, every tick
with a bid of a day. The release's loss counts the other positions, too (``positions_per_second``), which their guide
does not speak of. Labels of one day resemble each other more than those of as many days: labels per second are the
speed of reading, no speed of learning.

The ways and the largest matrix products take turns, so that a busy moment hits all of them. Medians of wall seconds,
and beside them of processor seconds of this process, which other programs disturb less. ``speedup`` is labels per
second over "release". ``flops_per_step``: 6 per weight and position that passes it, 12 per layer, width and pair of
positions of which one may read the other; tokens that are looked up cost nothing. ``peak_flops``: the best rate of a
2048-wide matrix product in the row's precision with the same threads, in wall seconds (what this machine reaches in
this run, no data sheet's number); ``flop_utilisation``: achieved over peak, both in wall or both in processor seconds
(the second means nothing on a GPU). Nothing asserts a time.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from lbm_core.act.backbone import backbone_of
from lbm_core.act.config import ActConfig
from lbm_core.act.dual_embedding import ITEMS, ActBatch, LBMAct
from lbm_core.act.guides import UNCERTAIN
from lbm_core.act.train import action_loss, training_days, training_windows
from lbm_core.act.whole_days import DayLayout, DayNetwork
from lbm_core.auction.bidder import N_TICKS
from lbm_core.data.features import StateEncoder
from lbm_core.data.trajectories import TrajectorySet
from lbm_core.lab.lab import Lab
from lbm_core.lab.tiers import tier
from lbm_core.report import results
from lbm_core.seeding import generator

WARM_UP = 2  # rounds before the clock counts
BASELINE = "release"
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


class Turn(NamedTuple):
    """One call of one way."""

    wall: float  # seconds
    cpu: float  # seconds of this process's threads
    result: Any


def turns(ways: dict[Any, Callable[[], Any]], rounds: int) -> dict[Any, list[Turn]]:
    """The calls of several ways, which take turns, after :data:`WARM_UP` rounds that are not kept."""
    taken: dict[Any, list[Turn]] = {name: [] for name in ways}
    for _ in range(WARM_UP + rounds):
        for name, way in ways.items():
            wall, cpu = time.perf_counter(), time.process_time()
            result = way()
            taken[name].append(Turn(time.perf_counter() - wall, time.process_time() - cpu, result))
    return {name: each[WARM_UP:] for name, each in taken.items()}


def untrained(config: ActConfig, days: TrajectorySet) -> LBMAct:
    """An LBM-Act that has not learned yet."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LBMAct(backbone_of(config), StateEncoder.fit(days, config.state_kind), config).to(DEVICE)


def configurations(backbone: str, layers: int | None = None) -> dict[str, ActConfig]:
    """The ways to train; ``layers`` by default those of tier laptop."""
    laptop = tier("laptop").act
    ours = replace(laptop, backbone=backbone, layers=layers or laptop.layers)
    release = ActConfig(
        backbone=backbone,
        layers=ours.layers,
        layout="window",
        windows_by="start",
        attention_mask=False,
        state_kind="paper",
        return_scale="dataset",
        predicts="level",
        loss="squared",
        loss_on="all",
        batch_size=32,
        schedule="cosine",
    )
    return {
        BASELINE: release,
        "windows": replace(ours, layout="window", batch_size=release.batch_size),
        "days": ours,
        "days, float32": replace(ours, precision="float32"),
    }


def training_steps(model: LBMAct, days: TrajectorySet, config: ActConfig, compiled: bool = False) -> Iterator[ActBatch]:
    """Endless training steps as :func:`lbm_core.act.train.train_act` makes them; what each has learned from."""
    whole = config.layout == "day"
    network, draw = (DayNetwork(model), training_days) if whole else (model, training_windows)
    if compiled:
        network = torch.compile(network)
    trained = [p for p in model.train().parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, config.learning_rate, weight_decay=config.weight_decay, fused=True)
    for step in itertools.count():
        batch = model.batch(*draw(config, days, config.batch_size, generator(config.seed, "train", 1, step)))
        with torch.autocast(DEVICE, torch.bfloat16, enabled=config.precision == "bfloat16"):
            predicted = network(batch)
        loss = action_loss(predicted, batch, config)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, config.gradient_norm)
        optimizer.step()
        loss.item()
        yield batch


def learned(batch: ActBatch, config: ActConfig) -> tuple[int, int]:
    """Labels of a step, and positions that its loss counts."""
    every, last = int(batch.counted.sum()), int(batch.counted[:, -1].sum())
    if config.layout == "day":
        return every, every
    return last, every if config.loss_on == "all" else last


def step_size(model: LBMAct) -> tuple[int, float]:
    """Positions that a training step reads, and floating-point operations of its matrix products, both directions."""
    config, shape = model.config, model.transformer.config
    if config.layout == "day":
        layout = DayLayout(model)
        tokens, ticks = len(layout.kind), N_TICKS
        pairs = int(layout.sees.sum()) + 2 * ticks * layout.guide_ids.shape[1]  # forks read the words of their guide
    else:
        ticks = config.window_length
        tokens = model.tokenize([UNCERTAIN])[0].shape[1] + len(ITEMS) * ticks - 1
        pairs = tokens * (tokens + 1) // 2

    def weights(*modules: torch.nn.Module) -> int:
        return sum(p.numel() for module in modules for p in module.parameters() if p.dim() == 2)

    passed = tokens * weights(model.transformer.layers)
    passed += ticks * weights(model.embed_return, model.embed_state, model.embed_action, model.head)
    head_size = getattr(shape, "head_dim", None) or shape.hidden_size // shape.num_attention_heads
    attention = shape.num_hidden_layers * shape.num_attention_heads * head_size * pairs
    return config.batch_size * tokens, config.batch_size * (6.0 * passed + 12.0 * attention)


def product(precision: str, width: int) -> Callable[[], float]:
    """A square matrix product in a precision; reading one of its values waits for it."""
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    one, other = (torch.randn(width, width, device=DEVICE, dtype=dtype) for _ in range(2))
    return lambda: (one @ other)[0, 0].item()


def measure(
    configs: dict[str, ActConfig], days: TrajectorySet, steps: int, width: int = 2048, compiled: Sequence[str] = ()
) -> pd.DataFrame:
    """A row per way to train, some of them ``compiled``; ``width``: of the products that tell the machine's peak."""
    models = {name: untrained(config, days) for name, config in configs.items()}
    ways: dict[Any, Callable[[], Any]] = {}
    for name, config in configs.items():
        ways[name] = training_steps(models[name], days, config, name in compiled).__next__
    precisions = sorted({config.precision for config in configs.values()})
    peaks = {(precision, k): product(precision, width) for precision in precisions for k in range(2)}  # two per round
    taken = turns({**ways, **peaks}, steps)
    rows = []
    for name, config in configs.items():
        wall, cpu = (np.median([turn[k] for turn in taken[name]]) for k in range(2))
        labels, positions = np.mean([learned(turn.result, config) for turn in taken[name]], axis=0)
        tokens, flops = step_size(models[name])
        best = [min(t[k] for key in peaks if key[0] == config.precision for t in taken[key]) for k in range(2)]
        rows.append(
            {
                "way": name,
                "labels_per_second": labels / wall,
                "speedup": labels / wall,
                "speedup_of_cpu": labels / cpu,
                "positions_per_second": positions / wall,
                "labels_per_step": labels,
                "positions_per_step": positions,
                "tokens_per_step": tokens,
                "tokens_per_label": tokens / labels,
                "seconds_per_step": wall,
                "seconds_per_step_p90": np.quantile([turn.wall for turn in taken[name]], 0.9),
                "cpu_seconds_per_step": cpu,
                "flops_per_step": flops,
                "peak_flops": 2 * width**3 / best[0],
                "flop_utilisation": flops / wall / (2 * width**3 / best[0]),
                "flop_utilisation_of_cpu": flops / cpu / (2 * width**3 / best[1]),
                "layout": config.layout,
                "layers": config.layers,
                "batch_size": config.batch_size,
                "precision": config.precision,
            }
        )
    frame = pd.DataFrame(rows)
    ratios = ["speedup", "speedup_of_cpu"]
    frame[ratios] /= frame.loc[frame["way"] == BASELINE, ratios].iloc[0]
    return frame.assign(threads=torch.get_num_threads(), timed_steps=steps)


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed of training LBM-Act.")
    parser.add_argument("--backbone", default="smollm2-135m")
    parser.add_argument("--layers", type=int, help="default: tier laptop's")
    parser.add_argument("--steps", type=int, default=20, help="timed steps of each way")
    parser.add_argument("--output", default="", help="folder in the place of the checkout's results/")
    arguments = parser.parse_args()
    days = Lab.of("smoke", "dense").trajectories()
    frame = measure(configurations(arguments.backbone, arguments.layers), days, arguments.steps)
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

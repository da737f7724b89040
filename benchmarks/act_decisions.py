"""How long LBM-Act takes to decide: one advertiser and all 48, in windows and in whole days.

    python benchmarks/act_decisions.py               # about a minute; writes results/benchmark_act_decisions.csv
    python benchmarks/act_decisions.py --layers 1 --rounds 2 --output DIR             # does it run?

A decision round is everything from the observed windows to alpha for all advertisers: tensors, forward pass, clipping.
The weights are the backbone's own, untrained: time does not depend on what they have learned. Guides are the four
sentences. The ways decide for the same advertisers at the ticks of the same days, 1 to 47 one after another (with fewer
``--rounds``, those around noon):

- "window": the paper's layout, the guide and ten ticks read at every decision.
- "day, read": a model of whole days that reads the day so far at every decision.
- "day, kept": the same decisions from what is new of the day (:class:`lbm_core.act.whole_days.RunningDay`).

The ways take turns, so that a busy moment hits all of them; medians over the rounds, in wall seconds and in processor
seconds of this process. ``speedup`` is over "window". That the two ways of a day decide alike is asserted, no time is.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from act_training import WARM_UP, turns, untrained
from numpy.typing import NDArray

from lbm_core.act.config import ActConfig
from lbm_core.act.decide import decide
from lbm_core.act.dual_embedding import LBMAct
from lbm_core.act.guides import DECREASE, FIRST, INCREASE, UNCERTAIN
from lbm_core.act.whole_days import RunningDay
from lbm_core.auction.bidder import N_TICKS
from lbm_core.data.trajectories import TrajectorySet, windows
from lbm_core.lab.lab import Lab
from lbm_core.lab.tiers import tier
from lbm_core.report import results
from lbm_core.seeding import generator

BASELINE = "window"
Way = Callable[[], NDArray[np.float64]]


def ways_of(window_model: LBMAct, day_model: LBMAct, days: TrajectorySet, n: int, first: int = 1) -> dict[str, Way]:
    """Each call of a way decides for n advertisers at the next tick of the same days, from tick ``first`` on."""
    rows = generator(0, "evaluation", 6).choice(np.flatnonzero(days.length == N_TICKS), size=n)
    guides = [(UNCERTAIN, INCREASE, FIRST, DECREASE)[k % 4] for k in range(n)]

    def way(model: LBMAct, running: RunningDay | None = None) -> Way:
        short = model.config.layout == "window"
        lengths = [model.config.window_length if short else tick + 1 for tick in range(1, N_TICKS)]
        day = [windows(days, rows, np.full(n, tick), length) for tick, length in enumerate(lengths, start=1)]
        ticks = itertools.cycle(day[first - 1 :] + day[: first - 1])
        return lambda: decide(model, next(ticks), guides, running=running)

    return {
        BASELINE: way(window_model),
        "day, read": way(day_model),
        "day, kept": way(day_model, RunningDay(day_model)),
    }


def measure(config: ActConfig, days: TrajectorySet, batches: list[int], rounds: int) -> pd.DataFrame:
    """A row per number of advertisers and way; ``config`` is that of the model of whole days."""
    models = [untrained(replace(config, layout=layout), days).eval() for layout in ("window", "day")]
    rows = []
    for n in batches:
        first = max(1, (N_TICKS - rounds) // 2 - WARM_UP)
        taken = turns(ways_of(*models, days, n, first), rounds)
        decided = {name: np.array([turn.result for turn in each]) for name, each in taken.items()}
        np.testing.assert_allclose(decided["day, kept"], decided["day, read"], rtol=1e-3)
        times = {name: 1000 * np.array([turn[:2] for turn in each]) for name, each in taken.items()}
        slow = np.median(times[BASELINE], axis=0)
        for name, each in times.items():
            wall, cpu = np.median(each, axis=0)
            rows.append(
                {
                    "way": name,
                    "batch": n,
                    "milliseconds": wall,
                    "milliseconds_p90": np.quantile(each[:, 0], 0.9),
                    "cpu_milliseconds": cpu,
                    "milliseconds_per_decision": wall / n,
                    "speedup": slow[0] / wall,
                    "speedup_of_cpu": slow[1] / cpu,
                }
            )
    return pd.DataFrame(rows).assign(layers=config.layers, threads=torch.get_num_threads(), rounds=rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description="Latency of LBM-Act's decisions.")
    parser.add_argument("--backbone", default="smollm2-135m")
    parser.add_argument("--layers", type=int, help="default: tier laptop's")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 48])
    parser.add_argument("--rounds", type=int, default=N_TICKS - 1)
    parser.add_argument("--output", default="", help="folder in the place of the checkout's results/")
    arguments = parser.parse_args()
    laptop = tier("laptop").act
    config = replace(laptop, backbone=arguments.backbone, layers=arguments.layers or laptop.layers)
    frame = measure(config, Lab.of("smoke", "dense").trajectories(), arguments.batches, arguments.rounds)
    print(frame.to_string(index=False, float_format="{:.4g}".format))
    results.record(
        "benchmark_act_decisions",
        frame,
        tier="laptop",
        dataset="dense",
        backbone=arguments.backbone,
        output=arguments.output,
    )


if __name__ == "__main__":
    main()

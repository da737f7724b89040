"""How long LBM-Act takes to decide: one advertiser and all 48, in both layouts of its sequence.

    python benchmarks/act_decisions.py               # a few minutes; writes results/benchmark_act_decisions.csv
    python benchmarks/act_decisions.py --layers 1 --repetitions 2 --output DIR        # does it run?

A decision is everything from the observed windows to alpha: tensors, forward pass, clipping. The weights are the
backbone's own, untrained: time does not depend on what they have learned. Guides are the four sentences (7 tokens), or
texts of the length of a chain of thought (``--cot-tokens``), one of a few in turn. Layout "window" reads its guide and
ten ticks at every decision. Layout "day" reads the day so far, anew ("read"), or what is new of it
(:class:`lbm_core.act.whole_days.RunningDay`, "kept"); its repetitions are the ticks of a day, one after another. See
the column ``speedup``, over the row "read". Medians after warm-up; the ways take turns, so that a busy moment hits all
of them.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from lbm_core.act.backbone import backbone_of
from lbm_core.act.config import ActConfig
from lbm_core.act.decide import decide
from lbm_core.act.dual_embedding import LBMAct
from lbm_core.act.guides import DECREASE, FIRST, INCREASE, UNCERTAIN
from lbm_core.act.whole_days import RunningDay
from lbm_core.auction.bidder import N_TICKS
from lbm_core.data.features import StateEncoder
from lbm_core.data.trajectories import TrajectorySet, sample_ends, windows
from lbm_core.lab.lab import Lab
from lbm_core.report import results
from lbm_core.seeding import generator

WARM_UP = 3


def guides_of(kind: str, n: int, tokens: int) -> list[str]:
    """n guides: sentences, or longer texts made of them, a different one for each of four advertisers."""
    texts = [UNCERTAIN, INCREASE, FIRST, DECREASE]
    if kind == "cot":
        texts = [" ".join([text, *texts] * (tokens // 35 + 1)) for text in texts]
    return [texts[k % len(texts)] for k in range(n)]


def medians(ways: dict[str, Callable[[], object]], repetitions: int) -> dict[str, list[float]]:
    """Seconds of each repetition of each way, taking turns."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for repetition in range(WARM_UP + repetitions):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            if repetition >= WARM_UP:
                times[name].append(time.perf_counter() - began)
    return times


def window_ways(model: LBMAct, days: TrajectorySet, guides: list[str]) -> dict[str, Callable[[], object]]:
    """The same decisions again and again."""
    window = windows(days, *sample_ends(days, len(guides), generator(0, "evaluation", 6)))
    return {"read": lambda: decide(model, window, guides)}


def day_ways(model: LBMAct, days: TrajectorySet, guides: list[str]) -> dict[str, Callable[[], object]]:
    """Each call decides at the next tick of the same days; both ways alike."""
    whole = np.flatnonzero(days.length == N_TICKS)
    rows = generator(0, "evaluation", 6).choice(whole, size=len(guides))
    day = [windows(days, rows, np.full(len(rows), tick), tick + 1) for tick in range(N_TICKS)]

    def way(running: RunningDay | None) -> Callable[[], NDArray[np.float64]]:
        ticks = itertools.cycle(day)
        return lambda: decide(model, next(ticks), guides, running=running)

    ways = {"read": way(None), "kept": way(RunningDay(model))}
    for _ in day:
        np.testing.assert_allclose(*(decided() for decided in ways.values()), rtol=1e-3)
    return ways


def main() -> None:
    parser = argparse.ArgumentParser(description="Latency of LBM-Act's decisions.")
    parser.add_argument("--backbone", default="smollm2-135m")
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 48])
    parser.add_argument("--cot-tokens", type=int, default=105)
    parser.add_argument("--repetitions", type=int, default=30)
    parser.add_argument("--output", default="", help="folder in the place of the checkout's results/")
    arguments = parser.parse_args()
    days = Lab.of("smoke", "dense").trajectories()
    rows = []
    for layout, kind in (("window", "sentence"), ("window", "cot"), ("day", "sentence")):
        config = ActConfig(backbone=arguments.backbone, layers=arguments.layers, guide=kind, layout=layout)
        model = LBMAct(backbone_of(config), StateEncoder.fit(days, config.state_kind), config)
        model = model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
        for n in arguments.batches:
            guides = guides_of(kind, n, arguments.cot_tokens)
            ways = (window_ways if layout == "window" else day_ways)(model, days, guides)
            times = medians(ways, arguments.repetitions)
            for name, seconds in times.items():
                rows.append(
                    {
                        "layout": layout,
                        "guide": kind,
                        "guide_tokens": model.tokenize(guides)[0].shape[1],
                        "batch": n,
                        "prefix": name,
                        "milliseconds": 1000 * float(np.median(seconds)),
                        "milliseconds_p90": 1000 * float(np.quantile(seconds, 0.9)),
                        "milliseconds_per_decision": 1000 * float(np.median(seconds)) / n,
                        "speedup": float(np.median(times["read"]) / np.median(seconds)),
                    }
                )
    settings = {"layers": arguments.layers, "threads": torch.get_num_threads(), "repetitions": arguments.repetitions}
    frame = pd.DataFrame(rows).assign(**settings)
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

"""How long LBM-Act takes to decide: one advertiser and all 48, with and without kept guides.

    python benchmarks/act_decisions.py               # a few minutes; writes results/benchmark_act_decisions.csv
    python benchmarks/act_decisions.py --layers 1 --repetitions 2 --output DIR        # does it run?

A decision is everything from the observed windows to alpha: tensors, forward pass, clipping. The weights are the
backbone's own, untrained: time does not depend on what they have learned. Guides are the four sentences (7 tokens), or
texts of the length of a chain of thought (``--cot-tokens``), one of a few in turn. A kept guide
(:class:`lbm_core.act.guide_cache.GuideCache`) is not read again, but its keys and values are copied for everyone, so
that a short one saves little: see the column ``speedup``, over the row without. Medians after warm-up; the ways take
turns, so that a busy moment hits all of them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from lbm_core.pipeline import trajectories
from lbm_core.tiers import get_tier

from lbm_core.act.backbone import backbone_of
from lbm_core.act.config import ActConfig
from lbm_core.act.decide import decide
from lbm_core.act.dual_embedding import LBMAct
from lbm_core.act.guide_cache import GuideCache
from lbm_core.act.guides import DECREASE, FIRST, INCREASE, UNCERTAIN
from lbm_core.data.features import StateEncoder
from lbm_core.data.trajectories import sample_ends, windows
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


def main() -> None:
    parser = argparse.ArgumentParser(description="Latency of LBM-Act's decisions.")
    parser.add_argument("--backbone", default="smollm2-135m")
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 48])
    parser.add_argument("--cot-tokens", type=int, default=105)
    parser.add_argument("--repetitions", type=int, default=30)
    parser.add_argument("--output", default="", help="folder in the place of the checkout's results/")
    arguments = parser.parse_args()
    days = trajectories(get_tier("smoke"), "dense", 0)
    rows = []
    for kind in ("sentence", "cot"):
        config = ActConfig(backbone=arguments.backbone, layers=arguments.layers, guide=kind)
        model = LBMAct(backbone_of(config), StateEncoder.fit(days, config.state_kind), config)
        model = model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
        for n in arguments.batches:
            window = windows(days, *sample_ends(days, n, generator(0, "evaluation", 6)))
            guides = guides_of(kind, n, arguments.cot_tokens)
            cache = GuideCache(model)
            alphas = [decide(model, window, guides, cache=kept) for kept in (None, cache)]
            np.testing.assert_allclose(*alphas, rtol=1e-3)
            times = medians(
                {
                    "read": lambda: decide(model, window, guides),  # noqa: B023
                    "kept": lambda: decide(model, window, guides, cache=cache),  # noqa: B023
                },
                arguments.repetitions,
            )
            for name, seconds in times.items():
                rows.append(
                    {
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

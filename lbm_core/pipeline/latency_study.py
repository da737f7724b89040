"""How long does each module take on this machine? Critic, LBM-Act and LBM-Think, alone and for a market (Table 8)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lbm_core.data.trajectories import windows
from lbm_core.pipeline.models import act, critic
from lbm_core.pipeline.stages import trajectories
from lbm_core.pipeline.thinking import think_backend, think_chains, think_settings
from lbm_core.report.latency import WritingSpeed, load_per_core, measure, percentiles
from lbm_core.seeding import generator
from lbm_core.settings import Dataset
from lbm_core.tiers import Tier

if TYPE_CHECKING:
    from lbm_core.think.generate import Backend, Sampling

TICK = 24  # the windows and prompts timed are of this tick: full histories, in the middle of the day
PUT_TOGETHER = "prompts, steps and lengths"  # how the time of a text is found; "whole text" is measured at once


def modules(
    tier: Tier, dataset: Dataset, seed: int, *, repetitions: int = 5, think_repetitions: int = 1
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Latencies of the three modules for one advertiser and for ``latency_batch`` at once.

    Parameters
    ----------
    repetitions : timed calls of critic and LBM-Act
    think_repetitions : timed batches of LBM-Think, after a warm-up

    Returns
    -------
    latencies : module, batch, median_seconds, p90_seconds, p99_seconds, repetitions, parameters, engine, basis
        ("measured", "prompts, steps and lengths", "whole text"), and for LBM-Think tokens (mean of a text, or of the
        whole text timed), prompt_seconds, step_seconds; load (processes per core of the machine before it all began)
    lengths : tokens and whether it was truncated, of every chain of thought of chapter 4
    """
    from lbm_core.act.decide import decide
    from lbm_core.act.guides import INCREASE
    from lbm_core.think.backends import engine_of
    from lbm_core.think.prompt import logged_facts, render

    _, groups = think_chains(tier, dataset, seed)
    texts = [text for group in groups for text in group]
    lengths = pd.DataFrame({"tokens": [t.tokens for t in texts], "truncated": [t.truncated for t in texts]})
    found = trajectories(tier, dataset, seed)
    largest = tier.think.latency_batch
    rows = np.flatnonzero(found.length > TICK)[:largest]
    if len(rows) < largest:
        raise ValueError(f"only {len(rows)} trajectories are longer than {TICK} ticks; latency_batch is {largest}")
    model, judge = act(tier, dataset, seed), critic(tier, dataset, seed)
    load = load_per_core()
    own: dict[str, Any] = {"engine": "torch", "basis": "measured"}
    table: list[dict[str, Any]] = []
    for batch in (1, largest):
        window = windows(found, rows[:batch], np.full(batch, TICK))
        logged = np.maximum(window.alphas[:, -1].astype(float), 0.01)
        for module, call, sized in (
            ("critic", lambda w=window, a=logged: judge.q(w, a), judge),
            ("LBM-Act", lambda w=window, n=batch: decide(model, w, [INCREASE] * n), model),
        ):
            count = sum(weights.numel() for weights in sized.parameters())
            table.append(
                {"module": module, "batch": batch, "parameters": count} | own | measure(call, repetitions=repetitions)
            )
    backend, (sampling, style) = think_backend(tier), think_settings(tier)
    try:
        facts = logged_facts(found, rows, np.full(len(rows), TICK))
        prompts = [render(fact, backend.tokenizer, style) for fact in facts]
        for row in _think(backend, prompts, sampling, (1, largest), lengths["tokens"], seed, think_repetitions):
            table.append({"module": "LBM-Think", "engine": engine_of(tier.think.backend)} | row)
    finally:
        backend.close()
    frame = pd.DataFrame(table)
    frame.loc[frame["module"] == "LBM-Think", "parameters"] = _parameters(tier.think_backbone)
    return frame.assign(load=load), lengths


def _think(
    backend: Backend,
    prompts: Sequence[str],
    sampling: Sampling,
    batches: Sequence[int],
    lengths: pd.Series,
    seed: int,
    repetitions: int,
) -> list[dict[str, Any]]:
    """Rows of LBM-Think: for each batch from prompts, steps and lengths, and one whole text."""
    rows: list[dict[str, Any]] = []
    for batch in batches:

        def write(tokens: int, asked: Sequence[str] = prompts[:batch]) -> None:
            backend.sample(asked, 1, replace(sampling, max_new_tokens=tokens, stop=""), 0)

        first = int(batch == batches[0])  # the engine is warm after its first texts, and a large batch is dear
        speed = WritingSpeed.measured(write, batch, repetitions=repetitions, warm_up=first)
        times = percentiles(speed.batch_seconds(lengths, generator(seed, "bootstrap", 3, batch)))
        parts = {"prompt_seconds": speed.prompt_seconds, "step_seconds": speed.step_seconds, "basis": PUT_TOGETHER}
        rows.append({"batch": batch, "tokens": lengths.mean(), "repetitions": repetitions} | times | parts)
    written: list[int] = []
    whole = measure(
        lambda: written.append(backend.sample(prompts[:1], 1, sampling, 0)[0][0].tokens), repetitions=1, warm_up=0
    )
    return [*rows, {"batch": 1, "tokens": written[0], "basis": "whole text"} | whole]


def _parameters(name: str) -> int:
    from lbm_core.act.backbone import load_backbone

    return int(load_backbone(name, dtype="bfloat16").model.num_parameters())

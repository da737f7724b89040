"""Is LBM fast enough (Table 8), and what do late and missing chains of thought cost (Fig. 4)? (chapter 9)"""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pandas as pd

from lbm_core.act.guides import INCREASE
from lbm_core.auction.bidder import N_TICKS
from lbm_core.data.trajectories import windows
from lbm_core.evaluation.latency import WritingSpeed, load_per_core, measure, percentiles
from lbm_core.evaluation.statistics import paired_differences
from lbm_core.lab.guided import Guide, Guided
from lbm_core.lab.lab import Lab
from lbm_core.lab.thinking import backend
from lbm_core.seeding import generator
from lbm_core.studies.sizes import few
from lbm_core.think.backends import engine_of
from lbm_core.think.config import Sampling
from lbm_core.think.generate import Backend, Generation
from lbm_core.think.prompt import logged_facts, render

SETTING = ("guide", "late", "missing", "hold", "every")  # what rows say of the Guided that made them
NOBODY = Guided("none")
TICK = 24  # the windows and prompts timed are of this tick: full histories, in the middle of the day
PUT_TOGETHER = "prompts, steps and lengths"  # how the time of a text is found; "whole text" is measured at once


def late_guides(lab: Lab) -> list[Guided]:
    """For each of the chapter's guides: itself; late; missing, with "uncertain" or (``hold``) the last one instead.

    Lateness beyond one interval also by a machine that starts the next texts only when the last are done.
    """
    chapter = lab.tier.chapter9
    ways: list[dict[str, Any]] = [{}, *({"late": late} for late in chapter.late)]
    ways += [{"every": late, "late": late, "hold": True} for late in chapter.late if late > 1]
    ways += [{"late": 1, "missing": share, "hold": hold} for hold in (False, True) for share in chapter.missing]
    return list(dict.fromkeys(Guided(cast(Guide, guide), **way) for guide in chapter.guides for way in ways))


def late_guides_compared(lab: Lab) -> pd.DataFrame:
    """Replays of :func:`late_guides`, and of LBM-Act told "uncertain" all day, with the columns :data:`SETTING`."""
    methods = [NOBODY, *late_guides(lab)]
    labels = [{"method": guided.name, **{name: getattr(guided, name) for name in SETTING}} for guided in methods]
    rows = few(lab, lab.tier.chapter9).evaluate(methods)
    return rows.merge(pd.DataFrame(labels), on="method", how="left")


def costs(rows: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Expected score under each setting minus that under its own guide without delay, paired by period and advertiser.

    Of rows of :func:`late_guides_compared` (or their means per period) the columns :data:`SETTING`, mean, difference,
    low, high, relative, periods, verdict. The guide itself (late 0, missing 0) has no difference; "none" is compared
    with each guide, as missing = 1.
    """
    settings = rows.drop_duplicates("method").set_index("method")[list(SETTING)]
    settings = settings.assign(mean=rows.groupby("method", sort=False)["expected_score"].mean())
    settings.loc[NOBODY.name, ["late", "missing"]] = 1
    columns, frames = ["difference", "low", "high", "relative", "periods", "verdict"], []
    for guide, own in settings.drop(index=NOBODY.name).groupby("guide", sort=False):
        plain = own.index[(own["late"] == 0) & (own["missing"] == 0)][0]
        others = [*own.index.drop(plain), NOBODY.name]
        differences = paired_differences(rows, plain, rng, metrics=["expected_score"], methods=others)
        compared = settings.loc[[plain, *others]].assign(guide=guide)
        frames.append(compared.join(differences.set_index("method")[columns]))
    return pd.concat(frames, ignore_index=True)


def modules(lab: Lab, *, repetitions: int = 5, think_repetitions: int = 1) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Latencies of the three modules for one advertiser and for the chapter's ``batch`` at once.

    ``repetitions`` are calls of critic and LBM-Act, ``think_repetitions`` batches of LBM-Think, after a warm-up.

    Returns
    -------
    latencies : module, batch, median_seconds, p90_seconds, p99_seconds, repetitions, parameters, engine, basis
        ("measured", "prompts, steps and lengths", "whole text"), and for LBM-Think tokens (mean of a text, or of the
        whole text timed), prompt_seconds, step_seconds; load (processes per core of the machine before it all began)
    lengths : tokens and whether it was truncated, of every chain of thought of chapter 4
    """
    from lbm_core.act.backbone import load_backbone
    from lbm_core.act.decide import decide

    texts = [text for group in lab.chains()[1] for text in group]
    lengths = pd.DataFrame({"tokens": [t.tokens for t in texts], "truncated": [t.truncated for t in texts]})
    days, largest, think = lab.trajectories(), lab.tier.chapter9.batch, lab.tier.think
    rows = np.flatnonzero(days.length > TICK)[:largest]
    if len(rows) < largest:
        raise ValueError(f"only {len(rows)} trajectories are longer than {TICK} ticks; chapter9.batch is {largest}")
    model, judge = lab.actor(), lab.critic()
    load = load_per_core()
    table: list[dict[str, Any]] = []
    for batch in (1, largest):
        window = windows(days, rows[:batch], np.full(batch, TICK), N_TICKS)
        logged, instructions = np.maximum(window.alphas[:, -1].astype(float), 0.01), [INCREASE] * batch
        for module, network, call in (
            ("critic", judge, lambda w=window, a=logged: judge.q(w, a)),
            ("LBM-Act", model, lambda w=window, texts=instructions: decide(model, w, texts)),
        ):
            row = {"module": module, "batch": batch, "parameters": sum(p.numel() for p in network.parameters())}
            table.append(row | {"engine": "torch", "basis": "measured"} | measure(call, repetitions=repetitions))
    with closing(backend(lab)) as writer:
        facts = logged_facts(days, rows, np.full(largest, TICK))
        prompts = [render(fact, writer.tokenizer, think.style) for fact in facts]
        writings = writing_times(writer, prompts, think.sampling, lengths["tokens"], lab.seed, think_repetitions)
    count = int(load_backbone(think.backbone, dtype="bfloat16").model.num_parameters())
    shared = {"module": "LBM-Think", "engine": engine_of(think.backend), "parameters": count}
    return pd.DataFrame([*table, *(shared | row for row in writings)]).assign(load=load), lengths


def writing_times(
    writer: Backend, prompts: Sequence[str], sampling: Sampling, lengths: pd.Series, seed: int, repetitions: int
) -> list[dict[str, Any]]:
    """Times of LBM-Think's texts: one and all at once, from prompts, steps and lengths (tokens), and one whole text."""
    rows: list[dict[str, Any]] = []
    for batch in (1, len(prompts)):

        def write(tokens: int, some: Sequence[str] = prompts[:batch]) -> None:
            writer.sample(some, 1, replace(sampling, max_new_tokens=tokens, stop=""), 0)

        first = int(batch == 1)  # the engine is warm after its first texts, and a large batch is slow
        speed = WritingSpeed.measured(write, batch, repetitions=repetitions, warm_up=first)
        times = percentiles(speed.batch_seconds(lengths, generator(seed, "bootstrap", 3, batch)))
        row = {"batch": batch, "tokens": lengths.mean(), "repetitions": repetitions, "basis": PUT_TOGETHER}
        rows.append(row | times | {"prompt_seconds": speed.prompt_seconds, "step_seconds": speed.step_seconds})
    texts: list[Generation] = []
    whole = measure(lambda: texts.extend(writer.sample(prompts[:1], 1, sampling, 0)[0]), repetitions=1, warm_up=0)
    return [*rows, {"batch": 1, "tokens": texts[0].tokens, "basis": "whole text"} | whole]

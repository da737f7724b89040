"""Sentence or chain of thought: does LBM-Act gain from reading more than a direction (chapter 2)?"""

from collections.abc import Sequence
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lbm_core.act.guides import FIRST, SENTENCES, UNCERTAIN, TrainingGuides, anchor_directions, sentences
from lbm_core.data.trajectories import windows
from lbm_core.evaluation.statistics import mean_interval
from lbm_core.lab.artifacts import Artifact
from lbm_core.lab.days import trajectories
from lbm_core.lab.decisions import Decisions
from lbm_core.lab.lab import Lab
from lbm_core.lab.setup import bars
from lbm_core.think.parse import parse_groups

INPUTS = ("nothing", "its direction, a sentence", "the whole text")  # what LBM-Act reads of LBM-Think
Answer = tuple[str, int | None]  # a text and the direction that it advises; None if it could not be read
HELD_OUT = 4  # of so many decisions the second is kept from training


def language_inputs(lab: Lab) -> pd.DataFrame:
    """LBM-Acts that read more or less of the same chains of thought, at decisions that none was trained on.

    All are trained on the same windows in the same order, half of them decisions for which LBM-Think wrote a text. As
    the paper says, a text is disregarded in training where it conflicts with the sign of the logged move. In use nobody
    knows that sign, so the error is measured both ways.
    One row per input and held-out decision: input, prompt, told (whether a text says the logged direction), error (of
    log alpha, squared; with such a text or none, as in training), error_in_use (with the first text).
    """
    from lbm_core.act.decide import decide

    decisions, groups = lab.changed({"gqpo.on_policy": 0.0}).chains()  # only logged decisions have a logged move
    if len(decisions) < 2:
        raise ValueError("one decision is too few to keep some from training; ask for 2 or more")
    think = lab.tier.think
    readings = parse_groups(groups, decisions.facts, tolerance=think.tolerance, ratio_required=think.ratio_required)
    answers = [
        [(text.text, reading.direction if reading.accepted else None) for text, reading in zip(*group, strict=True)]
        for group in zip(groups, readings, strict=True)
    ]
    first, agreed = [answer[0] for answer in answers], agreeing(answers, anchor_directions(decisions.window))
    kept = np.arange(len(decisions)) % HELD_OUT == 1
    window = decisions.window[kept]
    logged = np.log(window.alphas[:, -1])
    shared = {"prompt": np.flatnonzero(kept), "told": [answer[1] is not None for answer in compress(agreed, kept)]}
    frames = []
    for name in INPUTS:
        learned, in_use = ([_spoken(name, *answer) for answer in chosen] for chosen in (agreed, first))
        model = _reader(lab, name, decisions, learned, ~kept)
        errors = {
            column: (np.log(decide(model, window, list(compress(texts, kept)))) - logged) ** 2  # as in Eq. 5's loss
            for column, texts in (("error", learned), ("error_in_use", in_use))
        }
        frames.append(pd.DataFrame({"input": name, **shared, **errors}))
    return pd.concat(frames, ignore_index=True)


def agreeing(answers: Sequence[Sequence[Answer]], anchors: NDArray[np.int64]) -> list[Answer]:
    """Of n decisions the first text that advises the logged direction (§3.2; (n,)), or "uncertain" where none does."""
    # As many texts as there are for training, which favours no input over another.
    return [
        next((each for each in answer if each[1] == anchor), (UNCERTAIN, None))
        for answer, anchor in zip(answers, anchors, strict=True)
    ]


def compared(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Mean errors of :func:`language_inputs` and what they are below those without words, paired over decisions.

    One row per input and kind of error: input, measured ("as in training", "in use"), moments (decisions), error,
    difference (to "nothing", negative is better), low, high (95 %, bootstrap over decisions; NaN for few). Each input
    is of one training, whose luck no interval over decisions holds: there is no verdict.
    """
    rows = []
    for column, label in (("error", "as in training"), ("error_in_use", "in use")):
        table = frame.pivot(index="prompt", columns="input", values=column)
        for name in (each for each in INPUTS if each in table):
            difference = mean_interval((table[name] - table[INPUTS[0]]).to_numpy(), rng)
            rows.append((name, label, len(table), table[name].mean(), *difference))
    return pd.DataFrame(rows, columns=["input", "measured", "moments", "error", "difference", "low", "high"])


def _spoken(name: str, text: str, direction: int | None) -> str:
    if name == INPUTS[0] or direction is None:
        return UNCERTAIN
    return SENTENCES[direction] if name == INPUTS[1] else text


def _reader(lab: Lab, name: str, decisions: Decisions, texts: Sequence[str], chosen: NDArray[np.bool_]) -> Any:
    """LBM-Act that reads texts at the chosen decisions, and elsewhere the sentence of the logged move, as usual."""
    from lbm_core.act.dual_embedding import LBMAct
    from lbm_core.act.train import train_act

    # Chains of thought are of one decision each: no two share their keys, and whole days cannot be read at once.
    shape = {"layout": "window", "batch_size": 4 * lab.tier.act.batch_size}
    config, data = lab.bound(lab.tier.act, guide="cot", steps=lab.tier.chapter2.text_steps, **shape), trajectories(lab)
    places = decisions.rows[chosen], decisions.ticks[chosen]
    reading = list(zip(*(place.tolist() for place in places), compress(texts, chosen), strict=True))
    own = {(row, tick): text for row, tick, text in reading}

    def make(folder: Path) -> None:
        days = data.get()

        def words(rows: NDArray[np.int64], ticks: NDArray[np.int64]) -> list[str]:
            usual = sentences(anchor_directions(windows(days, rows, ticks, length=1), config.dead_band))
            pairs = zip(rows.tolist(), ticks.tolist(), strict=True)
            return [own.get(pair, text if pair[1] else FIRST) for pair, text in zip(pairs, usual, strict=True)]

        guides = TrainingGuides(words, places)
        train_act(config, days, guides=guides, checkpoints=artifact.checkpoints, progress=bars()).save(folder)

    what = f"LBM-Act that reads {name} ({lab.label})"
    artifact = Artifact("act", [config, reading], make, lambda folder: LBMAct.load(folder, config), what, (data,))
    return artifact.get()

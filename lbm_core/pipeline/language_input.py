"""Sentence or chain of thought: does LBM-Act gain from reading more than a direction (chapter 2)?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lbm_core.act.guides import FIRST, UNCERTAIN, anchor_directions, sentences
from lbm_core.data.trajectories import TrajectorySet
from lbm_core.data.windows import Windows
from lbm_core.evaluation.statistics import NOT_RESOLVED, RESOLVED, mean_interval
from lbm_core.files import artifact_path
from lbm_core.pipeline.models import act_config, model_key
from lbm_core.pipeline.stages import RECIPES, bars, found_or_made, trajectories
from lbm_core.pipeline.thinking import backend_key, think_chains, think_settings
from lbm_core.settings import Dataset
from lbm_core.tiers import Tier

if TYPE_CHECKING:
    from lbm_core.act.dual_embedding import LBMAct

# What LBM-Act reads of LBM-Think.
INPUTS = ("nothing", "its direction, a sentence", "the whole text")
HELD_OUT = 4  # of so many moments the second is kept from training


def language_inputs(tier: Tier, dataset: Dataset, seed: int) -> pd.DataFrame:
    """LBM-Acts that read more or less of the same chains of thought, on moments that none was trained on.

    All are trained on the same windows in the same order, half of them moments for which LBM-Think wrote a text
    (:func:`~lbm_core.pipeline.thinking.think_chains`). As the paper says, a text is disregarded in training where it
    conflicts with the sign of the logged move. In use nobody knows that sign, so the error is measured both ways.

    Returns
    -------
    One row per input and held-out moment: input, prompt, told (whether a text says the logged direction), error (of
    log alpha, squared; told by such a text or by none, as in training), error_in_use (told by the first text)

    Raises
    ------
    ValueError
        Too few moments to keep some from training.
    """
    from lbm_core.act.decide import decide
    from lbm_core.think.gqpo import parse_groups

    tier = replace(tier, think=replace(tier.think, on_policy=0.0))  # only logged moments have a logged move
    asked, groups = think_chains(tier, dataset, seed)
    if len(asked) < 2:
        raise ValueError("one moment is too few to keep some from training; ask for 2 or more")
    read = parse_groups(groups, asked.facts, ratio_required=tier.think.ratio_required)
    anchors = anchor_directions(asked.window)
    texts = [[text.text for text in group] for group in groups]
    said = [[one.direction if one.accepted else None for one in group] for group in read]
    fitting, direction = _agreeing(texts, said, anchors)
    agreed = np.array([each == anchor for each, anchor in zip(direction, anchors, strict=True)])
    kept = np.arange(len(asked)) % HELD_OUT == 1
    window = asked.window[kept]
    frames = []
    for name in INPUTS:
        filtered = _spoken(name, fitting, [d if fits else None for d, fits in zip(direction, agreed, strict=True)])
        first = _spoken(name, [group[0] for group in texts], [group[0] for group in said])
        lookup = dict(
            zip(zip(asked.rows[~kept], asked.ticks[~kept], strict=True), _where(filtered, ~kept), strict=True)
        )
        model = _trained(tier, dataset, seed, name, lookup, (asked.rows[~kept], asked.ticks[~kept]))
        errors = {
            column: _errors(decide(model, window, _where(spoken, kept)), window)
            for column, spoken in (("error", filtered), ("error_in_use", first))
        }
        frames.append(pd.DataFrame({"input": name, "prompt": np.flatnonzero(kept), "told": agreed[kept], **errors}))
    return pd.concat(frames, ignore_index=True)


def compared(frame: pd.DataFrame, rng: np.random.Generator, reference: str = INPUTS[0]) -> pd.DataFrame:
    """Mean errors of :func:`language_inputs` and what they are below the reference's, paired over moments.

    Returns
    -------
    One row per input and kind of error: input, measured ("as in training", "in use"), moments, error, difference (to
    the reference, negative is better), low, high (95 %, bootstrap over moments; NaN for few), verdict
    """
    rows = []
    for column, label in (("error", "as in training"), ("error_in_use", "in use")):
        table = frame.pivot(index="prompt", columns="input", values=column)
        for name in (each for each in INPUTS if each in table):
            difference = (table[name] - table[reference]).to_numpy()
            mean, low, high = mean_interval(difference, rng)
            verdict = RESOLVED if low > 0 or high < 0 else NOT_RESOLVED
            rows.append(
                (name, label, len(table), table[name].mean(), mean, low, high, "" if name == reference else verdict)
            )
    return pd.DataFrame(rows, columns=["input", "measured", "moments", "error", "difference", "low", "high", "verdict"])


def _agreeing(
    texts: Sequence[Sequence[str]], said: Sequence[Sequence[int | None]], anchors: NDArray[np.int64]
) -> tuple[list[str], list[int | None]]:
    """One text of every moment and what it says: the first that agrees with the log, where there is one.

    So training gets as many texts as it can; that favours no input over another.
    """
    chosen, directions = [], []
    for group, told, anchor in zip(texts, said, anchors, strict=True):
        best = min(range(len(group)), key=lambda k: told[k] != anchor)
        chosen.append(group[best])
        directions.append(told[best])
    return chosen, directions


def _spoken(name: str, texts: Sequence[str], said: Sequence[int | None]) -> list[str]:
    """What an input makes of the texts; a text without a readable direction tells nobody anything."""
    if name == INPUTS[0]:
        return [UNCERTAIN] * len(texts)
    if name == INPUTS[1]:
        return sentences([direction or 0 for direction in said])
    return [UNCERTAIN if direction is None else text for text, direction in zip(texts, said, strict=True)]


def _trained(
    tier: Tier,
    dataset: Dataset,
    seed: int,
    name: str,
    lookup: dict[tuple[int, int], str],
    moments: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> LBMAct:
    from lbm_core.act.train import load, train_act

    config = act_config(tier, dataset, seed, guide="cot", steps=tier.act.language_steps)
    sampling, style = think_settings(tier)
    key = model_key("act", tier, dataset, seed, config) | {
        "language_input": name,
        "think": [RECIPES["think"], tier.think_backbone, tier.think.prompts, tier.think.samples],
        "ratio_required": tier.think.ratio_required,
        "sampling": asdict(sampling),
        "style": asdict(style),
        **backend_key(tier),
    }

    def make(path: Path) -> None:
        found = trajectories(tier, dataset, seed)
        guides = _with_texts(found, lookup, config.dead_band)
        train_act(config, found, folder=path, guides=guides, moments=moments, progress=bars())

    return found_or_made(
        f"LBM-Act that reads {name} ({dataset})", artifact_path("act", key), make, lambda path: load(path, config)
    )


def _with_texts(
    days: TrajectorySet, lookup: dict[tuple[int, int], str], dead_band: float
) -> Callable[[NDArray[np.int64], NDArray[np.int64]], list[str]]:
    """Texts where there are some, and elsewhere the sentence of the logged move, as without texts."""
    from lbm_core.data.trajectories import windows

    def guides(rows: NDArray[np.int64], ticks: NDArray[np.int64]) -> list[str]:
        usual = sentences(anchor_directions(windows(days, rows, ticks, length=1), dead_band))
        usual = [FIRST if tick == 0 else text for text, tick in zip(usual, ticks, strict=True)]
        return [lookup.get((int(r), int(t)), text) for r, t, text in zip(rows, ticks, usual, strict=True)]

    return guides


def _where(texts: Sequence[str], chosen: NDArray[np.bool_]) -> list[str]:
    return [text for text, wanted in zip(texts, chosen, strict=True) if wanted]


def _errors(alphas: NDArray[np.float64], window: Windows) -> NDArray[np.float64]:
    """Squared errors of log alpha, as in Eq. 5's loss."""
    return (np.log(alphas) - np.log(window.alphas[:, -1])) ** 2

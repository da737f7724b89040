"""What LBM-Act is told in words: the one home of its guide sentences (§3.2, Fig. 5)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lbm_core.auction.bidder import Advertisers, Observation
from lbm_core.data.windows import Windows

# Seven tokens each for the default backbone, as the language part of Fig. 5 has seven positions.
INCREASE = "Please increase the bidding parameter now."
DECREASE = "Please decrease the bidding parameter now."
UNCERTAIN = "The right direction is uncertain now."
FIRST = "Please set the first bidding parameter."
SENTENCES: dict[int, str] = {1: INCREASE, -1: DECREASE, 0: UNCERTAIN}

# The language input of Prompt-LLM-DT (A.3): the task in words, the same at every tick.
TASK_DESCRIPTION = (
    "You bid for one advertiser in ad auctions. A day has 48 ticks; at each one choose the bidding parameter alpha. "
    "Win as many conversions as possible within the budget and below the target cost per conversion."
)

GuideSource = Callable[[Observation, Advertisers], list[str]]  # one text per advertiser, in use


@dataclass(frozen=True)
class ExpectedMove:
    """In the place of a guide source: LBM-Act makes the mean of its moves under the three directions."""

    chances: Callable[[Observation, Advertisers], NDArray[np.float64]]  # (n, 3) of -1, 0 and 1, each row in sum 1


@dataclass(frozen=True)
class TrainingGuides:
    """What an LBM-Act with ``guide="cot"`` reads in training."""

    texts: Callable[[NDArray[np.int64], NDArray[np.int64]], list[str]]  # one for each of (n,) trajectories and ticks
    # (m,) trajectories and ticks, e.g. those for which texts were written: half of every step's windows end there, and
    # half anywhere; None: all of them end anywhere
    moments: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None


def sentences(directions: Sequence[int] | NDArray) -> list[str]:
    """Guide sentences of directions +1 (increase), -1 (decrease), 0 (uncertain)."""
    unknown = sorted({int(d) for d in directions} - set(SENTENCES))
    if unknown:
        raise ValueError(f"a direction is -1, 0 or 1; got {unknown[0]}")
    return [SENTENCES[int(direction)] for direction in directions]


def directions(texts: Sequence[str]) -> list[int]:
    """What guide sentences say, in {-1, 0, 1} (the first tick's 0): the inverse of :func:`sentences`.

    ValueError for any other text.
    """
    meaning = {text: direction for direction, text in SENTENCES.items()} | {FIRST: 0}
    unknown = [text for text in texts if text not in meaning]
    if unknown:
        raise ValueError(f"not one of the guide sentences: {unknown[0]!r}")
    return [meaning[text] for text in texts]


def anchor_directions(window: Windows, dead_band: float = 0.0) -> NDArray[np.int64]:
    """Direction of n logged actions, sign(a_t - a_{t-1}), the anchor of §3.2: (n,) in {-1, 0, 1}.

    At the first tick it is the direction from the CPA target. |log(a_t / a_{t-1})| up to ``dead_band`` counts as 0.
    """
    return anchors(window, dead_band)[:, -1]


def anchors(window: Windows, dead_band: float = 0.0) -> NDArray[np.int64]:
    """(n, L) :func:`anchor_directions` of every tick of n windows."""
    now, before = window.alphas.astype(np.float64), window.previous_alphas[:, :, 0].astype(np.float64)
    moved = np.abs(np.log(np.maximum(now, 1e-9) / np.maximum(before, 1e-9))) > dead_band
    return np.where(moved, np.sign(now - before), 0).astype(np.int64)


def training_sentences(
    window: Windows, rng: np.random.Generator, dropout: float = 0.05, dead_band: float = 0.0
) -> list[str]:
    """Guide sentences for language-guided training: the anchor direction, at times withheld.

    A share ``dropout`` of them (release: 0.05) is replaced by :data:`UNCERTAIN`, so that the model can also act
    unguided.

    Differs from the paper: its text lets LBM-Think write a chain of thought and drops it where it conflicts with the
    anchor; its authors' release uses the anchor itself, as here. For the former pass generated texts to
    :func:`lbm_core.act.train.train_act`.
    """
    texts = sentences(np.where(rng.random(len(window)) < dropout, 0, anchor_directions(window, dead_band)))
    return [FIRST if tick == 0 else text for tick, text in zip(window.timesteps[:, -1], texts, strict=True)]


def uninstructed(observation: Observation, advertisers: Advertisers) -> list[str]:
    """Guide source that leaves the direction to LBM-Act: :data:`UNCERTAIN` for everyone."""
    return [UNCERTAIN] * len(advertisers)

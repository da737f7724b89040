"""What LBM-Act is told in words: the one home of its guide sentences (§3.2, Fig. 5)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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
# Texts of training codes: directions, and 2 for the first tick of the day. -1 counts from the end, as indices do.
CODED = (UNCERTAIN, INCREASE, FIRST, DECREASE)

# The language input of Prompt-LLM-DT (A.3): the task in words, the same at every tick.
TASK_DESCRIPTION = (
    "You bid for one advertiser in ad auctions. A day has 48 ticks; at each one choose the bidding parameter alpha. "
    "Win as many conversions as possible within the budget and below the target cost per conversion."
)

GuideSource = Callable[[Observation, Advertisers], list[str]]  # one text per advertiser, in use
TrainingGuides = Callable[[NDArray[np.int64], NDArray[np.int64]], list[str]]  # one text per (trajectory, tick)


def sentences(directions: Sequence[int] | NDArray) -> list[str]:
    """Guide sentences of directions +1 (increase), -1 (decrease), 0 (uncertain)."""
    unknown = sorted({int(d) for d in directions} - set(SENTENCES))
    if unknown:
        raise ValueError(f"a direction is -1, 0 or 1; got {unknown[0]}")
    return [SENTENCES[int(direction)] for direction in directions]


def directions(texts: Sequence[str]) -> list[int]:
    """What guide sentences say, in {-1, 0, 1}: the inverse of :func:`sentences`; the first tick's says 0.

    Raises
    ------
    ValueError
        A text that is none of the sentences.
    """
    said = {text: direction for direction, text in SENTENCES.items()} | {FIRST: 0}
    unknown = [text for text in texts if text not in said]
    if unknown:
        raise ValueError(f"not one of the guide sentences: {unknown[0]!r}")
    return [said[text] for text in texts]


def moves(alphas: NDArray, previous: NDArray, dead_band: float = 0.0) -> NDArray[np.int64]:
    """Sign of the move from ``previous`` to ``alphas`` (same shape); |log| up to ``dead_band`` counts as 0."""
    last, before = alphas.astype(np.float64), previous.astype(np.float64)
    moved = np.abs(np.log(np.maximum(last, 1e-9) / np.maximum(before, 1e-9))) > dead_band
    return np.where(moved, np.sign(last - before), 0).astype(np.int64)


def anchor_directions(window: Windows, dead_band: float = 0.0) -> NDArray[np.int64]:
    """Direction of the logged action, sign(a_t - a_{t-1}), the anchor of §3.2.

    Parameters
    ----------
    window : n windows of logged data (their last alpha is known)
    dead_band : moves with |log(a_t / a_{t-1})| up to this count as 0

    Returns
    -------
    (n,) int in {-1, 0, 1}; at the first tick the direction from the CPA target
    """
    return moves(window.alphas[:, -1], window.previous_alphas[:, -1, 0], dead_band)


def training_codes(
    anchors: NDArray[np.int64], ticks: NDArray[np.int64], rng: np.random.Generator, dropout: float
) -> NDArray[np.int64]:
    """Which of :data:`CODED` to say: the anchor, at times withheld, and the day's first sentence at tick 0.

    Parameters
    ----------
    anchors : (n,) int in {-1, 0, 1}
    ticks : (n,) int in [0, 48)
    dropout : share withheld

    Returns
    -------
    (n,) int in {-1, 0, 1, 2}
    """
    told = np.where(rng.random(len(anchors)) < dropout, 0, anchors)
    return np.where(ticks == 0, CODED.index(FIRST), told)


def training_sentences(
    window: Windows, rng: np.random.Generator, dropout: float = 0.05, dead_band: float = 0.0
) -> list[str]:
    """Guide sentences for language-guided training: the anchor direction, at times withheld.

    Differs from the paper: its text lets LBM-Think write a chain of thought and drops it where it conflicts with the
    anchor; its authors' release uses the anchor itself, as here. For the former pass generated texts to
    :func:`lbm_core.act.train.train_act`.

    Parameters
    ----------
    dropout : share of sentences replaced by :data:`UNCERTAIN`, so that the model can also act unguided; release: 0.05
    dead_band : see :func:`anchor_directions`
    """
    codes = training_codes(anchor_directions(window, dead_band), window.timesteps[:, -1], rng, dropout)
    return [CODED[code] for code in codes]


def accepted(texts: Sequence[str], directions: Sequence[int | None], anchors: NDArray) -> list[str]:
    """Chains of thought kept for training; one whose direction conflicts with the anchor is disregarded (§3.2).

    Parameters
    ----------
    texts : n chains of thought
    directions : what each advises, in {-1, 0, 1}; None if it could not be read
    anchors : (n,) :func:`anchor_directions`

    Returns
    -------
    the text where the directions agree, else :data:`UNCERTAIN`
    """
    return [
        text if direction is not None and direction == anchor else UNCERTAIN
        for text, direction, anchor in zip(texts, directions, anchors, strict=True)
    ]


def uninstructed(observation: Observation, advertisers: Advertisers) -> list[str]:
    """Guide source that leaves the direction to LBM-Act: :data:`UNCERTAIN` for everyone."""
    return [UNCERTAIN] * len(advertisers)

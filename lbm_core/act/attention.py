"""Where LBM-Act looks when it decides (Fig. 5): attention of the last query over words and numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from lbm_core.act.dual_embedding import LBMAct, positions
from lbm_core.act.whole_days import running_day
from lbm_core.data.windows import Windows

_ITEM_LETTERS = ("R", "s", "a")


@dataclass(frozen=True)
class _Query:
    """What the state token of the last tick, where the action is read, may attend to and does, of n decisions."""

    layers: list[torch.Tensor]  # of each (n, heads, S) weights
    readable: torch.Tensor  # (n, S) bool
    words: NDArray[np.bool_]  # (S,) which positions are words
    labels: list[str]  # S, of numbers: item and tick; of words: ""
    ids: torch.Tensor  # (n or 1, W) tokens of the words, which come first


def attention_frame(model: LBMAct, window: Windows, guide: str | None = None) -> pd.DataFrame:
    """Attention of the state token of tick t, where the action is read, in one window under its guide (None without).

    Columns: layer ("first", "middle" of more than two, "last"), head, position, label (a word of the guide, or item and
    tick: "R t-9"), part ("language" or "numbers"), attention (in [0, 1], summing to 1 over a head's positions).
    """
    if len(window) != 1:
        raise ValueError(f"attention is shown for one window at a time; got {len(window)}")
    query = _query(model, window, None if guide is None else [guide])
    names = {(len(query.layers) - 1) // 2: "middle", 0: "first", len(query.layers) - 1: "last"}  # two have no middle
    named = {name: query.layers[place] for place, name in sorted(names.items())}
    kept = query.readable[0].nonzero()[:, 0].tolist()  # what cannot be read has no attention and no place in the figure
    labels = [model.tokenizer.decode(int(query.ids[0, k])).strip() if query.words[k] else query.labels[k] for k in kept]
    rows = [
        (layer, head, place, labels[place], "language" if query.words[k] else "numbers", float(weights[0, head, k]))
        for layer, weights in named.items()
        for head in range(weights.shape[1])
        for place, k in enumerate(kept)
    ]
    return pd.DataFrame(rows, columns=["layer", "head", "position", "label", "part", "attention"])


def language_share(model: LBMAct, window: Windows, guides: Sequence[str]) -> pd.DataFrame:
    """How much of each head's attention is on words when LBM-Act decides, on average over n windows and their guides.

    Columns: layer (from 0), head, share (in [0, 1]), even (the share that attention spread evenly over positions would
    have). ValueError for a model that reads no words.
    """
    query = _query(model, window, guides)
    if not query.words.any():
        raise ValueError(f"{model.config.method} reads no words: there is no share to measure")
    even = float((query.readable[:, query.words].sum(dim=1) / query.readable.sum(dim=1)).mean())
    rows = [
        (layer, head, float(share), even)
        for layer, weights in enumerate(query.layers)
        for head, share in enumerate(weights[:, :, query.words].sum(dim=-1).mean(dim=0))
    ]
    return pd.DataFrame(rows, columns=["layer", "head", "share", "even"])


def _query(model: LBMAct, window: Windows, guides: Sequence[str] | None) -> _Query:
    # Fast attention kernels do not return their weights; the plain implementation computes the same and does.
    usual = model.transformer.config._attn_implementation
    model.transformer.set_attn_implementation("eager")
    try:
        with torch.inference_mode():
            if model.config.layout == "day":
                layout, batch = running_day(model, window, guides)
                at, given = int(layout.deciding[-1]), layout.inputs(batch)
                readable = given["attention_mask"][:, 0, at] == 0
                words, ticks, items = layout.words, layout.tick, layout.item % len(_ITEM_LETTERS)
                ids = layout.guide_ids.reshape(1, -1)
            else:
                batch = model.batch(window.last(min(model.config.window_length, window.mask.shape[1])), guides)
                z, readable, count = model.embed(batch)
                given = {"inputs_embeds": z, "attention_mask": readable, "position_ids": positions(readable)}
                numbers = np.arange(3 * batch.states.shape[1] - 1)
                at, words = -1, np.arange(z.shape[1]) < count
                ticks, items = (np.r_[np.zeros(count, int), part] for part in (numbers // 3, numbers % 3))
                ids = torch.empty((1, 0), dtype=torch.long) if batch.guide_ids is None else batch.guide_ids
            layers = model.transformer(**given, use_cache=False, output_attentions=True).attentions
    finally:
        model.transformer.set_attn_implementation(usual)
    ago = ticks.max() - ticks
    labels = [
        f"{_ITEM_LETTERS[item]} t-{k}" if k else f"{_ITEM_LETTERS[item]} t" for item, k in zip(items, ago, strict=True)
    ]
    return _Query([layer[:, :, at] for layer in layers], readable, words, labels, ids)

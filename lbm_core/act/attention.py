"""Where LBM-Act looks when it decides (Fig. 5): attention of the last query over words and numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch

from lbm_core.act.dual_embedding import ActBatch, LBMAct, positions
from lbm_core.data.windows import Windows

_ITEM_LETTERS = ("R", "s", "a")


def attention_frame(model: LBMAct, window: Windows, guide: str | None = None) -> pd.DataFrame:
    """Attention of the state token of tick t, where the action is read, in one window under its guide (None without).

    Columns: layer ("first", "middle", "last"), head, position, label (a word of the guide, or item and tick: "R t-9"),
    part ("language" or "numbers"), attention (in [0, 1], summing to 1 over the positions of a head).
    """
    if len(window) != 1:
        raise ValueError(f"attention is shown for one window at a time; got {len(window)}")
    batch = model.batch(window, None if guide is None else [guide])
    layers, mask, words = _attentions(model, batch)
    named = {"first": layers[0], "middle": layers[(len(layers) - 1) // 2], "last": layers[-1]}
    kept = mask[0].nonzero()[:, 0].tolist()  # padding has no attention and no place in the figure
    labels = _labels(model, batch.guide_ids, words, window.mask.shape[1])
    rows = [
        (layer, head, place, labels[k], "language" if k < words else "numbers", float(weights[0, head, -1, k]))
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
    layers, mask, words = _attentions(model, model.batch(window, guides))
    if not words:
        raise ValueError(f"{model.config.method} reads no words: there is no share to measure")
    even = float((mask[:, :words].sum(dim=1) / mask.sum(dim=1)).mean())
    rows = [
        (layer, head, float(share), even)
        for layer, weights in enumerate(layers)
        for head, share in enumerate(weights[:, :, -1, :words].sum(dim=-1).mean(dim=0))
    ]
    return pd.DataFrame(rows, columns=["layer", "head", "share", "even"])


def _attentions(model: LBMAct, batch: ActBatch) -> tuple[Sequence[torch.Tensor], torch.Tensor, int]:
    """Attention of every layer, (n, heads, T, T) each, the mask (n, T) and the number of words."""
    # Fast attention kernels do not return their weights; the plain implementation computes the same and does.
    usual = model.transformer.config._attn_implementation
    model.transformer.set_attn_implementation("eager")
    try:
        with torch.inference_mode():
            z, mask, words = model.embed(batch)
            layers = model.transformer(
                inputs_embeds=z,
                attention_mask=mask,
                position_ids=positions(mask),
                use_cache=False,
                output_attentions=True,
            ).attentions
    finally:
        model.transformer.set_attn_implementation(usual)
    return layers, mask, words


def _labels(model: LBMAct, guide_ids: torch.Tensor | None, words: int, length: int) -> list[str]:
    tokens: Any = [] if guide_ids is None else guide_ids[0, :words]
    ago = [f" t-{k}" if k else " t" for k in range(length - 1, -1, -1)]
    numbers = [letter + tick for tick in ago for letter in _ITEM_LETTERS][:-1]
    return [model.tokenizer.decode([int(token)]).strip() for token in tokens] + numbers

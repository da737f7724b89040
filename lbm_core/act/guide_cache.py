"""Decisions that do not read the guide anew: its keys and values are kept (the guide is the sequence's prefix)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from lbm_core.act.dual_embedding import LBMAct, positions
from lbm_core.data.windows import Windows

_MOST = 1_000  # guides kept: sentences are four, chains of thought without end

Layers = list[tuple[Tensor, Tensor]]  # keys and values of each layer, (1, heads, G, d)


class GuideCache:
    """Predictions of a model, reading each distinct guide once.

    Words come first and attention is causal, so what the layers make of a guide does not depend on the numbers after
    it. Results equal those of the model's forward pass up to rounding.

    Parameters
    ----------
    model : LBMAct that reads words, in ``eval()`` mode; its weights must not change while this is in use

    Raises
    ------
    ValueError
        A model without words ("none", "number").
    """

    def __init__(self, model: LBMAct) -> None:
        if model.config.guide in ("none", "number"):
            raise ValueError(f"{model.config.method} reads no words: there is nothing to keep")
        self.model = model
        self._kept: dict[tuple[int, ...], Layers] = {}

    @torch.inference_mode()
    def predict(self, window: Windows, guides: Sequence[str] | None = None) -> Tensor:
        """(n, L) predicted log(alpha / C), as the model's own forward pass.

        Parameters
        ----------
        window : n windows
        guides : n texts; None for Prompt-LLM-DT
        """
        batch = self.model.batch(window, guides)
        assert batch.guide_ids is not None
        assert batch.guide_mask is not None
        z, mask, _ = self.model.embed(replace(batch, guide_ids=None, guide_mask=None))
        mask = torch.cat([batch.guide_mask, mask], dim=1)
        words = batch.guide_ids.shape[1]
        hidden = self.model.transformer(
            inputs_embeds=z,
            attention_mask=mask,
            position_ids=positions(mask)[:, words:],
            past_key_values=DynamicCache(self._prefixes(batch.guide_ids, batch.guide_mask)),
            use_cache=True,
        ).last_hidden_state
        return self.model.actions(hidden, batch)

    def _prefixes(self, ids: Tensor, mask: Tensor) -> Layers:
        """Keys and values of n guides, padded on the left: (n, heads, G, d) per layer."""
        rows = [tuple(row[row_mask].tolist()) for row, row_mask in zip(ids, mask, strict=True)]
        distinct = list(dict.fromkeys(rows))
        if len(self._kept) + len(distinct) > _MOST:
            self._kept.clear()
        for row in distinct:
            if row not in self._kept:
                self._kept[row] = self._read(torch.tensor([row], device=ids.device))
        width = ids.shape[1]
        which = torch.tensor([distinct.index(row) for row in rows], device=ids.device)

        def stacked(layer: int, part: int) -> Tensor:
            kept = [self._kept[row][layer][part] for row in distinct]
            padded = [torch.nn.functional.pad(values, (0, 0, width - values.shape[2], 0)) for values in kept]
            return torch.cat(padded)[which]

        return [(stacked(layer, 0), stacked(layer, 1)) for layer in range(len(self._kept[rows[0]]))]

    def _read(self, ids: Tensor) -> Layers:
        cache: Any = DynamicCache()
        self.model.transformer(inputs_embeds=self.model.token_embedding(ids), past_key_values=cache, use_cache=True)
        return [(layer.keys, layer.values) for layer in cache.layers]

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
        self._kept: dict[tuple[int, ...], Tensor] = {}

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
        hidden = self.model.transformer(
            inputs_embeds=z,
            attention_mask=mask,
            position_ids=positions(mask)[:, batch.guide_ids.shape[1] :],
            past_key_values=self._prefixes(batch.guide_ids, batch.guide_mask),
            use_cache=True,
        ).last_hidden_state
        return self.model.actions(hidden, batch)

    def _prefixes(self, ids: Tensor, mask: Tensor) -> DynamicCache:
        """Keys and values of n guides, padded on the left."""
        rows = [tuple(row[real].tolist()) for row, real in zip(ids, mask, strict=True)]
        if len(self._kept) > _MOST:
            self._kept.clear()
        padded: dict[tuple[int, ...], Tensor] = {}
        for row in set(rows):
            if row not in self._kept:
                self._kept[row] = self._read(torch.tensor([row], device=ids.device))
            padded[row] = torch.nn.functional.pad(self._kept[row], (0, 0, ids.shape[1] - len(row), 0))
        return DynamicCache([(layer[0], layer[1]) for layer in torch.stack([padded[row] for row in rows], dim=2)])

    def _read(self, ids: Tensor) -> Tensor:
        """(layers, 2, heads, G, d) keys and values of one guide."""
        cache: Any = DynamicCache()
        self.model.transformer(inputs_embeds=self.model.token_embedding(ids), past_key_values=cache, use_cache=True)
        return torch.stack([torch.stack([layer.keys[0], layer.values[0]]) for layer in cache.layers])

"""Training samples of LBM-Think: a prompt without loss, a chain of thought with it, a weight; rows of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

IGNORED = -100  # label of a token without loss


def tokenized(
    tokenizer: Any, prompt: str, completion: str, weight: float = 1.0, *, longest: int | None = None
) -> dict[str, Any]:
    """One training sample: token ids, the completion's as labels, the weight of its loss.

    Prompt and completion are tokenized apart, as in generation: together, the prompt's last character may merge with
    the completion's first one (":" and a line break in Qwen's vocabulary). ValueError for more than ``longest`` tokens.
    """
    before = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    after = [*tokenizer(completion, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    if longest is not None and len(before + after) > longest:
        count = len(before + after)
        raise ValueError(f"a sample has {count} tokens, max_length is {longest}: raise it or shorten the prompts")
    return {"input_ids": before + after, "labels": [IGNORED] * len(before) + after, "weight": weight}


def padded(samples: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
    """n samples of :func:`tokenized` as rows of T tokens, which end together.

    input_ids, labels, position_ids and attention_mask (0 before a sample's first token), (n, T) int; weights, (n, T)
    float32, its sample's weight at every token.
    """
    longest = max(len(sample["input_ids"]) for sample in samples)

    def rows(columns: Sequence[Sequence[float]], filler: float) -> Tensor:
        return torch.tensor([[filler] * (longest - len(column)) + list(column) for column in columns])

    lengths = [len(sample["input_ids"]) for sample in samples]
    return {
        "input_ids": rows([s["input_ids"] for s in samples], 0),
        "labels": rows([s["labels"] for s in samples], IGNORED),
        "position_ids": rows([range(n) for n in lengths], 0),
        "weights": rows([[s["weight"]] * n for s, n in zip(samples, lengths, strict=True)], 0.0),
        "attention_mask": rows([[1] * n for n in lengths], 0),
    }

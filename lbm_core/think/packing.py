"""Training samples of LBM-Think as tensors: packed, so that what their prompts share is read once, or padded.

Prompts are long (1,400 tokens with worked examples) and begin alike; chains of thought are short. A pack holds the
shared beginning once, and then the rest of each sample, which sees it and itself: the same loss and gradient. Where the
beginning is the smaller part, rows of a batch are faster: the attention of a pack grows with the square of its length.
"""

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


def collated(samples: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
    """:func:`packed`, or :func:`padded` where that reads less than half of the tokens twice."""
    shared, whole = shared_beginning([s["input_ids"] for s in samples]), max(len(s["input_ids"]) for s in samples)
    return packed(samples) if 2 * shared > whole else padded(samples)


def padded(samples: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
    """Samples of :func:`tokenized` as rows of equal length, which end together.

    Keys as of :func:`packed`, for n samples: (n, T), and attention_mask (n, T) int, 0 before a sample's first token.
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


def packed(samples: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
    """Samples of :func:`tokenized` behind the beginning that their prompts share.

    input_ids, labels, position_ids (places in the sample's own text), (1, T) int; attention_mask, (1, 1, T, T) bool,
    True where a token (row) sees another; weights, (1, T) float32, its sample's weight at every token.
    """
    prompts = [sum(label == IGNORED for label in sample["labels"]) for sample in samples]
    shared = shared_beginning([s["input_ids"][: n - 1] for s, n in zip(samples, prompts, strict=True)])
    tokens = [(token, IGNORED, place, 0, 0.0) for place, token in enumerate(samples[0]["input_ids"][:shared])]
    for number, sample in enumerate(samples, 1):
        places = range(shared, len(sample["input_ids"]))
        tokens += [(sample["input_ids"][k], sample["labels"][k], k, number, sample["weight"]) for k in places]
    names = ("input_ids", "labels", "position_ids", "owners", "weights")
    pack = {name: torch.tensor([column]) for name, column in zip(names, zip(*tokens, strict=True), strict=True)}
    owner = pack.pop("owners")[0]
    mask = torch.ones(len(owner), len(owner), dtype=torch.bool).tril()
    mask &= (owner[None, :] == 0) | (owner[None, :] == owner[:, None])
    return pack | {"attention_mask": mask[None, None]}


def shared_beginning(rows: Sequence[Sequence[int]]) -> int:
    """Number of tokens in which all rows agree from the start on."""
    columns = zip(*rows, strict=False)
    return next((k for k, tokens in enumerate(columns) if len(set(tokens)) > 1), min(map(len, rows)))

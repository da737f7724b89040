"""A language model that says what a test's function gives: no weights, the real interface."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tiny_language_model import tiny_language_model

from lbm_core.think.generate import Generation

Answer = Callable[[str, int, int], Generation]  # of the prompt, its place in the batch, the sample


class Scripted:
    """A backend; attributes are the prompts that it read, and whether it was closed."""

    batch_size = 64

    def __init__(self, name: str, answer: Answer) -> None:
        self.name, self.answer, self.tokenizer = name, answer, tiny_language_model().tokenizer
        self.prompts: list[str] = []
        self.closed = False

    def sample(self, prompts, n, sampling, seed):
        self.prompts.extend(prompts)
        return [[self.answer(prompt, k, j) for j in range(n)] for k, prompt in enumerate(prompts)]

    def close(self) -> None:
        self.closed = True


def let_write(patch: pytest.MonkeyPatch, answer: Answer) -> list[tuple[str, Any]]:
    """Let a lab's texts be written by a function; the list fills with who is asked: (pretrained, fine-tuned | None)."""
    models: list[tuple[str, Any]] = []

    def backend(setup, model=None):
        models.append((setup.tier.think.backbone, model))
        return Scripted(f"{setup.tier.think.backbone} {model or ''}", answer)

    for module in ("thinking", "texts"):
        patch.setattr(f"lbm_core.lab.{module}.backend", backend)
    patch.setattr("lbm_core.act.backbone.pretrained_weights", lambda name: f"weights of {name}")
    return models

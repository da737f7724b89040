"""A Lab whose every stage takes a moment: one real period of each kind, models of a few weights, written texts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_backbone import save_tiny_backbone
from tiny_language_model import tiny_language_model

from lbm_core.lab.lab import Lab
from lbm_core.lab.tiers import tier
from lbm_core.think.generate import Generation

SIZES: dict[str, Any] = {
    "data.train_periods": 1,
    "evaluation.periods": 1,
    "evaluation.draws": 1,
    "evaluation.advertisers": 4,
    "evaluation.train_seeds": 1,
    "act.steps": 3,
    "act.batch_size": 4,
    "act.layers": 1,
    "critic.hidden_size": 8,
    "critic.layers": 1,
    "critic.heads": 1,
    "critic.steps": 3,
    "dt.hidden_size": 8,
    "dt.layers": 1,
    "dt.steps": 3,
    "dt_q.steps": 2,
    "rl.hidden_size": 8,
    "rl.steps": 3,
    "uscb.periods": 1,
    "uscb.steps": 60,
    "diffbid.channels": 8,
    "diffbid.steps": 2,
    "diffbid.candidates": 2,
    "gqpo.prompts": 4,
    "gqpo.samples": 2,
}


def small_lab(changes: dict[str, Any] | None = None) -> Lab:
    """The lab of :data:`SIZES`, some of them changed."""
    return Lab(tier("smoke", SIZES | (changes or {})))


def with_language_models(lab: Lab, folder: Path) -> Lab:
    """The same with an LBM-Act of a few weights, and a language model of bytes that thinks."""
    thinks = tiny_language_model()
    thinks.model.save_pretrained(folder / "thinks")
    thinks.tokenizer.save_pretrained(folder / "thinks")
    backbones = {"act.backbone": str(save_tiny_backbone(folder / "acts")), "think.backbone": str(folder / "thinks")}
    return lab.changed(backbones)


class Scripted:
    """A backend that says what a function of prompt, its place in the batch, and sample gives."""

    batch_size = 64

    def __init__(self, name: str, answer: Callable[[str, int, int], Generation]) -> None:
        self.name, self.answer, self.tokenizer = name, answer, tiny_language_model().tokenizer
        self.prompts: list[str] = []
        self.closed = False

    def sample(self, prompts, n, sampling, seed):
        self.prompts.extend(prompts)
        return [[self.answer(prompt, k, j) for j in range(n)] for k, prompt in enumerate(prompts)]

    def close(self) -> None:
        self.closed = True


def let_write(patch: pytest.MonkeyPatch, answer: Callable[[str, int, int], Generation]) -> list[tuple[str, Any]]:
    """Let texts be written by a function; the list fills with the models asked: (pretrained one, fine-tuned one)."""
    models: list[tuple[str, Any]] = []

    def backend(setup, model=None):
        models.append((setup.tier.think.backbone, model))
        return Scripted(f"{setup.tier.think.backbone} {model or ''}", answer)

    for module in ("thinking", "texts"):
        patch.setattr(f"lbm_core.lab.{module}.backend", backend)
    return models

"""Tiers of large machines at a size of seconds: sizes shrunk, small made-up days, nothing else changed."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from scripted import let_write
from small_periods import SmallTraffic, invented_period
from tiny_language_model import tiny_language_model

from lbm_core.data.generation import GenerateConfig, generate
from lbm_core.lab import days
from lbm_core.lab.setup import Setup
from lbm_core.studies import chapter_03
from lbm_core.think import prompt
from lbm_core.think.generate import Generation

# A size by the name of its field, wherever it stands.
SIZES: dict[str, int] = {
    "train_periods": 2,
    "periods": 1,
    "steps": 2,
    "learning_starts": 1,
    "text_steps": 1,
    "batch_size": 4,
    "micro_batch_size": 2,
    "hidden_size": 8,
    "layers": 1,
    "heads": 1,
    "channels": 8,
    "samples": 4,
    "learned": 2,
    "prompts": 4,
    "epochs": 1,
    "max_new_tokens": 8,
    "length_floor": 8,
    "generations": 2,
    "prompts_per_step": 1,
    "candidates": 2,
    "sampling_steps": 2,
    "trials": 1,
    "draws": 1,
    "advertisers": 2,
    "train_seeds": 1,
    "text_train_seeds": 1,
    "closed_loop_periods": 1,
    "closed_loop_at_once": 2,
    "every": 24,
    "probes": 4,
    "coin_prompts": 4,
    "sweep_prompts": 2,
    "sweep_samples": 2,
    "least_samples": 2,
}


def shrunk(config: Any, backbone: str) -> Any:
    """A configuration with smaller sizes and a backbone that is at hand, all else as it was."""
    changes = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            changes[field.name] = shrunk(value, backbone)
        elif field.name == "backbone":
            changes[field.name] = backbone
        elif field.name in SIZES and isinstance(value, int):
            changes[field.name] = min(value, SIZES[field.name])
    return dataclasses.replace(config, **changes)


def save_tiny_writer(folder: Path) -> str:
    """Where a language model of two layers that writes bytes is kept."""
    model = tiny_language_model()
    model.model.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    return str(folder)


def let_rehearse(patch: pytest.MonkeyPatch) -> None:
    """Small made-up days, and texts that state the right ratio and each direction in turn."""
    patch.setattr("lbm_core.auction.replay.Traffic", SmallTraffic)
    patch.setattr(days, "simulate_period", invented_period)
    known, render = {}, prompt.render

    def remembered(facts: Any, *arguments: Any) -> str:
        text = render(facts, *arguments)
        known[text] = facts
        return text

    def answer(text: str, k: int, j: int) -> Generation:
        stated = f"<ratio>{known[text].true_ratio:.4f}</ratio>" if text in known else ""
        return Generation(f"{stated} Hence <answer>{(-1, 0, 1)[j % 3]}</answer>", 9, "stop", 0.1)

    patch.setattr(prompt, "render", remembered)
    let_write(patch, answer)
    for variant in chapter_03.VARIANTS.values():  # "as Table 9" states sizes of its own
        for name in set(variant) & {"steps", "batch_size"}:
            patch.setitem(variant, name, SIZES[name])


def make_days(setup: Setup) -> None:
    """The training days of a rehearsed tier."""
    made = GenerateConfig(setup.dataset, days.train_periods(setup), setup.seed)
    generate(made, days.trajectories(setup).path, simulate=invented_period, progress=False)

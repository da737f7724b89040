"""LBM-Think as artifacts: logged moments, sampled chains of thought, the model after GQPO, guides of a day (§3.3)."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lbm_core import paths
from lbm_core.artifacts import artifact_path, config_key
from lbm_core.data.trajectories import sample_ends, windows
from lbm_core.data.windows import Windows
from lbm_core.pipeline.models import act, act_config, critic, critic_config, model_key
from lbm_core.pipeline.stages import RECIPES, bars, tell, trajectories
from lbm_core.seeding import generator
from lbm_core.tiers import Dataset, Tier

if TYPE_CHECKING:
    from lbm_core.think.generate import Backend, Generation, Sampling
    from lbm_core.think.gqpo import Selection
    from lbm_core.think.guide import ThinkGuide
    from lbm_core.think.prompt import PromptFacts, PromptStyle


@dataclass(frozen=True)
class Moments:
    """Logged moments that LBM-Think is asked about (§3.3).

    Attributes
    ----------
    rows, ticks : (n,) which trajectory and tick
    window : n windows of logged data; their last alpha is the logged action
    facts : n, what the prompts tell
    """

    rows: NDArray[np.int64]
    ticks: NDArray[np.int64]
    window: Windows
    facts: list[PromptFacts]

    def __len__(self) -> int:
        return len(self.rows)


def moments(tier: Tier, dataset: Dataset, seed: int) -> Moments:
    """The tier's number of logged moments with a bid and a past, drawn uniformly."""
    from lbm_core.think.prompt import logged_facts

    found, n = trajectories(tier, dataset, seed), tier.think.prompts
    rows, ticks = sample_ends(found, 2 * n + 64, generator(seed, "think", 0))
    past = np.flatnonzero(ticks > 0)[:n]  # at tick 0 there is nothing to speak of
    rows, ticks = rows[past], ticks[past]
    return Moments(rows, ticks, windows(found, rows, ticks), logged_facts(found, rows, ticks))


def think_settings(tier: Tier) -> tuple[Sampling, PromptStyle]:
    """How a tier's LBM-Think is sampled and prompted."""
    from lbm_core.think.generate import Sampling
    from lbm_core.think.prompt import PromptStyle

    return Sampling.from_tier(tier), PromptStyle.from_tier(tier)


def think_backend(tier: Tier, model: Path | None = None) -> Backend:
    """The language model that thinks: the tier's pretrained one, or the fine-tuned one in a folder.

    It runs in the tier's ``think.backend`` (:func:`lbm_core.think.backends.choose_backend`).
    """
    from lbm_core.think.backends import choose_backend

    return choose_backend(tier.think.backend, tier.think_backbone if model is None else str(model))


def backend_key(tier: Tier) -> dict[str, str]:
    """The part of an artifact's key that says who wrote its texts; empty for transformers."""
    from lbm_core.think.backends import engine_of

    engine = engine_of(tier.think.backend)
    return {} if engine == "transformers" else {"backend": engine}


def chain_store(dataset: Dataset, seed: int, purpose: str) -> Path:
    """File that keeps all texts of a purpose; each is found there by its model, prompt, sampling and seed."""
    key = config_key({"recipe": RECIPES["think"], "dataset": dataset, "seed": seed})
    return paths.cache_dir() / "chains" / f"{purpose}-{dataset}-{key}.jsonl"


def think_chains(
    tier: Tier, dataset: Dataset, seed: int, *, model: Path | None = None
) -> tuple[Moments, list[list[Generation]]]:
    """N chains of thought for each of the tier's moments (Eq. 3, 13), kept text by text, so that a killed run resumes.

    Parameters
    ----------
    model : who thinks; default the tier's pretrained model, or the folder of a fine-tuned one (:func:`gqpo_model`)
    """
    from lbm_core.think.generate import generate
    from lbm_core.think.prompt import render

    asked, backend = moments(tier, dataset, seed), think_backend(tier, model)
    sampling, style = think_settings(tier)
    prompts = [render(fact, backend.tokenizer, style) for fact in asked.facts]
    store = chain_store(dataset, seed, "logged")
    start, before = time.monotonic(), _size(store)
    try:
        groups = generate(prompts, tier.think.samples, backend, sampling, seed=seed, store=store, progress=bars())
    finally:
        backend.close()
    what = f"{len(groups)} x {tier.think.samples} chains of thought ({dataset}, {'GQPO' if model else 'pretrained'})"
    tell(what, _size(store) > before, time.monotonic() - start)
    return asked, groups


def gqpo_selection(
    tier: Tier, dataset: Dataset, seed: int, *, model: Path | None = None, train_seed: int | None = None
) -> Selection:
    """Which of :func:`think_chains` are worth learning (Eq. 12-13), with the fate of each."""
    from lbm_core.think.gqpo import choose_chains

    asked, groups = think_chains(tier, dataset, seed, model=model)
    return choose_chains(
        act(tier, dataset, seed, train_seed=train_seed),
        critic(tier, dataset, seed, train_seed=train_seed),
        asked.window,
        asked.facts,
        groups,
        ratio_required=tier.think.ratio_required,
    )


def gqpo_model(tier: Tier, dataset: Dataset, seed: int, *, train_seed: int | None = None) -> Path | None:
    """LBM-Think after GQPO (Eq. 14): the folder of the fine-tuned model; ``losses.csv`` lies in it.

    None, with a printed sentence, where no chain of thought was worth learning.
    """
    from lbm_core.think.finetune import finetune
    from lbm_core.think.prompt import render

    own_seed = seed if train_seed is None else train_seed
    config = _finetune_config(tier, own_seed)
    path = artifact_path("gqpo", _gqpo_key(tier, dataset, seed, own_seed, config))
    start, there = time.monotonic(), path.exists()
    if not there:
        chosen = gqpo_selection(tier, dataset, seed, train_seed=train_seed).chosen
        asked, groups = think_chains(tier, dataset, seed)
        kept = np.flatnonzero(chosen >= 0)
        if len(kept) == 0:
            print(f"LBM-Think after GQPO ({dataset}): none, no chain of thought had a positive relative-Q")
            return None
        tokenizer, (_, style) = think_backend(tier).tokenizer, think_settings(tier)
        prompts = [render(asked.facts[k], tokenizer, style) for k in kept]
        finetune(config, prompts, [groups[k][chosen[k]].text for k in kept], path)
    tell(f"LBM-Think after GQPO ({dataset})", not there, time.monotonic() - start)
    return path


def think_guide(
    tier: Tier, dataset: Dataset, seed: int, *, model: Path | None = None, backend: Backend | None = None
) -> ThinkGuide:
    """LBM-Think as the guide of a running day; its texts are kept, so that an interrupted evaluation resumes.

    Parameters
    ----------
    model : folder of a fine-tuned LBM-Think; default the tier's pretrained model
    backend : one that is loaded already
    """
    from lbm_core.think.guide import ThinkGuide

    sampling, style = think_settings(tier)
    return ThinkGuide(
        backend or think_backend(tier, model),
        sampling,
        style,
        think_every=tier.think.think_every,
        ratio_required=tier.think.ratio_required,
        seed=seed,
        store=chain_store(dataset, seed, "replay"),
    )


def _finetune_config(tier: Tier, own_seed: int) -> Any:
    from lbm_core.think.finetune import FinetuneConfig

    return FinetuneConfig.from_tier(tier, own_seed)


def _gqpo_key(tier: Tier, dataset: Dataset, seed: int, own_seed: int, config: Any) -> dict[str, Any]:
    sampling, style = think_settings(tier)
    return {
        "recipe": RECIPES["think"],
        "config": asdict(config),
        "prompts": tier.think.prompts,
        "samples": tier.think.samples,
        "ratio_required": tier.think.ratio_required,
        "sampling": asdict(sampling),
        "style": asdict(style),
        **backend_key(tier),
        "act": model_key("act", tier, dataset, seed, act_config(tier, dataset, own_seed)),
        "critic": model_key("critic", tier, dataset, seed, critic_config(tier, dataset, own_seed)),
    }


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0

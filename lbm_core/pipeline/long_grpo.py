"""Fig. 6 over many steps: GRPO on short prompts, from a model that writes the form without worked examples (chapter 7).

A small model answers in the form only behind worked examples, which are most of its prompt and of every step's cost. It
can be taught its own behaviour without them, from its own texts: context distillation (Askell et al. 2021, "A General
Language Assistant as a Laboratory for Alignment").
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from lbm_core.artifacts import artifact_path
from lbm_core.pipeline.language import RECIPE, text_moments
from lbm_core.pipeline.stages import bars, data_config, found_or_made
from lbm_core.pipeline.thinking import backend_key, chain_store, think_backend
from lbm_core.tiers import Dataset, Tier

if TYPE_CHECKING:
    from lbm_core.think.generate import Generation

WARM_EPOCHS = 2
ASKED_FOR_ONE = 2  # moments asked about for each text that is wanted: not every text holds an alpha


def own_texts(tier: Tier, dataset: Dataset, seed: int) -> tuple[list[str], list[str]]:
    """What the pretrained model writes behind worked examples, where it names an alpha, and the prompts without them.

    Returns
    -------
    prompts, texts : at most ``language.long_texts`` of each

    Raises
    ------
    ValueError
        No text held an alpha.
    """
    from lbm_core.act.backbone import backbone_files
    from lbm_core.baselines.text_action import parse_alpha
    from lbm_core.baselines.text_prompt import TextStyle, text_prompt
    from lbm_core.data.trajectories import ALPHA_LIMIT

    wanted, tokenizer = tier.language.long_texts, backbone_files(tier.think_backbone).tokenizer
    facts = text_moments(tier, dataset, seed, ASKED_FOR_ONE * wanted).facts
    alone = [text_prompt(fact, tokenizer, TextStyle()) for fact in facts]
    behind = [text_prompt(fact, tokenizer, TextStyle.from_tier(tier)) for fact in facts]
    written = _written(tier, dataset, seed, behind)
    kept = [
        (prompt, one.text)
        for prompt, one in zip(alone, written, strict=True)
        if parse_alpha(one.text, ALPHA_LIMIT[dataset], truncated=one.truncated).accepted
    ][:wanted]
    if not kept:
        raise ValueError("no text of the pretrained model held a readable alpha: there is nothing to start Fig. 6 from")
    return [prompt for prompt, _ in kept], [text for _, text in kept]


def _written(tier: Tier, dataset: Dataset, seed: int, prompts: list[str]) -> list[Generation]:
    """One text of the pretrained model for each prompt."""
    from lbm_core.baselines.text_action import STOP
    from lbm_core.think.generate import Sampling, generate

    backend = think_backend(tier)
    sampling = Sampling(tier.language.max_new_tokens, tier.language.temperature, stop=STOP)
    try:
        store = chain_store(dataset, seed, "text-actions")
        groups = generate(prompts, 1, backend, sampling, seed=seed, store=store, progress=bars())
    finally:
        backend.close()
    return [group[0] for group in groups]


def warmed(tier: Tier, dataset: Dataset, seed: int) -> Path:
    """The folder of the model that has learned :func:`own_texts`."""
    from lbm_core.think.finetune import FinetuneConfig, finetune

    config = FinetuneConfig(
        backbone=tier.think_backbone,
        epochs=WARM_EPOCHS,
        batch_size=8,
        learning_rate=tier.language.sft_learning_rate,
        precision=tier.language.precision,
        lora_rank=tier.language.lora_rank or 0,
        checkpointing=False,
        seed=seed,
    )
    told = tier.language
    asked = [told.long_texts, told.worked_examples, told.max_new_tokens, told.temperature]
    key = {"recipe": RECIPE, "data": data_config(tier, dataset, seed), "config": asdict(config), "asked": asked}

    def make(path: Path) -> None:
        finetune(config, *own_texts(tier, dataset, seed), path)

    path = artifact_path("warm_text", key | backend_key(tier))
    return found_or_made(f"a model that answers without worked examples ({dataset})", path, make, lambda found: found)


def long_lengths(tier: Tier, dataset: Dataset, seed: int) -> pd.DataFrame:
    """Fig. 6 over ``language.long_steps``, for each of ``language.long_variants``.

    Returns
    -------
    variant, and the columns of :func:`lbm_core.baselines.grpo_text.train_grpo`'s log

    Raises
    ------
    ValueError
        The tier names no variant.
    """
    from lbm_core.baselines.text_training import LOG

    if not tier.language.long_variants:
        raise ValueError("no long training of GRPO: name some in language.long_variants")
    logs = [
        pd.read_csv(_trained(tier, dataset, seed, variant) / LOG).assign(variant=variant)
        for variant in tier.language.long_variants
    ]
    frame = pd.concat(logs, ignore_index=True)
    return frame[["variant", *(name for name in frame if name != "variant")]]


def _trained(tier: Tier, dataset: Dataset, seed: int, variant: str) -> Path:
    from lbm_core.baselines.grpo_text import GRPOTextConfig, train_grpo
    from lbm_core.baselines.text_prompt import TextStyle, text_prompt

    start = warmed(tier, dataset, seed)
    config = GRPOTextConfig.from_tier(
        replace(tier, think_backbone=str(start)),
        dataset,
        seed,
        variant,
        steps=tier.language.long_steps,
        generations=tier.language.long_generations,
        learning_rate=tier.language.long_learning_rate,
    )
    count = config.steps * config.prompts_per_step
    key = {"recipe": RECIPE, "data": data_config(tier, dataset, seed), "start": start.name}
    key |= {"config": asdict(replace(config, backbone=tier.think_backbone)), "moments": [count, seed]}

    def make(path: Path) -> None:
        from lbm_core.act.backbone import backbone_files

        asked, tokenizer = text_moments(tier, dataset, seed, count), backbone_files(tier.think_backbone).tokenizer
        prompts = [text_prompt(fact, tokenizer, TextStyle()) for fact in asked.facts]
        train_grpo(config, prompts, asked.window.alphas[:, -1].tolist(), path)

    what = f"GRPO, {config.steps} steps ({variant}; {dataset}, training seed {config.seed})"
    return found_or_made(what, artifact_path("grpo_long", key), make, lambda found: found)

"""Prompting, SFT and GRPO (Table 2) as artifacts: their moments, their trained models, their bidders (§4.3, A.3)."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from lbm_core.files import artifact_path
from lbm_core.pipeline.stages import data_config, found_or_made
from lbm_core.pipeline.thinking import Moments, chain_store, moments, think_backend
from lbm_core.settings import Dataset
from lbm_core.tiers import Tier

if TYPE_CHECKING:
    from lbm_core.baselines.grpo_text import GRPOTextConfig
    from lbm_core.baselines.sft_text import SFTTextConfig
    from lbm_core.baselines.text_action import TextActionBidder
    from lbm_core.baselines.text_prompt import TextStyle

LANGUAGE = ("Prompting", "SFT", "GRPO")
# Raise it when code changes what is made from an unchanged configuration. Not among the other recipes, which name the
# artifacts of methods that have nothing to do with these.
RECIPE = 1
ANSWER_TOKENS = 24  # enough for SFT's texts, which hold nothing but the tag
GRPO_IN_TABLE = "grpo"  # the variant behind Table 2's row: Eq. 6


def text_moments(tier: Tier, dataset: Dataset, seed: int, count: int) -> Moments:
    """Logged moments to learn alpha from: the first ones that LBM-Think would be asked about."""
    return moments(replace(tier, think=replace(tier.think, prompts=count, on_policy=0.0)), dataset, seed)


def sft_text_model(tier: Tier, dataset: Dataset, seed: int, *, train_seed: int | None = None) -> Path:
    """SFT: the folder of the trained model; ``steps.csv`` in it holds the losses.

    Parameters
    ----------
    seed : of the data
    train_seed : of the training; default ``seed``
    """
    config, style = _sft(tier, seed if train_seed is None else train_seed)

    def make(path: Path) -> None:
        from lbm_core.baselines.sft_text import train_sft

        prompts, alphas = _asked(tier, dataset, seed, tier.language.sft_samples, style)
        train_sft(config, prompts, alphas, path)

    key = _key(tier, dataset, seed, tier.language.sft_samples, config, style)
    what = f"SFT ({dataset}, training seed {config.seed})"
    return found_or_made(what, artifact_path("sft_text", key), make, lambda path: path)


def grpo_text_model(
    tier: Tier, dataset: Dataset, seed: int, variant: str = GRPO_IN_TABLE, *, train_seed: int | None = None
) -> Path:
    """GRPO on text (Eq. 6): the folder of the trained model; ``steps.csv`` in it holds Fig. 6's lengths.

    Parameters
    ----------
    seed, train_seed : as in :func:`sft_text_model`
    variant : of :meth:`lbm_core.baselines.grpo_text.GRPOTextConfig.from_tier`
    """
    config, style = _grpo(tier, dataset, seed if train_seed is None else train_seed, variant)

    def make(path: Path) -> None:
        from lbm_core.baselines.grpo_text import train_grpo

        prompts, alphas = _asked(tier, dataset, seed, tier.language.grpo_moments, style)
        train_grpo(config, prompts, alphas, path)

    key = _key(tier, dataset, seed, tier.language.grpo_moments, config, style)
    what = f"GRPO ({variant}; {dataset}, training seed {config.seed})"
    return found_or_made(what, artifact_path("grpo_text", key), make, lambda path: path)


def sft_losses(tier: Tier, dataset: Dataset, seed: int) -> pd.DataFrame:
    """Losses of SFT: step, loss."""
    from lbm_core.baselines.text_training import LOG

    return pd.read_csv(sft_text_model(tier, dataset, seed) / LOG)


def grpo_lengths(tier: Tier, dataset: Dataset, seed: int) -> pd.DataFrame:
    """Fig. 6: what every step of every variant of the tier looked like.

    Returns
    -------
    variant, and the columns of :func:`lbm_core.baselines.grpo_text.train_grpo`'s log
    """
    from lbm_core.baselines.text_training import LOG

    variants = tier.language.grpo_variants
    logs = [pd.read_csv(grpo_text_model(tier, dataset, seed, each) / LOG).assign(variant=each) for each in variants]
    frame = pd.concat(logs, ignore_index=True)
    return frame[["variant", *(name for name in frame if name != "variant")]]


def language_tier(tier: Tier) -> Tier:
    """The tier with the advertisers whom chapter 7 replays: texts are dear."""
    few = min(tier.language.study_advertisers, tier.evaluation.advertisers)
    return replace(tier, evaluation=replace(tier.evaluation, advertisers=few))


def language_bidder(
    tier: Tier, dataset: Dataset, seed: int, name: str, *, train_seed: int | None = None
) -> TextActionBidder:
    """A bidder that asks a language model for alpha; its texts are kept, so that an interrupted evaluation resumes.

    Parameters
    ----------
    name : one of :data:`LANGUAGE`
    seed : of the data and the texts
    train_seed : of SFT's and GRPO's training; default ``seed``

    Raises
    ------
    ValueError
        Another name.
    """
    from lbm_core.baselines.text_action import STOP, TextActionBidder
    from lbm_core.baselines.text_prompt import TextStyle
    from lbm_core.baselines.text_training import load_text_model
    from lbm_core.data.trajectories import ALPHA_LIMIT
    from lbm_core.think.generate import Sampling
    from lbm_core.think.transformers_backend import TransformersBackend

    if name not in LANGUAGE:
        raise ValueError(f"unknown language baseline {name!r}; choose one of {', '.join(LANGUAGE)}")
    own_seed = seed if train_seed is None else train_seed
    longest = min(ANSWER_TOKENS, tier.language.max_new_tokens) if name == "SFT" else tier.language.max_new_tokens
    if name == "Prompting":
        backend, style = think_backend(tier), TextStyle.from_tier(tier)
    else:
        config: SFTTextConfig | GRPOTextConfig
        if name == "SFT":
            folder = sft_text_model(tier, dataset, seed, train_seed=train_seed)
            config, style = _sft(tier, own_seed)
        else:
            folder = grpo_text_model(tier, dataset, seed, train_seed=train_seed)
            config, style = _grpo(tier, dataset, own_seed, GRPO_IN_TABLE)
        backend = TransformersBackend(load_text_model(folder, config, dtype="bfloat16"))
    return TextActionBidder(
        backend,
        ALPHA_LIMIT[dataset],
        Sampling(longest, tier.language.temperature, stop=STOP),
        style,
        think_every=tier.language.ask_every,
        seed=seed,
        store=chain_store(dataset, seed, "text-actions"),
    )


def _sft(tier: Tier, own_seed: int) -> tuple[SFTTextConfig, TextStyle]:
    from lbm_core.baselines.sft_text import SFTTextConfig
    from lbm_core.baselines.text_prompt import TextStyle

    return SFTTextConfig.from_tier(tier, own_seed), TextStyle.from_tier(tier, reason=False)


def _grpo(tier: Tier, dataset: Dataset, own_seed: int, variant: str) -> tuple[GRPOTextConfig, TextStyle]:
    from lbm_core.baselines.grpo_text import GRPOTextConfig
    from lbm_core.baselines.text_prompt import TextStyle

    return GRPOTextConfig.from_tier(tier, dataset, own_seed, variant), TextStyle.from_tier(tier)


def _asked(tier: Tier, dataset: Dataset, seed: int, count: int, style: TextStyle) -> tuple[list[str], list[float]]:
    """Prompts of logged moments, and the alphas that were logged there."""
    from lbm_core.act.backbone import backbone_files
    from lbm_core.baselines.text_prompt import text_prompt

    asked = text_moments(tier, dataset, seed, count)
    tokenizer = backbone_files(tier.think_backbone).tokenizer
    return [text_prompt(fact, tokenizer, style) for fact in asked.facts], asked.window.alphas[:, -1].tolist()


def _key(tier: Tier, dataset: Dataset, seed: int, count: int, config: Any, style: TextStyle) -> dict[str, Any]:
    return {
        "recipe": RECIPE,
        "data": data_config(tier, dataset, seed),
        "moments": [count, seed],
        "config": asdict(config),
        "style": asdict(style),
    }

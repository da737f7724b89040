"""LBM-Think as artifacts: logged moments, sampled chains of thought, the model after GQPO, guides of a day (§3.3)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lbm_core import paths
from lbm_core.files import artifact_path, config_key
from lbm_core.pipeline.models import act, act_config, critic, critic_config, model_key
from lbm_core.pipeline.moment_sets import Moments, draw_moments, joined, own_days
from lbm_core.pipeline.stages import RECIPES, bars, tell, trajectories
from lbm_core.seeding import generator
from lbm_core.settings import Dataset
from lbm_core.tiers import Tier

if TYPE_CHECKING:
    from lbm_core.act.decide import LBMActBidder
    from lbm_core.data.trajectories import TrajectorySet
    from lbm_core.think.generate import Backend, Generation, Sampling
    from lbm_core.think.gqpo import Selection
    from lbm_core.think.guide import ThinkGuide
    from lbm_core.think.prompt import PromptFacts, PromptStyle


def moments(
    tier: Tier,
    dataset: Dataset,
    seed: int,
    *,
    round_number: int = 1,
    model: Path | None = None,
    train_seed: int | None = None,
) -> Moments:
    """The tier's number of moments with a bid and a past, drawn uniformly: of logged days and, where the tier says so,
    of days that LBM-Act has bid itself.

    Parameters
    ----------
    round_number : of GQPO, >= 1; each round has its own moments
    model : whose advice LBM-Act followed, where LBM-Think leads it (``think.on_policy_guide``)
    train_seed : of LBM-Act, in the days of its own
    """
    n = tier.think.prompts
    own = round(n * tier.think.on_policy)
    later = () if round_number == 1 else (round_number,)
    parts = []
    if own < n:
        logged = trajectories(tier, dataset, seed)
        parts.append(draw_moments(logged, n - own, generator(seed, "think", 0, *later)))
    if own:
        days = on_policy_days(tier, dataset, seed, model=model, train_seed=train_seed)
        parts.append(draw_moments(days, own, generator(seed, "think", 6, round_number), on_policy=True))
    return joined(parts)


def on_policy_days(
    tier: Tier, dataset: Dataset, seed: int, *, model: Path | None = None, train_seed: int | None = None
) -> TrajectorySet:
    """Days that LBM-Act has bid itself under the tier's ``think.on_policy_guide``, in replays of training periods.

    Raises
    ------
    ValueError
        A guide that is neither "rule" nor "LBM-Think".
    """
    guide = tier.think.on_policy_guide
    if guide not in ("rule", "LBM-Think"):
        raise ValueError(f"on_policy_guide must be 'rule' or 'LBM-Think'; got {guide!r}")
    own_seed = seed if train_seed is None else train_seed

    def make() -> LBMActBidder:
        from lbm_core.act.decide import LBMActBidder
        from lbm_core.act.guide_sources import spend_rate_rule

        source = spend_rate_rule() if guide == "rule" else think_guide(tier, dataset, seed, model=model)
        return LBMActBidder(act(tier, dataset, seed, train_seed=train_seed), source)

    key: dict[str, Any] = {
        "act": model_key("act", tier, dataset, seed, act_config(tier, dataset, own_seed)),
        "guide": guide,
    }
    if guide == "LBM-Think":
        sampling, style = think_settings(tier)
        key |= {"sampling": asdict(sampling), "style": asdict(style), "every": tier.think.think_every}
        key |= {"backbone": tier.think_backbone, "model": model.name if model else "", **backend_key(tier)}
    return own_days(tier, dataset, seed, make, key, f"days of LBM-Act led by {guide} ({dataset})")


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
    tier: Tier,
    dataset: Dataset,
    seed: int,
    *,
    model: Path | None = None,
    round_number: int = 1,
    train_seed: int | None = None,
) -> tuple[Moments, list[list[Generation]]]:
    """N chains of thought for each of the tier's moments (Eq. 3, 13), kept text by text, so that a killed run resumes.

    Parameters
    ----------
    model : who thinks; default the tier's pretrained model, or the folder of a fine-tuned one (:func:`gqpo_model`)
    round_number, train_seed : as of :func:`moments`
    """
    asked = moments(tier, dataset, seed, round_number=round_number, model=model, train_seed=train_seed)
    return asked, ask(tier, dataset, seed, asked.facts, "logged", n=tier.think.samples, model=model)


def ask(
    tier: Tier,
    dataset: Dataset,
    seed: int,
    facts: Sequence[PromptFacts],
    purpose: str,
    *,
    n: int,
    model: Path | None = None,
    sampling: Sampling | None = None,
    style: PromptStyle | None = None,
) -> list[list[Generation]]:
    """n chains of thought about each of some facts (Eq. 3); those kept under the purpose's name are not written again.

    Parameters
    ----------
    model : as of :func:`think_chains`
    sampling, style : default the tier's
    """
    from lbm_core.think.generate import generate
    from lbm_core.think.prompt import render

    backend = think_backend(tier, model)
    default, usual = think_settings(tier)
    prompts = [render(fact, backend.tokenizer, style or usual) for fact in facts]
    store = chain_store(dataset, seed, purpose)
    start, before = time.monotonic(), _size(store)
    try:
        groups = generate(prompts, n, backend, sampling or default, seed=seed, store=store, progress=bars())
    finally:
        backend.close()
    what = f"{len(groups)} x {n} chains of thought ({dataset}, {'fine-tuned' if model else 'pretrained'})"
    tell(what, _size(store) > before, time.monotonic() - start)
    return groups


def gqpo_selection(
    tier: Tier,
    dataset: Dataset,
    seed: int,
    *,
    model: Path | None = None,
    round_number: int = 1,
    train_seed: int | None = None,
) -> Selection:
    """Which of :func:`think_chains` are worth learning (Eq. 12-13), with the fate of each."""
    asked, groups = think_chains(tier, dataset, seed, model=model, round_number=round_number, train_seed=train_seed)
    return judged(tier, dataset, seed, asked, groups, train_seed=train_seed)


def judged(
    tier: Tier,
    dataset: Dataset,
    seed: int,
    asked: Moments,
    groups: Sequence[Sequence[Generation]],
    *,
    train_seed: int | None = None,
    ratio_required: bool | None = None,
) -> Selection:
    """What LBM-Act and the critic make of chains of thought (:func:`lbm_core.think.gqpo.choose_chains`)."""
    from lbm_core.think.gqpo import choose_chains

    return choose_chains(
        act(tier, dataset, seed, train_seed=train_seed),
        critic(tier, dataset, seed, train_seed=train_seed),
        asked.window,
        asked.facts,
        groups,
        ratio_required=tier.think.ratio_required if ratio_required is None else ratio_required,
    )


def gqpo_model(
    tier: Tier,
    dataset: Dataset,
    seed: int,
    *,
    train_seed: int | None = None,
    rule: str = "argmax",
    rounds: int | None = None,
) -> Path | None:
    """LBM-Think after GQPO (Eq. 14): the folder of the fine-tuned model; ``losses.csv`` lies in it.

    None, with a printed sentence, where no chain of thought was worth learning.

    Parameters
    ----------
    rule : what is learned, one of :data:`lbm_core.think.rules.RULES`; "argmax" is GQPO, the others are controls
    rounds : default the tier's; each samples with the model of the one before, and trains it further

    Raises
    ------
    ValueError
        No such rule, or fewer than one round.
    """
    from lbm_core.act.backbone import backbone_files
    from lbm_core.think.finetune import FinetuneConfig, finetune
    from lbm_core.think.prompt import render
    from lbm_core.think.rules import RULES, learned, weights

    wanted = tier.think.rounds if rounds is None else rounds
    if rule not in RULES or wanted < 1:
        raise ValueError(f"rule must be one of {', '.join(RULES)} and rounds >= 1; got {rule!r} and {wanted}")
    before = (
        gqpo_model(tier, dataset, seed, train_seed=train_seed, rule=rule, rounds=wanted - 1) if wanted > 1 else None
    )
    if wanted > 1 and before is None:
        return None
    own_seed = seed if train_seed is None else train_seed
    config = FinetuneConfig.from_tier(tier, own_seed)
    path = artifact_path("gqpo", _gqpo_key(tier, dataset, seed, own_seed, asdict(config), rule, wanted))
    name = "GQPO" if rule == "argmax" else f"learning {rule}"
    what = f"LBM-Think after {name} ({dataset}{f', round {wanted}' if wanted > 1 else ''})"
    start, there = time.monotonic(), path.exists()
    if not there:
        where: dict[str, Any] = {"model": before, "round_number": wanted, "train_seed": train_seed}
        asked, groups = think_chains(tier, dataset, seed, **where)
        samples = judged(tier, dataset, seed, asked, groups, train_seed=train_seed).samples
        rng = generator(own_seed, "think", 7, wanted)
        rows = learned(samples, rule, rng, most=tier.think.learned, ruled=asked.ruled)
        if rows.empty:
            print(f"{what}: none, no chain of thought was worth learning")
            return None
        tokenizer, (_, style) = backbone_files(tier.think_backbone).tokenizer, think_settings(tier)
        prompts = [render(asked.facts[k], tokenizer, style) for k in rows["prompt"]]
        texts = [groups[k][j].text for k, j in zip(rows["prompt"], rows["sample"], strict=True)]
        config = replace(config, backbone=str(before)) if before else config
        finetune(config, prompts, texts, path, weights=weights(rows, rule, tier.think.beta))
    tell(what, not there, time.monotonic() - start)
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


def _gqpo_key(
    tier: Tier, dataset: Dataset, seed: int, own_seed: int, config: dict[str, Any], rule: str, rounds: int
) -> dict[str, Any]:
    sampling, style = think_settings(tier)
    told = asdict(tier.think)
    settings = ("prompts", "samples", "ratio_required", "learned", "on_policy")
    key = {name: told[name] for name in settings} | {"rule": rule, "rounds": rounds}
    if tier.think.on_policy:
        key["on_policy_guide"] = tier.think.on_policy_guide
    if rule == "weights":
        key["beta"] = tier.think.beta
    return {
        "recipe": RECIPES["think"],
        "config": config,
        **key,
        "sampling": asdict(sampling),
        "style": asdict(style),
        **backend_key(tier),
        "act": model_key("act", tier, dataset, seed, act_config(tier, dataset, own_seed)),
        "critic": model_key("critic", tier, dataset, seed, critic_config(tier, dataset, own_seed)),
    }


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0

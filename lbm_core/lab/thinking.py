"""LBM-Think as artifacts: its chains of thought, GQPO's selection, the model after GQPO, its own days (§3.3)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lbm_core import paths
from lbm_core.auction.response_tables import table_replay
from lbm_core.data.trajectories import TrajectorySet
from lbm_core.evaluation.runner import spread_rows
from lbm_core.files import config_key
from lbm_core.lab.actor import actor
from lbm_core.lab.artifacts import Artifact, tell
from lbm_core.lab.days import past_periods, tables, trajectories
from lbm_core.lab.decisions import Decisions, days_of, draw_decisions, joined
from lbm_core.lab.models import critic
from lbm_core.lab.setup import Setup, bars
from lbm_core.lab.warmed_up import warm_up
from lbm_core.seeding import generator

if TYPE_CHECKING:
    from lbm_core.act.guides import GuideSource
    from lbm_core.think.config import Rule, Sampling
    from lbm_core.think.generate import Backend, Generation
    from lbm_core.think.gqpo import Selection
    from lbm_core.think.prompt import PromptFacts
    from lbm_core.think.think_guide import ThinkGuide

Tuned = Artifact[Path | None]  # LBM-Think after GQPO: its folder, or None where nothing was worth learning
NOTHING = "nothing.txt"


def writer(setup: Setup) -> dict[str, Any]:
    """What shapes a chain of thought besides its prompt's facts and a fine-tuned model."""
    from lbm_core.think.backends import engine_of

    think = setup.tier.think
    warmed = warm_up(setup)
    shaped = {"backbone": think.backbone, "engine": engine_of(think.backend), "seed": setup.seed}
    shaped["warm_up"] = warmed and warmed.key
    return shaped | {"sampling": asdict(think.sampling), "style": asdict(think.style)}


def started(setup: Setup, before: Tuned | None = None) -> Path | None:
    """The folder of the model that a training starts from, or that thinks: tuned before, warmed up, or None for the
    tier's as it was found."""
    return next((model.get(quiet=True) for model in starts_from(setup, before)), None)


def starts_from(setup: Setup, before: Tuned | None = None) -> tuple[Artifact[Any], ...]:
    """The artifact behind :func:`started`, if there is one."""
    return tuple(one for one in (before or warm_up(setup),) if one is not None)


def backend(setup: Setup, model: Path | None = None) -> Backend:
    """A language model that writes: the tier's pretrained one, or the one in a folder."""
    from lbm_core.think.backends import choose_backend

    think = setup.tier.think
    return choose_backend(think.backend, think.backbone if model is None else str(model))


def text_store(setup: Setup, purpose: str) -> Path:
    """File that keeps all texts of a purpose; each is found there by its model, prompt, sampling and seed."""
    key = config_key({"dataset": setup.dataset, "seed": setup.seed})
    return paths.cache_dir() / "chains" / f"{purpose}-{setup.dataset}-{key}.jsonl"


def ask(
    setup: Setup,
    facts: Sequence[PromptFacts],
    purpose: str,
    n: int,
    model: Path | None = None,
    *,
    sampling: Sampling | None = None,
) -> list[list[Generation]]:
    """n chains of thought about each of some facts (Eq. 3); those kept under the purpose's name are not written again.

    LBM-Think as it is before GQPO writes them, or the model in a folder, in the tier's way unless told otherwise.
    """
    from lbm_core.think.generate import generate
    from lbm_core.think.prompt import render

    writes, think = backend(setup, model or started(setup)), setup.tier.think
    prompts = [render(fact, writes.tokenizer, think.style) for fact in facts]
    store, start = text_store(setup, purpose), time.monotonic()
    before = _size(store)
    try:
        groups = generate(prompts, n, writes, sampling or think.sampling, seed=setup.seed, store=store, progress=bars())
    finally:
        writes.close()
    what = f"{len(groups)} x {n} chains of thought ({setup.dataset}, {'fine-tuned' if model else 'before GQPO'})"
    tell(what, _size(store) > before, time.monotonic() - start)
    return groups


def own_days(setup: Setup, before: Tuned | None = None) -> Artifact[TrajectorySet]:
    """Days that LBM-Act has bid itself under ``gqpo.on_policy_guide`` (or the fine-tuned LBM-Think ``before``), in
    replays of the first training periods. Its words are acted on, however the days of an evaluation are read."""
    setup = setup.changed({"think.reading": "word"})
    who, periods, model = spread_rows(setup.tier.evaluation.advertisers), past_periods(setup), actor(setup)
    guide = setup.tier.gqpo.on_policy_guide if before is None else "LBM-Think"
    config: dict[str, Any] = {"guide": guide, "advertisers": who.tolist(), "seed": setup.seed}
    inputs: tuple[Artifact[Any], ...] = (model, *periods)
    if guide == "LBM-Think":
        think = setup.tier.think
        config |= {"writer": writer(setup), "every": think.every, "tolerance": think.tolerance}
        config |= {"ratio_required": think.ratio_required, "reading": think.reading}
        inputs = (*inputs, *starts_from(setup, before))

    def make(folder: Path) -> None:
        from lbm_core.act.decide import LBMActBidder
        from lbm_core.act.guide_sources import random_directions

        if guide == "LBM-Think":
            source: GuideSource = think_guide(setup, None if before is None else before.get(quiet=True))
        else:
            source = random_directions(setup.training_seed)
        bidder, days = LBMActBidder(model.get(), source), []
        for table in tables(periods):
            result = table_replay(table, bidder, generator(setup.seed, "think", 5, table.period), rows=who)
            days.append(days_of(result, setup.dataset, table.period))
        TrajectorySet.concatenate(days).save(folder / "days.npz")

    what = f"days of LBM-Act instructed by {guide} ({setup.label})"
    return Artifact("own_days", config, make, lambda folder: TrajectorySet.load(folder / "days.npz"), what, inputs)


def decisions(setup: Setup, round_number: int = 1, before: Tuned | None = None) -> Decisions:
    """What a round of GQPO asks about, drawn uniformly: logged decisions and, where the tier says so, its own, met
    under the model of the round before."""
    n = setup.tier.gqpo.prompts
    own = round(n * setup.tier.gqpo.on_policy)
    later = () if round_number == 1 else (round_number,)
    parts = []
    if own < n:
        logged = trajectories(setup).get()
        parts.append(draw_decisions(logged, n - own, generator(setup.seed, "think", 0, *later)))
    if own:
        days = own_days(setup, before).get()
        parts.append(draw_decisions(days, own, generator(setup.seed, "think", 6, round_number), on_policy=True))
    return joined(parts)


def logged_decisions(setup: Setup, count: int) -> Decisions:
    """The first logged decisions that a round of GQPO would be asked about."""
    return draw_decisions(trajectories(setup).get(), count, generator(setup.seed, "think", 0))


def chains(
    setup: Setup, round_number: int = 1, before: Tuned | None = None
) -> tuple[Decisions, list[list[Generation]]]:
    """The decisions of a round of GQPO and N chains of thought about each (Eq. 3, 13), kept text by text."""
    points = decisions(setup, round_number, before)
    return points, ask(
        setup, points.facts, "logged", setup.tier.gqpo.samples, None if before is None else before.get(quiet=True)
    )


def judged(
    setup: Setup, points: Decisions, groups: Sequence[Sequence[Generation]], *, ratio_required: bool | None = None
) -> Selection:
    """What LBM-Act and the critic make of chains of thought (:func:`lbm_core.think.gqpo.choose_chains`)."""
    from lbm_core.think.gqpo import choose_chains

    think = setup.tier.think
    return choose_chains(
        actor(setup).get(),
        critic(setup).get(),
        points.window,
        points.facts,
        groups,
        tolerance=think.tolerance,
        ratio_required=think.ratio_required if ratio_required is None else ratio_required,
    )


def gqpo(setup: Setup, *, rule: Rule = "argmax", rounds: int | None = None) -> Tuned:
    """LBM-Think after GQPO (Eq. 14); ``losses.csv`` lies in its folder. Its value is None if nothing was learned.

    ``rule`` says what is learned, one of :data:`lbm_core.think.gqpo.RULES`; "argmax" is GQPO, the others are controls.
    Each of the ``rounds``, default the tier's, samples with the model of the one before, and trains it further. The
    last one's seed is the training seed plus ``gqpo.finetune.seed``: another learns once more from the same texts.
    ValueError: no such rule, or fewer than one round.
    """
    from lbm_core.think.gqpo import RULES

    config, think = setup.tier.gqpo, setup.tier.think
    count = config.rounds if rounds is None else rounds
    if rule not in RULES or count < 1:
        raise ValueError(f"rule must be one of {', '.join(RULES)} and rounds >= 1; got {rule!r} and {count}")
    before = gqpo(setup.changed({"gqpo.finetune.seed": 0}), rule=rule, rounds=count - 1) if count > 1 else None
    luck = setup.training_seed + config.finetune.seed
    finetuning = setup.bound(config.finetune, backbone=think.backbone, seed=luck)
    inputs: tuple[Artifact[Any], ...] = (trajectories(setup), actor(setup), critic(setup))
    if config.on_policy:
        inputs = (*inputs, own_days(setup, before))
    inputs = (*inputs, *starts_from(setup, before))

    def make(folder: Path) -> None:
        from lbm_core.act.backbone import backbone_files
        from lbm_core.think.finetune import finetune
        from lbm_core.think.gqpo import learned, weights
        from lbm_core.think.prompt import render

        start = started(setup, before)
        if before is not None and start is None:
            (folder / NOTHING).write_text("the round before learned nothing\n")
            return
        points, groups = chains(setup, count, before)
        samples = judged(setup, points, groups).samples
        rows = learned(samples, rule, generator(luck, "think", 7, count), most=config.learned, ruled=points.ruled)
        if rows.empty:
            (folder / NOTHING).write_text("no chain of thought was worth learning\n")
            return
        tokenizer = backbone_files(think.backbone).tokenizer
        prompts = [render(points.facts[k], tokenizer, think.style) for k in rows["prompt"]]
        texts = [groups[k][j].text for k, j in zip(rows["prompt"], rows["sample"], strict=True)]
        own = replace(finetuning, backbone=str(start)) if start else finetuning
        finetune(
            own, prompts, texts, folder, weights=weights(rows, rule, config.beta), checkpoints=artifact.checkpoints
        )

    def load(folder: Path) -> Path | None:
        return None if (folder / NOTHING).exists() else folder

    shaped = replace(config, rule=rule, rounds=count, finetune=finetuning)
    judge = {"tolerance": think.tolerance, "ratio_required": think.ratio_required}
    name = "GQPO" if rule == "argmax" else f"learning {rule}"
    what = f"LBM-Think after {name} ({setup.label}{f', round {count}' if count > 1 else ''})"
    artifact = Artifact("gqpo", [asdict(shaped), writer(setup), judge], make, load, what, inputs)
    return artifact


def think_guide(setup: Setup, model: Path | None = None) -> ThinkGuide:
    """LBM-Think (pretrained, or fine-tuned in a folder) as the guide of a running day; its texts are kept, so that an
    interrupted evaluation resumes."""
    from lbm_core.think.think_guide import ThinkGuide

    writes, store = backend(setup, model or started(setup)), text_store(setup, "replay")
    return ThinkGuide(writes, setup.tier.think, seed=setup.seed, store=store)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0

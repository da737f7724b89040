"""Every method of Tables 1 and 2 that exists so far, as a bidder; and their evaluation over training seeds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from functools import lru_cache, partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from lbm_core.auction.bidder import Bidder
from lbm_core.auction.controls import ConstantAlpha, OnlineLpBidder
from lbm_core.evaluation.closed_loop import BEHAVIOUR, closed_loop, logged_rows
from lbm_core.evaluation.runner import evaluate, spread_rows
from lbm_core.files import artifact_path, writing
from lbm_core.pipeline.baselines import baseline_bidder
from lbm_core.pipeline.guides import guide_of, guided_bidder
from lbm_core.pipeline.language import LANGUAGE, RECIPE, language_bidder
from lbm_core.pipeline.models import act
from lbm_core.pipeline.recipes import OFFLINE_BASELINES
from lbm_core.pipeline.stages import (
    RECIPES,
    cores,
    held_out_periods,
    past_tables,
    replay_period,
    side_by_side,
    tell,
)
from lbm_core.pipeline.thinking import backend_key, gqpo_model, think_guide
from lbm_core.settings import Dataset
from lbm_core.tiers import Tier

if TYPE_CHECKING:
    from lbm_core.act.guides import GuideSource

Factory = Callable[[], Bidder]
CONTROLS = ("constant", "pacing", "PID", "online LP")  # learn nothing, so have no training seed
LEARNED = ("critic alone", "DT", "LLM-DT", "Prompt-LLM-DT", "LBM(P)", "LBM(GQPO)")
LIGHT = ("critic alone", "DT", *OFFLINE_BASELINES)  # small networks, which run on one thread
# Tables 1 and 2, without the baselines of notebooks 06 (OFFLINE_BASELINES) and 07 (LANGUAGE)
METHODS = CONTROLS + LEARNED
UNTRAINED = (*CONTROLS, "Prompting")  # have one training seed, since they have no training
INSTRUCTIONS = {"increase": 1, "decrease": -1, "uncertain": 0}  # Table 4: LBM-Act told the same at every tick

# Settings that say what a chapter compares, and nothing of how one of the compared bids.
_STUDIES = {
    "critic": ("variants",),
    "act": (
        "curves",
        "guides",
        "guide_scales",
        "guide_intervals",
        "guide_levels",
        "sizes",
        "language_steps",
        "study_seeds",
        "study_advertisers",
    ),
    "think": (
        "models",
        "order_prompts",
        "day_every",
        "late_guides",
        "late",
        "missing",
        "controls",
        "temperatures",
        "sweep_prompts",
        "sweep_samples",
        "probes",
        "coin_moments",
        "latency_batch",
    ),
}
_CLOSED_LOOP_SETTINGS = ("closed_loop_periods", "closed_loop_at_once")


def bidders(
    tier: Tier,
    dataset: Dataset,
    seed: int,
    methods: Iterable[str] = METHODS,
    *,
    train_seed: int | None = None,
) -> dict[str, Factory]:
    """Functions that make each method's bidder; a model is found or trained when its bidder is first made.

    Parameters
    ----------
    seed : of the data and the generated texts
    methods : some of :data:`METHODS`, :data:`OFFLINE_BASELINES`, :data:`LANGUAGE` and :data:`INSTRUCTIONS`, or LBM-Act
        under a guide, as in "LBM-Act + rule" (:func:`lbm_core.pipeline.guides.guided_bidder`). "LBM(GQPO)" is left out
        where GQPO found nothing to learn from.
    train_seed : of the models; default ``seed``

    Raises
    ------
    ValueError
        An unknown method.
    """

    def lbm(tuned: bool) -> Bidder:
        model = gqpo_model(tier, dataset, seed, train_seed=train_seed) if tuned else None
        return guided(think_guide(tier, dataset, seed, model=model))

    def guided(guide_source: GuideSource) -> Bidder:
        from lbm_core.act.decide import LBMActBidder

        return LBMActBidder(act(tier, dataset, seed, train_seed=train_seed), guide_source)

    def instructed(direction: int) -> Bidder:
        from lbm_core.act.guide_sources import constant

        return guided(constant(direction))

    def unguided(guide: str) -> Bidder:
        from lbm_core.baselines.language import LLMDTBidder

        return LLMDTBidder(act(tier, dataset, seed, guide, train_seed=train_seed))

    made: dict[str, Factory] = {
        "constant": lambda: ConstantAlpha(1.0),
        "online LP": lambda: OnlineLpBidder(past_tables(tier, dataset, seed)),
        **{
            name: partial(baseline_bidder, tier, dataset, seed, name, train_seed=train_seed)
            for name in ("pacing", "PID", "critic alone", "DT", *OFFLINE_BASELINES)
        },
        **{name: partial(language_bidder, tier, dataset, seed, name, train_seed=train_seed) for name in LANGUAGE},
        "LLM-DT": partial(unguided, "none"),
        "Prompt-LLM-DT": partial(unguided, "task"),
        "LBM(P)": partial(lbm, False),
        "LBM(GQPO)": partial(lbm, True),
        **{name: partial(instructed, direction) for name, direction in INSTRUCTIONS.items()},
    }
    chosen = list(methods)
    for name in chosen:
        if name.startswith("LBM-Act + "):
            guide_of(name)  # a bad name is refused now
            made[name] = partial(guided_bidder, tier, dataset, seed, name, train_seed=train_seed)
    unknown = [name for name in chosen if name not in made]
    if unknown:
        raise ValueError(f"unknown method {unknown[0]!r}; choose some of {', '.join(made)}")
    if "LBM(GQPO)" in chosen and gqpo_model(tier, dataset, seed, train_seed=train_seed) is None:
        chosen.remove("LBM(GQPO)")
    return {name: made[name] for name in chosen}


def evaluate_methods(
    tier: Tier,
    dataset: Dataset,
    seed: int,
    methods: Sequence[str] = METHODS,
    *,
    budget_ratio: float = 1.0,
) -> pd.DataFrame:
    """Replay methods on the tier's held-out periods, conversion draws, advertisers and training seeds.

    Every method and period is kept once it is done, so that a killed evaluation resumes.

    Parameters
    ----------
    seed : of data, texts and the first training; further training seeds count up from it
    methods : as in :func:`bidders`
    budget_ratio : share of every budget that may be spent (Table 5)

    Returns
    -------
    Rows of :func:`lbm_core.evaluation.runner.evaluate` with the column ``train_seed``; methods that learn nothing have
    the first one only.
    """
    periods = held_out_periods(tier, dataset, seed)
    rows, seeds = spread_rows(tier.evaluation.advertisers), range(tier.data.evaluation_seeds)

    def run(one: dict[str, Factory], number: int) -> pd.DataFrame:
        period = replay_period(dataset, number, seed)  # not out of ``periods``: this may be another process
        return evaluate(one, [period], seeds, rows=rows, budget_ratio=budget_ratio, progress=False)

    what = f"replays of {len(methods)} methods ({dataset})"
    return _each_kept("evaluations", what, tier, dataset, seed, methods, periods.numbers, budget_ratio, run)


def evaluate_closed_loop(
    tier: Tier, dataset: Dataset, seed: int, methods: Sequence[str] = (BEHAVIOUR, *METHODS)
) -> pd.DataFrame:
    """Let methods bid in the market of some held-out periods, in the place of its bidders, with every training seed.

    The market is the one that priced the held-out periods, so its prices are those of the replay until somebody bids
    otherwise. Every method and period is kept once it is done.

    Parameters
    ----------
    seed : as in :func:`evaluate_methods`; also of the market
    methods : as in :func:`bidders`, and "behaviour": what the replaced advertisers themselves got

    Returns
    -------
    Rows of :func:`lbm_core.evaluation.closed_loop.closed_loop` with the column ``train_seed``, for the advertisers that
    :func:`evaluate_methods` replays.

    Raises
    ------
    ValueError
        No method, or an unknown one; fewer held-out periods than the tier wants for the closed loop.
    """
    periods, at_once = held_out_periods(tier, dataset, seed), tier.evaluation.closed_loop_at_once
    rows = spread_rows(tier.evaluation.advertisers)
    wanted = tier.evaluation.closed_loop_periods
    if not 1 <= wanted <= len(periods):
        raise ValueError(f"there are {len(periods)} held-out periods; closed_loop_periods is {wanted}")
    picked = np.linspace(0, len(periods) - 1, wanted).round().astype(int)
    frames = []
    if BEHAVIOUR in methods:
        frames = [logged_rows(periods.logs[k], seed, rows=rows).assign(train_seed=seed) for k in picked]
    others = [name for name in methods if name != BEHAVIOUR]

    def run(one: dict[str, Factory], number: int) -> pd.DataFrame:
        return closed_loop(one, dataset, [number], [seed], rows=rows, at_once=at_once, progress=False)

    if others:
        numbers = [periods.numbers[k] for k in picked]
        what = f"closed loops of {len(others)} methods ({dataset})"
        frames.append(_each_kept("closed_loop", what, tier, dataset, seed, others, numbers, at_once, run))
    if not frames:
        raise ValueError("no method to evaluate")
    return pd.concat(frames, ignore_index=True)


def _training_seeds(tier: Tier, name: str) -> int:
    """Trainings of a method that are evaluated."""
    if name in UNTRAINED:
        return 1
    return tier.language.seeds if name in LANGUAGE else tier.act.seeds


def _each_kept(
    kind: str,
    what: str,
    tier: Tier,
    dataset: Dataset,
    seed: int,
    methods: Sequence[str],
    numbers: Sequence[int],
    setting: float,
    run: Callable[[dict[str, Factory], int], pd.DataFrame],
) -> pd.DataFrame:
    """Rows of every training seed, period and method: found as artifacts of ``kind``, or run and kept."""
    settings = asdict(tier)
    for name in _CLOSED_LOOP_SETTINGS:  # say nothing of a single period; at_once is the closed loop's ``setting``
        del settings["evaluation"][name]
    for section, names in _STUDIES.items():
        for name in names:
            del settings[section][name]
    del settings["think"]["backend"]  # what "auto" means here decides
    settings["think"] |= backend_key(tier)
    # Only those whom a language model tells, or who write alpha as text, depend on these: the evaluations of others
    # stay known when they change.
    of_think = {name: settings.pop(name) for name in ("think", "think_backbone")}
    of_language = {"language": settings.pop("language"), "language recipe": RECIPE}
    for name in ("grpo_variants", "study_advertisers", "seeds"):
        del of_language["language"][name]
    start, keys = time.monotonic(), {}
    for train_seed in range(seed, seed + max(tier.act.seeds, tier.language.seeds)):
        trained = [name for name in methods if train_seed - seed < _training_seeds(tier, name)]
        for name in bidders(tier, dataset, seed, trained, train_seed=train_seed):
            for number in numbers:
                key = {
                    "recipe": RECIPES,
                    "tier": settings,
                    "data": [dataset, seed, number],
                    "method": [name, train_seed, setting],
                }
                key |= of_think if name in LANGUAGE or "LBM(" in name or "LBM-Think" in name else {}
                key |= of_language if name in LANGUAGE else {}
                keys[train_seed, number, name] = artifact_path(kind, key) / "rows.parquet"
    # Light methods share out their days; a language model fills the machine alone and is loaded once for all days.
    light = set(methods) <= {*CONTROLS, *LIGHT}
    apart = light and len(numbers) * tier.act.seeds > 4
    missing: dict[tuple[int, ...], list[tuple[int, str]]] = {}
    for (train_seed, number, name), path in keys.items():
        if not path.exists():
            missing.setdefault((train_seed, number) if apart else (train_seed,), []).append((number, name))

    def play(train_seed: int, days: list[tuple[int, str]]) -> None:
        names = list(dict.fromkeys(name for _, name in days))
        made = bidders(tier, dataset, seed, names, train_seed=train_seed)
        factories = {name: lru_cache(maxsize=1)(make) for name, make in made.items()}
        for number, name in sorted(days):  # a period is built once for all
            found, path = run({name: factories[name]}, number), keys[train_seed, number, name]
            with writing(path.parent) as folder:
                found.to_parquet(folder / path.name)

    side_by_side([(play, (which[0], days), {}) for which, days in missing.items()], cores() if apart else 1)
    frames = [pd.read_parquet(path).assign(train_seed=which[0]) for which, path in keys.items()]
    tell(f"{len(frames)} {what}", bool(missing), time.monotonic() - start)
    return pd.concat(frames, ignore_index=True)

"""How each baseline of §4.1 is trained, found again, tuned and bid with."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lbm_core.auction.bidder import Bidder
from lbm_core.auction.controls import PacingBidder, PidBidder
from lbm_core.files import artifact_path
from lbm_core.pipeline.models import critic, critic_config
from lbm_core.pipeline.stages import RECIPES, bars, data_config, found_or_made, past_tables, trajectories
from lbm_core.pipeline.tuning import SPACES, Settings, Tuned, multiples, search, trial_steps
from lbm_core.settings import Dataset
from lbm_core.tiers import Tier

OFFLINE_RL = ("BC", "BCQ", "CQL", "IQL")
DIFFUSION = ("DiffBid", "DiffBid-Q")
OFFLINE_BASELINES = (*OFFLINE_RL, "USCB", "DT-score", "DT-Q (search)", "DT-Q (fine-tuned)", *DIFFUSION)
TRAINABLE = ("DT", "critic", *OFFLINE_BASELINES)  # what `lbm train` knows
TRAINS = tuple(name for name in TRAINABLE if name != "DT-Q (search)")  # whose training makes weights of its own
CONTROLS: dict[str, Callable[..., Bidder]] = {"pacing": PacingBidder, "PID": PidBidder}
DT_SCORE_WEIGHT = 0.5  # w of Table 3 for "DT-score"; the paper tries 0.1, 0.2, 0.5 and 1


@dataclass(frozen=True)
class Recipe:
    """How a method is trained, found again and bid with.

    Attributes
    ----------
    stage : key of RECIPES and folder in the cache
    key : configuration of the model and of the models it is made from, json-plain
    steps : gradient steps (decisions for USCB)
    make, load : train into a folder; read from it
    bidder : of a model and its settings in use
    """

    stage: str
    key: dict[str, Any]
    steps: int
    make: Callable[[Path], None]
    load: Callable[[Path], Any]
    bidder: Callable[[Any, Settings], Bidder]


def tuned(tier: Tier, dataset: Dataset, seed: int, name: str) -> Tuned:
    """Settings of a method, chosen among ``tuning_trials`` on periods of their own; searched once, then loaded.

    Parameters
    ----------
    seed : of the data, the trials' training and the search
    name : a key of :data:`~lbm_core.pipeline.tuning.SPACES`

    Raises
    ------
    ValueError
        A method without anything to choose.
    """
    if name not in SPACES:
        raise ValueError(f"{name!r} has no settings to tune; {', '.join(SPACES)} have")
    if name in CONTROLS:
        defaults = {k: inspect.signature(CONTROLS[name]).parameters[k].default for k in SPACES[name]}
        return search(tier, dataset, seed, name, defaults, 0, lambda _, use: CONTROLS[name](**use))
    if name == "critic alone":
        judge = critic_config(tier, dataset, seed)

        def alone(_: Settings, use: Settings) -> Bidder:
            return critic_bidder(critic(tier, dataset, seed), use)

        return search(tier, dataset, seed, name, {"step": 1.14}, 0, alone, asdict(judge))
    whole = recipe(tier, dataset, seed, name, None, {})
    # DT-Q's own part is small next to the models it starts from, which are trained in full for every trial.
    steps = 0 if name == "DT-Q (search)" else trial_steps(tier, whole.steps)
    own = whole.key.get("dt_q", whole.key)
    defaults = {k: own[k] for k in SPACES[name] if k in own}
    if "dt" in whole.key:
        defaults["target_return"] = whole.key["dt"]["target_return"]
    if "span" in SPACES[name]:
        defaults["span"] = 0.1

    def bidder(training: Settings, use: Settings) -> Bidder:
        tried = recipe(tier, dataset, seed, name, None, dict(training))
        what = f"a trial of {name}"
        model = found_or_made(what, recipe_path(tried, tier, dataset, seed), tried.make, tried.load, quiet=True)
        return tried.bidder(model, use)

    return search(tier, dataset, seed, name, defaults, steps, bidder, whole.key)


def control_bidder(name: str, in_use: Settings) -> Bidder:
    """A control of :data:`CONTROLS`."""
    return CONTROLS[name](**in_use)


def critic_bidder(model: Any, in_use: Settings) -> Bidder:
    """The critic alone, choosing among the last alpha and one step up and down."""
    from lbm_core.baselines.critic_search import CriticBidder

    step = in_use.get("step")
    return CriticBidder(model) if step is None else CriticBidder(model, (1 / step, 1.0, step))


def recipe_path(made: Recipe, tier: Tier, dataset: Dataset, seed: int) -> Path:
    """Folder of a recipe's model in the cache."""
    key = {"recipe": RECIPES[made.stage], "data": data_config(tier, dataset, seed), "config": made.key}
    return artifact_path(made.stage, key)


def recipe(
    tier: Tier, dataset: Dataset, seed: int, name: str, train_seed: int | None, overrides: dict[str, Any]
) -> Recipe:
    """The recipe of one of :data:`TRAINABLE`; ``overrides`` are fields of its config.

    Raises
    ------
    ValueError
        An unknown method.
    """
    of_training = seed if train_seed is None else train_seed

    def data() -> Any:
        return trajectories(tier, dataset, seed)

    if name in OFFLINE_RL:
        from lbm_core.baselines import offline_rl

        rl = offline_rl.OfflineRLConfig.from_tier(tier, dataset, of_training, name, **overrides)  # type: ignore[arg-type]
        return Recipe(
            "offline_rl",
            asdict(rl),
            rl.steps,
            lambda path: offline_rl.train_offline_rl(rl, data(), progress=bars()).save(path),
            lambda path: offline_rl.OfflinePolicy.load(path, rl),
            lambda model, _: offline_rl.OfflineRLBidder(model),
        )
    if name == "USCB":
        from lbm_core.baselines import uscb

        turning = uscb.UscbConfig.from_tier(tier, dataset, of_training, **overrides)
        periods = tier.baseline.uscb_periods

        def play(path: Path) -> None:
            from lbm_core.baselines.uscb_train import table_days, train_uscb

            days = table_days(past_tables(tier, dataset, seed, periods))
            train_uscb(turning, data(), days, progress=bars()).save(path)

        return Recipe(
            "uscb",
            asdict(turning) | {"periods": periods},
            turning.steps,
            play,
            lambda path: uscb.UscbPolicy.load(path, turning),
            lambda model, _: uscb.UscbBidder(model),
        )
    if name in ("DT", "DT-score", "DT-Q (search)"):
        return _transformer(tier, dataset, seed, name, train_seed, overrides)
    if name == "DT-Q (fine-tuned)":
        return _finetuned(tier, dataset, seed, train_seed, overrides)
    if name in DIFFUSION:
        from lbm_core.baselines import diffbid

        diffusing = diffbid.DiffBidConfig.from_tier(tier, dataset, of_training, name, **overrides)  # type: ignore[arg-type]
        return Recipe(
            "diffbid",
            asdict(diffusing),
            diffusing.steps,
            lambda path: diffbid.train_diffbid(diffusing, data(), progress=bars()).save(path),
            lambda path: diffbid.DiffBid.load(path, diffusing),
            lambda model, use: diffbid.DiffBidBidder(model, use.get("target_return")),
        )
    if name == "critic":
        from lbm_core.critic import iql

        judging = critic_config(tier, dataset, of_training, **overrides)

        def judge(path: Path) -> None:
            iql.train_critic(judging, data(), folder=path, progress=bars())

        return Recipe(
            "critic",
            asdict(judging),
            judging.steps,
            judge,
            lambda path: iql.Critic.load(path, judging),
            critic_bidder,
        )
    raise ValueError(f"unknown method {name!r}; choose one of {', '.join(TRAINABLE)}")


def _transformer(
    tier: Tier, dataset: Dataset, seed: int, name: str, train_seed: int | None, overrides: dict[str, Any]
) -> Recipe:
    """DT, DT-score, and DT-Q as search, whose model is the plain DT."""
    from lbm_core.baselines.decision_transformer import DecisionTransformer, DTBidder, DTConfig, train_dt
    from lbm_core.baselines.dt_q import MULTIPLES, DTQSearchBidder

    if name == "DT-score":
        overrides = {"penalty_weight": DT_SCORE_WEIGHT} | overrides
    if name == "DT-Q (search)":
        overrides = tuned(tier, dataset, seed, "DT").training | overrides
    config = DTConfig.from_tier(tier, dataset, seed if train_seed is None else train_seed, **overrides)

    def bidder(model: Any, use: Settings) -> Bidder:
        target = use.get("target_return")
        if name == "DT-Q (search)":
            tried = multiples(use["span"]) if "span" in use else MULTIPLES
            return DTQSearchBidder(model, critic(tier, dataset, seed, train_seed=train_seed), tried, target)
        return DTBidder(model, target)

    def make(path: Path) -> None:
        train_dt(config, trajectories(tier, dataset, seed), progress=bars()).save(path)

    return Recipe("dt", asdict(config), config.steps, make, lambda path: DecisionTransformer.load(path, config), bidder)


def _finetuned(tier: Tier, dataset: Dataset, seed: int, train_seed: int | None, overrides: dict[str, Any]) -> Recipe:
    """DT-Q as fine-tuning of the tuned DT."""
    from lbm_core.baselines.decision_transformer import DecisionTransformer, DTBidder, DTConfig
    from lbm_core.baselines.dt_q import DTQConfig, finetune_dt

    of_training = seed if train_seed is None else train_seed
    config = DTQConfig.from_tier(tier, of_training, **overrides)
    chosen = tuned(tier, dataset, seed, "DT").training
    start = DTConfig.from_tier(tier, dataset, of_training, **chosen)
    judge = critic_config(tier, dataset, of_training)

    def make(path: Path) -> None:
        plain = recipe(tier, dataset, seed, "DT", train_seed, dict(chosen))
        transformer = found_or_made("DT", recipe_path(plain, tier, dataset, seed), plain.make, plain.load, quiet=True)
        values = critic(tier, dataset, seed, train_seed=train_seed)
        finetune_dt(config, transformer, values, trajectories(tier, dataset, seed), progress=bars()).save(path)

    return Recipe(
        "dt_q",
        {"dt_q": asdict(config), "dt": asdict(start), "critic": asdict(judge)},
        config.steps,
        make,
        lambda path: DecisionTransformer.load(path, start),
        lambda model, use: DTBidder(model, use.get("target_return")),
    )

"""The small search that every baseline gets: the same number of trials, on periods nobody trains or is judged on."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
import pandas as pd

from lbm_core.auction.bidder import Bidder
from lbm_core.auction.response_tables import table_replay
from lbm_core.evaluation.runner import spread_rows
from lbm_core.files import artifact_path, writing
from lbm_core.pipeline.stages import RECIPES, data_config, tell, tuning_tables
from lbm_core.settings import Dataset
from lbm_core.tiers import Tier

_TARGETS = (0.8, 1.1, 1.5, 2.0)  # first return-to-go, in units of B / C
_RATES = (1e-4, 3e-4, 1e-3, 3e-3)
_STATES = ("extended", "paper")  # with past alphas, an action can only be judged against them; without, by its level
# What is searched, parameter by parameter. A default is always among the values, and the first trial has them all.
SPACES: dict[str, dict[str, tuple[float | str, ...]]] = {
    "pacing": {"cap": (0.8, 1.0, 1.2, 1.5), "gain": (0.1, 0.2, 0.4)},
    "PID": {"proportional": (0.05, 0.1, 0.2), "integral": (0.02, 0.05, 0.1), "highest": (1.0, 1.2, 1.5, 2.0)},
    "critic alone": {"step": (1.05, 1.14, 1.3)},
    "USCB": {"learning_rate": _RATES, "noise": (0.1, 0.3, 0.6), "largest_move": (0.1, 0.2, 0.4)},
    "BC": {"learning_rate": _RATES, "state_kind": _STATES},
    "BCQ": {"learning_rate": _RATES, "state_kind": _STATES, "flexibility": (0.02, 0.05, 0.15), "n_step": (1, 12)},
    "CQL": {"learning_rate": _RATES, "state_kind": _STATES, "conservative_weight": (1.0, 5.0, 10.0), "n_step": (1, 12)},
    "IQL": {
        "learning_rate": _RATES,
        "state_kind": _STATES,
        "expectile": (0.5, 0.7, 0.9),
        "temperature": (0.3, 1.0, 3.0),
        "n_step": (1, 12),
    },
    "DT": {"learning_rate": _RATES, "target_return": _TARGETS},
    "DT-score": {"learning_rate": _RATES, "target_return": _TARGETS},
    "DT-Q (search)": {"span": (0.02, 0.1, 0.2), "target_return": _TARGETS},
    "DT-Q (fine-tuned)": {"q_weight": (1.0, 10.0, 100.0), "target_return": _TARGETS},
    "DiffBid": {"learning_rate": (2e-4, 5e-4, 1e-3), "guidance": (1.0, 1.2, 2.0), "target_return": _TARGETS},
    "DiffBid-Q": {"learning_rate": (2e-4, 5e-4, 1e-3), "guidance": (1.0, 1.2, 2.0), "target_return": _TARGETS},
}
# Settings of a bidder; all others are of its training.
IN_USE = ("cap", "gain", "proportional", "integral", "highest", "step", "span", "target_return")

Settings = dict[str, Any]


@dataclass(frozen=True)
class Tuned:
    """What a search chose.

    Attributes
    ----------
    training : settings that differ from the defaults of the tier, fields of the method's config
    in_use : settings of the bidder that differ from its defaults
    trials : one row per trial: method, trial, score (mean expected score per advertiser), chosen, setting (json),
        steps, seconds
    """

    training: Settings
    in_use: Settings
    trials: pd.DataFrame


def search(
    tier: Tier,
    dataset: Dataset,
    seed: int,
    name: str,
    defaults: Settings,
    steps: int,
    bidder: Callable[[Settings, Settings], Bidder],
    depends: Any = None,
) -> Tuned:
    """Best of a fixed number of trials by mean expected score; found in the cache or searched.

    Trials differ from each other. Each trains with a share of the tier's steps (``tuning_share``) and is replayed on
    the tuning periods' response curves. A trained trial is an artifact of its own, so that a killed search goes on
    where it stopped.

    Parameters
    ----------
    name : a key of :data:`SPACES`
    defaults : the tier's value of every searched parameter
    steps : gradient steps of a trial; 0 for a method that learns nothing
    bidder : makes the bidder of (training settings, settings in use)
    depends : what else names the search: configs of the models it builds on

    Raises
    ------
    ValueError
        A default that is not among the values searched.
    """
    space, sizes = SPACES[name], tier.baseline
    for parameter, values in space.items():
        if defaults[parameter] not in values:
            raise ValueError(f"{parameter} of {name}: the default {defaults[parameter]} is not among {values}")
    key = {
        "recipe": RECIPES,
        "data": data_config(tier, dataset, seed),
        "method": [name, defaults, steps, depends],
        "space": space,
        "search": [sizes.tuning_trials, sizes.tuning_periods, tier.evaluation.advertisers],
    }
    path, start = artifact_path("tuning", key) / "trials.parquet", time.monotonic()
    there = path.exists()
    if not there:
        trials = _trials(tier, dataset, seed, name, defaults, steps, bidder)
        with writing(path.parent) as folder:
            trials.to_parquet(folder / path.name)
    trials = pd.read_parquet(path)
    if not there:  # a search is asked for again at every use of its method
        tell(f"{len(trials)} trials of {name} ({dataset})", True, time.monotonic() - start)
    best = json.loads(trials.loc[trials["chosen"], "setting"].iloc[0])
    changed = {k: v for k, v in best.items() if v != defaults[k]}
    return Tuned(
        training={k: v for k, v in changed.items() if k not in IN_USE},
        in_use={k: v for k, v in changed.items() if k in IN_USE},
        trials=trials,
    )


def _trials(
    tier: Tier,
    dataset: Dataset,
    seed: int,
    name: str,
    defaults: Settings,
    steps: int,
    bidder: Callable[[Settings, Settings], Bidder],
) -> pd.DataFrame:
    tables, rows = tuning_tables(tier, dataset, seed), spread_rows(tier.evaluation.advertisers)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    study.enqueue_trial(defaults)
    found: list[tuple[Any, ...]] = []
    tried: dict[str, float] = {}
    trials = min(tier.baseline.tuning_trials, math.prod(len(values) for values in SPACES[name].values()))
    while len(found) < trials:
        trial = study.ask()
        setting = {k: trial.suggest_categorical(k, values) for k, values in SPACES[name].items()}
        text = json.dumps(setting)
        if text in tried:  # drawn before: no trial spent
            study.tell(trial, tried[text])
            continue
        start = time.monotonic()
        training = {k: v for k, v in setting.items() if k not in IN_USE}
        made = bidder(training | ({"steps": steps} if steps else {}), _of_use(setting))
        score = float(np.mean([table_replay(table, made, rows=rows).summary()["score"].mean() for table in tables]))
        study.tell(trial, score)
        tried[text] = score
        found.append((name, len(found), score, text, steps, time.monotonic() - start))
    frame = pd.DataFrame(found, columns=["method", "trial", "score", "setting", "steps", "seconds"])
    return frame.assign(chosen=frame.index == frame["score"].idxmax())


def _of_use(setting: Settings) -> Settings:
    return {k: v for k, v in setting.items() if k in IN_USE}


def trial_steps(tier: Tier, steps: int) -> int:
    """Gradient steps of a trial of a method with so many."""
    return max(1, round(steps * tier.baseline.tuning_share))


def multiples(span: float) -> Sequence[float]:
    """Candidates of DT-Q's search around DT's alpha, as shares of a span; 0.1 gives its defaults."""
    return tuple(round(1 + span * share, 6) for share in (-1, -0.5, -0.1, 0, 0.1, 0.5, 1))

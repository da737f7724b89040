"""The small search that every method gets: the same number of trials, on periods nobody trains or is judged on."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from lbm_core.auction.response_tables import table_replay
from lbm_core.evaluation.runner import spread_rows
from lbm_core.lab.artifacts import Artifact
from lbm_core.lab.days import tables, tuning_periods
from lbm_core.lab.guided import Contender, Guided
from lbm_core.lab.methods import IN_USE, Choice, Method, method
from lbm_core.lab.setup import Setup


@dataclass(frozen=True)
class Tuned:
    """What a search chose."""

    choice: Choice  # settings that differ from the tier's
    trials: pd.DataFrame  # method, trial, score (mean expected, per advertiser), setting (json), steps, seconds, chosen


def chosen(setup: Setup, name: str | Guided, *, tune: bool = True) -> Choice:
    """Settings of a method: those that its search chose, or the tier's where it has none or without ``tune``."""
    row = method(name)
    return tuned(setup, row.name).choice if tune and row.space else Choice(base=_base(setup, row))


def contender(setup: Setup, name: str | Guided, *, tune: bool = True) -> Contender:
    """A method as it bids in a setup, with the settings that its search chose, or the tier's without ``tune``."""
    return method(name).contend(setup, chosen(setup, name, tune=tune))


def model(setup: Setup, name: str, *, tune: bool = True, **changes: Any) -> Artifact[Any]:
    """The weights of a method that has its own; ``changes`` are fields of its configuration, over what was chosen."""
    row = method(name)
    if row.model is None:
        raise ValueError(f"{name!r} trains no weights of its own")
    choice = chosen(setup, name, tune=tune)
    return row.model(setup, replace(choice, training={**choice.training, **changes}))


def tuned(setup: Setup, name: str) -> Tuned:
    """What the search of a method chose, among the tier's number of trials; searched once, then loaded.

    Trials differ from each other. Each trains with a share of the method's steps and is replayed on the tuning periods'
    response curves. A trained trial is an artifact of its own, so that a killed search goes on where it stopped. The
    search trains with the data's seed.
    """
    row, own = method(name), replace(setup, train_seed=None)
    if not row.space:
        raise ValueError(f"{row.name!r} has no settings to tune")
    base = _base(own, row)
    defaults = _defaults(own, row, base)
    for key, values in row.space.items():
        if defaults[key] not in values:
            raise ValueError(f"{key} of {row.name}: the default {defaults[key]} is not among {values}")
    plain, sizes = row.contend(own, Choice(base=base)), own.tier.tuning
    # A search is named by its untuned contender, whose models it need not train, and by what these are made from.
    config = {
        "plain": [row.name, plain.config, [[one.stage, one.key] for one in plain.models]],
        "space": {key: list(values) for key, values in row.space.items()},
        "defaults": defaults,
        "search": asdict(sizes) | {"advertisers": own.tier.evaluation.advertisers, "seed": own.seed},
    }
    artifact = Artifact(
        "tuning",
        config,
        lambda folder: _trials(own, row, defaults, base).to_parquet(folder / "trials.parquet"),
        lambda folder: pd.read_parquet(folder / "trials.parquet"),
        f"{sizes.trials} trials of {row.name} ({own.dataset})",
        tuning_periods(own),
    )
    trials = artifact.get(quiet=True)  # asked for again at every use of its method
    best = json.loads(trials.loc[trials["chosen"], "setting"].iloc[0])
    changed = {key: value for key, value in best.items() if value != defaults[key]}
    return Tuned(replace(_split(changed), base=base), trials)


def trial_steps(setup: Setup, row: Method, base: Mapping[str, Any]) -> int:
    """Gradient steps of a trial of a method; 0 for one that learns nothing of its own."""
    if row.model is None:
        return 0
    return max(1, round(row.model(setup, Choice(base=base)).config.steps * setup.tier.tuning.share))


def _base(setup: Setup, row: Method) -> Mapping[str, Any]:
    return tuned(setup, row.starts_from).choice.training if row.starts_from else {}


def _split(setting: Mapping[str, Any]) -> Choice:
    """Settings of training and of use."""
    in_use = {key: value for key, value in setting.items() if key in IN_USE}
    return Choice({key: value for key, value in setting.items() if key not in IN_USE}, in_use)


def _defaults(setup: Setup, row: Method, base: Mapping[str, Any]) -> dict[str, Any]:
    """The tier's value of every searched parameter."""
    own = {} if row.model is None else asdict(row.model(setup, Choice(base=base)).config)
    known = {"target_return": setup.tier.dt.target_return} | own | dict(row.defaults)
    return {name: known[name] for name in row.space}


def _trials(setup: Setup, row: Method, defaults: dict[str, Any], base: Mapping[str, Any]) -> pd.DataFrame:
    import optuna

    who, days = spread_rows(setup.tier.evaluation.advertisers), tables(tuning_periods(setup))
    steps = trial_steps(setup, row, base)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=setup.seed))
    study.enqueue_trial(defaults)
    rows: list[tuple[Any, ...]] = []
    scores: dict[str, float] = {}
    count = min(setup.tier.tuning.trials, math.prod(len(values) for values in row.space.values()))
    while len(rows) < count:
        trial, start = study.ask(), time.monotonic()
        setting = {name: trial.suggest_categorical(name, values) for name, values in row.space.items()}
        text = json.dumps(setting)
        if text not in scores:  # one that was drawn before costs no trial
            choice = _split(setting)
            training = {**choice.training, **({"steps": steps} if steps else {})}
            bidder = row.contend(setup, replace(choice, training=training, base=base)).make()
            means = [table_replay(day, bidder, rows=who).summary()["score"].mean() for day in days]
            scores[text] = float(np.mean(means))
            rows.append((row.name, len(rows), scores[text], text, steps, time.monotonic() - start))
        study.tell(trial, scores[text])
    frame = pd.DataFrame(rows, columns=["method", "trial", "score", "setting", "steps", "seconds"])
    return frame.assign(chosen=frame.index == frame["score"].idxmax())

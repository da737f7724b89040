"""The small search that every method gets: the same number of trials, on periods nobody trains or is judged on."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lbm_core.auction.bidder import Bidder
from lbm_core.auction.response_tables import table_replay
from lbm_core.evaluation.runner import spread_rows
from lbm_core.lab.artifacts import Artifact
from lbm_core.lab.days import tables, tuning_periods
from lbm_core.lab.guided import Contender, Guided
from lbm_core.lab.methods import IN_USE, Choice, Method, method
from lbm_core.lab.setup import Setup


@dataclass(frozen=True)
class Tuned:
    """What a search chose.

    Attributes
    ----------
    choice : settings that differ from the tier's
    trials : one row per trial: method, trial, score (mean expected score per advertiser), chosen, setting (json),
        steps, seconds
    """

    choice: Choice
    trials: pd.DataFrame


def chosen(setup: Setup, name: str | Guided, *, tune: bool = True) -> Choice:
    """Settings of a method: those that its search chose, or the tier's where it has none or ``tune`` is False."""
    row = method(name)
    if tune and row.space:
        return tuned(setup, row.name).choice
    return Choice(base=_base(setup, row))


def contender(setup: Setup, name: str | Guided, *, tune: bool = True) -> Contender:
    """A method as it bids in a setup, with the settings that its search chose."""
    return method(name).contend(setup, chosen(setup, name, tune=tune))


def model(setup: Setup, name: str, *, tune: bool = True, **changes: Any) -> Artifact[Any]:
    """The weights of a method; ``changes`` are fields of its configuration, over what the search chose.

    Raises
    ------
    ValueError
        A method without weights of its own.
    """
    row, choice = method(name), chosen(setup, name, tune=tune)
    if row.model is None:
        raise ValueError(f"{name!r} trains no weights of its own")
    return row.model(setup, replace(choice, training={**choice.training, **changes}))


def tuned(setup: Setup, name: str) -> Tuned:
    """What the search of a method chose, among the tier's number of trials; searched once, then loaded.

    Trials differ from each other. Each trains with a share of the method's steps and is replayed on the tuning periods'
    response curves. A trained trial is an artifact of its own, so that a killed search goes on where it stopped. The
    search trains with the data's seed.

    Raises
    ------
    ValueError
        A method without anything to choose, or a default that is not among the values searched.
    """
    artifact = _search(replace(setup, train_seed=None), method(name))
    trials = artifact.get(quiet=artifact.exists)  # asked for again at every use of its method
    best = json.loads(trials.loc[trials["chosen"], "setting"].iloc[0])
    defaults = _defaults(setup, method(name))
    changed = {key: value for key, value in best.items() if value != defaults[key]}
    choice = Choice(
        {key: value for key, value in changed.items() if key not in IN_USE},
        {key: value for key, value in changed.items() if key in IN_USE},
        _base(setup, method(name)),
    )
    return Tuned(choice, trials)


def _base(setup: Setup, row: Method) -> Mapping[str, Any]:
    return tuned(setup, row.starts_from).choice.training if row.starts_from else {}


def _search(setup: Setup, row: Method) -> Artifact[pd.DataFrame]:
    if not row.space:
        raise ValueError(f"{row.name!r} has no settings to tune")
    defaults, periods, sizes = _defaults(setup, row), tuning_periods(setup), setup.tier.tuning
    for name, values in row.space.items():
        if defaults[name] not in values:
            raise ValueError(f"{name} of {row.name}: the default {defaults[name]} is not among {values}")
    plain = row.contend(setup, Choice(base=_base(setup, row)))
    # What is tuned is named by its untuned models, which the search need not train, and by what these are made from.
    config = {
        "method": row.name,
        "plain": [plain.config, [[one.stage, one.key] for one in plain.models]],
        "space": {name: list(values) for name, values in row.space.items()},
        "defaults": defaults,
        "search": asdict(sizes) | {"advertisers": setup.tier.evaluation.advertisers, "seed": setup.seed},
    }

    def make(folder: Path) -> None:
        _trials(setup, row, defaults).to_parquet(folder / "trials.parquet")

    what = f"{sizes.trials} trials of {row.name} ({setup.dataset})"
    return Artifact("tuning", config, make, lambda folder: pd.read_parquet(folder / "trials.parquet"), what, periods)


def _defaults(setup: Setup, row: Method) -> dict[str, Any]:
    """The tier's value of every searched parameter."""
    own: dict[str, Any] = {}
    if row.model is not None:
        own = asdict(row.model(setup, Choice(base=_base(setup, row))).config)
    fallback = {"target_return": setup.tier.dt.target_return, **_control_defaults(row)}
    return {name: row.defaults.get(name, own.get(name, fallback.get(name))) for name in row.space}


def _control_defaults(row: Method) -> dict[str, Any]:
    import inspect

    from lbm_core.auction.controls import PacingBidder, PidBidder

    control = {"pacing": PacingBidder, "PID": PidBidder}.get(row.name)
    return {} if control is None else {k: p.default for k, p in inspect.signature(control).parameters.items()}


def _trials(setup: Setup, row: Method, defaults: dict[str, Any]) -> pd.DataFrame:
    import optuna

    sizes, who = setup.tier.tuning, spread_rows(setup.tier.evaluation.advertisers)
    days, base = tables(tuning_periods(setup)), _base(setup, row)
    steps = trial_steps(setup, row)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=setup.seed))
    study.enqueue_trial(defaults)
    rows: list[tuple[Any, ...]] = []
    scores: dict[str, float] = {}
    count = min(sizes.trials, math.prod(len(values) for values in row.space.values()))
    while len(rows) < count:
        trial = study.ask()
        setting = {name: trial.suggest_categorical(name, values) for name, values in row.space.items()}
        text = json.dumps(setting)
        if text in scores:  # drawn before: no trial spent
            study.tell(trial, scores[text])
            continue
        start = time.monotonic()
        training = {name: value for name, value in setting.items() if name not in IN_USE}
        choice = Choice(
            training | ({"steps": steps} if steps else {}),
            {name: value for name, value in setting.items() if name in IN_USE},
            base,
        )
        bidder: Bidder = row.contend(setup, choice).make()
        score = float(np.mean([table_replay(day, bidder, rows=who).summary()["score"].mean() for day in days]))
        study.tell(trial, score)
        scores[text] = score
        rows.append((row.name, len(rows), score, text, steps, time.monotonic() - start))
    frame = pd.DataFrame(rows, columns=["method", "trial", "score", "setting", "steps", "seconds"])
    return frame.assign(chosen=frame.index == frame["score"].idxmax())


def trial_steps(setup: Setup, row: Method) -> int:
    """Gradient steps of a trial of a method; 0 for one that learns nothing of its own."""
    if row.model is None:
        return 0
    return max(1, round(row.model(setup, Choice(base=_base(setup, row))).config.steps * setup.tier.tuning.share))

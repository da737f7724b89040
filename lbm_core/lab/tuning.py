"""What the search of each method of the registry chose, and its models and bidders with that."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, NamedTuple

import pandas as pd

from lbm_core.auction.bidder import Bidder
from lbm_core.lab.actor import actor_trials
from lbm_core.lab.artifacts import Artifact
from lbm_core.lab.guided import Contender, Guided
from lbm_core.lab.methods import IN_USE, TRAINABLE, Choice, Method, method
from lbm_core.lab.search import best_setting, search, searching
from lbm_core.lab.setup import Setup


class Tuned(NamedTuple):
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
        raise ValueError(f"{name!r} trains no weights of its own; choose one of critic, {', '.join(TRAINABLE)}")
    choice = chosen(setup, name, tune=tune)
    return row.model(setup, replace(choice, training={**choice.training, **changes}))


def tuned(setup: Setup, name: str) -> Tuned:
    """What the search of a method chose, among the tier's number of trials; searched once, then loaded.

    A trial trains with a share of the method's steps. A trained trial is an artifact of its own, so that a killed
    search goes on where it stopped.
    """
    row, own = method(name), searching(setup)
    if row.played:
        return Tuned(Choice(), actor_trials(own, row.played).get(quiet=True))
    if not row.space:
        raise ValueError(f"{row.name!r} has no settings to tune")
    base = _base(own, row)
    config = row.model(own, Choice(base=base)).config if row.model else None
    steps = max(1, round(config.steps * own.tier.tuning.share)) if config else 0  # gradient steps of a trial
    known = {"target_return": own.tier.dt.target_return} | (asdict(config) if config else {}) | dict(row.defaults)
    defaults = {key: known[key] for key in row.space}  # the tier's value of everything that is searched
    # A search is named by its untuned contender, whose models it need not train, and by what these are made from.
    plain = row.contend(own, Choice(base=base))
    named = [row.name, plain.config, [[one.stage, one.key] for one in plain.models]]

    def play(setting: dict[str, Any]) -> list[Bidder]:
        choice = split(setting)
        training = {**choice.training, **({"steps": steps} if steps else {})}
        return [row.contend(own, replace(choice, training=training, base=base)).make()]

    # Asked for again at every use of its method.
    trials = search(own, row.name, play, row.space, defaults, named, steps=steps).get(quiet=True)
    changed = {key: value for key, value in best_setting(trials).items() if value != defaults[key]}
    return Tuned(replace(split(changed), base=base), trials)


def _base(setup: Setup, row: Method) -> Mapping[str, Any]:
    return tuned(setup, row.starts_from).choice.training if row.starts_from else {}


def split(setting: Mapping[str, Any]) -> Choice:
    """Settings of training and of use."""
    in_use = {key: value for key, value in setting.items() if key in IN_USE}
    return Choice({key: value for key, value in setting.items() if key not in IN_USE}, in_use)

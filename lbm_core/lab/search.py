"""The small search that every method gets: the same number of trials, on periods nobody trains or is judged on."""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lbm_core.auction.bidder import Bidder
from lbm_core.auction.response_tables import table_replay
from lbm_core.evaluation.runner import spread_rows
from lbm_core.lab.artifacts import Artifact
from lbm_core.lab.days import tables, tuning_periods
from lbm_core.lab.setup import Setup

Space = Mapping[str, tuple[float | str, ...]]
Play = Callable[[dict[str, Any]], Sequence[Bidder]]  # the bidders of a setting; their mean score is what counts


def search(
    setup: Setup, name: str, play: Play, space: Space, defaults: Mapping[str, Any], plain: Any, *, steps: int = 0
) -> Artifact[pd.DataFrame]:
    """Trials of a method's settings, the defaults among them.

    Columns: method, trial, score (mean per advertiser), setting (json), steps, seconds, drift (of LBM-Act and its
    relatives without instructions, of log alpha a day), chosen. Trials differ from each other; each is replayed on the
    tuning periods' response curves, with the data's seed. ``plain`` is json-plain, what else the trials depend on: keys
    of models, which are made when a trial asks for them; ``steps`` are gradient steps of a trial's own training.
    ValueError: a default that is not among the values of its space.
    """
    for key, values in space.items():
        if defaults[key] not in values:
            raise ValueError(f"{key} of {name}: the default {defaults[key]} is not among {values}")
    sizes = setup.tier.tuning
    tried = {key: list(values) for key, values in space.items()}
    sought = asdict(sizes) | {"advertisers": setup.tier.evaluation.advertisers, "seed": setup.seed}
    config = {"plain": plain, "space": tried, "defaults": dict(defaults), "search": sought}

    def make(folder: Path) -> None:
        import optuna

        who, days = spread_rows(setup.tier.evaluation.advertisers), tables(tuning_periods(setup))
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=setup.seed))
        study.enqueue_trial(dict(defaults))
        rows: list[tuple[Any, ...]] = []
        scores: dict[str, float] = {}
        count = min(sizes.trials, math.prod(len(values) for values in space.values()))
        while len(rows) < count:
            trial, start = study.ask(), time.monotonic()
            setting = {key: trial.suggest_categorical(key, values) for key, values in space.items()}
            text = json.dumps(setting)
            if text not in scores:  # one that was drawn before costs no trial
                bidders = play(setting)
                days_bid = [table_replay(day, bidder, rows=who) for bidder in bidders for day in days]
                scores[text] = float(np.mean([day.summary()["score"].mean() for day in days_bid]))
                drift = getattr(bidders[0], "drift", np.nan)
                rows.append((name, len(rows), scores[text], text, steps, time.monotonic() - start, drift))
            study.tell(trial, scores[text])
        columns = ["method", "trial", "score", "setting", "steps", "seconds", "drift"]
        frame = pd.DataFrame(rows, columns=columns).dropna(axis=1, how="all")
        frame.assign(chosen=frame.index == frame["score"].idxmax()).to_parquet(folder / "trials.parquet")

    def load(folder: Path) -> pd.DataFrame:
        return pd.read_parquet(folder / "trials.parquet")

    what = f"{sizes.trials} trials of {name} ({setup.dataset})"
    return Artifact("tuning", config, make, load, what, tuning_periods(setup))


def best_setting(trials: pd.DataFrame) -> dict[str, Any]:
    """The setting that a search chose."""
    return json.loads(trials.loc[trials["chosen"], "setting"].iloc[0])


def searching(setup: Setup) -> Setup:
    """The setup that searches: it trains with the data's seed."""
    return replace(setup, train_seed=None)

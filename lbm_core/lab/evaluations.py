"""Evaluations as artifacts: the rows of one method, training seed and period, in replay or in the market (§4.1)."""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd

from lbm_core import paths
from lbm_core.auction.bidder import Bidder
from lbm_core.evaluation.closed_loop import BEHAVIOUR, closed_loop, logged_rows
from lbm_core.evaluation.runner import evaluate, spread_rows
from lbm_core.evaluation.statistics import one_identity
from lbm_core.lab.artifacts import Artifact, tell
from lbm_core.lab.days import held_out_periods, period, replay_period
from lbm_core.lab.guided import Contender, Guided
from lbm_core.lab.methods import MAIN, method
from lbm_core.lab.setup import Setup
from lbm_core.lab.thinking import gqpo
from lbm_core.lab.tuning import contender

Names = Sequence[str | Guided]
Play = Callable[[Setup, int, dict[str, Callable[[], Bidder]]], pd.DataFrame]


def bidders(setup: Setup, methods: Iterable[str | Guided] = MAIN) -> dict[str, Callable[[], Bidder]]:
    """Functions that make each method's bidder and, at its first use, the model; without "LBM(GQPO)" where GQPO found
    nothing to learn from."""
    factories: dict[str, Callable[[], Bidder]] = {}
    for one in methods:
        row = method(one)  # a bad name is refused now
        if row.name != "LBM(GQPO)" or gqpo(setup).get(quiet=True) is not None:
            factories[row.name] = partial(lambda wanted: contender(setup, wanted).make(), one)
    return factories


def evaluate_methods(setup: Setup, methods: Names = MAIN, *, budget_ratio: float = 1.0) -> pd.DataFrame:
    """Replay methods on the tier's held-out periods, conversion draws, advertisers and training seeds.

    Every method, training seed and period is kept once it is done, so that a killed evaluation resumes.
    ``budget_ratio`` is the share of every budget that may be spent (Table 5).

    Rows of :func:`lbm_core.evaluation.runner.evaluate` with the columns ``train_seed`` (methods that learn nothing have
    the first one only) and ``weights`` (:meth:`lbm_core.lab.guided.Contender.weights`).
    """
    sizes = setup.tier.evaluation
    who, draws = spread_rows(sizes.advertisers), range(sizes.draws)

    def play(own: Setup, number: int, one: dict[str, Callable[[], Bidder]]) -> pd.DataFrame:
        day = replay_period(own, number)
        return evaluate(one, [day], draws, rows=who, budget_ratio=budget_ratio, progress=False)

    shaped = {"advertisers": who.tolist(), "draws": len(draws), "budget_ratio": float(budget_ratio)}
    what = f"replays of {len(methods)} methods ({setup.dataset})"
    return _each_kept("evaluation", what, setup, methods, held_out_periods(setup).numbers, shaped, play)


def evaluate_closed_loop(setup: Setup, methods: Names = (BEHAVIOUR, *MAIN)) -> pd.DataFrame:
    """Let methods bid in the market of some held-out periods, in the place of its bidders, with every training seed.

    The market is the one that priced the held-out periods, so its prices are those of the replay until somebody bids
    otherwise. Every method, training seed and period is kept once it is done. ``methods`` are as in
    :func:`evaluate_methods`, and "behaviour": what the replaced advertisers themselves got.

    Rows of :func:`lbm_core.evaluation.closed_loop.closed_loop` with the columns ``train_seed`` and ``weights``
    """
    sizes, periods = setup.tier.evaluation, held_out_periods(setup)
    who, wanted = spread_rows(sizes.advertisers), sizes.closed_loop_periods
    if wanted > len(periods):
        raise ValueError(f"there are {len(periods)} held-out periods; closed_loop_periods is {wanted}")
    picked = np.linspace(0, len(periods) - 1, wanted).round().astype(int)
    frames = []
    if BEHAVIOUR in methods:
        logged = pd.concat([logged_rows(periods.logs[k], setup.seed, rows=who) for k in picked], ignore_index=True)
        frames = [logged.assign(train_seed=setup.seed, weights="")]
    others = [name for name in methods if name != BEHAVIOUR]

    def play(own: Setup, number: int, one: dict[str, Callable[[], Bidder]]) -> pd.DataFrame:
        return closed_loop(one, own.dataset, [number], [own.seed], rows=who, at_once=sizes.closed_loop_at_once)

    if others:
        shaped = {"advertisers": who.tolist(), "at_once": sizes.closed_loop_at_once}
        what = f"closed loops of {len(others)} methods ({setup.dataset})"
        numbers = [periods.numbers[k] for k in picked]
        frames.append(_each_kept("closed_loop", what, setup, others, numbers, shaped, play))
    if not frames:
        raise ValueError("no method to evaluate")
    return pd.concat(frames, ignore_index=True)


def _each_kept(
    stage: str, what: str, setup: Setup, methods: Names, numbers: Sequence[int], shaped: dict[str, Any], play: Play
) -> pd.DataFrame:
    """Rows of every training seed, period and method: found, or played and kept."""
    start = time.monotonic()
    kept: list[tuple[Artifact[pd.DataFrame], str, int, int]] = []
    light = all(method(one).small for one in methods)
    for step in range(max(method(one).trainings(setup) for one in methods)):
        own = setup.trained_with(setup.seed + step)
        trained = [one for one in methods if step < method(one).trainings(setup)]
        factories = bidders(own, trained)
        for one in trained:
            name = method(one).name
            if name in factories:
                once, bids = _Once(factories[name]), contender(own, one)
                for number in numbers:
                    rows = _rows(stage, shaped, period(own, number), bids, partial(play, own, number, {name: once}))
                    kept.append((rows, name, own.training_seed, number))
    missing = [each for each in kept if not each[0].exists]
    for artifact, *_ in missing:  # models first, so that processes that share out the days only load them
        for model in artifact.inputs:
            model.ensure()
    apart = light and len(missing) > 4
    # Light methods share out their days; a language model fills the machine alone and is loaded once for all days. A
    # period is built once for all methods of a training seed.
    groups: dict[tuple[int, ...], list[Artifact[pd.DataFrame]]] = {}
    for artifact, _, train_seed, number in sorted(missing, key=lambda each: (each[2], each[3])):
        groups.setdefault((train_seed, number) if apart else (train_seed,), []).append(artifact)
    calls, jobs = [[each.ensure for each in group] for group in groups.values()], -1 if apart else 1
    side_by_side(calls, jobs)
    frames = [rows.load(rows.path).assign(method=name, train_seed=train_seed) for rows, name, train_seed, _ in kept]
    tell(f"{len(frames)} {what}", bool(missing), time.monotonic() - start)
    return one_identity(pd.concat(frames, ignore_index=True))


def _rows(
    stage: str, shaped: dict[str, Any], day: Artifact[Any], bids: Contender, play: Callable[[], pd.DataFrame]
) -> Artifact[pd.DataFrame]:
    """Rows of one method, training seed and period; the method's name is no part of the key."""

    def make(folder: Path) -> None:
        play().assign(weights=bids.weights()).to_parquet(folder / "rows.parquet")

    config, inputs = {**shaped, "bids": bids.config}, (day, *bids.models)
    return Artifact(
        stage, config, make, lambda folder: pd.read_parquet(folder / "rows.parquet"), "rows", inputs, silent=True
    )


class _Once:
    """Makes a bidder once; unlike functools.cache it travels to other processes."""

    def __init__(self, make: Callable[[], Bidder]) -> None:
        self.make = make
        self.value: Bidder | None = None

    def __call__(self) -> Bidder:
        if self.value is None:
            self.value = self.make()
        return self.value


def side_by_side(groups: Sequence[Sequence[Callable[[], Any]]], jobs: int) -> None:
    """Run groups of calls in processes, or on the Dask cluster at $LBM_SCHEDULER; with one job in this process."""
    if jobs == 1 or len(groups) < 2:
        for group in groups:
            _run(group)
        return
    cache = str(paths.cache_dir())  # a process that has worked for another run knows another one
    address = os.environ.get("LBM_SCHEDULER")  # its workers see the same cache folder
    with joblib.parallel_config("dask", scheduler_host=address) if address else nullcontext():
        joblib.Parallel(n_jobs=jobs)(joblib.delayed(_run)(group, cache) for group in groups)


def _run(group: Sequence[Callable[[], Any]], cache: str = "") -> None:
    if cache:
        os.environ["LBM_CACHE"] = cache
    for call in group:
        call()

"""What makes a comparison of baselines fair, and lets a reader see that it is: searches, costs, curves (chapter 6)."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from lbm_core.auction.replay import replay
from lbm_core.auction.response_tables import table_replay
from lbm_core.evaluation.directions import moves, wrong_way
from lbm_core.evaluation.runner import evaluate, spread_rows
from lbm_core.lab.guided import Contender
from lbm_core.lab.lab import Lab
from lbm_core.lab.methods import CONTROLS, METHODS, OFFLINE_BASELINES, TRAINABLE, method
from lbm_core.lab.tuning import chosen, split
from lbm_core.seeding import generator

BASELINES = (*CONTROLS, "critic alone", "DT", *OFFLINE_BASELINES)  # everybody on this chapter's board
TRAINED = ("DT", "critic", *OFFLINE_BASELINES)
SEARCHED = tuple(name for name, row in METHODS.items() if row.space)
RETURN_CONDITIONED = tuple(name for name in SEARCHED if "target_return" in METHODS[name].space)
RETURN_TARGETS = (0.6, 0.8, 1.1, 1.5, 2.0, 1 / 0.3)  # in units of B / C; the last is the release's
ABLATIONS: tuple[tuple[str, str, dict[str, Any]], ...] = (  # one decision put back to how the method is usually run
    ("constant learning rate", "BC", {"decay": False}),
    ("constant learning rate", "DT", {"decay": False}),
    ("constant learning rate", "IQL", {"decay": False}),
    ("constant learning rate", "DiffBid", {"decay": False}),
    ("the 16 features alone", "BC", {"state_kind": "paper"}),
    ("the 16 features alone", "DT", {"state_kind": "paper"}),
    ("conversions as drawn", "IQL", {"counted": "sampled"}),
    ("conversions as the reward", "IQL", {"reward": "conversions"}),
    ("rewards ten times as large", "IQL", {"reward_multiplier": 100.0}),
)
WATCHED = ("PID", "CQL", "IQL", "DT", "DiffBid")  # whose moves of one day are drawn


def tuning_log(lab: Lab, methods: Sequence[str] = SEARCHED) -> pd.DataFrame:
    """Every trial of every method's search; columns as in :class:`~lbm_core.lab.tuning.Tuned`."""
    return pd.concat([lab.tuned(name).trials for name in methods], ignore_index=True)


def training_report(lab: Lab, methods: Sequence[str] = TRAINED) -> pd.DataFrame:
    """Cost of every training: method, train_seed, parameters, mib (weights), steps, seconds, peak_mib (the process)."""
    columns = ["method", "train_seed", "parameters", "mib", "steps", "seconds", "peak_mib"]
    rows = [own.train(name) | {"train_seed": own.training_seed} for own, name in _trainings(lab, methods)]
    return pd.DataFrame(rows)[columns]


def learning_curves(lab: Lab, methods: Sequence[str] = TRAINED) -> pd.DataFrame:
    """Losses of every training (of USCB, the return of its days): method, train_seed, step, name, value."""
    frames = []
    for own, name in _trainings(lab, methods):
        curve = _curve(own.critic() if name == "critic" else own.model(name))
        tall = curve.melt("step", var_name="name", value_name="value")
        frames.append(tall.assign(method=name, train_seed=own.training_seed))
    return pd.concat(frames, ignore_index=True)[["method", "train_seed", "step", "name", "value"]]


def _trainings(lab: Lab, methods: Sequence[str]) -> Iterator[tuple[Lab, str]]:
    return ((own, name) for own in lab.trainings() for name in methods if name == "critic" or name in TRAINABLE)


def _curve(model: Any, rows: int = 100) -> pd.DataFrame:
    """A model's losses, thinned: column ``step`` and one per loss."""
    from lbm_core.critic.network import HISTORY

    if hasattr(model, "history"):  # the critic: one row per step
        curve = pd.DataFrame(model.history, columns=list(HISTORY)).rename_axis("step").reset_index()
    elif hasattr(model, "returns"):  # USCB plays: its days' results instead of a loss
        curve = pd.DataFrame(model.returns, columns=["step", "return"])
    else:
        names = {2: ["loss"], 3: ["states", "actions"]}[model.losses.shape[1]]
        curve = pd.DataFrame(model.losses, columns=["step", *names])
    blocks = curve.index * rows // len(curve) if len(curve) > rows else curve.index
    return curve.groupby(blocks).mean()


def varied(lab: Lab, name: str, **changes: Any) -> Contender:
    """A method as its search chose it, but for some fields of its configuration or settings of its bidder."""
    choice, own = chosen(lab, name), split(changes)
    changed = replace(choice, training={**choice.training, **own.training}, in_use={**choice.in_use, **own.in_use})
    return method(name).contend(lab, changed)


def ablations(lab: Lab) -> pd.DataFrame:
    """What single decisions are worth: methods as tuned, and with one decision undone, on the tuning periods.

    Everything else, the settings in use among it, stays as the method's search chose it; one training seed. One row per
    method, change ("as tuned" first) and period, with means over advertisers of expected score, conversions and
    budget_utilization, and weights.
    """
    names = lab.tier.chapter6.ablations
    changes = [each for each in ABLATIONS if each[1] in names]
    methods = dict.fromkeys(name for _, name, _ in changes)
    if unknown := sorted({*names} - {*methods}):
        raise ValueError(f"nothing is undone of {unknown[0]!r}; chapter6.ablations takes BC, DT, IQL and DiffBid")
    rows: list[tuple[str, str, dict[str, Any]]] = [*(("as tuned", name, {}) for name in methods), *changes]
    contenders = [({"method": name, "change": change}, varied(lab, name, **fields)) for change, name, fields in rows]
    return _on_tuning_periods(lab, contenders)


def target_sweep(lab: Lab, name: str, targets: Sequence[float] = RETURN_TARGETS) -> pd.DataFrame:
    """What one of :data:`RETURN_CONDITIONED` reaches with several first return-to-gos (in units of B / C), as tuned.

    On the tuning periods: the held-out ones stay unseen, so that a target may be chosen here. One row per target_return
    and period, with means over advertisers of expected score, conversions and budget_utilization, and weights.
    """
    if name not in RETURN_CONDITIONED:
        raise ValueError(f"{name!r} is not conditioned on a return; {', '.join(RETURN_CONDITIONED)} are")
    contenders = [({"target_return": target}, varied(lab, name, target_return=target)) for target in targets]
    return _on_tuning_periods(lab, contenders)


def _on_tuning_periods(lab: Lab, contenders: Sequence[tuple[dict[str, Any], Contender]]) -> pd.DataFrame:
    """Means over advertisers of every contender and tuning period, beside the columns that name the contender."""
    tables, who = lab.tuning_tables(), spread_rows(lab.tier.evaluation.advertisers)
    rows = []
    for label, contender in contenders:
        bidder = contender.make()
        for table in tables:
            metrics = table_replay(table, bidder, rows=who).summary()
            means = {name: float(np.mean(metrics[name])) for name in ("score", "conversions", "budget_utilization")}
            rows.append(label | {"weights": contender.weights(), "period": table.period} | means)
    return pd.DataFrame(rows)


def penalty_sweep(lab: Lab) -> pd.DataFrame:
    """Table 3: DT-score trained with several weights of the penalty, with DT-score's chosen settings otherwise.

    Rows of :func:`lbm_core.evaluation.runner.evaluate` with the columns penalty_weight, train_seed and weights.
    """
    who, draws = spread_rows(lab.tier.evaluation.advertisers), range(lab.tier.evaluation.draws)
    days, frames = lab.held_out(), []
    for own in lab.trainings():
        for weight in lab.tier.chapter6.penalty_weights:
            one = varied(own, "DT-score", penalty_weight=weight)
            rows = evaluate({"DT-score": one.make}, days, draws, rows=who, progress=False)
            frames.append(rows.assign(penalty_weight=weight, train_seed=own.training_seed, weights=one.weights()))
    return pd.concat(frames, ignore_index=True)


def budget_sweep(lab: Lab) -> pd.DataFrame:
    """Table 5 with this chapter's methods: replays with a share (budget_ratio) of every budget, one training each."""
    own, chapter = lab.changed({"evaluation.train_seeds": 1}), lab.tier.chapter6
    methods = chapter.budget_methods or BASELINES
    frames = [own.evaluate(methods, budget_ratio=share).assign(budget_ratio=share) for share in chapter.budget_ratios]
    return pd.concat(frames, ignore_index=True)


def moves_against_the_cpa(lab: Lab) -> tuple[pd.DataFrame, pd.DataFrame]:
    """§1's complaint about black boxes: how often methods move alpha against the CPA, on the first held-out days.

    First method, train_seed, period, and the shares and numbers of :func:`lbm_core.evaluation.directions.wrong_way`.
    Then rows of :func:`~lbm_core.evaluation.directions.moves` of :data:`WATCHED`, with the same names, of one training
    and day, for the advertiser for whom these raise alpha most often while its CPA is above the target.
    """
    days, who, frames = lab.held_out(), spread_rows(lab.tier.evaluation.advertisers), []
    for period in (days[place] for place in range(min(lab.tier.chapter6.watched_days, len(days)))):
        for own in lab.trainings():
            controls = CONTROLS if own.training_seed == lab.seed else ()  # they learn nothing
            for name, make in own.bidders(dict.fromkeys((*controls, "critic alone", "USCB", "BC", *WATCHED))).items():
                played = replay(period, make(), generator(lab.seed, "evaluation", period.period), rows=who)
                frames.append(moves(played).assign(method=name, train_seed=own.training_seed, period=period.period))
    rows, first = pd.concat(frames, ignore_index=True), days.numbers[0]
    counts = rows.groupby(["method", "train_seed", "period"], sort=False)[["cpa_ratio", "move"]].apply(wrong_way)
    watched = rows[rows["method"].isin(WATCHED) & (rows["train_seed"] == lab.seed) & (rows["period"] == first)]
    raised = watched["wrong_way"] & (watched["cpa_ratio"] > 1)
    shown = raised.groupby(watched["advertiser"]).sum().idxmax()
    return counts.reset_index(), watched[watched["advertiser"] == shown]

"""The registry of everything that bids: a row says how a method is trained, tuned and bid with.

The command line, the search of settings, leader boards and tests read it; nobody else knows a method by its name.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal

from lbm_core.act.config import Guide as ActGuide
from lbm_core.auction.bidder import Bidder
from lbm_core.auction.controls import ConstantAlpha, OnlineLpBidder, PacingBidder, PidBidder
from lbm_core.baselines.config import DT_SCORE_WEIGHT
from lbm_core.lab import models
from lbm_core.lab.actor import actor
from lbm_core.lab.artifacts import Artifact
from lbm_core.lab.days import past_periods, tables
from lbm_core.lab.guided import Contender, Guide, Guided, guided_contender
from lbm_core.lab.setup import Setup
from lbm_core.lab.texts import text_contender

Settings = Mapping[str, Any]
Seeds = Literal["none", "train", "text"]  # which number of trainings a method has: one, or one of the tier's

_TARGETS = (0.8, 1.1, 1.5, 2.0)  # first return-to-go, in units of B / C
_RATES = (1e-4, 3e-4, 1e-3, 3e-3)
# With past alphas among the features, an action can only be judged against them; without, by its level.
_RL = {"learning_rate": _RATES, "state_kind": ("extended", "paper")}
_USCB = {"learning_rate": _RATES, "noise": (0.1, 0.3, 0.6), "largest_move": (0.1, 0.2, 0.4)}
_DT_Q = {"span": (0.02, 0.1, 0.2), "target_return": _TARGETS}
_DT_TUNED = {"q_weight": (1.0, 10.0, 100.0), "target_return": _TARGETS}
_DT_BIDDER = "baselines.decision_transformer.DTBidder"
# Settings of a bidder; all others are of its training.
IN_USE = ("cap", "gain", "proportional", "integral", "highest", "step", "span", "target_return")


@dataclass(frozen=True)
class Choice:
    """Settings of a method that differ from the tier's."""

    training: Settings = field(default_factory=dict)  # fields of the configuration that it is trained with
    in_use: Settings = field(default_factory=dict)  # settings of its bidder
    base: Settings = field(default_factory=dict)  # as ``training``, of the method that it starts from


_Model = Callable[[Setup, Choice], Artifact[Any]]


@dataclass(frozen=True)
class Method:
    """Something that bids."""

    name: str  # as in the paper's tables where it stands there
    table: str  # of the paper, or "" for what the paper does not have
    contend: Callable[[Setup, Choice], Contender]  # how it bids in a setup with some settings
    # Its own weights; None where it learns nothing, or bids with other methods' models.
    model: _Model | None = None
    space: Mapping[str, tuple[float | str, ...]] = field(default_factory=dict)  # what the search of settings tries
    defaults: Settings = field(default_factory=dict)  # of what is searched and no field of the model's configuration
    starts_from: str = ""  # the method whose tuned training it starts from
    # LBM-Act and its relatives, by what they are told: how they are used is searched (lab.actor), no training is.
    played: ActGuide | None = None
    seeds: Seeds = "train"  # how many trainings of it are evaluated
    small: bool = True  # whether its networks are small, so that days are shared out among processes

    def trainings(self, setup: Setup) -> int:
        """How many trainings of it the tier evaluates."""
        counts = setup.tier.evaluation
        return {"none": 1, "train": counts.train_seeds, "text": counts.text_train_seeds}[self.seeds]


def _control(name: str, make: Callable[..., Bidder], **space: tuple[float, ...]) -> Method:
    defaults = {key: inspect.signature(make).parameters[key].default for key in space}

    def contend(setup: Setup, choice: Choice) -> Contender:
        return Contender((), lambda: make(**choice.in_use), [name, dict(choice.in_use)])

    return Method(name, "", contend, space=space, defaults=defaults, seeds="none")


def _online_lp(setup: Setup, choice: Choice) -> Contender:
    periods = past_periods(setup)
    return Contender(periods, lambda: OnlineLpBidder(tables(periods)), "online LP")


def _bidder(place: str, *given: Any, **in_use: Any) -> Bidder:
    """A bidder by its module, imported where it is used, and name, e.g. "baselines.uscb.UscbBidder"."""
    module, _, name = place.rpartition(".")
    return getattr(import_module(f"lbm_core.{module}"), name)(*given, **in_use)


def _model(make: Callable[..., Artifact[Any]], *given: Any, **fixed: Any) -> _Model:
    """A model with the settings that are chosen."""
    return lambda setup, choice: make(setup, *given, **{**fixed, **choice.training})


def _critic_alone(setup: Setup, choice: Choice) -> Contender:
    judge, step = models.critic(setup), choice.in_use.get("step", 1.14)
    place, multiples = "baselines.critic_search.CriticBidder", (1 / step, 1.0, step)
    return Contender((judge,), lambda: _bidder(place, judge.get(quiet=True), multiples), ["critic alone", step])


def _replay_q_alone(setup: Setup, choice: Choice) -> Contender:
    return Contender((), lambda: _bidder("baselines.critic_search.ReplayQBidder", setup.dataset), "replay-Q alone")


def _weights(
    name: str, model: _Model, bidder: str, space: Mapping[str, Any], table: str = "Table 1", starts_from: str = ""
) -> Method:
    """A method with weights of its own."""

    def contend(setup: Setup, choice: Choice) -> Contender:
        own, in_use = model(setup, choice), dict(choice.in_use)
        return Contender((own,), lambda: _bidder(bidder, own.get(quiet=True), **in_use), [name, in_use])

    return Method(name, table, contend, model, space, starts_from=starts_from)


def _dt_q_search(setup: Setup, choice: Choice) -> Contender:
    plain, judge, span = models.dt(setup, **choice.base), models.critic(setup), choice.in_use.get("span", 0.1)

    def make() -> Bidder:
        tried = tuple(round(1 + span * share, 6) for share in (-1, -0.5, -0.1, 0, 0.1, 0.5, 1))
        given = plain.get(quiet=True), judge.get(quiet=True), tried, choice.in_use.get("target_return")
        return _bidder("baselines.dt_q.DTQSearchBidder", *given)

    return Contender((plain, judge), make, ["DT-Q (search)", dict(choice.in_use)])


def _transformer(name: str, **fixed: Any) -> Method:
    return _weights(name, _model(models.dt, **fixed), _DT_BIDDER, {"learning_rate": _RATES, "target_return": _TARGETS})


def _offline(name: Literal["BC", "BCQ", "CQL", "IQL"], **space: tuple[float, ...]) -> Method:
    return _weights(name, _model(models.offline_rl, name), "baselines.offline_rl.OfflineRLBidder", _RL | space)


def _diffusion(name: Literal["DiffBid", "DiffBid-Q"]) -> Method:
    space = {"learning_rate": (2e-4, 5e-4, 1e-3), "guidance": (1.0, 1.2, 2.0), "target_return": _TARGETS}
    return _weights(name, _model(models.diffbid, name), "baselines.diffbid.DiffBidBidder", space)


def _dt_q(setup: Setup, choice: Choice) -> Artifact[Any]:
    return models.dt_q(setup, models.dt(setup, **choice.base), **choice.training)


def _text(name: str, seeds: Seeds) -> Method:
    return Method(name, "Table 2", lambda setup, choice: text_contender(setup, name), seeds=seeds, small=False)


def _unguided(name: str, guide: ActGuide) -> Method:
    def contend(setup: Setup, choice: Choice) -> Contender:
        model = actor(setup, guide)
        return Contender((model,), lambda: _bidder("act.decide.LBMActBidder", model.get(quiet=True)), "unguided")

    return Method(name, "Table 2", contend, played=guide, small=False)


def _instructed(name: str, table: str, guide: Guide) -> Method:
    return Method(name, table, lambda setup, choice: guided_contender(setup, Guided(guide)), small=False)


_ROWS = (
    _control("constant", ConstantAlpha),
    _control("pacing", PacingBidder, cap=(0.8, 1.0, 1.2, 1.5), gain=(0.1, 0.2, 0.4)),
    _control("PID", PidBidder, proportional=(0.05, 0.1, 0.2), integral=(0.02, 0.05, 0.1), highest=(1.0, 1.2, 1.5, 2.0)),
    Method("online LP", "", _online_lp, seeds="none"),
    Method("critic alone", "", _critic_alone, space={"step": (1.05, 1.14, 1.3)}, defaults={"step": 1.14}),
    Method("replay-Q alone", "", _replay_q_alone, seeds="none"),  # an upper reference, no method
    _transformer("DT"),
    _offline("BC"),
    _offline("BCQ", flexibility=(0.02, 0.05, 0.15), n_step=(1, 12)),
    _offline("CQL", conservative_weight=(1.0, 5.0, 10.0), n_step=(1, 12)),
    _offline("IQL", expectile=(0.5, 0.7, 0.9), temperature=(0.3, 1.0, 3.0), n_step=(1, 12)),
    _weights("USCB", _model(models.uscb), "baselines.uscb.UscbBidder", _USCB),
    # Taught with prices of lost impressions; nothing is searched.
    _weights("oracle imitation", _model(models.oracle_imitation), "baselines.oracle_imitation.ImitationBidder", {}, ""),
    _transformer("DT-score", penalty_weight=DT_SCORE_WEIGHT),
    Method("DT-Q (search)", "Table 1", _dt_q_search, None, _DT_Q, {"span": 0.1}, starts_from="DT"),
    _weights("DT-Q (fine-tuned)", _dt_q, _DT_BIDDER, _DT_TUNED, starts_from="DT"),
    _diffusion("DiffBid"),
    _diffusion("DiffBid-Q"),
    _text("Prompting", "none"),
    _text("SFT", "text"),
    _text("GRPO", "text"),
    _unguided("LBM-Act", "sentence"),
    _unguided("LLM-DT", "none"),
    _unguided("Prompt-LLM-DT", "task"),
    _instructed("LBM(P)", "Table 2", "LBM-Think"),
    _instructed("LBM(GQPO)", "Tables 1 and 2", "LBM-Think (GQPO)"),
    _instructed("increase", "Table 4", "increase"),
    _instructed("decrease", "Table 4", "decrease"),
    _instructed("uncertain", "Table 4", "none"),
)
METHODS: dict[str, Method] = {row.name: row for row in _ROWS}
CONTROLS = ("constant", "pacing", "PID", "online LP")
LANGUAGE = ("Prompting", "SFT", "GRPO")
INSTRUCTIONS = ("increase", "decrease", "uncertain")  # Table 4: LBM-Act told the same at every tick
OFFLINE_BASELINES = tuple(name for name, row in METHODS.items() if row.table == "Table 1" and name != "DT")
TRAINABLE = tuple(name for name, row in METHODS.items() if row.model)  # whose training makes weights of its own
MAIN = (*CONTROLS, "critic alone", "DT", "LLM-DT", "Prompt-LLM-DT", "LBM(P)", "LBM(GQPO)")  # chapter 8's own rows


def method(name: str | Guided) -> Method:
    """The row of a method (a ValueError lists them); LBM-Act under any guide has one, too."""
    if isinstance(name, Guided):
        guided = name
        return Method(guided.name, "", lambda setup, choice: guided_contender(setup, guided), small=False)
    if name not in METHODS:
        raise ValueError(f"unknown method {name!r}; choose some of {', '.join(METHODS)}, or LBM-Act under a guide")
    return METHODS[name]

"""The registry of everything that bids: a row says how a method is trained, tuned and bid with.

The command line, the search of settings, leader boards and tests read it; nobody else knows a method by its name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from lbm_core.auction.bidder import Bidder
from lbm_core.auction.controls import ConstantAlpha, OnlineLpBidder, PacingBidder, PidBidder
from lbm_core.baselines.config import DT_SCORE_WEIGHT
from lbm_core.lab import baselines
from lbm_core.lab.artifacts import Artifact
from lbm_core.lab.days import past_periods, tables
from lbm_core.lab.guided import Contender, Guide, Guided, guided_contender
from lbm_core.lab.models import act, critic
from lbm_core.lab.setup import Setup
from lbm_core.lab.texts import text_contender

if TYPE_CHECKING:
    from lbm_core.critic.network import Critic

Settings = Mapping[str, Any]
Seeds = Literal["none", "train", "text"]  # which number of trainings a method has: one, or one of the tier's

_TARGETS = (0.8, 1.1, 1.5, 2.0)  # first return-to-go, in units of B / C
_RATES = (1e-4, 3e-4, 1e-3, 3e-3)
_STATES = ("extended", "paper")  # with past alphas, an action can only be judged against them; without, by its level
_GUIDANCE = {"learning_rate": (2e-4, 5e-4, 1e-3), "guidance": (1.0, 1.2, 2.0), "target_return": _TARGETS}
_RL = {"learning_rate": _RATES, "state_kind": _STATES}
# Settings of a bidder; all others are of its training.
IN_USE = ("cap", "gain", "proportional", "integral", "highest", "step", "span", "target_return")


@dataclass(frozen=True)
class Choice:
    """Settings of a method that differ from the tier's.

    Attributes
    ----------
    training : fields of the configuration that it is trained with
    in_use : settings of its bidder
    base : fields of the configuration of the method that it starts from
    """

    training: Settings = field(default_factory=dict)
    in_use: Settings = field(default_factory=dict)
    base: Settings = field(default_factory=dict)


@dataclass(frozen=True)
class Method:
    """Something that bids.

    Attributes
    ----------
    name : as in the paper's tables where it stands there
    table : of the paper, or "" for what the paper does not have
    contend : how it bids in a setup with some settings
    model : its own weights, of (setup, settings); None: it learns nothing, or bids with other methods' models
    space : what the search of settings tries, parameter by parameter; a default is always among the values
    defaults : the tier's value of each of them; default by field of the model's configuration
    starts_from : the method whose tuned training it starts from
    seeds : how many trainings of it are evaluated
    small : whether its networks are small, so that days are shared out among processes
    """

    name: str
    table: str
    contend: Callable[[Setup, Choice], Contender]
    model: Callable[[Setup, Choice], Artifact[Any]] | None = None
    space: Mapping[str, tuple[float | str, ...]] = field(default_factory=dict)
    defaults: Mapping[str, float] = field(default_factory=dict)
    starts_from: str = ""
    seeds: Seeds = "train"
    small: bool = True

    def trainings(self, setup: Setup) -> int:
        """How many trainings of it the tier evaluates."""
        counts = setup.tier.evaluation
        return {"none": 1, "train": counts.train_seeds, "text": counts.text_train_seeds}[self.seeds]


def _control(make: Callable[..., Bidder]) -> Callable[[Setup, Choice], Contender]:
    return lambda setup, choice: Contender((), lambda: make(**choice.in_use), [make.__name__, dict(choice.in_use)])


def _online_lp(setup: Setup, choice: Choice) -> Contender:
    periods = past_periods(setup)
    return Contender(periods, lambda: OnlineLpBidder(tables(periods)), "online LP")


def critic_bidder(judge: Critic, in_use: Settings) -> Bidder:
    """The critic alone, choosing among the last alpha and one step up and down."""
    from lbm_core.baselines.critic_search import CriticBidder

    step = in_use.get("step")
    return CriticBidder(judge) if step is None else CriticBidder(judge, (1 / step, 1.0, step))


def _critic_alone(setup: Setup, choice: Choice) -> Contender:
    judge = critic(setup)
    return Contender((judge,), lambda: critic_bidder(judge.get(), choice.in_use), ["critic alone", dict(choice.in_use)])


def _unguided(guide: str) -> Callable[[Setup, Choice], Contender]:
    def contend(setup: Setup, choice: Choice) -> Contender:
        from lbm_core.act.decide import LBMActBidder

        model = act(setup, guide=guide)
        return Contender((model,), lambda: LBMActBidder(model.get()), "unguided")

    return contend


def _instructed(guide: Guide) -> Callable[[Setup, Choice], Contender]:
    return lambda setup, choice: guided_contender(setup, Guided(guide))


def _weights(
    name: str,
    table: str,
    model: Callable[[Setup, Choice], Artifact[Any]],
    bidder: Callable[[Setup, Any, Choice], Bidder],
    **more: Any,
) -> Method:
    """A method with weights of its own."""

    def contend(setup: Setup, choice: Choice) -> Contender:
        own = model(setup, choice)
        return Contender((own,), lambda: bidder(setup, own.get(), choice), [name, dict(choice.in_use)])

    return Method(name, table, contend, model, **more)


def _offline(name: Literal["BC", "BCQ", "CQL", "IQL"], **more: Any) -> Method:
    def model(setup: Setup, choice: Choice) -> Artifact[Any]:
        return baselines.offline_rl(setup, name, choice.training)

    space = _RL | more
    return _weights(name, "Table 1", model, baselines.offline_bidder, space=space)


def _diffusion(name: Literal["DiffBid", "DiffBid-Q"]) -> Method:
    def model(setup: Setup, choice: Choice) -> Artifact[Any]:
        return baselines.diffbid(setup, name, choice.training)

    return _weights(name, "Table 1", model, baselines.diffusion_bidder, space=_GUIDANCE)


def _transformer(name: str, **fixed: Any) -> Method:
    def model(setup: Setup, choice: Choice) -> Artifact[Any]:
        return baselines.dt(setup, fixed | dict(choice.training))

    space = {"learning_rate": _RATES, "target_return": _TARGETS}
    return _weights(name, "Table 1", model, baselines.dt_bidder, space=space)


def _text(name: str, seeds: Seeds) -> Method:
    return Method(name, "Table 2", lambda setup, choice: text_contender(setup, name), seeds=seeds, small=False)


def _dt_q_search(setup: Setup, choice: Choice) -> Contender:
    plain, judge = baselines.dt(setup, choice.base), critic(setup)
    config = ["DT-Q (search)", dict(choice.in_use)]
    return Contender((plain, judge), lambda: baselines.search_bidder(plain.get(), judge.get(), choice.in_use), config)


_FINETUNED = {"q_weight": (1.0, 10.0, 100.0), "target_return": _TARGETS}
_ROWS = (
    Method("constant", "", _control(ConstantAlpha), seeds="none"),
    Method(
        "pacing",
        "",
        _control(PacingBidder),
        space={"cap": (0.8, 1.0, 1.2, 1.5), "gain": (0.1, 0.2, 0.4)},
        seeds="none",
    ),
    Method(
        "PID",
        "",
        _control(PidBidder),
        space={"proportional": (0.05, 0.1, 0.2), "integral": (0.02, 0.05, 0.1), "highest": (1.0, 1.2, 1.5, 2.0)},
        seeds="none",
    ),
    Method("online LP", "", _online_lp, seeds="none"),
    Method("critic alone", "", _critic_alone, space={"step": (1.05, 1.14, 1.3)}, defaults={"step": 1.14}),
    _transformer("DT"),
    _offline("BC"),
    _offline("BCQ", flexibility=(0.02, 0.05, 0.15), n_step=(1, 12)),
    _offline("CQL", conservative_weight=(1.0, 5.0, 10.0), n_step=(1, 12)),
    _offline("IQL", expectile=(0.5, 0.7, 0.9), temperature=(0.3, 1.0, 3.0), n_step=(1, 12)),
    _weights(
        "USCB",
        "Table 1",
        lambda setup, choice: baselines.uscb(setup, choice.training),
        baselines.uscb_bidder,
        space={"learning_rate": _RATES, "noise": (0.1, 0.3, 0.6), "largest_move": (0.1, 0.2, 0.4)},
    ),
    _transformer("DT-score", penalty_weight=DT_SCORE_WEIGHT),
    Method(
        "DT-Q (search)",
        "Table 1",
        _dt_q_search,
        space={"span": (0.02, 0.1, 0.2), "target_return": _TARGETS},
        defaults={"span": 0.1},
        starts_from="DT",
    ),
    _weights(
        "DT-Q (fine-tuned)",
        "Table 1",
        lambda setup, choice: baselines.dt_q(setup, choice.training, choice.base),
        baselines.dt_bidder,
        space=_FINETUNED,
        starts_from="DT",
    ),
    _diffusion("DiffBid"),
    _diffusion("DiffBid-Q"),
    _text("Prompting", seeds="none"),
    _text("SFT", seeds="text"),
    _text("GRPO", seeds="text"),
    Method("LLM-DT", "Table 2", _unguided("none"), small=False),
    Method("Prompt-LLM-DT", "Table 2", _unguided("task"), small=False),
    Method("LBM(P)", "Table 2", _instructed("LBM-Think"), small=False),
    Method("LBM(GQPO)", "Tables 1 and 2", _instructed("LBM-Think (GQPO)"), small=False),
    Method("increase", "Table 4", _instructed("increase"), small=False),
    Method("decrease", "Table 4", _instructed("decrease"), small=False),
    Method("uncertain", "Table 4", _instructed("none"), small=False),
)
METHODS: dict[str, Method] = {row.name: row for row in _ROWS}
CONTROLS = ("constant", "pacing", "PID", "online LP")
OFFLINE_BASELINES = (
    "BC",
    "BCQ",
    "CQL",
    "IQL",
    "USCB",
    "DT-score",
    "DT-Q (search)",
    "DT-Q (fine-tuned)",
    "DiffBid",
    "DiffBid-Q",
)
LANGUAGE = ("Prompting", "SFT", "GRPO")
INSTRUCTIONS = ("increase", "decrease", "uncertain")  # Table 4: LBM-Act told the same at every tick
MAIN = (*CONTROLS, "critic alone", "DT", "LLM-DT", "Prompt-LLM-DT", "LBM(P)", "LBM(GQPO)")  # chapter 8's own rows
TRAINABLE = tuple(name for name, row in METHODS.items() if row.model)  # whose training makes weights of its own


def method(name: str | Guided) -> Method:
    """The row of a method; LBM-Act under any guide has one, too.

    Raises
    ------
    ValueError
        No such method, with those that are.
    """
    if isinstance(name, Guided):
        guided = name
        return Method(guided.name, "", lambda setup, choice: guided_contender(setup, guided), small=False)
    if name not in METHODS:
        raise ValueError(f"unknown method {name!r}; choose some of {', '.join(METHODS)}, or LBM-Act under a guide")
    return METHODS[name]

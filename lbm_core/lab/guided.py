"""LBM-Act under any guide, and what a bidder is in one setup."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from lbm_core.auction.bidder import Bidder
from lbm_core.lab.actor import actor as tuned_actor
from lbm_core.lab.artifacts import Artifact, weights_of
from lbm_core.lab.models import critic
from lbm_core.lab.setup import Setup
from lbm_core.lab.thinking import gqpo, starts_from, think_guide, writer
from lbm_core.settings import Count, Positive, Share, Whole, settings

if TYPE_CHECKING:
    from lbm_core.act.guides import GuideSource
    from lbm_core.think.config import Rule

Guide = Literal[
    "none",
    "increase",
    "decrease",
    "random",
    "rule",
    "cumulative rule",
    "critic",
    "oracle",
    "replay-Q",
    "LBM-Think",
    "LBM-Think (GQPO)",
    "LBM-Think (random)",  # GQPO's control: it learned any accepted texts of the same decisions
]
_RULES: dict[str, Rule] = {"LBM-Think (GQPO)": "argmax", "LBM-Think (random)": "random"}


@dataclass(frozen=True)
class Contender:
    """A method as it bids in one setup."""

    models: tuple[Artifact[Any], ...]  # that it bids with
    make: Callable[[], Bidder]  # makes its bidder
    config: Any  # all else that shapes its bids, json-plain
    pretrained: str = ""  # language model that writes for it as it was found, trained by nobody here

    def weights(self) -> str:
        """Which weights bid (:func:`lbm_core.lab.artifacts.weights_of`); a pretrained language model's behind a "+"."""
        if not self.pretrained:
            return weights_of(self.models)
        from lbm_core.act.backbone import pretrained_weights

        return f"{weights_of(self.models)}+{pretrained_weights(self.pretrained)}"


@settings
class Guided:
    """LBM-Act and who instructs it, how often, how far and how late."""

    guide: Guide
    every: Count = 1  # ticks between two instructions
    scale: Positive | None = None  # of the moves that are asked for; None: the model's own
    leak: Share | None = None  # of log(alpha / C), per tick; None: the model's own
    level: Positive | None = None  # how far it may take alpha, as a factor on the CPA target; None: any distance
    late: Whole = 0  # ticks from question to use
    missing: Share = 0.0  # share of instructions that never arrive
    hold: bool = False  # whether the last instruction holds while no new one is there
    shares: tuple[Share, Share, Share] | None = None  # chances of -1, 0 and 1 of the guide "random"; None: a fair coin
    wrong: Share = 0.0  # share of instructions that are drawn at random in the place of the guide's

    @property
    def name(self) -> str:
        """The method's name in results, e.g. "LBM-Act + oracle, every 2 ticks, scale 0.5"."""
        parts = [f"LBM-Act + {self.guide}"]
        parts += [f"every {self.every} ticks"] if self.every > 1 else []
        parts += [f"up to {self.level:g}"] if self.level is not None else []
        parts += [f"late {self.late}"] if self.late else []
        parts += [f"missing {self.missing:g}"] if self.missing else []
        parts += ["hold"] if self.hold else []
        parts += ["shares " + " / ".join(f"{share:.2f}" for share in self.shares)] if self.shares else []
        parts += [f"wrong {self.wrong:g}"] if self.wrong else []
        parts += [f"scale {self.scale:g}"] if self.scale is not None else []
        parts += [f"leak {self.leak:g}"] if self.leak is not None else []
        return ", ".join(parts)

    @property
    def delayed(self) -> bool:
        """Whether instructions may come late or not at all, or be held."""
        return bool(self.late or self.missing or self.hold)


def guided_contender(setup: Setup, guided: Guided) -> Contender:
    """LBM-Act under a guide. The training seed is also that of random guides and of what goes missing.

    Once alpha is beyond ``level`` (or 1 / level) times the CPA target, the guide says "uncertain". Instructions come
    ``late`` ticks after they were asked for, a share ``missing`` of them never; where nothing has come, the guide says
    "uncertain", or with ``hold`` its last one (:class:`lbm_core.think.delay.Delayed`).
    """
    told = {name: value for name, value in asdict(guided).items() if name not in ("shares", "wrong") or value}
    actor, config = tuned_actor(setup), [told, setup.training_seed]
    models: tuple[Artifact[Any], ...] = (actor,)
    if guided.guide == "critic":
        models = (*models, critic(setup))
    if guided.guide.startswith("LBM-Think"):
        think = setup.tier.think
        config += [writer(setup), think.every, think.tolerance, think.ratio_required, think.reading]
        if think.reading == "expected" and (guided.delayed or guided.every > 1 or guided.level is not None):
            raise ValueError("an expected move is no word: it cannot come late, be held, repeated or limited")
    if guided.guide in _RULES:
        models = (*models, gqpo(setup, rule=_RULES[guided.guide]))
    elif guided.guide == "LBM-Think":
        models = (*models, *starts_from(setup))

    def make() -> Bidder:
        from lbm_core.act.decide import LBMActBidder
        from lbm_core.act.guide_sources import Foresight, OracleBidder
        from lbm_core.act.guides import ExpectedMove
        from lbm_core.think.think_guide import ThinkGuide

        source = guide_source(setup, guided.guide, guided.shares)
        options = {"guide_scale": guided.scale, "leak": guided.leak}
        told = _passed_on(source, guided, setup.training_seed)
        if isinstance(source, ThinkGuide) and source.config.reading == "expected":
            return LBMActBidder(actor.get(quiet=True), ExpectedMove(source.chances), **options)
        if isinstance(source, Foresight):
            return OracleBidder(actor.get(quiet=True), source, told, **options)
        return LBMActBidder(actor.get(quiet=True), told, **options)

    found = guided.guide == "LBM-Think" and not starts_from(setup)
    return Contender(models, make, config, setup.tier.think.backbone if found else "")


def guide_source(setup: Setup, guide: Guide, shares: tuple[float, float, float] | None = None) -> GuideSource:
    """A guide; a :class:`~lbm_core.act.guide_sources.Foresight` must be shown the day. A ValueError where GQPO found
    nothing to learn from."""
    from lbm_core.act import guide_sources
    from lbm_core.act.guides import uninstructed
    from lbm_core.baselines.critic_search import CriticSearch, ReplayQ

    def after_training() -> GuideSource:
        model = gqpo(setup, rule=_RULES[guide]).get()
        if model is None:
            raise ValueError("there is no LBM-Think after GQPO: no chain of thought was worth learning")
        return think_guide(setup, model)

    sources: dict[str, Callable[[], GuideSource]] = {
        "none": lambda: uninstructed,
        "increase": partial(guide_sources.constant, 1),
        "decrease": partial(guide_sources.constant, -1),
        "random": partial(guide_sources.random_directions, setup.training_seed, shares),
        "rule": guide_sources.spend_rate_rule,
        "cumulative rule": guide_sources.cumulative_rule,
        "critic": lambda: CriticSearch(critic(setup).get()),
        "oracle": guide_sources.Oracle,
        "replay-Q": partial(ReplayQ, setup.dataset),
        "LBM-Think": lambda: think_guide(setup),
        "LBM-Think (GQPO)": after_training,
        "LBM-Think (random)": after_training,
    }
    return sources[guide]()


def _passed_on(source: GuideSource, guided: Guided, seed: int) -> GuideSource:
    """The source's instructions, as seldom, as late and as wrong as asked."""
    from lbm_core.act.guide_sources import every, until
    from lbm_core.think.delay import Delayed, mistaken

    own_interval = getattr(source, "every", 1)
    if guided.wrong:
        source = mistaken(source, guided.wrong, seed)
    if guided.level is not None:
        source = until(guided.level, source)
    if not guided.delayed:
        return source if guided.every == 1 else every(guided.every, source)
    meanwhile: Literal["last", "uncertain"] = "last" if guided.hold else "uncertain"
    interval = guided.every if guided.every > 1 else own_interval
    return Delayed(source, guided.late, guided.missing, meanwhile, every=interval, seed=seed)

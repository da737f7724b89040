"""LBM-Act under any guide, by name: what a guide must do better than, and how often and how loudly it speaks."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Literal, NamedTuple

from lbm_core.auction.bidder import Bidder
from lbm_core.pipeline.models import act, critic
from lbm_core.pipeline.thinking import gqpo_model, think_guide
from lbm_core.settings import Dataset
from lbm_core.tiers import Tier

if TYPE_CHECKING:
    from lbm_core.act.guides import GuideSource

GUIDES = (
    "none",
    "increase",
    "decrease",
    "random",
    "rule",
    "cumulative rule",
    "critic",
    "oracle",
    "LBM-Think",
    "LBM-Think (GQPO)",
)
_NAME = re.compile(
    r"LBM-Act \+ (?P<guide>.+?)(, every (?P<every>\d+) ticks)?(, up to (?P<level>\d+(\.\d+)?))?"
    r"(, late (?P<late>\d+))?(, missing (?P<missing>\d+(\.\d+)?))?(?P<hold>, hold)?"
    r"(, scale (?P<scale>\d+(\.\d+)?))?"
)


class GuideName(NamedTuple):
    """What a method's name says of its guide.

    Attributes
    ----------
    guide : one of :data:`GUIDES`
    every : ticks between two of its words
    scale : of the moves it asks for; None: the model's own
    late : ticks from question to use
    missing : share of its words that never arrive
    hold : whether its last word holds while no new one is there
    level : how far it may lead alpha, as a factor on the CPA target; None: any distance
    """

    guide: str
    every: int = 1
    scale: float | None = None
    late: int = 0
    missing: float = 0.0
    hold: bool = False
    level: float | None = None

    @property
    def delayed(self) -> bool:
        """Whether its words may come late or not at all, or be held."""
        return bool(self.late or self.missing or self.hold)


def guided_bidder(tier: Tier, dataset: Dataset, seed: int, name: str, *, train_seed: int | None = None) -> Bidder:
    """LBM-Act with a guide.

    Parameters
    ----------
    seed : of the data and the generated texts
    name : "LBM-Act + GUIDE[, every K ticks][, up to L][, late T][, missing P][, hold][, scale X]" with GUIDE one of
        :data:`GUIDES`, e.g. "LBM-Act + rule" or "LBM-Act + oracle, every 2 ticks, scale 0.5". Once alpha is beyond L
        (or 1 / L) times the CPA target, the guide says "uncertain". Words come T ticks after they were asked for, a
        share P of them never. Where nothing has come, the guide says "uncertain", or with "hold" its last word
        (:class:`lbm_core.think.asynchrony.Delayed`). The scale multiplies the moves that a guide asked for.
    train_seed : of the models, of random guides and of what goes missing; default ``seed``

    Raises
    ------
    ValueError
        No such name, or GQPO found nothing to learn from.
    """
    from lbm_core.act import guide_sources
    from lbm_core.act.decide import LBMActBidder

    asked, own_seed = guide_of(name), seed if train_seed is None else train_seed
    model = act(tier, dataset, seed, train_seed=train_seed)
    if asked.guide == "oracle":
        oracle = guide_sources.Oracle()
        return guide_sources.OracleBidder(model, oracle, _passed_on(oracle, asked, own_seed), guide_scale=asked.scale)
    source = guide_source(tier, dataset, seed, asked.guide, train_seed=train_seed)
    return LBMActBidder(model, _passed_on(source, asked, own_seed), guide_scale=asked.scale)


def _passed_on(source: GuideSource, asked: GuideName, seed: int) -> GuideSource:
    """The source's words, as seldom and as late as a name says."""
    from lbm_core.act.guide_sources import every, until
    from lbm_core.think.asynchrony import Delayed

    own_interval = getattr(source, "think_every", 1)
    if asked.level is not None:
        source = until(asked.level, source)
    if not asked.delayed:
        return source if asked.every == 1 else every(asked.every, source)
    meanwhile: Literal["last", "uncertain"] = "last" if asked.hold else "uncertain"
    interval = asked.every if asked.every > 1 else own_interval
    return Delayed(source, asked.late, asked.missing, meanwhile, every=interval, seed=seed)


def guide_of(name: str) -> GuideName:
    """What a method's name says of its guide.

    Raises
    ------
    ValueError
        A name that :func:`guided_bidder` does not know.
    """
    read = _NAME.fullmatch(name)
    if read is None or read["guide"] not in GUIDES:
        raise ValueError(f"unknown guide in {name!r}; one of {', '.join(GUIDES)} after 'LBM-Act + '")
    scale, level = (None if read[part] is None else float(read[part]) for part in ("scale", "level"))
    return GuideName(
        guide=read["guide"],
        every=int(read["every"] or 1),
        scale=scale,
        late=int(read["late"] or 0),
        missing=float(read["missing"] or 0),
        hold=read["hold"] is not None,
        level=level,
    )


def guide_source(tier: Tier, dataset: Dataset, seed: int, guide: str, *, train_seed: int | None = None) -> GuideSource:
    """A guide of :data:`GUIDES` but "oracle", which is bound to its bidder; arguments as :func:`guided_bidder`'s."""
    from lbm_core.act import guide_sources
    from lbm_core.act.guides import uninstructed
    from lbm_core.baselines.critic_search import CriticGuide

    if guide == "critic":
        return CriticGuide(critic(tier, dataset, seed, train_seed=train_seed))
    if guide == "LBM-Think":
        return think_guide(tier, dataset, seed)
    if guide == "LBM-Think (GQPO)":
        tuned = gqpo_model(tier, dataset, seed, train_seed=train_seed)
        if tuned is None:
            raise ValueError("there is no LBM-Think after GQPO: no chain of thought was worth learning")
        return think_guide(tier, dataset, seed, model=tuned)
    own_seed = seed if train_seed is None else train_seed
    simple: dict[str, Callable[[], GuideSource]] = {
        "none": lambda: uninstructed,
        "increase": partial(guide_sources.constant, 1),
        "decrease": partial(guide_sources.constant, -1),
        "random": partial(guide_sources.random_directions, own_seed),
        "rule": guide_sources.spend_rate_rule,
        "cumulative rule": guide_sources.cumulative_rule,
    }
    if guide not in simple:
        raise ValueError(f"unknown guide {guide!r}; one of {', '.join(GUIDES)}")
    return simple[guide]()

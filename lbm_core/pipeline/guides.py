"""LBM-Act under any guide, by name: what a guide must do better than, and how often and how loudly it speaks."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from lbm_core.auction.bidder import Bidder
from lbm_core.pipeline.models import act, critic
from lbm_core.pipeline.thinking import gqpo_model, think_guide
from lbm_core.tiers import Dataset, Tier

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
    r"(, scale (?P<scale>\d+(\.\d+)?))?"
)


def guided_bidder(tier: Tier, dataset: Dataset, seed: int, name: str, *, train_seed: int | None = None) -> Bidder:
    """LBM-Act with a guide.

    Parameters
    ----------
    seed : of the data and the generated texts
    name : "LBM-Act + GUIDE[, every K ticks][, up to L][, scale X]" with GUIDE one of :data:`GUIDES`, e.g.
        "LBM-Act + rule" or "LBM-Act + oracle, every 2 ticks, scale 0.5". Between its ticks, and once alpha is beyond L
        (or 1 / L) times the CPA target, a guide says "uncertain"; the scale multiplies the moves that it asked for.
    train_seed : of the models and of random guides; default ``seed``

    Raises
    ------
    ValueError
        No such name, or GQPO found nothing to learn from.
    """
    from lbm_core.act import guide_sources
    from lbm_core.act.decide import LBMActBidder

    asked = guide_of(name)
    model = act(tier, dataset, seed, train_seed=train_seed)

    def passed_on(source: GuideSource) -> GuideSource:
        if asked.level is not None:
            source = guide_sources.until(asked.level, source)
        return source if asked.every == 1 else guide_sources.every(asked.every, source)

    if asked.guide == "oracle":
        oracle = guide_sources.Oracle()
        return guide_sources.OracleBidder(model, oracle, passed_on(oracle), guide_scale=asked.scale)
    source = guide_source(tier, dataset, seed, asked.guide, train_seed=train_seed)
    return LBMActBidder(model, passed_on(source), guide_scale=asked.scale)


class Guided(NamedTuple):
    """Who leads LBM-Act, and how."""

    guide: str  # of GUIDES
    every: int = 1  # ticks from one of its words to the next
    scale: float | None = None  # factor on instructed moves; None: the model's own
    level: float | None = None  # how far it may lead alpha, as a factor on the CPA target; None: any distance


def guide_of(name: str) -> Guided:
    """What the name of a method asks for.

    Raises
    ------
    ValueError
        A name that :func:`guided_bidder` does not know.
    """
    read = _NAME.fullmatch(name)
    if read is None or read["guide"] not in GUIDES:
        raise ValueError(f"unknown guide in {name!r}; one of {', '.join(GUIDES)} after 'LBM-Act + '")
    scale, level = (None if read[part] is None else float(read[part]) for part in ("scale", "level"))
    return Guided(read["guide"], int(read["every"] or 1), scale, level)


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
            raise ValueError("there is no LBM-Think after GQPO: no chain of thought had a positive relative-Q")
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

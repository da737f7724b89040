"""On how much the comparisons of a chapter are made: fewer days, advertisers and trainings than the main results."""

from typing import Any

from lbm_core.lab.lab import Lab


def few(lab: Lab, chapter: Any) -> Lab:
    """The lab with the ``advertisers``, ``train_seeds`` and ``periods`` that ``lab.tier.chapterN`` names, never more
    than the tier's."""
    sizes, names = lab.tier.evaluation, ("advertisers", "train_seeds", "periods")
    own = {name: min(getattr(chapter, name, getattr(sizes, name)), getattr(sizes, name)) for name in names}
    return lab.changed({f"evaluation.{name}": count for name, count in own.items()})


def once(lab: Lab) -> Lab:
    """The lab with one training of everything."""
    return lab.changed({"evaluation.train_seeds": 1})

"""On how much the comparisons of a chapter are made: fewer advertisers and trainings than the main results."""

from __future__ import annotations

from typing import Any

from lbm_core.lab.lab import Lab


def few(lab: Lab, chapter: Any) -> Lab:
    """The lab with the ``advertisers`` and any ``train_seeds`` of ``lab.tier.chapterN``, never more than the tier's."""
    sizes = lab.tier.evaluation
    seeds = min(getattr(chapter, "train_seeds", sizes.train_seeds), sizes.train_seeds)
    advertisers = min(chapter.advertisers, sizes.advertisers)
    return lab.changed({"evaluation.advertisers": advertisers, "evaluation.train_seeds": seeds})


def once(lab: Lab) -> Lab:
    """The lab with one training of everything."""
    return lab.changed({"evaluation.train_seeds": 1})

"""On how much the comparisons of a chapter are made: fewer advertisers and trainings than the main results."""

from __future__ import annotations

from typing import Any

from lbm_core.lab.lab import Lab


def few(lab: Lab, chapter: Any) -> Lab:
    """The lab with the ``advertisers`` and any ``train_seeds`` of ``lab.tier.chapterN``, or fewer if the tier has fewer."""
    sizes = lab.tier.evaluation
    return lab.changed(
        {
            "evaluation.advertisers": min(chapter.advertisers, sizes.advertisers),
            "evaluation.train_seeds": min(getattr(chapter, "train_seeds", sizes.train_seeds), sizes.train_seeds),
        }
    )

"""On how much the comparisons of a chapter are made: fewer advertisers and trainings than the main results."""

from __future__ import annotations

from typing import Any

from lbm_core.lab.lab import Lab


def few(lab: Lab, chapter: Any) -> Lab:
    """The lab with a chapter's advertisers and training seeds, never more than the tier evaluates.

    Parameters
    ----------
    chapter : of the tier (:mod:`lbm_core.lab.chapters`), e.g. ``lab.tier.chapter2``, with ``advertisers`` and perhaps
        ``train_seeds``; without, the tier's stay
    """
    sizes = lab.tier.evaluation
    return lab.changed(
        {
            "evaluation.advertisers": min(chapter.advertisers, sizes.advertisers),
            "evaluation.train_seeds": min(getattr(chapter, "train_seeds", sizes.train_seeds), sizes.train_seeds),
        }
    )

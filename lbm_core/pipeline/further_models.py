"""GQPO with language models beside the tier's own: does it take a model that reasons better? (chapter 5)"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import pandas as pd

from lbm_core.evaluation.runner import period_means
from lbm_core.pipeline.act_study import study_tier
from lbm_core.pipeline.contenders import evaluate_methods
from lbm_core.pipeline.gqpo_study import DT_NAME, PRETRAINED, RULE_NAME, Probes, compared, fine_tuned
from lbm_core.pipeline.think_study import model_label
from lbm_core.pipeline.thinking import gqpo_selection
from lbm_core.tiers import Dataset, Tier

CONTROLS = ("random",)  # fine-tunings of a larger model are dear: the one that tells Q from form


@dataclass(frozen=True)
class FurtherModels:
    """What came of every further language model; each frame has the column backbone.

    Attributes
    ----------
    funnels : rows of :meth:`lbm_core.think.gqpo.Selection.funnel`
    losses : step, loss, model
    answers : rows of :func:`lbm_core.pipeline.gqpo_study.compared`, of texts before and after fine-tuning
    replays : means per period (:func:`lbm_core.evaluation.runner.period_means`) of "LBM(P)" and "LBM(GQPO)", for the
        study's advertisers; without "LBM(GQPO)" where nothing was worth learning
    """

    funnels: pd.DataFrame
    losses: pd.DataFrame
    answers: pd.DataFrame
    replays: pd.DataFrame


def further_models(tier: Tier, dataset: Dataset, seed: int, asked: Probes) -> FurtherModels:
    """The chapter's main line again, from the funnel to the wheel, for every language model of ``think.models``.

    Raises
    ------
    ValueError
        The tier names no further language model.
    """
    if not tier.think.models:
        raise ValueError("no further language model to train: name some in think.models (the notebook's MODELS)")
    found: dict[str, list[pd.DataFrame]] = {part.name: [] for part in fields(FurtherModels)}
    for name in tier.think.models:
        own = replace(tier, think_backbone=name, think=replace(tier.think, controls=CONTROLS, models=()))
        models = fine_tuned(own, dataset, seed)
        answers = compared(own, dataset, seed, asked, {PRETRAINED: None, **models})
        losses = [pd.read_csv(path / "losses.csv").assign(model=model) for model, path in models.items()]
        parts = {
            "funnels": gqpo_selection(own, dataset, seed).funnel(),
            "losses": pd.concat(losses) if losses else pd.DataFrame(),
            "answers": answers[~answers["model"].isin([DT_NAME, RULE_NAME])],
            "replays": period_means(evaluate_methods(study_tier(own), dataset, seed, ["LBM(P)", "LBM(GQPO)"])),
        }
        for part, frame in parts.items():
            found[part].append(frame.assign(backbone=model_label(name)))
    return FurtherModels(**{part: pd.concat(frames, ignore_index=True) for part, frames in found.items()})

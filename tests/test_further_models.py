"""GQPO with further language models: each under its own name, with what belongs to texts and nothing else."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest

from lbm_core.pipeline import further_models
from lbm_core.tiers import get_tier


def test_every_further_model_goes_from_the_funnel_to_the_wheel(monkeypatch, tmp_path):
    used = []

    def fine_tuned(tier, dataset, seed):
        used.append((tier.think_backbone, tier.think.controls, tier.think.models))
        if "mute" in tier.think_backbone:
            return {}
        pd.DataFrame({"step": [1], "loss": [2.0]}).to_csv(tmp_path / "losses.csv", index=False)
        return {"GQPO": tmp_path}

    def compared(tier, dataset, seed, asked, models):
        names = [*models, further_models.DT_NAME, further_models.RULE_NAME]
        return pd.DataFrame({"model": names, "moment": 0})

    def evaluate_methods(tier, dataset, seed, methods):
        assert tier.act.seeds == 1, "the study's training seeds"
        rows = [(method, k, day, 0, 0, day + k) for method in methods for day in (7, 8) for k in range(2)]
        return pd.DataFrame(rows, columns=["method", "advertiser", "period", "seed", "train_seed", "score"])

    funnel = pd.DataFrame({"stage": ["sampled", "chosen"], "count": [3, 1]})
    monkeypatch.setattr(further_models, "fine_tuned", fine_tuned)
    monkeypatch.setattr(further_models, "compared", compared)
    monkeypatch.setattr(further_models, "evaluate_methods", evaluate_methods)
    monkeypatch.setattr(further_models, "gqpo_selection", lambda *a: SimpleNamespace(funnel=lambda: funnel))
    tier = get_tier("laptop", think__models=("/models/large.gguf", "owner/mute"))
    found = further_models.further_models(tier, "dense", 0, None)
    assert used == [("/models/large.gguf", ("random",), ()), ("owner/mute", ("random",), ())]
    assert found.answers[["backbone", "model"]].to_numpy().tolist() == [
        ["large", "pretrained"],
        ["large", "GQPO"],
        ["mute", "pretrained"],
    ]
    assert found.losses[["backbone", "model", "loss"]].to_numpy().tolist() == [["large", "GQPO", 2.0]]
    assert len(found.funnels) == 4
    means = found.replays.query("backbone == 'large' and method == 'LBM(P)'").set_index("period")
    assert means["score"].to_dict() == {7: 7.5, 8: 8.5}
    assert means["advertisers"].eq(2).all()
    with pytest.raises(ValueError, match="MODELS"):
        further_models.further_models(replace(tier, think=replace(tier.think, models=())), "dense", 0, None)

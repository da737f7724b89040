"""The gpu and paper tiers rehearsed: every training, search and replay runs with their settings, at small sizes.

Only sizes differ, the backbone (two layers of random weights), the days (made up) and who writes chains of thought.
"""

from __future__ import annotations

import numpy as np
import pytest
from shrunk import let_rehearse, make_days, save_tiny_writer, shrunk

from lbm_core.lab.lab import Lab
from lbm_core.lab.methods import METHODS
from lbm_core.lab.tiers import tier
from lbm_core.studies import chapter_02, chapter_03, chapter_05, chapter_07


@pytest.fixture(params=[("gpu", "sparse"), ("paper", "dense")], ids=lambda param: param[0])
def lab(request, tmp_path, monkeypatch):
    monkeypatch.setenv("LBM_CACHE", str(tmp_path / "cache"))
    let_rehearse(monkeypatch)
    lab = Lab(shrunk(tier(request.param[0]), save_tiny_writer(tmp_path / "writer")), request.param[1])
    make_days(lab)
    return lab


def test_every_stage_of_the_large_tiers(lab):
    own = tier(lab.tier.name)
    assert (lab.tier.gqpo.samples, lab.tier.gqpo.finetune.lora_rank) == (own.gqpo.samples, own.gqpo.finetune.lora_rank)
    lab.train_all()  # the critic and Table 1's baselines, each after its search
    assert lab.model("oracle imitation").losses[-1, 0] > 0
    judges = chapter_03.critic_variants(lab, lab.tier.chapter3.variants)
    assert list(judges) == list(own.chapter3.variants)

    curves = chapter_02.loss_curves(lab)
    assert curves["method"].nunique() == len(own.chapter2.curves)
    assert np.isfinite(curves["loss"]).all()

    assert lab.selection().samples["chosen"].sum() > 0
    tuned = chapter_05.fine_tuned(lab)
    # Of four decisions a control may find nothing to learn.
    assert {chapter_05.TUNED, "random"} <= set(tuned) <= {chapter_05.TUNED, *own.chapter5.controls}
    losses = chapter_05.finetuning_losses(tuned).groupby("model")["loss"]
    assert losses.count().min() > 0
    assert np.isfinite(losses.mean()).all()

    assert np.isfinite(chapter_07.sft_losses(lab)["loss"]).all()
    lengths = chapter_07.grpo_lengths(lab)
    assert list(lengths["variant"].unique()) == list(own.chapter7.grpo_variants)

    rows = lab.evaluate([*METHODS])
    assert set(rows["method"]) == set(METHODS)
    assert rows["expected_score"].notna().all()

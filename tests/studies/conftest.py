"""A lab on made-up days, whose models are trained in a blink; everything is kept for one module's tests."""

from __future__ import annotations

import pytest
from small_periods import invented_period
from tiny_backbone import save_tiny_backbone
from tiny_language_model import tiny_language_model

from lbm_core.data.generation import GenerateConfig, generate
from lbm_core.lab import days
from lbm_core.lab.lab import Lab

SIZES = {
    "data.train_periods": 2,
    "evaluation.train_seeds": 2,
    "act.steps": 10,
    "act.batch_size": 8,
    "act.layers": 2,
    "act.learning_rate": 3e-3,
    "critic.steps": 2,
    "critic.hidden_size": 8,
    "think.warm_up": None,
    "think.style.form": "figure 4",
    "think.ratio_required": False,
    "think.tolerance": 0.03,
    "think.sampling.max_new_tokens": 8,
    "gqpo.prompts": 3,
    "gqpo.samples": 2,
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    writer, folder = tiny_language_model(), tmp_path_factory.mktemp("writer")
    writer.model.save_pretrained(folder)
    writer.tokenizer.save_pretrained(folder)
    backbone = save_tiny_backbone(tmp_path_factory.mktemp("backbone"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LBM_CACHE", str(tmp_path_factory.mktemp("cache")))
        tiny = Lab.of("smoke").changed({**SIZES, "act.backbone": str(backbone), "think.backbone": str(folder)})
        for one in (tiny, tiny.with_share(0.1)):
            place, numbers = days.trajectories(one).path, days.train_periods(one)
            config = GenerateConfig("dense", numbers, one.seed)
            generate(config, place, simulate=invented_period, progress=False)
        yield tiny

"""The warmed-up LBM-Think: trained, or loaded from the updates that a package carries."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch
from small_periods import invented_period
from tiny_language_model import tiny_language_model

from lbm_core.act.backbone import load_backbone
from lbm_core.data.generation import GenerateConfig, generate
from lbm_core.lab import days, thinking, warmed_up
from lbm_core.lab.guided import Guided, guided_contender
from lbm_core.lab.lab import Lab
from lbm_core.think.config import WarmUpConfig


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    folder = tmp_path_factory.mktemp("writer")
    writer = tiny_language_model()
    writer.model.save_pretrained(folder)
    writer.tokenizer.save_pretrained(folder)
    small = WarmUpConfig(samples=7, periods=2, batch_size=4, micro_batch_size=4, lora_rank=2, precision="float32")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LBM_CACHE", str(tmp_path_factory.mktemp("cache")))
        plain = Lab.of("smoke", think__backbone=str(folder))
        tiny = replace(plain, tier=replace(plain.tier, think=replace(plain.tier.think, warm_up=small)))
        for dataset in ("dense", "sparse"):
            own = replace(tiny.changed({"data.train_periods": 2}), dataset=dataset)
            config = GenerateConfig(dataset, days.train_periods(own), own.seed)
            generate(config, days.trajectories(own).path, simulate=invented_period, progress=False)
        yield tiny


def test_it_is_trained_once_from_both_data_sets(lab, capsys):
    artifact = warmed_up.warm_up(lab)
    folder = artifact.get()
    assert "computed" in capsys.readouterr().out
    other = warmed_up.warm_up(replace(lab, dataset="sparse", train_seed=3))
    assert other.key == artifact.key, "one model for both data sets and all later trainings"
    assert thinking.started(lab) == folder
    assert thinking.backend(lab, folder).name.startswith(str(folder))
    prompts, texts = warmed_up._taught(lab, lab.tier.think.warm_up)
    assert len(prompts) == len(texts) == 7
    before, after = load_backbone(lab.tier.think.backbone).model, load_backbone(str(folder)).model
    name = "model.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(before.state_dict()[name], after.state_dict()[name])


def test_what_a_package_carries_gives_the_same_model(lab, tmp_path, monkeypatch):
    artifact = warmed_up.warm_up(lab)
    folder = artifact.get()
    carried = shutil.copytree(folder / "updates", tmp_path / "carried")
    monkeypatch.setattr(warmed_up, "CARRIED", carried)
    monkeypatch.setenv("LBM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(warmed_up, "_taught", lambda *_: pytest.fail("nothing is trained"))
    again = warmed_up.warm_up(lab).get()
    assert again != folder
    assert (again / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    assert (again / warmed_up.LOG).read_text() == (folder / warmed_up.LOG).read_text()


def test_other_settings_are_trained_and_not_taken_from_the_package(lab, tmp_path, monkeypatch):
    carried = shutil.copytree(warmed_up.warm_up(lab).get() / "updates", tmp_path / "carried")
    monkeypatch.setattr(warmed_up, "CARRIED", carried)
    made_from = json.loads((carried / warmed_up.MADE_FROM).read_text())
    assert made_from["key"] == warmed_up.carried() == warmed_up.warm_up(lab).key
    assert made_from["samples"] == 7
    assert warmed_up.warm_up(replace(lab, seed=1)).key != warmed_up.carried()
    monkeypatch.setattr(warmed_up, "WORDING", {"indicators": {}, "chain": {"answer": "other words"}})
    assert warmed_up.warm_up(lab).key != warmed_up.carried()


def test_rows_name_the_weights_of_the_warmed_up_model(lab):
    contender = guided_contender(lab, Guided("LBM-Think"))
    assert [one.stage for one in contender.models] == ["actor", "warm_up"]
    assert contender.pretrained == ""
    raw = lab.changed({"think.warm_up": None})
    contender = guided_contender(raw, Guided("LBM-Think"))
    assert [one.stage for one in contender.models] == ["actor"]
    assert contender.pretrained == lab.tier.think.backbone


def test_an_expected_move_cannot_come_late(lab):
    expected = lab.changed({"think.reading": "expected"})
    guided_contender(expected, Guided("LBM-Think"))
    for wrong in (Guided("LBM-Think", late=1), Guided("LBM-Think", every=2), Guided("LBM-Think", level=1.2)):
        with pytest.raises(ValueError, match="no word"):
            guided_contender(expected, wrong)

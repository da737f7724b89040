"""Fine-tuning LBM-Think: what carries loss, that the loss falls, and that the result loads as a backbone."""

from __future__ import annotations

import json

import pandas as pd
import pytest
import torch
from tiny_language_model import tiny_language_model

from lbm_core.act.backbone import load_backbone
from lbm_core.think.config import FinetuneConfig
from lbm_core.think.finetune import IGNORED, finetune, padded, tokenized
from lbm_core.think.trainer import LOG


def test_only_the_completion_carries_loss():
    tokenizer = tiny_language_model().tokenizer
    row = tokenized(tokenizer, "prompt:", "\nyes")
    learnt = [label for label in row["labels"] if label != IGNORED]
    assert tokenizer.decode(learnt) == "\nyes<end>"
    assert tokenizer.decode(row["input_ids"]) == "prompt:\nyes<end>"


def test_the_trainer_sees_no_label_at_the_prompt(tiny_folder, monkeypatch):
    """Checked where it counts: in the batch that reaches the trainer."""
    seen = []

    def watched(samples):
        seen.append(padded(samples))
        return seen[-1]

    monkeypatch.setattr("lbm_core.think.finetune.padded", watched)
    finetune(FinetuneConfig(backbone=tiny_folder, epochs=1, batch_size=1), ["abc"], ["de"])
    ids, labels = seen[0]["input_ids"][0].tolist(), seen[0]["labels"][0].tolist()
    count = labels.index(next(label for label in labels if label != IGNORED))
    assert count == 3, "the three letters of the prompt carry no loss"
    assert labels[3:6] == ids[3:6]
    assert len(labels) == 6, "two letters and the end do"


def test_the_loss_falls_and_the_model_loads_as_a_backbone(tiny_folder, tmp_path):
    before = load_backbone(tiny_folder)
    config = FinetuneConfig(backbone=tiny_folder, epochs=8, batch_size=2, learning_rate=1e-2)
    tuned, losses = finetune(config, ["ask", "question"], [" one", " two"], tmp_path / "tuned")
    assert len(losses) == 8
    assert losses["loss"].iloc[-1] < 0.7 * losses["loss"].iloc[0]
    loaded = load_backbone(str(tmp_path / "tuned"))
    for name, value in loaded.model.state_dict().items():
        assert torch.equal(value, tuned.model.state_dict()[name]), name
    assert loaded.model.dtype == torch.float32
    assert loaded.revision != before.revision
    assert any(
        not torch.equal(value, loaded.model.state_dict()[name]) for name, value in before.model.state_dict().items()
    )
    assert json.loads((tmp_path / "tuned" / "training.json").read_text())["epochs"] == 8
    assert len(pd.read_csv(tmp_path / "tuned" / LOG)) == 8


def test_bad_input_is_refused(tiny_folder):
    config = FinetuneConfig(backbone=tiny_folder, max_length=8)
    with pytest.raises(ValueError, match="at least one"):
        finetune(config, [], [])
    with pytest.raises(ValueError, match="at least one"):
        finetune(config, ["a"], ["b", "c"])
    with pytest.raises(ValueError, match="max_length is 8"):
        finetune(config, ["a long prompt"], ["b"])
    for wrong in ({"epochs": 0}, {"batch_size": 0}, {"learning_rate": 0.0}, {"precision": "float16"}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} of FinetuneConfig should be"):
            FinetuneConfig(**wrong)


def test_the_first_loss_is_the_mean_over_the_completion_and_its_end(tiny_folder):
    config = FinetuneConfig(backbone=tiny_folder, epochs=1, batch_size=1, learning_rate=1e-9)
    _, losses = finetune(config, ["My answer:"], [" raise"])
    fresh = load_backbone(tiny_folder)
    prompt, completion = (fresh.tokenizer(text)["input_ids"] for text in ("My answer:", " raise"))
    whole = [*prompt, *completion, fresh.tokenizer.eos_token_id]
    with torch.no_grad():
        logits = fresh.model(torch.tensor([whole])).logits[0]
    nll = torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(whole[1:]), reduction="none")
    assert losses["loss"].iloc[0] == pytest.approx(nll[len(prompt) - 1 :].mean().item(), rel=1e-3)

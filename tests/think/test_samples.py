"""Fine-tuning on rows of a batch: as sample by sample, with weights, adapters and several rounds."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from tiny_language_model import tiny_language_model

from lbm_core.act.backbone import load_backbone
from lbm_core.think.config import FinetuneConfig
from lbm_core.think.finetune import IGNORED, finetune, padded, tokenized
from lbm_core.think.transformers_backend import _shared_beginning

PROMPTS = ["the same start, one:", "the same start, two more:", "the same start:"]
TEXTS = [" up", " down it goes", " no"]


def _samples(weights=(1.0, 1.0, 1.0)):
    tokenizer = tiny_language_model().tokenizer
    return [tokenized(tokenizer, *parts) for parts in zip(PROMPTS, TEXTS, weights, strict=True)]


def test_shared_beginning():
    assert _shared_beginning([[1, 2, 3], [1, 2, 4]]) == 2
    assert _shared_beginning([[1, 2], [1, 2, 3]]) == 2
    assert _shared_beginning([[5]]) == 1
    assert _shared_beginning([[], [1]]) == 0


def test_rows_predict_as_if_alone_and_end_together():
    samples, model = _samples((1.0, 2.0, 3.0)), tiny_language_model().model
    rows = padded(samples)
    inputs = {name: rows[name] for name in ("input_ids", "position_ids", "attention_mask")}
    with torch.no_grad():
        together = model(**inputs).logits
        for row, sample in enumerate(samples):
            own, n = model(torch.tensor([sample["input_ids"]])).logits[0], len(sample["input_ids"])
            torch.testing.assert_close(together[row, -n:], own, rtol=1e-4, atol=1e-4)
            assert rows["labels"][row, -n:].tolist() == sample["labels"]
            assert (rows["labels"][row, :-n] == IGNORED).all()
            assert set(rows["weights"][row, -n:].tolist()) == {sample["weight"]}


def test_the_size_of_a_batch_does_not_change_the_update(tiny_folder):
    """Also not over several forward passes of one update."""
    after = []
    for size in (1, 2, 4):
        config = FinetuneConfig(tiny_folder, epochs=1, batch_size=4, micro_batch_size=size, learning_rate=1e-3)
        tuned, losses = finetune(config, [*PROMPTS, PROMPTS[0]], [*TEXTS, TEXTS[1]])
        assert len(losses) == 1
        after.append((losses["loss"].iloc[0], tuned.model.state_dict()))
    for loss, state in after[1:]:
        assert loss == pytest.approx(after[0][0], rel=1e-4)
        for name, value in state.items():
            torch.testing.assert_close(value, after[0][1][name], rtol=1e-3, atol=1e-5)


def test_weights_multiply_the_samples_losses(tiny_folder):
    config = FinetuneConfig(tiny_folder, epochs=1, batch_size=2, micro_batch_size=2, learning_rate=1e-9)

    def loss(**weights):
        return finetune(config, PROMPTS[:2], TEXTS[:2], **weights)[1]["loss"].iloc[0]

    first, second = loss(weights=[1.0, 0.0]), loss(weights=[0.0, 1.0])
    assert loss() == pytest.approx(first + second, rel=1e-4)
    assert loss(weights=[0.5, 2.0]) == pytest.approx(0.5 * first + 2 * second, rel=1e-4)
    for wrong in ([1.0], [1.0, -1.0], [0.0, 0.0], [1.0, float("nan")]):
        with pytest.raises(ValueError, match="one finite weight"):
            finetune(config, PROMPTS[:2], TEXTS[:2], weights=wrong)


def test_adapters_learn_and_are_merged(tiny_folder, tmp_path):
    config = FinetuneConfig(tiny_folder, epochs=8, batch_size=3, learning_rate=2e-2, lora_rank=4, checkpointing=False)
    tuned, losses = finetune(config, PROMPTS, TEXTS, tmp_path / "tuned")
    assert losses["loss"].iloc[-1] < losses["loss"].iloc[0]
    before, after = load_backbone(tiny_folder), load_backbone(str(tmp_path / "tuned"))
    assert after.model.state_dict().keys() == before.model.state_dict().keys(), "no adapter is left"
    same = "model.embed_tokens.weight"
    assert torch.equal(after.model.state_dict()[same], before.model.state_dict()[same])
    changed = "model.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(after.model.state_dict()[changed], before.model.state_dict()[changed])
    assert torch.equal(after.model.state_dict()[changed], tuned.model.state_dict()[changed])
    with pytest.raises(ValueError, match="lora_rank"):
        FinetuneConfig(lora_rank=-1)


@pytest.mark.parametrize("rank", [0, 4])
def test_a_killed_fine_tuning_resumes_to_the_model_of_an_uninterrupted_one(rank, tiny_folder, tmp_path, monkeypatch):
    settings = {"epochs": 3, "batch_size": 1, "micro_batch_size": 1, "learning_rate": 1e-2, "lora_rank": rank}
    config, kept = FinetuneConfig(tiny_folder, **settings), {"checkpoints": tmp_path}
    monkeypatch.setattr("lbm_core.think.trainer.CHECKPOINT_SECONDS", 0.0)
    whole, expected = finetune(config, PROMPTS, TEXTS)
    seen = []

    def killing(samples):
        seen.append(samples)
        if len(seen) == 6:
            raise KeyboardInterrupt
        return padded(samples)

    with monkeypatch.context() as patch:
        patch.setattr("lbm_core.think.finetune.padded", killing)
        with pytest.raises(KeyboardInterrupt):
            finetune(config, PROMPTS, TEXTS, **kept)
    assert len(list(tmp_path.glob("*/checkpoint-*"))) == 1
    again, losses = finetune(config, PROMPTS, TEXTS, **kept)
    pd.testing.assert_frame_equal(losses, expected)
    for name, value in again.model.state_dict().items():
        torch.testing.assert_close(value, whole.model.state_dict()[name])
    assert not list(tmp_path.iterdir())

"""Fine-tuning with TRL: the prompt carries no loss, the loss falls, the model is found again."""

import numpy as np
import pytest
import torch

from lbm_core.act.backbone import load_backbone
from lbm_core.think.config import FinetuneConfig
from lbm_core.think.finetune import finetune

pytestmark = pytest.mark.weights
TINY = FinetuneConfig(layers=2, epochs=4, batch_size=2, learning_rate=1e-3, max_length=128)
PROMPTS = ["The budget is 100. My answer:", "A day has 48 timesteps. My answer:"]
COMPLETIONS = [" raise <answer>1</answer>", " lower <answer>-1</answer>"]


def test_loss_falls_and_the_model_is_found_again(tmp_path):
    model, losses = finetune(TINY, PROMPTS, COMPLETIONS, tmp_path / "tuned")
    assert len(losses) == 4
    assert losses["loss"].iloc[-1] < losses["loss"].iloc[0]
    again = load_backbone(str(tmp_path / "tuned"))
    ids = torch.tensor([again.tokenizer(PROMPTS[0])["input_ids"]])
    with torch.no_grad():
        torch.testing.assert_close(again.model(ids).logits, model.model(ids).logits)


def test_only_the_completion_is_learned():
    """The first loss is the mean negative log-likelihood of the completion's tokens and the end, no others."""
    _, losses = finetune(
        FinetuneConfig(layers=2, epochs=1, batch_size=1, learning_rate=1e-9), PROMPTS[:1], COMPLETIONS[:1]
    )
    fresh = load_backbone("smollm2-135m", layers=2)
    prompt = fresh.tokenizer(PROMPTS[0])["input_ids"]
    whole = fresh.tokenizer(PROMPTS[0] + COMPLETIONS[0] + fresh.tokenizer.eos_token)["input_ids"]
    assert whole[: len(prompt)] == prompt
    with torch.no_grad():
        logits = fresh.model(torch.tensor([whole])).logits[0]
    nll = -torch.log_softmax(logits[:-1], -1)[np.arange(len(whole) - 1), whole[1:]]
    assert losses["loss"].iloc[0] == pytest.approx(nll[len(prompt) - 1 :].mean().item(), rel=1e-3)


def test_bad_input():
    with pytest.raises(ValueError, match="max_length"):
        finetune(FinetuneConfig(layers=1, max_length=4), PROMPTS, COMPLETIONS)

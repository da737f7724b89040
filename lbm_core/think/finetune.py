"""Fine-tune LBM-Think on chosen chains of thought (GQPO's update, Eq. 14) by TRL: all weights, as there, or LoRA."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from trl import SFTConfig, SFTTrainer

from lbm_core.act.backbone import Backbone, load_backbone
from lbm_core.act.train import processes
from lbm_core.think.config import FinetuneConfig
from lbm_core.think.trainer import low_rank, merged, save_adapter, save_trained, train

IGNORED = -100  # label of a token without loss


def tokenized(
    tokenizer: Any, prompt: str, completion: str, weight: float = 1.0, *, longest: int | None = None
) -> dict[str, Any]:
    """One training sample: token ids, the completion's as labels, the weight of its loss.

    Prompt and completion are tokenized apart, as in generation: together, the prompt's last character may merge with
    the completion's first one (":" and a line break in Qwen's vocabulary). ValueError for more than ``longest`` tokens.
    """
    before = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    after = [*tokenizer(completion, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    if longest is not None and len(before + after) > longest:
        count = len(before + after)
        raise ValueError(f"a sample has {count} tokens, max_length is {longest}: raise it or shorten the prompts")
    return {"input_ids": before + after, "labels": [IGNORED] * len(before) + after, "weight": weight}


def padded(samples: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
    """n samples of :func:`tokenized` as rows of T tokens, which end together.

    input_ids, labels, position_ids and attention_mask (0 before a sample's first token), (n, T) int; weights, (n, T)
    float32, its sample's weight at every token.
    """
    longest = max(len(sample["input_ids"]) for sample in samples)

    def rows(columns: Sequence[Sequence[float]], filler: float) -> Tensor:
        return torch.tensor([[filler] * (longest - len(column)) + list(column) for column in columns])

    lengths = [len(sample["input_ids"]) for sample in samples]
    return {
        "input_ids": rows([s["input_ids"] for s in samples], 0),
        "labels": rows([s["labels"] for s in samples], IGNORED),
        "position_ids": rows([range(n) for n in lengths], 0),
        "weights": rows([[s["weight"]] * n for s, n in zip(samples, lengths, strict=True)], 0.0),
        "attention_mask": rows([[1] * n for n in lengths], 0),
    }


class WeightedTrainer(SFTTrainer):
    """Weighs the samples' losses; TRL's own loss knows no weights. Logits are computed where there is a label."""

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        labels, weights = inputs["labels"][:, 1:], inputs["weights"][:, 1:]
        learned = (labels != IGNORED).any(dim=0).nonzero().flatten()  # columns; not every row has a label in each
        read = {name: inputs[name] for name in ("input_ids", "position_ids", "attention_mask")}
        outputs = model(**read, use_cache=False, logits_to_keep=learned)
        logits, targets = outputs.logits.float().flatten(0, 1), labels[:, learned].flatten()
        nll = torch.nn.functional.cross_entropy(logits, targets, reduction="none", ignore_index=IGNORED)
        # Tokens of the whole update, over all its forward passes and devices; DDP averages over devices.
        loss = (weights[:, learned].flatten() * nll).sum() / num_items_in_batch * self.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss


def finetune(
    config: FinetuneConfig,
    prompts: Sequence[str],
    completions: Sequence[str],
    folder: Path | None = None,
    *,
    weights: Sequence[float] | NDArray[np.float64] | None = None,
    checkpoints: Path | None = None,
    adapter: Path | None = None,
) -> tuple[Backbone, pd.DataFrame]:
    """Raise the likelihood of chosen chains of thought (Eq. 14); the prompts' tokens carry no loss.

    The fine-tuned model, and step, loss (mean weighted negative log-likelihood per token of the step's samples).
    Several processes of ``accelerate launch`` share a batch; each returns what one would have trained, up to rounding.

    Parameters
    ----------
    prompts, completions : n rendered prompts (:func:`lbm_core.think.prompt.render`), and a chain of thought for each
    folder : takes the model (for :func:`~lbm_core.act.backbone.load_backbone`) and its log; of the main process alone
    weights : n factors of the samples' losses, >= 0, best with a mean of 1: Eq. 14's first line with those of
        :func:`lbm_core.think.gqpo.advantage_weights`; default 1 each, its second line
    checkpoints : folder in which a long training is kept until it is finished; None keeps nothing
    adapter : folder that takes the low-rank updates alone, which are then rounded to bfloat16
    """
    if not prompts or len(prompts) != len(completions):
        raise ValueError(f"as many prompts as completions are needed, at least one: {len(prompts)}, {len(completions)}")
    factors = [1.0] * len(prompts) if weights is None else [float(weight) for weight in weights]
    if len(factors) != len(prompts) or not all(0 <= weight < float("inf") for weight in factors) or not any(factors):
        raise ValueError("fine-tuning needs one finite weight >= 0 per sample, not all of them 0")
    backbone = load_backbone(config.backbone)
    parts = zip(prompts, completions, factors, strict=True)
    rows = [tokenized(backbone.tokenizer, *sample, longest=config.max_length) for sample in parts]
    at_once = config.micro_batch_size * processes().num_processes
    settings = partial(
        SFTConfig,
        num_train_epochs=config.epochs,
        per_device_train_batch_size=config.micro_batch_size,
        gradient_accumulation_steps=max(1, round(min(config.batch_size, len(rows)) / at_once)),
        gradient_checkpointing=config.checkpointing,
        max_length=config.max_length,
        dataset_kwargs={"skip_prepare_dataset": True},  # the samples are tokenized already
        remove_unused_columns=False,
        bf16=config.precision == "bfloat16",
    )
    more = {"data_collator": padded, "peft_config": low_rank(config.lora_rank, backbone.model)}
    trained, log = train(WeightedTrainer, settings, backbone, config, rows, checkpoints, **more)
    if adapter is not None:
        save_adapter(adapter, trained)
    model, losses = merged(trained), log[["step", "loss"]]
    if folder is not None:
        save_trained(folder, model, backbone.tokenizer, losses, config)
    return replace(backbone, model=model), losses

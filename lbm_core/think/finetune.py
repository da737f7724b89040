"""Fine-tune LBM-Think on chosen chains of thought: the update of GQPO (Eq. 14), by TRL's SFTTrainer.

Full parameters as in the paper, or LoRA (Hu et al. 2022) through peft.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from lbm_core.act.backbone import Backbone, load_backbone
from lbm_core.files import writing
from lbm_core.think.packing import IGNORED, packed, tokenized
from lbm_core.tiers import Tier


@dataclass(frozen=True)
class FinetuneConfig:
    """How LBM-Think is updated (§4.1)."""

    backbone: str = "smollm2-135m"  # what load_backbone takes; paper: Qwen2.5-3B-Instruct
    layers: int | None = None  # transformer layers kept; None = all (fewer only make sense in tests)
    epochs: int = 5
    batch_size: int = 64  # samples per update
    micro_batch_size: int = 4  # samples per forward pass; bounds the memory, does not change the update
    learning_rate: float = 1e-6  # AdamW, constant
    max_length: int = 2048  # tokens of prompt and completion; longer samples are refused, never cut
    precision: str = "float32"  # of the forward pass, "float32" or "bfloat16"; weights stay float32
    lora_rank: int = 0  # of low-rank adapters on all linear layers, merged into the weights at the end; 0: all weights
    checkpointing: bool = True  # compute activations anew in the backward pass: slower, far less memory
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "micro_batch_size", "max_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} of the fine-tuning must be at least 1; got {getattr(self, name)}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate of the fine-tuning must be positive; got {self.learning_rate}")
        if self.lora_rank < 0:
            raise ValueError(f"lora_rank of the fine-tuning must not be negative; got {self.lora_rank}")
        if self.precision not in ("float32", "bfloat16"):
            raise ValueError(f"precision must be float32 or bfloat16; got {self.precision!r}")

    @classmethod
    def from_tier(cls, tier: Tier, seed: int = 0, **overrides: Any) -> FinetuneConfig:
        """The sizes of a tier; keyword arguments replace single fields."""
        settings: dict[str, Any] = {
            "backbone": tier.think_backbone,
            "epochs": tier.think.epochs,
            "batch_size": tier.think.batch_size,
            "learning_rate": tier.think.learning_rate,
            "precision": tier.think.precision,
            "lora_rank": tier.think.lora_rank,
            "checkpointing": tier.think.lora_rank == 0,
            "seed": seed,
        }
        return cls(**(settings | overrides))


def finetune(
    config: FinetuneConfig,
    prompts: Sequence[str],
    completions: Sequence[str],
    folder: Path | None = None,
    *,
    weights: Sequence[float] | NDArray[np.float64] | None = None,
) -> tuple[Backbone, pd.DataFrame]:
    """Raise the likelihood of chosen chains of thought (Eq. 14).

    The loss counts the completion's tokens only, not the prompt's.

    Parameters
    ----------
    prompts : n rendered prompts (:func:`lbm_core.think.prompt.render`)
    completions : n chosen chains of thought
    folder : where the model is kept, in transformers' format: :func:`lbm_core.act.backbone.load_backbone` takes it
    weights : n factors of the samples' losses, >= 0, best with a mean of 1: Eq. 14's first line with those of
        :func:`lbm_core.think.gqpo.advantage_weights`; default 1 each, its second line

    Returns
    -------
    backbone : the fine-tuned model
    losses : step, loss (mean weighted negative log-likelihood per token of the step's samples)

    Raises
    ------
    ValueError
        Nothing to learn from, a sample longer than ``max_length``, or weights that are no such factors.
    """
    if not prompts or len(prompts) != len(completions):
        raise ValueError(
            f"fine-tuning needs as many prompts as completions, at least one: {len(prompts)}, {len(completions)}"
        )
    given = [1.0] * len(prompts) if weights is None else [float(weight) for weight in weights]
    if len(given) != len(prompts) or not all(0 <= weight < float("inf") for weight in given) or not any(given):
        raise ValueError("fine-tuning needs one finite weight >= 0 per sample, not all of them 0")
    backbone = load_backbone(config.backbone, layers=config.layers)
    rows = [tokenized(backbone.tokenizer, *parts) for parts in zip(prompts, completions, given, strict=True)]
    longest = max(len(row["input_ids"]) for row in rows)
    if longest > config.max_length:
        raise ValueError(
            f"a sample has {longest} tokens, max_length is {config.max_length}: raise it or shorten the prompts"
        )
    with tempfile.TemporaryDirectory() as scratch:
        trainer = _trainer(config, backbone, rows, scratch)
        trainer.train()
        logged = [entry for entry in trainer.state.log_history if "loss" in entry]
        model = trainer.model.merge_and_unload() if config.lora_rank else trainer.model
    losses = pd.DataFrame({"step": [e["step"] for e in logged], "loss": [e["loss"] for e in logged]})
    model.eval()
    model.config.use_cache = True
    if folder is not None:
        with writing(Path(folder)) as temporary:
            model.save_pretrained(temporary)
            backbone.tokenizer.save_pretrained(temporary)
            losses.to_csv(temporary / "losses.csv", index=False)
            (temporary / "finetune.json").write_text(json.dumps(asdict(config) | {"samples": len(rows)}, indent=1))
    return replace(backbone, model=model), losses


def _trainer(config: FinetuneConfig, backbone: Backbone, rows: list[dict[str, Any]], scratch: str) -> Any:
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import PrinterCallback
    from trl import SFTConfig, SFTTrainer

    class WeightedTrainer(SFTTrainer):
        """Weighs the samples' losses; TRL's own loss knows no weights. Logits are computed where there is a label."""

        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None):
            labels, weights = inputs["labels"][0, 1:], inputs["weights"][0, 1:]
            learned = (labels != IGNORED).nonzero().flatten()
            read = {name: inputs[name] for name in ("input_ids", "position_ids", "attention_mask")}
            outputs = model(**read, use_cache=False, logits_to_keep=learned)
            nll = torch.nn.functional.cross_entropy(outputs.logits[0].float(), labels[learned], reduction="none")
            # Tokens of the whole update, over all its forward passes and devices; DDP averages over devices.
            loss = (weights[learned] * nll).sum() / num_items_in_batch * self.accelerator.num_processes
            return (loss, outputs) if return_outputs else loss

    arguments = SFTConfig(
        output_dir=scratch,
        num_train_epochs=config.epochs,
        per_device_train_batch_size=config.micro_batch_size,
        gradient_accumulation_steps=max(1, round(min(config.batch_size, len(rows)) / config.micro_batch_size)),
        gradient_checkpointing=config.checkpointing,
        learning_rate=config.learning_rate,
        lr_scheduler_type="constant",
        max_length=config.max_length,
        dataset_kwargs={"skip_prepare_dataset": True},  # the samples are tokenized already
        remove_unused_columns=False,
        bf16=config.precision == "bfloat16",
        use_cpu=not torch.cuda.is_available(),
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        seed=config.seed,
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    rank = config.lora_rank
    trainer = WeightedTrainer(
        model=backbone.model,
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        data_collator=packed,
        processing_class=backbone.tokenizer,
        peft_config=LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear") if rank else None,
    )
    trainer.remove_callback(PrinterCallback)  # its lines would fill a notebook; the losses are returned
    return trainer

"""What SFT and GRPO on text share: the settings of TRL's trainers, low-rank updates, and models kept on disk."""

from __future__ import annotations

import gc
import hashlib
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from lbm_core.act.backbone import DTYPES, Backbone, load_backbone
from lbm_core.files import writing

LOG = "steps.csv"


@dataclass(frozen=True)
class TextTraining:
    """What both trainings have."""

    backbone: str = "smollm2-135m"  # what load_backbone takes
    layers: int | None = None  # transformer layers kept; None = all (fewer only make sense in tests)
    lora_rank: int | None = 16  # of the low-rank updates; None trains all weights
    trained_layers: int | None = None  # last transformer layers that low-rank updates change; None = all
    learning_rate: float = 1e-4  # AdamW, constant
    precision: str = "float32"  # of the forward pass, "float32" or "bfloat16"; what is trained stays float32
    seed: int = 0

    def __post_init__(self) -> None:
        if self.lora_rank is not None and self.lora_rank < 1:
            raise ValueError(f"lora_rank must be at least 1, or None for all weights; got {self.lora_rank}")
        if self.trained_layers is not None and (self.trained_layers < 1 or self.lora_rank is None):
            raise ValueError(f"trained_layers must be at least 1, with a lora_rank; got {self.trained_layers}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be positive; got {self.learning_rate}")
        if self.precision not in ("float32", "bfloat16"):
            raise ValueError(f"precision must be float32 or bfloat16; got {self.precision!r}")


def base_model(config: TextTraining) -> Backbone:
    """The pretrained model as training wants it.

    Weights that are trained are float32: updates too small for bfloat16 would be lost. Frozen ones, under low-rank
    updates (which peft keeps in float32), are of the config's precision.
    """
    dtype = "float32" if config.lora_rank is None else config.precision
    return load_backbone(config.backbone, layers=config.layers, dtype=dtype)


def low_rank(config: TextTraining, model: Any) -> Any:
    """peft's configuration of low-rank updates of the linear layers; None where all weights are trained.

    Raises
    ------
    ValueError
        More ``trained_layers`` than the model has.
    """
    if config.lora_rank is None:
        return None
    from peft import LoraConfig

    layers, last = model.get_decoder().layers, config.trained_layers
    if last is not None and last > len(layers):
        raise ValueError(f"trained_layers must lie in 1..{len(layers)} for this backbone; got {last}")
    some = [
        f"layers.{k}.{name}"
        for k in range(len(layers) - (last or 0), len(layers))
        for name, module in layers[k].named_modules()
        if isinstance(module, torch.nn.Linear)
    ]
    return LoraConfig(
        r=config.lora_rank,
        lora_alpha=2 * config.lora_rank,
        target_modules=some or "all-linear",
        task_type="CAUSAL_LM",
    )


@contextmanager
def common_settings(config: TextTraining) -> Iterator[dict[str, Any]]:
    """Arguments that TRL's SFTConfig and GRPOConfig share; the scratch folder lives as long as the block."""
    with tempfile.TemporaryDirectory() as scratch:
        yield {
            "output_dir": scratch,
            # Recomputed activations bound the memory; where few layers are trained, there are few to keep.
            "gradient_checkpointing": config.trained_layers is None,
            "learning_rate": config.learning_rate,
            "lr_scheduler_type": "constant",
            # TRL's default is bfloat16. Under low-rank updates the frozen weights are of that type already.
            "bf16": config.precision == "bfloat16" and config.lora_rank is None,
            "use_cpu": not torch.cuda.is_available(),
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "seed": config.seed,
            "disable_tqdm": True,
            "dataloader_pin_memory": False,
        }


def run_quietly(trainer: Any) -> list[dict[str, Any]]:
    """Train, and return what was logged at every step."""
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)  # its lines would fill a notebook; the log is returned
    trainer.train()
    gc.collect()  # circular references would keep the optimiser's tensors until some later collection
    return [entry for entry in trainer.state.log_history if "loss" in entry]


def finished(model: Any, start: Backbone, config: TextTraining, log: pd.DataFrame, folder: Path | None) -> Backbone:
    """Keep a trained model (the low-rank updates alone, or all weights) and hand it back ready for use.

    Parameters
    ----------
    model : the trainer's model
    start : what the training began with
    log : one row per step, kept beside the model
    folder : where it is kept; :func:`load_text_model` reads it
    """
    model = model.eval()
    model.config.use_cache = True
    if folder is not None:
        with writing(Path(folder)) as temporary:
            model.save_pretrained(temporary)
            if config.lora_rank is None:
                start.tokenizer.save_pretrained(temporary)
            log.to_csv(temporary / LOG, index=False)
            (temporary / "training.json").write_text(json.dumps(asdict(config), indent=1))
    if config.lora_rank is not None:
        model = model.float().merge_and_unload()
    return Backbone(model, start.tokenizer, start.name, f"{start.revision}, trained with seed {config.seed}")


def load_text_model(folder: Path, config: TextTraining, *, dtype: str = "float32") -> Backbone:
    """A model that :func:`finished` kept.

    Parameters
    ----------
    config : that it was trained with; names the pretrained model that low-rank updates are added to
    dtype : "float32", "bfloat16" or "float16"; updates are added in float32 and rounded afterwards

    Raises
    ------
    FileNotFoundError
        No such model.
    """
    if config.lora_rank is None:
        return load_backbone(str(folder), dtype=dtype)
    weights = Path(folder) / "adapter_model.safetensors"
    if not weights.is_file():
        raise FileNotFoundError(f"{folder} holds no low-rank updates: adapter_model.safetensors is missing")
    from peft import PeftModel

    start = load_backbone(config.backbone, layers=config.layers)
    model: Any = PeftModel.from_pretrained(start.model, str(folder))
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()[:12]
    merged = model.merge_and_unload().to(DTYPES[dtype]).eval()
    return Backbone(merged, start.tokenizer, start.name, f"{start.revision}, updates sha256 {digest}")

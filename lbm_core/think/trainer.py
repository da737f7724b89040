"""What all trainings of a language model share: TRL's settings, low-rank updates, checkpoints, files of the result."""

import gc
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from datasets import Dataset
from safetensors.torch import load_file, save_file
from transformers import PrinterCallback, TrainerCallback

from lbm_core.act.backbone import Backbone
from lbm_core.files import config_key
from lbm_core.think.config import TextTraining
from lbm_core.training import sound

LOG = "steps.csv"  # in the folder of a trained model: one row per step
ADAPTER = "adapter.safetensors"  # low-rank updates alone
CHECKPOINT_SECONDS = 600.0  # of training between two; one of all weights takes a while and gigabytes


def train(
    trainer_of: Callable[..., Any],
    settings_of: Callable[..., Any],
    start: Backbone,
    config: TextTraining,
    rows: list[dict[str, Any]],
    checkpoints: Path | None,
    **more: Any,
) -> tuple[Any, pd.DataFrame]:
    """Train by one of TRL's trainers, from the last whole checkpoint on if there is one.

    The trainer's model, perhaps with low-rank updates, and what TRL logged, one row per step. ``settings_of`` is TRL's
    configuration with everything but what all trainings share; ``start`` is changed in place and learns from ``rows``,
    json-plain; ``checkpoints`` keeps an unfinished training by its configuration and samples, None nothing.
    """
    with tempfile.TemporaryDirectory() as scratch:
        key = config_key([type(config).__name__, asdict(config), rows])
        folder = Path(scratch) if checkpoints is None else checkpoints / key
        settings = settings_of(
            output_dir=str(folder),
            learning_rate=config.learning_rate,
            lr_scheduler_type=config.schedule,
            warmup_steps=0.05 if config.schedule == "cosine" else 0,  # a share of the steps
            use_cpu=not torch.cuda.is_available(),
            logging_steps=1,
            logging_nan_inf_filter=False,  # it would show the mean so far in their place
            save_strategy="no",  # _Periodic decides
            save_total_limit=1,
            report_to="none",
            seed=config.seed,
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )
        more |= {"train_dataset": Dataset.from_list(rows), "processing_class": start.tokenizer}
        trainer = trainer_of(model=start.model, args=settings, **more)
        trainer.remove_callback(PrinterCallback)  # its lines would fill a notebook; the log is returned
        trainer.add_callback(_Sound())
        if checkpoints is not None:
            trainer.add_callback(_Periodic())
        # The trainer's state is what a checkpoint gets last: one without it was being written when the run was killed.
        whole = [state.parent for state in folder.glob("checkpoint-*/trainer_state.json")]
        last = max(whole, key=lambda path: int(path.name.split("-")[1]), default=None)
        trainer.train(resume_from_checkpoint=str(last) if last else None)
        if checkpoints is not None:
            shutil.rmtree(folder, ignore_errors=True)
    gc.collect()  # circular references would keep the optimiser's tensors until some later collection
    trainer.model.eval()
    trainer.model.config.use_cache = True
    return trainer.model, pd.DataFrame([entry for entry in trainer.state.log_history if "loss" in entry])


class _Sound(TrainerCallback):
    """Stops a training whose loss, or the gradient's norm, is no number any more."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        sound(logs.get("loss", 0.0) + logs.get("grad_norm", 0.0), "the language model", state.global_step - 1)


class _Periodic(TrainerCallback):
    """Asks for a checkpoint so many seconds after the last one, but not behind the last step."""

    def __init__(self) -> None:
        self.last = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        if state.global_step < state.max_steps and time.monotonic() - self.last >= CHECKPOINT_SECONDS:
            control.should_save, self.last = True, time.monotonic()
        return control


def low_rank(rank: int | None, model: Any, last_layers: int | None = None) -> Any:
    """peft's configuration of low-rank updates of the linear layers (Hu et al. 2022); None without a rank.

    ``last_layers`` restricts them to so many transformer layers; ValueError where the model has fewer.
    """
    if not rank:
        return None
    from peft import LoraConfig

    layers = model.get_decoder().layers
    where: dict[str, Any] = {"target_modules": "all-linear"}
    if last_layers is not None:
        if last_layers > len(layers):
            raise ValueError(f"trained_layers must lie in 1..{len(layers)} for this backbone; got {last_layers}")
        linear = {name.rpartition(".")[2] for name, m in layers[-1].named_modules() if isinstance(m, torch.nn.Linear)}
        chosen = list(range(len(layers) - last_layers, len(layers)))
        where = {"target_modules": sorted(linear), "layers_to_transform": chosen}
    return LoraConfig(r=rank, lora_alpha=2 * rank, task_type="CAUSAL_LM", **where)


def save_adapter(folder: Path, model: Any) -> None:
    """Write a model's low-rank updates into a folder in bfloat16, and round the model's own to the same values."""
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    updates = {name: value.detach().bfloat16() for name, value in get_peft_model_state_dict(model).items()}
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in updates.items()}, folder / ADAPTER)
    set_peft_model_state_dict(model, {name: value.float() for name, value in updates.items()})


def with_adapter(model: Any, folder: Path, rank: int) -> Any:
    """A pretrained model with the low-rank updates of a folder; ValueError where they are of another model or rank."""
    from peft import get_peft_model, set_peft_model_state_dict

    adapted, updates = get_peft_model(model, low_rank(rank, model)), load_file(folder / ADAPTER)
    try:
        answer: Any = set_peft_model_state_dict(adapted, {name: value.float() for name, value in updates.items()})
    except RuntimeError as error:
        raise ValueError(f"the updates in {folder} are not of this model with rank {rank}") from error
    if answer.unexpected_keys or not updates:
        raise ValueError(f"the updates in {folder} are not of this model")
    return adapted


def merged(model: Any) -> Any:
    """A trained model whose low-rank updates, if it has any, are added to its weights, in float32."""
    return model.float().merge_and_unload() if hasattr(model, "merge_and_unload") else model


def save_trained(folder: Path, model: Any, tokenizer: Any, log: pd.DataFrame, config: TextTraining) -> None:
    """Write a trained model into a folder, in the format of transformers or peft, with its log and configuration."""
    model.save_pretrained(folder)  # makes it
    tokenizer.save_pretrained(folder)
    log.to_csv(folder / LOG, index=False)
    (folder / "training.json").write_text(json.dumps(asdict(config), indent=1))

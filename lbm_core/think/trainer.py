"""What all trainings of a language model share: TRL's settings, low-rank updates, checkpoints, files of the result."""

from __future__ import annotations

import gc
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from transformers import PrinterCallback, TrainerCallback

from lbm_core.files import config_key
from lbm_core.think.config import TextTraining

LOG = "steps.csv"  # in the folder of a trained model: one row per step
CHECKPOINT_SECONDS = 600.0  # a checkpoint of all weights takes a while and gigabytes


@contextmanager
def workplace(checkpoints: Path | None, config: TextTraining, *samples: Any) -> Iterator[dict[str, Any]]:
    """The settings that all of TRL's trainers share; the trainer's folder lives as long as the block.

    Parameters
    ----------
    checkpoints : where an unfinished training is kept, by its configuration and samples, until the block ends without
        an error; None keeps nothing
    config : the training's
    samples : what it learns from, json-plain
    """
    with tempfile.TemporaryDirectory() as scratch:
        key = config_key([type(config).__name__, asdict(config), *samples])
        folder = Path(scratch) if checkpoints is None else checkpoints / key
        yield {
            "output_dir": str(folder),
            "learning_rate": config.learning_rate,
            "lr_scheduler_type": "constant",
            "use_cpu": not torch.cuda.is_available(),
            "logging_steps": 1,
            "save_strategy": "no",  # _Periodic decides
            "save_total_limit": 1,
            "report_to": "none",
            "seed": config.seed,
            "disable_tqdm": True,
            "dataloader_pin_memory": False,
        }
        if checkpoints is not None:
            shutil.rmtree(folder, ignore_errors=True)


def low_rank(rank: int | None, model: Any, last_layers: int | None = None) -> Any:
    """peft's configuration of low-rank updates of the linear layers (Hu et al. 2022); None without a rank.

    Parameters
    ----------
    last_layers : change only so many transformer layers, the last ones; None changes all

    Raises
    ------
    ValueError
        More ``last_layers`` than the model has.
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


class _Periodic(TrainerCallback):
    """Asks for a checkpoint so many seconds after the last one, but not behind the last step."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.last = seconds, time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        if state.global_step < state.max_steps and time.monotonic() - self.last >= self.seconds:
            control.should_save, self.last = True, time.monotonic()
        return control


def run(trainer: Any, checkpoints: Path | None, seconds: float) -> list[dict[str, Any]]:
    """Train, from the last whole checkpoint on if there is one; what was logged at every step.

    Parameters
    ----------
    trainer : of TRL, with the settings of :func:`workplace`
    checkpoints : as of :func:`workplace`
    seconds : of training between two checkpoints
    """
    trainer.remove_callback(PrinterCallback)  # its lines would fill a notebook; the log is returned
    if checkpoints is not None:
        trainer.add_callback(_Periodic(seconds))
    # The trainer's state is what a checkpoint gets last: one without it was being written when the run was killed.
    states = Path(trainer.args.output_dir).glob("checkpoint-*/trainer_state.json")
    last = max((state.parent for state in states), key=lambda path: int(path.name.split("-")[1]), default=None)
    trainer.train(resume_from_checkpoint=str(last) if last else None)
    gc.collect()  # circular references would keep the optimiser's tensors until some later collection
    trainer.model.eval()
    trainer.model.config.use_cache = True
    return [entry for entry in trainer.state.log_history if "loss" in entry]


def merged(model: Any) -> Any:
    """A trained model whose low-rank updates, if it has any, are added to its weights, in float32."""
    return model.float().merge_and_unload() if hasattr(model, "merge_and_unload") else model


def save_trained(folder: Path, model: Any, tokenizer: Any, log: pd.DataFrame, config: TextTraining) -> None:
    """Write a trained model into a folder, in the format of transformers or peft, with its log and configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    log.to_csv(folder / LOG, index=False)
    (folder / "training.json").write_text(json.dumps(asdict(config), indent=1))

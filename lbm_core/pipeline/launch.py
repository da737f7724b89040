"""Train an LBM-Act (or a relative of it) on its own, with one process or several.

    python -m lbm_core.pipeline.launch --tier laptop
    accelerate launch -m lbm_core.pipeline.launch --tier gpu --set accumulation=2 --tensorboard runs/tensorboard
    torchrun --nproc_per_node 2 -m lbm_core.pipeline.launch --tier smoke    # several processes on CPUs

The model is the artifact that the notebooks would have trained: found under its configuration, resumed if a run was
killed, the same whatever the number of processes.
"""

from __future__ import annotations

import argparse
import contextlib
import os
from dataclasses import fields
from pathlib import Path
from typing import Any

from lbm_core.act.config import METHODS, ActConfig
from lbm_core.act.train import processes
from lbm_core.pipeline.models import act
from lbm_core.pipeline.stages import trajectories
from lbm_core.settings import DATASETS, TIER_NAMES
from lbm_core.tiers import get_tier


def main(arguments: list[str] | None = None) -> None:
    """Command line; see the module's text."""
    parser = argparse.ArgumentParser(prog="lbm_core.pipeline.launch", description="Train one LBM-Act.")
    parser.add_argument("--tier", required=True, choices=[name for name in TIER_NAMES if name != "cached"])
    parser.add_argument("--dataset", default="dense", choices=DATASETS)
    parser.add_argument("--seed", type=int, default=0, help="of the data")
    parser.add_argument("--train-seed", type=int, help="of initialisation and batches; default the data's")
    parser.add_argument("--guide", default="sentence", choices=[name for name in METHODS if name != "cot"])
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a field of ActConfig")
    parser.add_argument("--train-periods", type=int, help="periods to learn from; default the tier's")
    parser.add_argument("--checkpoint-every", type=int, default=500, help="steps between two checkpoints")
    parser.add_argument("--tensorboard", type=Path, help="folder of curves for TensorBoard")
    options = parser.parse_args(arguments)
    try:
        overrides = dict(_setting(text) for text in options.set)
    except ValueError as error:
        parser.error(str(error))
    periods = {} if options.train_periods is None else {"data__train_periods": options.train_periods}
    tier, crew = get_tier(options.tier, **periods), processes()
    with contextlib.ExitStack() as stack:
        if not crew.is_main_process:  # one voice
            stack.enter_context(contextlib.redirect_stdout(stack.enter_context(open(os.devnull, "w"))))
        with crew.main_process_first():
            trajectories(tier, options.dataset, options.seed)
        model = act(
            tier,
            options.dataset,
            options.seed,
            options.guide,
            train_seed=options.train_seed,
            log_folder=options.tensorboard,
            checkpoint_every=options.checkpoint_every,
            **overrides,
        )
        print(f"{model.config.method}, {len(model.history)} steps: last probe loss {model.probe_losses[-1, 1]:.4f}")
    if crew.num_processes > 1:
        crew.destroy_process_group()


def _setting(text: str) -> tuple[str, Any]:
    """``NAME=VALUE`` of an ActConfig field, its value read as that of the field's default."""
    name, _, value = text.partition("=")
    defaults = {field.name: field.default for field in fields(ActConfig)}
    if name not in defaults or name in ("dataset", "guide", "seed"):
        raise ValueError(f"--set knows no {name!r}; one of {', '.join(defaults)}")
    default: Any = defaults[name]
    if isinstance(default, bool):
        if value not in ("True", "False"):
            raise ValueError(f"{name} is True or False; got {value!r}")
        return name, value == "True"
    if name == "layers":
        return name, None if value == "None" else int(value)
    return name, type(default)(value)


if __name__ == "__main__":
    main()

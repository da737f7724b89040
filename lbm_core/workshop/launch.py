"""Train an LBM-Act (or a relative of it) on its own, with one process or several.

    python -m lbm_core.workshop.launch --tier laptop
    accelerate launch -m lbm_core.workshop.launch --tier gpu --set act.accumulation=2 --tensorboard runs/tensorboard
    torchrun --nproc_per_node 2 -m lbm_core.workshop.launch --tier smoke    # several processes on CPUs

The model is the artifact that the notebooks would have trained: found under its configuration, resumed if a run was
killed, the same whatever the number of processes.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from lbm_core.workshop.cli_data import DatasetOption, SeedOption, SetOption, TierOption, TrainSeedOption
from lbm_core.workshop.notebooks import tier_fields

app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)


@app.command()
def launch(
    tier: TierOption,
    dataset: DatasetOption = "dense",
    seed: SeedOption = 0,
    train_seed: TrainSeedOption = None,
    guide: Annotated[
        Literal["sentence", "number", "task", "none"], typer.Option(help="What it reads; all but sentence: a relative.")
    ] = "sentence",
    setting: SetOption = None,
    checkpoint_every: Annotated[int, typer.Option(min=1, help="Steps between two checkpoints.")] = 500,
    tensorboard: Annotated[Path | None, typer.Option(help="Folder of curves for TensorBoard.")] = None,
) -> None:
    """Train one LBM-Act."""
    from lbm_core.act.train import processes
    from lbm_core.lab.lab import Lab
    from lbm_core.lab.tiers import tier as sizes

    try:
        lab = Lab(sizes(tier, tier_fields(setting or [])), dataset, seed, train_seed)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    crew = processes()
    with contextlib.ExitStack() as stack:
        if not crew.is_main_process:  # one voice
            stack.enter_context(contextlib.redirect_stdout(stack.enter_context(open(os.devnull, "w"))))
        with crew.main_process_first():
            lab.trajectories()
        model = lab.act(guide=guide, log_folder=tensorboard, checkpoint_every=checkpoint_every)
        print(f"{model.config.method}, {len(model.history)} steps: last probe loss {model.probe_losses[-1, 1]:.4f}")
    if crew.num_processes > 1:
        crew.destroy_process_group()


if __name__ == "__main__":
    app()

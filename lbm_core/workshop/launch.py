"""``lbm train``; also started alone, so that several processes train one LBM-Act together.

    accelerate launch -m lbm_core.workshop.launch --tier gpu --set act.accumulation=2 --tensorboard runs/tensorboard
    torchrun --nproc_per_node 2 -m lbm_core.workshop.launch --tier smoke    # several processes on CPUs

The model is the artifact that the notebooks would have trained, the same whatever the number of processes.
"""

import os
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated, Literal

import typer

from lbm_core.workshop.cli_data import DatasetOption, JobsOption, SeedOption, SetOption, TierOption, TrainSeedOption


def train(
    method: Annotated[str, typer.Option(help="E.g. IQL; an unknown one lists all; 'all': every one.")] = "LBM-Act",
    tier: TierOption = "smoke",
    dataset: DatasetOption = "dense",
    seed: SeedOption = 0,
    train_seed: TrainSeedOption = None,
    jobs: JobsOption = 1,
    tune: Annotated[bool, typer.Option(help="First search the method's settings, as notebook 06 does.")] = True,
    setting: SetOption = None,
    guide: Annotated[
        Literal["sentence", "number", "task", "none"], typer.Option(help="What LBM-Act (or a relative) reads.")
    ] = "sentence",
    checkpoint_every: Annotated[int, typer.Option(min=1, help="LBM-Act: steps between two checkpoints.")] = 500,
    tensorboard: Annotated[Path | None, typer.Option(help="LBM-Act: folder of curves for TensorBoard.")] = None,
) -> None:
    """Train one method and say what it took; a finished one is only loaded.

    Data and the models it builds on are made first if they are not in the cache.
    """
    from lbm_core.lab.lab import Lab
    from lbm_core.lab.tiers import tier as sizes
    from lbm_core.workshop.notebooks import tier_fields

    lab = Lab(sizes(tier, tier_fields(setting or [])), dataset, seed, train_seed)
    if method == "LBM-Act":
        from lbm_core.act.train import processes

        crew = processes()  # that a launcher started; the main one speaks
        with open(os.devnull, "w") as nowhere, redirect_stdout(sys.stdout if crew.is_main_process else nowhere):
            with crew.main_process_first():
                lab.trajectories()
            model = lab.act(guide=guide, log_folder=tensorboard, checkpoint_every=checkpoint_every)
            print(f"{model.config.method}, {len(model.history)} steps: last probe loss {model.probe_losses[-1, 1]:.4f}")
        if crew.num_processes > 1:
            crew.destroy_process_group()
    elif method == "all":
        if train_seed is not None or not tune:
            raise ValueError("--method all trains every seed of the tier, tuned; it takes --jobs only")
        lab.train_all(jobs=jobs)
    elif (guide, checkpoint_every, tensorboard) != ("sentence", 500, None):
        raise ValueError(f"--guide, --checkpoint-every and --tensorboard are LBM-Act's; {method} knows none of them")
    else:
        trained = lab.train(method, tune=tune)
        cached = "" if trained["computed"] else ", found in the cache"
        took = "steps {steps:,}, training time {seconds:.0f} s{}, peak memory {peak_mib:.0f} MiB"
        print("{method}: {parameters:,} parameters, {mib:.1f} MiB in {folder}".format(**trained))
        print(took.format(cached, **trained))


if __name__ == "__main__":
    try:
        typer.run(train)
    except ValueError as error:
        sys.exit(f"error: {error}")

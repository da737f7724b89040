"""Run by a test in two processes: train a tiny model on made-up days. Arguments: backbone, target folder."""

import sys
from pathlib import Path

from synthetic_trajectories import synthetic_trajectories

from lbm_core.act.config import ActConfig
from lbm_core.act.train import processes, train_act

crew = processes()
config = ActConfig(backbone=sys.argv[1], steps=4, batch_size=8, learning_rate=3e-3, accumulation=2)
folder = Path(sys.argv[2])
days = synthetic_trajectories(32, seed=2)
model = train_act(config, days, checkpoints=folder / "checkpoints", checkpoint_every=2, progress=False)
if crew.is_main_process:
    model.save(folder)
    print("processes", crew.num_processes)
crew.destroy_process_group()

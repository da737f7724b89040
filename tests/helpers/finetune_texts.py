"""Run by a test in two processes: fine-tune a tiny language model. Arguments: its folder, target folder."""

import sys
from pathlib import Path

from lbm_core.act.train import processes
from lbm_core.think.config import FinetuneConfig
from lbm_core.think.finetune import finetune

PROMPTS = [f"question {k}" for k in range(8)]
ANSWERS = [" one", " two, longer", " three", " four", " five and more", " six", " seven", " eight"]
WEIGHTS = [0.5, 1.5, 1.0, 1.0, 2.0, 0.0, 1.0, 1.0]


def settings(model: str) -> FinetuneConfig:
    return FinetuneConfig(backbone=model, epochs=2, batch_size=4, micro_batch_size=1, learning_rate=1e-3)


if __name__ == "__main__":
    crew = processes()
    folder = Path(sys.argv[2]) if crew.is_main_process else None
    finetune(settings(sys.argv[1]), PROMPTS, ANSWERS, folder, weights=WEIGHTS)
    if folder is not None:
        print("processes", crew.num_processes)
    crew.destroy_process_group()

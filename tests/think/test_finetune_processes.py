"""Fine-tuning in two processes, as ``accelerate launch`` starts them: what one process trains, up to rounding."""

from __future__ import annotations

import subprocess
import sys

import finetune_texts
import numpy as np
import pandas as pd
import pytest
import torch

from lbm_core.act.backbone import load_backbone
from lbm_core.think.finetune import finetune
from lbm_core.think.trainer import LOG


@pytest.mark.slow
def test_two_processes_fine_tune_what_one_does(tiny_folder, tmp_path):
    # What `accelerate launch` starts for several GPUs; on CPUs it starts one process whatever it is told.
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    command = [*launch, finetune_texts.__file__, tiny_folder, str(tmp_path / "together")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "processes 2" in done.stdout
    texts = finetune_texts.PROMPTS, finetune_texts.ANSWERS
    alone, losses = finetune(finetune_texts.settings(tiny_folder), *texts, weights=finetune_texts.WEIGHTS)
    together, start = load_backbone(str(tmp_path / "together")).model, load_backbone(tiny_folder).model.state_dict()
    log = pd.read_csv(tmp_path / "together" / LOG)
    assert len(log) == len(losses) == 4, "two updates an epoch, of four samples each"
    np.testing.assert_allclose(log["loss"], losses["loss"], rtol=1e-4)
    ours, theirs = alone.model.state_dict(), together.state_dict()
    moved = torch.cat([(value - start[name]).flatten() for name, value in ours.items()])
    apart = torch.cat([(value - theirs[name]).flatten() for name, value in ours.items()])
    # AdamW moves a weight whose gradient is nothing but rounding as far as any other: no bound on single weights.
    assert apart.norm() < 0.01 * moved.norm()
    assert moved.abs().max() > 1e-3, "and both have learned"

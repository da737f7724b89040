"""The warmed-up LBM-Think as an artifact: loaded from what the package carries, or trained (lbm_core.think.warm_up)."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd

from lbm_core.data.trajectories import sample_ends
from lbm_core.lab.artifacts import Artifact
from lbm_core.lab.days import trajectories
from lbm_core.lab.setup import Setup
from lbm_core.seeding import generator
from lbm_core.settings import DATASETS
from lbm_core.think.config import PromptStyle, WarmUpConfig
from lbm_core.think.prompt import WORDING, logged_facts, render
from lbm_core.think.warm_up import lessons

CARRIED = Path(__file__).parents[1] / "think" / "warmed_up"  # updates of the default model
LOG, MADE_FROM = "steps.csv", "made_from.json"  # beside them: the losses, and what made them


def warm_up(setup: Setup) -> Artifact[Path] | None:
    """The folder of the warmed-up model, the same for both data sets; None where the tier has no warm-up.

    What the package carries is taken where it was made from the same settings, seed and words; else it is trained, an
    hour of two cores at the default size, with checkpoints. ``updates/`` in the folder is what a package would carry.
    """
    if setup.tier.think.warm_up is None:
        return None
    config = replace(setup.tier.think.warm_up, backbone=setup.tier.think.backbone, seed=setup.seed)

    def make(folder: Path) -> None:
        from lbm_core.act.backbone import load_backbone
        from lbm_core.think.finetune import finetune
        from lbm_core.think.trainer import merged, save_trained, with_adapter

        if carried() == artifact.key:
            base = load_backbone(config.backbone)
            model = merged(with_adapter(base.model, CARRIED, config.lora_rank))
            save_trained(folder, model, base.tokenizer, pd.read_csv(CARRIED / LOG), config)
            return
        prompts, texts = _taught(setup, config)
        updates = folder / "updates" if config.lora_rank else None
        _, log = finetune(config, prompts, texts, folder, checkpoints=artifact.checkpoints, adapter=updates)
        if updates:
            log.to_csv(updates / LOG, index=False)
            (updates / MADE_FROM).write_text(json.dumps({"key": artifact.key, **asdict(config)}, indent=1) + "\n")

    what, words = f"warmed-up LBM-Think ({config.backbone})", [WORDING["indicators"], WORDING["chain"]]
    artifact: Artifact[Path] = Artifact("warm_up", [config, words], make, lambda folder: folder, what)
    return artifact


def carried() -> str:
    """Key of the artifact whose updates the package carries; "" without any."""
    file = CARRIED / MADE_FROM
    return json.loads(file.read_text(encoding="utf-8"))["key"] if file.exists() else ""


def _taught(setup: Setup, config: WarmUpConfig) -> tuple[list[str], list[str]]:
    """Prompts of logged decisions of both data sets, and what is to be written about each."""
    from lbm_core.act.backbone import backbone_files

    facts, rng = [], generator(setup.seed, "think", 9)
    for dataset, count in zip(DATASETS, (config.samples - config.samples // 2, config.samples // 2), strict=True):
        tier = replace(setup.tier, data=replace(setup.tier.data, train_periods=config.periods))
        days = trajectories(replace(setup, tier=tier, dataset=dataset)).get(quiet=True)
        rows, ticks = sample_ends(days, 2 * count + 64, rng)
        past = np.flatnonzero(ticks > 0)[:count]
        facts += logged_facts(days, rows[past], ticks[past])
    tokenizer = backbone_files(config.backbone).tokenizer
    return [render(fact, tokenizer, PromptStyle(form="indicators")) for fact in facts], lessons(facts, rng)

"""Ten minutes of a lent GPU: what two cores cannot afford, in one run that goes on where it was cut off.

    python benchmarks/gpu_session.py --minutes 9 --output DIR     # every stage writes its CSV, of tier gpu, at once
    python benchmarks/gpu_session.py --minutes 9 --output DIR     # again: goes on from the last checkpoint

The default backbone of 135M with all 30 layers takes the place of tier gpu's 0.5B and 3B. Each row names backbone and
overrides. In this order, one data set after the other, as far as the minutes reach: no stage begins later, a training
that is cut off (give ``timeout`` the machine's limit) goes on in the next run, and a stage that fails is told at the
end and does not keep the next from running. 20,000 steps of all layers take longer than one such session.

- "act": LBM-Act on whole days, 20,000 steps and more; its days under nobody, the critic and the oracle (act_guides).
- "speed": benchmark_act_training, eager against compiled, and benchmark_act_decisions at batch 1 and 48.
- "gqpo": warm-up, chains of thought in this process, hundreds at a time, and GQPO (gqpo_funnel, gqpo_loss).
- "days": whole days of LBM(P) and LBM(GQPO) (gqpo_replays).

The market is simulated on the CPU: send the cache's trajectories and periods along, they take longer than the rest,
and the package's dependencies that the machine lacks (optuna, trl, datasets, platformdirs, gguf). Rows of tier gpu take
the place of laptop's wherever a chapter shows the largest tier: keep them in a folder of their own until all methods of
a table have them.
"""

from __future__ import annotations

import argparse
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

import act_decisions
import act_training
import torch

from lbm_core.evaluation import runner
from lbm_core.lab.guided import Guided
from lbm_core.lab.tiers import tier
from lbm_core.report import session
from lbm_core.studies import chapter_05
from lbm_core.studies.sizes import few
from lbm_core.think import trainer
from lbm_core.think.config import WarmUpConfig
from lbm_core.think.transformers_backend import TransformersBackend

BACKBONE, TEXTS_AT_ONCE = "smollm2-135m", 512
WARM_UP = WarmUpConfig(samples=64_000, lora_rank=0, learning_rate=3e-4, batch_size=64, micro_batch_size=64)
CHANGES: dict[str, Any] = {
    "data.train_periods": 200,
    "critic.steps": 8_000,
    "act.backbone": BACKBONE,
    "act.precision": "bfloat16",
    "act.target_return": 1.5,
    "think.backbone": BACKBONE,
    "think.backend": "transformers",
    "think.style.form": "indicators",
    "think.sampling.max_new_tokens": 64,
    "gqpo.finetune.checkpointing": False,
    "chapter5.controls": ["random"],
    "evaluation.periods": 6,
    "evaluation.draws": 1,
    "evaluation.train_seeds": 1,
}


def act(run: session.Session) -> None:
    """LBM-Act, and how it bids."""
    rows = run.lab.evaluate([Guided("none"), Guided("critic"), Guided("oracle"), "critic alone"])
    run.record("act_guides", runner.period_means(rows), backbone=run.lab.tier.act.backbone)


def speed(run: session.Session) -> None:
    """Training steps and decisions per second."""
    config, days = run.lab.tier.act, run.lab.trajectories()
    config = replace(config, layers=len(run.lab.act().transformer.layers))  # all ways train as many
    ways = act_training.configurations(config.backbone, config.layers) | {"days": config, "days, compiled": config}
    rows = act_training.measure(ways, days, steps=20, compiled=["days, compiled"])
    run.record("benchmark_act_training", rows, backbone=config.backbone)
    rows = act_decisions.measure(config, days, [1, 48], rounds=20)
    run.record("benchmark_act_decisions", rows, backbone=config.backbone)


def gqpo(run: session.Session) -> None:
    """What GQPO chooses, and the trainings of its model and its control."""
    run.record("gqpo_funnel", run.lab.selection().funnel(), backbone=run.lab.tier.think.backbone)
    if models := chapter_05.fine_tuned(run.lab):
        losses = chapter_05.finetuning_losses(models)
        run.record("gqpo_loss", losses, backbone=run.lab.tier.think.backbone)


def days(run: session.Session) -> None:
    """LBM-Think's own days, before and after."""
    rows = chapter_05.whole_days(few(run.lab, run.lab.tier.chapter5))
    run.record("gqpo_replays", runner.period_means(rows), backbone=run.lab.tier.think.backbone)


STAGES: dict[str, Callable[[session.Session], None]] = {"act": act, "speed": speed, "gqpo": gqpo, "days": days}


def begun(dataset: Any, output: str, changes: dict[str, Any], warm_up: WarmUpConfig) -> session.Session:
    """The session, with a warm-up, which tier gpu's own language model needs none of."""
    sizes = tier("gpu", {**changes, "think.warm_up": warm_up})
    named = {f"think.warm_up.{name}": value for name, value in asdict(warm_up).items()}
    return session.Session(sizes, dataset, 0, output, changes | named)


def main(
    given: Sequence[str] | None = None, changes: dict[str, Any] = CHANGES, warm_up: WarmUpConfig = WARM_UP
) -> None:
    parser = argparse.ArgumentParser(description="One session on a lent GPU.")
    parser.add_argument("--minutes", type=float, default=9.0, help="no stage begins later")
    parser.add_argument("--datasets", nargs="+", default=["dense", "sparse"])
    parser.add_argument("--stages", nargs="+", default=[*STAGES], choices=STAGES)
    parser.add_argument("--output", required=True, help="folder in the place of the checkout")
    arguments, start, failed = parser.parse_args(given), time.monotonic(), list[str]()
    trainer.CHECKPOINT_SECONDS = 60.0  # a session is shorter than what is usual between two
    if torch.cuda.is_available():
        TransformersBackend.batch_size = TEXTS_AT_ONCE
    for dataset in arguments.datasets:
        run = begun(dataset, arguments.output, changes, warm_up)
        for name in arguments.stages:
            if time.monotonic() - start > 60 * arguments.minutes:
                print(f"{dataset}, {name}: no time left; run again to go on", flush=True)
                continue
            since = time.monotonic()
            try:
                STAGES[name](run)
            except Exception:  # minutes of a GPU are scarce, and the next stage may not need this one
                traceback.print_exc()
                failed.append(f"{dataset}, {name}")
            print(f"{dataset}, {name}: {time.monotonic() - since:.0f} s", flush=True)
    if failed:
        raise SystemExit(f"failed, see above: {'; '.join(failed)}")


if __name__ == "__main__":
    main()

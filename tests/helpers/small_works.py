"""What a run may be doing, at test size: data, every training, texts, evaluation, a notebook."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from small_period import small_period
from small_periods import invented_period
from synthetic_trajectories import synthetic_trajectories

from lbm_core import paths
from lbm_core.auction.controls import ConstantAlpha, PacingBidder
from lbm_core.data.generation import GenerateConfig, generate
from lbm_core.evaluation.runner import evaluate
from lbm_core.lab import artifacts

DAYS = synthetic_trajectories(32)
LIBRARIES = "act.train critic.iql baselines.decision_transformer baselines.dt_q baselines.offline_rl baselines.diffbid"
LIBRARIES += " baselines.oracle_imitation baselines.uscb_train baselines.grpo_text think.finetune"
Work = Callable[[Path, Path], Any]  # makes an artifact's folder, keeping itself in another one
artifacts.STAGES["work"] = artifacts.Stage("work", 1)


def _act(models: Path, folder: Path, kept: Path) -> None:
    from lbm_core.act.config import ActConfig
    from lbm_core.act.train import train_act

    config = ActConfig(
        backbone=str(models / "backbone"), steps=12, batch_size=8, ema=0.9, layout="day", predicts="change"
    )
    train_act(config, DAYS, checkpoints=kept, checkpoint_every=2, progress=False).save(folder)


def _critic(models: Path, folder: Path, kept: Path) -> None:
    from lbm_core.critic.config import CriticConfig
    from lbm_core.critic.iql import train_critic

    config = CriticConfig(steps=40, batch_size=16, hidden_size=16)
    train_critic(config, DAYS, checkpoints=kept, checkpoint_every=5, progress=False).save(folder)


def _dt(models: Path, folder: Path, kept: Path, tuned: bool = False) -> None:
    from lbm_core.baselines.config import DTConfig, DTQConfig
    from lbm_core.baselines.decision_transformer import train_dt
    from lbm_core.baselines.dt_q import finetune_dt
    from lbm_core.critic.config import CriticConfig
    from lbm_core.critic.iql import train_critic

    model = train_dt(DTConfig(steps=40, batch_size=16, hidden_size=16, layers=1, heads=1), DAYS, progress=False)
    if tuned:
        critic = train_critic(CriticConfig(steps=5, batch_size=16, hidden_size=16), DAYS, progress=False)
        model = finetune_dt(DTQConfig(steps=20, batch_size=16), model, critic, DAYS, progress=False)
    model.save(folder)


def _offline(algorithm: Any, models: Path, folder: Path, kept: Path) -> None:
    from lbm_core.baselines.config import OfflineRLConfig
    from lbm_core.baselines.offline_rl import train_offline_rl

    config = OfflineRLConfig(algorithm=algorithm, steps=40, batch_size=16, hidden_size=16)
    train_offline_rl(config, DAYS, progress=False).save(folder)


def _diffbid(models: Path, folder: Path, kept: Path) -> None:
    from lbm_core.baselines.config import DiffBidConfig
    from lbm_core.baselines.diffbid import train_diffbid

    train_diffbid(DiffBidConfig(steps=20, batch_size=4), DAYS, progress=False).save(folder)


def _tables() -> Any:
    from lbm_core.auction.response_tables import ResponseTables

    return [ResponseTables.from_period(small_period(n=48))]


def _uscb(models: Path, folder: Path, kept: Path) -> None:
    from lbm_core.baselines.config import UscbConfig
    from lbm_core.baselines.uscb_train import table_days, train_uscb

    config = UscbConfig(steps=120, batch_size=16, hidden_size=8)
    train_uscb(config, DAYS, table_days(_tables()), progress=False).save(folder)


def _imitation(models: Path, folder: Path, kept: Path) -> None:
    from lbm_core.baselines.config import ImitationConfig
    from lbm_core.baselines.oracle_imitation import train_imitation

    train_imitation(ImitationConfig(steps=10), DAYS, _tables(), progress=False).save(folder)


def _text_training(kind: str, models: Path, folder: Path, kept: Path) -> None:
    from lbm_core.baselines.grpo_text import train_grpo
    from lbm_core.baselines.text_config import GRPOTextConfig, SFTTextConfig
    from lbm_core.baselines.text_training import train_sft
    from lbm_core.think import trainer
    from lbm_core.think.config import FinetuneConfig
    from lbm_core.think.finetune import finetune

    trainer.CHECKPOINT_SECONDS = 0.0  # after every step
    prompts, texts, alphas = [f"prompt {k}" for k in range(6)], [f"text {k % 3}" for k in range(6)], [5.0, 6.0, 7.0] * 2
    shared: dict[str, Any] = {"backbone": str(models / "writer"), "lora_rank": 2}
    if kind == "SFT":
        config = SFTTextConfig(**shared, epochs=2, batch_size=2, micro_batch_size=1, precision="float32")
        train_sft(config, prompts, alphas, folder, checkpoints=kept)
    elif kind == "GRPO":
        way: dict[str, Any] = {"steps": 3, "prompts_per_step": 1, "generations": 2, "max_new_tokens": 4}
        train_grpo(GRPOTextConfig(**shared, **way, precision="float32"), prompts, alphas, folder, checkpoints=kept)
    else:
        tuning = FinetuneConfig(**shared, epochs=2, batch_size=2, micro_batch_size=1, precision="float32")
        updates = folder / "updates" if kind == "warm-up" else None
        finetune(tuning, prompts, texts, folder, checkpoints=kept, adapter=updates)


def _artifact(name: str, work: Work, target: Path) -> None:
    def make(folder: Path) -> None:
        work(folder, one.checkpoints)

    one: artifacts.Artifact[None] = artifacts.Artifact("work", name, make, lambda _: None, name, silent=True)
    one.ensure()


def _data(target: Path) -> None:
    config = GenerateConfig("dense", tuple(range(16)), periods_per_shard=1)
    generate(config, target / "cache" / "data", simulate=invented_period, progress=False)


def _texts(models: Path, target: Path) -> None:
    from lbm_core.act.backbone import load_backbone
    from lbm_core.think.config import Sampling
    from lbm_core.think.generate import generate as write
    from lbm_core.think.transformers_backend import TransformersBackend

    backend = TransformersBackend(load_backbone(str(models / "writer")))
    backend.batch_size = 1
    sampling = Sampling(max_new_tokens=8)
    store = paths.cache_dir() / "texts.jsonl"
    write([f"prompt {k}" for k in range(8)], 2, backend, sampling, store=store, progress=False)


def _evaluation(target: Path) -> None:
    bidders: dict[str, Any] = {"constant": ConstantAlpha, "pacing": PacingBidder}
    for seed in range(4):
        for name, bidder in bidders.items():

            def play(folder: Path, kept: Path, one: dict[str, Any], seed: int) -> None:
                rows = evaluate(one, [small_period(seed)], range(3), progress=False)
                rows.to_parquet(folder / "rows.parquet")

            _artifact(f"{name} {seed}", partial(play, one={name: bidder}, seed=seed), target)


def _notebook(notebooks: Path, target: Path) -> None:
    from lbm_core.workshop.notebooks import resolve, select
    from lbm_core.workshop.reproduce import reproduce

    chosen = resolve(select("", notebooks), [], "smoke", str(target))
    if (failed := reproduce(chosen, output=target)["error"]).any():
        raise RuntimeError(failed.max())


CELLS = (
    "import numpy as np, pandas as pd, time\nfrom lbm_core.report import session\n"
    "run = session.begin(TIER, DATASET, SEED, OUTPUT_DIR)",
    "for k in range(4):\n    time.sleep(0.2)\n"
    "    run.record(f'part_{k}', pd.DataFrame({'x': np.random.default_rng(k).random(100)}))",
)


def works(models: Path) -> dict[str, Callable[[Path], None]]:
    """Everything that a run may be doing; each is given the folder in which its cache and its output lie."""
    trainings: dict[str, Work] = {
        "LBM-Act": partial(_act, models),
        "critic": partial(_critic, models),
        "DT": partial(_dt, models),
        "DT-Q": partial(_dt, models, tuned=True),
        **{name: partial(_offline, name, models) for name in ("BC", "BCQ", "CQL", "IQL")},
        "DiffBid": partial(_diffbid, models),
        "USCB": partial(_uscb, models),
        "oracle imitation": partial(_imitation, models),
        **{name: partial(_text_training, name, models) for name in ("fine-tuning", "warm-up", "SFT", "GRPO")},
    }
    return {
        "data generation": _data,
        **{name: partial(_artifact, name, work) for name, work in trainings.items()},
        "text sampling": partial(_texts, models),
        "evaluation": _evaluation,
        "notebook run": partial(_notebook, models / "notebooks"),
    }


def prepare(models: Path) -> None:
    """The models that the works start from, and a notebook."""
    from small_notebook import write
    from tiny_backbone import save_tiny_backbone
    from tiny_language_model import tiny_language_model

    save_tiny_backbone(models / "backbone")
    writer = tiny_language_model()
    writer.model.save_pretrained(models / "writer")
    writer.tokenizer.save_pretrained(models / "writer")
    write(models, "01_a", *CELLS)

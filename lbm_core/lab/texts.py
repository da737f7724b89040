"""Prompting, SFT and GRPO (Table 2) as artifacts: their trained models and their bidders (§4.3, A.3)."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

from lbm_core.auction.bidder import Bidder
from lbm_core.baselines.text_config import GRPOTextConfig, LossType, TextStyle
from lbm_core.lab.artifacts import Artifact
from lbm_core.lab.days import trajectories
from lbm_core.lab.guided import Contender
from lbm_core.lab.setup import Setup
from lbm_core.lab.thinking import backend, logged_decisions, text_store, writer


def answers_alone(style: TextStyle) -> TextStyle:
    """The prompt of SFT, which writes alpha and no chain of thought, and needs no example of the form."""
    return replace(style, reason=False, worked_examples=0)


def sft(setup: Setup) -> Artifact[Path]:
    """SFT: the folder of the trained model; ``steps.csv`` in it holds the losses."""
    config = setup.bound(setup.tier.sft, backbone=setup.tier.think.backbone)
    return _trained("sft", setup, config, answers_alone(setup.tier.ask.style), f"SFT ({setup.label})")


def grpo_config(setup: Setup, variant: str = "") -> GRPOTextConfig:
    """GRPO's configuration under a variant: a loss type, or "LOSS TYPE, length floor"; "" is the tier's own."""
    config = setup.bound(setup.tier.grpo, backbone=setup.tier.think.backbone)
    if not variant:
        return config
    loss_type, _, extra = variant.partition(", ")
    if extra not in ("", "length floor"):
        raise ValueError(f"unknown variant {variant!r} of GRPO; a loss type, or 'LOSS TYPE, length floor'")
    floor = setup.tier.chapter7.length_floor if extra else 0
    return replace(config, loss_type=cast(LossType, loss_type), length_floor=floor)


def grpo(setup: Setup, variant: str = "") -> Artifact[Path]:
    """GRPO on text (Eq. 6): the folder of the trained model; ``steps.csv`` in it holds Fig. 6's lengths."""
    config = grpo_config(setup, variant)
    return _trained("grpo", setup, config, setup.tier.ask.style, f"GRPO ({variant or config.loss_type}; {setup.label})")


def _trained(stage: str, setup: Setup, config: Any, style: TextStyle, what: str) -> Artifact[Path]:
    """A model that has learned from the prompts and alphas of as many logged decisions as its configuration says."""

    def make(folder: Path) -> None:
        from lbm_core.act.backbone import backbone_files
        from lbm_core.baselines.grpo_text import train_grpo
        from lbm_core.baselines.text_prompt import text_prompt
        from lbm_core.baselines.text_training import train_sft

        train, count = (train_sft, config.samples) if stage == "sft" else (train_grpo, config.prompts)
        points, tokenizer = logged_decisions(setup, count), backbone_files(setup.tier.think.backbone).tokenizer
        prompts = [text_prompt(fact, tokenizer, style) for fact in points.facts]
        alphas = points.window.alphas[:, -1].tolist()  # those that were logged there
        train(config, prompts, alphas, folder, checkpoints=artifact.checkpoints)

    shaped = [config, style, setup.seed]
    artifact = Artifact(stage, shaped, make, lambda path: path, what, (trajectories(setup),))
    return artifact


def text_contender(setup: Setup, name: str) -> Contender:
    """Prompting, SFT or GRPO: asks a language model for alpha; texts are kept, so that an evaluation resumes."""
    ask = setup.tier.ask
    if name == "SFT":
        ask = replace(ask, style=answers_alone(ask.style))
    model = {"Prompting": None, "SFT": sft(setup), "GRPO": grpo(setup)}[name]

    def make() -> Bidder:
        from lbm_core.baselines.text_action import TextActionBidder
        from lbm_core.baselines.text_training import load_text_model
        from lbm_core.data.trajectories import ALPHA_LIMIT
        from lbm_core.think.transformers_backend import TransformersBackend

        if model is None:
            writes = backend(setup)
        else:
            writes = TransformersBackend(load_text_model(model.get(quiet=True), model.config[0], dtype="bfloat16"))
        store = text_store(setup, "text-actions")
        return TextActionBidder(writes, ALPHA_LIMIT[setup.dataset], ask, seed=setup.seed, store=store)

    config = [name, asdict(ask), writer(setup)]
    return Contender(() if model is None else (model,), make, config, "" if model else setup.tier.think.backbone)

"""A tiny language model, made-up days, and untrained LBM-Acts of both."""

from collections.abc import Callable

import pytest
import torch
from synthetic_trajectories import synthetic_trajectories
from tiny_backbone import save_tiny_backbone

from lbm_core.act.backbone import backbone_of
from lbm_core.act.config import ActConfig
from lbm_core.act.dual_embedding import LBMAct
from lbm_core.data.features import StateEncoder


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return save_tiny_backbone(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def days():
    return synthetic_trajectories(32, seed=2)


@pytest.fixture(scope="session")
def make(folder) -> Callable[..., LBMAct]:
    """Makes a model with a head drawn at random: a fresh head gives 0 whatever it reads."""
    encoders = {kind: StateEncoder.fit(synthetic_trajectories(32, seed=2), kind) for kind in ("paper", "extended")}

    def build(**settings) -> LBMAct:
        config = ActConfig(**({"backbone": str(folder)} | settings))
        with torch.random.fork_rng():
            torch.manual_seed(1)
            model = LBMAct(backbone_of(config), encoders[config.state_kind], config)
            for parameter in model.head[-1].parameters():
                torch.nn.init.normal_(parameter, std=0.3)
        return model.eval()

    return build

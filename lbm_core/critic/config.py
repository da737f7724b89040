"""Configuration of the critic (Table 9)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lbm_core.critic.reward import COUNTS, REWARDS, Counted, Reward
from lbm_core.data.features import N_FEATURES, StateKind
from lbm_core.data.returns import RETURN_SCALES, ReturnScale
from lbm_core.settings import DATASETS, Dataset
from lbm_core.tiers import Tier


@dataclass(frozen=True)
class CriticConfig:
    """Everything that makes a critic; it names the checkpoint. Sizes default to Table 9."""

    dataset: Dataset = "dense"
    reward: Reward = "score_to_go"  # paper: "conversions"
    counted: Counted = "expected"  # conversions that the reward counts; "sampled": as they were drawn
    reward_scale: ReturnScale = "budget"  # unit of the reward; "dataset": the release's 1500 | 100
    state_kind: StateKind = "extended"  # paper: "paper", the 16 features alone
    window_length: int = 10
    hidden_size: int = 512
    layers: int = 6
    heads: int = 8
    dropout: float = 0.0  # in training only; scores are always taken without
    gamma: float = 0.99  # discount per tick
    tau: float = 0.01  # share of the online Q in each update of the target Q
    expectile: float = 0.7  # of Eq. 8, in (0, 1); 0.5 is the mean
    n_step: int = 1  # rewards summed before bootstrapping from V (paper: 1); 48 is Monte-Carlo regression
    steps: int = 400_000
    batch_size: int = 128  # transitions per step
    learning_rate: float = 1e-4  # AdamW
    decay: bool = True  # whether it falls to 0 as half a cosine; Table 9 names no schedule
    weight_decay: float = 1e-2
    seed: int = 0

    def __post_init__(self) -> None:
        choices: dict[str, Any] = {
            "dataset": DATASETS,
            "reward": REWARDS,
            "counted": COUNTS,
            "reward_scale": RETURN_SCALES,
            "state_kind": tuple(N_FEATURES),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} of a critic must be one of {', '.join(allowed)}; got {getattr(self, name)!r}")
        for name in ("window_length", "hidden_size", "layers", "heads", "n_step", "steps", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} of a critic must be at least 1; got {getattr(self, name)}")
        if self.hidden_size % self.heads:
            raise ValueError(f"hidden_size {self.hidden_size} is not a multiple of heads {self.heads}")
        for name in ("gamma", "tau"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} of a critic must lie in (0, 1]; got {getattr(self, name)}")
        if not 0 < self.expectile < 1:
            raise ValueError(f"expectile must lie in (0, 1); got {self.expectile}")
        if not (0 <= self.dropout < 1 and self.weight_decay >= 0 and self.learning_rate > 0):
            raise ValueError("dropout must lie in [0, 1), weight_decay be at least 0, learning_rate positive")

    @classmethod
    def from_tier(cls, tier: Tier, dataset: Dataset, seed: int = 0, **overrides: Any) -> CriticConfig:
        """The sizes of a tier; keyword arguments replace single fields."""
        sizes = tier.critic
        settings: dict[str, Any] = {
            "dataset": dataset,
            "hidden_size": sizes.hidden_size,
            "layers": sizes.layers,
            "heads": sizes.heads,
            "n_step": sizes.n_step,
            "steps": sizes.steps,
            "batch_size": sizes.batch_size,
            "learning_rate": sizes.learning_rate,
            "seed": seed,
        }
        return cls(**(settings | overrides))

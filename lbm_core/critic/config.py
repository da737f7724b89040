"""Configuration of the critic (Table 9)."""

from typing import Annotated

from pydantic import Field

from lbm_core.critic.reward import Counted, Reward
from lbm_core.data.features import ReturnScale, StateKind
from lbm_core.settings import Count, Dataset, Inside, NonNegative, Positive, Whole, settings

PositiveShare = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]  # that may be all, but not none
Dropout = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]


@settings
class CriticConfig:
    """Everything that makes a critic; it names the checkpoint. Sizes default to Table 9."""

    dataset: Dataset = "dense"
    reward: Reward = "score_to_go"  # paper: "conversions"
    counted: Counted = "expected"  # conversions that the reward counts; "sampled": as they were drawn
    reward_scale: ReturnScale = "budget"  # unit of the reward; "dataset": the release's 1500 | 100
    state_kind: StateKind = "extended"  # paper: "paper", the 16 features alone
    window_length: Count = 10
    hidden_size: Count = 512
    layers: Count = 6
    heads: Count = 8
    dropout: Dropout = 0.0  # in training only; scores are always taken without
    gamma: PositiveShare = 0.99  # discount per tick
    tau: PositiveShare = 0.01  # share of the online Q in each update of the target Q
    expectile: Inside = 0.7  # of Eq. 8; 0.5 is the mean
    n_step: Count = 1  # rewards summed before bootstrapping from V (paper: 1); 48 is Monte-Carlo regression
    steps: Count = 400_000
    batch_size: Count = 128  # transitions per step
    learning_rate: Positive = 1e-4  # AdamW
    decay: bool = True  # whether it falls to 0 as half a cosine; Table 9 names no schedule
    weight_decay: NonNegative = 1e-2
    seed: Whole = 0

    def __post_init__(self) -> None:
        if self.hidden_size % self.heads:
            raise ValueError(f"hidden_size {self.hidden_size} is not a multiple of heads {self.heads}")

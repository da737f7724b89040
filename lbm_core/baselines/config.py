"""Configurations of the baselines that are no language models (§4.1); each names a trained model."""

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field

from lbm_core.critic.config import Dropout, PositiveShare
from lbm_core.critic.reward import Counted, Reward
from lbm_core.data.features import ReturnScale, StateKind
from lbm_core.settings import Count, Dataset, Inside, NonNegative, Positive, Share, Whole, settings

Algorithm = Literal["BC", "BCQ", "CQL", "IQL"]
DT_SCORE_WEIGHT = 0.5  # penalty_weight of the DT that is called DT-score; Table 3 tries 0.1, 0.2, 0.5 and 1


@settings
class DTConfig:
    """Decision transformer (Chen et al. 2021), plain or with the penalty of Table 3."""

    dataset: Dataset = "dense"
    hidden_size: Count = 64  # small 128, full 512
    layers: Count = 2  # small 3, full 6
    heads: Count = 4
    window_length: Count = 10  # ticks seen; the published implementations use 10-20
    dropout: Dropout = 0.1
    steps: Count = 400  # gradient steps
    batch_size: Count = 64
    learning_rate: Positive = 1e-3  # AdamW, after a linear warm-up over a tenth of the steps
    decay: bool = True  # whether it then falls to 0 as half a cosine; published: constant
    weight_decay: NonNegative = 1e-4
    gradient_norm: Positive = 0.25  # largest norm of the gradient
    state_kind: StateKind = "extended"  # "paper": the 16 features alone
    return_scale: ReturnScale = "budget"  # "dataset": the release's 1500 | 100
    target_return: Positive = 1.1  # return-to-go at the first tick, in units of B / C; the release's: 1 / 0.3
    penalty_weight: NonNegative = 0.0  # w of DT-score (Table 3); 0: plain DT
    seed: Whole = 0

    def __post_init__(self) -> None:
        if self.hidden_size % self.heads:
            raise ValueError(f"hidden_size {self.hidden_size} is not a multiple of heads {self.heads}")


@settings
class DTQConfig:
    """How a trained DT is fine-tuned with Q-values; it names the model together with DT's and the critic's."""

    q_weight: NonNegative = 10.0  # of mean Q / mean |Q|; one tick decides so little of a day that 1 changes nothing
    steps: Count = 100  # gradient steps
    batch_size: Count = 64
    learning_rate: Positive = 1e-4  # AdamW
    gradient_norm: Positive = 0.25  # largest norm of the gradient
    seed: Whole = 0


@settings
class OfflineRLConfig:
    """Offline reinforcement learning: BC, BCQ, CQL or IQL."""

    algorithm: Algorithm = "IQL"
    dataset: Dataset = "dense"
    reward: Reward = "score_to_go"  # paper: "conversions", which never hears of the CPA target
    counted: Counted = "expected"  # conversions that the reward counts; "sampled": as they were drawn
    # Of a reward in units of B / C. IQL weighs actions by exp(temperature * advantage), and one tick decides half a per
    # cent of a day: at 1 every weight would be 1 and IQL be BC; at 100 the weights follow the errors of Q.
    reward_multiplier: Positive = 10.0
    state_kind: StateKind = "extended"  # "paper": the 16 features alone
    hidden_size: Count = 256  # of two hidden layers; d3rlpy's and the published size
    steps: Count = 1_000  # gradient steps
    batch_size: Count = 256
    learning_rate: Positive = 3e-4  # Adam, actor and critic
    decay: bool = True  # whether it falls to 0 as half a cosine; published: IQL's actor only
    gamma: PositiveShare = 0.99  # discount per tick
    tau: PositiveShare = 0.005  # share of the online Q in each update of the target Q
    n_step: Count = 1  # rewards summed before bootstrapping; published: 1 (needs many steps to reach back)
    expectile: Inside = 0.7  # of IQL
    temperature: Positive = 3.0  # of IQL's advantage weights
    conservative_weight: NonNegative = 5.0  # of CQL's penalty on actions that were not logged; d3rlpy's default
    action_samples: Count = 10  # of BCQ and CQL; d3rlpy's 100 for BCQ costs many times more
    flexibility: Positive = 0.05  # of BCQ: how far it may leave an imitated action, in units of half the data's range
    seed: Whole = 0


@settings
class UscbConfig:
    """USCB (He et al., KDD 2021)."""

    dataset: Dataset = "dense"
    state_kind: StateKind = "extended"  # "paper": the 16 features alone
    hidden_size: Count = 64  # of two hidden layers
    periods: Count = 2  # training periods in whose response tables it plays
    steps: Count = 2_000  # decisions taken in the simulator, one gradient step each; 48 are an advertiser-day
    learning_starts: Whole = 5_000  # decisions at random before the first gradient step, at most a quarter of all
    batch_size: Count = 64
    learning_rate: Positive = 1e-3  # Adam, actor and critic
    gamma: PositiveShare = 0.99  # discount per tick
    tau: PositiveShare = 0.005  # share of the online networks in each update of the target networks
    n_step: Count = 1  # rewards summed before bootstrapping; published: 1
    noise: NonNegative = 0.3  # standard deviation of the exploration, in units of the largest move
    largest_move: Inside = 0.2  # largest |a_t|: alpha changes by at most this share per tick
    lowest: Inside = 0.1  # bounds of alpha / C
    highest: Annotated[float, Field(gt=1, allow_inf_nan=False)] = 5.0
    reward_multiplier: Positive = 10.0  # of a reward in units of B / C
    seed: Whole = 0


@settings
class ImitationConfig:
    """Oracle imitation (arXiv 2412.11434)."""

    dataset: Dataset = "dense"
    state_kind: StateKind = "extended"  # "paper": the 16 features alone
    periods: Count = 2  # training periods on whose response tables it is taught
    rounds: Count = 3  # fits; before each the days are bid again, after the first by what was learned
    steps: Count = 100  # boosted trees per fit
    leaves: Annotated[int, Field(ge=2)] = 31  # of a tree, at most
    least_samples: Count = 60  # states per leaf
    learning_rate: Positive = 0.06  # shrinkage of each tree
    spread: NonNegative = 0.5  # standard deviation of log(alpha / C) between the days of the first fit
    noise: NonNegative = 0.1  # of log alpha from tick to tick, while states are collected
    seed: Whole = 0


@settings
class DiffBidConfig:
    """DiffBid (KDD 2024), or DiffBid-Q (CBD)."""

    method: Literal["DiffBid", "DiffBid-Q"] = "DiffBid"
    dataset: Dataset = "dense"
    # The 16 features: the extended ones hold past alphas, from which inverse dynamics could copy.
    state_kind: StateKind = "paper"
    channels: Annotated[int, Field(ge=8, multiple_of=8)] = 32  # of the U-Net's first level; published: 128
    steps: Count = 500  # gradient steps
    batch_size: Count = 64  # advertiser-days
    learning_rate: Positive = 5e-4  # Adam
    decay: bool = True  # whether it falls to 0 as half a cosine; published: constant
    noise_levels: Count = 100  # in training
    sampling_steps: Count = 10  # in use (DDIM)
    guidance: Positive = 1.2  # weight of the condition in use (classifier-free guidance); 1: as learned
    untold: Share = 0.2  # share of training days whose return is not told
    target_return: Positive = 1.1  # return of the day asked for, in units of B / C
    candidates: Count = 1  # N of DiffBid-Q: completions to choose from at every tick; DiffBid draws one
    seed: Whole = 0

    def __post_init__(self) -> None:
        if self.sampling_steps > self.noise_levels:
            steps = f"sampling_steps {self.sampling_steps} of {self.method}"
            raise ValueError(f"{steps} must not exceed noise_levels {self.noise_levels}")

    def with_q(self) -> "DiffBidConfig":
        """DiffBid-Q of the same sizes; guidance would make the completions it chooses from alike, at twice the time."""
        return replace(self, method="DiffBid-Q", guidance=1.0)

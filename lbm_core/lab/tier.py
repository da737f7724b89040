"""What a tier is: the configurations of all stages, and what each chapter compares."""

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from lbm_core.act.config import ActConfig
from lbm_core.auction.bidder import N_ADVERTISERS
from lbm_core.baselines.config import DiffBidConfig, DTConfig, DTQConfig, ImitationConfig, OfflineRLConfig, UscbConfig
from lbm_core.baselines.text_config import AskConfig, GRPOTextConfig, SFTTextConfig
from lbm_core.critic.config import CriticConfig
from lbm_core.lab.chapters import Chapter2, Chapter3, Chapter4, Chapter5, Chapter6, Chapter7, Chapter8, Chapter9
from lbm_core.settings import Count, Share, settings
from lbm_core.think.config import GQPOConfig, ThinkConfig


@settings
class DataConfig:
    """Training trajectories (§4.1, Table 7)."""

    train_periods: Count = 12  # 48 trajectories each; paper: 9,987 trajectories


@settings
class TuningConfig:
    """The small search that every method gets, on periods that nobody trains or is judged on."""

    trials: Count = 2  # settings tried per method, the defaults among them
    share: Share = 0.3  # share of the steps that a trial trains
    periods: Count = 1  # on which trials are compared


@settings
class EvaluationConfig:
    """Who is replayed on which held-out days (§4.1)."""

    periods: Count = 1  # held-out periods, paired over methods; fewer than six resolve nothing
    draws: Count = 1  # conversion draws per period
    advertisers: Count = 6  # of the 48, spread over the categories; the benchmark: all
    train_seeds: Count = 1  # trainings of every method; paper: 5
    text_train_seeds: Count = 1  # of SFT and GRPO, whose texts are slow; paper: 5
    closed_loop_periods: Count = 1  # of the held-out periods, those whose market a method also bids in
    # Advertisers replaced in the same market. One at a time is the purest, and of all 48 takes 8 times as many markets.
    closed_loop_at_once: Count = 6

    def __post_init__(self) -> None:
        if max(self.advertisers, self.closed_loop_at_once) > N_ADVERTISERS:
            raise ValueError(f"there are {N_ADVERTISERS} advertisers; no more can be replayed or replaced")


@settings
class Tier:
    """Everything that is a size: the configurations of all stages, and what each chapter compares."""

    name: str
    data: DataConfig
    act: ActConfig
    critic: CriticConfig
    think: ThinkConfig
    gqpo: GQPOConfig
    dt: DTConfig
    dt_q: DTQConfig
    rl: OfflineRLConfig  # BC, BCQ, CQL and IQL
    uscb: UscbConfig
    imitation: ImitationConfig  # of the oracle
    diffbid: DiffBidConfig  # and DiffBid-Q, which draws ``candidates``
    ask: AskConfig  # Prompting, SFT and GRPO in use
    sft: SFTTextConfig
    grpo: GRPOTextConfig
    tuning: TuningConfig
    evaluation: EvaluationConfig
    chapter2: Chapter2
    chapter3: Chapter3
    chapter4: Chapter4
    chapter5: Chapter5
    chapter6: Chapter6
    chapter7: Chapter7
    chapter8: Chapter8
    chapter9: Chapter9
    # Fields of the critic that differ on a data set; its own tuning periods chose them.
    critic_on: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

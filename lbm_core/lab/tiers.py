"""Tiers: every size of the chain, from minutes on a laptop to the paper's sizes on eight GPUs.

A tier holds the configurations themselves; each size is typed once, here. A notebook's ``SET`` or a command-line
``--set`` overrides dotted fields; nothing else does.
"""

from __future__ import annotations

from lbm_core.settings import Count, Share, settings


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
        if self.advertisers > 48 or self.closed_loop_at_once > 48:
            raise ValueError(f"there are 48 advertisers; asked for {max(self.advertisers, self.closed_loop_at_once)}")

"""Who fills the market (A.1): a mix of control and learned bidders with different openings, gains and noise.

The benchmark's 48 bidders (PID, online LP and learned agents) are not public. Ours are drawn anew for every period from
a distribution whose knobs, one json file per data set, ``scripts/calibrate.py`` fits so that prices and
states resemble the published ones (:mod:`lbm_core.data.fidelity`): some bid far too much, some hardly spend.
"""

import functools
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lbm_core import paths
from lbm_core.auction.bidder import N_ADVERTISERS, N_TICKS, Advertisers, Bidder, Observation
from lbm_core.auction.controls import ConstantAlpha, OnlineLpBidder, PacingBidder, PidBidder
from lbm_core.auction.day import Ticks, play
from lbm_core.auction.log import PeriodLog
from lbm_core.auction.market import market_day
from lbm_core.auction.replay import ReplayPeriod
from lbm_core.auction.response_tables import ResponseTables
from lbm_core.auction.state import FEATURES
from lbm_core.auction.traffic import Scheme, Traffic, impression_counts
from lbm_core.data import fidelity
from lbm_core.data.advertisers import period_advertisers
from lbm_core.data.learned_behaviour import LearnedBidder, LearnedPolicy, committed_policies
from lbm_core.data.trajectories import TrajectorySet
from lbm_core.files import config_key
from lbm_core.seeding import generator
from lbm_core.settings import DATASETS, Dataset, NonNegative, Share, settings

KINDS = ("pid", "pacing", "online_lp", "constant", "learned")
_PAST_PERIODS = range(7)  # the week before the benchmark's first period: what bidders know of the traffic
TrafficMaker = Callable[[int, Dataset, Scheme], Traffic]
_PRICE_FEATURE = FEATURES.index("historical_least_winning_cost_mean")
_QUANTILES = 100  # p-values per advertiser and tick on the day the online LP plans with


@settings
class BehaviourParameters:
    """Knobs of the population; every advertiser draws its own values from them. Alphas are in units of C, the target.

    ``_spread`` is the standard deviation of a log: a log-normal with the given median.
    """

    share_pid: NonNegative  # of the 48 advertisers, on average; the shares of all kinds sum to 1
    share_pacing: NonNegative
    share_online_lp: NonNegative
    share_constant: NonNegative
    share_learned: NonNegative
    opening: NonNegative  # median of the first alpha / C
    opening_spread: NonNegative
    opening_low: NonNegative  # openings are clipped to [low, high]
    opening_high: NonNegative
    gain: NonNegative  # median integral gain of PID, and of pacing
    gain_spread: NonNegative
    proportional: NonNegative  # proportional gain over integral gain
    step_down: NonNegative  # largest fall of alpha per tick, factor < 1
    step_up: NonNegative  # largest rise, factor > 1
    cpa_share: Share  # PID bidders that watch the CPA target; the others only pace
    cap: NonNegative  # median of the largest alpha / C
    cap_spread: NonNegative
    floor: NonNegative  # smallest alpha / C of PID
    plan_evenness: Share  # 1: the same spending in every tick, 0: in proportion to the traffic
    price_belief: NonNegative  # median of believed over published prices (online LP)
    price_belief_spread: NonNegative
    temper_spread: NonNegative  # learned bidders: spread of the factor on what their policy says
    noise: NonNegative  # median standard deviation of log alpha per tick
    noise_spread: NonNegative

    def __post_init__(self) -> None:
        if abs(sum(getattr(self, f"share_{kind}") for kind in KINDS) - 1) > 1e-6:
            raise ValueError("the shares of the kinds of bidders must sum to 1")
        if not (self.step_down <= 1 <= self.step_up and self.opening_low <= self.opening_high):
            raise ValueError("need step_down <= 1 <= step_up and opening_low <= opening_high")

    @classmethod
    def load(cls, path: Path) -> "BehaviourParameters":
        """Read a json file of named numbers; ValueError: a knob missing, unknown or out of range."""
        return cls(**json.loads(path.read_text()))


@functools.cache
def behaviour_parameters(dataset: Dataset) -> BehaviourParameters:
    """The committed knobs of a data set."""
    return BehaviourParameters.load(paths.PACKAGE / "data" / f"behaviour_{dataset}.json")


@functools.cache
def population_key(dataset: Dataset) -> str:
    """12 hex digits that name the committed population: artifacts of another one must not pass for this one's."""
    path = paths.PACKAGE / "data" / f"behaviour_{dataset}.safetensors"
    policies = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""
    return config_key([asdict(behaviour_parameters(dataset)), policies])


class Population:
    """Different bidders for different advertisers, with log-normal noise on their alphas: exploration, as in logs.

    Parts are (rows, bidder) pairs, each of the n advertisers a row of exactly one; ``noise`` is the (n,) standard
    deviation of log alpha, drawn once per tick.
    """

    def __init__(
        self, parts: Sequence[tuple[NDArray[np.int64], Bidder]], noise: NDArray[np.float64], rng: np.random.Generator
    ) -> None:
        self.parts, self.noise, self.rng = parts, noise, rng

    def reset(self, advertisers: Advertisers) -> None:
        """Start a period; every bidder gets its own advertisers."""
        if len(advertisers) != len(self.noise):
            raise ValueError(f"the population bids for {len(self.noise)} advertisers; got {len(advertisers)}")
        for rows, bidder in self.parts:
            bidder.reset(advertisers[rows])

    def act(self, observation: Observation) -> NDArray[np.float64]:
        """(n,) alpha, each from the advertiser's own bidder."""
        alphas = np.empty(len(observation))
        for rows, bidder in self.parts:
            alphas[rows] = bidder.act(observation[rows])
        return alphas * np.exp(self.noise * self.rng.standard_normal(len(alphas)))


def behaviour_population(
    dataset: Dataset,
    advertisers: Advertisers,
    rng: np.random.Generator,
    parameters: BehaviourParameters | None = None,
    mean_pvalues: NDArray[np.float64] | None = None,
    policies: Sequence[LearnedPolicy] | None = None,
) -> Bidder:
    """Draw a bidder for each of n advertisers; ``rng`` decides who bids how, and drives the bidders' noise.

    ``parameters`` are knobs, ``policies`` what the learned bidders choose among; default the data set's committed ones.
    ``mean_pvalues``, (48, 48), are the online LP's forecast, (advertiser, tick); default that of the "data" traffic.
    """
    knobs = parameters or behaviour_parameters(dataset)
    n = len(advertisers)

    def draw(median: float, spread: float) -> NDArray[np.float64]:
        return median * np.exp(spread * rng.standard_normal(n))

    kind = rng.choice(len(KINDS), size=n, p=[getattr(knobs, f"share_{name}") for name in KINDS])
    opening = np.clip(draw(knobs.opening, knobs.opening_spread), knobs.opening_low, knobs.opening_high)
    gain, cap = draw(knobs.gain, knobs.gain_spread), draw(knobs.cap, knobs.cap_spread)
    belief = draw(knobs.price_belief, knobs.price_belief_spread)
    noise = draw(knobs.noise, knobs.noise_spread)
    which, temper = rng.random(n), draw(1.0, knobs.temper_spread)
    watches_cpa = (rng.random(n) < knobs.cpa_share).astype(np.float64)
    plan = knobs.plan_evenness / N_TICKS + (1 - knobs.plan_evenness) * past_traffic_share()

    def make(name: str, rows: NDArray[np.int64]) -> Bidder:
        if name == "pid":
            gains = {"proportional": knobs.proportional * gain[rows], "integral": gain[rows]}
            bounds = {"lowest": np.minimum(knobs.floor, opening[rows]), "highest": np.maximum(cap[rows], opening[rows])}
            steps = {"step_down": knobs.step_down, "step_up": knobs.step_up}
            gains |= {"cpa_weight": watches_cpa[rows]} | bounds
            return PidBidder(opening=opening[rows], memory=1, plan=plan, **gains, **steps)
        if name == "pacing":
            return PacingBidder(cap=cap[rows], gain=gain[rows], opening=opening[rows], memory=1, plan=plan)
        if name == "online_lp":
            day = typical_day(dataset) if mean_pvalues is None else plan_day(dataset, mean_pvalues)
            return OnlineLpBidder([day], price_belief=belief[rows], cap=cap[rows])
        if name == "learned":
            learned = committed_policies(dataset) if policies is None else policies
            return LearnedBidder(learned, (which[rows] * len(learned)).astype(int), temper[rows])
        return ConstantAlpha(opening[rows])

    groups = [(np.flatnonzero(kind == k), name) for k, name in enumerate(KINDS)]
    return Population([(rows, make(name, rows)) for rows, name in groups if len(rows)], noise, rng)


@functools.cache
def past_traffic_share() -> NDArray[np.float64]:
    """(48,) average share of a day's impressions per tick over past periods."""
    counts = np.mean([impression_counts(period) for period in _PAST_PERIODS], axis=0)
    return counts / counts.sum()


@functools.cache
def typical_day(dataset: Dataset) -> ResponseTables:
    """:func:`plan_day` of the "data" traffic, whose mean p-values are the same every day."""
    return plan_day(dataset, Traffic(_PAST_PERIODS[-1], dataset).mean_pvalues)


def plan_day(dataset: Dataset, mean_pvalues: NDArray[np.float64]) -> ResponseTables:
    """Response curves of a day as an online-LP bidder imagines it: published prices, typical traffic.

    Prices are the published tick means of period 7 (dense), scaled to the published level of the sparse data, the same
    for all impressions of a tick; ``mean_pvalues`` are (48, 48), (advertiser, tick).
    """
    prices = _published_prices(dataset)
    # A normal distribution by its quantiles, with a typical standard deviation of half the mean (A.1).
    normal = np.quantile(np.random.default_rng(0).standard_normal(100_000), (np.arange(_QUANTILES) + 0.5) / _QUANTILES)
    pvalues = np.clip(mean_pvalues[:, :, None] * (1 + 0.5 * normal), 0, 1).reshape(N_ADVERTISERS, -1)
    period, count = _PAST_PERIODS[-1], np.full(N_TICKS, _QUANTILES)
    who = period_advertisers(dataset, period)
    day = ReplayPeriod(dataset, period, who, count, pvalues, np.repeat(prices, _QUANTILES))
    tables = ResponseTables.from_period(day)
    counts = past_traffic_share() * impression_counts(period).sum()
    weight = (counts / _QUANTILES)[:, None, None].astype(np.float32)
    curves = {name: getattr(tables, name) * weight for name in ("costs", "values", "wins")}
    return replace(tables, counts=counts, **curves)


def _published_prices(dataset: Dataset) -> NDArray[np.float64]:
    """(48,) what period 7's prices were, as far as they are published; period 14's stay out, to test calibration on."""
    prices = pd.read_csv(paths.PACKAGE / "data" / "lwc_tick_means.csv")["period7_dense"]
    level = {name: fidelity.published_moments(name)["mean"][_PRICE_FEATURE] for name in DATASETS}
    prices = prices.ffill().fillna(level["dense"])  # the mornings' are not published: the level that states tell of
    return prices.to_numpy() * (level[dataset] / level["dense"])


def simulate_period(dataset: Dataset, period: int, seed: int, scheme: Scheme = "data", **options: Any) -> PeriodLog:
    """Run a delivery period of the market with the behaviour population; arguments of :func:`populated_market`."""
    return play(*populated_market(dataset, period, seed, scheme, **options))


def populated_market(
    dataset: Dataset,
    period: int,
    seed: int,
    scheme: Scheme = "data",
    *,
    traffic: TrafficMaker = Traffic,
    parameters: BehaviourParameters | None = None,
    policies: Sequence[LearnedPolicy] | None = None,
) -> tuple[Ticks[PeriodLog], Advertisers, Bidder]:
    """The day that :func:`simulate_period` plays, its 48 advertisers, and the population that bids for them.

    The period, >= 0, fixes traffic (made by ``traffic``) and advertisers; with the seed, >= 0, who bids how and what
    converts. Parameters and policies are the population's, by default the data set's committed ones.
    """
    impressions, advertisers = traffic(period, dataset, scheme), period_advertisers(dataset, period)
    forecast = impressions.mean_pvalues if scheme == "public" else None
    rng = generator(seed, "market", period, 0)
    population = behaviour_population(dataset, advertisers, rng, parameters, forecast, policies)
    day = market_day(impressions, advertisers, generator(seed, "market", period, 1))
    return day, advertisers, population


def simulate_trajectories(dataset: Dataset, periods: Sequence[int], seed: int) -> TrajectorySet:
    """Trajectories of several periods, in memory; :func:`lbm_core.data.generation.generate` writes resumable shards."""
    return TrajectorySet.from_logs(simulate_period(dataset, period, seed) for period in periods)

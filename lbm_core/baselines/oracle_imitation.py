"""Oracle imitation (arXiv 2412.11434): the level that hindsight would have chosen, told from what is known at a tick.

Boosted trees predict log(alpha* / C), with alpha* each past day's best constant alpha, from states of that day. So in
training they see prices of lost impressions, as USCB and the online LP do and learners from logs do not; in use nobody.
"""

from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from tqdm.auto import tqdm

from lbm_core.auction.bidder import N_TICKS, Observation
from lbm_core.auction.hindsight import best_constant
from lbm_core.auction.response_tables import ResponseTables, table_replay
from lbm_core.baselines.common import Opening, Stored, untargeted
from lbm_core.baselines.config import ImitationConfig
from lbm_core.data.features import StateEncoder, log_alpha_ratio
from lbm_core.data.trajectories import ALPHA_LIMIT, TrajectorySet, windows
from lbm_core.data.windows import Windows
from lbm_core.seeding import generator
from lbm_core.training import fitted_encoder

_NODE = ("feature_idx", "num_threshold", "left", "right", "value")  # scikit-learn's names of what a tree's node holds
_LENGTH = 4  # of windows: a tick and the three before


class OracleImitation(Stored):
    """Boosted trees from a state to log(alpha* / C); untrained, they say 0: bid the CPA target."""

    kind, label = ImitationConfig, "oracle imitation"

    def __init__(self, config: ImitationConfig, encoder: StateEncoder) -> None:
        self.config, self.encoder, self.trees = config, encoder, nn.Module()
        # The first tree is the mean alone. Rows of numbers, not a library's objects: kept without pickle.
        self.nodes = torch.zeros((config.steps + 1, 2 * config.leaves - 1, len(_NODE)), dtype=torch.float64)
        self.trees.register_buffer("nodes", self.nodes)
        self.losses = np.empty((0, 2))  # trees fitted so far, mean squared error on the states they were fitted to

    def networks(self) -> dict[str, nn.Module]:
        return {"trees": self.trees}

    def features(self, window: Windows) -> NDArray[np.float64]:
        """(n, d) of the last tick: the state; cost / B, conversions C / B, smoothed CPA / C, of day and last ticks."""
        columns: list[NDArray] = [self.encoder.encode(window)[:, -1]]
        day = window.costs_before[:, -1], window.conversions_before[:, -1]
        for cost, count in (day, [past[:, :-1].sum(axis=1) for past in (window.costs, window.conversions)]):
            paid = (cost + 2 * window.cpa_target) / (count + 2)
            columns += [cost / window.budget, count * window.cpa_target / window.budget, paid / window.cpa_target]
        return np.column_stack(columns).astype(np.float64)

    def predict(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n,) log(alpha* / C) of (n, d) features."""
        return _sums_of_leaves(self.nodes.numpy(), features)

    def fit(self, features: NDArray[np.float64], wanted: NDArray[np.float64]) -> Any:
        """Grow new trees from (m, d) features to (m,) log(alpha* / C): scikit-learn's object, whose nodes are kept."""
        from sklearn.ensemble import HistGradientBoostingRegressor
        from threadpoolctl import threadpool_limits

        own = self.config
        sizes = {"max_iter": own.steps, "max_leaf_nodes": own.leaves, "min_samples_leaf": own.least_samples}
        way = {"learning_rate": own.learning_rate, "early_stopping": False, "random_state": own.seed}
        with threadpool_limits(1):  # several threads add in another order, which could grow other trees
            grown = HistGradientBoostingRegressor(**sizes, **way).fit(features, wanted)
        self.nodes.zero_()[0, 0, -1] = float(grown._baseline_prediction.item())
        for nodes, (tree,) in zip(self.nodes[1:], grown._predictors, strict=True):
            nodes[: len(tree.nodes)] = torch.from_numpy(np.stack([tree.nodes[name] for name in _NODE], axis=1))
        error = np.mean((self.predict(features) - wanted) ** 2)
        self.losses = np.vstack([self.losses, [(len(self.losses) + 1) * own.steps, error]])
        return grown


class ImitationBidder(Opening):
    """Bids the level that the trees name; (n, 48) ``strays`` from its logarithm are for training."""

    def __init__(self, model: OracleImitation, strays: NDArray[np.float64] | None = None) -> None:
        self.model, self.strays = model, np.zeros(N_TICKS) if strays is None else strays

    def bid(self, observation: Observation) -> NDArray[np.float64]:
        level = self.model.predict(self.model.features(untargeted(observation, self.advertisers, _LENGTH)))
        alphas = self.advertisers.cpa_target * np.exp(level + self.strays[..., observation.tick])
        return np.minimum(alphas, ALPHA_LIMIT[self.model.config.dataset])


def train_imitation(
    config: ImitationConfig, trajectories: TrajectorySet, days: Sequence[ResponseTables], *, progress: bool = True
) -> OracleImitation:
    """Fit the trees on states of past days: first of bidders around the CPA target, then of its own, too (DAgger).

    Trajectories only normalise the state features; conversions are drawn, as in use.
    """
    model, rng = OracleImitation(config, fitted_encoder(config, trajectories)), generator(config.seed, "train", 0)
    met, wanted = [], []
    best = [log_alpha_ratio(best_constant(day).alpha, day.advertisers.cpa_target) for day in days]
    for k in tqdm(range(config.rounds), desc="oracle imitation", disable=not progress):
        for day, levels in zip(days, best, strict=True):
            offsets = rng.normal(0, config.spread if k == 0 else 0.0, (len(levels), 1))
            strays = rng.normal(offsets, config.noise, (len(levels), N_TICKS))
            played = table_replay(day, ImitationBidder(model, strays), rng)
            bid = TrajectorySet.of_day(played, day.dataset, day.period)
            rows, ticks = np.nonzero(bid.acting)
            met.append(model.features(windows(bid, rows, ticks, _LENGTH)))
            wanted.append(levels[rows].astype(np.float64))
        model.fit(np.concatenate(met), np.concatenate(wanted))
    return model


@numba.njit(cache=True, nogil=True)
def _sums_of_leaves(nodes, features):
    sums = np.zeros(len(features))
    for i in range(len(features)):
        for tree in nodes:
            k = 0
            while tree[k, 2] > 0:  # a leaf has no left child
                k = int(tree[k, 2] if features[i, int(tree[k, 0])] <= tree[k, 1] else tree[k, 3])
            sums[i] += tree[k, 4]
    return sums

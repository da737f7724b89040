"""Learned bidders of the behaviour population (A.1): small policies trained on an earlier round of the market.

The benchmark's include agents trained by BC, IQL and CQL. Ours are trained by ``scripts/calibrate.py`` and
committed as weights; bidding with them needs NumPy only.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from safetensors import safe_open

from lbm_core import paths
from lbm_core.auction.bidder import N_STATE_FEATURES, Advertisers, Observation
from lbm_core.settings import Dataset

FORMAT = "lbm behaviour policies 1"


def policy_features(states: NDArray[np.floating], cpa_target: NDArray[np.floating]) -> NDArray[np.float32]:
    """What a policy sees of (..., 16) states and (...) CPA targets C: (..., 17), not yet normalised, log C the last."""
    return np.concatenate([states, np.log(cpa_target)[..., None]], axis=-1).astype(np.float32)


@dataclass(frozen=True)
class LearnedPolicy:
    """A multilayer perceptron from the state to alpha / C."""

    weights: tuple[NDArray[np.float32], ...]  # one (out, in) per layer; ReLU between the layers, tanh after the last
    biases: tuple[NDArray[np.float32], ...]  # one (out,) per layer
    mean: NDArray[np.float32]  # (17,) normalises the features, as does std
    std: NDArray[np.float32]
    low: float  # log(alpha / C) that tanh's -1 stands for
    high: float  # and its 1

    def squashed(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, 17) features -> (n,) action in [-1, 1]."""
        hidden = np.clip((features - self.mean) / self.std, -5, 5)
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            hidden = np.maximum(hidden @ weight.T + bias, 0)
        return np.tanh(hidden @ self.weights[-1].T + self.biases[-1])[:, 0]

    def multiple(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """(n, 17) features -> (n,) alpha / C."""
        share = (self.squashed(features).astype(np.float64) + 1) / 2
        return np.exp(self.low + share * (self.high - self.low))


class LearnedBidder:
    """Bids as learned policies say: advertiser k as number ``which[k]``, times ``temper``, how bold it is."""

    def __init__(self, policies: Sequence[LearnedPolicy], which: ArrayLike, temper: ArrayLike = 1.0) -> None:
        self.policies, self.which, self.temper = list(policies), np.asarray(which), temper
        if len(self.which) and not (self.which.min() >= 0 and self.which.max() < len(self.policies)):
            asked = f"{self.which.min()} … {self.which.max()}"
            raise ValueError(f"there are {len(self.policies)} policies, numbered from 0; asked for {asked}")

    def reset(self, advertisers: Advertisers) -> None:
        """Start a period."""
        self.target = advertisers.cpa_target

    def act(self, observation: Observation) -> NDArray[np.float64]:
        """(n,) alpha."""
        features = policy_features(observation.state, self.target)
        multiples = np.array([policy.multiple(features) for policy in self.policies])
        return multiples[self.which, np.arange(len(features))] * self.temper * self.target


def load_policies(path: Path) -> dict[str, LearnedPolicy]:
    """Read named policies; FileNotFoundError: no file, ValueError: not one of ours."""
    if not path.is_file():
        raise FileNotFoundError(f"no behaviour policies at {path}; scripts/calibrate.py makes them")
    with safe_open(path, "numpy") as file:
        if (file.metadata() or {}).get("format") != FORMAT:
            raise ValueError(f"{path.name} does not hold behaviour policies")
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
    policies = {}
    for name in sorted({key.split(".")[0] for key in tensors}):
        mean, std, (low, high) = (tensors[f"{name}.{key}"] for key in ("mean", "std", "range"))
        if mean.shape != (N_STATE_FEATURES + 1,):
            raise ValueError(f"{path.name}: policy {name} has another number of features than {N_STATE_FEATURES + 1}")
        layers = range(sum(key.startswith(f"{name}.") and key.endswith(".weight") for key in tensors))
        weights, biases = (tuple(tensors[f"{name}.{k}.{kind}"] for k in layers) for kind in ("weight", "bias"))
        policies[name] = LearnedPolicy(weights, biases, mean, std, float(low), float(high))
    return policies


@functools.cache
def committed_policies(dataset: Dataset) -> tuple[LearnedPolicy, ...]:
    """The policies of a data set's behaviour population."""
    return tuple(load_policies(paths.PACKAGE / "data" / f"behaviour_{dataset}.safetensors").values())

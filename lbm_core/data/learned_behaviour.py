"""Learned bidders of the behaviour population (A.1): small policies trained on an earlier round of the market.

The benchmark's 48 bidders include agents trained by BC, IQL and CQL. Ours are trained by
:mod:`lbm_core.workshop.calibrate` and committed as weights; bidding with them needs NumPy only.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

from lbm_core import paths
from lbm_core.auction.bidder import Advertisers, Observation
from lbm_core.files import writing_file
from lbm_core.settings import Dataset

FORMAT = "lbm behaviour policies 1"


def policy_features(states: NDArray[np.floating], cpa_target: NDArray[np.floating]) -> NDArray[np.float32]:
    """(..., 17) what a policy sees of states (..., 16) and CPA targets (...): the features and log C, unnormalised."""
    return np.concatenate([states, np.log(cpa_target)[..., None]], axis=-1).astype(np.float32)


@dataclass(frozen=True)
class LearnedPolicy:
    """A multilayer perceptron from the state to alpha / C; ReLU between the layers, tanh after the last."""

    weights: tuple[NDArray[np.float32], ...]  # one (out, in) per layer
    biases: tuple[NDArray[np.float32], ...]  # one (out,) per layer
    mean: NDArray[np.float32]  # (17,) normalise the features
    std: NDArray[np.float32]
    low: float  # log(alpha / C) that tanh's -1 and 1 stand for
    high: float

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
    """Bids as learned policies say, each advertiser as its own.

    Parameters
    ----------
    policies : candidates
    which : (n,) position of each advertiser's policy
    temper : (n,) factor on alpha: advertisers of the same policy differ in how bold they are
    """

    def __init__(self, policies: Sequence[LearnedPolicy], which: ArrayLike, temper: ArrayLike = 1.0) -> None:
        self.policies, self.which, self.temper = list(policies), np.asarray(which), temper
        if len(self.which) and not (self.which.min() >= 0 and self.which.max() < len(self.policies)):
            raise ValueError(f"there are {len(self.policies)} policies; asked for number {self.which.max()}")

    def reset(self, advertisers: Advertisers) -> None:
        """Start a period."""
        self.target = advertisers.cpa_target

    def act(self, observation: Observation) -> NDArray[np.float64]:
        """(n,) alpha."""
        features = policy_features(observation.state, self.target)
        multiples = np.array([policy.multiple(features) for policy in self.policies])
        return multiples[self.which, np.arange(len(features))] * self.temper * self.target


def save_policies(policies: Mapping[str, LearnedPolicy], path: Path) -> None:
    """Write named policies to one safetensors file."""
    tensors: dict[str, NDArray] = {}
    for name, policy in policies.items():
        for k, (weight, bias) in enumerate(zip(policy.weights, policy.biases, strict=True)):
            tensors |= {f"{name}.{k}.weight": weight, f"{name}.{k}.bias": bias}
        bounds = np.array([policy.low, policy.high])
        tensors |= {f"{name}.mean": policy.mean, f"{name}.std": policy.std, f"{name}.range": bounds}
    with writing_file(path) as temporary:
        save_file({key: np.ascontiguousarray(value) for key, value in tensors.items()}, temporary, {"format": FORMAT})


def load_policies(path: Path) -> dict[str, LearnedPolicy]:
    """Read named policies.

    Raises
    ------
    FileNotFoundError, ValueError
        No file; not one of ours.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no behaviour policies at {path}; `lbm data calibrate` makes them")
    with safe_open(path, "numpy") as file:
        if (file.metadata() or {}).get("format") != FORMAT:
            raise ValueError(f"{path.name} does not hold behaviour policies")
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
    policies = {}
    for name in sorted({key.split(".")[0] for key in tensors}):
        layers = range(sum(key.startswith(f"{name}.") and key.endswith(".weight") for key in tensors))
        weights, biases = (tuple(tensors[f"{name}.{k}.{kind}"] for k in layers) for kind in ("weight", "bias"))
        low, high = map(float, tensors[f"{name}.range"])
        policies[name] = LearnedPolicy(weights, biases, tensors[f"{name}.mean"], tensors[f"{name}.std"], low, high)
    return policies


@functools.cache
def committed_policies(dataset: Dataset) -> tuple[LearnedPolicy, ...]:
    """The policies of a data set's behaviour population."""
    return tuple(load_policies(paths.PACKAGE / "data" / f"behaviour_{dataset}.safetensors").values())

"""What the trained baselines share: a small network, the log of a training, windows that ask for no return."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import nn

from lbm_core.auction.bidder import Advertisers, Observation
from lbm_core.data.features import StateEncoder
from lbm_core.data.windows import Windows, windows_of_observation


def perceptron(*sizes: int) -> nn.Sequential:
    """Linear layers with ReLU between them."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def averaged(losses: ArrayLike, rows: int = 100) -> NDArray[np.float64]:
    """Step and mean losses since the row before, in about ``rows`` rows, of the losses (steps,) or (steps, m)."""
    values = np.asarray(losses, dtype=np.float64)
    values = values.reshape(len(values), -1)
    every = max(1, len(values) // rows)
    pieces = [values[start : start + every] for start in range(0, len(values), every)]
    ends = np.cumsum([len(piece) for piece in pieces])
    return np.column_stack([ends, [piece.mean(axis=0) for piece in pieces]])


def untargeted(observation: Observation, advertisers: Advertisers, length: int) -> Windows:
    """The windows of a moment for models that ask for no return; the return-to-go in them is 0."""
    nothing = np.zeros((len(observation), observation.tick + 1))
    return windows_of_observation(observation, advertisers, nothing, length)


def current_states(encoder: StateEncoder, observation: Observation, advertisers: Advertisers) -> NDArray[np.float32]:
    """(n, d) normalised features of the tick to bid in."""
    return encoder.encode(untargeted(observation, advertisers, length=1))[:, 0]

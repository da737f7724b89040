"""What the trained baselines share: a bidder's opening, a small network, the log of a training, untargeted windows."""

from abc import ABC, abstractmethod
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import nn

from lbm_core.auction.bidder import Advertisers, Observation
from lbm_core.auction.controls import Remembering
from lbm_core.data.features import StateEncoder
from lbm_core.data.windows import Windows, windows_of_observation
from lbm_core.training import load_config, load_modules, of_modules, save_model


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


class Opening(Remembering, ABC):
    """Opens at the CPA target, as every learned method here; subclasses bid from the second tick on."""

    def act(self, observation: Observation) -> NDArray[np.float64]:
        """(n,) alpha, currency per conversion, within the range of the data."""
        return self.advertisers.cpa_target.copy() if observation.tick == 0 else self.bid(observation)

    @abstractmethod
    def bid(self, observation: Observation) -> NDArray[np.float64]:
        """(n,) alpha after the first tick."""


class WantingBidder(Opening):
    """Bids with a trained model that is asked for a return > 0 of the day, in units of B / C; default its config's."""

    def __init__(self, model: Any, target_return: float | None = None) -> None:
        self.model = model
        self.target_return = model.config.target_return if target_return is None else target_return
        if not self.target_return > 0:
            raise ValueError(f"target_return must be positive; got {self.target_return}")


class Stored(ABC):
    """A trained baseline that a folder keeps."""

    kind: ClassVar[type]  # of its configuration
    label: ClassVar[str]  # what it is called where there is none
    log: ClassVar[str] = "losses"  # attribute that holds the log of its training, an array
    config: Any
    encoder: StateEncoder  # fitted on the training trajectories

    @abstractmethod
    def networks(self) -> dict[str, nn.Module]:
        """What was trained, as far as bidding needs it."""

    def save(self, folder: Path, **extra: Any) -> None:
        """Write weights, config, state statistics and the log into a folder."""
        extra[self.log] = getattr(self, self.log)
        save_model(folder, self.config, self.encoder, of_modules(self.networks()), **extra)

    @classmethod
    def load(cls, folder: Path, config: Any = None) -> Self:
        """Read what :meth:`save` wrote; errors as of :func:`lbm_core.training.load_config`."""
        trained_with, encoder, stored = load_config(folder, cls.kind, config, cls.label)
        model = cls(trained_with, encoder, *stored.get("range", ()))  # type: ignore[call-arg]
        load_modules(folder, model.networks())
        setattr(model, cls.log, stored[cls.log])
        return model


def untargeted(observation: Observation, advertisers: Advertisers, length: int) -> Windows:
    """The windows of a moment for models that ask for no return; the return-to-go in them is 0."""
    nothing = np.zeros((len(observation), observation.tick + 1))
    return windows_of_observation(observation, advertisers, nothing, length)


def current_states(encoder: StateEncoder, observation: Observation, advertisers: Advertisers) -> NDArray[np.float32]:
    """(n, d) normalised features of the tick to bid in."""
    return encoder.encode(untargeted(observation, advertisers, length=1))[:, 0]

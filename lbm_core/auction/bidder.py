"""The one interface of everything that bids (§2.2): a batch of advertisers in, one alpha each out."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

N_TICKS = 48  # decision steps of a delivery period (one day)
N_ADVERTISERS = 48
N_STATE_FEATURES = 16


@dataclass(frozen=True)
class Advertisers:
    """The advertisers that one bidder bids for."""

    index: NDArray[np.int64]  # (n,) advertiser number in [0, 48); it fixes the p-values (category = index // 8)
    budget: NDArray[np.float64]  # (n,) currency per period, > 0
    cpa_target: NDArray[np.float64]  # (n,) currency per conversion, > 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "index", np.asarray(self.index, dtype=np.int64))
        for name in ("budget", "cpa_target"):
            values = np.asarray(getattr(self, name), dtype=np.float64)
            object.__setattr__(self, name, values)
            if values.shape != self.index.shape or values.ndim != 1:
                raise ValueError(f"{name} has shape {values.shape}, index has {self.index.shape}; both must be (n,)")
            if not (np.isfinite(values).all() and (values > 0).all()):
                raise ValueError(f"every {name} must be a positive number; got {values[~(values > 0)][:3]}")
        if len(self.index) and (self.index.min() < 0 or self.index.max() >= N_ADVERTISERS):
            raise ValueError(f"advertiser numbers must lie in [0, {N_ADVERTISERS})")

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, rows: NDArray | slice) -> "Advertisers":
        """The advertisers of some rows."""
        return Advertisers(self.index[rows], self.budget[rows], self.cpa_target[rows])


@dataclass(frozen=True)
class Observation:
    """What the bidder may know at tick t: the past, and the current tick's traffic forecast inside the state."""

    tick: int  # in [0, 48)
    states: NDArray[np.float64]  # (n, tick + 1, 16) of ticks 0..t, in the order of lbm_core.auction.state.FEATURES
    alphas: NDArray[np.float64]  # (n, tick) currency per conversion, own actions of ticks 0..t-1
    conversions: NDArray[np.float64]  # (n, tick) count, own conversions (rewards)
    costs: NDArray[np.float64]  # (n, tick) currency, own spending

    @property
    def state(self) -> NDArray[np.float64]:
        """(n, 16) the current state s_t."""
        return self.states[:, -1]

    def __len__(self) -> int:
        return len(self.states)

    def __getitem__(self, rows: NDArray | slice) -> "Observation":
        """The observation of some rows (advertisers)."""
        return Observation(self.tick, self.states[rows], self.alphas[rows], self.conversions[rows], self.costs[rows])


@runtime_checkable
class Bidder(Protocol):
    """Anything that bids: PID, CQL, DT, diffusion, a prompted LLM, LBM.

    The replay, the market and the notebooks know nothing else of a method.
    """

    def reset(self, advertisers: Advertisers) -> None:
        """Start a period for n advertisers."""

    def act(self, observation: Observation) -> NDArray[np.float64]:
        """Bidding parameters of the current tick: (n,) alpha in currency per conversion, finite, >= 0.

        The bid for an impression of predicted value p is alpha * p (Eq. 2 with one constraint).
        """
        ...

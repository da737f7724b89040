"""What a model sees of a tick: the paper's 16 normalised features, those and seven more, or these without past bids;
and how a return-to-go is scaled before that."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from lbm_core.auction.bidder import N_STATE_FEATURES
from lbm_core.auction.state import FEATURES
from lbm_core.data.trajectories import TrajectorySet, windows
from lbm_core.data.windows import N_PREVIOUS, Windows
from lbm_core.settings import Dataset

StateKind = Literal["paper", "extended", "no_bids"]
EXTRA_FEATURES = (
    "log_cpa_target",  # log C
    "log_budget_over_cpa",  # log(B / C): conversions the budget pays for at the target
    "smoothed_log_cpa_ratio",  # log of ((cost + 2 C) / (conversions + 2)) / C so far
    "conversions_over_affordable",  # conversions so far * C / B
    "log_alpha_ratio_1",  # log(alpha / C) one, two, three ticks ago; 0 before the day's start
    "log_alpha_ratio_2",
    "log_alpha_ratio_3",
)
# What tells past bids. A critic that does not see them owes the effect of a level of alpha to the action alone.
_TELL_BIDS = ("bid_mean", "win_mean", "log_alpha_ratio")
_BIDS = [k for k, name in enumerate((*FEATURES, *EXTRA_FEATURES)) if any(part in name for part in _TELL_BIDS)]
_ALL = N_STATE_FEATURES + len(EXTRA_FEATURES)
N_FEATURES: dict[StateKind, int] = {"paper": N_STATE_FEATURES, "extended": _ALL, "no_bids": _ALL - len(_BIDS)}
LOG_RATIO_LIMIT = 5.0  # log(alpha / C) is clipped to +-5, so that an alpha of 0 stays finite


@dataclass(frozen=True)
class StateEncoder:
    """Normalised model input of each tick of a window.

    Differs from the paper: it feeds the 16 features alone (``kind="paper"``), which hold neither the CPA target nor
    the CPA so far; ``"extended"`` adds :data:`EXTRA_FEATURES`, and ``"no_bids"`` is that without what tells past bids:
    means of bids and of wins, past alphas.
    """

    kind: StateKind
    mean: NDArray[np.float32]  # (d,) of the raw features over the training data; d = 16, 23 or 16
    std: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.kind not in N_FEATURES:
            raise ValueError(f"unknown state kind {self.kind!r}; one of {', '.join(N_FEATURES)}")
        for name in ("mean", "std"):
            values = np.asarray(getattr(self, name), dtype=np.float32)
            if values.shape != (self.dimension,) or not np.isfinite(values).all():
                raise ValueError(f"{name} of a {self.kind!r} state encoder must be {self.dimension} finite numbers")
            object.__setattr__(self, name, values)
        if not (self.std > 0).all():
            raise ValueError("std must be positive")

    @property
    def dimension(self) -> int:
        """d, features per tick."""
        return N_FEATURES[self.kind]

    @classmethod
    def fit(cls, trajectories: TrajectorySet, kind: StateKind = "extended") -> "StateEncoder":
        """Statistics over every tick at which an advertiser bid (ValueError: none); a constant feature keeps std 1."""
        rows, ticks = np.nonzero(trajectories.acting)
        if len(rows) == 0:
            raise ValueError("cannot fit a state encoder: no tick with alpha > 0")
        raw = _raw(windows(trajectories, rows, ticks, length=1), kind)[:, 0].astype(np.float64)
        mean, std = raw.mean(axis=0), raw.std(axis=0)
        constant = std <= 1e-6 * np.maximum(np.abs(mean), 1e-6)
        return cls(kind, mean.astype(np.float32), np.where(constant, 1.0, std).astype(np.float32))

    def encode(self, window: Windows) -> NDArray[np.float32]:
        """(n, L, d) float32 normalised features; exactly 0 at pads."""
        encoded = (_raw(window, self.kind) - self.mean) / self.std
        encoded[~window.mask] = 0.0
        return encoded

    def to_dict(self) -> dict[str, object]:
        """Plain values, for a json file."""
        return {"kind": self.kind, "mean": self.mean.tolist(), "std": self.std.tolist()}

    @classmethod
    def from_dict(cls, stored: dict) -> "StateEncoder":
        """Inverse of :meth:`to_dict`; ValueError: a value missing."""
        missing = {"kind", "mean", "std"} - set(stored)
        if missing:
            raise ValueError(f"not a state encoder: {', '.join(sorted(missing))} missing")
        return cls(stored["kind"], np.asarray(stored["mean"]), np.asarray(stored["std"]))


def log_alpha_ratio(alphas: NDArray, cpa_target: NDArray) -> NDArray[np.float32]:
    """log(alpha / C) of (n, ...) alphas >= 0 and (n,) targets, within +-:data:`LOG_RATIO_LIMIT`: the models' action."""
    target = np.asarray(cpa_target, dtype=np.float64).reshape((-1,) + (1,) * (np.ndim(alphas) - 1))
    smallest = np.exp(-LOG_RATIO_LIMIT)
    ratio = np.clip(np.asarray(alphas, dtype=np.float64) / target, smallest, 1.0 / smallest)
    return np.log(ratio).astype(np.float32)


def _raw(window: Windows, kind: StateKind) -> NDArray[np.float32]:
    if kind == "paper":
        return window.states.astype(np.float32)
    target = window.cpa_target[:, None].astype(np.float64)
    affordable = window.budget[:, None] / target
    paid_per_conversion = (window.costs_before + 2 * target) / (window.conversions_before + 2)
    extras = [
        np.broadcast_to(np.log(target), window.mask.shape),
        np.broadcast_to(np.log(affordable), window.mask.shape),
        np.log(paid_per_conversion / target),
        window.conversions_before / affordable,
        *np.moveaxis(log_alpha_ratio(window.previous_alphas, window.cpa_target), -1, 0)[:N_PREVIOUS],
    ]
    extended = np.concatenate([window.states, np.stack(extras, axis=-1)], axis=-1).astype(np.float32)
    return np.delete(extended, _BIDS, axis=-1) if kind == "no_bids" else extended


ReturnScale = Literal["budget", "dataset"]
# Conversions that count as a return of 1 under ``"dataset"``. Table 9 prints 2000 for both data sets; the authors'
# release uses these (a sparse return never exceeds 57, so 2000 would make it vanish).
DATASET_RETURN_SCALE: dict[Dataset, float] = {"dense": 1500.0, "sparse": 100.0}


def return_unit(
    budget: NDArray, cpa_target: NDArray, scale: ReturnScale = "budget", dataset: Dataset = "dense"
) -> NDArray[np.float32]:
    """Conversions that count as a return of 1, (n,) float32, for budgets > 0 and CPA targets > 0, (n,).

    Differs from the paper: ``"budget"``, the default everywhere, counts the conversions that the budget pays for at the
    CPA target, B / C, so that advertisers with large and small budgets ask for comparable returns; ``"dataset"`` is
    :data:`DATASET_RETURN_SCALE`.
    """
    if scale not in get_args(ReturnScale):
        raise ValueError(f"unknown return scale {scale!r}; one of {', '.join(get_args(ReturnScale))}")
    if scale == "budget":
        return (np.asarray(budget) / np.asarray(cpa_target)).astype(np.float32)
    return np.full(len(budget), DATASET_RETURN_SCALE[dataset], dtype=np.float32)

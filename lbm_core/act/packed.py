"""Training data as LBM-Act reads it: every tick encoded once, windows cut by index on the device (§3.2)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lbm_core.act.dual_embedding import ActBatch, LBMAct
from lbm_core.act.guides import CODED, FIRST, moves, training_codes
from lbm_core.auction.bidder import N_TICKS
from lbm_core.data.trajectories import TrajectorySet, sample_ends, windows

_CHUNK = 65_536  # ticks encoded at a time

# Which windows: (n,) trajectory, (n,) last tick, (n,) earliest tick that may be seen.
Places = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


class PackedDays:
    """Columns of all ticks, on the model's device: a batch is a few gathers, whatever its size.

    Parameters
    ----------
    trajectories : logged advertiser-days
    model : LBMAct, whose normalisation, scales and tokenizer are applied once and for all
    """

    def __init__(self, trajectories: TrajectorySet, model: LBMAct) -> None:
        self.trajectories, self.model, self.config = trajectories, model, model.config
        self.device = model.embed_time.weight.device
        ticks = np.flatnonzero(np.arange(N_TICKS) < trajectories.length[:, None])
        columns: dict[str, Tensor] = {}
        for start in range(0, len(ticks), _CHUNK):
            places = ticks[start : start + _CHUNK]
            numbers = model.numbers(windows(trajectories, places // N_TICKS, places % N_TICKS, length=1))
            for name in ("returns_to_go", "states", "actions", "previous_actions", "counted"):
                values: Tensor = getattr(numbers, name)[:, 0]
                if name not in columns:
                    columns[name] = values.new_zeros((len(trajectories) * N_TICKS, *values.shape[1:]))
                columns[name][torch.as_tensor(places, device=self.device)] = values
        self.columns = columns
        target = trajectories.cpa_target[:, None]
        previous = np.concatenate([target, trajectories.alphas[:, :-1]], axis=1)
        self.anchors = moves(trajectories.alphas, previous, model.config.dead_band)  # (N, 48)
        ids, mask = model.tokenize(CODED)
        self._ids, self._mask = torch.as_tensor(ids, device=self.device), torch.as_tensor(mask, device=self.device)

    def draw(
        self, n: int, rng: np.random.Generator, moments: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None
    ) -> tuple[Places, NDArray[np.int64] | None]:
        """n training windows and, where sentences or numbers tell the direction, their codes (``guides.CODED``).

        Parameters
        ----------
        moments : trajectories and end ticks from which the first half of the windows is drawn; default all of them

        Differs from the paper: its authors' release draws a window's *start*, so that short windows occur only at the
        end of a training episode but at the start of an evaluated one; ``config.windows_by == "start"`` does so.
        """
        rows, ticks = sample_ends(self.trajectories, n, rng)
        if moments is not None:
            chosen = rng.integers(len(moments[0]), size=n // 2)
            rows[: n // 2], ticks[: n // 2] = moments[0][chosen], moments[1][chosen]
        first = np.zeros_like(ticks)
        if self.config.windows_by == "start":
            first = ticks
            ticks = np.minimum(ticks + self.config.window_length - 1, self.trajectories.last_action[rows])
        codes = None
        if self.config.guide in ("sentence", "number"):
            codes = training_codes(self.anchors[rows, ticks], ticks, rng, self.config.guide_dropout)
        return (rows, ticks, first), codes

    def batch(self, places: Places, told: NDArray[np.int64] | Sequence[str] | None = None) -> ActBatch:
        """Tensors of windows and their guides.

        Parameters
        ----------
        places : n windows
        told : n codes, or n texts for a model trained with ``guide="cot"``; None for LLM-DT and Prompt-LLM-DT
        """
        rows, ends, first = (torch.as_tensor(values, device=self.device) for values in places)
        ago = torch.arange(self.config.window_length - 1, -1, -1, device=self.device)
        ticks = ends[:, None] - ago
        mask = ticks >= first[:, None]
        ticks = ticks.clamp(min=0) * mask
        index = rows[:, None] * N_TICKS + ticks

        def cut(name: str) -> Tensor:
            taken = self.columns[name][index]
            return taken * mask.reshape(mask.shape + (1,) * (taken.dim() - 2))  # a pad is exactly 0

        return ActBatch(
            returns_to_go=cut("returns_to_go"),
            states=cut("states"),
            actions=cut("actions"),
            previous_actions=cut("previous_actions"),
            counted=cut("counted"),
            timesteps=ticks,
            mask=mask,
            **self._guides(told, len(rows)),
        )

    def _guides(self, told: NDArray[np.int64] | Sequence[str] | None, n: int) -> dict[str, Tensor]:
        if not isinstance(told, np.ndarray):
            return self.model.told(told, n)
        codes = torch.as_tensor(told, device=self.device)
        if self.config.guide == "number":
            return {"directions": torch.where(codes == CODED.index(FIRST), 0, codes).float()}
        return {"guide_ids": self._ids[codes], "guide_mask": self._mask[codes]}

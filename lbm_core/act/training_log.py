"""A training's curves for TensorBoard."""

from __future__ import annotations

import time
from pathlib import Path

from torch import Tensor

EVERY = 10  # steps between two entries: reading a loss makes the device wait


class Log:
    """Writes loss, probe loss, learning rate and windows per second; without a folder, nothing.

    Parameters
    ----------
    folder : of the event files; a resumed training goes on in it

    Raises
    ------
    ModuleNotFoundError
        TensorBoard is not installed.
    """

    def __init__(self, folder: Path | None) -> None:
        self.writer = None
        self._since, self._count = time.perf_counter(), 0
        if folder is None:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ModuleNotFoundError("TensorBoard logs need its package: pip install tensorboard") from error
        self.writer = SummaryWriter(str(folder))

    def step(self, step: int, losses: Tensor, learning_rate: float, windows: int, *, probed: bool) -> None:
        """Note a gradient step.

        Parameters
        ----------
        losses : (2,) loss of the batch, and of the probe
        windows : in the batch
        probed : whether the probe's loss was measured
        """
        if self.writer is None:
            return
        self._count += windows
        if not probed and (step + 1) % EVERY:
            return
        batch, probe = losses.tolist()
        now = time.perf_counter()
        values = {"loss/batch": batch, "learning_rate": learning_rate}
        values["windows_per_second"] = self._count / (now - self._since)
        if probed:
            values["loss/probe"] = probe
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)
        self._since, self._count = now, 0

    def close(self) -> None:
        """Write what is left."""
        if self.writer is not None:
            self.writer.close()

"""Unfinished trainings on disk: tensors in safetensors, the rest in json, each checkpoint whole or absent."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lbm_core.data.trajectories import TrajectorySet
from lbm_core.files import writing


def trainable(module: nn.Module) -> dict[str, Tensor]:
    """Parameters that training changes, by name; frozen ones are rebuilt from their source."""
    return {name: p.detach().contiguous() for name, p in module.named_parameters() if p.requires_grad}


def load_into(state: dict[str, Tensor], file: Path) -> None:
    """Copy the tensors of a safetensors file into those of ``state``, in place.

    Raises
    ------
    ValueError
        The file holds other names or shapes.
    """
    stored = load_file(file)
    different = sorted(stored.keys() ^ state.keys()) or [k for k in state if stored[k].shape != state[k].shape]
    if different:
        raise ValueError(f"{file} does not fit this model: {different[0]} differs")
    with torch.no_grad():
        for name, tensor in state.items():
            tensor.copy_(stored[name])


def fingerprint(trajectories: TrajectorySet) -> str:
    """What data a training ran on, in a few characters."""
    digest = hashlib.sha256(trajectories.alphas.tobytes() + trajectories.costs.tobytes()).hexdigest()[:12]
    return f"{trajectories.dataset}, {len(trajectories)} trajectories, {digest}"


class Resumable:
    """Checkpoints of a training that may be killed: ``<folder>.partial/step-<k>``, the newest only.

    Parameters
    ----------
    folder : where the finished model will be; None keeps no checkpoints
    identity : configuration and data, json-plain; a checkpoint of another identity is refused
    """

    def __init__(self, folder: Path | None, identity: dict[str, Any]) -> None:
        self.parent = None if folder is None else folder.with_name(f"{folder.name}.partial")
        self.identity = json.loads(json.dumps(identity))

    def save(self, state: dict[str, Tensor], optimizer: torch.optim.Optimizer, losses: NDArray[np.float32]) -> None:
        """Write a checkpoint after ``len(losses)`` steps and drop the one before."""
        if self.parent is None:
            return
        older = list(self.parent.glob("step-*"))
        with writing(self.parent / f"step-{len(losses):08d}") as temporary:
            save_file(state, temporary / "model.safetensors")
            save_file(_flatten(optimizer.state_dict()["state"]), temporary / "optimizer.safetensors")
            np.save(temporary / "losses.npy", losses)
            (temporary / "identity.json").write_text(json.dumps(self.identity))
        for folder in older:
            shutil.rmtree(folder)

    def resume(self, state: dict[str, Tensor], optimizer: torch.optim.Optimizer) -> NDArray[np.float32] | None:
        """Load the newest checkpoint into a model's tensors and its optimizer; None if there is none.

        Returns
        -------
        the losses so far, one row per step

        Raises
        ------
        ValueError
            The checkpoint was made with another configuration or other data.
        """
        found = sorted(self.parent.glob("step-*")) if self.parent else []
        if not found:
            return None
        stored = json.loads((found[-1] / "identity.json").read_text())
        if stored != self.identity:
            differs = sorted(k for k in stored.keys() | self.identity.keys() if stored.get(k) != self.identity.get(k))
            raise ValueError(
                f"{found[-1]} is a checkpoint of another training ({', '.join(differs)} differs): delete it or choose "
                f"another folder"
            )
        load_into(state, found[-1] / "model.safetensors")
        moments = _unflatten(load_file(found[-1] / "optimizer.safetensors"))
        optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
        return np.load(found[-1] / "losses.npy", allow_pickle=False)

    def clear(self) -> None:
        """Remove the checkpoints of a finished training."""
        if self.parent is not None:
            shutil.rmtree(self.parent, ignore_errors=True)


def _flatten(state: dict[int, dict[str, Tensor]]) -> dict[str, Tensor]:
    return {f"{index}.{name}": value for index, entry in state.items() for name, value in entry.items()}


def _unflatten(tensors: dict[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".")
        state.setdefault(int(index), {})[name] = value
    return state

"""What every training shares: finished models and unfinished trainings on disk, threads, a private random state.

Tensors are kept in safetensors, all else in json and npy: no pickle. A model is written into a folder that its caller
makes (:func:`lbm_core.files.writing`), a checkpoint is whole or absent.
"""

import contextlib
import hashlib
import io
import json
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lbm_core.data.features import StateEncoder
from lbm_core.data.trajectories import TrajectorySet
from lbm_core.files import writing

C = TypeVar("C")
_MOMENTS = "optimizer.safetensors"
EXPLODED = 1e8  # a loss that no training here comes near


def trainable(module: nn.Module) -> dict[str, Tensor]:
    """Parameters that training changes, by name; frozen ones are rebuilt from their source."""
    return {name: p.detach() for name, p in module.named_parameters() if p.requires_grad}


def of_modules(modules: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """All tensors of some networks, named ``<network>.<tensor>``."""
    return {f"{name}.{key}": tensor for name, module in modules.items() for key, tensor in module.state_dict().items()}


def load_into(state: Mapping[str, Tensor], file: Path) -> None:
    """Copy the tensors of a safetensors file into those of ``state``, in place; refuses other names or shapes."""
    stored = load_file(file)
    different = sorted(stored.keys() ^ state.keys()) or [k for k in state if stored[k].shape != state[k].shape]
    if different:
        raise ValueError(f"{file} does not fit this model: {different[0]} differs")
    with torch.no_grad():
        for name, tensor in state.items():
            tensor.copy_(stored[name])


def load_modules(folder: Path, modules: Mapping[str, nn.Module]) -> None:
    """Fill networks with what :func:`save_model` wrote of them (:func:`of_modules`), and leave them in ``eval()``."""
    load_into(of_modules(modules), Path(folder) / "model.safetensors")
    for module in modules.values():
        module.eval()


def save_model(folder: Path, config: Any, encoder: StateEncoder, state: Mapping[str, Tensor], **extra: Any) -> None:
    """Write a finished model into a folder: ``model.safetensors``, ``config.json``, and an npy file per array.

    The configuration is a dataclass; ``extra`` are json-plain values and NumPy arrays.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _save(state, folder / "model.safetensors")
    stored: dict[str, Any] = {"config": asdict(config), "encoder": encoder.to_dict()}
    for name, value in extra.items():
        if isinstance(value, np.ndarray):
            np.save(folder / f"{name}.npy", value)
        else:
            stored[name] = value
    (folder / "config.json").write_text(json.dumps(stored, indent=1))


def load_config(
    folder: Path, kind: type[C], wanted: C | None = None, what: str = "model"
) -> tuple[C, StateEncoder, dict[str, Any]]:
    """Configuration, state statistics, and what else :func:`save_model` was given, arrays among it.

    FileNotFoundError: no model there. ValueError: one of another configuration than ``wanted``, or of another kind.
    """
    file = Path(folder) / "config.json"
    if not file.is_file():
        raise FileNotFoundError(f"no {what} in {folder}: train one first")
    stored = json.loads(file.read_text())
    try:
        config = kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in stored["config"].items()})
    except (TypeError, ValueError) as error:
        raise ValueError(f"the checkpoint in {folder} is no {what}: {error}") from error
    if wanted is not None and config != wanted:
        differs = [k for k, v in asdict(wanted).items() if asdict(config)[k] != v]  # type: ignore[call-overload]
        raise ValueError(f"the {what} in {folder} was trained with another {', '.join(differs)}")
    stored |= {path.stem: np.load(path, allow_pickle=False) for path in Path(folder).glob("*.npy")}
    return config, StateEncoder.from_dict(stored["encoder"]), stored


def fitted_encoder(config: Any, trajectories: TrajectorySet) -> StateEncoder:
    """State statistics of a model's training data, of the ``state_kind`` that its configuration names.

    ValueError: trajectories of another ``dataset`` than the configuration's.
    """
    if trajectories.dataset != config.dataset:
        raise ValueError(f"the config is for {config.dataset} data, the trajectories are {trajectories.dataset}")
    return StateEncoder.fit(trajectories, config.state_kind)


def fingerprint(trajectories: TrajectorySet) -> str:
    """What data a training ran on, in a few characters."""
    digest = hashlib.sha256(trajectories.alphas.tobytes() + trajectories.costs.tobytes()).hexdigest()[:12]
    return f"{trajectories.dataset}, {len(trajectories)} trajectories, {digest}"


def sound(loss: float, what: str, step: int) -> float:
    """The loss of a step (from 0); a FloatingPointError where it is NaN or exploded: nothing is kept."""
    if not abs(loss) < EXPLODED:
        cure = "lower its learning_rate, or look for extreme values in what it learns from"
        raise FloatingPointError(f"the training of {what} diverged: its loss is {loss:.3g} at step {step + 1}; {cure}")
    return loss


class Resumable:
    """Checkpoints of a training that may be killed: ``<folder>/step-<k>``, the newest only; without a folder none.

    ``identity`` is configuration and data, json-plain; a checkpoint of another identity is refused.
    """

    def __init__(self, folder: Path | None, identity: dict[str, Any]) -> None:
        self.folder = folder
        self.identity = json.loads(json.dumps(identity))

    def save(self, state: Mapping[str, Tensor], optimizer: torch.optim.Optimizer, losses: NDArray[np.float32]) -> None:
        """Write a checkpoint after ``len(losses)`` steps and drop the one before."""
        if self.folder is None:
            return
        target = self.folder / f"step-{len(losses):08d}"
        with writing(target) as temporary:
            _save(state, temporary / "model.safetensors")
            moments = optimizer.state_dict()["state"]
            _save({f"{i}.{k}": v for i, entry in moments.items() for k, v in entry.items()}, temporary / _MOMENTS)
            np.save(temporary / "losses.npy", losses)
            (temporary / "identity.json").write_text(json.dumps(self.identity))
        for folder in set(self.folder.glob("step-*")) - {target}:
            shutil.rmtree(folder)

    def resume(self, state: Mapping[str, Tensor], optimizer: torch.optim.Optimizer) -> NDArray[np.float32] | None:
        """Load the newest checkpoint into a model's tensors and its optimizer; the losses so far, or None.

        ValueError: the checkpoint was made with another configuration or other data.
        """
        newest = max(self.folder.glob("step-*"), default=None) if self.folder else None
        if newest is None:
            return None
        stored = json.loads((newest / "identity.json").read_text())
        if stored != self.identity:
            differs = sorted(k for k in stored.keys() | self.identity.keys() if stored.get(k) != self.identity.get(k))
            where = f"{newest} is a checkpoint of another training ({', '.join(differs)} differs)"
            raise ValueError(f"{where}: delete it or choose another folder")
        load_into(state, newest / "model.safetensors")
        moments: dict[int, dict[str, Tensor]] = defaultdict(dict)
        for key, value in load_file(newest / _MOMENTS).items():
            index, name = key.split(".")
            moments[int(index)][name] = value
        optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
        return np.load(newest / "losses.npy", allow_pickle=False)

    def clear(self) -> None:
        """Remove the checkpoints of a finished training."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


def _save(state: Mapping[str, Tensor], file: Path) -> None:
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, file)


@contextlib.contextmanager
def small_network(seed: int | None = None) -> Iterator[None]:
    """Run a small network: on one thread, and with a seed of its own, if any, that leaves the process's as it was.

    On two cores that other programs share, torch's threads wait for each other; a network that fits into a core's cache
    gains nothing from a second one anyway.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)


@contextlib.contextmanager
def without_notices() -> Iterator[None]:
    """For imports of reinforcement-learning libraries: they import gym, which prints four lines about its age."""
    with contextlib.redirect_stderr(io.StringIO()):
        yield

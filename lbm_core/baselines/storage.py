"""Checkpoints of the baselines: weights in safetensors, configuration and state statistics in json, no pickle."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lbm_core.data.features import StateEncoder
from lbm_core.files import writing

C = TypeVar("C")


def save_model(
    folder: Path, config: Any, encoder: StateEncoder, modules: Mapping[str, nn.Module], **extra: Any
) -> None:
    """Write ``model.safetensors`` and ``config.json`` into a new folder.

    Parameters
    ----------
    config : dataclass
    modules : networks by name
    extra : json-plain values
    """
    tensors = {f"{name}.{key}": t.contiguous() for name, m in modules.items() for key, t in m.state_dict().items()}
    with writing(Path(folder)) as temporary:
        save_file(tensors, temporary / "model.safetensors")
        stored = {"config": asdict(config), "encoder": encoder.to_dict(), **extra}
        (temporary / "config.json").write_text(json.dumps(stored))


def load_config(folder: Path, kind: type[C], wanted: C | None, what: str) -> tuple[C, StateEncoder, dict[str, Any]]:
    """Configuration, state statistics and all else of ``config.json``.

    Raises
    ------
    FileNotFoundError
        No checkpoint there.
    ValueError
        It was made with another configuration than ``wanted``, or is of another model.
    """
    file = Path(folder) / "config.json"
    if not file.is_file():
        raise FileNotFoundError(f"no {what} in {folder}: train one first (lbm train)")
    stored = json.loads(file.read_text())
    try:
        found = kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in stored["config"].items()})
    except TypeError as error:
        raise ValueError(f"the checkpoint in {folder} is no {what}: {error}") from error
    if wanted is not None and found != wanted:
        differs = [k for k, v in asdict(wanted).items() if asdict(found)[k] != v]  # type: ignore[call-overload]
        raise ValueError(f"the {what} in {folder} was trained with another {', '.join(differs)}")
    return found, StateEncoder.from_dict(stored["encoder"]), stored


def load_weights(folder: Path, modules: Mapping[str, nn.Module]) -> None:
    """Copy ``model.safetensors`` into networks of the same names and shapes."""
    stored: dict[str, dict[str, Tensor]] = {name: {} for name in modules}
    for key, tensor in load_file(Path(folder) / "model.safetensors").items():
        name, _, inner = key.partition(".")
        stored.setdefault(name, {})[inner] = tensor
    if unknown := set(stored) - set(modules):
        raise ValueError(f"{folder} holds weights of {', '.join(sorted(unknown))}, which this model does not have")
    for name, module in modules.items():
        module.load_state_dict(stored[name])
        module.eval()


@contextlib.contextmanager
def without_notices() -> Iterator[None]:
    """For imports of reinforcement-learning libraries: they import gym, which prints four lines about its age."""
    with contextlib.redirect_stderr(io.StringIO()):
        yield

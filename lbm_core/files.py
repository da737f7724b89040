"""Files written whole or not at all, and the names of configurations."""

import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any


def config_key(config: Any) -> str:
    """12 hex digits that name a configuration (dataclass, dict, list or scalar; order of keys does not matter)."""
    plain = json.dumps(config, sort_keys=True, default=_plain)
    return hashlib.sha256(plain.encode()).hexdigest()[:12]


@cache
def weights_key(folder: Path) -> str:
    """Ten hex digits of the SHA-256 of names and bytes of a folder's safetensors files; "" where it holds none.

    The folder is finished: it is read once a process.
    """
    digest = hashlib.sha256()
    found = sorted(folder.rglob("*.safetensors"))
    for path in found:
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:10] if found else ""


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):  # NumPy scalars and arrays
        return value.tolist()
    raise TypeError(f"cannot name a configuration that holds a {type(value).__name__}")


@contextmanager
def writing(target: Path) -> Iterator[Path]:
    """Temporary folder beside ``target`` that takes its name when the block ends without an error.

    A killed run leaves only the temporary folder, never half an artifact under the final name.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        yield folder
        if target.exists():  # another process finished the same artifact first: equal config, equal content
            return
        os.replace(folder, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def writing_file(target: Path) -> Iterator[Path]:
    """Like :func:`writing` for a single file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.stem}-{uuid.uuid4().hex}{target.suffix}")
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)

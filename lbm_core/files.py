"""Files written whole or not at all, and the names of configurations."""

import dataclasses
import fcntl
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

_UNWRITABLE = re.compile("No space left|quota exceeded|File too large|Read-only|Permission denied|unexpected pos")


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
def told(target: Path) -> Iterator[None]:
    """Says of a failed write which file it was, and what to do: a full disk names neither, and may be any error."""
    try:
        yield
    except Exception as error:
        reason, file = _UNWRITABLE.search(str(error)), str(getattr(error, "filename", None) or target)
        if reason and "cannot be written" not in str(error):
            named = target if file.startswith(str(target.parent)) else file
            cure = "make room there, or choose another folder with LBM_CACHE or --output"
            raise OSError(f"{named} cannot be written ({reason[0]}): {cure}") from error
        if isinstance(error, OSError) and not target.parent.is_dir():
            gone = f"{target.parent} was removed in the middle of {target.name}: run it again"
            raise FileNotFoundError(gone) from error
        raise


@contextmanager
def alone(place: Path) -> Iterator[None]:
    """One process at a time in this block; ``place`` is a folder, or a file that may be made for the purpose."""
    with told(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(place, os.O_RDONLY if place.is_dir() else os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"waiting for another process that is at {place}", file=sys.stderr)
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError:  # a network file system without locks: renaming keeps files whole there, too
        pass
    try:
        yield
    finally:
        os.close(handle)


@contextmanager
def writing(target: Path) -> Iterator[Path]:
    """Temporary folder beside ``target`` that takes its name when the block ends without an error.

    A killed run leaves only the temporary folder, never half an artifact under the final name.
    """
    with told(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        try:
            yield folder
            if not target.exists():  # else another process finished the same first: equal config, equal content
                os.replace(folder, target)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def writing_file(target: Path) -> Iterator[Path]:
    """Like :func:`writing` for a single file."""
    with told(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.stem}-{uuid.uuid4().hex}{target.suffix}")
        try:
            yield temporary
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)

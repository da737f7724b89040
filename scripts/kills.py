"""SIGKILL, full disks, removed folders and runs side by side, at random moments: `python scripts/kills.py --times 10`.

Every kind of work runs once undisturbed; then again and again in a folder of its own, disturbed and after that once
more in peace. What it leaves must be the same files, by hash. Processes are forked, so that a moment is one of the work
and not of loading libraries.
"""

import argparse
import contextlib
import hashlib
import importlib
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lbm_core import paths
from lbm_core.lab import artifacts

sys.path.append(str(paths.project_root() / "tests" / "helpers"))
from small_works import LIBRARIES, prepare, works

FAULTS = ("kill", "full", "removed", "twice")


def digest(folder: Path) -> str:
    """Hash of all files that a work leaves behind, without what tells how long it took."""
    whole = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        if path.name in (artifacts.TOOK, "training_args.bin") or "/runs/" in f"/{name}" or "/." in f"/{name}":
            continue
        content = path.read_bytes()
        if path.suffix == ".jsonl":
            rows = [json.loads(line) for line in content.splitlines()]
            kept = {(row["key"], row["sample"]): [row["text"], row["tokens"], row["finish"]] for row in rows}
            content = json.dumps(sorted(kept.items())).encode()
        whole.update(f"{name}\0{hashlib.sha256(content).hexdigest()}\n".encode())
    return whole.hexdigest()


def begin(work: Callable[[Path], None], folder: Path, largest: int | None = None) -> int:
    """Number of a process that does the work in a folder; it ends with 0, or with 3 and a sentence in error.txt."""
    folder.mkdir(parents=True, exist_ok=True)
    if number := os.fork():
        with contextlib.suppress(OSError):  # it has ended already
            os.setpgid(number, number)
        return number
    os.setpgid(0, 0)  # whoever comes first: a kill meets the process and all that it starts
    os.environ["LBM_CACHE"] = str(folder / "cache")
    status = 0
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        try:
            if largest is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))
            work(folder)
        except Exception as error:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            folder.with_suffix(".error").write_text(f"{type(error).__name__}: {error}")
            status = 3
    os._exit(status)


def ended(number: int) -> int:
    """How a process ended: its status, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])


def told(folder: Path) -> bool:
    """Whether an error is one sentence that names a file and a cure."""
    text = folder.with_suffix(".error").read_text()
    return text.count("\n") == 0 and ("cannot be written" in text or "run it again" in text or "No such file" in text)


def disturb(
    work: Callable[[Path], None], fault: str, folder: Path, reference: dict[str, Any], at: random.Random
) -> Any:
    """One fault, and the work in peace after it: whether it came before the end, was told, and the files are equal."""
    met = said = False
    if fault == "twice":
        pair = [begin(work, folder) for _ in range(2)]
        met = said = [ended(number) for number in pair] == [0, 0]
    else:
        largest = round(reference["largest"] * at.random()) if fault == "full" else None
        number = begin(work, folder, largest)
        if fault != "full":
            time.sleep(at.random() * reference["seconds"])
        if fault == "kill":
            os.killpg(number, signal.SIGKILL)
        elif fault == "removed":
            shutil.rmtree(folder / "cache", ignore_errors=True)
        status = ended(number)
        met, said = status != 0, status == 3 and told(folder)
        if status == 3 and not said:
            print(folder.with_suffix(".error").read_text()[:500])
    equal = ended(begin(work, folder)) == 0 and digest(folder) == reference["digest"]
    return met, said, equal


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--fault", choices=FAULTS, default="kill")
    parser.add_argument("--only", help="names of works, separated by commas")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", action="store_true", help="write the counts into docs/reliability.json")
    asked = parser.parse_args(arguments)
    failed = 0
    for name in LIBRARIES.split():
        importlib.import_module(f"lbm_core.{name}")
    with tempfile.TemporaryDirectory() as scratch:
        models = Path(scratch) / "models"
        if not (prepared := os.fork()):  # in a process of its own: what has computed gradients cannot be forked
            prepare(models)
            os._exit(0)
        assert ended(prepared) == 0
        known = works(models)
        for name in asked.only.split(",") if asked.only else known:
            whole, start = Path(scratch) / f"{name} whole", time.monotonic()
            assert ended(begin(known[name], whole)) == 0, whole.with_suffix(".error").read_text()
            sizes = [path.stat().st_size for path in whole.rglob("*") if path.is_file()]
            reference = {"seconds": time.monotonic() - start, "digest": digest(whole), "largest": max(sizes)}
            at, found = random.Random(f"{asked.seed} {name} {asked.fault}"), []
            for k in range(asked.times):
                folder = Path(scratch) / f"{name} {k}"
                found.append(disturb(known[name], asked.fault, folder, reference, at))
                shutil.rmtree(folder)
            met, said, equal = np.array(found, dtype=int).sum(axis=0).tolist()
            row = {"job": name, "fault": asked.fault, "tried": asked.times, "during": met, "told": said, "equal": equal}
            print(row, flush=True)
            untold = asked.fault in ("full", "removed") and said < met
            failed += equal < asked.times or untold
            if asked.record:
                from reliability import record

                record("kills", [row], key=("fault", "job"))
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()

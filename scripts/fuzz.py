"""Random and damaged inputs for everything that reads what others wrote: `python scripts/fuzz.py --inputs 100000`.

Each input is a valid one, damaged (characters changed, cut, doubled, moved), or noise. A reader may refuse it with its
own class of error; a traceback of another class, more than ten seconds of processor time (two minutes in all), or a
file left behind is a finding.
"""

import argparse
import contextlib
import io
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from lbm_core import cli, paths

sys.path.append(str(paths.project_root() / "tests" / "helpers"))
from small_periods import SmallTraffic

from lbm_core.baselines.text_action import parse_alpha
from lbm_core.lab import tiers
from lbm_core.report import results
from lbm_core.think.generate import _read_store
from lbm_core.think.parse import CASES, parse, read_number
from lbm_core.think.server_backend import ServerBackend
from lbm_core.workshop import csv_import
from lbm_core.workshop.csv_reading import TRAFFIC_COLUMNS, TRAJECTORY_COLUMNS
from lbm_core.workshop.notebooks import tier_fields

SECONDS, WAITED = 10, 120  # of processor time and in all: an input that takes longer hangs
REFUSALS = (ValueError, OSError)  # what a reader says of bad input; the command line adds nothing to it
RECORD = paths.project_root() / "docs" / "reliability.json"
_SPECIAL = [
    *"\",;\t\n\r\0 .-+eE_=:()[]{}<>/\\'`%$#@",
    "\ufeff",
    "\u2028",
    "٣",
    "−",
    "é",
    "漢",
    "NaN",
    "inf",
    "1e999",
    "-0",
]
_SPECIAL += ["None", "true", "[[", "9" * 400, "0x1F", "1_000", "<answer>", "</ratio>", "\x1b", "\ud800", "../", "~"]
Target = Callable[[random.Random, Path], Any]  # reads one input of a random source, with a folder to write into


def damaged(text: str, rng: random.Random) -> str:
    """A text with some of its characters changed, cut, doubled or moved; now and then noise, or nothing."""
    if rng.random() < 0.002:  # what an expression that backtracks would never finish
        return text + rng.choice([*_SPECIAL, "not ", "the bid ", "1,000,", "(1 / 2) "]) * rng.choice([100, 3_000])
    if rng.random() < 0.05:
        return "".join(rng.choice(_SPECIAL) for _ in range(rng.randrange(30)))
    for _ in range(rng.choice([0, 1, 1, 2, 3, 8])):
        start = rng.randrange(len(text) + 1)
        end = min(len(text), start + rng.choice([0, 1, 1, 3, 20, 200]))
        with_ = rng.choice([rng.choice(_SPECIAL), "", text[start:end] * 2, text[rng.randrange(len(text) + 1) :][:20]])
        text = text[:start] + with_ + text[end:]
    return text


def as_bytes(text: str, rng: random.Random) -> bytes:
    """The text as a file may hold it, perhaps in another encoding or with a byte that is none."""
    content = text.encode(rng.choice(["utf-8"] * 20 + ["utf-16", "latin-1", "utf-8-sig"]), "replace")
    if rng.random() < 0.05:
        content = content[: rng.randrange(len(content) + 1)] + bytes([rng.randrange(256)]) + content[3:]
    return content


def _trajectories(ticks: int = 3) -> str:
    rows = [",".join(TRAJECTORY_COLUMNS)]
    for tick in range(ticks):
        state = (1 - tick / 48, 1 - tick / 10, *[0.1] * 10, 0.003, 10_000, 20_000, 30_000)
        after = "" if tick == ticks - 1 else f'"{state}"'
        rows.append(f'7,0,0,750.0,8.0,300.0,4,{tick},"{state}",8.1,1,0.9,{int(tick == ticks - 1)},{after}')
    return "\n".join(rows) + "\n"


def _traffic() -> str:
    row = "7,0,0,750.0,8.0,0,750.0,0,0.003,0.0005,0.02,0,0,0.03,0,0,0.03,0"
    return "\n".join([",".join(TRAFFIC_COLUMNS), row, row.replace(",0,0.003", ",1,0.004")]) + "\n"


TRAJECTORIES, TRAFFIC = _trajectories(), _traffic()
TEXTS = [case.text for case in CASES]
NUMBERS = ["0.66", "66%", "1,234.5", "0.7 (5.4 / 8)", "4 / 8 = 0.5", "−0.3", "1e-3", ".5", "none"]
COT = "the ratio <ratio>0.66</ratio> is fine, so raise the bid <answer>1</answer>"
SETTINGS = ["act.steps=50", "act.learning_rate=1e-4", "think.tolerance=0.03", "chapter6.budget_ratios=[0.5, 1]"]
SETTINGS += ["data.train_periods=2", "critic.expectile=0.7", "gqpo.finetune.epochs=1", "think.sampling.top_p=0.9"]
COMMANDS = [
    *([*command, "--output", "{folder}"] for command in (["results"], ["results", "demo"], ["results", "--keep"])),
    ["reproduce", "--only", "99", "--set", "act.steps=0"],
    ["data", "traffic", "--period", "-7", "--out", "{folder}/a.npz"],
    ["data", "import", "{folder}/none.csv", "--out", "{folder}/new"],
    ["data", "export", "--format", "minari", "--periods", "9-7", "--out", "{folder}/a.csv"],
    ["train", "nothing", "--tier", "none"],
    ["--version"],
]
ANSWERS = {
    "models": json.dumps({"object": "list", "data": [{"id": "tiny"}]}),
    "texts": json.dumps(
        {
            "choices": [{"text": COT, "finish_reason": "stop", "stop_reason": None, "index": 0}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 9, "total_tokens": 12},
        }
    ),
}
STORED = json.dumps({"key": "a", "sample": 0, "text": COT, "tokens": 9, "finish": "stop", "seconds": 0.1}) + "\n"


@cache
def _small_traffic(period: int, dataset: Any) -> SmallTraffic:
    """A thousand impressions in the place of half a million, which take seconds to make again."""
    return SmallTraffic(period, dataset)


def _csv(text: str) -> Target:
    def read(rng: random.Random, folder: Path) -> None:
        path = folder / rng.choice(["a.csv"] * 5 + ["a.csv.gz", "a.zip", "period-7.csv"])
        path.write_bytes(as_bytes(damaged(text, rng), rng))
        try:
            with mock.patch("lbm_core.workshop.csv_traffic.Traffic", _small_traffic):
                csv_import.import_files([path], folder / "out", dataset="dense", compare=False)
            shutil.rmtree(folder / "out")
        finally:
            path.unlink()
            left = sorted(each.name for each in folder.glob(".out-*")) + sorted(folder.glob("out/.*"))
            assert not left, f"half an import is left: {left}"

    return read


def _chain(rng: random.Random, folder: Path) -> None:
    text = damaged(rng.choice([*TEXTS, COT]), rng)
    true = rng.choice([float("nan"), 0.0, 0.66, 1e-300, 1e300])
    found = parse(text, true, rng.choice([0.0, 0.03, 1.0]), ratio_required=rng.random() < 0.5)
    assert found.direction in (-1, 0, 1, None)
    assert found.ratio is None or abs(found.ratio) < float("inf")


def _number(rng: random.Random, folder: Path) -> None:
    text = damaged(rng.choice(NUMBERS), rng)
    value = read_number(text)
    assert value is None or abs(value) < float("inf")
    parse_alpha(f"alpha <alpha>{text}</alpha>", 100.0)


def _settings(rng: random.Random, folder: Path) -> None:
    tiers.tier(rng.choice(["smoke", "paper"]), tier_fields([damaged(rng.choice(SETTINGS), rng)]))


def _command(rng: random.Random, folder: Path) -> None:
    """The command line itself; it ends in a status, and on stderr in one line at most, or in its usage."""
    words = [word.format(folder=folder) for word in rng.choice(COMMANDS)]
    place = rng.randrange(len(words))
    if str(folder) not in words[place]:
        words[place] = damaged(words[place], rng)
    said, errors = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(errors):
            cli.main(words)
    except SystemExit:
        pass
    text = errors.getvalue()
    assert "Traceback" not in text
    assert not text.startswith("error: ") or text.count("\n") == 1, text


def _results(rng: random.Random, folder: Path) -> None:
    path = folder / "results" / "demo.csv"
    if not (folder / "whole.csv").is_file():
        import pandas as pd

        with contextlib.redirect_stdout(io.StringIO()):
            frame = pd.DataFrame({"text": ["a", 'b"c,', "d\r\ne"], "score": [1.0, 2.5, None]})
            results.record("demo", frame, tier="laptop", dataset="dense", output=folder)
        path.rename(folder / "whole.csv")
    path.write_bytes(as_bytes(damaged((folder / "whole.csv").read_text(), rng), rng))
    results.load("demo", rng.choice(["cached", "laptop"]), folder, dataset=rng.choice([None, "dense"]))


def _store(rng: random.Random, folder: Path) -> None:
    path = folder / "texts.jsonl"
    path.write_bytes(as_bytes(damaged(STORED * rng.choice([1, 3]), rng), rng))
    for group in _read_store(path, {"a"}).values():
        for text in group.values():
            assert isinstance(text.text, str)


def _server(rng: random.Random, folder: Path) -> None:
    """A server's answers, without the network between."""

    def request(method: str, address: str, **_: Any) -> Any:
        answer = ANSWERS["models" if address.endswith("/models") else "texts"]
        spoiled = damaged(answer, rng) if rng.random() < 0.7 else answer
        return SimpleNamespace(content=as_bytes(spoiled, rng), raise_for_status=lambda: None)

    files: Any = SimpleNamespace(name="tiny", revision="0", tokenizer=lambda text, **_: {"input_ids": text.split()})
    opened = SimpleNamespace(request=request, mount=lambda *_: None, trust_env=False)
    with mock.patch("lbm_core.think.server_backend.requests.Session", return_value=opened):
        backend = ServerBackend("http://127.0.0.1:9", files)
    for stop in ("", "</answer>"):
        text, tokens, finish = backend._write({"prompt": "one two three"}, stop)
        assert isinstance(text, str)
        assert finish in ("stop", "length")
        assert tokens >= -1


# Share of the inputs, by what an input costs; how they are read; what a refusal must name.
TARGETS: dict[str, tuple[float, Target, str]] = {
    "chains of thought": (0.44, _chain, ""),
    "numbers in texts": (0.36, _number, ""),
    "settings (--set)": (0.08, _settings, ""),
    "server answers": (0.05, _server, "127.0.0.1|the server"),
    "stored texts": (0.04, _store, "texts.jsonl"),
    "result files": (0.01, _results, "demo"),
    "trajectory files": (0.01, _csv(TRAJECTORIES), r"a\.(csv|zip)|period-7\.csv"),
    "traffic files": (0.006, _csv(TRAFFIC), r"a\.(csv|zip)|period-7\.csv"),
    "command line": (0.004, _command, ""),
}


@contextlib.contextmanager
def _in_time() -> Iterator[None]:
    def late(*_: Any) -> None:
        raise TimeoutError("no end in time")

    timers = {signal.ITIMER_PROF: (signal.SIGPROF, SECONDS), signal.ITIMER_REAL: (signal.SIGALRM, WAITED)}
    before = {number: signal.signal(number, late) for number, _ in timers.values()}
    for timer, (_, seconds) in timers.items():
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for timer in timers:
            signal.setitimer(timer, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


def run(name: str, inputs: int, seed: int) -> tuple[int, list[str]]:
    """How many inputs of a target were refused, and what was found: seed of the input, class and message."""
    refused, found, (_, target, names) = 0, [], TARGETS[name]
    with tempfile.TemporaryDirectory() as folder:
        for k in range(inputs):
            rng = random.Random(f"{seed} {name} {k}")
            try:
                with _in_time():
                    target(rng, Path(folder))
            except TimeoutError as error:
                found.append(f"{k}: {error}")
            except REFUSALS as error:
                refused += 1
                if not str(error).strip() or not re.search(names, str(error)):
                    found.append(f"{k}: {type(error).__name__} does not say where: {str(error)[:200]}")
            except Exception as error:
                found.append(f"{k}: {type(error).__name__}: {str(error)[:200]}")
    return refused, found


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=sorted(TARGETS), help="one target")
    parser.add_argument("--record", action="store_true", help=f"write the counts into {RECORD.name}")
    asked = parser.parse_args(arguments)
    os.environ["COLUMNS"] = "120"
    rows, bad = [], 0
    for name in [asked.only] if asked.only else TARGETS:
        inputs, start = round(asked.inputs * (1 if asked.only else TARGETS[name][0])), time.monotonic()
        refused, found = run(name, inputs, asked.seed)
        bad += len(found)
        print(f"{name}: {inputs:,} inputs, {refused:,} refused, {len(found)} found, {time.monotonic() - start:.0f} s")
        print("\n".join(f"  {line}" for line in found[:20]), flush=True)
        rows.append({"reader": name, "inputs": inputs, "refused": refused, "found": len(found), "seed": asked.seed})
    if asked.record:
        from reliability import record

        record("fuzz", rows, key="reader")
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()

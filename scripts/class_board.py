"""A leader board for a class: every student's bidder on days that nobody could know in advance.

    python scripts/class_board.py FOLDER --secret 4711

FOLDER holds one Python file for each student, with a class Bidder whose reset(advertisers) and act(observation) are as
lbm_core/auction/bidder.py has them; files that begin with "_" are left out. The secret, any whole number, makes the
days: keep it to yourself until the deadline, and tell it afterwards, so that everybody can play the days again.

Each bidder plays each day in a process of its own that never holds the day: it gets what a bidder may know at a tick,
and answers with alphas. What crashes, never ends, or is no bid is a sentence on the board, and nobody else's trouble.
This is no jail: a student's code may read and write files. Run it as a user who owns nothing of worth.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from multiprocessing import Pipe
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from numpy.typing import ArrayLike, NDArray

from lbm_core.auction.bidder import Advertisers, Bidder, Observation
from lbm_core.auction.controls import ConstantAlpha, PacingBidder
from lbm_core.auction.day import checked_alphas
from lbm_core.auction.replay import ReplayPeriod, replay
from lbm_core.data.behaviour import simulate_period
from lbm_core.evaluation.runner import day_rows, hindsight, period_means, spread_rows
from lbm_core.files import writing_file
from lbm_core.seeding import generator
from lbm_core.settings import Dataset

BEST = "hindsight constant"
REFERENCES: dict[str, Callable[[], Bidder]] = {"constant": ConstantAlpha, "pacing": PacingBidder}
FIRST_DAY = 10_000  # beyond every period that the chapters learn from or judge on
STARTS_WITHIN = 300  # seconds for a process to start, which is not the student's time
LONGEST_ANSWER = 2**20  # bytes


class FailedBidder(Exception):
    """What a student's bidder did wrong, in a sentence."""


class Remote:
    """A student's bidder in a process of its own: a bidder here, the student's class there.

    ``seconds`` is how long it may compute in all. FailedBidder: it crashed, ran out of time, or gave what is no bid.
    """

    def __init__(self, path: Path, seconds: float) -> None:
        self._line, other = Pipe()
        program = [sys.executable, str(Path(__file__).with_name("student_process.py"))]
        self._process = subprocess.Popen(
            [*program, str(other.fileno()), str(path.resolve())], pass_fds=[other.fileno()]
        )
        other.close()
        self._left, self._seconds, self._n = float(STARTS_WITHIN), seconds, 0
        self._answer("starting its process")
        self._left = seconds
        self._ask("load", None, "loading the file")

    def reset(self, advertisers: Advertisers) -> None:
        """Start a day."""
        self._n = len(advertisers)
        self._ask("reset", advertisers, "reset()")

    def act(self, observation: Observation) -> NDArray[np.float64]:
        """(n,) the student's alphas."""
        answer = self._ask("act", observation, f"act() at tick {observation.tick}")
        try:
            return checked_alphas(answer.get("alphas"), self._n, observation.tick)
        except (ValueError, TypeError) as error:
            raise FailedBidder(f"act() gave no bid: {error}") from None

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()
        self._process.wait()
        self._line.close()

    def _ask(self, what: str, given: Any, where: str) -> dict[str, Any]:
        with suppress(OSError):  # it is gone; reading the answer says so
            self._line.send((what, given))
        return self._answer(where)

    def _answer(self, where: str) -> dict[str, Any]:
        started = time.monotonic()
        if not self._line.poll(max(self._left, 0.0)):
            raise FailedBidder(f"{where} did not end: more than {self._seconds:g} s in all")
        self._left -= time.monotonic() - started
        try:
            # JSON, not pickle: what a student's process sends must not be able to run anything here.
            answer = json.loads(self._line.recv_bytes(LONGEST_ANSWER))
        except (EOFError, OSError):
            raise FailedBidder(f"{where} ended its process (exit code {self._process.wait(10)})") from None
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise FailedBidder(f"{where} gave an answer that cannot be read")
        if "error" in answer:
            raise FailedBidder(f"{where} failed: {answer['error']}")
        return answer


def hidden_days(secret: int, count: int, dataset: Dataset) -> Iterable[ReplayPeriod]:
    """The days that a secret makes, one at a time (200 MB each)."""
    rng = generator(secret, "evaluation")
    for number in FIRST_DAY + rng.choice(1_000_000, size=count, replace=False):
        yield ReplayPeriod.from_log(simulate_period(dataset, int(number), secret))


def play(
    files: Mapping[str, Path], days: Iterable[ReplayPeriod], seconds: float, *, rows: ArrayLike | None = None
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Every bidder and reference on every day: rows of :func:`lbm_core.evaluation.runner.day_rows`, and what failed.

    ``seconds`` is what a bidder may compute a day; who failed on one day is not asked on the next. All meet the same
    days, and are counted in expected conversions, without the luck of single ones.
    """
    frames, failed = [], {}
    for number, day in enumerate(days):
        frames.append(hindsight([day], rows=rows).query("method == @BEST").assign(period=number))
        for name in [*REFERENCES, *files]:
            if name in failed:
                continue
            bidder: Bidder | None = None
            try:
                bidder = REFERENCES[name]() if name in REFERENCES else Remote(files[name], seconds)
                result = replay(day, bidder, generator(0, "evaluation", number), rows=rows)
                frames.append(day_rows(name, number, 0, result.advertisers, result.summary()))
            except FailedBidder as error:
                failed[name] = f"day {number + 1}: {error}"
            finally:
                if isinstance(bidder, Remote):
                    bidder.close()
        print(f"day {number + 1} played", file=sys.stderr, flush=True)
    return pd.concat(frames, ignore_index=True), failed


def board(rows: pd.DataFrame, failed: Mapping[str, str]) -> pd.DataFrame:
    """A line per bidder, the best first: place, bidder, score, of_best, cpa_ratio, budget_share, note; failed: last."""
    means = period_means(rows[~rows["method"].isin(failed)]).groupby("method")
    names = {"expected_score": "score", "group_expected_cpa_ratio": "cpa_ratio", "budget_utilization": "budget_share"}
    table = means[list(names)].mean().rename(columns=names).sort_values("score", ascending=False)
    table.insert(1, "of_best", 100 * table["score"] / table.loc[BEST, "score"])
    known = dict.fromkeys(REFERENCES, "reference") | {BEST: "reference: knows the day, no bidder"}
    table = table.assign(note=[known.get(name, "") for name in table.index]).rename_axis("bidder").reset_index()
    places = (~table["bidder"].isin(known)).cumsum().where(~table["bidder"].isin(known)).astype("Int64")
    table.insert(0, "place", places)
    last = pd.DataFrame({"bidder": list(failed), "note": [f"failed on {text}" for text in failed.values()]})
    return pd.concat([table, last], ignore_index=True) if failed else table


def markdown(table: pd.DataFrame) -> str:
    """The board as a Markdown table; texts of students cannot break it."""
    digits = {"score": "{:.1f}", "of_best": "{:.1f} %", "cpa_ratio": "{:.2f}", "budget_share": "{:.0%}"}
    shown = table.astype(object).where(table.notna(), "")
    for name, form in digits.items():
        shown[name] = [form.format(value) if value != "" else "" for value in shown[name]]
    return shown.map(lambda value: str(value).replace("|", "\\|")).to_markdown(index=False, disable_numparse=True)


def main(
    folder: Annotated[Path, typer.Argument(help="One .py file for each student", exists=True, file_okay=False)],
    secret: Annotated[int, typer.Option(help="Makes the hidden days; keep it until the deadline", min=0)],
    days: Annotated[int, typer.Option(help="How many hidden days", min=1, max=100)] = 2,
    dataset: Annotated[str, typer.Option(help="dense or sparse")] = "dense",
    seconds: Annotated[float, typer.Option(help="How long a bidder may compute a day", min=0.1)] = 60.0,
    advertisers: Annotated[int, typer.Option(help="How many of the 48 advertisers bid", min=1, max=48)] = 48,
    out: Annotated[Path, typer.Option(help="Where class_board.md and .csv go")] = Path("."),
) -> None:
    """Play every student's bidder on hidden days; print the board and write it as Markdown and CSV."""
    files = {path.stem: path for path in sorted(folder.glob("*.py")) if not path.name.startswith("_")}
    if not files:
        raise typer.BadParameter(f"no .py files in {folder}")
    if taken := sorted({*REFERENCES, BEST} & set(files)):
        raise typer.BadParameter(f"{taken[0]}.py has the name of a reference: rename it")
    if dataset not in ("dense", "sparse"):
        raise typer.BadParameter(f"unknown data set {dataset!r}: dense or sparse")
    hidden = hidden_days(secret, days, dataset)  # type: ignore[arg-type]
    table = board(*play(files, hidden, seconds, rows=spread_rows(advertisers)))
    out.mkdir(parents=True, exist_ok=True)
    text = markdown(table)
    texts = {"md": text + "\n", "csv": table.to_csv(index=False, lineterminator="\n")}
    for kind, content in texts.items():
        with writing_file(out / f"class_board.{kind}") as temporary:
            temporary.write_text(content, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    typer.run(main)

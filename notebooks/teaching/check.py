"""Grade an assignment: a line with points for each part, and what is wrong in words.

    python notebooks/teaching/check.py NUMBER FILE      # NUMBER: 1, 2 or 3; exit code 0 with full points

The file runs in a process of its own, which is stopped after some minutes. Assignment 2 simulates a practice day the
first time.
"""

import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Annotated, Any

import numpy as np
import typer

sys.path.append(str(Path(__file__).resolve().parents[2] / "scripts"))
from student_process import load

SECONDS = {1: 120, 2: 900, 3: 120}  # for all parts together
PRACTICE_DAY = 900  # one of the days on which the chapters choose settings; none is judged on it
READ = (  # texts of the library's gallery whose verdict follows from the assignment's own words
    *("as asked", "answer before ratio", "words after the answer", "no tags", "closing tag alone", "no ratio"),
    *(
        "the same answer twice",
        "two answers",
        "second answer begun",
        "two ratios",
        "unclosed ratio",
        "the list of options",
    ),
    *("two", "a half", "a word", "3 % off", "3.1 % off", "about", "currency", "fraction", "two numbers"),
)


class Wrong(Exception):
    """What a part got wrong, in words."""


def close(name: str, theirs: Any, ours: Any) -> None:
    """Complain unless two arrays of numbers agree."""
    try:
        given = np.asarray(theirs, dtype=float)
    except (TypeError, ValueError):
        raise Wrong(f"{name} should be numbers; yours is {theirs!r}") from None
    if given.shape != np.shape(ours) or not np.allclose(given, ours, rtol=1e-6, atol=1e-9):
        raise Wrong(f"{name} should be {np.round(ours, 6)}; yours is {theirs!r}")


def check_bids(own: Any) -> None:
    """alpha times p"""
    close("bids(8, [0.01, 0.002])", own.bids(8.0, np.array([0.01, 0.002])), np.array([0.08, 0.016]))


def check_auction(own: Any) -> None:
    """winners and prices"""
    from lbm_core.auction.mechanism import allocate

    for offered in np.random.default_rng(1).uniform(0.01, 1.0, (20, 6)).round(3):
        ours = allocate(offered[None])
        winners, prices = own.winners_and_prices(offered.copy())
        close(f"winners of bids {offered}", winners, ours.winners[0])
        close(f"prices of bids {offered}", prices, ours.prices[0])


def check_income(own: Any) -> None:
    """average income"""
    close("average_income([1, 1, 1])", own.average_income([1.0, 1.0, 1.0]), 1 + 0.8 + 0.48)
    close("average_income([0.5, 0.3, 0.1])", own.average_income([0.5, 0.3, 0.1]), 0.5 + 0.24 + 0.048)


def check_score(own: Any) -> None:
    """score"""
    from lbm_core.auction.metrics import score

    for bought, cost, target in ((300, 3600, 10), (300, 2400, 10), (0, 0, 10), (0, 5, 10), (7, 91.5, 8)):
        close(f"score({bought}, {cost}, {target})", own.score(bought, cost, target), score(bought, cost, target))


def check_contract(own: Any) -> None:
    """answers (n,) numbers at every tick, from the first on"""
    from lbm_core.auction.day import checked_alphas

    for _, who, seen in _asked(own):
        try:
            checked_alphas(seen.answer, len(who), seen.tick)
        except ValueError as error:
            raise Wrong(str(error)) from None


def check_alone(own: Any) -> None:
    """bids the same for an advertiser whoever else is in the batch"""
    alone = {(tick, int(who.index[0])): seen.answer[0] for tick, who, seen in _asked(own, alone=True)}
    for tick, who, seen in _asked(own):
        for row, answer in zip(who.index, np.broadcast_to(seen.answer, len(who)), strict=True):
            if not np.isclose(alone[tick, int(row)], answer):
                raise Wrong(
                    f"at tick {tick} advertiser {row} gets {alone[tick, int(row)]:g} alone, {answer:g} in a batch"
                )


def check_beats(rival: str) -> Callable[[Any], None]:
    """A part that compares expected scores of the practice day."""

    def check(own: Any) -> None:
        from lbm_core.auction.controls import ConstantAlpha, PacingBidder
        from lbm_core.auction.replay import replay
        from lbm_core.lab.days import replay_period
        from lbm_core.lab.setup import Setup

        day = replay_period(Setup.of("smoke"), PRACTICE_DAY)
        kinds = {"constant": ConstantAlpha, "pacing": PacingBidder, "yours": own.Bidder}
        reached = {
            name: float(replay(day, kinds[name](), np.random.default_rng(0)).summary()["expected_score"].mean())
            for name in (rival, "yours")
        }
        if reached["yours"] <= reached[rival]:
            raise Wrong(
                f"your score on the practice day is {reached['yours']:.1f}, that of {rival} {reached[rival]:.1f}"
            )

    check.__doc__ = f"scores more than {rival} on the practice day"
    return check


def check_reading(own: Any) -> None:
    """reads only what may be followed"""
    from lbm_core.think.parse import CASES

    for case in (each for each in CASES if each.name in READ):
        read = case.read()
        expected, theirs = (read.direction if read.accepted else None), own.read_answer(case.text, case.true_ratio)
        if theirs != expected or isinstance(theirs, bool):
            why = f" ({read.status})" if expected is None else ""
            raise Wrong(
                f"{case.text!r} with a true ratio of {case.true_ratio} is {expected}{why}; yours says {theirs!r}"
            )


def check_expectile(own: Any) -> None:
    """expectile loss"""
    u = np.array([-2.0, -1.0, 0.0, 1.0, 3.0])
    for tau in (0.5, 0.7, 0.9):
        close(f"expectile_loss({u}, {tau})", own.expectile_loss(u, tau), np.where(u < 0, 1 - tau, tau) * u**2)


def check_choice(own: Any) -> None:
    """chooses by relative-Q"""
    for group, expected in (
        ([0.1, 0.3, -0.2], 1),
        ([-0.1, -0.3, 0.0], None),
        ([None, 0.2, None], 1),
        ([None, None, None], None),
        ([0.2, 0.2, 0.1], 0),
        ([-1.0, None, 0.001], 2),
    ):
        theirs = own.choose(list(group))
        if theirs is None or expected is None or isinstance(theirs, bool):
            right = theirs is expected
        else:
            right = theirs == expected
        if not right:
            raise Wrong(f"of {group} the choice is {expected}; yours is {theirs!r}")


PARTS: dict[int, list[tuple[int, Callable[[Any], None]]]] = {
    1: [(1, check_bids), (3, check_auction), (2, check_income), (2, check_score)],
    2: [(2, check_contract), (2, check_alone), (2, check_beats("constant")), (2, check_beats("pacing"))],
    3: [(4, check_reading), (2, check_expectile), (2, check_choice)],
}


def _asked(own: Any, *, alone: bool = False) -> list[tuple[int, Any, Any]]:
    """(tick, advertisers, what was seen with its ``answer``) of invented days of four, in one batch or one by one."""
    from lbm_core.auction.bidder import N_STATE_FEATURES, Advertisers, Observation

    rng = np.random.default_rng(2)
    who = Advertisers(np.array([0, 9, 20, 40]), rng.uniform(500, 3000, 4), rng.uniform(6, 12, 4))
    states, brought = rng.uniform(0.01, 1, (4, 48, N_STATE_FEATURES)), rng.uniform(0, 40, (3, 4, 48))
    found = []
    for rows in [[k] for k in range(4)] if alone else [[0, 1, 2, 3]]:
        bidder = own.Bidder()
        bidder.reset(who[np.array(rows)])
        for tick in range(48):
            past = (values[rows, :tick] for values in brought)
            seen = Observation(tick, states[rows, : tick + 1], *past)
            found.append((tick, who[np.array(rows)], SimpleNamespace(tick=tick, answer=bidder.act(seen))))
    return found


def grade(number: int, path: Path) -> int:
    """Check all parts in this process, a line each; the points that are missing."""
    own: ModuleType | None = None
    missing = 0
    try:
        own = load(str(path))
    except BaseException as error:
        print(f"[--] the file cannot be loaded: {type(error).__name__}: {error}", flush=True)
        return sum(points for points, _ in PARTS[number])
    for points, part in PARTS[number]:
        try:
            part(own)
            print(f"[ok] {points} of {points}: {part.__doc__}", flush=True)
            continue
        except NotImplementedError:
            said = "not written yet"
        except Wrong as error:
            said = str(error)
        except BaseException as error:
            where = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
            said = f"{type(error).__name__}: {error}" + (f" (your line {where[-1]})" if where else "")
        missing += points
        print(f"[--] 0 of {points}: {part.__doc__}: {said}", flush=True)
    return missing


def main(
    number: Annotated[int, typer.Argument(help="1, 2 or 3", min=1, max=3)],
    file: Annotated[Path, typer.Argument(help="The student's file", exists=True, dir_okay=False)],
    here: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Grade a file and say what is wrong with it."""
    total = sum(points for points, _ in PARTS[number])
    if here:
        missing = grade(number, file.resolve())
        print(f"{total - missing} of {total} points", flush=True)
        raise typer.Exit(0 if not missing else 1)
    command = [sys.executable, __file__, str(number), str(file), "--here"]
    try:
        code = subprocess.run(command, timeout=SECONDS[number]).returncode
    except subprocess.TimeoutExpired:
        print(f"[--] the next part did not end within {SECONDS[number]} s, and was stopped: a loop without an end?")
        code = 1
    raise typer.Exit(code)


if __name__ == "__main__":
    typer.run(main)

"""The class's leader board: good bidders are ranked, and whatever else a file does is a sentence on the board."""

import subprocess
import sys

import class_board
import numpy as np
import pandas as pd
import pytest
from small_period import small_period

from lbm_core import paths

GOOD = "class Bidder:\n    def reset(self, who):\n        self.c = who.cpa_target\n    def act(self, seen):\n        "
SAME = GOOD + "return self.c\n"
STUDENTS = {
    "good": GOOD + "return 0.95 * self.c",
    "same": "print('hello')\n" + SAME,
    "crash": GOOD + "return [][0] if seen.tick == 2 else self.c",
    "nan": GOOD + "return self.c * float('nan') if seen.tick == 3 else self.c",
    "shape": GOOD + "return 1.0",
    "words": GOOD + "return 'much'",
    "endless": GOOD + "while True: pass",
    "leaves": GOOD + "import os; os._exit(7)",
    "exits": "import sys\nsys.exit('no')\n",
    "syntax": "class Bidder:\n  def reset(self) return\n",
    "nothing": "x = 1\n",
}
SAID = {
    "crash": r"day 1: act\(\) at tick 2 failed: IndexError: list index out of range \(line 5\)",
    "nan": r"act\(\) gave no bid: alphas must be finite .* at tick 3",
    "shape": r"shape \(\) at tick 0",
    "words": r"act\(\) at tick 0 failed: ValueError: could not convert",
    "endless": r"act\(\) at tick 0 did not end: more than 10 s in all",
    "leaves": r"act\(\) at tick 0 ended its process \(exit code 7\)",
    "exits": r"loading the file failed: SystemExit: no",
    "syntax": r"loading the file failed: SyntaxError",
    "nothing": r"loading the file failed: AttributeError: the file has no class Bidder",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("class")
    for name, text in STUDENTS.items():
        (place / f"{name}.py").write_text(text)
    return place


@pytest.fixture(scope="module")
def played(folder):
    files = {path.stem: path for path in sorted(folder.glob("*.py"))}
    days = [small_period(seed, n=4) for seed in (0, 1)]
    return class_board.play(files, days, seconds=10.0)


def test_what_fails_is_a_sentence(played):
    _, failed = played
    assert set(failed) == set(SAID)
    for name, pattern in SAID.items():
        assert pd.Series(failed[name]).str.contains(pattern, regex=True).item(), failed[name]


def test_the_board_ranks_those_who_bid(played):
    table = class_board.board(*played).set_index("bidder")
    ranked = table[table["score"].notna()]
    assert set(ranked.index) == {"good", "same", "constant", "pacing", "hindsight constant"}
    assert ranked["score"].is_monotonic_decreasing
    assert sorted(table["place"].dropna()) == [1, 2]
    # The same bids in another process bring the same to the last digit.
    numbers = ["score", "of_best", "cpa_ratio", "budget_share"]
    assert np.array_equal(table.loc["same", numbers].astype(float), table.loc["constant", numbers].astype(float))
    assert table.loc["hindsight constant", "of_best"] == 100
    assert table.loc["crash", "note"].startswith("failed on day 1: act() at tick 2")
    assert (table.index[-len(SAID) :].isin(SAID)).all()


def test_markdown_keeps_its_columns(played):
    rows, failed = played
    text = class_board.markdown(class_board.board(rows, failed | {"nan": "a | b"}))
    lines = text.splitlines()
    assert len({line.replace("\\|", "").count("|") for line in lines}) == 1
    assert "<NA>" not in text
    assert "nan " not in text.replace("| nan ", "")


def test_secrets_make_days(monkeypatch):
    monkeypatch.setattr(class_board, "simulate_period", lambda dataset, number, secret: (dataset, number, secret))
    monkeypatch.setattr(class_board.ReplayPeriod, "from_log", lambda log: log)
    first, again, other = (list(class_board.hidden_days(secret, 3, "sparse")) for secret in (1, 1, 2))
    assert first == again
    assert len({number for _, number, _ in first + other}) == 6
    assert all(number >= class_board.FIRST_DAY and secret == 1 for _, number, secret in first)


def test_a_teacher_runs_it(tmp_path):
    place = tmp_path / "handed in"
    place.mkdir()
    (place / "ada.py").write_text(SAME)
    (place / "bob.py").write_text(STUDENTS["crash"])
    (place / "_draft.py").write_text("this is no Python")
    script = paths.project_root() / "scripts" / "class_board.py"
    given = ["--secret", "3", "--days", "1", "--advertisers", "2", "--out", str(tmp_path / "out")]
    done = subprocess.run([sys.executable, str(script), str(place), *given], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(tmp_path / "out" / "class_board.csv").set_index("bidder")
    assert set(table.index) == {"ada", "bob", "constant", "pacing", "hindsight constant"}
    assert table.loc["ada", "score"] == table.loc["constant", "score"]
    assert "line 5" in table.loc["bob", "note"]
    assert (tmp_path / "out" / "class_board.md").read_text() == done.stdout


@pytest.mark.parametrize(("name", "said"), [(None, "no .py files"), ("pacing", "name of a reference")])
def test_a_folder_that_is_no_class_is_refused(tmp_path, name, said):
    if name:
        (tmp_path / f"{name}.py").write_text(SAME)
    script = paths.project_root() / "scripts" / "class_board.py"
    done = subprocess.run([sys.executable, str(script), str(tmp_path), "--secret", "1"], capture_output=True, text=True)
    assert done.returncode == 2
    assert said in done.stderr

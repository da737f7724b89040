"""The assignments: starters are graded with 0 or few points, solutions with all, and mistakes are told in words."""

import re
import subprocess
import sys

import pytest

from lbm_core import paths

TEACHING = paths.project_root() / "notebooks" / "teaching"
sys.path.append(str(TEACHING))
import check  # noqa: E402

SOLUTIONS = {
    1: """
import numpy as np
def bids(alpha, pvalues): return alpha * np.asarray(pvalues)
def winners_and_prices(bids):
    order = sorted(range(len(bids)), key=lambda k: -bids[k])
    return order[:3], [bids[k] for k in order[1:4]]
def average_income(prices): return prices[0] + 0.8 * prices[1] + 0.48 * prices[2]
def score(conversions, cost, cpa_target):
    return 0 if not conversions else conversions * min(cpa_target * conversions / cost, 1) ** 2
""",
    2: """
import numpy as np
class Bidder:
    def reset(self, advertisers): self.who = advertisers
    def act(self, seen):
        t = seen.tick
        left = self.who.budget - seen.costs.sum(axis=1)
        spent, won = seen.costs.sum(axis=1), seen.conversions.sum(axis=1)
        rate = np.ones(len(seen)) if not t else seen.costs[:, -3:].mean(axis=1) * (48 - t) / np.maximum(left, 1e-9)
        before = np.full(len(seen), 1.0) if not t else seen.alphas[:, -1] / self.who.cpa_target
        ratio = (spent + 2 * self.who.cpa_target) / ((won + 2) * self.who.cpa_target)
        move = -0.2 * np.clip(np.log(np.maximum(rate, 1e-3)), -1, 1) - 0.1 * np.clip(np.log(ratio), 0, 1)
        return np.clip(before * np.exp(move), 0.6, 1.2) * self.who.cpa_target
""",
    3: """
import re
import numpy as np
def read_answer(text, true_ratio):
    found = []
    for tag, form in (("ratio", r"[0-9]*[.]?[0-9]+"), ("answer", r"-1|0|1")):
        if text.count(f"<{tag}>") != 1 or text.count(f"</{tag}>") != 1: return None
        inside = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.S)
        if len(inside) != 1 or not re.fullmatch(form, inside[0].strip()): return None
        found.append(float(inside[0]))
    return int(found[1]) if abs(found[0] / true_ratio - 1) <= 0.03 + 1e-12 else None
def expectile_loss(u, tau): return np.abs(tau - (u < 0)) * u**2
def choose(q):
    good = [(-v, i) for i, v in enumerate(q) if v is not None and v > 0]
    return min(good)[1] if good else None
""",
}
MISTAKES = {  # (assignment, in the solution, put in its place) -> what the checker says
    (1, "0.48 * prices[2]", "0.6 * prices[2]"): r"0 of 2: average income: .* should be 2\.28; yours is 2\.4",
    (1, "bids[k] for k in order[1:4]", "bids[k] for k in order[:3]"): r"0 of 3: winners and prices: prices of bids",
    (1, ") ** 2", ")"): r"0 of 2: score: score\(300, 3600, 10\) should be 208\.3",
    (3, "<= 0.03", "<= 0.3"): r"true ratio of 1\.0 is None \(ratio wrong\); yours says 1",
    (3, "and v > 0", ""): r"of \[-0\.1, -0\.3, 0\.0\] the choice is None; yours is 2",
    (3, "(u < 0)", "(u > 0)"): r"0 of 2: expectile loss: expectile_loss",
}


@pytest.fixture
def graded(tmp_path, capsys):
    """What the checker says of a file with this text."""

    def grade(number: int, text: str) -> str:
        (tmp_path / "mine.py").write_text(text)
        missing = check.grade(number, tmp_path / "mine.py")
        said = capsys.readouterr().out
        assert (missing == 0) == ("[--]" not in said)
        return said

    return grade


@pytest.mark.parametrize("number", [1, 3])
def test_a_solution_gets_all_points(graded, number):
    said = graded(number, SOLUTIONS[number])
    assert said.count("[ok]") == len(check.PARTS[number]), said


@pytest.mark.slow
def test_a_bidder_that_watches_beats_constant_and_pacing(tmp_path):
    (tmp_path / "mine.py").write_text(SOLUTIONS[2])
    command = [sys.executable, str(TEACHING / "check.py"), "2", str(tmp_path / "mine.py")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 of 8 points" in done.stdout


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("return self.who.cpa_target[0]", r"shape \(\) at tick 0"),
        ("return self.who.cpa_target * float('nan')", "finite"),
        ("return self.who.cpa_target * len(seen)", "alone, .* in a batch"),
    ],
)
def test_a_bidder_that_breaks_the_contract_is_told_how(tmp_path, text, said):
    path = tmp_path / "mine.py"
    path.write_text(f"class Bidder:\n    def reset(self, who): self.who = who\n    def act(self, seen): {text}\n")
    own = check.load(str(path))
    part = check.check_alone if "alone" in said else check.check_contract
    with pytest.raises(check.Wrong, match=said):
        part(own)


def test_starters_load_and_say_what_is_not_written(graded):
    for number in (1, 3):
        said = graded(number, (TEACHING / f"assignment_{number}.py").read_text())
        assert said.count("not written yet") == len(check.PARTS[number])
    own = check.load(str(TEACHING / "assignment_2.py"))
    check.check_contract(own)
    check.check_alone(own)


@pytest.mark.parametrize(("where", "pattern"), MISTAKES.items())
def test_mistakes_are_told_in_words(graded, where, pattern):
    number, right, wrong = where
    assert right in SOLUTIONS[number]
    said = graded(number, SOLUTIONS[number].replace(right, wrong))
    assert re.search(pattern, said), said
    assert said.count("[ok]") == len(check.PARTS[number]) - 1


def test_a_file_that_does_not_load_says_why(graded):
    assert "cannot be loaded: SyntaxError" in graded(1, "def bids(\n")
    assert "has no attribute" in graded(1, "x = 1\n")


def test_a_loop_without_an_end_is_stopped(tmp_path, monkeypatch, capfd):
    (tmp_path / "mine.py").write_text("while True: pass\n")
    monkeypatch.setitem(check.SECONDS, 3, 5)
    with pytest.raises(check.typer.Exit) as stopped:
        check.main(3, tmp_path / "mine.py")
    assert stopped.value.exit_code == 1
    assert "did not end within 5 s" in capfd.readouterr().out


def test_lesson_plans_link_to_what_exists():
    page = (TEACHING.parent / "teaching.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#\s]+)", page)
    assert len(links) > 15
    assert not [link for link in links if not (TEACHING.parent / link).exists()]
    for number in (1, 2, 3):
        assert f"teaching/assignment_{number}.py" in links

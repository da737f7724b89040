"""The paper beside ours: fresh in the tree, made without torch, and right about what stands on the board."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import report
import report_page
from PIL import Image

from lbm_core import paths
from lbm_core.report import board
from lbm_core.report.session import plain
from lbm_core.seeding import generator

ROOT = paths.project_root()
WITHOUT_MODELS = """
import runpy, sys

class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "transformers", "trl", "peft", "vllm"):
            raise ImportError(f"{name} is not there")

sys.meta_path.insert(0, Wall())
sys.path.insert(0, "scripts")
sys.argv = ["report.py", "--check"]
runpy.run_path("scripts/report.py", run_name="__main__")
"""


@pytest.fixture
def evidence():
    """A made-up board: DT and LBM(P) a fixed distance apart on six days, and a controller below both."""

    def make(edge: float = 20.0, trainings: int = 3, without: str = "") -> report_page.Evidence:
        days, rng = np.arange(7, 13), np.random.default_rng(0)
        level, parts = 300 + 30 * rng.normal(size=6), []
        for method, above, seeds in [("DT", 0, 3), ("PID", -15, 1), ("LBM(P)", edge, trainings)]:
            for seed in range(seeds):
                score = level + above + rng.normal(size=6)
                parts.append(pd.DataFrame({"method": method, "train_seed": seed, "period": days, "score": score}))
        rows = pd.concat(parts, ignore_index=True)
        rows = rows.assign(
            conversions=rows["score"],
            expected_score=rows["score"],
            budget_utilization=0.9,
            dataset="dense",
            advertisers=48,
        )
        rows["weights"] = rows["method"].map({"DT": "aa", "LBM(P)": "bb"}) + rows["train_seed"].astype(str)
        rows = rows[rows["method"] != without]
        best = pd.DataFrame({"method": board.BEST, "period": days, "score": level + 60})
        leaders = board.summary(rows, best, generator(0, "bootstrap", 1)).assign(dataset="dense")
        card = pd.DataFrame({"name": ["gqpo_helps", "gqpo_needs_q"], "days": [6, np.nan], "seeds": [3, np.nan]})
        card = card.assign(verdict=["agrees", "not run"], measured=["score +9 [+6, +12]", "no rows of LBM(random)"])
        return report_page.Evidence(rows, leaders, card)

    return make


@pytest.mark.slow
def test_the_tree_is_fresh_and_nothing_needs_a_model():
    done = subprocess.run([sys.executable, "-c", WITHOUT_MODELS], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "nothing is stale"


def test_the_page_has_every_table_and_figure_and_what_it_shows_exists():
    text = (ROOT / "docs" / "paper_beside_ours.md").read_text(encoding="utf-8")
    for item in [*(f"Table {number}" for number in range(1, 10)), *(f"Fig. {number}" for number in range(1, 7))]:
        section = re.search(rf"^## {re.escape(item)}: .*?(?=^## )", text, re.MULTILINE | re.DOTALL)
        assert section, item
        assert re.search(r"^status: [●◐○–] .*days: .*seeds: ", section[0], re.MULTILINE), item
        assert "lbm reproduce --tier" in section[0], item
        assert ("| " in section[0]) if item.startswith("Table") else ("](../figures/fig" in section[0]), item
    shown = re.findall(r"\]\(\.\./(figures/\w+\.png)\)", text)
    assert len(shown) >= 8
    assert not [name for name in shown if not (ROOT / name).is_file()]


def test_a_header_says_that_methods_met_other_numbers_of_days():
    rows = pd.DataFrame({"method": ["DT"] * 4 + ["LBM(P)"] * 2, "period": [7, 7, 9, 11, 7, 9]})
    assert report_page.days_of(rows) == "2 to 3"
    assert report_page.days_of(rows[rows["method"] == "DT"]) == report_page.days_of(rows[["period"]]) == "3"


def test_lbm_above_dt_is_a_yes_only_with_three_trainings(evidence):
    edge = r"\(LBM\(P\) minus DT \+20\.\d \[.*\], 6 days, "
    assert re.search(rf"DT here, in score\?\*\*\n  - dense: \*\*yes\*\* {edge}3 trainings\)", told(evidence()))
    once = rf"dense: \*\*yes in what was played, open over trainings\*\* {edge}1 training\)"
    assert re.search(once, told(evidence(trainings=1)))
    assert re.search(r"dense: \*\*no\*\* \(LBM\(P\) minus DT −\d", told(evidence(edge=-20)))


def test_repeated_trainings_say_what_is_luck(evidence):
    said = "**yes** (score +9 [+6, +12], 6 days, 3 trainings), **not run** (no rows of LBM(random))"
    assert f"- **Does GQPO add to LBM(P), and more than without Q?**\n  - dense: {said}\n" in told(evidence())


def told(evidence: report_page.Evidence) -> str:
    return report.answers({"dense": evidence})


def test_what_was_not_played_is_said_and_not_guessed(evidence):
    text = told(evidence(without="LBM(P)"))
    assert "dense: **not known** (LBM(P) has not bid for all advertisers), **not known** (LBM(GQPO) has not" in text
    assert "minus LBM" not in text
    assert re.search(r"dense: PID reaches \*\*7\d %\*\* of the best .* \(PID minus DT −1\d", text)
    assert "PID minus LBM(P) −3" in told(evidence())


def test_numbers_of_the_answers_are_those_of_the_board(evidence):
    known = evidence(trainings=1)
    line = report_page.compact(known.leaders).set_index("method").loc["LBM(P)"]
    assert f"LBM(P) minus DT {line['minus DT [95 %]']}," in told(known)
    assert line["days"] == "6"
    assert line["trainings"] == "1"
    assert report_page.compact(known.leaders).set_index("method").loc["PID", "trainings"] == "–"


def test_the_excerpt_holds_the_best_of_each_kind():
    leaders = pd.DataFrame(
        [("a", "x"), ("b", "x"), ("DT", "x"), ("c", "y"), ("pacing", "z"), ("d", "z")], columns=["method", "kind"]
    )
    assert list(report.excerpt(leaders)["method"]) == ["a", "DT", "c", "pacing"]


def test_signs_and_counts_agree():
    cards = pd.DataFrame({"short": ["a", "b", "c"] * 2, "section": "§1", "dataset": ["dense"] * 3 + ["sparse"] * 3})
    cards["verdict"] = ["agrees", "opposite", "open", "agrees", "not run", "not comparable"]
    signs, counts = report_page.signs(cards), report.counts(cards).set_index("dataset")
    assert list(signs["claim"]) == ["a", "b", "c"]
    assert list(signs["dense"] + signs["sparse"]) == ["✓✓", "✗–", "○≠"]
    assert counts.loc["sparse"].to_dict() == {
        "✓ agrees": 1,
        "✗ opposite": 0,
        "○ open": 0,
        "≠ not comparable": 1,
        "– not run": 1,
    }


def test_a_command_repeats_tier_data_set_and_changed_settings():
    rows = pd.DataFrame(
        {"tier": "laptop", "dataset": ["dense", "sparse"], "overrides": ["", '{"chapter2.sizes": ["a b"]}']}
    )
    plain_run, changed = report_page.commands(rows, ["02", "06"])
    assert plain_run == "lbm reproduce --tier laptop --only 02,06"
    assert shlex.split(changed)[-4:] == ["--set", "DATASET=sparse", "--set", 'chapter2.sizes=["a b"]']


def test_a_page_is_escaped_and_has_facts_tables_figures_and_commands():
    frame = pd.DataFrame({"metric": ["CPA < 1", "x" * 90]})
    one = report_page.Section("Table 1: a", {"status": "● run"}, {"t": ("dense.", frame)}, ["f.png"], ["lbm x"])
    text, web = report_page.pages([one])
    for wanted in ("## Table 1: a", "status: ● run", "| CPA < 1", "![Table 1: a](../figures/f.png)", "```\nlbm x\n```"):
        assert wanted in text
    for wanted in (
        "<h2>Table 1: a</h2>",
        "CPA &lt; 1</td>",
        "x" * 90,
        'src="../figures/f.png"',
        "<pre>lbm x</pre>",
    ):
        assert wanted in web


def test_latex_is_ascii_and_refuses_a_sign_that_it_does_not_know():
    frame = plain(pd.DataFrame({"ours − DT [95 %]": ["✓"], "x_y": [np.nan], "n": [12345.6], "m": [0.12345]}))
    text = report_page.latex(frame, "Table 1\nof α")
    assert text.isascii()
    assert text.splitlines()[0] == r"% Table 1 of $\alpha$"
    for wanted in (r"\toprule", r"ours $-$ DT [95 \%]", r"x\_y", r"$\checkmark$ & -- & 12,346 & 0.123"):
        assert wanted in text
    with pytest.raises(ValueError, match="no LaTeX is known for ☂"):
        report_page.latex(pd.DataFrame({"a": ["☂"]}), "rain")


def test_only_what_stands_between_the_markers_changes():
    text = "a\n<!-- x:begin -->\nold\n<!-- x:end -->\nb\n"
    new = report.filled(text, {"x": "new"})
    assert new == "a\n<!-- x:begin -->\nnew\n<!-- x:end -->\nb\n"
    assert report.filled(new, {"x": "new"}) == new
    for broken in ("a", text + text, "<!-- x:end --><!-- x:begin -->"):
        with pytest.raises(ValueError, match="x:begin"):
            report.filled(broken, {"x": "new"})


def test_what_is_stale_is_named(tmp_path):
    made, root = tmp_path / "made", tmp_path / "root"
    for folder in (made, root):
        (folder / report.TABLES).mkdir(parents=True)
        for name in ("README.md", f"{report.TABLES}/a.tex"):
            (folder / name).write_text("1\n")
        # Packed more or less well, of the same pixels.
        Image.new("RGB", (40, 40), "red").save(folder / "p.png", compress_level=9 if folder == made else 0)
    assert (made / "p.png").read_bytes() != (root / "p.png").read_bytes()
    assert report.stale(made, root) == []
    Image.new("RGB", (40, 40), "blue").save(root / "p.png")
    (root / "README.md").write_text("2\n")
    (root / report.TABLES / "a.tex").rename(root / report.TABLES / "b.tex")
    assert report.stale(made, root) == ["README.md", f"{report.TABLES}/a.tex", f"{report.TABLES}/b.tex", "p.png"]

"""The paper beside ours: one page, its tables as LaTeX and HTML, the leader board, and the README's numbers.

    python scripts/report.py            # written again from results/*.csv; nothing is trained, no torch is loaded
    python scripts/report.py --check    # names what is stale, and fails if anything is

Made of the committed results alone, the same bytes at every run: docs/paper_beside_ours.{md,html}, docs/tables/*.tex,
figures/{leader_board,scorecard}.{png,svg}, and what README.md has between <!-- NAME:begin --> and <!-- NAME:end -->.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer
from PIL import Image
from report_page import OPENS, Evidence, compact, gather, interval, latex, markdown, pages, recorded, sections, signs

from lbm_core import paths
from lbm_core.evaluation.claims import VERDICTS
from lbm_core.evaluation.judges import AGREES, OPPOSITE
from lbm_core.evaluation.statistics import ABOVE, BELOW, MIN_TRAININGS, OPEN, paired_differences
from lbm_core.files import writing_file
from lbm_core.report import board, style
from lbm_core.report.chapter_figures_baselines import SIGNS, leader_board, scorecard
from lbm_core.seeding import generator
from lbm_core.settings import DATASETS

LBM = ("LBM(P)", "LBM(GQPO)")
SHOWN = ("DT", "LLM-DT", *LBM, "LBM-Act + none", "LBM-Act + critic", "PID", "pacing")  # whoever is the best of a kind
ANSWERS = {ABOVE: "yes", BELOW: "no", OPEN: "open"}
TABLES = "docs/tables"


def excerpt(leaders: pd.DataFrame) -> pd.DataFrame:
    """Of the board the best of each kind, and :data:`SHOWN`."""
    return leaders[~leaders["kind"].duplicated() | leaders["method"].isin(SHOWN)]  # the best stand first


def counts(cards: pd.DataFrame) -> pd.DataFrame:
    """How many claims have which verdict on each data set."""
    table = pd.crosstab(cards["dataset"], cards["verdict"]).reindex(columns=list(VERDICTS), fill_value=0)
    return table.rename(columns=lambda verdict: f"{SIGNS[verdict][0]} {verdict}").rename_axis(columns="").reset_index()


def difference(evidence: Evidence, method: str, reference: str) -> tuple[str, str]:
    """Whether a method scores more than another, and the number that says so, or why there is none."""
    if missing := [name for name in (method, reference) if name not in set(evidence.everybody["method"])]:
        return "not known", f"{missing[0]} has not bid for all advertisers"
    rng = generator(0, "bootstrap", 3)
    line = paired_differences(evidence.everybody, reference, rng, metrics=["score"], methods=[method]).iloc[:1]
    if reference == board.REFERENCE:  # the board's own interval: a second bootstrap would have other last digits
        own = evidence.leaders.set_index("method").loc[method]
        line = line.assign(low=own["dt_low"], high=own["dt_high"], verdict=own["verdict"])
    number, row = interval(line, "difference", "low", "high", form="+.1f")[0], line.iloc[0]
    trained = {0: "nothing trained", 1: "1 training"}.get(row["trainings"], f"{row['trainings']} trainings")
    word = ANSWERS[row["verdict"]]
    if row["verdict"] == OPEN and (row["low"] > 0 or row["high"] < 0):  # days decide it, too few trainings do not
        word = f"{ANSWERS[ABOVE if row['low'] > 0 else BELOW]} in what was played, open over trainings"
    return word, f"{method} minus {reference} {number}, {row['periods']} days, {trained}"


def needed(evidence: Evidence) -> str:
    """How often an instruction must agree with the critic to be worth more than none, how often LBM-Think's does, and
    what that is worth."""
    everybody = evidence.everybody
    try:
        teachers, answers = (recorded(name, everybody["dataset"].iloc[0]) for name in ("gqpo_teachers", "gqpo_probes"))
    except FileNotFoundError:
        return "not known (no critic was made wrong at random)"
    met = everybody[(everybody["train_seed"] == 0) & everybody["period"].isin(teachers["period"])]
    worth = met.groupby("method")["expected_score"].mean()
    if "LBM-Act + none" not in worth:
        return "not known (LBM-Act without words has not bid for all advertisers)"
    nobody = worth["LBM-Act + none"]
    steps = teachers[teachers["every"] == 1].groupby("right")["expected_score"].mean() - nobody
    enough = np.interp(0, steps.to_numpy(), steps.index.to_numpy())  # it grows with every right instruction
    told = f"the critic's instructions bring {steps.iloc[-1]:+.0f} expected score; with errors drawn at random they "
    told += f"bring 0 where {100 * enough:.0f} % agree with it"
    said = answers[answers["random"] & (answers["model"] == LBM[1]) & (answers["train_seed"] == 0)]  # the teachers' own
    if "likely" not in said or said["likely"].isna().all():
        return f"{told}; LBM-Think's answers are of an earlier model"
    shares = [100 * (said[column] == said["critic_best"]).mean() for column in ("direction", "likely")]
    told += f". {LBM[1]}'s agree in {shares[0]:.0f} % (its most likely answers in {shares[1]:.0f} %)"
    if LBM[1] not in worth:
        return told
    random = np.interp(shares[0] / 100, steps.index.to_numpy(), steps.to_numpy())
    return f"{told} and bring {round(worth[LBM[1]] - nobody):+d}, where errors at random would leave {round(random):+d}"


def repeated(card: pd.DataFrame) -> str:
    """Whether GQPO adds to LBM(P), and more than texts drawn without Q do, by the claims that say so."""
    told = []
    for name, luck in {"gqpo_helps": "trainings", "gqpo_needs_q": "fine-tunings"}.items():
        row = card.set_index("name").loc[name]
        many = f", {row['days']:.0f} days" if row["days"] > 0 else ""
        many += f", {row['seeds']:.0f} {luck}" if row["seeds"] >= MIN_TRAININGS else ""
        word = {AGREES: "yes", OPPOSITE: "no"}.get(row["verdict"], row["verdict"])
        told.append(f"**{word}** ({row['measured']}{many})")
    return ", ".join(told)


def answers(found: dict[str, Evidence]) -> str:
    """What every reader asks first, answered by the board, data set by data set."""

    def beats(evidence: Evidence) -> str:
        said = dict.fromkeys(difference(evidence, name, board.REFERENCE) for name in LBM)
        return ", ".join(f"**{word}** ({text})" for word, text in said)

    def simple(evidence: Evidence) -> str:
        best = evidence.leaders[evidence.leaders["kind"] == "learns nothing"].iloc[0]
        rivals = [name for name in (board.REFERENCE, *LBM) if name in set(evidence.leaders["method"])]
        beside = "; ".join(difference(evidence, best["method"], name)[1] for name in rivals)
        share = f"**{best['of_best']:.0f} %** of the best constant alpha in hindsight"
        return f"{best['method']} reaches {share} ({beside})"

    said = {
        "Does LBM beat DT here, in score?": beats,
        "Does GQPO add to LBM(P), and more than without Q?": lambda one: repeated(one.card),
        "How often must LBM-Think be right?": needed,
        "What would a simple controller do, which learns nothing?": simple,
    }
    lines = []
    for question, answer in said.items():
        lines += [f"- **{question}**", *(f"  - {name}: {answer(evidence)}" for name, evidence in found.items())]
    notes = [
        f"Score an advertiser and day, on days that both met, with 95 % intervals; {OPENS}.",
        "Trainings are of all that is learned, but LBM(P)'s LBM-Think is one. GQPO adds if conversions and score grow;",
        "fine-tunings are compared for half of the advertisers. The board ranks by expected score, on each one's days.",
    ]
    return "\n".join([*lines, "", *notes])


def blocks(found: dict[str, Evidence]) -> dict[str, str]:
    """What the README has between its markers."""
    cards = pd.concat(each.card for each in found.values())
    lines = [f"**{name}**\n\n{markdown(compact(excerpt(each.leaders)))}" for name, each in found.items()]
    summary = f"<summary>All {cards['short'].nunique()} claims</summary>"
    listed = f"<details>{summary}\n\n{markdown(signs(cards))}\n\n</details>"
    return {
        "answers": answers(found),
        "board": "\n\n".join(lines),
        "scorecard": f"{markdown(counts(cards))}\n\n{listed}",
    }


def filled(text: str, contents: dict[str, str]) -> str:
    """A text with other contents between its markers; a ValueError where it does not have a marker once."""
    for name, content in contents.items():
        begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
        if (text.count(begin), text.count(end)) != (1, 1) or text.index(begin) > text.index(end):
            raise ValueError(f"README.md must have {begin} and, after it, {end}, once each")
        text = f"{text.split(begin)[0]}{begin}\n{content}\n{end}{text.split(end)[1]}"
    return text


def build(folder: Path) -> None:
    """Write all that this script makes into a folder that stands for the checkout."""
    found = {dataset: gather(dataset) for dataset in DATASETS}
    with contextlib.redirect_stdout(io.StringIO()):  # it would name files of this folder
        style.save(leader_board(pd.concat(each.leaders for each in found.values())), "leader_board", "cached", folder)
        style.save(scorecard(pd.concat(each.card for each in found.values())), "scorecard", "cached", folder)
    whole = list(sections(found))
    made = dict(zip(("docs/paper_beside_ours.md", "docs/paper_beside_ours.html"), pages(whole), strict=True))
    for one in whole:
        for name, (caption, frame) in one.parts.items():
            if not frame.empty:
                made[f"{TABLES}/{name}.tex"] = latex(frame, f"{one.title}; {caption}")
    made["README.md"] = filled((paths.project_root() / "README.md").read_text(encoding="utf-8"), blocks(found))
    (folder / TABLES).mkdir(parents=True)
    for name, text in made.items():
        (folder / name).write_text(text, encoding="utf-8")


def same(made: Path, there: Path) -> bool:
    """Whether a file holds what was made; of a picture its pixels (how well a PNG is packed depends on the CPU)."""
    if not there.is_file() or made.suffix != ".png":
        return there.is_file() and made.read_bytes() == there.read_bytes()
    with Image.open(made) as one, Image.open(there) as other:
        return one.size == other.size and one.convert("RGBA").tobytes() == other.convert("RGBA").tobytes()


def stale(made: Path, root: Path) -> list[str]:
    """Names of files that are missing in a checkout, differ from what was made, or are no longer made."""
    names = {path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file()}
    left = {path.relative_to(root).as_posix() for path in (root / TABLES).glob("*")} - names
    return sorted(left | {name for name in names if not same(made / name, root / name)})


def main(
    check: Annotated[bool, typer.Option("--check", help="Change nothing; fail if a file is stale.")] = False,
) -> None:
    """Make the paper beside ours again from the committed results."""
    root = paths.project_root()
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder)
        build(made)
        names = stale(made, root)
        for name in names:
            print(f"stale: {name}" if check else f"wrote {name}" if (made / name).is_file() else f"removed {name}")
            if check:
                continue
            if not (made / name).is_file():
                (root / name).unlink()
                continue
            with writing_file(root / name) as temporary:
                shutil.copyfile(made / name, temporary)
    if check and names:
        sys.exit(f"{len(names)} file(s) stale: run 'python scripts/report.py'")
    print("nothing is stale" if check else f"{len(names)} file(s) written")


if __name__ == "__main__":
    typer.run(main)

"""The page of ``scripts/report.py``: what the paper's tables and figures are here, as Markdown and as HTML."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache, partial
from html import escape
from typing import Any, NamedTuple

import pandas as pd

from lbm_core import paths
from lbm_core.evaluation import claims
from lbm_core.evaluation.statistics import MIN_PERIODS, MIN_TRAININGS
from lbm_core.lab import tiers
from lbm_core.report import board, paper, results, tables
from lbm_core.report.chapter_figures_baselines import SIGNS
from lbm_core.report.session import plain
from lbm_core.seeding import generator

TITLE = "The paper beside ours"
OPENS = f"open: the interval holds 0, or there are fewer than {MIN_PERIODS} days or {MIN_TRAININGS} trainings"
INTRODUCTION = (
    "Every table and figure of the paper, ours beside it. ● was run at the tier that is named, ◐ only at smoke, which "
    "shows that the path works and nothing about the numbers, ○ was not run, – needs no run. That something was run "
    "does not say that the paper is right: the verdicts do, about differences on the same days (levels depend on the "
    f"market, and ours is simulated). Intervals hold 95 %; {OPENS}. Pictures of the paper's figures: dense. Made by "
    "scripts/report.py from results/."
)
BADGES = {"reproduced": "●", "smoke": "◐", "not": "○", "explained": "–"}  # by the first word of a status
REDRAWN = ["lbm reproduce --tier cached --only 08"]
STYLE = (
    "body{max-width:70em;margin:2em auto;padding:0 1em;font-family:sans-serif}img{max-width:100%}pre{overflow:auto}"
    "table{border-collapse:collapse;font-size:.85em}"
    "td,th{padding:.1em .6em;text-align:left;border-bottom:1px solid #ddd}"
)
# What LaTeX's fonts do not have under its Unicode sign.
_LATEX: dict[str, str | int | None] = {
    "−": "$-$",
    "–": "--",
    "…": r"\dots{}",
    "§": r"\S{}",
    "α": r"$\alpha$",
    "β": r"$\beta$",
    "Δ": r"$\Delta$",
}
_LATEX |= {"✓": r"$\checkmark$", "✗": r"$\times$", "○": r"$\circ$", "≠": r"$\neq$", "×": r"$\times$"}


class Evidence(NamedTuple):
    """What the recorded results of one data set say."""

    everybody: pd.DataFrame  # rows of all methods
    leaders: pd.DataFrame  # the board
    card: pd.DataFrame  # the scorecard


@dataclass(frozen=True)
class Section:
    """A table or a figure, by its parts in the order in which they stand."""

    title: str
    facts: dict[str, str] = field(default_factory=dict)
    parts: dict[str, tuple[str, pd.DataFrame]] = field(default_factory=dict)  # by file name: caption, texts
    figures: list[str] = field(default_factory=list)  # names of files in figures/
    commands: list[str] = field(default_factory=list)


@cache
def recorded(experiment: str, dataset: str | None = None) -> pd.DataFrame:
    """Committed rows of the largest tier, of one data set or of all."""
    return results.load(experiment, "cached", dataset=dataset)


def gather(dataset: str) -> Evidence:
    """What chapter 8 takes, with the random numbers that it takes."""
    read = partial(recorded, dataset=dataset)
    everybody = board.joined(read)
    leaders = board.summary(everybody, read("baseline_references"), generator(0, "bootstrap", 1))
    card = claims.scorecard(board.evidence(read), generator(0, "bootstrap", 2))
    return Evidence(everybody, leaders.assign(dataset=dataset), card.assign(dataset=dataset))


def interval(frame: pd.DataFrame, *columns: str, form: str = ".1f") -> list[str]:
    """Mean [low, high] of each row; "–" for none."""
    rows = [[f"{value:{form}}".replace("-", "−") for value in row] for row in frame[list(columns)].to_numpy()]
    return ["–" if "nan" in mean else mean if "nan" in low else f"{mean} [{low}, {high}]" for mean, low, high in rows]


def compact(leaders: pd.DataFrame) -> pd.DataFrame:
    """Lines of the board for the eye."""
    frame = leaders[["method", "kind"]].assign(score=leaders["score"].map("{:.1f}".format))
    frame["% of best constant [95 %]"] = interval(leaders, "of_best", "low", "high")
    frame["minus DT [95 %]"] = interval(leaders, "minus_dt", "dt_low", "dt_high", form="+.1f")
    frame["verdict"], frame["days"] = leaders["verdict"].fillna("–"), leaders["days"].astype(str)
    return frame.assign(trainings=leaders["trainings"].map(lambda count: str(count or "–")))


def signs(cards: pd.DataFrame) -> pd.DataFrame:
    """The sign of the verdict on every claim and data set."""
    marked = cards.assign(sign=[SIGNS[verdict][0] for verdict in cards["verdict"]])
    table = marked.pivot(index=["short", "section"], columns="dataset", values="sign").reset_index()
    order = cards[["short", "section"]].drop_duplicates().merge(table)
    return order.rename(columns={"short": "claim", "section": "in the paper"})


def aged(rows: pd.DataFrame) -> str:
    """Says so where no row names the weights that bid: it was recorded before rows did, by models since replaced."""
    return "" if "weights" in rows and rows["weights"].notna().any() else ", recorded with earlier models"


def of_table(number: int, dataset: str, everybody: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """A table of the paper, by what tells its parts apart; a FileNotFoundError where its rows were not recorded."""
    read = partial(recorded, dataset=dataset)
    if number == 1:
        return {"": tables.table1(everybody)}
    if number == 2:
        both = everybody, read("language_results")  # a language model that writes alpha is too slow for everybody
        return {f", {rows['advertisers'].iloc[0]:.0f} advertisers{aged(rows)}": tables.table2(rows) for rows in both}
    if number == 3:
        return {"; the paper's values: dense": tables.table3(read("dt_score"), generator(0, "bootstrap", 3))}
    if number == 5:
        table = tables.table5(read("baseline_budgets"))
        wide = table.pivot(index="method", columns="budget_ratio", values=["paper", "ours"])
        wide.columns = pd.Index([f"{whose}, {ratio:g} B" for whose, ratio in wide.columns])
        return {", conversions at shares of the budget B": wide.reset_index()}
    if number == 9:
        tier = tiers.tier(read("critic_validity")["tier"].iloc[0], {})
        own: dict[str, Any] = tier.critic_on.get(dataset, {})
        return {"": tables.table9(replace(tier.critic, dataset=dataset, **own), tier.name)}
    named = {4: ["act_table4"], 6: ["think_hallucination", "think_scores"], 7: ["table7"], 8: ["latency"]}[number]
    return {"": getattr(tables, f"table{number}")(*map(read, named))}


def parts_of(number: int, found: dict[str, Evidence]) -> dict[str, tuple[str, pd.DataFrame]]:
    """All that stands under a table's number: by file name its caption and texts."""
    parts = {}
    for dataset, evidence in found.items():
        try:
            made = of_table(number, dataset, evidence.everybody)
        except FileNotFoundError as missing:
            parts[f"table{number}_{dataset}"] = f"{dataset}: {missing}.", pd.DataFrame()
            continue
        for place, (what, table) in enumerate(made.items()):
            frame = tables.readable(table) if "reference" in table.attrs else table
            caption = f"{dataset}{what}. {table.attrs.get('note', '')}".strip()
            parts[f"table{number}_{dataset}{'_few' if place else ''}"] = caption, plain(frame)
    return parts


def commands(rows: pd.DataFrame, chapters: list[str]) -> list[str]:
    """What records these rows again, with the settings that were changed."""
    told = []
    for (tier, dataset), part in rows.groupby(["tier", "dataset"], sort=False):
        changed = {} if dataset == "dense" else {"DATASET": dataset}
        for text in filter(None, part["overrides"].unique()):
            changed |= json.loads(text)
        written = {name: json.dumps(value) if isinstance(value, list) else value for name, value in changed.items()}
        settings = [f"--set {shlex.quote(f'{name}={value}')}" for name, value in written.items()]
        told.append(" ".join([f"lbm reproduce --tier {tier} --only {','.join(chapters)}", *settings]))
    return told


def days_of(rows: pd.DataFrame) -> str:
    """On how many days methods bid, "3 to 12" where they differ."""
    whose = rows["method"] if "method" in rows else pd.Series("", rows.index)
    met = rows["period"].groupby(whose.fillna("")).nunique()
    return f"{met.max()}" if met.min() == met.max() else f"{met.min()} to {met.max()}"


def sections(found: dict[str, Evidence]) -> Iterator[Section]:
    """The paper's tables and figures in its order, then our board and the claims."""
    root = paths.project_root()
    books = {path.name[:2]: path.read_text(encoding="utf-8") for path in sorted(root.glob("notebooks/[0-9]*.ipynb"))}
    writers = {name: book for book, text in books.items() for name in re.findall(r'run\.record\(\\"(\w+)', text)}
    for row in paper.paper_map().to_dict("records"):
        (kind, number), names = row["item"].split(), row["results"].split()
        if kind == "Eq.":
            continue
        parts = parts_of(int(number), found) if kind == "Table" else {}
        figures = sorted(path.name for path in root.glob(f"figures/fig{number}_*.png")) if kind == "Fig." else []
        facts = {"status": f"{BADGES[row['status'].split()[0]]} {row['status']}", "tier": row["tiers"] or "–"}
        made, days = [f"lbm reproduce --tier cached --only {row['notebook'].replace(' ', ',')}"], ""
        if names and row["status"] != "not run":
            rows = pd.concat([recorded(name) for name in names])
            made = commands(rows, sorted({writers[name] for name in names}))
            if "period" in rows:
                days = ", ".join(f"{name} {days_of(part)}" for name, part in rows.groupby("dataset"))
        facts |= {"days": days or "–", "seeds": ", ".join(row["seeds"].split()) or "–"}
        judged = [frame["verdict"] for _, frame in parts.values() if "verdict" in frame]
        if judged:
            told = pd.concat(judged).value_counts().drop("reference")
            facts["verdicts"] = ", ".join(f"{count} {verdict}" for verdict, count in told.items())
        yield Section(f"{row['item']}: {row['what']}", facts, parts, figures, made)
    boards = {f"board_{name}": (f"{name}.", compact(each.leaders)) for name, each in found.items()}
    yield Section("All methods on one board", {}, boards, ["leader_board.png"], REDRAWN)
    claimed = {"scorecard": ("Signs as in the picture.", signs(pd.concat(each.card for each in found.values())))}
    yield Section("The paper's claims", {}, claimed, ["scorecard.png"], REDRAWN)


def markdown(frame: pd.DataFrame) -> str:
    """A frame of texts as a Markdown table."""
    return frame.to_markdown(index=False, disable_numparse=True)


def web_table(frame: pd.DataFrame) -> str:
    """A frame of texts as an HTML table, no text cut short."""
    with pd.option_context("display.max_colwidth", None):
        return frame.to_html(index=False, border=0)


def pages(whole: list[Section]) -> tuple[str, str]:
    """The page as Markdown and as HTML."""
    overview = pd.DataFrame([{"": one.title, **one.facts} for one in whole if one.facts]).fillna("–")
    text = [f"# {TITLE}", INTRODUCTION, markdown(overview)]
    web = [f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{TITLE}</title>\n<style>{STYLE}</style>']
    web += [f"<h1>{TITLE}</h1>", f"<p>{escape(INTRODUCTION)}</p>", web_table(overview)]
    for one in whole:
        facts = [" · ".join(f"{name}: {value}" for name, value in one.facts.items())] if one.facts else []
        text += [f"## {one.title}", *facts]
        web += [f"<h2>{escape(one.title)}</h2>", *(f"<p>{escape(line)}</p>" for line in facts)]
        for caption, frame in one.parts.values():
            text += [caption, *([] if frame.empty else [markdown(frame)])]
            web += [f"<p>{escape(caption)}</p>", *([] if frame.empty else [web_table(frame)])]
        for name in one.figures:
            text.append(f"![{one.title}](../figures/{name})")
            web.append(f'<p><img src="../figures/{name}" alt="{escape(one.title)}"></p>')
        listed = "\n".join(one.commands)
        text.append(f"```\n{listed}\n```")
        web.append(f"<pre>{escape(listed)}</pre>")
    return "\n\n".join(text) + "\n", "\n".join([*web, "</html>"]) + "\n"


def latex(frame: pd.DataFrame, what: str) -> str:
    """A frame of texts as a tabular in ASCII, for the packages booktabs and amssymb, below a comment that says what it
    is; a ValueError names a sign for which no LaTeX is known here."""
    text = f"% {' '.join(what.split())}\n" + frame.to_latex(index=False, escape=True)
    text = text.translate(str.maketrans(_LATEX))
    if other := sorted({sign for sign in text if not sign.isascii()}):
        raise ValueError(f"no LaTeX is known for {', '.join(other)}")
    return text

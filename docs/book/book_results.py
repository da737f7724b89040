"""The book's page of results: the sections of docs/paper_beside_ours.md, with a tab for each data set."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from report_page import INTRODUCTION, Evidence, Section, gather, markdown, sections

from lbm_core.report import style
from lbm_core.report.chapter_figures_baselines import leader_board, scorecard
from lbm_core.settings import DATASETS

BOARD, CLAIMS = "All methods on one board", "The paper's claims"  # titles of sections, which come first here
OWN_PICTURES = {BOARD: "board", CLAIMS: "card"}  # drawn per data set, in place of the picture of both


def tabs(contents: Mapping[str, str]) -> str:
    """Markdown in tabs that turn together on the whole page."""
    items = (f":::{{tab-item}} {name}\n:sync: {name}\n\n{text}\n:::" for name, text in contents.items())
    return "::::{tab-set}\n:sync-group: dataset\n\n" + "\n\n".join(items) + "\n::::"


def picture(name: str, what: str) -> str:
    """An image of the folder figures/."""
    return f"![{what}](figures/{name}.png)"


def draw(found: Mapping[str, Evidence], folder: Path) -> None:
    """The board and the scorecard of each data set, as pictures in a folder's figures/."""
    for dataset, evidence in found.items():
        style.save(leader_board(evidence.leaders), f"board_{dataset}", "cached", folder)
        style.save(scorecard(evidence.card), f"card_{dataset}", "cached", folder)


def of_section(section: Section) -> Iterator[str]:
    """A section's Markdown, block by block."""
    yield f"## {section.title}"
    if section.facts:
        yield " · ".join(f"{name}: {value}" for name, value in section.facts.items())
    own = OWN_PICTURES.get(section.title)
    by_dataset: dict[str, list[str]] = {}
    both = []
    for name, (caption, frame) in section.parts.items():
        text = "\n\n".join([caption, *([] if frame.empty else [markdown(frame)])])
        dataset = re.search(f"_({'|'.join(DATASETS)})(_few)?$", name)
        by_dataset.setdefault(dataset[1], []).append(text) if dataset else both.append(text)
    if own:
        for dataset in DATASETS:
            by_dataset.setdefault(dataset, []).insert(0, picture(f"{own}_{dataset}", f"{section.title}: {dataset}"))
    if by_dataset:
        yield tabs({name: "\n\n".join(texts) for name, texts in by_dataset.items()})
    yield from both
    if not own:
        yield from (picture(Path(name).stem, section.title) for name in section.figures)
    listed = "\n".join(section.commands)
    yield f":::{{dropdown}} To make it again\n```\n{listed}\n```\n:::"


def page(folder: Path) -> str:
    """The page, once its pictures are drawn into a folder."""
    found = {dataset: gather(dataset) for dataset in DATASETS}
    draw(found, folder)
    whole = {section.title: section for section in sections(found)}
    first = [whole.pop(BOARD), whole.pop(CLAIMS)]
    blocks = ["# Dense and sparse", f"{INTRODUCTION} Choose a data set in any of the tabs, and all of them turn."]
    return "\n\n".join([*blocks, *(block for one in (*first, *whole.values()) for block in of_section(one))]) + "\n"

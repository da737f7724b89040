"""The glossary: alphabetical, its links and everybody's links to it lead somewhere, its code names exist."""

import re

import nbformat
import pytest

from lbm_core import paths

ROOT = paths.project_root()
CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))
TEXT = (ROOT / "notebooks" / "glossary.md").read_text(encoding="utf-8")
TERMS = re.findall(r"^### (.+)$", TEXT, flags=re.M)


def _anchor(heading: str) -> str:
    """The anchor that a Markdown reader gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


ANCHORS = {_anchor(heading) for heading in re.findall(r"^#+ (.+)$", TEXT, flags=re.M)}


def _entries() -> dict[str, str]:
    parts = re.split(r"^### (.+)$", TEXT, flags=re.M)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_terms_are_alphabetical_and_told_once():
    keys = [re.sub(r"[^a-z0-9 ]", "", term.lower()) for term in TERMS]
    assert len(keys) > 90
    assert keys == sorted(set(keys))


@pytest.mark.parametrize("term", TERMS)
def test_an_entry_is_short_and_says_where(term):
    text = _entries()[term].strip()
    said, facts = text.split("\n\n")
    assert 1 <= len(re.findall(r"[.?:](?:\s|$)", said)) <= 4
    chapters = re.findall(r"ntroduced in \[chapter (\d)\]\((\w+\.ipynb)\)", facts)
    assert len(chapters) == 1
    number, file = chapters[0]
    assert file.startswith(f"0{number}")
    assert (ROOT / "notebooks" / file).exists()
    assert ("paper: " in facts) != ("not in the paper" in facts)


def test_code_names_exist():
    code = "\n".join(path.read_text(encoding="utf-8") for path in paths.PACKAGE.rglob("*.py"))
    results = {path.stem for path in (ROOT / "results").glob("*.csv")}
    named = [name for entry in _entries().values() for name in re.findall("`([^`]+)`", entry.split("in code:")[-1])]
    assert len(named) > 90
    last = {name: re.split(r"[=(]", name)[0].split("/")[-1].removesuffix(".py").split(".")[-1] for name in named}
    scripts = {path.stem for path in (ROOT / "scripts").glob("*.py")}
    missing = [n for n, word in last.items() if not re.search(rf"\b{re.escape(word)}\b", code)]
    assert not [name for name in missing if last[name] not in results | scripts]


def test_links_inside_resolve():
    links = re.findall(r"\]\(([^)\s]+)\)", TEXT)
    assert len(links) > 100
    for link in links:
        file, _, anchor = link.partition("#")
        assert (ROOT / "notebooks" / file).exists(), link
        assert not anchor or anchor in ANCHORS, link


def _links_to_the_glossary() -> list[tuple[str, str]]:
    """(file, anchor) of every link to the glossary in chapters and pages."""
    found = []
    for path in [*CHAPTERS, *(ROOT / "notebooks").rglob("*.md"), ROOT / "README.md"]:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".ipynb":
            cells = nbformat.reads(text, as_version=4).cells
            text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        for link in re.findall(r"\]\(([^)\s]*glossary\.md[^)\s]*)\)", text):
            file, _, anchor = link.partition("#")
            assert (path.parent / file).resolve() == ROOT / "notebooks" / "glossary.md", f"{path.name}: {link}"
            found.append((path.name, anchor))
    return found


def test_links_to_the_glossary_resolve():
    links = _links_to_the_glossary()
    assert {"README.md"} <= {name for name, _ in links}
    assert not [(name, anchor) for name, anchor in links if anchor and anchor not in ANCHORS]

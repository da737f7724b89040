"""Build the book: a static site of all chapters, results, interactive parts, slides and the bidders' interface.

    python docs/book/build.py                 # into build/book/html; open index.html there
    python docs/book/build.py --out FOLDER    # elsewhere

Notebooks are shown as they are stored, none is run. Needs the extra "book" of pyproject.toml, and no network.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT / "scripts"), str(HERE)]  # beside them, as scripts are run

import book_data  # noqa: E402
import book_results  # noqa: E402
import book_slides  # noqa: E402

PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "docs/paper_beside_ours.md",
    "notebooks/*.md",
    "notebooks/*.ipynb",
)
SLIDES = ("01_data", "05_gqpo")
_LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\((?!https?:|mailto:|#)([^)\s#]+)(#[^)\s]*)?\)")
_CODE = r"```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$]*\$"
_NO_PROSE = rf"{_CODE}|!?\[[^\]]*\]\([^)]*\)|^ *[#|][^\n]*|<summary>.*?</summary>|<[^>\n]+>"


def play(name: str, data: Any) -> str:
    """The HTML of an interactive part: an empty box, its data, and the scripts that fill it."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("</", "<\\/")
    return (
        f'<div class="play" id="{name}"><noscript>This part needs JavaScript.</noscript></div>\n'
        f'<script type="application/json" id="{name}-data">{text}</script>\n'
        f'<script src="../_static/play.js"></script>\n<script src="../_static/{name}.js"></script>\n'
    )


def linked(text: str, page: Path, source: Path) -> str:
    """A page's Markdown without links that lead to what the book does not show; their words stay."""

    def kept(found: re.Match[str]) -> str:
        target = (source / page.parent / found[2]).resolve()
        inside = target.is_file() and target.is_relative_to(source.resolve())
        return found[0] if inside else found[1]

    return _LINK.sub(kept, text)


def terms(glossary: str) -> dict[str, str]:
    """The anchor of each glossary term by its name in lower case, less "Check (of a text)" and its like: too common."""
    names = [name for name in re.findall(r"^### (.+)$", glossary, flags=re.M) if not re.search(r"\((of|P)", name)]
    anchors = {name: re.sub(r"[^\w\- ]", "", name.lower()).replace(" ", "-") for name in names}
    return {re.sub(r" \(.*", "", name).lower(): anchor for name, anchor in anchors.items()}


def mentioned(texts: list[str], anchors: dict[str, str]) -> list[str]:
    """A chapter's Markdown cells, in whose prose the first mention of each term links to the glossary."""
    words = "|".join(map(re.escape, sorted(anchors, key=len, reverse=True)))
    pattern = re.compile(rf"{_NO_PROSE}|(?<![\w-])(?P<term>{words})s?(?![\w-])", re.M | re.S | re.I)
    left = dict(anchors)

    def link(found: re.Match[str]) -> str:
        term = (found["term"] or "").lower()
        return f"[{found[0]}](glossary.md#{left.pop(term)})" if term in left else found[0]

    return [pattern.sub(link, text) for text in texts]


def unlink(source: Path) -> None:
    """Mend the links of all gathered pages, and link chapters to the glossary."""
    anchors = terms((source / "notebooks/glossary.md").read_text(encoding="utf-8"))
    for path in sorted([*source.rglob("*.md"), *source.rglob("*.ipynb")]):
        page, text = path.relative_to(source), path.read_text(encoding="utf-8")
        if path.suffix == ".md":
            path.write_text(linked(text, page, source), encoding="utf-8")
            continue
        book = json.loads(text)
        cells = [cell for cell in book["cells"] if cell["cell_type"] == "markdown"]
        texts = mentioned([linked("".join(cell["source"]), page, source) for cell in cells], anchors)
        for cell, changed in zip(cells, texts, strict=True):
            cell["source"] = changed
        path.write_text(json.dumps(book, ensure_ascii=False), encoding="utf-8")


def gather(source: Path) -> None:
    """Write all that Sphinx reads into a folder: the checkout's pages, and those that are made here."""
    for path in (path for pattern in ("*.md", "conf.py", "_static/*", "play/*.md") for path in HERE.glob(pattern)):
        target = source / path.relative_to(HERE)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    shown = [path for pattern in PAGES for path in ROOT.glob(pattern)]
    for path in (*shown, *ROOT.glob("figures/*.png")):
        target = source / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    (source / "code/auction").mkdir(parents=True)
    shutil.copyfile(ROOT / "lbm_core/auction/bidder.py", source / "code/auction/bidder.py")
    with contextlib.redirect_stdout(io.StringIO()):  # it would name files of the build folder
        (source / "results.md").write_text(book_results.page(source), encoding="utf-8")
    for name, data in {"bidder": book_data.bidder(), "sweep": book_data.sweep(), "late": book_data.late()}.items():
        (source / f"play/{name}.html").write_text(play(name, data), encoding="utf-8")
    unlink(source)


def main(
    out: Annotated[Path, typer.Option(help="Where the book goes; a part of an earlier build is replaced.")] = ROOT
    / "build/book",
) -> None:
    """Build the book."""
    source, html = out / "source", out / "html"
    for folder in (source, html):
        shutil.rmtree(folder, ignore_errors=True)
    gather(source)
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "-d", str(out / "doctrees")]
    if code := subprocess.run([*command, str(source), str(html)]).returncode:
        sys.exit(code)
    book_slides.write([source / f"notebooks/{name}.ipynb" for name in SLIDES], html / "slides")
    print(f"open {html / 'index.html'}")


if __name__ == "__main__":
    typer.run(main)

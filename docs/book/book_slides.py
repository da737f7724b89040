"""Chapters as slides: nbconvert's, with reveal.js and MathJax from packages, so that no network is needed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from importlib.metadata import files
from pathlib import Path

import nbformat
from nbconvert import SlidesExporter
from nbformat import NotebookNode
from traitlets.config import Config

HERE = Path(__file__).resolve().parent
SKIPPED = ("Goals", "Runtime", "Paper map", "Deviations", "Exercises", "Try next", "Results")  # sections for readers
MOST_WORDS = 75  # of a text that stands on a slide; a longer one is for the speaker
MOST_LINES = 14  # of code on a slide
HIDDEN = "hide-code"
REVEAL = (
    "dist/reveal.js",
    "dist/reveal.css",
    "dist/reset.css",
    "dist/theme/white.css",
    "dist/theme/fonts",
    "plugin/notes",
)


def _packaged(package: str, inside: str) -> Path:
    """A folder that an installed package brings, by its path below the package's own."""
    for file in files(package) or ():
        if f"/{inside}/" in str(file):
            path = Path(str(file.locate()))
            return next(parent for parent in path.parents if str(parent).endswith(f"/{inside}"))
    raise FileNotFoundError(f"{package} has no {inside}; install the extra 'book': pip install -e .[book]")


def _pictures(cell: NotebookNode) -> bool:
    """Whether a cell's output is a picture."""
    return any("image/png" in output.get("data", {}) for output in cell.get("outputs", []))


def slides(book: NotebookNode) -> NotebookNode:
    """A notebook as slides: every section begins one, pictures and short texts stand on it, long texts are notes.

    Of code only what is short and prints something is shown; a picture stands without the code that drew it.
    """
    made, skipped = [], False
    for cell in book.cells:
        if cell.cell_type == "markdown":
            for block in filter(None, (part.strip() for part in cell.source.split("\n\n"))):
                heading, _, rest = block.partition("\n") if block.startswith("#") else ("", "", block)
                if heading:
                    skipped = heading.lstrip("#").strip() in SKIPPED
                if not skipped:
                    made += _texts(heading, rest.strip())
        elif not skipped and cell.get("outputs") and "parameters" not in cell.metadata.get("tags", ()):
            made.append(_shown(cell))
    book.cells = made
    return book


def _texts(heading: str, text: str) -> list[NotebookNode]:
    """A heading, which begins a slide, and a text as a piece of it or as notes; ways to other chapters are left out."""
    text = re.sub(r"\[([^\]]*)\]\(glossary\.md#[^)]*\)", r"\1", text)  # only pages have them
    kinds = {"slide": heading and f"## {heading.lstrip('#').strip()}"}
    if "[←" not in text:
        kinds["notes" if len(text.split()) > MOST_WORDS and not text.startswith("|") else "-"] = text
    cells = [(kind, nbformat.v4.new_markdown_cell(words)) for kind, words in kinds.items() if words]
    for kind, cell in cells:
        cell.metadata.slideshow = nbformat.from_dict({"slide_type": kind})
    return [cell for _, cell in cells]


def _shown(cell: NotebookNode) -> NotebookNode:
    """A code cell as it stands on a slide."""
    picture = _pictures(cell)
    outputs = [output for output in cell.outputs if not (picture and output.output_type == "stream")]
    shown = nbformat.v4.new_code_cell(cell.source, outputs=outputs, execution_count=cell.execution_count)
    hidden = picture or len(cell.source.splitlines()) > MOST_LINES
    shown.metadata = nbformat.from_dict({"tags": [HIDDEN] if hidden else [], "slideshow": {"slide_type": "subslide"}})
    return shown


def write(notebooks: Iterable[Path], folder: Path) -> None:
    """Write notebooks' slides into a new folder of the site, with reveal.js beside them."""
    reveal = _packaged("sphinx-revealjs", "revealjs")
    for part in REVEAL:  # its other themes load fonts from a network
        (folder / "reveal.js" / part).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (reveal / part).is_dir() else shutil.copyfile
        copy(reveal / part, folder / "reveal.js" / part)
    config = Config({"TagRemovePreprocessor": {"enabled": True, "remove_input_tags": {HIDDEN}}})
    exporter = SlidesExporter(config=config, extra_template_basedirs=[str(HERE)], template_name="slides")
    exporter.reveal_url_prefix, exporter.reveal_theme = "reveal.js", "white"
    exporter.exclude_input_prompt = True
    exporter.exclude_output_prompt = exporter.exclude_anchor_links = True
    for notebook in notebooks:
        book = slides(nbformat.read(notebook, as_version=4))
        text, _ = exporter.from_notebook_node(book, {"metadata": {"name": notebook.stem}})
        (folder / f"{notebook.stem}.html").write_text(text, encoding="utf-8")

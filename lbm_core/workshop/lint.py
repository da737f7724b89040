"""Rules for committed notebooks that neither papermill nor nbval enforce."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from lbm_core.workshop.execute import cleaned
from lbm_core.workshop.notebooks import parameters_of

MAX_BYTES = 300_000
# The anatomy: sections in this order, after a title "# N · …".
SECTIONS = [
    *("The claim", "Goals", "Runtime", "Paper map", "Results"),
    *("The paper beside ours", "Takeaways", "Deviations", "Exercises", "Try next"),
]
_FORBIDDEN = {  # in cells and their outputs
    # From the root of a file system; not a URL's, not the slash in "and/or", not a closing HTML tag.
    "absolute path": re.compile(r"(?<![\w:/.~<*}\-])/(?:[A-Za-z0-9_.\-]+/)+[A-Za-z0-9_.\-]+|\b[A-Z]:\\\w"),
    "memory address": re.compile(r"\bat 0x[0-9a-f]{6,}"),
}
_SHELL = re.compile(r"^\s*[!%]", re.MULTILINE)


def lint(path: Path) -> list[str]:
    """What is wrong with a notebook file, one sentence each; an empty list if nothing."""
    return [f"{path.name}: {sentence}" for sentence in _sentences(path)]


def _sentences(path: Path) -> Iterator[str]:
    if path.stat().st_size > MAX_BYTES:
        yield f"{path.stat().st_size} bytes, at most {MAX_BYTES} are allowed"
    notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    if notebook != cleaned(copy.deepcopy(notebook)):
        yield "format is not 4.5, kernelspec not python3, or a tool left metadata: run 'lbm notebooks strip'"
    try:
        parameters_of(notebook)
    except ValueError as error:
        yield str(error)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if [cell.execution_count for cell in code] != list(range(1, len(code) + 1)):
        yield "execution counts are not 1, 2, 3, …: run 'lbm notebooks store'"
    if code and not any(cell.outputs for cell in code):
        yield "no stored outputs: run 'lbm notebooks store'"
    yield from _anatomy([cell.source if cell.cell_type == "markdown" else "" for cell in notebook.cells])
    for number, cell in enumerate(notebook.cells, 1):
        yield from (f"cell {number}: {sentence}" for sentence in _of_cell(cell))


def _anatomy(texts: list[str]) -> Iterator[str]:
    """Title and sections, from the Markdown of all cells."""
    first = texts[0] if texts else ""
    if not re.match(r"# \d+ · \S", first):
        yield "the first cell must be Markdown with the title '# N · …'"
    if "](README.md)" not in first:
        yield "the first cell must link to the index (README.md)"
    lines = [line.removeprefix("## ") for text in texts for line in text.splitlines() if line.startswith("## ")]
    yield from (f"section '## {name}' is missing" for name in SECTIONS if name not in lines)
    present = [lines.index(name) for name in SECTIONS if name in lines]
    if present != sorted(present):
        yield f"the sections must come in the order {', '.join(SECTIONS)}"


def _of_cell(cell: NotebookNode) -> Iterator[str]:
    if not cell.source.strip():
        yield "empty"
    if cell.cell_type == "code" and _SHELL.search(cell.source):
        yield "shell or magic command"
    texts = [cell.source]
    for output in cell.get("outputs", []):
        if output.output_type == "error":
            yield f"stored error {output.ename}"
        texts += [output.get("text", "")]
        texts += [str(content) for kind, content in output.get("data", {}).items() if not kind.startswith("image/")]
    for what, rule in _FORBIDDEN.items():
        yield from (f"{what} {hit.group()!r}" for text in texts if (hit := rule.search(text)))

"""Rules for committed notebooks that neither papermill nor nbval enforce."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from lbm_core.workshop import parameters
from lbm_core.workshop.clean import KERNELSPEC

MAX_BYTES = 300_000
# The anatomy: sections in this order, after a title "# N · …".
SECTIONS = (
    "The claim",
    "Goals",
    "Runtime",
    "Paper map",
    "Results",
    "The paper beside ours",
    "Takeaways",
    "Deviations",
    "Exercises",
    "Try next",
)
_TITLE = re.compile(r"# \d+ · \S")
# A path from the root of a file system; not a URL's, not the slash in "and/or", not a closing HTML tag.
_ABSOLUTE = re.compile(r"(?<![\w:/.~<*}\-])/(?:[A-Za-z0-9_.\-]+/)+[A-Za-z0-9_.\-]+|\b[A-Z]:\\\w")
_ADDRESS = re.compile(r"\bat 0x[0-9a-f]{6,}")
_SHELL = re.compile(r"^\s*[!%]", re.MULTILINE)


def lint(path: Path) -> list[str]:
    """What is wrong with a notebook file, one sentence each; an empty list if nothing."""
    found = []
    if path.stat().st_size > MAX_BYTES:
        found.append(f"{path.stat().st_size} bytes, at most {MAX_BYTES} are allowed")
    notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    if (notebook.nbformat, notebook.nbformat_minor) != (4, 5):
        found.append(
            f"notebook format {notebook.nbformat}.{notebook.nbformat_minor}, not 4.5: run 'lbm notebooks strip'"
        )
        return [f"{path.name}: {sentence}" for sentence in found]
    for rule in (_metadata, _parameters, _anatomy, _execution, _cells):
        found.extend(rule(notebook))
    return [f"{path.name}: {sentence}" for sentence in found]


def _metadata(notebook: NotebookNode) -> Iterator[str]:
    if notebook.metadata.get("kernelspec") != KERNELSPEC:
        yield "kernelspec is not python3: run 'lbm notebooks strip'"
    extra = set(notebook.metadata) - {"kernelspec", "language_info"}
    if extra:
        yield f"metadata {min(extra)!r} left by a tool: run 'lbm notebooks strip'"
    for i, cell in enumerate(notebook.cells):
        if set(cell.metadata) - {"tags"}:
            yield f"cell {i + 1}: metadata {min(set(cell.metadata) - {'tags'})!r}: run 'lbm notebooks strip'"


def _parameters(notebook: NotebookNode) -> Iterator[str]:
    try:
        parameters.parameters_of(notebook)
    except ValueError as error:
        yield str(error)


def _anatomy(notebook: NotebookNode) -> Iterator[str]:
    first = notebook.cells[0].source if notebook.cells and notebook.cells[0].cell_type == "markdown" else ""
    if not _TITLE.match(first):
        yield "the first cell must be Markdown with the title '# N · …'"
    if "](README.md)" not in first:
        yield "the first cell must link to the index (README.md)"
    text = [line for cell in notebook.cells if cell.cell_type == "markdown" for line in cell.source.splitlines()]
    places = [text.index(f"## {name}") if f"## {name}" in text else None for name in SECTIONS]
    for name, place in zip(SECTIONS, places, strict=True):
        if place is None:
            yield f"section '## {name}' is missing"
    present = [place for place in places if place is not None]
    if present != sorted(present):
        yield f"the sections must come in the order {', '.join(SECTIONS)}"


def _execution(notebook: NotebookNode) -> Iterator[str]:
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if [cell.execution_count for cell in code] != list(range(1, len(code) + 1)):
        yield "execution counts are not 1, 2, 3, …: run 'lbm notebooks store'"
    if code and not any(cell.outputs for cell in code):
        yield "no stored outputs: run 'lbm notebooks store'"


def _cells(notebook: NotebookNode) -> Iterator[str]:
    for i, cell in enumerate(notebook.cells):
        where = f"cell {i + 1}"
        if not cell.source.strip():
            yield f"{where}: empty"
        if cell.cell_type == "code" and _SHELL.search(cell.source):
            yield f"{where}: shell or magic command"
        for text in [cell.source, *_texts(cell)]:
            for rule, what in ((_ABSOLUTE, "absolute path"), (_ADDRESS, "memory address")):
                if hit := rule.search(text):
                    yield f"{where}: {what} {hit.group()!r}"
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                yield f"{where}: stored error {output.ename}"


def _texts(cell: NotebookNode) -> Iterator[str]:
    """The readable outputs of a cell (pictures apart)."""
    for output in cell.get("outputs", []):
        if output.output_type == "stream":
            yield output.text
        data: dict[str, Any] = output.get("data", {})
        for kind, content in data.items():
            if not kind.startswith("image/"):
                yield content if isinstance(content, str) else repr(content)

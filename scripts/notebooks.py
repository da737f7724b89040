"""The committed notebooks: run and stored, cleaned, and checked by rules that neither papermill nor nbval enforce.

    python scripts/notebooks.py store notebooks/05_gqpo.ipynb   # run at TIER=cached, the outputs kept in the file
    python scripts/notebooks.py strip    # run metadata removed; cells, tags and outputs stay
    python scripts/notebooks.py lint

Without files each is about all chapters.
"""

from __future__ import annotations

import ast
import base64
import copy
import io
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import nbformat
import typer
from nbformat import NotebookNode
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from lbm_core.files import writing_file
from lbm_core.workshop.execute import Outcome, execute
from lbm_core.workshop.notebooks import TYPES, select

MAX_BYTES = 300_000
# The anatomy: sections in this order, after a title "# N · …".
SECTIONS = [
    *("The claim", "Goals", "Runtime", "Paper map", "Results"),
    *("The paper beside ours", "Takeaways", "Deviations", "Exercises", "Try next"),
]
# Every notebook has these, with these defaults. SET holds what differs from the tier, by dotted field.
REQUIRED: dict[str, Any] = {"TIER": "cached", "DATASET": "dense", "SEED": 0, "OUTPUT_DIR": "", "SET": {}}
_FORBIDDEN = {  # in cells and their outputs
    # From the root of a file system; not a URL's, not the slash in "and/or", not a closing HTML tag.
    "absolute path": re.compile(r"(?<![\w:/.~<*}\-])/(?:[A-Za-z0-9_.\-]+/)+[A-Za-z0-9_.\-]+|\b[A-Z]:\\\w"),
    "memory address": re.compile(r"\bat 0x[0-9a-f]{6,}"),
}
_CURE = "run 'python scripts/notebooks.py"
_DRAWN = re.compile(r"^wrote \S+\.png", re.MULTILINE)
_SHELL = re.compile(r"^\s*[!%]", re.MULTILINE)
_KERNELSPEC = {"display_name": "Python 3", "language": "python", "name": "python3"}
_INSERTED = {"injected-parameters", "papermill-error-cell-tag"}  # tags of cells that papermill puts in

app = typer.Typer(
    help="Run, clean and check the committed notebooks.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
Files = Annotated[
    list[Path] | None, typer.Argument(exists=True, dir_okay=False, help="Notebook files; default: all chapters.")
]


def cleaned(notebook: NotebookNode) -> NotebookNode:
    """A notebook with normal metadata, cells numbered in order, tags and outputs kept, nothing else."""
    kept = [cell for cell in notebook.cells if not _INSERTED & set(cell.metadata.get("tags", []))]
    for k, cell in enumerate(kept, 1):
        cell.metadata = NotebookNode({name: tags for name, tags in cell.metadata.items() if name == "tags" and tags})
        cell.id = f"cell-{k:02d}"
        for output in cell.get("outputs", []):
            if "metadata" in output:
                output.metadata = NotebookNode()
    metadata = {"kernelspec": _KERNELSPEC, "language_info": {"name": "python"}}
    return nbformat.from_dict({"cells": kept, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5})


def with_palettes(notebook: NotebookNode) -> NotebookNode:
    """The notebook with its PNG outputs reduced to 256 colours: a third of the size, no difference that one sees."""
    outputs = [output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", [])]
    for data in (data for data in outputs if "image/png" in data):
        picture, buffer = Image.open(io.BytesIO(base64.b64decode(data["image/png"]))), io.BytesIO()
        if picture.mode != "P":
            reduced = picture.convert("RGB").quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
            reduced.save(buffer, "png", optimize=True)
            data["image/png"] = base64.b64encode(buffer.getvalue()).decode()
    return notebook


def _write(notebook: NotebookNode, path: Path) -> bool:
    """Write a notebook file; True if it changed."""
    text = nbformat.writes(notebook).rstrip("\n") + "\n"
    if text == path.read_text(encoding="utf-8"):
        return False
    with writing_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return True


def strip(path: Path) -> bool:
    """Clean a notebook file in place; True if it changed."""
    return _write(cleaned(nbformat.read(path, as_version=4)), path)


def store(path: Path) -> Outcome:
    """Run a notebook with its defaults (``TIER=cached``) and keep the outputs in the file; unchanged if it fails."""
    with tempfile.TemporaryDirectory() as folder:
        executed = Path(folder) / path.name
        outcome = execute(path, executed, {})
        if not outcome.error:
            _write(with_palettes(cleaned(nbformat.read(executed, as_version=4))), path)
    return outcome


def lint(path: Path) -> list[str]:
    """What is wrong with a notebook file, one sentence each; an empty list if nothing."""
    return [f"{path.name}: {sentence}" for sentence in _sentences(path)]


def _sentences(path: Path) -> Iterator[str]:
    if path.stat().st_size > MAX_BYTES:
        yield f"{path.stat().st_size} bytes, at most {MAX_BYTES} are allowed"
    notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    if notebook != cleaned(copy.deepcopy(notebook)):
        yield f"format is not 4.5, kernelspec not python3, or a tool left metadata: {_CURE} strip'"
    try:
        check_parameters(notebook)
    except ValueError as error:
        yield str(error)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if [cell.execution_count for cell in code] != list(range(1, len(code) + 1)):
        yield f"execution counts are not 1, 2, 3, …: {_CURE} store'"
    if code and not any(cell.outputs for cell in code):
        yield f"no stored outputs: {_CURE} store'"
    yield from _anatomy([cell.source if cell.cell_type == "markdown" else "" for cell in notebook.cells])
    for number, cell in enumerate(notebook.cells, 1):
        yield from (f"cell {number}: {sentence}" for sentence in _of_cell(cell))


def check_parameters(notebook: NotebookNode) -> None:
    """ValueError unless one cell has the parameters, each a line ``NAME: type = literal``, and all required ones."""
    tagged = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) != 1:
        raise ValueError(f"{len(tagged)} cells tagged 'parameters', there must be exactly one")
    declared: dict[str, tuple[str, Any]] = {}
    try:
        for statement in ast.parse(tagged[0].source).body:
            name, kind, value = _declared(statement)
            if name in declared:
                raise ValueError(f"{name} is declared twice")
            declared[name] = kind, value
    except (ValueError, SyntaxError) as error:
        raise ValueError(f"parameters cell: {error}") from None
    for name, value in REQUIRED.items():
        if declared.get(name) != (kind := type(value).__name__, value):
            raise ValueError(f"parameters cell must hold {name}: {kind} = {value!r}")


def _declared(statement: ast.stmt) -> tuple[str, str, Any]:
    """Name, type and default of one line of a parameters cell."""
    line = ast.unparse(statement)
    form = re.match(rf"([A-Z][A-Z\d_]*): ({'|'.join(TYPES)}) = ", line)
    if not (isinstance(statement, ast.AnnAssign) and form):
        wanted = f"the form NAME: type = literal, upper-case, with one of the types {', '.join(TYPES)}"
        raise ValueError(f"{line!r} must have {wanted}")
    try:
        value = ast.literal_eval(statement.value or "")
        return form[1], form[2], TypeAdapter(TYPES[form[2]]).validate_python(value, strict=True)
    except ValidationError:
        raise ValueError(f"{line!r} is declared {form[2]} but its default is not") from None
    except ValueError:
        raise ValueError(f"{line!r} must be a plain literal: nothing is derived in the parameters cell") from None


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
    drawn = sum(len(_DRAWN.findall(output.get("text", ""))) for output in cell.get("outputs", []))
    if drawn > (shown := sum("image/png" in output.get("data", {}) for output in cell.get("outputs", []))):
        yield f"wrote {drawn} figures and shows {shown} pictures: {_CURE} store'"
    for what, rule in _FORBIDDEN.items():
        yield from (f"{what} {hit.group()!r}" for text in texts if (hit := rule.search(text)))


@app.command("lint")
def lint_files(files: Files = None) -> None:
    """Check the rules for committed notebooks."""
    paths = files or select()
    sentences = [sentence for path in paths for sentence in lint(path)]
    print("\n".join(sentences) or f"{len(paths)} notebooks, nothing found")
    if sentences:
        raise ValueError(f"{len(sentences)} findings in {len(paths)} notebooks")


@app.command("strip")
def strip_files(files: Files = None) -> None:
    """Remove run metadata; keep cells, tags and outputs."""
    for path in files or select():
        print(f"{path.name}: {'cleaned' if strip(path) else 'already clean'}")


@app.command("store")
def store_files(files: Files = None) -> None:
    """Run at TIER=cached and keep the outputs in the notebook files."""
    for path in files or select():
        outcome = store(path)
        if outcome.error:
            raise RuntimeError(f"{path.name} failed at {outcome.error}; the file is unchanged")
        print(f"{path.name}: stored, {outcome.seconds:.0f} s, peak {outcome.peak_mib:.0f} MiB", flush=True)


if __name__ == "__main__":
    try:
        app()
    except (ValueError, OSError, RuntimeError) as error:
        sys.exit(f"error: {error}")

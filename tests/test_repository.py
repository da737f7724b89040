"""The tree itself: imports point one way, nothing names a machine, style and types are clean."""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from lbm_core import paths

ROOT = paths.project_root()
BASE = {"settings", "tiers", "tier_sections", "paths", "seeding", "files"}
# Floor by floor: what each folder may import besides itself and BASE. Nothing may import pipeline, cli or notebooks
# but what stands on top of them.
FLOORS: dict[str, set[str]] = {
    "auction": set(),
    "data": {"auction"},
    "training": {"data"},
    "act": {"auction", "data", "training"},
    "critic": {"auction", "data", "training"},
    "evaluation": {"auction", "data"},
    "think": {"auction", "data", "act", "critic", "evaluation"},
    "report": {"auction", "data", "evaluation"},
    "baselines": {"auction", "data", "act", "critic", "evaluation", "think", "report"},
    "pipeline": {"auction", "data", "act", "critic", "evaluation", "think", "report", "baselines"},
    "workshop": {"auction", "data", "act", "critic", "evaluation", "think", "report", "baselines", "pipeline"},
    "cli": {"auction", "data", "evaluation", "report", "pipeline", "workshop"},
}
HEAVY = ("torch", "transformers", "trl", "peft", "vllm")
NEVER_HEAVY = ("auction", "data", "evaluation", "report")


@cache
def _modules() -> dict[str, Path]:
    """Dotted name below lbm_core -> file."""
    found = {}
    for path in sorted(paths.PACKAGE.rglob("*.py")):
        parts = path.relative_to(paths.PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def _imports(name: str) -> set[str]:
    """Modules below lbm_core that a module imports anywhere in its text; others by their full name."""
    tree = ast.parse(_modules()[name].read_text())
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative import"
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for full in names:
            inner = full.removeprefix("lbm_core.")
            if full.startswith("lbm_core.") and inner in _modules():
                found.add(inner)
            elif not full.startswith("lbm_core"):
                found.add(full)
    return found


def _floor(module: str) -> str:
    return module.split(".")[0]


def _below() -> list[str]:
    return [name for name in _modules() if name]


@pytest.mark.parametrize("module", _below())
def test_imports_point_one_way(module):
    floor = _floor(module)
    assert floor in FLOORS or floor in BASE, f"{module}: give the new folder a place in FLOORS"
    allowed = BASE | {floor} | FLOORS.get(floor, set())
    inner = {_floor(name) for name in _imports(module) if name in _modules()}
    if floor in BASE:
        allowed = BASE
    assert inner <= allowed, f"{module} imports {sorted(inner - allowed)}"


def test_no_module_imports_itself_in_a_circle():
    graph = {name: {other for other in _imports(name) if other in _modules() and other} - {name} for name in _below()}
    folders = {name for name in _below() if _modules()[name].name == "__init__.py"}
    for name in folders:  # "from folder import module" names the folder too; an empty __init__ imports nothing
        graph[name] = graph[name] - folders
    graphlib.TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("floor", NEVER_HEAVY)
def test_floors_that_never_import_torch(floor):
    names = [name for name in _below() if _floor(name) == floor]
    text = {name: [other for other in _imports(name) if other.split(".")[0] in HEAVY] for name in names}
    assert not any(text.values()), text
    listed = ", ".join(f"lbm_core.{name}" for name in names)
    code = f"import sys; import {listed}; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_importing_the_package_is_light():
    code = "import sys, lbm_core; print([n for n in ('torch', 'numpy', 'pandas') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("module", _below())
def test_library_files_are_thin_and_hold_no_pickle(module):
    assert len(_modules()[module].read_text().splitlines()) <= 350
    assert not _imports(module) & {"pickle", "dill", "cloudpickle"}


def _tracked() -> list[Path]:
    """Tracked files; in an unpacked archive without git, all files that are not build or run products."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode == 0:
        return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]
    skipped = {".venv", "runs", "build", "_smoke", "__pycache__"}
    return [path for path in ROOT.rglob("*") if path.is_file() and not skipped & set(path.parts)]


def test_no_tracked_file_names_a_machine():
    home = str(Path.home())
    literal = [str(ROOT), sys.prefix, *([home + "/"] if len(home) > 2 else [])]
    patterns = [re.escape(text) for text in literal] + ["/(?:home|Users)/[a-z]", "index" + "-url"]
    rule = re.compile("|".join(patterns))
    found = []
    for path in _tracked():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        if path.name != Path(__file__).name and (hit := rule.search(text)):
            found.append(f"{path.relative_to(ROOT)}: {hit.group()}")
    assert not found


def test_tracked_files_are_small_and_run_products_are_not_tracked():
    for path in _tracked():
        name = path.relative_to(ROOT).as_posix()
        assert path.stat().st_size < 2 * 2**20, name
        assert not re.match(r"(runs|build)/|(results|figures)/_|.*\.(pkl|pickle|pt|bin)$", name), name


@pytest.mark.parametrize("command", [["ruff", "check"], ["ruff", "format", "--check"], ["mypy"]], ids=" ".join)
def test_style_and_types(command):
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


def test_every_published_file_that_the_readme_names_exists():
    text = (ROOT / "README.md").read_text()
    for name in re.findall(r"\]\((?!https?://|#)([^)]+)\)", text):
        assert (ROOT / name).exists(), name


def test_the_changelog_knows_the_version():
    import lbm_core

    assert f"## {lbm_core.__version__}" in (ROOT / "CHANGELOG.md").read_text()
    assert f"version: {lbm_core.__version__}" in (ROOT / "CITATION.cff").read_text()

"""The tree itself: imports point one way, nothing names a machine, style and types are clean."""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from lbm_core import paths

ROOT = paths.project_root()
# The floors of the house from the ground up; a module imports from its own room and from floors below, nowhere else.
GROUND = ("settings", "paths", "seeding", "files")
FLOORS: tuple[tuple[str, ...], ...] = (
    GROUND,
    ("auction",),
    ("data",),
    ("training",),
    ("evaluation",),
    ("act", "critic"),
    ("think",),
    ("baselines",),
    ("lab",),
    ("studies",),
    ("report",),
    ("workshop",),
    ("cli",),
)
LEVEL = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}
HEAVY = ("torch", "transformers", "trl", "peft", "vllm")
NEVER_HEAVY = ("auction", "evaluation", "report", "lab")
THE_PAPER = ("auction", "data", "act", "critic", "think")  # rooms that a reader of the paper reads
MOST_LINES = 18_000  # of the library; of these MOST_CODE without docstrings, comments and blank lines
MOST_CODE = 12_000
MOST_LINES_OF_THE_PAPER = 8_500
MOST_LINES_OF_A_MODULE = 300
MOST_PARAMETERS = 7


@cache
def _modules() -> dict[str, Path]:
    """Dotted name below lbm_core -> file; the package itself is ""."""
    files = {}
    for path in sorted(paths.PACKAGE.rglob("*.py")):
        parts = path.relative_to(paths.PACKAGE).with_suffix("").parts
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return files


@cache
def _tree(name: str) -> ast.Module:
    return ast.parse(_modules()[name].read_text())


def _named(name: str, node: ast.AST) -> list[str]:
    """Full names that an import statement may mean."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"{name}: relative import"
        return [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
    return []


@cache
def _imports(name: str) -> set[str]:
    """Modules below lbm_core that a module imports anywhere in its text; others by their full name."""
    full = {each for node in ast.walk(_tree(name)) for each in _named(name, node)}
    own = {each.removeprefix("lbm_core.") for each in full if each.startswith("lbm_core.")}
    return (own & set(_modules())) | {each for each in full if not each.startswith("lbm_core")}


def _room(module: str) -> str:
    return module.split(".")[0]


def _below() -> list[str]:
    return [name for name in _modules() if name]


@pytest.mark.parametrize("module", _below())
def test_imports_point_down(module):
    room = _room(module)
    assert room in LEVEL, f"{module}: give the new room a floor in FLOORS"
    rooms = {_room(name) for name in _imports(module) & set(_modules())} - {room}
    if room in GROUND:
        rooms -= set(GROUND)
    above = sorted(other for other in rooms if LEVEL[other] >= LEVEL[room])
    assert not above, f"{module} imports from {above}, which is not below {room}"


def test_no_module_imports_itself_in_a_circle():
    graph = {name: {other for other in _imports(name) if other in _modules() and other} - {name} for name in _below()}
    folders = {name for name in _below() if _modules()[name].name == "__init__.py"}
    for name in folders:  # "from folder import module" names the folder too; an empty __init__ imports nothing
        graph[name] = graph[name] - folders
    graphlib.TopologicalSorter(graph).prepare()


def _at_module_level(name: str) -> set[str]:
    """First parts of what is imported when a module is: statements outside functions and ``if TYPE_CHECKING``."""
    waiting: list[ast.AST] = [*_tree(name).body]
    first: set[str] = set()
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
            continue
        first |= {full.split(".")[0] for full in _named(name, node)}
        waiting += ast.iter_child_nodes(node)
    return first


def _light(names: list[str]) -> None:
    """Assert that modules import nothing heavy: neither by their text nor through others."""
    text = {name: _at_module_level(name) & set(HEAVY) for name in names}
    assert not any(text.values()), {name: heavy for name, heavy in text.items() if heavy}
    listed = ", ".join(f"lbm_core.{name}" for name in names)
    code = f"import sys; import {listed}; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("room", NEVER_HEAVY)
def test_rooms_that_load_no_torch(room):
    _light([name for name in _below() if _room(name) == room])


def test_configurations_load_no_torch():
    _light([name for name in _below() if name.endswith("config")])


def test_importing_the_package_is_light():
    code = "import sys, lbm_core; print([n for n in ('torch', 'numpy', 'pandas') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("module", _below())
def test_modules_are_short_and_hold_no_pickle(module):
    assert len(_modules()[module].read_text().splitlines()) <= MOST_LINES_OF_A_MODULE
    assert not _imports(module) & {"pickle", "dill", "cloudpickle"}


def _is_command(node: ast.FunctionDef) -> bool:
    """Whether a function's parameters are a command line's options."""
    given = (*node.args.args, *node.args.kwonlyargs)
    return any("Option" in ast.unparse(each.annotation) for each in given if each.annotation)


@pytest.mark.parametrize("module", _below())
def test_public_functions_take_few_parameters(module):
    tree = _tree(module)
    bodies = [tree.body, *(node.body for node in tree.body if isinstance(node, ast.ClassDef))]
    for node in (node for body in bodies for node in body if isinstance(node, ast.FunctionDef)):
        private = node.name.startswith("_") and node.name != "__init__"
        if private or _is_command(node):
            continue
        given = [each.arg for each in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
        taken = [name for name in given if name not in ("self", "cls")]
        assert len(taken) <= MOST_PARAMETERS, f"{module}.{node.name} takes {', '.join(taken)}"


def test_no_two_modules_have_one_name():
    # Every room's configurations are in its "config".
    names = [name.split(".")[-1] for name in _below() if _modules()[name].name not in ("__init__.py", "config.py")]
    assert not sorted(name for name, count in Counter(names).items() if count > 1)


def _docstring_lines(tree: ast.Module) -> set[int]:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    first = [node.body[0] for node in ast.walk(tree) if isinstance(node, documented) and node.body]
    texts = [node for node in first if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)]
    spans = [range(node.lineno, node.end_lineno + 1) for node in texts if isinstance(node.value.value, str)]
    return {line for span in spans for line in span}


def _lines(name: str) -> tuple[int, int]:
    """Lines of a module, and those of them that are neither docstring nor comment nor blank."""
    lines, documentation = _modules()[name].read_text().splitlines(), _docstring_lines(_tree(name))
    numbered = [(number, line.strip()) for number, line in enumerate(lines, 1)]
    code = [line for number, line in numbered if line and not line.startswith("#") and number not in documentation]
    return len(lines), len(code)


def test_the_library_is_thin():
    counts = {name: _lines(name) for name in _modules()}
    read = sum(count for name, (count, _) in counts.items() if _room(name) in THE_PAPER)
    assert sum(count for count, _ in counts.values()) <= MOST_LINES
    assert sum(code for _, code in counts.values()) <= MOST_CODE
    assert read <= MOST_LINES_OF_THE_PAPER


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
        # The warmed-up model's updates, an hour of two cores for everyone who has them not; every answer that chapter 5
        # asked for, of three trainings.
        larger = {"lbm_core/think/warmed_up/adapter.safetensors": 8, "results/gqpo_probes.csv": 3}
        assert path.stat().st_size < larger.get(name, 2) * 2**20, name
        assert not re.match(r"(runs|build)/|(results|figures)/_|.*\.(pkl|pickle|pt|bin)$", name), name


@pytest.mark.parametrize("command", [["ruff", "check"], ["ruff", "format", "--check"], ["mypy"]], ids=" ".join)
def test_style_and_types(command):
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


def test_every_published_file_that_the_readme_names_exists():
    text = (ROOT / "README.md").read_text()
    for name in re.findall(r"\]\((?!https?://|#)([^)]+)\)", text):
        assert (ROOT / name.partition("#")[0]).exists(), name


def test_the_changelog_knows_the_version():
    import lbm_core

    assert f"## {lbm_core.__version__}" in (ROOT / "CHANGELOG.md").read_text()
    assert f"version: {lbm_core.__version__}" in (ROOT / "CITATION.cff").read_text()

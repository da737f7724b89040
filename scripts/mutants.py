"""One change of the code at a time: do its own tests notice? `python scripts/mutants.py`.

Comparisons, operators, numbers, and names like min and max are changed, not annotations, docstrings or messages. A
mutant is tested in a forked process that imports it in the place of the module; no file is touched. It is killed when
a test fails, or when it takes far longer than the module as it is.
"""

import argparse
import ast
import contextlib
import importlib.abc
import importlib.util
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

from lbm_core import paths

ROOT = paths.project_root()


class Target(NamedTuple):
    """A module, or some of its functions, with the tests that are its own."""

    module: str
    tests: tuple[str, ...]
    functions: tuple[str, ...] = ()  # empty: all


TARGETS = {
    "auction mechanism": Target("auction.mechanism", ("auction/test_mechanism.py", "test_numbers.py")),
    "metrics": Target("auction.metrics", ("auction/test_metrics.py", "test_numbers.py")),
    "statistics": Target("evaluation.statistics", ("evaluation/test_statistics.py",)),
    "relative-Q": Target("critic.network", ("critic/test_critic.py",), ("q", "min_q", "relative_q", "_joined")),
    "GQPO selection": Target(
        "think.gqpo", ("think/test_gqpo.py", "think/test_gqpo_funnel.py", "think/test_gqpo_rules.py")
    ),
    "keys of artifacts": Target("lab.artifacts", ("lab/test_artifacts.py", "lab/test_keys.py"), ("key", "weights_of")),
    "keys of files": Target(
        "files", ("lab/test_artifacts.py", "lab/test_keys.py"), ("config_key", "weights_key", "_plain")
    ),
}
_PAIRS = [(ast.Lt, ast.LtE), (ast.Gt, ast.GtE), (ast.Eq, ast.NotEq), (ast.Add, ast.Sub), (ast.Mult, ast.Div)]
_PAIRS += [(ast.And, ast.Or), (ast.BitAnd, ast.BitOr), (ast.In, ast.NotIn), (ast.Is, ast.IsNot)]
_OTHER: dict[type, type] = {a: b for pair in _PAIRS for a, b in (pair, pair[::-1])} | {ast.Pow: ast.Mult}
_NAMES = [("min", "max"), ("minimum", "maximum"), ("argmin", "argmax"), ("idxmin", "idxmax"), ("any", "all")]
_NAMES += [("zeros", "ones"), ("head", "tail"), ("floor", "ceil"), ("mean", "sum"), ("cumsum", "cumprod")]
_RENAMED = {a: b for pair in _NAMES for a, b in (pair, pair[::-1])}
# Survivors that no test can kill, by a piece of their line and by change, each with its reason.
REASONS: dict[tuple[str, str], str] = {
    ("(rng.random((n,", "rng.random((n, N_SLOTS - 1)) < EXPOSURE[1:]: LtE"): "no draw ever meets the bound",
    ("order = np.where(best, 0.0 if", "0.0: 1.0"): "equally good ones have one number, whichever",
    ("order = np.where(best, 0.0 if", "1000000000.0: 1000000001.0"): "either is beyond every error",
    ('samples.insert(0, "prompt"', "0: 1"): "only the order of columns",
    ('samples.insert(1, "sample"', "1: 2"): "only the order of columns",
    ("right = answered", "rows['ratio_error'] <= self.tolerance + 1e-12: Lt"): "no error ever meets the bound",
    ("better = np.where", "relative_q > 0: GtE"): "what is 0 stays 0",
    ("best = (better", "better >= better.max(axis=1, keepdims=True) - 1e-12: Gt"): "the best is above the bound",
    ("return pool.head", "pool.head: tail"): "the pool is in random order",
    ("rng.random(len(who)) < values", "rng.random(len(who)) < values: LtE"): "no draw ever meets the bound",
    ("n_resamples: int = 4_000", "4000: 4001"): "one resampling more moves a bound by less than its own error",
    ("known.groupby(keys", "False: True"): "only which of several faults is named",
    ("zip(keys, key, strict", "True: False"): "both are of one length, always",
    ("pd.Series(0, frame.index)", "0: 1"): "only how many different ones there are counts",
    (
        "replace=False",
        "False: True",
    ): "fewer bids are dropped at a time, and the auction runs again until nobody overspends",
    **dict.fromkeys(
        [("bids = np.pad", change) for change in ("0: 1", "1: 2", "N_SLOTS + 1 - bids.shape[1]: Add")],
        "more bids of 0 are never ranked before another",
    ),
}


def _skipped(node: ast.AST) -> Iterator[ast.AST]:
    """Parts of a node that are not changed: annotations, docstrings and messages."""
    for name in ("annotation", "returns", "decorator_list"):
        part = getattr(node, name, None)
        yield from part if isinstance(part, list) else [part] if part else []
    if isinstance(node, ast.Raise | ast.JoinedStr):
        yield from ast.iter_child_nodes(node)


def _nodes(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    out = set(map(id, _skipped(node)))
    for child in ast.iter_child_nodes(node):
        if id(child) not in out:
            yield from _nodes(child)


def changes(tree: ast.AST) -> Iterator[tuple[int, str, Callable[[], None]]]:
    """Line, words, and a function that makes it, of every change of a tree that is known."""
    for node in _nodes(tree):
        line, text = getattr(node, "lineno", 0), ast.unparse(node)
        if isinstance(node, ast.Compare):
            for k, operator in enumerate(node.ops):
                if other := _OTHER.get(type(operator)):
                    yield line, f"{text}: {other.__name__}", partial(node.ops.__setitem__, k, other())
        elif isinstance(node, ast.BinOp | ast.BoolOp) and (other := _OTHER.get(type(node.op))):
            yield line, f"{text}: {other.__name__}", partial(setattr, node, "op", other())
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
            yield line, f"{text}: without its sign", partial(setattr, node, "op", _Nothing())
        elif isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float):
            value = not node.value if isinstance(node.value, bool) else node.value + 1
            yield line, f"{text}: {value}", partial(setattr, node, "value", value)
        elif isinstance(node, ast.List | ast.Tuple) and len(node.elts) > 1 and isinstance(node.ctx, ast.Load):
            yield line, f"{text}: without the first", partial(node.elts.pop, 0)
        elif isinstance(node, ast.Attribute | ast.Name):
            field = "attr" if isinstance(node, ast.Attribute) else "id"
            if other_name := _RENAMED.get(getattr(node, field)):
                yield line, f"{text}: {other_name}", partial(setattr, node, field, other_name)


class _Nothing(ast.unaryop):
    """In the place of a "not" or a minus that was taken away."""


class _Bare(ast.NodeTransformer):
    """What a sign that was taken away stood before."""

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        self.generic_visit(node)
        return node.operand if isinstance(node.op, _Nothing) else node


def path_of(module: str) -> Path:
    """Where a module's text is."""
    return paths.PACKAGE / f"{module.replace('.', '/')}.py"


def parts(target: Target) -> tuple[ast.Module, list[ast.AST]]:
    """A module's tree, and what of it is changed."""
    tree = ast.parse(path_of(target.module).read_text())
    named = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name in target.functions]
    return tree, named if target.functions else [tree]


def mutants(target: Target) -> list[tuple[int, str]]:
    """Line and words of every change of a target."""
    return [(line, words) for part in parts(target)[1] for line, words, _ in changes(part)]


class _Instead(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives a module from a tree."""

    def __init__(self, name: str, tree: ast.Module) -> None:
        self.name, self.tree = name, tree

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        if name != self.name:
            return None
        origin = path_of(name.removeprefix("lbm_core."))
        return importlib.util.spec_from_file_location(name, origin, loader=self)

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self.tree, str(module.__file__), "exec"), vars(module))


def passes(target: Target, number: int | None, seconds: float | None) -> bool:
    """Whether a target's tests pass with its change of some number (None: as it is), in a process of its own."""
    if not (child := os.fork()):
        tree, some = parts(target)
        if number is not None:
            [change for part in some for _, _, change in changes(part)][number]()
            tree = ast.fix_missing_locations(_Bare().visit(tree))
        if seconds is not None:
            resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + 1, int(seconds) + 2))
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        name = f"lbm_core.{target.module}"
        for loaded in [one for one in sys.modules if one.startswith("lbm_core")]:
            del sys.modules[loaded]
        sys.meta_path.insert(0, _Instead(name, tree))
        tests = [str(ROOT / "tests" / test) for test in target.tests]
        options = [
            "-x",
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:xdist",
            "-k",
            "not diverges and not slow and not reading",
        ]
        with contextlib.suppress(SystemExit):
            os._exit(int(pytest.main([*options, *tests])))
        os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=sorted(TARGETS))
    parser.add_argument("--most", type=int, default=0, help="so many changes of a module, drawn at random; 0: all")
    parser.add_argument("--record", action="store_true", help="write the counts into docs/reliability.json")
    asked = parser.parse_args(arguments)
    os.chdir(ROOT)
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0", "HYPOTHESIS_DATABASE": "none"}
    for heavy in ("numpy", "pandas", "scipy.stats", "hypothesis", "numba", "pydantic", "torch", "transformers"):
        importlib.import_module(heavy)
    for name in [asked.only] if asked.only else TARGETS:
        target = TARGETS[name]
        every, source = mutants(target), path_of(target.module).read_text().splitlines()
        numbers = list(range(len(every)))
        if asked.most:
            numbers = sorted(random.Random(0).sample(numbers, min(asked.most, len(numbers))))
        start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        assert passes(target, None, None), f"the tests of {name} fail without any change"
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = 5 * (after.ru_utime - before.ru_utime) + 20
        lived = [number for number in numbers if passes(target, number, seconds)]
        survivors = []
        for line, words in (every[number] for number in lived):
            known = [why for (piece, change), why in REASONS.items() if change == words and piece in source[line - 1]]
            survivors.append({"line": line, "change": words, "reason": "".join(known[:1])})
        row: dict[str, Any] = {"module": f"{target.module} ({name})", "mutants": len(numbers), "of": len(every)}
        row |= {"killed": len(numbers) - len(lived), "survivors": survivors}
        print(f"{name}: {row['killed']} of {row['mutants']} killed, {time.monotonic() - start:.0f} s")
        print("\n".join(f"  line {one['line']}: {one['change']}" for one in survivors), flush=True)
        if asked.record:
            from reliability import record

            record("mutants", [row], key="module")


if __name__ == "__main__":
    signal.signal(signal.SIGXCPU, signal.SIG_DFL)
    main()

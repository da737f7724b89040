"""Parameters of a notebook, checked by name and type before anything runs (papermill only warns)."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from lbm_core.settings import DATASETS, TIER_NAMES

Value = str | int | float | bool
TYPES: dict[str, type] = {"str": str, "int": int, "float": float, "bool": bool}
# Every notebook has these, with these defaults, so that the runner can set the tier of all.
REQUIRED: dict[str, Value] = {"TIER": "cached", "DATASET": "dense", "SEED": 0, "OUTPUT_DIR": ""}
_CHOICES: dict[str, tuple[str, ...]] = {"TIER": TIER_NAMES, "DATASET": DATASETS}


@dataclass(frozen=True)
class Parameter:
    """One line of a parameters cell: ``NAME: type = default``."""

    name: str
    type: str
    default: Value


def parameters_of_source(source: str) -> dict[str, Parameter]:
    """Parameters that a cell declares.

    Raises
    ------
    ValueError
        A line that is not ``NAME: str|int|float|bool = literal`` of that type.
    """
    found: dict[str, Parameter] = {}
    for statement in ast.parse(source).body:
        line = ast.unparse(statement)
        if not (isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)):
            raise ValueError(f"{line!r} must have the form NAME: type = literal")
        name, kind = statement.target.id, ast.unparse(statement.annotation)
        if kind not in TYPES or not name.isupper():
            raise ValueError(f"{line!r} must have an upper-case name and one of the types {', '.join(TYPES)}")
        try:
            default: Any = ast.literal_eval(statement.value) if statement.value else None
        except ValueError:
            raise ValueError(f"{line!r} must be a plain literal: nothing is derived in the parameters cell") from None
        if type(default).__name__ != kind:
            raise ValueError(f"{line!r} is declared {kind} but its default is not")
        if name in found:
            raise ValueError(f"{name} is declared twice")
        found[name] = Parameter(name, kind, default)
    return found


def parameters_of(notebook: NotebookNode) -> dict[str, Parameter]:
    """Parameters of a notebook.

    Raises
    ------
    ValueError
        Not exactly one cell tagged ``parameters``, a bad line in it, or a required parameter missing.
    """
    tagged = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) != 1:
        raise ValueError(f"{len(tagged)} cells tagged 'parameters', there must be exactly one")
    try:
        found = parameters_of_source(tagged[0].source)
    except (ValueError, SyntaxError) as error:
        raise ValueError(f"parameters cell: {error}") from None
    for name, default in REQUIRED.items():
        expected = Parameter(name, type(default).__name__, default)
        if found.get(name) != expected:
            raise ValueError(f"parameters cell must hold {name}: {expected.type} = {default!r}")
    return found


def read(notebook: Path) -> dict[str, Parameter]:
    """Parameters of a notebook file; errors as :func:`parameters_of`, with the file's name."""
    try:
        return parameters_of(nbformat.read(notebook, as_version=4))
    except ValueError as error:
        raise ValueError(f"{notebook.name}: {error}") from None


def parse_settings(settings: Iterable[str]) -> dict[str, str]:
    """``["ACT_STEPS=20"]`` as a mapping of names to texts."""
    chosen: dict[str, str] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or not name.strip():
            raise ValueError(f"--set wants NAME=VALUE, got {setting!r}")
        chosen[name.strip()] = text.strip()
    return chosen


def resolve(notebooks: Iterable[Path], settings: Mapping[str, str]) -> dict[Path, dict[str, Value]]:
    """What each notebook is run with: the settings that it declares, as values of the declared type.

    Parameters
    ----------
    settings : name -> text

    Raises
    ------
    ValueError
        A name that no notebook declares, or a text that is not of the declared type.
    """
    declared = {notebook: read(notebook) for notebook in notebooks}
    known = {name for parameters in declared.values() for name in parameters}
    for name in settings:
        if name not in known:
            raise ValueError(f"no selected notebook has a parameter {name!r}; they have {', '.join(sorted(known))}")
    chosen: dict[Path, dict[str, Value]] = {}
    for notebook, parameters in declared.items():
        mine = [parameters[name] for name in settings if name in parameters]
        chosen[notebook] = {parameter.name: typed(parameter, settings[parameter.name]) for parameter in mine}
    return chosen


def typed(parameter: Parameter, text: str) -> Value:
    """A text as a value of the parameter's type; ``true`` and ``false`` for bool."""
    choices = _CHOICES.get(parameter.name)
    if choices and text not in choices:
        raise ValueError(f"unknown {parameter.name} {text!r}; choose one of {', '.join(choices)}")
    if parameter.type == "str":
        return text
    if parameter.type == "bool":
        if text.lower() not in ("true", "false"):
            raise ValueError(f"{parameter.name} is a bool: true or false, got {text!r}")
        return text.lower() == "true"
    try:
        return TYPES[parameter.type](text)
    except ValueError:
        raise ValueError(f"{parameter.name} is {parameter.type}, got {text!r}") from None

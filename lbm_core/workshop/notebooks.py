"""The notebooks: the order they run in, and their parameters, checked before anything runs (papermill only warns)."""

import ast
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from lbm_core import paths
from lbm_core.settings import DATASETS, TIER_NAMES

# What a chapter takes over from earlier ones (artifacts and recorded results). Each also runs alone and then makes what
# it lacks; the order saves doing a thing twice, and two notebooks from making the same thing at once.
NEEDS: dict[str, tuple[str, ...]] = {
    "01": (),
    "02": ("01",),
    "03": ("01", "02"),  # chapter 2 may train the critic first, as a guide
    "04": ("01", "02"),
    "05": ("02", "03", "04"),
    "06": ("01", "03"),
    "07": ("02", "04"),
    # 08, and 09, whose latencies are measured with the machine to itself, need all that come before.
}
Plain = bool | int | float | str | None
Setting = Plain | list[Plain]  # a field of a tier
TYPES: dict[str, Any] = {"str": str, "int": int, "float": float, "bool": bool, "dict": dict[str, Setting]}
_SET_OTHERWISE = {"TIER": "--tier", "OUTPUT_DIR": "--output", "SET": "fields of the tier: --set act.steps=50"}
_SETTING: TypeAdapter[Setting] = TypeAdapter(Setting, config=ConfigDict(strict=True))


def select(only: str = "", folder: Path | None = None) -> list[Path]:
    """Chapters of a folder (default: the checkout's) in order: those named "02,05", "2" or "02_lbm_act", or all."""
    folder = paths.project_root() / "notebooks" if folder is None else folder
    every = sorted(path for path in folder.glob("*.ipynb") if re.match(r"\d\d_", path.name))
    if not every:
        raise FileNotFoundError(f"no notebooks named NN_name.ipynb in {folder}")
    chosen: set[Path] = set()
    for name in filter(None, (part.strip().removesuffix(".ipynb") for part in only.split(","))):
        hits = [path for path in every if name.zfill(2) in (path.stem, path.stem[:2])]
        if not hits:
            raise ValueError(f"no notebook {name!r}; there are {', '.join(path.stem for path in every)}")
        chosen.update(hits)
    return [path for path in every if path in chosen or not chosen]


def needs(notebook: Path, among: Iterable[Path]) -> list[Path]:
    """The notebooks of ``among`` that have to be finished before this one; unknown chapters need all earlier ones."""
    earlier = [path for path in among if path.stem[:2] < notebook.stem[:2]]
    return [path for path in earlier if path.stem[:2] in NEEDS.get(notebook.stem[:2], (path.stem[:2],))]


def verbatim(path: Path) -> str:
    """A path for papermill, which takes what stands in braces for a parameter."""
    return str(path).replace("{", "{{").replace("}", "}}")


def parameters_of(path: Path) -> dict[str, str]:
    """Names and types of a notebook's parameters, as papermill reads them; ValueError: a type that is none of TYPES."""
    import papermill

    kinds = {name: each["inferred_type_name"] for name, each in papermill.inspect_notebook(verbatim(path)).items()}
    if unknown := [name for name, kind in kinds.items() if kind not in TYPES]:
        raise ValueError(f"{path.name}: {unknown[0]} must be declared as one of {', '.join(TYPES)}")
    return kinds


def tier_fields(settings: Iterable[str]) -> dict[str, Setting]:
    """What ``--set NAME=VALUE`` says of fields of the tier: ``act.steps=50``, ``think.backbone=/a/path``."""
    own, fields = _parsed(settings)
    for name in own:
        raise ValueError(f"{name} would be a notebook's parameter; here --set takes a tier's fields: act.steps=50")
    return fields


def _parsed(settings: Iterable[str]) -> tuple[dict[str, str], dict[str, Setting]]:
    """Texts of notebook parameters (upper-case), and values of the tier's fields: literals or else texts."""
    own: dict[str, str] = {}
    fields: dict[str, Setting] = {}
    for setting in settings:
        name, equals, text = (part.strip() for part in setting.partition("="))
        if not (name and equals):
            raise ValueError(f"--set wants NAME=VALUE, got {setting!r}")
        if name.isupper():
            own[name] = text
            continue
        try:
            value = ast.literal_eval(text)
            fields[name] = _SETTING.validate_python(list(value) if isinstance(value, tuple) else value)
        except (ValueError, SyntaxError):
            fields[name] = text
        if name.endswith((".backbone", ".models")):
            value = fields[name]
            fields[name] = [_model(each) for each in value] if isinstance(value, list) else _model(value)
    return own, fields


def _model(name: Plain) -> Plain:
    """A model's name, or its path in full: notebooks run in another folder. FileNotFoundError: a path to nothing."""
    if not isinstance(name, str):
        return name
    path = paths.whole(name)
    if path.is_file() or (path / "config.json").is_file():
        return str(path)
    if name.startswith((".", "~", "/")) or name.endswith(".gguf") or name.count("/") > 1:
        raise FileNotFoundError(f"no model at {path}: give a folder with config.json, a .gguf file or a hub name")
    return name


def resolve(
    notebooks: Iterable[Path], settings: Iterable[str], tier: str, output: str = ""
) -> dict[Path, dict[str, Any]]:
    """What each notebook is run with, checked before anything runs; ``output`` becomes OUTPUT_DIR unless empty.

    Of the settings ``NAME=VALUE`` an upper-case parameter goes to the notebooks that declare it, a field of the tier to
    all. ValueError: a notebook with bad parameters, a name that nobody knows, a value that it cannot have.
    """
    own, fields = _parsed(settings)
    if elsewhere := [name for name in _SET_OTHERWISE if name in own]:
        raise ValueError(f"{elsewhere[0]} is set by {_SET_OTHERWISE[elsewhere[0]]}")
    own |= {"TIER": tier, "OUTPUT_DIR": output} if output else {"TIER": tier}
    for name, choices in {"TIER": TIER_NAMES, "DATASET": DATASETS}.items():
        if own.get(name, choices[0]) not in choices:
            raise ValueError(f"unknown {name} {own[name]!r}; choose one of {', '.join(choices)}")
    if fields:
        from lbm_core.lab import tiers

        tiers.tier(tier, fields)
    declared = {path: parameters_of(path) for path in notebooks}
    known = {name for types in declared.values() for name in types}
    if unknown := [name for name in own if name not in known]:
        raise ValueError(f"no selected notebook has a parameter {unknown[0]!r}; they have {', '.join(sorted(known))}")
    chosen: dict[Path, dict[str, Any]] = {path: {"SET": fields} if fields else {} for path in declared}
    for path, types in declared.items():
        for name in own.keys() & types.keys():
            try:
                chosen[path][name] = TypeAdapter(TYPES[types[name]]).validate_strings(own[name])
            except ValidationError:
                raise ValueError(f"{name} is {types[name]}, got {own[name]!r}") from None
    return chosen

"""What every configuration is made of: fields checked by type and range when it is made, with one sentence if wrong.

A configuration is a frozen dataclass. pydantic checks its annotations strictly: no text or bool passes for a number, no
NaN, nothing outside a range.
"""

import dataclasses
import functools
from typing import Annotated, Any, Literal, TypeVar, cast, dataclass_transform

from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass as checked_dataclass

Dataset = Literal["dense", "sparse"]
DATASETS: tuple[Dataset, ...] = ("dense", "sparse")
TIER_NAMES = ("cached", "smoke", "laptop", "gpu", "paper")

Count = Annotated[int, Field(ge=1)]  # of steps, layers, texts
Whole = Annotated[int, Field(ge=0)]  # that may be none: seeds, ranks
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Inside = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]  # a share that is neither none nor all

C = TypeVar("C", bound=type)
S = TypeVar("S")


@dataclass_transform(frozen_default=True)
def settings(cls: C) -> C:
    """Make a class a frozen dataclass whose fields are checked whenever one is made or :func:`dataclasses.replace`\\ d.

    Making one with a bad value is a ValueError: the field, what it must be, and what it was.
    """
    checked = checked_dataclass(cls, frozen=True, config=ConfigDict(strict=True, extra="forbid", allow_inf_nan=False))
    built: Any = checked
    inner = built.__init__

    @functools.wraps(inner)
    def checked_init(self: Any, *given: Any, **named: Any) -> None:
        try:
            inner(self, *given, **named)
        except ValidationError as error:
            raise ValueError(_sentence(cls.__name__, error)) from None

    built.__init__ = checked_init
    return cast(C, checked)


def _sentence(what: str, error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if isinstance(part, str) and "[" not in part)
    message = first["msg"].removeprefix("Input ").removeprefix("Value error, ")
    if first["type"] == "value_error":  # a rule of the configuration itself, said in full
        return message
    return f"{where or 'a field'} of {what} {message}; got {first['input']!r}"


def override(config: S, changes: dict[str, Any], within: str = "") -> S:
    """A configuration with some dotted fields changed, as by ``{"act.steps": 50}``, each checked where it belongs.

    They are changed at once: of two that depend on each other either may come first. ``within`` is the group's place,
    for errors. ValueError: a field that does not exist, or a value that it cannot have.
    """
    own = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}  # type: ignore[arg-type]
    groups: dict[str, dict[str, Any]] = {}
    for dotted, value in sorted(changes.items(), key=lambda change: "." in change[0]):  # a group before its fields
        name, _, inner = dotted.partition(".")
        if name not in own or (inner and not dataclasses.is_dataclass(own[name])):
            has = f"{name} is {own[name]}, no group" if name in own else f"{type(config).__name__} has {', '.join(own)}"
            raise ValueError(f"no setting {within + dotted!r}: {has}")
        if inner:
            groups.setdefault(name, {})[inner] = value
        else:  # json and notebook parameters know no tuples
            own[name] = tuple(value) if isinstance(value, list) else value
    own |= {name: override(own[name], inside, f"{within}{name}.") for name, inside in groups.items()}
    try:
        return type(config)(**own)
    except ValueError as error:
        raise ValueError(f"{', '.join(within + name for name in changes)}: {error}") from None

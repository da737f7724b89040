"""What every notebook starts with: a checked tier, the lab bound to it, and where its results and figures go."""

from __future__ import annotations

import inspect
import math
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from IPython.display import Markdown
from matplotlib.figure import Figure

from lbm_core import paths
from lbm_core.report import paper, results, style
from lbm_core.settings import Dataset

if TYPE_CHECKING:
    from lbm_core.lab.lab import Lab
    from lbm_core.lab.tiers import Tier


@dataclass(frozen=True)
class Session:
    """A notebook's run; made by :func:`begin`."""

    tier: Tier = field(repr=False)  # sizes of every stage, with the notebook's changes
    dataset: Dataset
    seed: int
    output: str  # folder that takes the checkout's place for results and figures; "" is the checkout
    overrides: Mapping[str, Any] = field(default_factory=dict)  # dotted fields of the tier that the notebook changed
    _written: list[str] = field(default_factory=list, repr=False)

    @cached_property
    def lab(self) -> Lab:
        """Every stage of the chain at this tier; imported where it is first used."""
        from lbm_core.lab.lab import Lab

        return Lab(self.tier, self.dataset, self.seed)

    @property
    def computes(self) -> bool:
        """Whether this tier computes its results; "cached" reads the committed ones instead."""
        return self.tier.name != "cached"

    def record(self, experiment: str, frame: pd.DataFrame, **options: Any) -> None:
        """:func:`lbm_core.report.results.record` with this session's tier, data set, seed, changes and output."""
        own: dict[str, Any] = {"tier": self.tier.name, "dataset": self.dataset, "seeds": self.seed}
        own |= {"overrides": self.overrides, "output": self.output} | options
        self._written.append(results.record(experiment, frame, **own).name)

    def load(self, experiment: str, *, dataset: str | None = "") -> pd.DataFrame:
        """Recorded rows of the session's data set (None: of both): this tier's, or at "cached" the committed ones."""
        wanted = self.dataset if dataset == "" else dataset
        return results.load(experiment, self.tier.name, self.output if self.computes else "", dataset=wanted)

    def save(self, figure: Figure, name: str) -> None:
        """Write a figure as PNG and SVG to ``figures/`` (``figures/_smoke/`` at the smoke tier)."""
        self._written.extend(path.name for path in style.save(figure, name, self.tier.name, self.output))

    def finish(self) -> None:
        """Print what the notebook wrote; its last cell."""
        print(f"{len(self._written)} files written: {', '.join(self._written) or 'none'}")

    def _repr_markdown_(self) -> str:
        packages = ("lbm-companion", "torch", "transformers", "trl", "numpy", "pandas")
        rows = [("tier", self.tier.name), ("dataset", self.dataset), ("seed", self.seed)]
        rows += [("Python", platform.python_version()), *((name, metadata.version(name)) for name in packages)]
        return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


def begin(tier: str, dataset: Dataset, seed: int, output: str = "", changes: Mapping[str, Any] = {}) -> Session:
    """Check a notebook's parameters and change the tier's sizes; a ValueError says which parameter is wrong.

    ``output`` is an existing or new folder for ``results/`` and ``figures/`` ("" is the checkout), ``changes`` the
    notebook's ``SET``: dotted fields of the tier and their values, e.g. ``{"act.steps": 50}``.
    """
    from lbm_core.lab import tiers
    from lbm_core.lab.setup import Setup

    bound = Setup(tiers.tier(tier, dict(changes)), dataset, seed)
    if output:
        output = str(paths.whole(output))
        Path(output).mkdir(parents=True, exist_ok=True)
    return Session(bound.tier, bound.dataset, bound.seed, output, dict(changes))


def show_source(*objects: Callable | type) -> Markdown:
    """Source of library functions or classes as a code block: the text that runs, not a copy."""
    return Markdown("\n\n".join(f"```python\n{inspect.getsource(thing).rstrip()}\n```" for thing in objects))


def plain(frame: pd.DataFrame) -> pd.DataFrame:
    """A frame of texts: 3 digits a number, thousands whole, "–" for none."""

    def shown(value: Any) -> str:
        if not isinstance(value, float):
            return str(value)
        return "–" if math.isnan(value) else f"{value:.3g}" if abs(value) < 999.5 else f"{value:,.0f}"

    return frame.map(shown)


def markdown(frame: pd.DataFrame) -> Markdown:
    """A frame as a Markdown table of :func:`plain` texts, its source and note (``frame.attrs``) below."""
    text = plain(frame).to_markdown(index=False, disable_numparse=True)
    below = [str(frame.attrs[key]) for key in ("note", "source") if frame.attrs.get(key)]
    return Markdown("\n\n".join([text, *below]))


def deviations(part: str) -> Markdown:
    """Rows of :func:`lbm_core.report.paper.deviations` about one part of the method."""
    return markdown(paper.deviations(part))

"""What every notebook starts with: a checked tier, and where its results and figures go."""

from __future__ import annotations

import inspect
import math
import platform
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd
from IPython.display import Markdown
from matplotlib.figure import Figure

from lbm_core.report import deviations as ledger
from lbm_core.report import figures, results
from lbm_core.settings import DATASETS, Dataset
from lbm_core.tiers import Tier, get_tier

_SHOWN_VERSIONS = ("lbm-companion", "torch", "transformers", "trl", "numpy", "pandas")


@dataclass(frozen=True)
class Session:
    """A notebook's run; made by :func:`begin`.

    Attributes
    ----------
    tier : sizes of every stage, with the notebook's overrides applied
    dataset : "dense" or "sparse"
    seed : int >= 0
    output : folder that takes the checkout's place for results and figures; "" is the checkout
    """

    tier: Tier
    dataset: Dataset
    seed: int
    output: str
    _written: list[str] = field(default_factory=list, repr=False)

    @property
    def computes(self) -> bool:
        """Whether this tier computes its results; "cached" reads the committed ones instead."""
        return self.tier.name != "cached"

    def record(
        self,
        experiment: str,
        frame: pd.DataFrame,
        *,
        backbone: str = "",
        seeds: int | Iterable[int] | None = None,
        dataset: str | None = None,
        **provenance: Any,
    ) -> None:
        """:func:`lbm_core.report.results.record` with this session's tier, data set, seed and output."""
        path = results.record(
            experiment,
            frame,
            tier=self.tier.name,
            dataset=self.dataset if dataset is None else dataset,
            backbone=backbone,
            seeds=self.seed if seeds is None else seeds,
            output=self.output,
            **provenance,
        )
        self._written.append(path.name)

    def load(self, experiment: str, *, dataset: str | None = "") -> pd.DataFrame:
        """Recorded rows: what this tier recorded, or at "cached" the committed ones.

        Parameters
        ----------
        dataset : "dense" or "sparse"; default the session's, None for both
        """
        wanted = self.dataset if dataset == "" else dataset
        return results.load(experiment, self.tier.name, self.output if self.computes else "", dataset=wanted)

    def save(self, figure: Figure, name: str) -> None:
        """Write a figure as PNG and SVG to ``figures/`` (``figures/_smoke/`` at the smoke tier)."""
        for path in figures.save(figure, name, self.tier.name, self.output):
            self._written.append(path.name)

    def finish(self) -> None:
        """Print what the notebook wrote; its last cell."""
        print(f"{len(self._written)} files written: {', '.join(self._written) or 'none'}")

    def _repr_markdown_(self) -> str:
        versions = [("Python", platform.python_version())]
        versions += [(name, metadata.version(name)) for name in _SHOWN_VERSIONS]
        rows = [("tier", self.tier.name), ("dataset", self.dataset), ("seed", str(self.seed)), *versions]
        return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


def begin(tier: str, dataset: str, seed: int, output: str = "", **overrides: Any) -> Session:
    """Check a notebook's parameters and apply its size overrides.

    Parameters
    ----------
    tier : one of :data:`lbm_core.tiers.TIER_NAMES`
    dataset : "dense" or "sparse"
    seed : int >= 0
    output : existing or new folder for ``results/`` and ``figures/``; "" is the checkout
    overrides : as in :func:`lbm_core.tiers.get_tier` (``act__steps=50``); 0, "" and None leave the tier's value

    Raises
    ------
    ValueError
        Unknown tier, data set or override, negative seed or size.
    """
    if dataset not in DATASETS:
        raise ValueError(f"unknown DATASET {dataset!r}; choose one of {', '.join(DATASETS)}")
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise ValueError(f"SEED must be an integer >= 0, got {seed!r}")
    asked = {name: value for name, value in overrides.items() if value not in (0, "", None)}
    negative = [name for name, value in asked.items() if isinstance(value, int | float) and value < 0]
    if negative:
        raise ValueError(f"{negative[0]} must be positive (0 takes the tier's value), got {asked[negative[0]]}")
    chosen = get_tier(tier, **asked)
    if output:
        Path(output).mkdir(parents=True, exist_ok=True)
    return Session(chosen, dataset, seed, str(output))


def show_source(*objects: Callable | type) -> Markdown:
    """Source of library functions or classes as a code block: the text that runs, not a copy."""
    return Markdown("\n\n".join(f"```python\n{inspect.getsource(thing).rstrip()}\n```" for thing in objects))


def markdown(frame: pd.DataFrame, *, digits: int = 3) -> Markdown:
    """A frame as a Markdown table, with its source and note (``frame.attrs``) below."""

    def shown(value: Any) -> str:
        if not isinstance(value, float):
            return str(value)
        if math.isnan(value):
            return ""
        return f"{value:.{digits}g}" if abs(value) < 10**digits else f"{value:,.0f}"

    text = frame.map(shown).to_markdown(index=False, disable_numparse=True)
    below = [str(frame.attrs[key]) for key in ("note", "source") if frame.attrs.get(key)]
    return Markdown("\n\n".join([text, *below]))


def deviations(part: str) -> Markdown:
    """Rows of the ledger of deviations about one part of the method (see :mod:`lbm_core.report.deviations`)."""
    return markdown(ledger.load(part))

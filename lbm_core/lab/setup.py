"""What every stage is bound to: a tier, a data set, the seed of the data and the seed of the training."""

import dataclasses
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from lbm_core.lab.tiers import Tier, tier
from lbm_core.settings import DATASETS, Dataset, override

C = TypeVar("C")


@dataclass(frozen=True)
class Setup:
    """Tier, data set and seeds, bound once; an unknown data set or a seed below 0 is refused."""

    tier: Tier  # every size
    dataset: Dataset = "dense"
    seed: int = 0  # >= 0, of the simulated data and of texts
    train_seed: int | None = None  # >= 0, of initialisation and batches; None stands for ``seed``

    def __post_init__(self) -> None:
        if self.dataset not in DATASETS:
            raise ValueError(f"unknown DATASET {self.dataset!r}; choose one of {', '.join(DATASETS)}")
        for name, value in {"SEED": self.seed, "TRAIN_SEED": self.training_seed}.items():
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                raise ValueError(f"{name} must be an integer >= 0, got {value!r}")

    @classmethod
    def of(cls, name: str, dataset: Dataset = "dense", seed: int = 0, **changes: Any) -> Self:
        """The setup of a tier by its name; ``changes`` as of :func:`lbm_core.lab.tiers.tier`, dots as ``__``."""
        return cls(tier(name, {key.replace("__", "."): value for key, value in changes.items()}), dataset, seed)

    @property
    def training_seed(self) -> int:
        """Seed of initialisation and batches."""
        return self.seed if self.train_seed is None else self.train_seed

    def bound(self, config: C, **changes: Any) -> C:
        """A configuration with this data set and training seed, and further fields changed."""
        names = sorted(field.name for field in dataclasses.fields(config))  # type: ignore[arg-type]
        own = {"dataset": self.dataset, "seed": self.training_seed}
        if unknown := sorted(set(changes).difference(names)):
            raise ValueError(f"{type(config).__name__} has no setting {unknown[0]!r}; it has {', '.join(names)}")
        settings = {name: value for name, value in own.items() if name in names} | changes
        return dataclasses.replace(config, **settings)  # type: ignore[type-var]

    def changed(self, changes: dict[str, Any]) -> Self:
        """The same with dotted fields of the tier changed (:func:`lbm_core.settings.override`)."""
        return dataclasses.replace(self, tier=override(self.tier, changes))

    def trained_with(self, train_seed: int) -> Self:
        """The same with another training seed."""
        return dataclasses.replace(self, train_seed=train_seed)

    def trainings(self, count: int | None = None) -> Iterator[Self]:
        """One setup per training seed of the tier, counting up from the data's seed."""
        for step in range(self.tier.evaluation.train_seeds if count is None else count):
            yield self.trained_with(self.seed + step)

    @property
    def label(self) -> str:
        """Data set and training seed, for the lines that say what was made."""
        return f"{self.dataset}, training seed {self.training_seed}"


def bars() -> bool:
    """Progress bars in a terminal only (``lbm reproduce`` in one sets LBM_BARS): a notebook would store them."""
    return sys.stderr.isatty() or "LBM_BARS" in os.environ

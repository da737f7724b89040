"""Artifacts: found under the hash of their own configuration and their inputs' keys, or made and kept.

Nobody else builds a key. Since an artifact's key holds the keys of all that it is made from, nothing upstream can be
forgotten; and since a stage sees its own configuration only, nothing that a chapter compares can enter. A training can
be repeated bit by bit on one machine; where another CPU gave other bits under the same key, :func:`weights_of` tells.
"""

import json
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from lbm_core import paths
from lbm_core.files import alone, config_key, weights_key, writing

T = TypeVar("T")
TOOK = "took.json"  # inside every artifact: seconds of its making and the process's peak memory
_MODELS = ("actor", "critic", "dt", "dt_q", "offline_rl", "uscb", "oracle_imitation", "diffbid")
_WRITERS = ("sft", "grpo", "warm_up", "gqpo")


class Stage(NamedTuple):
    """A stage of the chain, declared once."""

    name: str  # folder of its artifacts in the cache
    version: int  # raised when code changes what it makes from an unchanged configuration
    inputs: tuple[str, ...] = ()  # stages that it may build on


STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage("period", 1),  # a delivery period, priced by the simulated market
        Stage("trajectories", 1),
        Stage("act", 2, ("trajectories",)),
        Stage("actor", 2, ("act", "tuning")),  # LBM-Act as it bids
        Stage("critic", 2, ("trajectories",)),
        Stage("dt", 2, ("trajectories",)),
        Stage("dt_q", 2, ("trajectories", "dt", "critic")),
        Stage("offline_rl", 2, ("trajectories",)),
        Stage("uscb", 2, ("trajectories", "period")),
        Stage("oracle_imitation", 1, ("trajectories", "period")),
        Stage("diffbid", 2, ("trajectories",)),
        Stage("sft", 2, ("trajectories",)),
        Stage("grpo", 2, ("trajectories",)),
        Stage("warm_up", 1),  # trajectories are named in its configuration: who has its weights needs none
        Stage("own_days", 2, ("actor", "period", "warm_up", "gqpo")),
        Stage("gqpo", 3, ("trajectories", "actor", "critic", "own_days", "warm_up", "gqpo")),
        Stage("tuning", 2, ("period",)),
        Stage("evaluation", 3, ("period", *_MODELS, *_WRITERS)),
        Stage("closed_loop", 3, ("period", *_MODELS, *_WRITERS)),
    )
}


@dataclass(frozen=True, eq=False)
class Artifact(Generic[T]):
    """Something made once from a configuration and other artifacts."""

    stage: str  # name of one of STAGES
    config: Any  # all that shapes it besides its inputs: a configuration, or json-plain
    make: Callable[[Path], None]  # writes it into a folder, which gets its name only when that is done
    load: Callable[[Path], T]  # reads it from that folder
    what: str  # its name in the line that says whether it was computed
    inputs: tuple["Artifact[Any]", ...] = ()
    silent: bool = False  # says nothing: whoever makes many tells of them together

    def __post_init__(self) -> None:
        foreign = [one.stage for one in self.inputs if one.stage not in STAGES[self.stage].inputs]
        if foreign:
            raise ValueError(f"stage {self.stage!r} is not declared to build on {foreign[0]!r} (lab.artifacts.STAGES)")

    @cached_property
    def key(self) -> str:
        """Twelve hex digits of stage, version, own configuration and the inputs' keys."""
        own = [self.stage, STAGES[self.stage].version, self.config]
        return config_key([*own, [[one.stage, one.key] for one in self.inputs]])

    @property
    def path(self) -> Path:
        """Its folder in the cache; there once the artifact is whole."""
        return paths.cache_dir() / self.stage / self.key

    @property
    def checkpoints(self) -> Path:
        """Where its unfinished making is kept."""
        return paths.cache_dir() / "unfinished" / f"{self.stage}-{self.key}"

    @property
    def exists(self) -> bool:
        """Whether it has been made."""
        return self.path.exists()

    def get(self, *, quiet: bool = False) -> T:
        """Load it, after making it if it is not there; prints which of the two (making also where ``quiet``)."""
        there = self.exists
        self.ensure()
        if there and not quiet and not self.silent:
            print(f"{self.what}: loaded")
        return self.load(self.path)

    def ensure(self) -> None:
        """Make it if it is not there; inputs first, so that their making is not counted as its own.

        Of several processes one makes it, the others wait.
        """
        if self.exists:
            return
        for one in self.inputs:
            one.ensure()
        lock = self.path.with_name(f".{self.key}.lock")
        with alone(lock):
            try:
                if not self.exists:
                    self._make()
            finally:
                lock.unlink(missing_ok=True)

    def _make(self) -> None:
        for left in self.path.parent.glob(f".{self.key}-*"):  # by a run that was killed
            shutil.rmtree(left, ignore_errors=True)
        start = time.monotonic()
        try:
            with writing(self.path) as folder:
                self.make(folder)
                took = {"seconds": round(time.monotonic() - start, 3), "peak_mib": round(peak_mib(), 1)}
                (folder / TOOK).write_text(json.dumps(took))
        except FloatingPointError:  # a training that diverged: from a checkpoint it would do so again
            shutil.rmtree(self.checkpoints, ignore_errors=True)
            raise
        if not self.silent:
            tell(self.what, True, took["seconds"])

    @property
    def took(self) -> dict[str, float]:
        """What its making took: seconds (inputs aside), peak_mib (of the process by its end); FileNotFoundError: not
        made."""
        return json.loads((self.path / TOOK).read_text())


def weights_of(models: Iterable[Artifact[Any]]) -> str:
    """Which bits made models hold: :func:`lbm_core.files.weights_key` of each that has weights, joined by "+"."""
    return "+".join(filter(None, (weights_key(one.path) if one.exists else "unknown" for one in models)))


def peak_mib() -> float:
    """Largest resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def tell(what: str, computed: bool, seconds: float) -> None:
    """Print whether something was computed or loaded."""
    print(f"{what}: computed in {seconds:.0f} s" if computed else f"{what}: loaded")

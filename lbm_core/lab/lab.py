"""The whole chain, bound once to a tier, a data set and seeds: what notebooks read.

Everything is found under its configuration or made: a notebook alone computes what it needs, a killed run resumes, a
second run only loads. Each artifact prints one line: computed or loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lbm_core.auction.bidder import Bidder
from lbm_core.auction.response_tables import ResponseTables
from lbm_core.data.trajectories import TrajectorySet
from lbm_core.lab import days, evaluations, models, thinking, tuning
from lbm_core.lab.actor import actor
from lbm_core.lab.artifacts import Artifact
from lbm_core.lab.decisions import Decisions
from lbm_core.lab.guided import Guided
from lbm_core.lab.methods import MAIN, OFFLINE_BASELINES, method
from lbm_core.lab.setup import Setup

if TYPE_CHECKING:
    from lbm_core.act.config import Guide
    from lbm_core.act.dual_embedding import LBMAct
    from lbm_core.critic.network import Critic
    from lbm_core.think.config import Rule
    from lbm_core.think.generate import Generation
    from lbm_core.think.gqpo import Selection


class Lab(Setup):
    """A tier, a data set and seeds, with every stage of the chain as a method.

    ``changes`` are fields of the stage's own configuration; another training seed is ``lab.trained_with(1)``.
    """

    def trajectories(self, *, jobs: int | None = None) -> TrajectorySet:
        """Training trajectories (§4.1)."""
        return days.trajectories(self, jobs=jobs).get()

    def held_out(self) -> days.HeldOutPeriods:
        """Evaluation periods, the benchmark's own 7 … 27."""
        return days.held_out_periods(self)

    def tuning_tables(self) -> list[ResponseTables]:
        """Response curves of the periods on which settings are chosen."""
        return days.tables(days.tuning_periods(self))

    def act(self, **changes: Any) -> LBMAct:
        """LBM-Act (§3.2); ``guide="none"`` is LLM-DT, "task" Prompt-LLM-DT, "number" Fig. 3's control."""
        return models.act(self, **changes).get()

    def actor(self, guide: Guide | None = None) -> LBMAct:
        """The same as it bids: with the return to ask for, leak and strength of instructions that its search chose."""
        return actor(self, guide).get()

    def critic(self, **changes: Any) -> Critic:
        """Twin Q and V (§3.3)."""
        return models.critic(self, **changes).get()

    def model(self, name: str, *, tune: bool = True, **changes: Any) -> Any:
        """The weights of a method of Table 1, trained with the settings that its search chose unless ``tune=False``."""
        return tuning.model(self, name, tune=tune, **changes).get()

    def tuned(self, name: str) -> tuning.Tuned:
        """What the search of a method's settings chose, and its trials."""
        return tuning.tuned(self, name)

    def decisions(self) -> Decisions:
        """What LBM-Think is asked about in the first round of GQPO."""
        return thinking.decisions(self)

    def chains(self) -> tuple[Decisions, list[list[Generation]]]:
        """These decisions, and N chains of thought about each (Eq. 3, 13)."""
        return thinking.chains(self)

    def selection(self) -> Selection:
        """Which chains of thought are worth learning (Eq. 12-13), with the fate of each."""
        return thinking.judged(self, *self.chains())

    def gqpo(self, *, rule: Rule = "argmax", rounds: int | None = None) -> Path | None:
        """Folder of LBM-Think after GQPO (Eq. 14), or None, with a sentence, where nothing was worth learning."""
        artifact = thinking.gqpo(self, rule=rule, rounds=rounds)
        folder = artifact.get()
        if folder is None:
            print(f"{artifact.what}: none, {(artifact.path / thinking.NOTHING).read_text().strip()}")
        return folder

    def bidder(self, name: str | Guided) -> Bidder:
        """The bidder of a method, with the settings that its search chose."""
        return tuning.contender(self, name).make()

    def bidders(self, methods: Iterable[str | Guided] = MAIN) -> dict[str, Callable[[], Bidder]]:
        """Functions that make each method's bidder."""
        return evaluations.bidders(self, methods)

    def evaluate(self, methods: Sequence[str | Guided] = MAIN, *, budget_ratio: float = 1.0) -> pd.DataFrame:
        """Replays on held-out periods: rows per method, training seed, period, draw and advertiser."""
        return evaluations.evaluate_methods(self, methods, budget_ratio=budget_ratio)

    def closed_loop(self, methods: Sequence[str | Guided]) -> pd.DataFrame:
        """The same methods in the market itself."""
        return evaluations.evaluate_closed_loop(self, methods)

    def train(self, name: str, *, tune: bool = True) -> dict[str, Any]:
        """Train a method unless it is in the cache, and say what it took.

        Method, folder, parameters (count of the weights kept), mib (their size), steps (decisions for USCB), seconds
        (of the training alone), peak_mib (of the process by its end), computed (False: found in the cache).
        """
        artifact: Artifact[Any] = models.critic(self) if name == "critic" else tuning.model(self, name, tune=tune)
        there = artifact.exists
        artifact.get()
        count, size = weights_in(artifact.path)
        making = {"steps": artifact.config.steps, **artifact.took, "computed": not there}
        return {"method": name, "folder": artifact.path, "parameters": count, "mib": size / 2**20} | making

    def train_all(self, methods: Sequence[str] = ("critic", "DT", *OFFLINE_BASELINES), *, jobs: int = 1) -> None:
        """Tune and train methods with every training seed of the tier, in so many processes of one thread each."""
        self.trajectories()
        self.tuning_tables()
        rows = {name: method(name) for name in methods if name != "critic"}
        later = [name for name, row in rows.items() if row.starts_from]
        first = [name for name in methods if name not in later]
        if later:
            first = list(dict.fromkeys(["critic", "DT", *first]))
        for wave in (first, later):
            searches = [[lambda n=name: self.tuned(n)] for name in wave if name != "critic" and method(name).space]
            evaluations.side_by_side(searches, jobs)
            own = [name for name in wave if name == "critic" or method(name).model]
            trainings = [[lambda n=name, s=seed: s.train(n)] for seed in self.trainings() for name in own]
            evaluations.side_by_side(trainings, jobs)

    def with_share(self, share: float) -> Lab:
        """The same with only that share of its training periods, at least one."""
        count = max(1, round(share * self.tier.data.train_periods))
        return replace(self, tier=replace(self.tier, data=replace(self.tier.data, train_periods=count)))


def weights_in(folder: Path) -> tuple[int, int]:
    """Count and bytes of the weights kept in a folder."""
    from safetensors import safe_open

    count = size = 0
    for file in sorted(folder.glob("*.safetensors")):
        size += file.stat().st_size
        with safe_open(file, "numpy") as stored:
            count += sum(int(np.prod(stored.get_slice(name).get_shape())) for name in stored.keys())  # noqa: SIM118
    return count, size

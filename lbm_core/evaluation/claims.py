"""The paper's claims (``claims.csv``), and the scorecard that holds recorded results against them."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from lbm_core import paths
from lbm_core.evaluation import judges
from lbm_core.evaluation.judges import AGREES, NOT_COMPARABLE, NOT_RUN, OPPOSITE, Judgement, Untestable
from lbm_core.evaluation.statistics import OPEN

VERDICTS = (AGREES, OPPOSITE, OPEN, NOT_COMPARABLE, NOT_RUN)


def claims() -> pd.DataFrame:
    """The paper's claims, a row each, all texts.

    Columns: name, short (a few words), claim (in ours), section, experiment (names of recorded results, "board" among
    them, or ""), judge (of :data:`lbm_core.evaluation.judges.JUDGES`, or ""), pairs and metrics (what judge "better"
    compares: :func:`lbm_core.evaluation.judges.pairs`), test (what decides it, or why nothing can).
    """
    return pd.read_csv(paths.PACKAGE / "evaluation" / "claims.csv", keep_default_na=False)


def experiments() -> list[str]:
    """Names of the recorded results that decide claims, in alphabetical order.

    "board" is no file but the leader board of all chapters, which :func:`lbm_core.report.board.joined` makes.
    """
    return sorted({name for names in claims().query("judge != ''")["experiment"] for name in names.split()})


def scorecard(frames: Mapping[str, pd.DataFrame], rng: np.random.Generator) -> pd.DataFrame:
    """Verdict on every claim, of one data set's rows by experiment: name, short, claim, section, test, measured,
    verdict, metric, estimate, low, high, days, seeds, tier.

    A verdict is "agrees", "opposite" (the data say the opposite), "open" (an interval that includes 0, too few periods,
    trainings or samples), "not comparable" (:func:`comparable`) or "not run" (``measured`` says why; an experiment that
    is missing leaves its claims so). The numbers are of the comparison that decides: metric, estimate with its 95 %
    interval (NaN where none is known), days, seeds (trainings; 0 where nothing learns), tier.
    """
    table, card = claims(), []
    if "board" in frames:  # where nobody repeated GQPO's last fine-tuning, it stands there with one
        frames = {"gqpo_seeds": frames["board"], **frames}
    for claim in table.to_dict("records"):
        try:
            if not claim["judge"]:
                raise Untestable(claim["test"])
            names = claim["experiment"].split()
            if missing := [name for name in names if name not in frames]:
                raise Untestable(f"no recorded results of {missing[0]!r}")
            rows = pd.concat([judges.named(name, frames[name]) for name in names], ignore_index=True)
            if compared := judges.pairs(claim, rows):
                rows = rows[rows["method"].isin({name for method, _, other in compared for name in (method, other)})]
            judgement = judges.JUDGES[claim["judge"]](rows, rng, claim)
            word = judgement.verdict if comparable(rows) else NOT_COMPARABLE
            card.append(judgement._replace(verdict=word, tier=" + ".join(sorted(set(rows.get("tier", ()))))))
        except Untestable as reason:
            card.append(Judgement(str(reason), NOT_RUN))
    return table.drop(columns=["experiment", "judge", "pairs", "metrics"]).join(pd.DataFrame(card))


def comparable(frame: pd.DataFrame) -> bool:
    """Whether rows may stand beside the paper: of one tier, which is not smoke (that proves the path, not the numbers),
    and of one backbone a method."""
    mixed = {"method", "backbone"} <= set(frame) and (frame.groupby("method")["backbone"].nunique() > 1).any()
    tiers = set(frame.get("tier", ()))
    return len(tiers) < 2 and "smoke" not in tiers and not mixed

"""The paper's claims as data, each with the test that decides it, and the scorecard over recorded results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lbm_core.evaluation.judges import (
    MIN_SAMPLES,
    MIN_TRAIN_SEEDS,
    NOT_RESOLVED,
    NOT_TESTED,
    Judge,
    Judgement,
    Untestable,
    best_of_all,
    better,
    better_at_every_budget,
    follows_the_principle,
    heads_specialise,
    in_time,
    instructions_steer,
    lower_loss,
)


@dataclass(frozen=True)
class Claim:
    """One claim of the paper.

    Attributes
    ----------
    name : short, lower case
    claim : what the paper says, in our words
    section : where it says so
    experiment : name of the recorded results that decide it
    test : how, and with what threshold
    judge : the test; None while the project cannot test it yet, ``test`` then says what is missing
    """

    name: str
    claim: str
    section: str
    experiment: str
    test: str
    judge: Judge | None = None


CLAIMS = (
    Claim(
        "beats_dt",
        "LBM with a pretrained LBM-Think gains more conversions than DT",
        "§4.2, Table 1",
        "main_results",
        "conversions of LBM(P) minus DT above 0",
        better([("LBM(P)", "DT")], ["conversions"]),
    ),
    Claim(
        "gqpo_helps",
        "GQPO fine-tuning improves LBM further, in conversions and in score",
        "§4.2, Table 1",
        "main_results",
        "conversions and score of LBM(GQPO) minus LBM(P) above 0",
        better([("LBM(GQPO)", "LBM(P)")], ["conversions", "score"]),
    ),
    Claim(
        "best_backbone",
        "LBM(GQPO) is the best method of all",
        "§4.2, Tables 1, 2",
        "main_results",
        "score of LBM(GQPO) minus that of every other method measured, simple controls included, above 0",
        best_of_all("LBM(GQPO)", "score"),
    ),
    Claim(
        "beats_llm_dt",
        "Reasoning helps: LBM beats the same transformer without it",
        "§4.3, Table 2",
        "main_results",
        "conversions of LBM(P) and LBM(GQPO) minus LLM-DT above 0",
        better([("LBM(P)", "LLM-DT"), ("LBM(GQPO)", "LLM-DT")], ["conversions"]),
    ),
    Claim(
        "prompt_is_not_enough",
        "A task description as language input alone does not help LLM-DT",
        "§4.3, Table 2",
        "main_results",
        "conversions and score of LLM-DT minus Prompt-LLM-DT above 0",
        better([("LLM-DT", "Prompt-LLM-DT")], ["conversions", "score"]),
    ),
    Claim(
        "other_budgets",
        "LBM beats DT at budgets it was not trained on",
        "§4.2, Table 5",
        "budget_sweep",
        "conversions of LBM(P) minus DT above 0 at each of five budget ratios",
        better_at_every_budget("LBM(P)", "DT"),
    ),
    Claim(
        "instructions",
        "A constant instruction moves spending and CPA its way",
        "§4.3, Table 4",
        "instructions",
        "budget utilisation and CPA ratio: increase minus base and base minus decrease above 0",
        instructions_steer(),
    ),
    Claim(
        "base_beats_constant",
        "Free reasoning scores higher than either constant instruction",
        "§4.3, Table 4",
        "instructions",
        "score of base minus increase and base minus decrease above 0",
        better([("base", "increase"), ("base", "decrease")], ["score"]),
    ),
    Claim(
        "faster_training",
        "LBM-Act's training loss falls faster and further than LLM-DT's",
        "§4.3, Fig. 3",
        "act_loss",
        f"loss over the last tenth of training at most 0.9 of LLM-DT's in each of {MIN_TRAIN_SEEDS} trainings or more",
        lower_loss("LBM-Act", "LLM-DT", 0.9),
    ),
    Claim(
        "principle",
        "After GQPO, decisions follow the CPA principle more than DT's and the pretrained model's",
        "§4.2, Fig. 2",
        "direction",
        f"share of moves towards the target minus DT's and the LLM's above 0, {MIN_SAMPLES} samples or more",
        follows_the_principle("LLM+GQPO", ("DT", "LLM")),
    ),
    Claim(
        "fusion",
        "Some attention heads read the language, others the numbers",
        "§4.3, Fig. 5",
        "attention",
        "last layer: a head with more than 0.5 of its attention on language, and one with less than 0.2",
        heads_specialise(0.5, 0.2),
    ),
    Claim(
        "in_time",
        "LBM-Think is fast enough to reason ahead of the next tick, LBM-Act much faster",
        "A.2, Table 8",
        "latency",
        "99th percentile for 48 advertisers below 1,800 s, and the median of LBM-Act below LBM-Think's",
        in_time(),
    ),
    Claim(
        "generative",
        "DT beats offline RL",
        "§4.2, Table 1",
        "baseline_results",
        "conversions of DT minus BCQ, CQL and IQL above 0",
        better([("DT", name) for name in ("BCQ", "CQL", "IQL")], ["conversions"]),
    ),
    Claim(
        "reward_design", "LBM scores above DT-score at every w", "§4.2, Table 3", "dt_score", "needs Table 3's sweep"
    ),
    Claim("language_only", "LLMs that write alpha as text lose", "§4.3, Table 2", "main_results", "needs those LLMs"),
    Claim("grpo_collapse", "GRPO's reasoning vanishes", "A.3, Fig. 6", "grpo_length", "needs GRPO training"),
    Claim("think_size", "A 3B LBM-Think does as well as 32B", "§4.3, Table 6", "think_size", "needs larger models"),
)


def scorecard(
    frames: Mapping[str, pd.DataFrame], rng: np.random.Generator, claims: Sequence[Claim] = CLAIMS
) -> pd.DataFrame:
    """Verdict on every claim.

    Parameters
    ----------
    frames : recorded rows by experiment name, of one data set; an experiment that is missing leaves its claims untested
    rng : for the bootstrap

    Returns
    -------
    name, claim, section, test, measured, verdict: "supported", "not supported" (the data say the opposite),
    "not resolved" (an interval that includes 0, too few periods, trainings or samples, or results of the smoke tier,
    which prove the path and not the numbers) or "not tested" (``measured`` says why).
    """
    rows = []
    for claim in claims:
        if claim.judge is None:
            result = Judgement(claim.test, NOT_TESTED)
        elif claim.experiment not in frames:
            result = Judgement(f"no recorded results of {claim.experiment!r}", NOT_TESTED)
        else:
            try:
                result = claim.judge(frames[claim.experiment], rng)
            except Untestable as reason:
                result = Judgement(str(reason), NOT_TESTED)
            else:
                if _of_smoke(frames[claim.experiment]):
                    result = Judgement(result.measured, NOT_RESOLVED)
        rows.append((claim.name, claim.claim, claim.section, claim.test, result.measured, result.verdict))
    return pd.DataFrame(rows, columns=["name", "claim", "section", "test", "measured", "verdict"])


def _of_smoke(frame: pd.DataFrame) -> bool:
    return "tier" in frame and bool((frame["tier"] == "smoke").any())

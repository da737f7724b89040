"""What does a language model make of a bidding day? Its texts, checked; one day led by them; sizes (chapter 4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lbm_core.auction.bidder import N_TICKS, Advertisers, Observation
from lbm_core.auction.replay import ReplayPeriod, ReplayResult, replay
from lbm_core.evaluation.runner import spread_rows
from lbm_core.pipeline.act_study import study_tier
from lbm_core.pipeline.contenders import evaluate_methods
from lbm_core.pipeline.models import act
from lbm_core.pipeline.stages import held_out_periods, replay_period
from lbm_core.pipeline.thinking import ask, moments, think_chains, think_guide, think_settings
from lbm_core.seeding import generator
from lbm_core.settings import Dataset
from lbm_core.tiers import Tier

if TYPE_CHECKING:
    from lbm_core.act.dual_embedding import LBMAct
    from lbm_core.think.guide import ThinkGuide

SHOWN_ADVERTISERS = 8  # at most so many are led through the day that is shown
OUTCOME_TICKS = 4  # ticks over which the outcome of one advice is told, its own among them


def models_compared(tier: Tier) -> list[str]:
    """The tier's own language model, then those beside it, each once."""
    return list(dict.fromkeys([tier.think_backbone, *tier.think.models]))


def model_label(name: str) -> str:
    """Short name of a language model: the last part of a folder, a file or a hub name."""
    return Path(name).name.removesuffix(".gguf")


def checked_texts(tier: Tier, dataset: Dataset, seed: int) -> pd.DataFrame:
    """Every model's chains of thought about the tier's logged moments, strictly read.

    Returns
    -------
    model, prompt, sample, tick, true_ratio, ratio, direction, stated, status, contradiction, tokens, seconds. The
    ratio is required here, also where the tier excuses it.
    """
    from lbm_core.think.gqpo import parse_groups

    rows: list[dict[str, Any]] = []
    for model in models_compared(tier):
        asked, groups = think_chains(replace(tier, think_backbone=model), dataset, seed)
        read = parse_groups(groups, asked.facts, ratio_required=True)
        for i, (fact, group) in enumerate(zip(asked.facts, groups, strict=True)):
            for j, (text, one) in enumerate(zip(group, read[i], strict=True)):
                said = {
                    "ratio": one.ratio,
                    "direction": one.direction,
                    "stated": one.stated,
                    "status": one.status.value,
                }
                took = {"contradiction": one.contradiction, "tokens": text.tokens, "seconds": text.seconds}
                where = {"model": model_label(model), "prompt": i, "sample": j, "tick": fact.tick}
                rows.append(where | {"true_ratio": fact.true_ratio} | said | took)
    frame = pd.DataFrame(rows)
    return frame.astype(dict.fromkeys(("ratio", "direction", "stated"), float))  # None, where all are missing


def last_example_varied(tier: Tier, dataset: Dataset, seed: int) -> pd.DataFrame:
    """Does an answer follow from the facts or from the last worked example? The same moments, each case last once.

    The cases keep their turn, so that a case comes first where the one before it is the last.

    Returns
    -------
    One row per model, moment and case that comes last: model, moment, true_ratio, last (the case's direction),
    direction (NaN without one valid answer)

    Raises
    ------
    ValueError
        The tier shows fewer than two worked examples.
    """
    from lbm_core.think.gqpo import parse_groups
    from lbm_core.think.parse import parse

    facts = moments(tier, dataset, seed).facts[: tier.think.order_prompts]
    _, style = think_settings(tier)
    if style.worked_examples < 2:
        raise ValueError(f"a last example takes two worked examples; this tier shows {style.worked_examples}")
    rows: list[dict[str, Any]] = []
    for model in models_compared(tier):
        own = replace(tier, think_backbone=model)
        for first in range(style.worked_examples):
            order = replace(style, first_example=first)
            last = parse(order.examples[-1][1], 1.0, ratio_required=False).direction
            groups = ask(own, dataset, seed, facts, "orders", n=1, style=order)
            for number, (fact, (one,)) in enumerate(
                zip(facts, parse_groups(groups, facts, ratio_required=False), strict=True)
            ):
                where = {"model": model_label(model), "moment": number, "true_ratio": fact.true_ratio}
                rows.append(where | {"last": last, "direction": one.direction})
    return pd.DataFrame(rows).astype({"direction": float})


def scores_by_model(tier: Tier, dataset: Dataset, seed: int) -> pd.DataFrame:
    """Table 6: LBM with each language model as LBM-Think, no GQPO, on the study's advertisers and training seeds.

    Returns
    -------
    Rows of :func:`~lbm_core.pipeline.contenders.evaluate_methods` with the column ``model``; "none" is LBM-Act told
    "uncertain" all day
    """
    few = study_tier(tier)
    frames = [evaluate_methods(few, dataset, seed, ["uncertain"]).assign(model="none")]
    for model in models_compared(tier):
        rows = evaluate_methods(replace(few, think_backbone=model), dataset, seed, ["LBM(P)"])
        frames.append(rows.assign(model=model_label(model)))
    return pd.concat(frames, ignore_index=True)


def led_day(tier: Tier, dataset: Dataset, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Fig. 4 on a held-out day: what LBM-Think read, wrote and advised, what LBM-Act did with it, and what came of it.

    The day is replayed once with all advice, and then with less: up to the k-th consultation, "uncertain" afterwards.
    Two such days that differ by one consultation show what that one advice did, with the same luck (common random
    numbers) and the same past.

    Returns
    -------
    advice : one row per text: period, advertiser, tick, budget, cpa_target, facts (the prompt's numbers in words),
        text, true_ratio, ratio, direction, check (strict status), followed (whether it became a guide other than
        "uncertain"), guide, tokens, seconds, alpha_before, alpha_with, alpha_without (currency per conversion, of
        the tick), and of its and the next three ticks, with and without the advice: cost, conversions (expected);
        score_with, score_without (expected, of the whole day, no later advice)
    paths : period, advertiser, tick, advice_tick, kind ("with" | "without"), alpha_ratio (alpha / C), cost and
        conversions (expected) of the tick; NaN alpha once the budget is gone

    Raises
    ------
    ValueError
        Nobody could be asked, because all money was gone before the first consultation.
    """
    own = replace(tier, think=replace(tier.think, think_every=tier.think.day_every))
    number = held_out_periods(tier, dataset, seed).numbers[-1]
    period = replay_period(dataset, number, seed)
    rows = spread_rows(min(study_tier(tier).evaluation.advertisers, SHOWN_ADVERTISERS))
    guide, model = think_guide(own, dataset, seed), act(tier, dataset, seed)
    try:
        told, facts = _played(period, model, guide, rows, seed)
    finally:
        guide.backend.close()
    if not facts:
        raise ValueError(f"nobody had budget left at a multiple of {tier.think.day_every} ticks: lower think.day_every")
    ticks = sorted({tick for _, tick in facts})
    days = [_scripted(period, model, {t: told[t] for t in ticks[:k]}, rows, seed) for k in range(len(ticks) + 1)]
    advice, paths = [], []
    for k, tick in enumerate(ticks):
        with_it, without = days[k + 1], days[k]
        for said in guide.said.query("tick == @tick").to_dict("records"):
            place = int(np.flatnonzero(with_it.advertisers.index == said["advertiser"])[0])
            advice.append(_row(said, facts[said["advertiser"], tick], told[tick][place], with_it, without, place))
            for kind, played in (("with", with_it), ("without", without)):
                paths.append(_path(played, place).assign(advice_tick=tick, kind=kind))
    table = pd.DataFrame(advice).astype({"ratio": float, "direction": float})
    return table.assign(period=number), pd.concat(paths, ignore_index=True).assign(period=number)


def _played(
    period: ReplayPeriod, model: LBMAct, guide: ThinkGuide, rows: NDArray[np.int64], seed: int
) -> tuple[dict[int, list[str]], dict[tuple[int, int], str]]:
    """Guides by tick and prompts' facts by (advertiser, tick) of a day that LBM-Think leads."""
    from lbm_core.act.decide import LBMActBidder
    from lbm_core.think.prompt import describe, prompt_facts

    told: dict[int, list[str]] = {}
    facts: dict[tuple[int, int], str] = {}

    def noted(observation: Observation, advertisers: Advertisers) -> list[str]:
        before = len(guide.said)
        told[observation.tick] = list(guide(observation, advertisers))
        if len(guide.said) > before:
            for who, fact in zip(advertisers.index, prompt_facts(observation, advertisers), strict=True):
                facts[int(who), observation.tick] = describe(fact)
        return told[observation.tick]

    replay(period, LBMActBidder(model, noted), generator(seed, "evaluation", period.period), rows=rows)
    return told, facts


def _scripted(
    period: ReplayPeriod, model: LBMAct, told: dict[int, list[str]], rows: NDArray[np.int64], seed: int
) -> ReplayResult:
    """The day with these guides at these ticks, and "uncertain" at the others."""
    from lbm_core.act.decide import LBMActBidder
    from lbm_core.act.guides import UNCERTAIN

    def script(observation: Observation, advertisers: Advertisers) -> list[str]:
        return told.get(observation.tick, [UNCERTAIN] * len(advertisers))

    return replay(period, LBMActBidder(model, script), generator(seed, "evaluation", period.period), rows=rows)


def _row(
    said: Mapping[Any, Any], facts: str, guide: str, with_it: ReplayResult, without: ReplayResult, place: int
) -> dict[str, Any]:
    from lbm_core.act.guides import UNCERTAIN
    from lbm_core.think.parse import Status, parse

    tick, who = said["tick"], with_it.advertisers
    strict = said["status"]
    if strict == Status.ACCEPTED.value:  # perhaps because the tier excuses the ratio
        strict = parse(said["text"], said["true_ratio"]).status.value
    after = slice(tick, min(tick + OUTCOME_TICKS, N_TICKS))
    row = {name: said[name] for name in ("advertiser", "tick", "text", "true_ratio", "ratio", "direction")}
    row |= {"budget": who.budget[place], "cpa_target": who.cpa_target[place], "facts": facts, "check": strict}
    row |= {"followed": guide != UNCERTAIN, "guide": guide, "tokens": said["tokens"], "seconds": said["seconds"]}
    row["alpha_before"] = said["last_alpha"]
    for kind, day in (("with", with_it), ("without", without)):
        row[f"alpha_{kind}"] = day.alphas[place, tick]
        row[f"cost_{kind}"] = day.costs[place, after].sum()
        row[f"conversions_{kind}"] = day.expected_conversions[place, after].sum()
        row[f"score_{kind}"] = day.summary()["expected_score"][place]
    return row


def _path(day: ReplayResult, place: int) -> pd.DataFrame:
    alpha = day.alphas[place] / day.advertisers.cpa_target[place]
    columns = {"alpha_ratio": np.where(alpha > 0, alpha, np.nan), "cost": day.costs[place]}
    columns |= {"conversions": day.expected_conversions[place], "tick": np.arange(N_TICKS)}
    return pd.DataFrame(columns).assign(advertiser=int(day.advertisers.index[place]))

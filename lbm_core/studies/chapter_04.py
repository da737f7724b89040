"""What does a language model make of a bidding day? Its texts, checked; one day under its advice; sizes (chapter 4)."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lbm_core.act.guides import SENTENCES, UNCERTAIN, GuideSource
from lbm_core.auction.bidder import N_TICKS, Observation
from lbm_core.auction.replay import ReplayResult, replay
from lbm_core.evaluation.runner import spread_rows
from lbm_core.lab.lab import Lab
from lbm_core.lab.thinking import ask, think_guide
from lbm_core.lab.warmed_up import LOG, warm_up
from lbm_core.seeding import generator
from lbm_core.studies.sizes import few
from lbm_core.think.parse import Status, parse, parse_groups, parsed_row
from lbm_core.think.prompt import describe, prompt_facts

SHOWN_ADVERTISERS = 8  # at most so many are guided through the day that is shown
SHOWN_PROMPTS = 20  # prompts of each model whose texts are kept for readers
OUTCOME_TICKS = 4  # ticks over which the outcome of one advice is told, its own among them


def labs_by_model(lab: Lab) -> dict[str, Lab]:
    """The lab with each language model as LBM-Think, the tier's own first, by the last part of the model's name.

    Where the tier's own was warmed up, the others are asked as ``chapter4.unwarmed`` says.
    """
    think, chapter = lab.tier.think, lab.tier.chapter4
    asked = replace(chapter.unwarmed, backend=think.backend, every=think.every) if think.warm_up else think
    tiers = [lab.tier, *(replace(lab.tier, think=replace(asked, backbone=name)) for name in chapter.models)]
    kinds = [", warmed up" if own.think.warm_up else "" for own in tiers]
    names = [Path(own.think.backbone).name.removesuffix(".gguf") for own in tiers]
    return {name + kind: replace(lab, tier=own) for name, kind, own in zip(names, kinds, tiers, strict=True)}


def warm_up_losses(lab: Lab) -> pd.DataFrame:
    """Losses of the tier's warm-up (step, loss), in nats per token; ValueError for a tier without one."""
    warmed = warm_up(lab)
    if warmed is None:
        raise ValueError(f"tier {lab.tier.name!r} warms no model up: think.warm_up is None")
    return pd.read_csv(warmed.get(quiet=True) / LOG)


def checked_texts(lab: Lab) -> pd.DataFrame:
    """Every model's chains of thought about the tier's logged decisions, strictly read.

    The tier's own is asked about all of GQPO's, the others about the first ``chapter4.prompts``. Columns: model,
    prompt, sample, tick, true_ratio, ratio, ratio_error, direction, stated, status, contradiction, tokens, seconds,
    text (of the first prompts). The ratio is required here, also where the tier excuses it, within its own tolerance.
    """
    rows: list[dict[str, Any]] = []
    for number, (model, own) in enumerate(labs_by_model(lab).items()):
        decisions = lab.decisions() if number == 0 else lab.decisions().first(lab.tier.chapter4.prompts)
        groups = ask(own, decisions.facts, "logged", own.tier.gqpo.samples)
        checks = parse_groups(groups, decisions.facts, tolerance=lab.tier.think.tolerance, ratio_required=True)
        for i, fact in enumerate(decisions.facts):
            for j, (text, check) in enumerate(zip(groups[i], checks[i], strict=True)):
                place = {"model": model, "prompt": i, "sample": j}
                shown = {"contradiction": check.contradiction, "text": text.text if i < SHOWN_PROMPTS else ""}
                rows.append(place | parsed_row(fact, text, check) | shown)
    return pd.DataFrame(rows).astype(dict.fromkeys(("ratio", "direction", "stated"), float))  # None, where all miss


def scores_by_model(lab: Lab) -> pd.DataFrame:
    """Table 6: LBM with each language model as LBM-Think, no GQPO, on the chapter's advertisers and training seeds.

    Rows of :meth:`~lbm_core.lab.lab.Lab.evaluate` with the column model; "none" is LBM-Act told "uncertain" all day.
    """
    small = few(lab, lab.tier.chapter4)
    frames = [small.evaluate(["uncertain"]).assign(model="none")]
    frames += [own.evaluate(["LBM(P)"]).assign(model=model) for model, own in labs_by_model(small).items()]
    return pd.concat(frames, ignore_index=True)


def led_day(lab: Lab) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Fig. 4 on a held-out day: what LBM-Think read, wrote and advised, what LBM-Act did with it, and what came of it.

    The day is replayed once with all advice, and then with less: up to the k-th consultation, "uncertain" afterwards.
    Two such days show what one advice did, with the same luck (common random numbers) and the same past.

    Returns
    -------
    advice : one row per text: period, advertiser, tick, budget, cpa_target, facts (the prompt's numbers in words),
        text, true_ratio, ratio, direction, check (strict status), followed (whether it became a guide other than
        "uncertain"), guide, tokens, seconds, alpha_before, alpha_with, alpha_without (currency per conversion, of
        the tick), and of its and the next three ticks, with and without the advice: cost, conversions (expected);
        score_with, score_without (expected, of the whole day, no later advice)
    paths : period, advertiser, tick, advice_tick, kind ("with" | "without"), alpha_ratio (alpha / C), cost and
        conversions (expected) of the tick; NaN alpha once the budget is gone
    """
    from lbm_core.act.decide import LBMActBidder

    chapter, actor, period = lab.tier.chapter4, lab.actor(), lab.held_out()[-1]
    shown = spread_rows(min(few(lab, chapter).tier.evaluation.advertisers, SHOWN_ADVERTISERS))

    def day(source: GuideSource) -> ReplayResult:
        rng = generator(lab.seed, "evaluation", period.period)
        return replay(period, LBMActBidder(actor, source), rng, rows=shown)

    def script(known: pd.DataFrame) -> GuideSource:
        guides = known.set_index(["tick", "advertiser"])["guide"].to_dict()
        return lambda now, advertisers: [guides.get((now.tick, who), UNCERTAIN) for who in advertisers.index.tolist()]

    guide = think_guide(lab.changed({"think.every": chapter.day_every}))
    with closing(guide.backend):
        whole, texts = day(guide), guide.consultations
    if texts.empty:
        raise ValueError(f"nobody had budget left at a multiple of {chapter.day_every} ticks: lower chapter4.day_every")
    accepted = texts["status"] == Status.ACCEPTED
    texts["guide"] = texts["direction"].where(accepted, 0).astype(int).map(SENTENCES)
    ticks = sorted(texts["tick"].unique())
    days = [*(day(script(texts[texts["tick"] < tick])) for tick in ticks), whole]
    advice, paths = [], []
    for tick, without, with_it in zip(ticks, days[:-1], days[1:], strict=True):
        for text in texts[texts["tick"] == tick].to_dict("records"):
            place = int(np.flatnonzero(whole.advertisers.index == text["advertiser"])[0])
            advice.append(_advice(text, with_it, without, place))
            for kind, played in (("with", with_it), ("without", without)):
                paths.append(_path(played, place).assign(advice_tick=tick, kind=kind))
    table = pd.DataFrame(advice).astype({"ratio": float, "direction": float})
    return table.assign(period=period.period), pd.concat(paths, ignore_index=True).assign(period=period.period)


def _advice(text: Mapping[Any, Any], with_it: ReplayResult, without: ReplayResult, place: int) -> dict[str, Any]:
    tick, who, check = text["tick"], with_it.advertisers, text["status"]
    if check == Status.ACCEPTED:  # perhaps because the tier excuses the ratio
        check = parse(text["text"], text["true_ratio"]).status.value
    row = {name: text[name] for name in ("advertiser", "tick", "text", "true_ratio", "ratio", "direction")}
    row |= {"budget": who.budget[place], "cpa_target": who.cpa_target[place], "facts": _facts(with_it, tick, place)}
    row |= {"check": check, "followed": text["guide"] != UNCERTAIN}
    row |= {name: text[name] for name in ("guide", "tokens", "seconds")} | {"alpha_before": text["last_alpha"]}
    after = slice(tick, min(tick + OUTCOME_TICKS, N_TICKS))
    for kind, day in (("with", with_it), ("without", without)):
        row[f"alpha_{kind}"] = day.alphas[place, tick]
        row[f"cost_{kind}"] = day.costs[place, after].sum()
        row[f"conversions_{kind}"] = day.expected_conversions[place, after].sum()
        row[f"score_{kind}"] = day.summary()["expected_score"][place]
    return row


def _facts(day: ReplayResult, tick: int, place: int) -> str:
    """The numbers that a prompt told at a tick, in words."""
    row = slice(place, place + 1)
    past = (table[row, :tick] for table in (day.alphas, day.conversions, day.costs))
    (facts,) = prompt_facts(Observation(tick, day.states[row, : tick + 1], *past), day.advertisers[row])
    return describe(facts)


def _path(day: ReplayResult, place: int) -> pd.DataFrame:
    alpha = day.alphas[place] / day.advertisers.cpa_target[place]
    columns = {"alpha_ratio": np.where(alpha > 0, alpha, np.nan), "cost": day.costs[place]}
    columns |= {"conversions": day.expected_conversions[place], "tick": np.arange(N_TICKS)}
    return pd.DataFrame(columns).assign(advertiser=int(day.advertisers.index[place]))

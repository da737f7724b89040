"""Does the Q matter? What a coin passes, what N, tolerance and temperature do, and who advises better (chapter 5)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lbm_core.act.guides import SENTENCES
from lbm_core.auction.hindsight import scores_from
from lbm_core.auction.replay import ReplayPeriod
from lbm_core.auction.response_tables import ResponseTables, table_replay
from lbm_core.data.trajectories import TrajectorySet, sample_ends
from lbm_core.data.windows import Windows
from lbm_core.evaluation.runner import evaluate, period_means, spread_rows
from lbm_core.lab.decisions import Decisions, decisions_at, draw_decisions, joined
from lbm_core.lab.guided import Guide, Guided, guided_contender
from lbm_core.lab.lab import Lab
from lbm_core.lab.thinking import ask, judged, own_days
from lbm_core.seeding import generator
from lbm_core.studies.sizes import few
from lbm_core.think.config import Reading, Rule
from lbm_core.think.prompt import indicators

DIRECTIONS = (-1, 0, 1)
TOLERANCES, EXCUSED = (0.01, 0.03, 0.1, 0.3, 1.0), "excused"  # relative errors of the stated ratio; last it is excused
MULTIPLES = (0.87, 1.0, 1.15)  # of the last alpha to the day's end: what :data:`DIRECTIONS` mean in the simulator
# Ways to read an answer (think.reading) and factors on the moves it asks for; first the paper's.
READINGS: tuple[tuple[Reading, float], ...] = (("word", 1.0), ("word", 0.5), ("most likely", 1.0), ("expected", 2.0))
TEACHERS = (  # the critic's words, some drawn at random; and those right in 73 %, spoken less often, held or not
    *(Guided("critic", wrong=wrong) for wrong in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)),
    *(Guided("critic", every=k, hold=hold, wrong=0.4) for k, hold in ((2, True), (2, False), (4, True), (8, True))),
)
SHOWN = 20  # moments whose texts are kept for readers
PRETRAINED, TUNED, CONTROL = "LBM(P)", "LBM(GQPO)", "LBM(random)"  # the control learned random texts
NAMES: dict[Guide, str] = {"LBM-Think": PRETRAINED, "LBM-Think (GQPO)": TUNED, "LBM-Think (random)": CONTROL}
DT_NAME, RULE_NAME = "DT", "spend-rate rule"  # advisers that write no texts; "rule" is a model that learned from one


@dataclass(frozen=True)
class Probes:
    """n decisions of held-out days on which models are compared; two overlapping samples."""

    decisions: Decisions
    random: NDArray[np.bool_]  # (n,) those drawn at random
    stratified: NDArray[np.bool_]  # (n,) as many with a CPA ratio below 1 as above, as in Fig. 2
    best: NDArray[np.float64]  # (n,) of :func:`best_directions`


def judged_directions(lab: Lab, window: Windows) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """LBM-Act's (n, 3) alphas at n decisions when told each of :data:`DIRECTIONS`, and their relative-Q (Eq. 12)."""
    from lbm_core.act.decide import decide

    actor = lab.actor()
    alphas = np.stack([decide(actor, window, [SENTENCES[d]] * len(window)) for d in DIRECTIONS], axis=1)
    return alphas, lab.critic().relative_q(window, alphas, window.alphas[:, -1].astype(np.float64))


def coin(lab: Lab) -> pd.DataFrame:
    """What every direction is worth to the critic, at logged decisions and at those that LBM-Act meets itself.

    Columns: source ("logged", "on-policy"), moment, tick, cpa_ratio, ruled (spend-rate rule), direction, relative_q.
    """
    sources, frames = {"logged": lab.trajectories(), "on-policy": own_days(lab).get()}, []
    for number, (source, days) in enumerate(sources.items()):
        some = draw_decisions(days, lab.tier.chapter5.coin_prompts, generator(lab.seed, "think", 8, number))
        _, relative_q = judged_directions(lab, some.window)
        columns = {"moment": np.arange(len(some)), "tick": some.ticks, "cpa_ratio": some.cpa_ratio, "ruled": some.ruled}
        for direction, values in zip(DIRECTIONS, relative_q.T, strict=True):
            frames.append(pd.DataFrame(columns).assign(direction=direction, relative_q=values, source=source))
    return pd.concat(frames, ignore_index=True)


def sweep(lab: Lab) -> pd.DataFrame:
    """What N, the tolerance of the hallucination check and the temperature do to GQPO's selection.

    At some of the tier's decisions the largest N is drawn at every temperature; a smaller N is the mean over all its
    subgroups, a tolerance is applied to the texts that were drawn.
    One row per temperature, tolerance (text; "excused": the ratio does not count) and N (column n): prompts, accepted
    (share of texts), learned (share of groups that leave something), relative_q (mean of what is learned), gain (mean
    over all groups, 0 where nothing is learned).
    """
    chapter, usual, frames = lab.tier.chapter5, lab.tier.think.sampling, []
    some = lab.decisions().first(chapter.sweep_prompts)
    for temperature in sorted({usual.temperature, *chapter.temperatures}):
        sampling = replace(usual, temperature=temperature)
        groups = ask(lab, some.facts, "logged", chapter.sweep_samples, sampling=sampling)
        samples = judged(lab, some, groups, ratio_required=False).samples
        frames.append(swept(samples).assign(temperature=temperature))
    return pd.concat(frames, ignore_index=True)


def swept(samples: pd.DataFrame, tolerances: Sequence[float] = TOLERANCES) -> pd.DataFrame:
    """Rows of :func:`sweep` of one temperature, from texts that were judged with the ratio excused."""
    table = samples.pivot(index="prompt", columns="sample", values="relative_q").to_numpy()
    errors = samples.pivot(index="prompt", columns="sample", values="ratio_error").to_numpy()
    kept = {f"{tolerance:g}": np.isfinite(table) & (errors <= tolerance + 1e-12) for tolerance in tolerances}
    kept[EXCUSED] = np.isfinite(table)
    rows = []
    for tolerance, accepted in kept.items():
        gains = np.where(accepted & (table > 0), table, 0.0)
        for n in range(1, table.shape[1] + 1):
            best = np.stack([gains[:, list(some)].max(axis=1) for some in combinations(range(table.shape[1]), n)])
            learned = best[best > 0]
            mean = learned.mean() if len(learned) else np.nan
            rows.append((tolerance, n, len(table), accepted.mean(), len(learned) / best.size, mean, best.mean()))
    return pd.DataFrame(rows, columns=["tolerance", "n", "prompts", "accepted", "learned", "relative_q", "gain"])


def probes(lab: Lab) -> Probes:
    """The tier's number of random decisions of its held-out days, and as many with half of them on either side of 1."""
    n, logs, parts = lab.tier.chapter5.probes, lab.held_out().logs, []
    for number, log in enumerate(logs):
        share, half = (count // len(logs) + (number < count % len(logs)) for count in (n, n // 2))
        if share == 0:
            continue
        day = TrajectorySet.from_logs([log])
        rows, ticks = sample_ends(day, 40 * share + 200, generator(lab.seed, "evaluation", 5, log.period))
        rows, ticks = rows[ticks > 0], ticks[ticks > 0]
        ratio, order = decisions_at(day, rows, ticks).cpa_ratio, np.arange(len(rows))
        sides = np.concatenate([order[ratio < 1][:half], order[ratio > 1][:half]])
        taken = np.unique(np.concatenate([order[:share], sides]))
        some = decisions_at(day, rows[taken], ticks[taken])
        best = best_directions(ResponseTables.from_period(ReplayPeriod.from_log(log)), day, some)
        parts.append(Probes(some, taken < share, np.isin(taken, sides), best))
    columns = (np.concatenate([getattr(part, name) for part in parts]) for name in ("random", "stratified", "best"))
    return Probes(joined([part.decisions for part in parts]), *columns)


def best_directions(tables: ResponseTables, days: TrajectorySet, some: Decisions) -> NDArray[np.float64]:
    """(n,) directions with the best score in the simulator, if alpha keeps to :data:`MULTIPLES`; NaN where all tie."""
    held = (some.last_alpha[:, None] * MULTIPLES)[..., None]
    before = (total[some.rows, some.ticks] for total in (days.costs_before, days.conversions_before))
    scores = scores_from(tables, days.advertisers(some.rows), some.ticks, held, *before)
    tied = np.ptp(scores, axis=1) <= 1e-9
    return np.where(tied, np.nan, scores.argmax(axis=1) - 1.0)


def fine_tuned(lab: Lab) -> dict[str, Path]:
    """Folders of GQPO's model, after each round, and of the tier's controls; without those that learned nothing."""
    controls = lab.tier.chapter5.controls
    if "argmax" in controls:
        raise ValueError("'argmax' is GQPO itself, not one of its controls")
    folders = {f"{TUNED}, round {k}": lab.gqpo(rounds=k) for k in range(1, lab.tier.gqpo.rounds)}
    folders |= {TUNED: lab.gqpo(), **{rule: lab.gqpo(rule=cast(Rule, rule), rounds=1) for rule in controls}}
    return {name: folder for name, folder in folders.items() if folder is not None}


def finetuning_losses(folders: Mapping[str, Path]) -> pd.DataFrame:
    """Losses of every model of :func:`fine_tuned`, at least one: step, loss, model."""
    from lbm_core.think.trainer import LOG

    return pd.concat([pd.read_csv(one / LOG).assign(model=name) for name, one in folders.items()], ignore_index=True)


def answers_at_probes(lab: Lab, probes: Probes, models: Mapping[str, Path | None]) -> pd.DataFrame:
    """One text of each model (None: the pretrained) at every probe, and its effect; also DT and the spend-rate rule.

    One row per model and decision: model, moment, tick, cpa_ratio, random, stratified, direction (empty without a valid
    answer), status, ratio_error, tokens, alpha (of LBM-Act, told the direction or, without one, "uncertain"), delta_a
    (log alpha_t / alpha_{t-1}), relative_q and the best of the three, best_q, critic_best and simulator_best
    (directions), likely (the answer with the largest chance; NaN where the backend does not tell) and its likely_q, and
    of the first moments facts (in words) and text.
    """
    some, moments = probes.decisions, np.arange(len(probes.decisions))
    alphas, relative_q = judged_directions(lab, some.window)
    shared = {
        "moment": moments,
        "tick": some.ticks,
        "cpa_ratio": some.cpa_ratio,
        "random": probes.random,
        "stratified": probes.stratified,
        "critic_best": relative_q.argmax(axis=1) - 1,
        "best_q": relative_q.max(axis=1),
        "facts": [indicators(fact) if k < SHOWN else "" for k, fact in enumerate(some.facts)],
        "simulator_best": probes.best,
    }
    judge = lab.critic()

    def rows(name: str, answers: pd.Series, alpha: NDArray[np.float64], **texts: pd.Series) -> pd.DataFrame:
        columns = {
            "direction": answers,
            "alpha": alpha,
            "delta_a": np.log(np.maximum(alpha, 1e-9) / np.maximum(some.last_alpha, 1e-9)),
            "relative_q": judge.relative_q(some.window, alpha[:, None], some.logged_alpha)[:, 0],
        }
        return pd.DataFrame({**shared, **columns, **texts}).assign(model=name)

    frames = []
    for name, folder in models.items():
        groups = ask(lab, some.facts, "probes", 1, folder)
        samples = judged(lab, some, groups).samples
        followed = samples["direction"].where(samples["alpha"].notna()).fillna(0).to_numpy(dtype=np.int64)
        texts = {column: samples[column] for column in ("status", "ratio_error", "tokens")}
        texts["text"] = pd.Series([group[0].text if k < SHOWN else "" for k, group in enumerate(groups)])
        known = np.array([group[0].chances or (np.nan,) * 3 for group in groups])
        likely, there = np.nan_to_num(known).argmax(axis=1), ~np.isnan(known[:, 0])
        texts["likely"] = pd.Series(np.where(there, likely - 1, np.nan))
        texts["likely_q"] = pd.Series(np.where(there, relative_q[moments, likely], np.nan))
        frames.append(rows(name, samples["direction"], alphas[moments, followed + 1], **texts))
    alpha = lab.model("DT", tune=False).decide(some.window)
    frames.append(rows(DT_NAME, pd.Series(np.sign(alpha - some.last_alpha).astype(int)), alpha))
    frames.append(rows(RULE_NAME, pd.Series(some.ruled), alphas[moments, some.ruled + 1]))
    return pd.concat(frames, ignore_index=True)


def own_shares(answers: pd.DataFrame, model: str = TUNED) -> tuple[float, float, float] | None:
    """How often a model's texts said -1, 0 and 1 at the random moments of :func:`answers_at_probes`; a text without a
    valid answer counts as 0. None where the model wrote none."""
    said = answers.loc[answers["random"] & (answers["model"] == model), "direction"].astype("float64").fillna(0)
    down, up = (round(float((said == direction).mean()), 2) for direction in (-1, 1))
    return None if said.empty else (down, round(1.0 - down - up, 2), up)


def teachers(lab: Lab) -> pd.DataFrame:
    """What a student's errors cost: :func:`~lbm_core.evaluation.runner.period_means` of replays under :data:`TEACHERS`,
    with the columns ``right`` (share of words that are the critic's), ``every`` and ``hold``."""
    rows = period_means(few(lab, lab.tier.chapter5).evaluate(TEACHERS))
    told = {one.name: (1 - 2 * one.wrong / 3, one.every, one.hold) for one in TEACHERS}
    return rows.join(pd.DataFrame.from_dict(told, "index", columns=["right", "every", "hold"]), on="method")


def readings(lab: Lab) -> pd.DataFrame:
    """How LBM(GQPO)'s answers are best read, and how far they should move alpha: :data:`READINGS` on tuning periods.

    Half of the chapter's advertisers bid on the first two periods. One row per reading, scale (of the moves that are
    asked for) and period: score (mean expected score). Without a model after GQPO no row.
    """
    who, rows = spread_rows(-(-lab.tier.chapter5.advertisers // 2)), []
    for reading, scale in READINGS if lab.gqpo() is not None else ():
        own = lab.changed({"think.reading": reading})
        bidder = guided_contender(own, Guided("LBM-Think (GQPO)", scale=scale)).make()
        for table in lab.tuning_tables()[:2]:
            score = table_replay(table, bidder, rows=who).summary()["score"].mean()
            rows.append((reading, scale, table.period, float(score)))
    return pd.DataFrame(rows, columns=["reading", "scale", "period", "score"])


def best_reading(trials: pd.DataFrame) -> tuple[Reading, float]:
    """The reading and scale with the best mean score in :func:`readings`; the paper's where nothing was tried."""
    means = trials.groupby(["reading", "scale"], sort=False)["score"].mean()
    return READINGS[0] if means.empty else cast(tuple[Reading, float], means.idxmax())


def whole_days(
    lab: Lab, shares: tuple[float, float, float] | None = None, read: tuple[Reading, float] = READINGS[0]
) -> pd.DataFrame:
    """Replays under LBM-Think before and (if it learned) after GQPO and its control, under nobody, and under guides
    that speak as often: the rule, the critic, and a coin, with such ``shares`` of -1, 0 and 1 if they are given.

    LBM-Think's texts are read as the paper does, by their word; with another reading and scale in ``read`` also so,
    under names that end in it. LBM(P) and LBM(GQPO), read by their words, bid with all of the tier's trainings.
    """
    days, every = few(lab, lab.tier.chapter5), lab.tier.think.every
    random = Guided("random", every=every, shares=shares)
    count = 1 if lab.gqpo() is None else 2 + ("random" in lab.tier.chapter5.controls)  # before, after, the control
    thinkers = list(NAMES)[:count]
    guides = [Guided("none"), random, *(Guided(guide, every=every) for guide in ("rule", "critic"))]
    frames = [days.evaluate(guides)]
    for reading, scale in dict.fromkeys([READINGS[0], read]):
        own = days.changed({"think.reading": reading})
        every_training = own.changed({"evaluation.train_seeds": lab.tier.evaluation.train_seeds})
        suffix = "" if (reading, scale) == READINGS[0] else f", {reading}" + (f" x {scale:g}" if scale != 1 else "")
        for guide in thinkers:
            bidding = every_training if not suffix and NAMES[guide] != CONTROL else own
            rows = bidding.evaluate([Guided(guide, scale=None if scale == 1 else scale)])
            frames.append(rows.assign(method=NAMES[guide] + suffix))
    return pd.concat(frames, ignore_index=True)


def refinetuned(lab: Lab) -> pd.DataFrame:
    """Is it luck? Replays under LBM-Think after each of the tier's last fine-tunings of GQPO and of its control.

    They share LBM-Act, critic and the texts to choose from; another ``train_seed`` stands for another order and other
    low-rank updates at first, and for another draw where a rule leaves a choice: always of the control's texts, of
    GQPO's where more are chosen than are learned. LBM(P) is one model, shown beside each.
    Half of the chapter's advertisers; rows of :func:`~lbm_core.evaluation.runner.period_means` with ``weights``.
    """
    days, frames = few(lab, lab.tier.chapter5).held_out(), []
    who, draws = spread_rows(-(-lab.tier.chapter5.advertisers // 2)), range(lab.tier.evaluation.draws)
    for seed in range(lab.tier.chapter5.finetunings):
        own = lab.changed({"gqpo.finetune.seed": seed})
        for guide, name in NAMES.items():
            bids = guided_contender(own, Guided(guide))
            rows = evaluate({name: bids.make}, days, draws, rows=who, progress=False)
            frames.append(rows.assign(train_seed=seed, weights=bids.weights()))
    return period_means(pd.concat(frames, ignore_index=True))

"""Does the Q matter? What a coin passes, what N, tolerance and temperature do, and who advises better (chapter 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lbm_core.auction.replay import ReplayPeriod
from lbm_core.auction.response_tables import ResponseTables
from lbm_core.critic.validity import counterfactual_scores
from lbm_core.data.trajectories import TrajectorySet, sample_ends
from lbm_core.data.windows import Windows
from lbm_core.pipeline.act_study import AS_GUIDES, study_tier
from lbm_core.pipeline.contenders import evaluate_methods
from lbm_core.pipeline.models import act, critic, dt
from lbm_core.pipeline.moment_sets import Moments, draw_moments, joined, moments_at
from lbm_core.pipeline.stages import held_out_periods, trajectories
from lbm_core.pipeline.thinking import ask, gqpo_model, judged, moments, on_policy_days, think_settings
from lbm_core.seeding import generator
from lbm_core.settings import Dataset
from lbm_core.tiers import Tier

DIRECTIONS = (-1, 0, 1)
TOLERANCES = (0.01, 0.03, 0.1, 0.3, 1.0)  # relative errors of the stated ratio; beside them it is excused
EXCUSED = "excused"
# What "lower", "keep" and "raise" stand for in the simulator: multiples of the last alpha for the rest of the day.
MULTIPLES = (0.87, 1.0, 1.15)
PRETRAINED, TUNED = "pretrained", "GQPO"
DT_NAME, RULE_NAME = "DT", "spend-rate rule"  # advisers that write no texts; "rule" is a model that learned from one


@dataclass(frozen=True)
class Probes:
    """Moments of held-out days on which models are compared.

    Attributes
    ----------
    moments : n of them
    random : (n,) bool, those drawn at random
    stratified : (n,) bool, as many with a CPA ratio below 1 as above, as in Fig. 2; the two samples overlap
    best : (n,) direction with the best score in the simulator, if alpha is that multiple (:data:`MULTIPLES`) of the
        last one for the rest of the day; NaN where all come to the same
    """

    moments: Moments
    random: NDArray[np.bool_]
    stratified: NDArray[np.bool_]
    best: NDArray[np.float64]


def relative_q_of_directions(
    tier: Tier, dataset: Dataset, seed: int, window: Windows, *, train_seed: int | None = None
) -> NDArray[np.float64]:
    """Relative-Q (Eq. 12) of what LBM-Act does at n moments when told each of :data:`DIRECTIONS`: (n, 3)."""
    from lbm_core.act.decide import decide
    from lbm_core.act.guides import SENTENCES

    model, judge = act(tier, dataset, seed, train_seed=train_seed), critic(tier, dataset, seed, train_seed=train_seed)
    alphas = np.stack([decide(model, window, [SENTENCES[told]] * len(window)) for told in DIRECTIONS], axis=1)
    return judge.relative_q(window, alphas, window.alphas[:, -1].astype(np.float64))


def coin(tier: Tier, dataset: Dataset, seed: int) -> pd.DataFrame:
    """What every direction is worth to the critic, at logged moments and at those that LBM-Act meets itself.

    Returns
    -------
    One row per source ("logged", "on-policy"), moment and direction: source, moment, tick, cpa_ratio, ruled (what the
    spend-rate rule says), direction, relative_q
    """
    n, frames = tier.think.coin_moments, []
    days = {"logged": trajectories(tier, dataset, seed), "on-policy": on_policy_days(tier, dataset, seed)}
    for place, (source, found) in enumerate(days.items()):
        met = draw_moments(found, n, generator(seed, "think", 8, place))
        said = relative_q_of_directions(tier, dataset, seed, met.window)
        columns = {"moment": np.arange(len(met)), "tick": met.ticks, "cpa_ratio": met.cpa_ratio, "ruled": met.ruled}
        for place_of, told in enumerate(DIRECTIONS):
            frames.append(
                pd.DataFrame({**columns, "direction": told, "relative_q": said[:, place_of]}).assign(source=source)
            )
    return pd.concat(frames, ignore_index=True)


def coin_shares(directions: pd.DataFrame, n: int = 3) -> pd.DataFrame:
    """How often relative-Q > 0 lets through who knows nothing, and what the best of a group adds.

    Parameters
    ----------
    directions : rows of :func:`coin`
    n : texts per group

    Returns
    -------
    One row per source and adviser ("raise", "lower", "unsure" always; "coin" raises or lowers; "rule"; "critic" takes
    the best of the three): passes (share with relative-Q > 0), relative_q (mean), group (share of groups of ``n`` such
    texts that leave something to learn), chosen (mean relative-Q of what Eq. 13 then learns; NaN if nothing)
    """
    rows = []
    for source, group in directions.groupby("source", sort=False):
        table = group.pivot(index="moment", columns="direction", values="relative_q")[list(DIRECTIONS)].to_numpy()
        ruled = group.drop_duplicates("moment").sort_values("moment")["ruled"].to_numpy()
        down, same, up = table.T
        single = {"raise": up, "lower": down, "unsure": same, "rule": table[np.arange(len(table)), ruled + 1]}
        single["critic"] = table.max(axis=1)
        for adviser, said in single.items():
            passed = said > 0
            learned = float(said[passed].mean()) if passed.any() else np.nan
            rows.append((source, adviser, passed.mean(), said.mean(), passed.mean(), learned))
        # Of n tosses the best is the better side unless all n fell on the worse one.
        better, worse = np.maximum(down, up), np.minimum(down, up)
        only_worse = 0.5**n
        leaves = (better > 0) * (1 - only_worse) + (worse > 0) * only_worse
        gained = better * (better > 0) * (1 - only_worse) + worse * (worse > 0) * only_worse
        learned = gained.sum() / leaves.sum() if leaves.sum() else np.nan
        tossed = np.concatenate([down, up])
        rows.append((source, "coin", (tossed > 0).mean(), tossed.mean(), leaves.mean(), learned))
    return pd.DataFrame(rows, columns=["source", "adviser", "passes", "relative_q", "group", "chosen"])


def sweep(tier: Tier, dataset: Dataset, seed: int) -> pd.DataFrame:
    """What N, the tolerance of the hallucination check and the temperature do to GQPO's selection.

    At some of the tier's moments the largest N is drawn at every temperature; a smaller N is the mean over all its
    subgroups, a tolerance is applied to the texts that were drawn.

    Returns
    -------
    One row per temperature, tolerance (text; "excused": the ratio does not count) and N (column n): prompts, accepted
    (share of texts), learned (share of groups that leave something), relative_q (mean of what is learned), gain (mean
    over all groups, 0 where nothing is learned)
    """
    asked, n = moments(tier, dataset, seed), tier.think.sweep_samples
    first = slice(0, min(tier.think.sweep_prompts, len(asked)))
    some = replace(
        asked,
        window=asked.window[first],
        facts=asked.facts[first],
        **{name: getattr(asked, name)[first] for name in ("rows", "ticks", "ruled", "on_policy")},
    )
    default, frames = think_settings(tier)[0], []
    for temperature in sorted({tier.think.temperature, *tier.think.temperatures}):
        sampling = replace(default, temperature=temperature)
        groups = ask(tier, dataset, seed, some.facts, "logged", n=n, sampling=sampling)
        samples = judged(tier, dataset, seed, some, groups, ratio_required=False).samples
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
        positive = np.where(accepted & (table > 0), table, -np.inf)
        for n in range(1, table.shape[1] + 1):
            best = np.stack([positive[:, list(some)].max(axis=1) for some in combinations(range(table.shape[1]), n)])
            found = np.isfinite(best)
            gain = np.where(found, best, 0.0)
            learned = gain.sum() / found.sum() if found.any() else np.nan
            rows.append((tolerance, n, len(table), accepted.mean(), found.mean(), learned, gain.mean()))
    return pd.DataFrame(rows, columns=["tolerance", "n", "prompts", "accepted", "learned", "relative_q", "gain"])


def probes(tier: Tier, dataset: Dataset, seed: int) -> Probes:
    """The tier's number of random moments of its held-out days, and as many with half of them on either side of 1."""
    n, logs = tier.think.probes, held_out_periods(tier, dataset, seed).logs
    parts, chosen, stratified, best = [], [], [], []
    for number, log in enumerate(logs):
        share, half = (count // len(logs) + (number < count % len(logs)) for count in (n, n // 2))
        if share == 0:
            continue
        held = TrajectorySet.from_logs([log])
        rows, ticks = sample_ends(held, 40 * share + 200, generator(seed, "evaluation", 5, log.period))
        some = ticks > 0
        drawn = moments_at(held, rows[some], ticks[some])
        ratio, order = drawn.cpa_ratio, np.arange(len(drawn))
        below, above = (side[:half] for side in (order[ratio < 1], order[ratio > 1]))
        taken = np.unique(np.concatenate([order[:share], below, above]))
        part = moments_at(held, drawn.rows[taken], drawn.ticks[taken])
        parts.append(part)
        chosen.append(taken < share)
        stratified.append(np.isin(taken, np.concatenate([below, above])))
        tables = ResponseTables.from_period(ReplayPeriod.from_log(log))
        best.append(best_directions(tables, held, part))
    return Probes(joined(parts), np.concatenate(chosen), np.concatenate(stratified), np.concatenate(best))


def best_directions(tables: ResponseTables, days: TrajectorySet, some: Moments) -> NDArray[np.float64]:
    """(n,) direction in {-1, 0, 1} with the best counterfactual score at moments of a logged period; NaN for a tie."""
    script = days.alphas[some.rows].astype(np.float64)
    later = np.arange(script.shape[1]) >= some.ticks[:, None]
    script = np.where(later, some.last_alpha[:, None], script)
    scores = counterfactual_scores(tables, days.advertisers(some.rows), script, some.ticks, MULTIPLES, persistent=True)
    tied = np.ptp(scores, axis=1) <= 1e-9
    return np.where(tied, np.nan, scores.argmax(axis=1) - 1.0)


def fine_tuned(tier: Tier, dataset: Dataset, seed: int) -> dict[str, Path]:
    """The models of before and after: GQPO, after each round, and the tier's controls; without those that learned
    nothing.

    Raises
    ------
    ValueError
        A control that is GQPO's own rule, or none of :data:`lbm_core.think.rules.RULES`.
    """
    if "argmax" in tier.think.controls:
        raise ValueError("'argmax' is GQPO itself, not one of its controls")
    found = {f"{TUNED}, round {k}": gqpo_model(tier, dataset, seed, rounds=k) for k in range(1, tier.think.rounds)}
    found[TUNED] = gqpo_model(tier, dataset, seed)
    found |= {rule: gqpo_model(tier, dataset, seed, rule=rule, rounds=1) for rule in tier.think.controls}
    return {name: path for name, path in found.items() if path is not None}


def compared(tier: Tier, dataset: Dataset, seed: int, asked: Probes, models: Mapping[str, Path | None]) -> pd.DataFrame:
    """One text of each model at every probe, and what comes of it; beside them DT and the spend-rate rule.

    Parameters
    ----------
    models : name to folder; None is the pretrained model

    Returns
    -------
    One row per model and moment: model, moment, tick, cpa_ratio, random, stratified, direction (empty without a valid
    answer), status, ratio_error, alpha (of LBM-Act, told the direction or, without one, "uncertain"), delta_a
    (log alpha_t / alpha_{t-1}), relative_q, critic_best and simulator_best (directions)
    """
    from lbm_core.act.decide import decide
    from lbm_core.act.guides import SENTENCES

    met = asked.moments
    values = relative_q_of_directions(tier, dataset, seed, met.window)
    shared = {
        "moment": np.arange(len(met)),
        "tick": met.ticks,
        "cpa_ratio": met.cpa_ratio,
        "random": asked.random,
        "stratified": asked.stratified,
        "critic_best": values.argmax(axis=1) - 1,
        "simulator_best": asked.best,
    }
    actor, judge = act(tier, dataset, seed), critic(tier, dataset, seed)
    moves = {told: decide(actor, met.window, [SENTENCES[told]] * len(met)) for told in DIRECTIONS}

    logged = met.window.alphas[:, -1].astype(np.float64)

    def rows(name: str, answers: pd.Series, alpha: NDArray[np.float64], **texts: pd.Series) -> pd.DataFrame:
        columns = {
            "direction": answers,
            "alpha": alpha,
            "delta_a": np.log(np.maximum(alpha, 1e-9) / np.maximum(met.last_alpha, 1e-9)),
            "relative_q": judge.relative_q(met.window, alpha[:, None], logged)[:, 0],
        }
        return pd.DataFrame({**shared, **columns, **texts}).assign(model=name)

    def led(followed: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.choose(followed + 1, [moves[told] for told in DIRECTIONS])

    frames = []
    for name, folder in models.items():
        groups = ask(tier, dataset, seed, met.facts, "probes", n=1, model=folder)
        samples = judged(tier, dataset, seed, met, groups).samples
        followed = samples["direction"].where(samples["alpha"].notna()).fillna(0).to_numpy(dtype=np.int64)
        texts = {column: samples[column] for column in ("status", "ratio_error", "tokens")}
        frames.append(rows(name, samples["direction"], led(followed), **texts))
    alpha = dt(tier, dataset, seed).decide(met.window)
    frames.append(rows(DT_NAME, pd.Series(np.sign(alpha - met.last_alpha).astype(int)), alpha))
    frames.append(rows(RULE_NAME, pd.Series(met.ruled), led(met.ruled)))
    return pd.concat(frames, ignore_index=True)


def at_the_wheel(tier: Tier, dataset: Dataset, seed: int) -> pd.DataFrame:
    """Replays of LBM-Act led by LBM-Think before and after GQPO, by nobody, and by guides that speak as seldom.

    Returns
    -------
    Rows of :func:`~lbm_core.pipeline.contenders.evaluate_methods` for the study's advertisers; without "LBM(GQPO)"
    where nothing was worth learning
    """
    seldom = f", every {tier.think.think_every} ticks" if tier.think.think_every > 1 else ""
    others = [f"LBM-Act + {guide}{seldom}" for guide in ("random", "rule", "critic")]
    rows = evaluate_methods(study_tier(tier), dataset, seed, ["LBM(P)", "LBM(GQPO)", "uncertain", *others])
    return rows.assign(method=rows["method"].replace(AS_GUIDES))

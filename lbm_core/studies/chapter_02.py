"""What do words do to LBM-Act? Losses with and without them, obedience, guides and sizes (chapter 2)."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pandas as pd

from lbm_core.act.config import GUIDED, METHODS
from lbm_core.act.config import Guide as ActGuide
from lbm_core.auction.bidder import N_TICKS
from lbm_core.auction.replay import replay
from lbm_core.auction.response_tables import table_replay
from lbm_core.data.trajectories import TrajectorySet, sample_ends, windows
from lbm_core.data.windows import Windows
from lbm_core.evaluation.loss_gap import final_losses
from lbm_core.evaluation.runner import spread_rows
from lbm_core.lab.actor import actor
from lbm_core.lab.artifacts import weights_of
from lbm_core.lab.guided import Guide, Guided
from lbm_core.lab.lab import Lab
from lbm_core.lab.models import act
from lbm_core.seeding import generator
from lbm_core.studies.sizes import few, once

SAMPLES = 256  # decisions at which obedience is asked for
SIZES: dict[str, dict[str, Any]] = {  # fields of LBM-Act's configuration that differ from the tier's
    "default": {},
    "1 layer": {"layers": 1},
    "4 layers": {"layers": 4},
    "random": {"initialise": "random"},
    "frozen": {"adapt": "frozen"},
    "random, frozen": {"initialise": "random", "adapt": "frozen"},
    "LoRA": {"adapt": "lora"},
}
# Table 4's methods of the registry, and what LBM-Act is told in them.
CONSTANT = {"increase": Guided("increase"), "decrease": Guided("decrease"), "uncertain": Guided("none")}


def loss_curves(lab: Lab) -> pd.DataFrame:
    """Fig. 3: losses of the chapter's language inputs and the tier's training seeds, all on the same windows.

    Columns: method, seed, step (from 1), batch_loss (of the step's own batch), loss (of windows that stay the same); a
    row per step at which the latter was measured.
    """
    curves = (_losses(own.act(guide=guide)) for own in lab.trainings() for guide in lab.tier.chapter2.curves)
    return pd.concat(curves, ignore_index=True)


def later_moments(days: TrajectorySet, seed: int) -> Windows:
    """Decisions of logged days in which a direction can be followed: any tick with a bid but the first."""
    rows, ticks = sample_ends(days, SAMPLES, generator(seed, "evaluation", 2))
    later = ticks > 0
    return windows(days, rows[later], ticks[later], N_TICKS)


def obedience(lab: Lab, moments: Windows) -> pd.DataFrame:
    """Shares of moves in the direction of an instruction, given in words and, as a control, as a number.

    Rows of :func:`lbm_core.act.following.following_rate` with the columns method and train_seed.
    """
    guided = [guide for guide in lab.tier.chapter2.curves if guide in GUIDED]
    models = (own.act(guide=guide) for own in lab.trainings() for guide in guided)
    frames = (_following(m, moments).assign(method=m.config.method, train_seed=m.config.seed) for m in models)
    return pd.concat(frames, ignore_index=True)


def softer(lab: Lab) -> list[Guided]:
    """Constant instructions that are followed a part of the way, given now and then, up to a level, or with a leak."""
    chapter = lab.tier.chapter2
    ways: list[dict[str, Any]] = [{"scale": scale} for scale in chapter.guide_scales]
    ways += [{"every": ticks} for ticks in chapter.guide_intervals]
    ways += [{"level": level} for level in chapter.guide_levels]
    ways += [{"leak": leak} for leak in chapter.leaks]
    directions: tuple[Guide, ...] = ("increase", "decrease")
    return [Guided(direction, **way) for way in ways for direction in directions]


def forced(lab: Lab) -> pd.DataFrame:
    """Table 4: LBM-Act with the same instruction all day, and the softer ways of it.

    Rows of :meth:`~lbm_core.lab.lab.Lab.evaluate` with the columns instruction ("increase", "decrease", "base") and way
    ("every tick", or one of :func:`softer`'s).
    """
    methods = CONSTANT | {guided.name: guided for guided in softer(lab)}
    labels = [(name, "base" if one.guide == "none" else one.guide, _way(one)) for name, one in methods.items()]
    chapter = few(lab, lab.tier.chapter2)
    rows = pd.concat([chapter.evaluate([*CONSTANT]), once(chapter).evaluate(softer(lab))], ignore_index=True)
    return rows.merge(pd.DataFrame(labels, columns=["method", "instruction", "way"]), on="method", how="left")


def by_strength(rows: pd.DataFrame) -> pd.DataFrame:
    """Means of :func:`forced` (or of its periods) per instruction and way: these two, and the metrics."""
    metrics = ["budget_utilization", "conversions", "score"]
    return rows.groupby(["instruction", "way"], sort=False)[metrics].mean().reset_index()


def guides_compared(lab: Lab) -> pd.DataFrame:
    """LBM-Act under the chapter's guides and constant words, beside who bids without a guide.

    These are LLM-DT and Prompt-LLM-DT where the chapter trains them, the critic alone, oracle imitation and, for
    replay-Q as a guide, replay-Q alone. Nobody, critic and oracle lead every training of the chapter; the others one.
    """
    chapter = few(lab, lab.tier.chapter2)
    guides = [cast(Guide, name) for name in chapter.tier.chapter2.guides]
    often = [name for name in guides if name in ("critic", "oracle")]
    seldom: list[str | Guided] = [Guided(name) for name in guides if name not in often]
    seldom += [CONSTANT["increase"], CONSTANT["decrease"], *(["replay-Q alone"] if "replay-Q" in guides else [])]
    alone = ["critic alone", "oracle imitation"] if "critic" in guides else []
    alone += [METHODS[guide] for guide in chapter.tier.chapter2.curves if guide not in GUIDED]
    main = chapter.evaluate([Guided("none"), *map(Guided, often), *alone])
    return pd.concat([main, once(chapter).evaluate(seldom)], ignore_index=True)


def drifts(lab: Lab) -> pd.DataFrame:
    """How far every training of LBM-Act, LLM-DT and Prompt-LLM-DT drifts where nobody instructs it, on tuning periods.

    Columns: method, train_seed, the settings in use (target_return, leak, guide_scale), drift (of log alpha a day; see
    :attr:`~lbm_core.act.decide.LBMActBidder.drift`), expected_score (mean per advertiser), weights.
    """
    from lbm_core.act.decide import LBMActBidder

    rows, who = [], spread_rows(few(lab, lab.tier.chapter2).tier.evaluation.advertisers)
    for own in few(lab, lab.tier.chapter2).trainings():
        for guide in ("sentence", *(name for name in lab.tier.chapter2.curves if name not in GUIDED)):
            played = actor(own, cast(ActGuide, guide))
            bidder = LBMActBidder(played.get(quiet=True))
            days = [table_replay(day, bidder, rows=who).summary()["expected_score"] for day in lab.tuning_tables()]
            row = {"method": METHODS[guide], "train_seed": own.training_seed, "weights": weights_of([played])}
            row |= {name: getattr(bidder, name) for name in ("target_return", "leak", "guide_scale", "drift")}
            rows.append(row | {"expected_score": np.mean([scores.mean() for scores in days])})
    return pd.DataFrame(rows)


def days_under_instruction(lab: Lab, methods: Sequence[str | Guided]) -> pd.DataFrame:
    """One advertiser's day under each method: how far alpha goes, at ticks with a bid.

    The advertiser is the one who bids longest under all of them, so that no line ends early for want of money. Columns:
    method, period, advertiser, tick, alpha_ratio (alpha / C), spent (share of the budget, after the tick).
    """
    period = lab.held_out()[-1]
    rows = spread_rows(few(lab, lab.tier.chapter2).tier.evaluation.advertisers)
    replays = {
        name: replay(period, make(), generator(lab.seed, "evaluation", period.period), rows=rows)
        for name, make in lab.bidders(methods).items()
    }
    longest, who = np.argmax(np.min([result.lengths for result in replays.values()], axis=0)), period.advertisers[rows]
    frames = []
    for name, result in replays.items():
        ratio = result.alphas[longest] / who.cpa_target[longest]
        spent = np.cumsum(result.costs[longest]) / who.budget[longest]
        day = pd.DataFrame({"tick": np.arange(len(ratio)), "alpha_ratio": ratio, "spent": spent})
        frames.append(day[day["alpha_ratio"] > 0].assign(method=name))
    return pd.concat(frames, ignore_index=True).assign(period=period.period, advertiser=int(who.index[longest]))


def sizes_compared(lab: Lab, moments: Windows) -> pd.DataFrame:
    """LBM-Acts of the chapter's sizes: what is trained of the language model, and what it gives at these decisions.

    Columns: size, train_seed, layers, parameters (of layers, embedding and head), trained (of those), loss (mean of the
    last fifth of the probes), followed (share), mean_move (of log alpha, along the instruction), seconds (of training).
    """
    names = lab.tier.chapter2.sizes
    if unknown := [name for name in names if name not in SIZES]:
        raise ValueError(f"no size {unknown[0]!r}; one of {', '.join(SIZES)}")
    rows = []
    for own in once(lab).trainings():
        for name in names:
            artifact = act(own, **SIZES[name])
            model = artifact.get()
            weights = list(model.parameters())
            row = {"size": name, "train_seed": own.training_seed, "layers": len(model.transformer.layers)}
            row["parameters"] = sum(p.numel() for p in weights) - model.token_embedding.weight.numel()
            row["trained"] = sum(p.numel() for p in weights if p.requires_grad)
            row["loss"] = final_losses(_losses(model))["loss"].iloc[0]
            rates = _following(model, moments).set_index("direction").loc["all"]
            row |= {"followed": rates["followed"], "mean_move": rates["mean_move"]}
            rows.append(row | {"seconds": artifact.took["seconds"]})
    return pd.DataFrame(rows)


def _way(guided: Guided) -> str:
    for name, word in (("scale", "scale"), ("level", "up to"), ("leak", "leak")):
        if getattr(guided, name) is not None:
            return f"{word} {getattr(guided, name):g}"
    return f"every {guided.every} ticks" if guided.every > 1 else "every tick"


def _losses(model: Any) -> pd.DataFrame:
    """A training's losses at the steps at which that of the same windows was measured."""
    names = {"method": model.config.method, "seed": model.config.seed, "step": np.arange(1, len(model.history) + 1)}
    return pd.DataFrame(names | dict(zip(("batch_loss", "loss"), model.history.T, strict=True))).dropna(subset=["loss"])


def _following(model: Any, moments: Windows) -> pd.DataFrame:
    from lbm_core.act.following import following_rate, instructed_moves

    moves = instructed_moves(model, moments)
    return following_rate(moves["log_move"], moves["direction"])

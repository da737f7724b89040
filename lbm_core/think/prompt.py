"""The prompt of LBM-Think (Fig. 4, A.3): the last ticks as numbers in words, two hints, two tags to fill in.

The content follows Fig. 4; the wording is this project's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from lbm_core.auction.bidder import N_TICKS, Advertisers, Observation
from lbm_core.data.trajectories import TrajectorySet
from lbm_core.tiers import Tier

HISTORY = 4  # past ticks shown (A.3)
_PVALUE_NOW, _COUNT_NOW = 12, 13  # columns of the state: mean p-value and impressions of its own tick

SYSTEM = (
    "You steer the bids of one advertiser in online ad auctions. A day has {n_ticks} timesteps. "
    "Your goal: as many conversions as possible over the whole day, at a realized CPA that stays low."
)
FACTS = (
    "The advertiser has a budget of {budget} and a CPA constraint of {cpa_target}. "
    "What happened lately, from timestep {first} to timestep {last}:\n"
    "remaining time ratio: {time_left}\n"
    "remaining budget ratio: {budget_left}\n"
    "predicted total impression value: {predicted_values}\n"
    "conversions in each timestep: {conversions}\n"
    "bidding parameter in each timestep: {alphas}\n"
    "Total conversions since timestep 0: {total_conversions}"
)
KNOWLEDGE = (
    "Two things to know:\n"
    "1. Spend the budget with care and in full over the day, but do not let it run out early.\n"
    "2. realized CPA = spent budget / total conversions, and spent budget = budget * (1 - latest remaining budget "
    "ratio). Where you expect the realized CPA to end above the CPA constraint, lower the bidding parameter."
)
TASK = (
    "First sum up the history, and state the current CPA ratio = realized CPA / CPA constraint once, inside "
    "<ratio></ratio> tags. Then reason about the best direction of the next adjustments of the bidding parameter. "
    "At the very end you MUST give the direction inside <answer></answer> tags; only three answers exist: "
    "<answer>1</answer> if you are sure that raising the bidding parameter is better, "
    "<answer>-1</answer> if you are sure that lowering it is better, "
    "<answer>0</answer> if you cannot tell."
)
ASSISTANT = "I will work through this step by step. My chain of thought:"


@dataclass(frozen=True)
class PromptStyle:
    """Variations of the prompt; the defaults are Fig. 4's.

    Attributes
    ----------
    order : "facts_first" as in Fig. 4, or "facts_last", where all that prompts have in common comes first (a small
        model follows it no worse, and a shared beginning needs to be computed only once)
    worked_examples : 0..3 solved cases that precede the question as earlier turns of the conversation, with invented
        numbers and one of each direction (raise, lower, cannot tell). Differs from the paper, whose 3B model needs
        none; one of 135M hardly ever fills in the tags without.
    first_example : which of the solved cases comes first; the others follow in turn, so that the case before it is the
        last one, whose words stand next to the question
    brief : ask for no more than four sentences, so that a chain of thought fits into a small token limit
    """

    order: Literal["facts_first", "facts_last"] = "facts_first"
    worked_examples: int = 0
    first_example: int = 0
    brief: bool = False

    def __post_init__(self) -> None:
        if self.order not in ("facts_first", "facts_last"):
            raise ValueError(f"unknown prompt order {self.order!r}; choose facts_first or facts_last")
        if not 0 <= self.worked_examples <= len(EXAMPLES):
            raise ValueError(f"worked_examples must lie in 0..{len(EXAMPLES)}; got {self.worked_examples}")
        if not 0 <= self.first_example < max(self.worked_examples, 1):
            raise ValueError(f"first_example must be one of the {self.worked_examples} shown; got {self.first_example}")

    @property
    def examples(self) -> tuple[tuple[PromptFacts, str], ...]:
        """The solved cases in the order in which they are shown, each with its solution."""
        shown = EXAMPLES[: self.worked_examples]
        return shown[self.first_example :] + shown[: self.first_example]

    @classmethod
    def from_tier(cls, tier: Tier) -> PromptStyle:
        """Fig. 4's prompt; where a tier shows worked examples, the facts come last."""
        shown = tier.think.worked_examples
        return cls(order="facts_last" if shown else "facts_first", worked_examples=shown)


@dataclass(frozen=True)
class PromptFacts:
    """What one prompt tells about one advertiser, known at the end of tick ``last_tick``.

    Attributes
    ----------
    tick : int in 1..48, the tick to decide; the facts are of the ticks before it
    budget : currency per period, > 0
    cpa_target : C, currency per conversion, > 0
    time_left : (h,) share of the day left at the start of each past tick, h = min(4, tick)
    budget_left : (h,) share of the budget left at the end of each past tick, so that the last one fits the totals
    predicted_values : (h,) predicted impression value of each past tick: mean p * number of impressions
    conversions : (h,) conversions of each past tick
    alphas : (h,) bidding parameter of each past tick, currency per conversion
    total_conversions : conversions since tick 0
    """

    tick: int
    budget: float
    cpa_target: float
    time_left: tuple[float, ...]
    budget_left: tuple[float, ...]
    predicted_values: tuple[float, ...]
    conversions: tuple[float, ...]
    alphas: tuple[float, ...]
    total_conversions: float

    def __post_init__(self) -> None:
        if not 1 <= self.tick <= N_TICKS:
            raise ValueError(f"a prompt needs at least one past tick; got tick {self.tick}")
        if not (self.budget > 0 and self.cpa_target > 0):
            raise ValueError(f"budget {self.budget} and CPA target {self.cpa_target} must be positive")
        columns = (self.time_left, self.budget_left, self.predicted_values, self.conversions, self.alphas)
        if {len(column) for column in columns} != {len(self.time_left)} or not self.time_left:
            raise ValueError("every fact needs one number per past tick, at least one")
        if not np.isfinite([*np.concatenate(columns), self.total_conversions, self.budget, self.cpa_target]).all():
            raise ValueError(f"prompt facts of tick {self.tick} hold NaN or infinite values")

    @property
    def spent(self) -> float:
        """Currency spent so far: budget * (1 - latest remaining budget ratio), as the prompt's second hint says."""
        return self.budget * (1.0 - self.budget_left[-1])

    @property
    def true_ratio(self) -> float:
        """CPA ratio (spent / conversions) / C that ``<ratio>`` must state; NaN without a conversion."""
        if self.total_conversions <= 0:
            return float("nan")
        return self.spent / self.total_conversions / self.cpa_target


def prompt_facts(observation: Observation, advertisers: Advertisers, history: int = HISTORY) -> list[PromptFacts]:
    """Facts of every advertiser for a chain of thought made before ``observation.tick`` (A.3).

    Only ticks before ``observation.tick`` enter, never the current state: the chain of thought is made ahead of its
    tick (Fig. 4).

    Parameters
    ----------
    observation : live, or logged data through :meth:`~lbm_core.data.trajectories.TrajectorySet.observation`
    advertisers : the n advertisers of the observation
    history : past ticks to show, >= 1; fewer are shown early in the day

    Raises
    ------
    ValueError
        Tick 0, where there is no past to speak of (LBM-Act gets the guide for the first tick instead).
    """
    tick = observation.tick
    if tick < 1:
        raise ValueError("no prompt at tick 0: nothing has happened yet; use the guide for the first tick")
    if len(advertisers) != len(observation):
        raise ValueError(f"{len(observation)} observed rows, but {len(advertisers)} advertisers")
    past = slice(max(0, tick - history), tick)
    left = 1.0 - np.cumsum(observation.costs, axis=1) / advertisers.budget[:, None]
    left = np.clip(left, 0.0, 1.0)[:, past]
    values = (observation.states[:, :, _PVALUE_NOW] * observation.states[:, :, _COUNT_NOW])[:, past]
    time_left = tuple((N_TICKS - t) / N_TICKS for t in range(tick)[past])
    return [
        PromptFacts(
            tick=tick,
            budget=float(advertisers.budget[i]),
            cpa_target=float(advertisers.cpa_target[i]),
            time_left=time_left,
            budget_left=tuple(left[i].tolist()),
            predicted_values=tuple(values[i].tolist()),
            conversions=tuple(observation.conversions[i, past].tolist()),
            alphas=tuple(observation.alphas[i, past].tolist()),
            total_conversions=float(observation.conversions[i].sum()),
        )
        for i in range(len(observation))
    ]


def logged_facts(
    trajectories: TrajectorySet, rows: ArrayLike, ticks: ArrayLike, history: int = HISTORY
) -> list[PromptFacts]:
    """Facts of logged decisions (row, tick), in the given order; ticks >= 1."""
    rows, ticks = np.asarray(rows), np.asarray(ticks)
    facts: dict[int, PromptFacts] = {}
    for tick in np.unique(ticks):  # one observation holds many rows, but one tick
        at = np.flatnonzero(ticks == tick)
        observation = trajectories.observation(rows[at], int(tick))
        facts.update(
            zip(at.tolist(), prompt_facts(observation, trajectories.advertisers(rows[at]), history), strict=True)
        )
    return [facts[k] for k in range(len(rows))]


def messages(facts: PromptFacts, style: PromptStyle | None = None) -> list[dict[str, str]]:
    """System and user message of a prompt, before any chat template; worked examples are turns between the two."""
    style = style or PromptStyle()
    rules = [KNOWLEDGE, TASK + (" Use no more than four short sentences." if style.brief else "")]
    examples = style.examples
    chat = [{"role": "system", "content": SYSTEM.format(n_ticks=N_TICKS)}]
    for number, case in enumerate([example for example, _ in examples] + [facts]):
        told = [describe(case)]
        if number == 0:  # the rules are told once
            told = told + rules if style.order == "facts_first" else rules + told
        chat.append({"role": "user", "content": "\n\n".join(told)})
        if number < len(examples):
            chat.append({"role": "assistant", "content": f"{ASSISTANT} {examples[number][1]}"})
    return chat


def render(facts: PromptFacts, tokenizer: Any, style: PromptStyle | None = None) -> str:
    """The whole prompt with the first words of the answer (Fig. 4); arguments and errors as :func:`in_template`'s."""
    return in_template(messages(facts, style), tokenizer, ASSISTANT)


def in_template(chat: list[dict[str, str]], tokenizer: Any, opening: str) -> str:
    """A conversation in the model's own chat template, and the words with which its answer begins.

    Parameters
    ----------
    chat : turns of "system", "user" and "assistant"
    tokenizer : transformers tokenizer with a chat template
    opening : first words of the answer, which the model goes on from

    Raises
    ------
    ValueError
        The tokenizer has no chat template (a base model): take an instruction-tuned one.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise ValueError("this model's tokenizer has no chat template: LBM-Think needs an instruction-tuned model")
    return tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) + opening


def describe(facts: PromptFacts) -> str:
    """The numbers of :class:`PromptFacts` in words."""
    last = facts.tick - 1
    return FACTS.format(
        budget=_number(facts.budget, 6),
        cpa_target=_number(facts.cpa_target, 4),
        first=last - len(facts.time_left) + 1,
        last=last,
        time_left=_list(facts.time_left, 3),
        budget_left="[" + ", ".join(_share_left(share) for share in facts.budget_left) + "]",
        predicted_values=_list(facts.predicted_values, 3),
        conversions=_list(facts.conversions, 4),
        alphas=_list(facts.alphas, 4),
        total_conversions=_number(facts.total_conversions, 6),
    )


def _number(value: float, digits: int) -> str:
    """Positional notation with ``digits`` significant digits, no trailing zeros."""
    return np.format_float_positional(value, precision=digits, fractional=False, trim="-")


def _list(values: Sequence[float], digits: int) -> str:
    return "[" + ", ".join(_number(value, digits) for value in values) + "]"


def _share_left(share: float) -> str:
    """At least 3 decimals, and 3 significant digits of what is *spent*: 0.99973 must not read as 1.000."""
    spent = 1.0 - share
    decimals = 3
    if 0.0 < spent < 1.0:
        decimals = min(max(3, 2 - int(np.floor(np.log10(spent)))), 9)
    whole, _, fraction = f"{share:.{decimals}f}".partition(".")
    return f"{whole}.{fraction.rstrip('0'):0<3}"


# Invented cases in which arithmetic and answer are right, for styles that show worked examples.
EXAMPLES: tuple[tuple[PromptFacts, str], ...] = (
    (
        PromptFacts(
            tick=20,
            budget=2000.0,
            cpa_target=10.0,
            time_left=(32 / 48, 31 / 48, 30 / 48, 29 / 48),
            budget_left=(0.52, 0.48, 0.44, 0.4),
            predicted_values=(31.0, 40.0, 38.0, 36.0),
            conversions=(4.0, 3.0, 5.0, 3.0),
            alphas=(14.2, 14.1, 13.9, 13.8),
            total_conversions=80.0,
        ),
        "Spent budget = 2000 * (1 - 0.4) = 1200. Realized CPA = 1200 / 80 = 15. CPA ratio = 15 / 10 = "
        "<ratio>1.5</ratio>. The CPA is above the constraint, and the budget goes faster than the time. "
        "So lowering the bidding parameter is better. <answer>-1</answer>",
    ),
    (
        PromptFacts(
            tick=30,
            budget=4000.0,
            cpa_target=8.0,
            time_left=(22 / 48, 21 / 48, 20 / 48, 19 / 48),
            budget_left=(0.83, 0.82, 0.81, 0.8),
            predicted_values=(45.0, 42.0, 50.0, 47.0),
            conversions=(6.0, 7.0, 5.0, 8.0),
            alphas=(5.1, 5.2, 5.2, 5.3),
            total_conversions=160.0,
        ),
        "Spent budget = 4000 * (1 - 0.8) = 800. Realized CPA = 800 / 160 = 5. CPA ratio = 5 / 8 = "
        "<ratio>0.625</ratio>. The CPA is below the constraint, and much budget is left for the time. "
        "So raising the bidding parameter is better. <answer>1</answer>",
    ),
    (
        PromptFacts(
            tick=24,
            budget=3000.0,
            cpa_target=12.0,
            time_left=(28 / 48, 27 / 48, 26 / 48, 25 / 48),
            budget_left=(0.56, 0.54, 0.52, 0.5),
            predicted_values=(28.0, 30.0, 33.0, 29.0),
            conversions=(5.0, 5.0, 6.0, 4.0),
            alphas=(11.8, 12.1, 11.9, 12.0),
            total_conversions=125.0,
        ),
        "Spent budget = 3000 * (1 - 0.5) = 1500. Realized CPA = 1500 / 125 = 12. CPA ratio = 12 / 12 = "
        "<ratio>1</ratio>. The CPA meets the constraint, and budget and time run down together. "
        "So no direction is clearly better for the bidding parameter. <answer>0</answer>",
    ),
)

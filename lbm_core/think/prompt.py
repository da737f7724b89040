"""The prompt of LBM-Think (Fig. 4, A.3): the last ticks as numbers in words, two hints, two tags to fill in.

The content follows Fig. 4; the wording is this project's own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lbm_core.auction.bidder import N_TICKS, Advertisers, Observation
from lbm_core.auction.state import FEATURES
from lbm_core.data.trajectories import TrajectorySet
from lbm_core.settings import Positive, settings
from lbm_core.think.config import PromptStyle, Ticks

HISTORY = 4  # past ticks shown (A.3)
# Columns of the state: mean p-value and impressions of its own tick.
_PVALUE_NOW, _COUNT_NOW = FEATURES.index("current_pvalue_mean"), FEATURES.index("current_pv_num")

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


@settings
class PromptFacts:
    """What one prompt tells about one advertiser, of the h = min(4, tick) ticks before ``tick``."""

    tick: Ticks  # to decide; the facts are of the ticks before it
    budget: Positive  # currency per period
    cpa_target: Positive  # C, currency per conversion
    time_left: tuple[float, ...]  # (h,) share of the day left at the start of each past tick
    # (h,) share of the budget left at the end of each past tick, so that the last one fits the totals
    budget_left: tuple[float, ...]
    predicted_values: tuple[float, ...]  # (h,) predicted impression value: mean p * number of impressions
    conversions: tuple[float, ...]  # (h,) of each past tick
    alphas: tuple[float, ...]  # (h,) bidding parameter of each past tick, currency per conversion
    total_conversions: float  # since tick 0

    def __post_init__(self) -> None:
        columns = (self.time_left, self.budget_left, self.predicted_values, self.conversions, self.alphas)
        if {len(column) for column in columns} != {len(self.time_left)} or not self.time_left:
            raise ValueError("every fact needs one number per past tick, at least one")

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


def prompt_facts(observation: Observation, advertisers: Advertisers) -> list[PromptFacts]:
    """Facts of every advertiser for a chain of thought made before ``observation.tick`` (A.3).

    Only ticks before ``observation.tick`` enter, never the current state: the chain of thought is made ahead of its
    tick (Fig. 4).

    Parameters
    ----------
    observation : live, or logged data through :meth:`~lbm_core.data.trajectories.TrajectorySet.observation`
    advertisers : the n advertisers of the observation

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
    past = slice(max(0, tick - HISTORY), tick)  # fewer early in the day
    left = np.clip(1.0 - np.cumsum(observation.costs, axis=1) / advertisers.budget[:, None], 0.0, 1.0)
    values = observation.states[:, :, _PVALUE_NOW] * observation.states[:, :, _COUNT_NOW]
    return [
        PromptFacts(
            tick=tick,
            budget=float(advertisers.budget[i]),
            cpa_target=float(advertisers.cpa_target[i]),
            time_left=_time_left(past),
            budget_left=tuple(left[i, past].tolist()),
            predicted_values=tuple(values[i, past].tolist()),
            conversions=tuple(observation.conversions[i, past].tolist()),
            alphas=tuple(observation.alphas[i, past].tolist()),
            total_conversions=float(observation.conversions[i].sum()),
        )
        for i in range(len(observation))
    ]


def _time_left(past: slice) -> tuple[float, ...]:
    return tuple((N_TICKS - tick) / N_TICKS for tick in range(past.start, past.stop))


def logged_facts(trajectories: TrajectorySet, rows: ArrayLike, ticks: ArrayLike) -> list[PromptFacts]:
    """Facts of logged decisions (row, tick), in the given order; ticks >= 1."""
    rows, ticks = np.asarray(rows), np.asarray(ticks)
    facts: dict[int, PromptFacts] = {}
    for tick in np.unique(ticks):  # one observation holds many rows, but one tick
        at = np.flatnonzero(ticks == tick)
        observation = trajectories.observation(rows[at], int(tick))
        facts.update(zip(at.tolist(), prompt_facts(observation, trajectories.advertisers(rows[at])), strict=True))
    return [facts[k] for k in range(len(rows))]


def messages(facts: PromptFacts, style: PromptStyle | None = None) -> list[dict[str, str]]:
    """System and user message of a prompt, before any chat template; worked examples are turns between the two."""
    style = style or PromptStyle()
    rules = [KNOWLEDGE, TASK + (" Use no more than four short sentences." if style.brief else "")]
    solved = [(describe(case), f"{ASSISTANT} {solution}") for case, solution in examples(style)]
    return conversation(rules, solved, describe(facts), rules_first=style.order == "facts_last")


def examples(style: PromptStyle) -> tuple[tuple[PromptFacts, str], ...]:
    """The solved cases of a style in the order in which they are shown, each with its solution."""
    shown = EXAMPLES[: style.worked_examples]
    return shown[style.first_example :] + shown[: style.first_example]


def conversation(
    rules: list[str], solved: Sequence[tuple[str, str]], question: str, *, rules_first: bool
) -> list[dict[str, str]]:
    """A chat about solved cases and then a question; the rules are told once, with the first case.

    Parameters
    ----------
    rules : paragraphs
    solved : cases in words, each with its answer
    question : the case to solve, in words
    rules_first : whether the rules stand before the first case or behind it
    """
    chat = [{"role": "system", "content": SYSTEM.format(n_ticks=N_TICKS)}]
    for case, answer in [*solved, (question, None)]:
        content = case
        if len(chat) == 1:
            content = "\n\n".join([*rules, case] if rules_first else [case, *rules])
        chat.append({"role": "user", "content": content})
        if answer is not None:
            chat.append({"role": "assistant", "content": answer})
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
        budget=number(facts.budget, 6),
        cpa_target=number(facts.cpa_target, 4),
        first=last - len(facts.time_left) + 1,
        last=last,
        time_left=_list(facts.time_left, 3),
        budget_left="[" + ", ".join(_share_left(share) for share in facts.budget_left) + "]",
        predicted_values=_list(facts.predicted_values, 3),
        conversions=_list(facts.conversions, 4),
        alphas=_list(facts.alphas, 4),
        total_conversions=number(facts.total_conversions, 6),
    )


def number(value: float, digits: int) -> str:
    """A number in positional notation with ``digits`` significant digits, no trailing zeros."""
    return np.format_float_positional(value, precision=digits, fractional=False, trim="-")


def _list(values: Sequence[float], digits: int) -> str:
    return "[" + ", ".join(number(value, digits) for value in values) + "]"


def _share_left(share: float) -> str:
    """At least 3 decimals, and 3 significant digits of what is *spent*: 0.99973 must not read as 1.000."""
    spent = 1.0 - share
    decimals = 3
    if 0.0 < spent < 1.0:
        decimals = min(max(3, 2 - int(np.floor(np.log10(spent)))), 9)
    whole, _, fraction = f"{share:.{decimals}f}".partition(".")
    return f"{whole}.{fraction.rstrip('0'):0<3}"


def _worked_examples() -> Iterator[tuple[PromptFacts, str]]:
    for case in json.loads(Path(__file__).with_name("worked_examples.json").read_text(encoding="utf-8")):
        solution, tick = case.pop("solution"), case["tick"]
        columns: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in case.items()
        }
        yield PromptFacts(**columns, time_left=_time_left(slice(tick - HISTORY, tick))), solution


# Invented cases in which arithmetic and answer are right, for styles that show worked examples.
EXAMPLES = tuple(_worked_examples())

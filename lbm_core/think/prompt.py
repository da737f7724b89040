"""The prompt of LBM-Think (Fig. 4, A.3): the last ticks as numbers in words, two hints, two tags to fill in."""

import json
import tomllib
from collections.abc import Sequence
from itertools import pairwise
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
SHOWN = 3  # of them in a prompt of indicators
_VALUES = [FEATURES.index("current_pvalue_mean"), FEATURES.index("current_pv_num")]  # columns: mean p, impressions

# The words, our own: system, facts, knowledge (two hints), task, assistant (first words of the answer);
# in the tables "indicators" and "chain" the short prompt, and what lbm_core.think.warm_up teaches
WORDING: dict[str, Any] = tomllib.loads(Path(__file__).with_name("wording.toml").read_text(encoding="utf-8"))


@settings
class PromptFacts:
    """What one prompt tells about one advertiser, of the h = min(4, tick) ticks before ``tick``."""

    tick: Ticks  # to decide
    budget: Positive  # currency per period
    cpa_target: Positive  # C, currency per conversion
    time_left: tuple[float, ...]  # (h,) share of the day left at the start of each past tick
    budget_left: tuple[float, ...]  # (h,) share of the budget left at the end of each, so that the last fits the totals
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
        count = self.total_conversions
        return self.spent / count / self.cpa_target if count > 0 else float("nan")

    @property
    def pace(self) -> list[float]:
        """Spend of each of the last min(3, h) ticks, in units of an even spend of what is left over the ticks left."""
        even = max(self.budget_left[-1], 1e-4) / (N_TICKS - self.tick)
        shares = [1.0, *self.budget_left] if self.tick == len(self.budget_left) else self.budget_left
        return [(before - after) / even for before, after in pairwise(shares[-SHOWN - 1 :])]


def prompt_facts(observation: Observation, advertisers: Advertisers) -> list[PromptFacts]:
    """Facts of every advertiser for a chain of thought made before ``observation.tick`` >= 1 (A.3).

    Only ticks before it enter, never the current state: the chain of thought is made ahead of its tick (Fig. 4).
    """
    tick = observation.tick
    if tick < 1:
        raise ValueError("no prompt at tick 0: nothing has happened yet; use the guide for the first tick")
    if len(advertisers) != len(observation):
        raise ValueError(f"{len(observation)} observed rows, but {len(advertisers)} advertisers")
    past = slice(max(0, tick - HISTORY), tick)  # fewer early in the day
    columns = {
        "budget_left": np.clip(1.0 - np.cumsum(observation.costs, axis=1) / advertisers.budget[:, None], 0.0, 1.0),
        "predicted_values": observation.states[:, :, _VALUES].prod(axis=2),
        "conversions": observation.conversions,
        "alphas": observation.alphas,
    }
    return [
        PromptFacts(
            tick=tick,
            budget=float(advertisers.budget[i]),
            cpa_target=float(advertisers.cpa_target[i]),
            time_left=_time_left(past),
            total_conversions=float(observation.conversions[i].sum()),
            **{name: tuple(column[i, past].tolist()) for name, column in columns.items()},
        )
        for i in range(len(observation))
    ]


def _time_left(past: slice) -> tuple[float, ...]:
    return tuple((N_TICKS - tick) / N_TICKS for tick in range(past.start, past.stop))


def logged_facts(trajectories: TrajectorySet, rows: ArrayLike, ticks: ArrayLike) -> list[PromptFacts]:
    """Facts of logged decisions (row, tick), in the given order; ticks >= 1."""
    rows, ticks = np.asarray(rows), np.asarray(ticks)
    facts = np.empty(len(rows), dtype=object)
    for tick in np.unique(ticks):  # one observation holds many rows, but one tick
        own = rows[ticks == tick]
        facts[ticks == tick] = prompt_facts(trajectories.observation(own, int(tick)), trajectories.advertisers(own))
    return facts.tolist()


def messages(facts: PromptFacts, style: PromptStyle | None = None) -> list[dict[str, str]]:
    """System and user message of a prompt, before any chat template; worked examples are turns between the two."""
    style = style or PromptStyle()
    if style.form == "indicators":
        system = {"role": "system", "content": WORDING["indicators"]["system"]}
        return [system, {"role": "user", "content": indicators(facts)}]
    rules = [WORDING["knowledge"], WORDING["task"]]
    solved = [
        (describe(case), f"{WORDING['assistant']} {solution}") for case, solution in EXAMPLES[: style.worked_examples]
    ]
    return conversation(rules, solved, describe(facts), rules_first=style.worked_examples > 0)


def conversation(
    rules: list[str], solved: Sequence[tuple[str, str]], question: str, *, rules_first: bool
) -> list[dict[str, str]]:
    """A chat about solved cases, each with its answer, and then a question, all in words.

    The rules (paragraphs) are told once: before the first case, or behind it without ``rules_first``.
    """
    turns = [*(words for case in solved for words in case), question]
    turns[0] = "\n\n".join([*rules, turns[0]] if rules_first else [turns[0], *rules])
    chat = [{"role": ("user", "assistant")[k % 2], "content": words} for k, words in enumerate(turns)]
    return [{"role": "system", "content": WORDING["system"].format(n_ticks=N_TICKS)}, *chat]


def render(facts: PromptFacts, tokenizer: Any, style: PromptStyle | None = None) -> str:
    """The whole prompt with the first words of the answer (Fig. 4); errors as :func:`in_template`'s."""
    opening = WORDING["assistant"] if style is None or style.form == "figure 4" else ""
    return in_template(messages(facts, style), tokenizer, opening)


def in_template(chat: list[dict[str, str]], tokenizer: Any, opening: str) -> str:
    """A conversation in the model's chat template, with its answer's first words; ValueError: a base model has none."""
    if not getattr(tokenizer, "chat_template", None):
        raise ValueError("this model's tokenizer has no chat template: LBM-Think needs an instruction-tuned model")
    return tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) + opening


def describe(facts: PromptFacts) -> str:
    """The numbers of :class:`PromptFacts` in words."""
    digits = {"time_left": 3, "predicted_values": 3, "conversions": 4, "alphas": 4}  # significant ones
    lists = {name: [number(value, n) for value in getattr(facts, name)] for name, n in digits.items()}
    lists["budget_left"] = [_share_left(share) for share in facts.budget_left]
    return WORDING["facts"].format(
        budget=number(facts.budget, 6),
        cpa_target=number(facts.cpa_target, 4),
        first=facts.tick - len(facts.time_left),
        last=facts.tick - 1,
        total_conversions=number(facts.total_conversions, 6),
        **{name: f"[{', '.join(words)}]" for name, words in lists.items()},
    )


def indicators(facts: PromptFacts) -> str:
    """The numbers of :class:`PromptFacts` as a few indicators of two or three digits (Eq. 3) in words."""
    words, count, left = WORDING["indicators"], facts.total_conversions, facts.budget_left[-1]

    return words["facts"].format(
        time=f"{(N_TICKS - facts.tick) / N_TICKS:.2f}",
        budget=f"{left:.2f}",
        rest=number(facts.budget * left / facts.cpa_target, 3),
        target=number(facts.cpa_target, 3),
        gains=words["gains"].format(count=number(count, 3), cpa=number(facts.spent / count, 3))
        if count
        else words["none"],
        spends=", ".join(number(pace, 2) for pace in facts.pace),
        gained=", ".join(number(count, 3) for count in facts.conversions[-SHOWN:]),
        bids=", ".join(f"{alpha / facts.cpa_target:.2f}" for alpha in facts.alphas[-SHOWN:]),
    )


def number(value: float, digits: int) -> str:
    """A number in positional notation with ``digits`` significant digits, no trailing zeros."""
    return np.format_float_positional(value, precision=digits, fractional=False, trim="-")


def _share_left(share: float) -> str:
    """At least 3 decimals, and 3 significant digits of what is *spent*: 0.99973 must not read as 1.000."""
    spent = 1.0 - share
    decimals = min(max(3, 2 - int(np.floor(np.log10(spent)))), 9) if 0.0 < spent < 1.0 else 3
    whole, _, fraction = f"{share:.{decimals}f}".partition(".")
    return f"{whole}.{fraction.rstrip('0'):0<3}"


def _worked_example(solution: str, **case: Any) -> tuple[PromptFacts, str]:
    columns: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in case.items()}
    return PromptFacts(**columns, time_left=_time_left(slice(case["tick"] - HISTORY, case["tick"]))), solution


# Invented cases in which arithmetic and answer are right, for styles that show worked examples.
EXAMPLES = tuple(
    _worked_example(**case)
    for case in json.loads(Path(__file__).with_name("worked_examples.json").read_text(encoding="utf-8"))
)

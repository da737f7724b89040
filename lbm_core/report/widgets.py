"""Be the bidder, and look over LBM-Think's shoulder. What each does needs no notebook; widgets only stand around it."""

import html
import io
from collections.abc import Iterable

import ipywidgets
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lbm_core.auction.bidder import N_TICKS, Bidder
from lbm_core.auction.controls import PidBidder, ScheduledAlpha
from lbm_core.auction.mechanism import LEAST_BUDGET
from lbm_core.auction.metrics import cpa_ratio, summarize
from lbm_core.auction.replay import ReplayPeriod, ReplayResult, replay
from lbm_core.report.chapter_figures_market import bidders_day
from lbm_core.seeding import generator

DIRECTIONS = {1: "raise", 0: "unsure", -1: "lower"}


def day_frame(result: ReplayResult, bidder: str, row: int = 0) -> pd.DataFrame:
    """A replayed advertiser's day after each tick: bidder, tick, multiple (alpha / CPA target, NaN once the budget is
    gone), budget_left (share), conversions and cpa_ratio so far (NaN before the first conversion)."""
    budget, target = result.advertisers.budget[row], result.advertisers.cpa_target[row]
    cost, count = result.costs[row].cumsum(), result.conversions[row].cumsum()
    gone = budget - (cost - result.costs[row]) < LEAST_BUDGET
    day = {
        "bidder": bidder,
        "tick": np.arange(N_TICKS),
        "multiple": np.where(gone, np.nan, result.alphas[row] / target),
    }
    so_far = {"budget_left": 1 - cost / budget, "conversions": count}
    return pd.DataFrame({**day, **so_far, "cpa_ratio": np.where(count > 0, cpa_ratio(count, cost, target), np.nan)})


class BiddingGame:
    """A day of 48 decisions for one advertiser, against a PID controller with the same budget, target, prices and luck.

    Prices do not react to the player; ``seed`` decides which impressions would convert.
    """

    def __init__(self, period: ReplayPeriod, row: int, seed: int = 0) -> None:
        self.period, self.row, self.seed = period, row, seed
        self.multiples: list[float] = []
        self.opponent = self._replayed(PidBidder())
        self.play([])

    @property
    def tick(self) -> int:
        """The tick to decide next; 48 when the day is over."""
        return len(self.multiples)

    @property
    def both(self) -> dict[str, ReplayResult]:
        """Their days by name."""
        return {"you": self.player, "PID": self.opponent}

    def play(self, multiples: Iterable[float]) -> None:
        """Bid these multiples of the CPA target per conversion in the next ticks; each must be a finite number >= 0."""
        added = [float(multiple) for multiple in multiples]
        if self.tick + len(added) > N_TICKS:
            raise RuntimeError("the day is over: start a new game")
        if not (np.isfinite(added) & (np.array(added) >= 0)).all():
            raise ValueError(f"a multiple of the CPA target must be a finite number >= 0; got {added}")
        self.multiples += added
        alphas = self.period.advertisers.cpa_target[self.row] * np.pad(self.multiples, (0, N_TICKS - self.tick))
        self.player = self._replayed(ScheduledAlpha(alphas[None]))  # what is past stays as it was: same draws

    def frame(self) -> pd.DataFrame:
        """Both bidders so far: "you" and "PID", columns of :func:`day_frame`."""
        days = [day_frame(result, name).head(self.tick) for name, result in self.both.items()]
        return pd.concat(days, ignore_index=True)

    def standing(self) -> pd.DataFrame:
        """Spending, CPA ratio, conversions and score of both so far, indexed by bidder."""
        rows = []
        for name, result in self.both.items():
            count, cost = (values[:, : self.tick].sum(axis=1) for values in (result.conversions, result.costs))
            summary = summarize(count, cost, result.advertisers.budget, result.advertisers.cpa_target)
            rows.append(pd.DataFrame(summary, index=[name]))
        return pd.concat(rows).rename_axis("bidder")[["budget_utilization", "cpa_ratio", "conversions", "score"]]

    def drawn(self) -> Figure:
        """The game so far."""
        return bidders_day(self.frame())

    def _replayed(self, bidder: Bidder) -> ReplayResult:
        return replay(self.period, bidder, generator(self.seed, "evaluation", self.period.period), rows=[self.row])


class GameBoard:
    """Slider, buttons and picture around a game; show :attr:`box` as the last value of a cell."""

    def __init__(self, game: BiddingGame) -> None:
        self.game, who = game, game.period.advertisers[np.array([game.row])]
        head = f"Advertiser {who.index[0]}: budget {who.budget[0]:,.0f}, CPA target C = {who.cpa_target[0]:g}"
        look = {"step": 0.05, "description": "alpha / C", "continuous_update": False}
        self.slider = ipywidgets.FloatSlider(1.0, min=0.0, max=3.0, **look)
        self.next_tick = ipywidgets.Button(description="next tick", button_style="primary")
        self.finish = ipywidgets.Button(description="finish the day")
        self.line, self.picture = ipywidgets.HTML(), ipywidgets.Image(format="png", width=700)
        controls = ipywidgets.HBox([self.slider, self.next_tick, self.finish])
        self.box = ipywidgets.VBox([ipywidgets.HTML(head), controls, self.line, self.picture])
        self.next_tick.on_click(lambda _: self._play(1))
        self.finish.on_click(lambda _: self._play(N_TICKS))
        self._play(0)

    def _play(self, ticks: int) -> None:
        self.game.play([self.slider.value] * min(ticks, N_TICKS - self.game.tick))
        self.next_tick.disabled = self.finish.disabled = over = self.game.tick == N_TICKS
        scores = ", ".join(f"{name} {score:.1f}" for name, score in self.game.standing()["score"].items())
        when = "The day is over" if over else f"Tick {self.game.tick} of {N_TICKS} is next"
        self.line.value = f"{when}. Score so far: {scores}."
        buffer = io.BytesIO()
        self.game.drawn().savefig(buffer, format="png", dpi=110)
        self.picture.value = buffer.getvalue()


def example(advice: pd.DataFrame) -> pd.Series:
    """The piece of advice of a day worth a look: followed, if possible after the whole check; then what moved most."""
    move = (advice["alpha_with"] - advice["alpha_without"]).abs() / advice["cpa_target"]
    worth = 4 * (advice["followed"] & (advice["check"] == "accepted")) + 2 * advice["followed"]
    return advice.iloc[int(np.argmax(worth + move.fillna(0).clip(0, 1)))]


def page(row: pd.Series) -> str:
    """Facts, chain of thought, reading, decision and outcome of one piece of advice, as plain text."""
    ratio = "none" if pd.isna(row["ratio"]) else f"{row['ratio']:.3g}"
    true = "undefined" if pd.isna(row["true_ratio"]) else f"{row['true_ratio']:.3g}"
    answer = "none" if pd.isna(row["direction"]) else f"{row['direction']:.0f} ({DIRECTIONS[int(row['direction'])]})"
    before, led, alone = (row[f"alpha_{when}"] / row["cpa_target"] for when in ("before", "with", "without"))
    return f"""ADVERTISER {row["advertiser"]}, TICK {row["tick"]}

what it saw
{row["facts"]}

what it wrote
{str(row["text"]).strip()}

how it was read
ratio {ratio} (true: {true}); answer {answer}; check: {row["check"]}
instruction: {row["guide"]}

what LBM-Act did (alpha / C)
before {before:.2f}; with the advice {led:.2f}, without {alone:.2f}

what the tick and the next three brought, with and without
cost {row["cost_with"]:.0f} and {row["cost_without"]:.0f}; expected conversions {row["conversions_with"]:.1f} and \
{row["conversions_without"]:.1f}; expected score of the day {row["score_with"] - row["score_without"]:+.2f} through \
this advice"""


def inspector(advice: pd.DataFrame) -> ipywidgets.VBox:
    """A menu of advertisers and ticks above the page of the chosen one, from :func:`example` on."""
    rows = [row for _, row in advice.sort_values(["advertiser", "tick"]).iterrows()]
    names = [f"advertiser {row['advertiser']}, tick {row['tick']}" for row in rows]
    first = next(k for k, row in enumerate(rows) if row.name == example(advice).name)
    menu = ipywidgets.Dropdown(options=list(zip(names, range(len(rows)), strict=True)), value=first)
    shown, block = ipywidgets.HTML(), "<pre style='white-space: pre-wrap'>{}</pre>"
    ipywidgets.dlink((menu, "value"), (shown, "value"), lambda k: block.format(html.escape(page(rows[k]))))
    return ipywidgets.VBox([menu, shown])

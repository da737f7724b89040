"""Be the bidder: one advertiser's replayed day, an alpha at a time, against a controller that sees the same.

:class:`BiddingGame` holds the rules and needs no notebook; :class:`GameBoard` puts a slider and buttons around it.
Both bidders meet the same impressions, prices and luck: the replay ties a conversion's draw to the impression.
"""

from __future__ import annotations

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
from lbm_core.report import market_figures, style
from lbm_core.seeding import generator

HIGHEST_MULTIPLE = 3.0  # end of the slider
_SUMMARY = ("budget_utilization", "cpa_ratio", "conversions", "score")


def day_frame(result: ReplayResult, bidder: str, row: int = 0, ticks: int = N_TICKS) -> pd.DataFrame:
    """A replayed advertiser's day after each tick.

    Parameters
    ----------
    result : of a replay
    bidder : its name in the frame
    row : which advertiser of the result
    ticks : how much of the day is shown

    Returns
    -------
    bidder, tick, multiple (alpha over CPA target; NaN once the budget is gone), budget_left (share), conversions
    (so far), cpa_ratio (so far; NaN before the first conversion)
    """
    budget, target = result.advertisers.budget[row], result.advertisers.cpa_target[row]
    cost, count = result.costs[row].cumsum(), result.conversions[row].cumsum()
    before = np.concatenate([[0.0], cost[:-1]])
    frame = pd.DataFrame(
        {
            "bidder": bidder,
            "tick": np.arange(N_TICKS),
            "multiple": np.where(budget - before < LEAST_BUDGET, np.nan, result.alphas[row] / target),
            "budget_left": 1 - cost / budget,
            "conversions": count,
            "cpa_ratio": np.where(count > 0, cpa_ratio(count, cost, target), np.nan),
        }
    )
    return frame.iloc[:ticks]


class BiddingGame:
    """A day of 48 decisions for one advertiser, against an opponent with the same budget, target and luck.

    Parameters
    ----------
    period : the day; its prices do not react to the player
    row : advertiser among the period's
    seed : decides which impressions would convert
    opponent : default a PID controller
    name : of the opponent
    """

    def __init__(
        self, period: ReplayPeriod, row: int, seed: int = 0, opponent: Bidder | None = None, name: str = "PID"
    ) -> None:
        self.period, self.row, self.seed, self.name = period, row, seed, name
        self.multiples: list[float] = []
        self.opponent = self._replayed(PidBidder() if opponent is None else opponent)
        self.player = self._replayed(ScheduledAlpha(np.zeros((1, N_TICKS))))

    @property
    def tick(self) -> int:
        """The tick to decide next; 48 when the day is over."""
        return len(self.multiples)

    @property
    def over(self) -> bool:
        """Whether all 48 ticks are played."""
        return self.tick == N_TICKS

    def play(self, multiple: float) -> None:
        """Bid ``multiple`` times the CPA target per conversion in the next tick.

        Raises
        ------
        RuntimeError
            The day is over.
        ValueError
            Not a finite number >= 0.
        """
        if self.over:
            raise RuntimeError("the day is over: start a new game")
        if not (np.isfinite(multiple) and multiple >= 0):
            raise ValueError(f"a multiple of the CPA target must be a finite number >= 0; got {multiple}")
        self.multiples.append(float(multiple))
        target = self.period.advertisers.cpa_target[self.row]
        alphas = np.zeros((1, N_TICKS))
        alphas[0, : self.tick] = target * np.array(self.multiples)
        self.player = self._replayed(ScheduledAlpha(alphas))  # what is past stays as it was: same draws

    def play_all(self, multiples: Iterable[float]) -> None:
        """Play several ticks: a scripted player."""
        for multiple in multiples:
            self.play(multiple)

    def frame(self) -> pd.DataFrame:
        """Both bidders so far: "you" and the opponent, columns of :func:`day_frame`."""
        return pd.concat(
            [day_frame(self.player, "you", ticks=self.tick), day_frame(self.opponent, self.name, ticks=self.tick)],
            ignore_index=True,
        )

    def standing(self) -> pd.DataFrame:
        """Spending, CPA ratio, conversions and score of both so far, indexed by bidder."""
        rows = {}
        for name, result in (("you", self.player), (self.name, self.opponent)):
            count, cost = (values[:, : self.tick].sum(axis=1) for values in (result.conversions, result.costs))
            summary = summarize(count, cost, result.advertisers.budget, result.advertisers.cpa_target)
            rows[name] = {column: float(summary[column][0]) for column in _SUMMARY}
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("bidder")

    def _replayed(self, bidder: Bidder) -> ReplayResult:
        rng = generator(self.seed, "evaluation", self.period.period)
        return replay(self.period, bidder, rng, rows=[self.row])


class GameBoard:
    """Slider, buttons and picture around a game; show :attr:`box` as the last value of a cell.

    Attributes
    ----------
    slider : alpha over CPA target of the next tick
    next_tick, finish : buttons; one tick, or all that are left, with the slider's value
    picture, line : the day so far, as a PNG and in a sentence
    """

    def __init__(self, game: BiddingGame) -> None:
        self.game = game
        who, row = game.period.advertisers, game.row
        self.slider = ipywidgets.FloatSlider(
            value=1.0, min=0.0, max=HIGHEST_MULTIPLE, step=0.05, description="alpha / C", continuous_update=False
        )
        self.next_tick = ipywidgets.Button(description="next tick", button_style="primary")
        self.finish = ipywidgets.Button(description="finish the day")
        self.line = ipywidgets.HTML()
        self.picture = ipywidgets.Image(format="png", width=700)
        self.head = ipywidgets.HTML(
            f"Advertiser {who.index[row]}: budget {who.budget[row]:,.0f}, CPA target C = {who.cpa_target[row]:g}"
        )
        controls = ipywidgets.HBox([self.slider, self.next_tick, self.finish])
        self.box = ipywidgets.VBox([self.head, controls, self.line, self.picture])
        self.next_tick.on_click(lambda _: self._play(1))
        self.finish.on_click(lambda _: self._play(N_TICKS - self.game.tick))
        self._show()

    def _play(self, ticks: int) -> None:
        self.game.play_all([self.slider.value] * min(ticks, N_TICKS - self.game.tick))
        self._show()

    def _show(self) -> None:
        self.next_tick.disabled = self.finish.disabled = self.game.over
        scores = ", ".join(f"{name} {score:.1f}" for name, score in self.game.standing()["score"].items())
        when = "The day is over" if self.game.over else f"Tick {self.game.tick} of {N_TICKS} is next"
        self.line.value = f"{when}. Score so far: {scores}."
        buffer = io.BytesIO()
        drawn(self.game).savefig(buffer, format="png", dpi=110)
        self.picture.value = buffer.getvalue()


def drawn(game: BiddingGame) -> Figure:
    """The game so far as a figure."""
    colours = {"you": style.PALETTE[0], game.name: style.METHOD_COLOURS.get(game.name, style.PALETTE[1])}
    return market_figures.bidders_day(game.frame(), colours)

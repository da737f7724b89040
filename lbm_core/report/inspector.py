"""Look over LBM-Think's shoulder: pick an advertiser and a tick, and read what it saw, wrote and caused.

:class:`ChainInspector` turns recorded rows into pages and needs no notebook; :class:`InspectorBoard` puts two menus
around it.
"""

from __future__ import annotations

import html

import ipywidgets
import numpy as np
import pandas as pd

DIRECTIONS = {1: "raise", 0: "unsure", -1: "lower"}
COLUMNS = (
    *("advertiser", "tick", "facts", "text", "true_ratio", "ratio", "direction", "check", "followed", "guide"),
    *("cpa_target", "alpha_before", "alpha_with", "alpha_without", "cost_with", "cost_without"),
    *("conversions_with", "conversions_without", "score_with", "score_without"),
)


class ChainInspector:
    """Pages of a day that LBM-Think led, one per advertiser and tick.

    Parameters
    ----------
    advice : rows of :func:`lbm_core.pipeline.think_study.led_day` as recorded: :data:`COLUMNS`

    Raises
    ------
    ValueError
        A missing column, or no row.
    """

    def __init__(self, advice: pd.DataFrame) -> None:
        missing = [name for name in COLUMNS if name not in advice]
        if missing or advice.empty:
            raise ValueError(f"the inspector needs rows with the columns {', '.join(COLUMNS)}; missing: {missing}")
        self.advice = advice

    @property
    def advertisers(self) -> list[int]:
        """Who can be picked."""
        return sorted(int(number) for number in self.advice["advertiser"].unique())

    def ticks(self, advertiser: int) -> list[int]:
        """When an advertiser was advised."""
        rows = self.advice[self.advice["advertiser"] == advertiser]
        return sorted(int(tick) for tick in rows["tick"].unique())

    def row(self, advertiser: int, tick: int) -> pd.Series:
        """The recorded row.

        Raises
        ------
        KeyError
            Nothing was written for this advertiser at this tick.
        """
        rows = self.advice[(self.advice["advertiser"] == advertiser) & (self.advice["tick"] == tick)]
        if rows.empty:
            raise KeyError(f"no chain of thought of advertiser {advertiser} at tick {tick}; {self.ticks(advertiser)}")
        return rows.iloc[0]

    def example(self) -> tuple[int, int]:
        """Advertiser and tick worth a look: followed, if possible after the whole check; of these, what moved most."""
        move = (self.advice["alpha_with"] - self.advice["alpha_without"]).abs() / self.advice["cpa_target"]
        worth = 4 * (self.advice["followed"] & (self.advice["check"] == "accepted")) + 2 * self.advice["followed"]
        found = self.advice.iloc[int(np.argmax(worth + move.fillna(0).clip(0, 1)))]
        return int(found["advertiser"]), int(found["tick"])

    def page(self, advertiser: int, tick: int) -> str:
        """Facts, chain of thought, reading, decision and outcome as plain text."""
        row = self.row(advertiser, tick)
        ratio = "none" if pd.isna(row["ratio"]) else f"{row['ratio']:.3g}"
        true = "undefined" if pd.isna(row["true_ratio"]) else f"{row['true_ratio']:.3g}"
        answer = (
            "none" if pd.isna(row["direction"]) else f"{int(row['direction'])} ({DIRECTIONS[int(row['direction'])]})"
        )
        target, score = row["cpa_target"], row["score_with"] - row["score_without"]
        lines = [
            f"ADVERTISER {advertiser}, TICK {tick}",
            f"\nwhat it saw\n{row['facts']}",
            f"\nwhat it wrote\n{str(row['text']).strip()}",
            "\nhow it was read",
            f"ratio {ratio} (true: {true}); answer {answer}; check: {row['check']}",
            f"guide: {row['guide']}",
            "\nwhat LBM-Act did (alpha / C)",
            f"before {row['alpha_before'] / target:.2f}; with the advice {row['alpha_with'] / target:.2f}, "
            f"without {row['alpha_without'] / target:.2f}",
            "\nwhat the tick and the next three brought, with and without",
            f"cost {row['cost_with']:.0f} and {row['cost_without']:.0f}; "
            f"expected conversions {row['conversions_with']:.1f} and {row['conversions_without']:.1f}; "
            f"expected score of the day {score:+.2f} through this advice",
        ]
        return "\n".join(lines)


class InspectorBoard:
    """Two menus and a page; show :attr:`box` as the last value of a cell.

    Attributes
    ----------
    advertiser, tick : menus; the ticks are those at which the chosen advertiser was advised
    page : the chosen page
    """

    def __init__(self, inspector: ChainInspector) -> None:
        self.inspector = inspector
        who, tick = inspector.example()
        self.advertiser = ipywidgets.Dropdown(options=inspector.advertisers, value=who, description="advertiser")
        self.tick = ipywidgets.Dropdown(options=inspector.ticks(who), value=tick, description="tick")
        self.page = ipywidgets.HTML()
        self.box = ipywidgets.VBox([ipywidgets.HBox([self.advertiser, self.tick]), self.page])
        self.advertiser.observe(lambda _: self._choose_advertiser(), names="value")
        self.tick.observe(lambda _: self._show(), names="value")
        self._show()

    def _choose_advertiser(self) -> None:
        self.tick.options = self.inspector.ticks(self.advertiser.value)  # the menu then takes the first of them
        self._show()

    def _show(self) -> None:
        if self.tick.value is None:  # while the menu's options are exchanged
            return
        text = self.inspector.page(self.advertiser.value, self.tick.value)
        self.page.value = f"<pre style='white-space: pre-wrap'>{html.escape(text)}</pre>"

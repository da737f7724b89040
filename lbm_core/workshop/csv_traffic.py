"""The benchmark's traffic CSV (one row per advertiser and impression) as a period log (§4.1).

About 24 million rows a period: they are read in chunks and summed per advertiser and tick, every p-value compared with
the regenerated traffic on the way.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lbm_core.auction.bidder import N_ADVERTISERS, N_TICKS, Advertisers
from lbm_core.auction.log import PeriodLog
from lbm_core.auction.state import StateBuilder
from lbm_core.auction.traffic import Traffic, mean_pvalues
from lbm_core.settings import DATASETS, Dataset
from lbm_core.workshop.csv_rows import CHUNK_BYTES, Chunk, CsvSource, chunks

# The 18 columns of a traffic file, in its order.
TRAFFIC_COLUMNS = (
    "deliveryPeriodIndex",
    "advertiserNumber",
    "advertiserCategoryIndex",
    "budget",
    "CPAConstraint",
    "timeStepIndex",
    "remainingBudget",  # before the tick
    "pvIndex",  # impression number
    "pValue",
    "pValueSigma",
    "bid",
    "xi",  # 1: won a slot
    "adSlot",  # 1..3, 0: none
    "cost",  # price of the slot, due only if shown
    "isExposed",
    "conversionAction",
    "leastWinningCost",
    "isEnd",  # 1: last tick, or budget used up
)
MAX_PERIOD = 10_000_000
_CELLS = N_ADVERTISERS * N_TICKS
_SUMS = ("rows", "bid", "pvalue", "win", "exposure", "cost", "conversion", "expected")
_FLOAT_ERROR = 8 * np.finfo(float).eps  # a number printed in full comes back within this


@dataclass(frozen=True)
class TrafficCheck:
    """How a traffic file compares with the regenerated traffic; only files that agree get one.

    Attributes
    ----------
    source : name of the file
    dataset, period : which traffic it agrees with
    rows, impressions : counts
    pvalue_difference : largest absolute difference of a p-value, within its printed digits
    sigma_difference : largest absolute difference of a sigma
    sigma_rows : rows whose sigma differs in its printed digits (the replay uses the regenerated ones)
    """

    source: str
    dataset: str
    period: int
    rows: int
    impressions: int
    pvalue_difference: float
    sigma_difference: float
    sigma_rows: int

    def __str__(self) -> str:
        sigmas = "so do the sigmas" if not self.sigma_rows else f"{self.sigma_rows:,} sigmas differ"
        return (
            f"{self.source}: the {self.impressions:,} impressions and {self.rows:,} p-values of period {self.period} "
            f"({self.dataset}) agree with the regenerated traffic to all printed digits; {sigmas}"
        )


def read_traffic_csv(
    source: CsvSource,
    *,
    dataset: Dataset | None = None,
    traffic: Callable[[int, Dataset], Traffic] = Traffic,
    chunk_bytes: int = CHUNK_BYTES,
    progress: Callable[[int], object] | None = None,
) -> tuple[PeriodLog, TrafficCheck]:
    """Read a whole delivery period, rows in any order, and check it against the regenerated traffic.

    Parameters
    ----------
    dataset : the data set the file must belong to; None: whichever its p-values agree with
    traffic : makes the traffic of a period and data set, which the file must agree with
    chunk_bytes : text held at once
    progress : called with the number of rows of every chunk

    Returns
    -------
    log : as a simulated period's, ready for :class:`~lbm_core.auction.replay.ReplayPeriod`
    check : the comparison with the regenerated traffic

    Raises
    ------
    ValueError
        Missing column, truncated line, another period, NaN, negative budget, duplicate or missing rows, p-values or
        counts that differ from the traffic: one sentence with file and line.
    """
    sums: _PeriodSums | None = None
    for chunk in chunks(source, TRAFFIC_COLUMNS, chunk_bytes=chunk_bytes, progress=progress):
        if sums is None:
            sums = _PeriodSums(source, _traffic_of(chunk, dataset, traffic))
        sums.add(chunk)
    assert sums is not None  # chunks() raises on a file without rows
    return sums.finish()


def _traffic_of(chunk: Chunk, dataset: Dataset | None, traffic: Callable[[int, Dataset], Traffic]) -> Traffic:
    """Traffic of the period in the first row; its data set by the level of the p-values unless it is given."""
    period = int(chunk.integers("deliveryPeriodIndex", 0, MAX_PERIOD)[0])
    named = re.fullmatch(r"period[-_]?(\d+)", chunk.source.stem)
    if named and int(named[1]) != period:
        chunk.fail(0, f"a row of delivery period {period} in the file of period {named[1]}")
    if dataset is not None:
        return traffic(period, dataset)
    advertiser = chunk.integers("advertiserNumber", 0, N_ADVERTISERS - 1)
    tick = chunk.integers("timeStepIndex", 0, N_TICKS - 1)
    return traffic(period, nearest_dataset(period, advertiser, tick, chunk.numbers("pValue", 0, 1)))


def nearest_dataset(
    period: int, advertiser: NDArray[np.int64], tick: NDArray[np.int64], pvalue: NDArray[np.float64]
) -> Dataset:
    """The data set whose p-values are nearest (they differ by a factor of 10)."""
    means = {name: mean_pvalues(period, name)[advertiser, tick].mean() for name in DATASETS}
    return min(means, key=lambda name: abs(np.log((pvalue.mean() + 1e-12) / means[name])))


class _PeriodSums:
    """What accumulates over the chunks of a traffic file."""

    def __init__(self, source: CsvSource, traffic: Traffic) -> None:
        self.source, self.traffic = source, traffic
        self.starts = np.concatenate([[0], np.cumsum(traffic.counts)])
        self.n = int(self.starts[-1])
        self.pvalues = np.empty((N_ADVERTISERS, self.n))
        self.sigmas = np.empty((N_ADVERTISERS, self.n))
        for tick, pvalues, sigmas in traffic.ticks():
            span = slice(self.starts[tick], self.starts[tick + 1])
            self.pvalues[:, span], self.sigmas[:, span] = pvalues.T, sigmas.T
        self.pvalue_digits = source.printed_digits("pValue")
        self.sigma_digits = source.printed_digits("pValueSigma")
        # pvIndex may count from 0 or 1, through the period or anew in every tick: what disagrees is struck out.
        self.numberings = [(whole, first) for whole in (True, False) for first in (0, 1)]
        self.seen = np.zeros(N_ADVERTISERS * self.n, dtype=bool)
        self.n_seen = 0
        self.sums = {name: np.zeros(_CELLS) for name in _SUMS}
        self.once = {"budget": np.full(N_ADVERTISERS, np.nan), "CPAConstraint": np.full(N_ADVERTISERS, np.nan)}
        self.once |= {"remainingBudget": np.full(_CELLS, np.nan), "isEnd": np.full(_CELLS, np.nan)}
        self.once |= {"leastWinningCost": np.full(self.n, np.nan)}
        self.differences = {"pvalue": 0.0, "sigma": 0.0}
        self.sigma_rows = 0

    def add(self, chunk: Chunk) -> None:
        """Check a chunk and add it up."""
        period = chunk.integers("deliveryPeriodIndex", 0, MAX_PERIOD)
        chunk.require(
            period == self.traffic.period,
            lambda row: f"a row of delivery period {period[row]} in a file of period {self.traffic.period}",
        )
        advertiser = chunk.integers("advertiserNumber", 0, N_ADVERTISERS - 1)
        tick = chunk.integers("timeStepIndex", 0, N_TICKS - 1)
        cell = advertiser * N_TICKS + tick
        self._once(chunk, "budget", advertiser, chunk.positive("budget"))
        self._once(chunk, "CPAConstraint", advertiser, chunk.positive("CPAConstraint"))
        self._once(chunk, "remainingBudget", cell, chunk.numbers("remainingBudget", 0))
        self._once(chunk, "isEnd", cell, chunk.integers("isEnd", 0, 1))

        pvalue = chunk.numbers("pValue", 0, 1)
        impression = self._impressions(chunk, advertiser, tick, pvalue)
        self._no_duplicates(chunk, advertiser * self.n + impression)
        self._compare_sigmas(chunk, advertiser, impression)
        self._once(chunk, "leastWinningCost", impression, chunk.numbers("leastWinningCost", 0))

        chunk.integers("adSlot", 0, 3)
        shown = chunk.integers("isExposed", 0, 1)
        values = {
            "rows": np.ones(len(chunk)),
            "bid": chunk.numbers("bid", 0),
            "pvalue": pvalue,
            "win": chunk.integers("xi", 0, 1),
            "exposure": shown,
            "cost": chunk.numbers("cost", 0) * shown,
            "conversion": chunk.integers("conversionAction", 0, 1) * shown,
            "expected": pvalue * shown,
        }
        for name, value in values.items():
            self.sums[name] += np.bincount(cell, weights=value, minlength=_CELLS)

    def _once(self, chunk: Chunk, column: str, key: NDArray[np.int64], values: NDArray) -> None:
        """Remember a value that all rows of a key must share."""
        known = self.once[column]
        new = np.isnan(known[key])
        known[key[new]] = values[new]
        chunk.require(
            known[key] == values,
            lambda row: f"{column} is {values[row]:g}, but {known[key[row]]:g} in an earlier row of the same kind",
        )

    def _impressions(
        self, chunk: Chunk, advertiser: NDArray[np.int64], tick: NDArray[np.int64], pvalue: NDArray[np.float64]
    ) -> NDArray[np.int64]:
        """Place of every row in the regenerated period, found from pvIndex and confirmed by the p-value."""
        index = chunk.integers("pvIndex", 0, 1 << 40)
        decimals, significant = self.pvalue_digits
        found, agreeing, closest = None, [], (-1, np.zeros(0, dtype=bool), np.zeros(0), np.zeros(0, dtype=np.int64))
        for whole, first in self.numberings:
            impression = index - first + (0 if whole else self.starts[tick])
            inside = (impression >= self.starts[tick]) & (impression < self.starts[tick + 1])
            impression = np.where(inside, impression, 0)
            expected = self.pvalues[advertiser, impression]
            difference = np.abs(pvalue - expected)
            agrees = inside & (difference <= _printed_error(expected, decimals, significant))
            if agrees.all():
                agreeing.append((whole, first))
                if found is None:
                    found = impression
                    self.differences["pvalue"] = max(self.differences["pvalue"], float(difference.max()))
            elif int(agrees.sum()) > closest[0]:
                closest = (int(agrees.sum()), agrees, expected, np.where(inside, impression, -1))
        if found is None:
            _, agrees, expected, impression = closest
            chunk.require(
                agrees,
                lambda row: self._disagreement(
                    tick[row], advertiser[row], index[row], pvalue[row], expected[row], impression[row]
                ),
            )
        self.numberings = agreeing
        assert found is not None
        return found

    def _disagreement(
        self, tick: int, advertiser: int, index: int, pvalue: float, expected: float, impression: int
    ) -> str:
        where = f"period {self.traffic.period}, {self.traffic.dataset}"
        if impression < 0:
            return (
                f"pvIndex {index} lies outside the {self.traffic.counts[tick]:,} impressions of tick {tick} ({where})"
            )
        return (
            f"pValue {pvalue:g} of advertiser {advertiser}, tick {tick} is {expected:g} in the regenerated traffic "
            f"({where})"
        )

    def _no_duplicates(self, chunk: Chunk, key: NDArray[np.int64]) -> None:
        earlier = self.seen[key]
        self.seen[key] = True
        self.n_seen += len(key)
        if earlier.any() or np.count_nonzero(self.seen) < self.n_seen:
            first = np.zeros(len(key), dtype=bool)
            first[np.unique(key, return_index=True)[1]] = True
            chunk.require(first & ~earlier, lambda row: "the row of this advertiser and impression occurs twice")

    def _compare_sigmas(self, chunk: Chunk, advertiser: NDArray[np.int64], impression: NDArray[np.int64]) -> None:
        expected = self.sigmas[advertiser, impression]
        difference = np.abs(chunk.numbers("pValueSigma", 0) - expected)
        self.sigma_rows += int((difference > _printed_error(expected, *self.sigma_digits)).sum())
        self.differences["sigma"] = max(self.differences["sigma"], float(difference.max()))

    def finish(self) -> tuple[PeriodLog, TrafficCheck]:
        """Check that nothing is missing and build the log."""
        counts = self.traffic.counts
        per_tick = {name: value.reshape(N_ADVERTISERS, N_TICKS) for name, value in self.sums.items()}
        missing = np.argwhere(per_tick["rows"] != counts)
        if len(missing):
            advertiser, tick = missing[0]
            raise ValueError(
                f"{self.source.name} ends at line {self.n_seen + 1}, but advertiser {advertiser} has only "
                f"{int(per_tick['rows'][advertiser, tick]):,} of the {counts[tick]:,} impressions of tick {tick}"
            )
        ended = self.once["isEnd"].reshape(N_ADVERTISERS, N_TICKS) > 0
        ended[:, -1] = True
        rate = np.maximum(counts, 1)
        bids, pvalues = per_tick["bid"], per_tick["pvalue"]
        log = PeriodLog(
            dataset=self.traffic.dataset,
            period=self.traffic.period,
            scheme=self.traffic.scheme,
            engine="csv",
            advertisers=Advertisers(np.arange(N_ADVERTISERS), self.once["budget"], self.once["CPAConstraint"]),
            counts=counts,
            alphas=np.divide(bids, pvalues, out=np.zeros_like(bids), where=pvalues > 0),
            bids=bids / rate,
            pvalues=pvalues / rate,
            costs=per_tick["cost"],
            conversions=per_tick["conversion"],
            expected_conversions=per_tick["expected"],
            wins=per_tick["win"],
            exposures=per_tick["exposure"],
            states=self._states(per_tick, rate),
            lengths=np.argmax(ended, axis=1) + 1,
            least_winning_cost=self.once["leastWinningCost"],
        )
        check = TrafficCheck(
            source=self.source.name,
            dataset=self.traffic.dataset,
            period=self.traffic.period,
            rows=self.n_seen,
            impressions=self.n,
            pvalue_difference=self.differences["pvalue"],
            sigma_difference=self.differences["sigma"],
            sigma_rows=self.sigma_rows,
        )
        return log, check

    def _states(self, sums: dict[str, NDArray[np.float64]], rate: NDArray[np.int64]) -> NDArray[np.float64]:
        remaining = self.once["remainingBudget"].reshape(N_ADVERTISERS, N_TICKS)
        builder = StateBuilder(self.once["budget"])
        builder.remaining = remaining[:, 0].copy()
        states = np.empty((N_ADVERTISERS, N_TICKS, len(builder.state(sums["pvalue"][:, 0], 0)[0])))
        for tick, count in enumerate(self.traffic.counts):
            prices = self.once["leastWinningCost"][self.starts[tick] : self.starts[tick + 1]]
            states[:, tick] = builder.state(sums["pvalue"][:, tick] / rate[tick], int(count))
            builder.update(
                bid=sums["bid"][:, tick] / rate[tick],
                least_winning_cost=prices.mean() if count else 0.0,
                pvalue=sums["pvalue"][:, tick] / rate[tick],
                conversion_rate=sums["conversion"][:, tick] / rate[tick],
                win_rate=sums["win"][:, tick] / rate[tick],
                count=int(count),
                remaining=remaining[:, min(tick + 1, N_TICKS - 1)],
            )
        return states


def _printed_error(expected: NDArray[np.float64], decimals: int, significant: int) -> NDArray[np.float64]:
    """How far a printed number may lie from the exact one: half a unit of its last digit."""
    rounding = np.maximum(0.5 * 10.0**-decimals, 0.5 * 10.0 ** (1 - significant) * expected)
    return rounding * (1 + 1e-6) + _FLOAT_ERROR * expected

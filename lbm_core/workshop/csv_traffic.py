"""The benchmark's traffic CSV (§4.1), 24 million rows a period, as a log: summed in chunks, every p-value compared."""

import itertools
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lbm_core.auction.bidder import N_ADVERTISERS, N_TICKS, Advertisers
from lbm_core.auction.controls import ConstantAlpha
from lbm_core.auction.day import Outcome, play, run_day
from lbm_core.auction.log import PeriodLog
from lbm_core.auction.traffic import Traffic, mean_pvalues
from lbm_core.settings import DATASETS, Dataset
from lbm_core.workshop.csv_reading import TRAFFIC_COLUMNS, CsvSource

_CELLS = N_ADVERTISERS * N_TICKS
_SUMMED = ["bids", "pvalues", "wins", "exposures", "costs", "conversions", "expected_conversions"]
_FLOAT_ERROR = 8 * np.finfo(float).eps  # a number printed in full comes back within this


def read_traffic_csv(source: CsvSource, dataset: Dataset | None = None) -> tuple[PeriodLog, dict[str, Any]]:
    """Read a whole delivery period, rows in any order, as a log that the replay takes, and check it.

    Arguments, errors and the comparison are those of :func:`lbm_core.workshop.csv_import.import_files`. In the latter
    ``pvalue_difference`` and ``sigma_difference`` are the largest absolute ones, ``sigma_rows`` counts rows whose sigma
    differs in its printed digits (the replay uses the regenerated ones).
    """
    parts = source.chunks(TRAFFIC_COLUMNS)
    first = next(parts)
    period = int(first["deliveryPeriodIndex"].iloc[0])
    named = re.match(r"period[-_]?(\d+)\.", Path(source.member or source.path).name)
    if named and int(named[1]) != period:
        raise ValueError(f"{source.name}, line 2: a row of delivery period {period} in the file of period {named[1]}")
    sums = _PeriodSums(source, first, Traffic(period, dataset or nearest_dataset(first)))
    for rows in itertools.chain([first], parts):
        sums.add(rows)
    return sums.finish()


def nearest_dataset(rows: pd.DataFrame) -> Dataset:
    """The data set whose p-values are nearest (they differ by a factor of 10) to those of a period's rows."""
    period, where = int(rows["deliveryPeriodIndex"].iloc[0]), (rows["advertiserNumber"], rows["timeStepIndex"])
    means = {name: mean_pvalues(period, name)[where].mean() for name in DATASETS}
    return min(means, key=lambda name: abs(np.log((rows["pValue"].mean() + 1e-12) / means[name])))


class _PeriodSums:
    """What accumulates over the chunks of a traffic file."""

    def __init__(self, source: CsvSource, first: pd.DataFrame, traffic: Traffic) -> None:
        self.source, self.traffic = source, traffic
        self.starts = np.concatenate([[0], np.cumsum(traffic.counts)])
        self.n = int(self.starts[-1])
        _, *tables = zip(*traffic.ticks(), strict=True)  # of a tick, p-values and sigmas
        self.regenerated = dict(zip(("pValue", "pValueSigma"), map(np.concatenate, tables), strict=True))
        self.digits = {name: _printed_digits(first[name]) for name in self.regenerated}
        self.differences = dict.fromkeys(self.regenerated, 0.0)  # largest absolute ones
        self.sigma_rows = 0  # whose sigma differs in its printed digits
        self.seen = np.zeros((N_ADVERTISERS, self.n), dtype=bool)
        self.sums = pd.DataFrame(0.0, index=range(_CELLS), columns=_SUMMED)
        # What all rows of an advertiser, of an advertiser's tick, of an impression have in common.
        self.common = {name: np.full(N_ADVERTISERS, np.nan) for name in ("budget", "CPAConstraint")}
        self.common |= {name: np.full(_CELLS, np.nan) for name in ("remainingBudget", "isEnd")}
        self.common |= {"leastWinningCost": np.full(self.n, np.nan)}

    def add(self, rows: pd.DataFrame) -> None:
        problem = f"a row of delivery period {{deliveryPeriodIndex}} in a file of period {self.traffic.period}"
        self.source.require(rows, rows["deliveryPeriodIndex"] == self.traffic.period, problem)
        advertiser, impression = rows["advertiserNumber"].to_numpy(), self._impressions(rows)
        cell = advertiser * N_TICKS + rows["timeStepIndex"].to_numpy()
        keys = {"budget": advertiser, "CPAConstraint": advertiser, "leastWinningCost": impression}
        for name, known in self.common.items():
            key = keys.get(name, cell)
            known[key] = np.where(np.isnan(known[key]), rows[name], known[key])
            problem = f"{name} is {{{name}:g}}, but {{known:g}} in an earlier row of the same kind"
            self.source.require(rows, rows[name] == known[key], problem, known=known[key])
        repeated = self.seen[advertiser, impression] | pd.Index(advertiser * self.n + impression).duplicated()
        self.source.require(rows, ~repeated, "the row of this advertiser and impression occurs twice")
        self.seen[advertiser, impression] = True
        for name in self.regenerated:
            difference, agrees, _ = self._compare(rows, name, impression)
            self.differences[name] = max(self.differences[name], float(difference.max()))
        self.sigma_rows += int((~agrees).sum())
        due = rows[["cost", "conversionAction", "pValue"]].mul(rows["isExposed"], axis=0)
        values = rows[["bid", "pValue", "xi", "isExposed"]].join(due.add_suffix("_due")).set_axis(_SUMMED, axis=1)
        self.sums = self.sums.add(values.groupby(cell).sum(), fill_value=0)

    def _impressions(self, rows: pd.DataFrame) -> NDArray[np.int64]:
        """Place of every row in the regenerated period, found from pvIndex and confirmed by the p-value."""
        tick = rows["timeStepIndex"].to_numpy()
        begin, end = self.starts[tick], self.starts[tick + 1]
        candidates = []
        for offset in (0, -1, begin, begin - 1):  # pvIndex counts from 0 or 1, through the period or anew in every tick
            impression = rows["pvIndex"].to_numpy() + offset
            inside = (impression >= begin) & (impression < end)
            impression = np.where(inside, impression, begin)
            _, agrees, expected = self._compare(rows, "pValue", impression)
            candidates.append((agrees & inside, inside, impression, expected))
        agrees, inside, impression, expected = max(candidates, key=lambda candidate: candidate[0].sum())
        where = f"(period {self.traffic.period}, {self.traffic.dataset})"
        problem = f"pvIndex {{pvIndex}} lies outside the {{count:,}} impressions of tick {{timeStepIndex}} {where}"
        self.source.require(rows, inside, problem, count=self.traffic.counts[tick])
        problem = "pValue {pValue:g} of advertiser {advertiserNumber}, tick {timeStepIndex} is {expected:g} in the "
        self.source.require(rows, agrees, problem + f"regenerated traffic {where}", expected=expected)
        return impression

    def _compare(
        self, rows: pd.DataFrame, column: str, impression: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]]:
        """How far a column is from the regenerated one, whether at most half a unit of its last digit, and that one."""
        expected = self.regenerated[column][impression, rows["advertiserNumber"]]
        decimals, significant = self.digits[column]
        rounding = np.maximum(0.5 * 10.0**-decimals, 0.5 * 10.0 ** (1 - significant) * expected)
        difference = np.abs(rows[column].to_numpy() - expected)
        return difference, difference <= rounding * (1 + 1e-6) + _FLOAT_ERROR * expected, expected

    def finish(self) -> tuple[PeriodLog, dict[str, Any]]:
        """Check that nothing is missing; log and comparison."""
        traffic, counts = self.traffic, self.traffic.counts
        rows = np.add.reduceat(self.seen, self.starts[:-1], axis=1, dtype=np.int64)
        if (missing := np.argwhere(rows != counts)).size:
            advertiser, tick = missing[0]
            part = f"{rows[advertiser, tick]:,} of the {counts[tick]:,} impressions of tick {tick}"
            end = f"{self.source.name} ends at line {rows.sum() + 1}"
            raise ValueError(f"{end}, but advertiser {advertiser} has only {part}")
        table = {name: self.sums[name].to_numpy().reshape(rows.shape) for name in _SUMMED}
        bids, means = table["bids"], table["pvalues"] / counts
        advertisers = Advertisers(np.arange(N_ADVERTISERS), self.common["budget"], self.common["CPAConstraint"])
        ended, remaining = (self.common[name].reshape(rows.shape) for name in ("isEnd", "remainingBudget"))
        ended[:, -1], remaining[:, 0] = 1, advertisers.budget
        spent = -np.diff(remaining, append=0)
        prices = np.add.reduceat(self.common["leastWinningCost"], self.starts[:-1]) / counts

        def auction(tick: int, *_: Any) -> Outcome:
            of_tick = {name: table[name][:, tick] for name in ("conversions", "expected_conversions", "wins", "bids")}
            return Outcome(costs=spent[:, tick], price=prices[tick], **of_tick)

        # The day again as the file has it, whatever alphas are chosen: it builds the states.
        day = play(run_day(advertisers, counts, lambda tick: means[:, tick], auction), advertisers, ConstantAlpha())
        more = {
            "alphas": np.divide(bids / counts, means, out=np.zeros_like(bids), where=means > 0),
            "bids": bids / counts,
            "pvalues": means,
            "lengths": np.argmax(ended > 0, axis=1) + 1,
            "least_winning_cost": self.common["leastWinningCost"],
        }
        market = {"dataset": traffic.dataset, "period": traffic.period, "scheme": traffic.scheme, "counts": counts}
        log = PeriodLog(engine="csv", **vars(day) | table | more | market)
        says = f"{self.source.name}: the {self.n:,} impressions and {rows.sum():,} p-values of period {traffic.period} "
        says += f"({traffic.dataset}) agree with the regenerated traffic to all printed digits; "
        says += f"{self.sigma_rows:,} sigmas differ" if self.sigma_rows else "so do the sigmas"
        check: dict[str, Any] = {"source": self.source.name, "dataset": traffic.dataset, "periods": [traffic.period]}
        check |= {"rows": int(rows.sum()), "says": says, "pvalue_difference": self.differences["pValue"]}
        check |= {"sigma_difference": self.differences["pValueSigma"], "sigma_rows": self.sigma_rows}
        return log, check


def _printed_digits(values: pd.Series) -> tuple[int, int]:
    """Most decimals and significant digits that some thousand numbers need: those they were printed with."""
    digits = [Decimal(repr(value)).as_tuple() for value in values[:2000].tolist()]
    return max(-int(d.exponent) for d in digits), max(len(d.digits) for d in digits)

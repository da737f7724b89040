"""Our own periods in the benchmark's two CSV formats (§4.1), for its tools and for testing the import."""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from lbm_core.auction.bidder import N_TICKS, Advertisers, Bidder
from lbm_core.auction.day import Outcome, play, run_day
from lbm_core.auction.log import PeriodLog
from lbm_core.auction.mechanism import LEAST_BUDGET, N_SLOTS, run_tick, truncation
from lbm_core.auction.traffic import CATEGORY_SIZE, Traffic
from lbm_core.files import writing_file
from lbm_core.workshop.csv_reading import TRAFFIC_COLUMNS, TRAJECTORY_COLUMNS


def export_traffic_csv(
    path: str | Path, traffic: Traffic, advertisers: Advertisers, bidder: Bidder, rng: np.random.Generator
) -> PeriodLog:
    """Run a period with the readable auction and write every advertiser's row for every impression.

    A whole period has 24 million rows (4 GB as text; a name ending in ``.gz`` or ``.zip`` compresses them). Rows come
    tick by tick, within a tick advertiser by advertiser; ``pvIndex`` counts through the period from 0.

    Parameters
    ----------
    path : ends in ``.csv``, ``.csv.gz`` or ``.zip``
    traffic : impressions of the period
    advertisers : all that take part
    bidder : bids for all of them
    rng : exposures, conversions and dropped bids

    Returns
    -------
    The period's log; importing the file gives the same.
    """
    with _writing(path) as file:
        market = _WrittenMarket(file, traffic, advertisers, rng)
        day = play(run_day(advertisers, traffic.counts, market.mean_pvalues, market.auction), advertisers, bidder)
        market.writer.close()
    of_day = ("costs", "conversions", "expected_conversions", "wins", "states", "lengths")
    return PeriodLog(
        dataset=traffic.dataset,
        period=traffic.period,
        scheme=traffic.scheme,
        engine="reference",
        advertisers=advertisers,
        counts=traffic.counts,
        alphas=market.bids / np.maximum(market.sums, 1e-300),
        bids=market.bids / traffic.counts,
        pvalues=market.sums / traffic.counts,
        exposures=market.exposures,
        least_winning_cost=np.concatenate(market.prices),
        **{name: getattr(day, name) for name in of_day},
    )


class _WrittenMarket:
    """The readable auctions of a period; every impression's rows go to a file."""

    def __init__(self, file: IO[bytes], traffic: Traffic, advertisers: Advertisers, rng: np.random.Generator) -> None:
        self.traffic, self.advertisers, self.rng = traffic, advertisers, rng
        self.limits = truncation(len(advertisers), rng)
        self.sums, self.bids, self.exposures = np.zeros((3, len(advertisers), N_TICKS))  # sums of p-values and of bids
        self.prices: list[NDArray[np.float64]] = []
        self.schema = pa.schema([(name, pa.float64()) for name in TRAFFIC_COLUMNS])
        options = pyarrow.csv.WriteOptions(quoting_style="none", quoting_header="none")
        self.writer = pyarrow.csv.CSVWriter(file, self.schema, write_options=options)

    def mean_pvalues(self, tick: int) -> NDArray[np.float64]:
        """(n,) means of a tick's p-values."""
        pvalues, sigmas = self.traffic.tick(tick)
        self.pvalues, self.sigmas = pvalues[:, self.advertisers.index], sigmas[:, self.advertisers.index]
        self.sums[:, tick] = self.pvalues.sum(axis=0)
        return self.sums[:, tick] / self.traffic.counts[tick]

    def auction(self, tick: int, alphas: NDArray[np.float64], remaining: NDArray[np.float64]) -> Outcome:
        """Auction a tick's impressions and write their rows."""
        outcome = run_tick(alphas * self.pvalues, self.pvalues, self.sigmas, self.limits, remaining, self.rng)
        price, count = outcome.allocation.least_winning_cost, int(self.traffic.counts[tick])
        expected = np.zeros(len(self.advertisers))
        for row, advertiser in enumerate(self.advertisers.index):
            won = outcome.allocation.winners == row  # (count, slots)
            shown = (won & outcome.shown).any(axis=1)
            expected[row] = self.pvalues[shown, row].sum()
            columns = {
                "deliveryPeriodIndex": self.traffic.period,
                "advertiserNumber": advertiser,
                "advertiserCategoryIndex": advertiser // CATEGORY_SIZE,
                "budget": self.advertisers.budget[row],
                "CPAConstraint": self.advertisers.cpa_target[row],
                "timeStepIndex": tick,
                "remainingBudget": remaining[row],
                "pvIndex": self.traffic.counts[:tick].sum() + np.arange(count),
                "pValue": self.pvalues[:, row],
                "pValueSigma": self.sigmas[:, row],
                "bid": outcome.bids[:, row],
                "xi": won.any(axis=1),
                "adSlot": won @ np.arange(1, N_SLOTS + 1),
                "cost": (won * outcome.allocation.prices).sum(axis=1),
                "isExposed": shown,
                "conversionAction": (won & outcome.converted).any(axis=1),
                "leastWinningCost": price,
                "isEnd": remaining[row] < LEAST_BUDGET or tick == N_TICKS - 1,
            }
            arrays = [np.broadcast_to(columns[name], count).astype(np.float64) for name in TRAFFIC_COLUMNS]
            self.writer.write_batch(pa.record_batch(arrays, self.schema))
        self.bids[:, tick], self.exposures[:, tick] = outcome.bids.sum(axis=0), outcome.exposures
        self.prices.append(price)
        return Outcome(
            outcome.cost, outcome.conversions, expected, outcome.wins, self.bids[:, tick], float(price.mean())
        )


def export_trajectory_csv(path: str | Path, logs: Sequence[PeriodLog]) -> Path:
    """Write one row per advertiser and tick, 48 ticks each, with states as tuple strings.

    After its budget is used up an advertiser's rows go on with action 0 and done 1, as in the benchmark's files.

    Parameters
    ----------
    path : ends in ``.csv``, ``.csv.gz`` or ``.zip``
    logs : period logs of one data set
    """
    if len({log.dataset for log in logs}) != 1:
        raise ValueError("export needs at least one period log, all of the same data set")
    with _writing(path) as file:
        for k, log in enumerate(logs):
            _trajectory_rows(log).to_csv(file, index=False, header=k == 0, lineterminator="\n")
    return Path(path)


def _trajectory_rows(log: PeriodLog) -> pd.DataFrame:
    states = np.array([[str(tuple(state)) for state in day] for day in log.states.tolist()], dtype=object)
    done = np.arange(1, N_TICKS + 1) >= log.lengths[:, None]
    of_advertiser = {
        "advertiserNumber": log.advertisers.index,
        "advertiserCategoryIndex": log.advertisers.index // CATEGORY_SIZE,
        "budget": log.advertisers.budget,
        "CPAConstraint": log.advertisers.cpa_target,
        "realAllCost": log.costs.sum(axis=1),
        "realAllConversion": log.conversions.sum(axis=1),
    }
    columns: dict[str, Any] = {name: values[:, None].astype(np.float64) for name, values in of_advertiser.items()}
    columns |= {"deliveryPeriodIndex": float(log.period), "timeStepIndex": np.arange(N_TICKS, dtype=np.float64)}
    columns |= {"state": states, "next_state": np.where(done, "", np.roll(states, -1, axis=1))}
    columns |= {"action": log.alphas, "reward": log.conversions, "reward_continuous": log.expected_conversions}
    columns["done"] = done.astype(int)
    return pd.DataFrame({name: np.broadcast_to(columns[name], done.shape).ravel() for name in TRAJECTORY_COLUMNS})


def check_name(target: Path) -> None:
    """Raise ValueError unless the name says how to write the file."""
    if not target.name.endswith((".csv", ".csv.gz", ".zip")):
        raise ValueError(f"the output file must end in .csv, .csv.gz or .zip, got {target.name!r}")


@contextmanager
def _writing(path: str | Path) -> Iterator[IO[bytes]]:
    """A file that takes its name when whole, compressed as the name says."""
    target = Path(path)
    check_name(target)
    with writing_file(target) as temporary:
        if target.suffix == ".zip":
            with (
                zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
                archive.open(target.stem + ".csv", "w", force_zip64=True) as file,
            ):
                yield file
        else:
            with gzip.open(temporary, "wb", 1) if target.suffix == ".gz" else temporary.open("wb") as file:
                yield file  # type: ignore[misc]

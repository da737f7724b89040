"""Our own periods in the benchmark's two CSV formats (§4.1), for its tools and for testing the import."""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
from numpy.typing import ArrayLike, NDArray

from lbm_core.auction.bidder import N_TICKS, Advertisers, Bidder
from lbm_core.auction.day import DayResult, Outcome, play, run_day
from lbm_core.auction.log import PeriodLog
from lbm_core.auction.mechanism import LEAST_BUDGET, N_SLOTS, run_tick, truncation
from lbm_core.auction.traffic import CATEGORY_SIZE, Traffic
from lbm_core.files import writing_file
from lbm_core.workshop.csv_reading import TRAFFIC_COLUMNS


def export_traffic_csv(
    path: str | Path, traffic: Traffic, advertisers: Advertisers, bidder: Bidder, rng: np.random.Generator
) -> DayResult:
    """Run a period with the readable auction and write every advertiser's row for every impression.

    A whole period has 24 million rows (4 GB as ``.csv``; ``.csv.gz`` or ``.zip`` compress them). Rows come tick by
    tick, within a tick advertiser by advertiser; ``pvIndex`` counts through the period from 0. The generator draws
    exposures, conversions and dropped bids.
    """
    limits, ticks = truncation(len(advertisers), rng), traffic.ticks()
    schema = pa.schema([(name, pa.float64()) for name in TRAFFIC_COLUMNS])
    options = pyarrow.csv.WriteOptions(quoting_style="none", quoting_header="none")
    pvalues = sigmas = np.empty(0)

    def mean_pvalues(tick: int) -> NDArray[np.float64]:
        nonlocal pvalues, sigmas
        pvalues, sigmas = (values[:, advertisers.index] for values in next(ticks)[1:])
        return pvalues.mean(axis=0)

    def auction(tick: int, alphas: NDArray[np.float64], remaining: NDArray[np.float64]) -> Outcome:
        outcome = run_tick(alphas * pvalues, pvalues, sigmas, limits, remaining, rng)
        price, count = outcome.allocation.least_winning_cost, len(pvalues)
        expected = np.zeros(len(advertisers))
        for row, advertiser in enumerate(advertisers.index):
            won = outcome.allocation.winners == row  # (count, slots)
            shown = (won & outcome.shown).any(axis=1)
            expected[row] = pvalues[shown, row].sum()
            columns = {
                "deliveryPeriodIndex": traffic.period,
                "advertiserNumber": advertiser,
                "advertiserCategoryIndex": advertiser // CATEGORY_SIZE,
                "budget": advertisers.budget[row],
                "CPAConstraint": advertisers.cpa_target[row],
                "timeStepIndex": tick,
                "remainingBudget": remaining[row],
                "pvIndex": traffic.counts[:tick].sum() + np.arange(count),
                "pValue": pvalues[:, row],
                "pValueSigma": sigmas[:, row],
                "bid": outcome.bids[:, row],
                "xi": won.any(axis=1),
                "adSlot": won @ np.arange(1, N_SLOTS + 1),
                "cost": (won * outcome.allocation.prices).sum(axis=1),
                "isExposed": shown,
                "conversionAction": (won & outcome.converted).any(axis=1),
                "leastWinningCost": price,
                "isEnd": remaining[row] < LEAST_BUDGET or tick == N_TICKS - 1,
            }
            writer.write(pa.Table.from_pandas(pd.DataFrame(columns, dtype=np.float64), schema, preserve_index=False))
        bids, mean = outcome.bids.sum(axis=0), float(price.mean())
        return Outcome(outcome.cost, outcome.conversions, expected, outcome.wins, bids, mean)

    with _writing(path) as file, pyarrow.csv.CSVWriter(file, schema, write_options=options) as writer:
        return play(run_day(advertisers, traffic.counts, mean_pvalues, auction), advertisers, bidder)


def export_trajectory_csv(path: str | Path, logs: Sequence[PeriodLog]) -> Path:
    """Write one row per advertiser and tick, 48 ticks each, with states as tuple strings, to .csv, .csv.gz or .zip.

    After its budget is used up an advertiser's rows go on with action 0 and done 1, as in the benchmark's files.
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
    columns: dict[str, ArrayLike] = {
        "deliveryPeriodIndex": float(log.period),
        "advertiserNumber": log.advertisers.index[:, None],
        "advertiserCategoryIndex": log.advertisers.index[:, None] // CATEGORY_SIZE,
        "budget": log.advertisers.budget[:, None],
        "CPAConstraint": log.advertisers.cpa_target[:, None],
        "realAllCost": log.costs.sum(axis=1, keepdims=True),
        "realAllConversion": log.conversions.sum(axis=1, keepdims=True),
        "timeStepIndex": np.arange(N_TICKS),
        "state": states,
        "action": log.alphas,
        "reward": log.conversions,
        "reward_continuous": log.expected_conversions,
        "done": done.astype(int),
        "next_state": np.where(done, "", np.roll(states, -1, axis=1)),
    }
    rows = pd.DataFrame({name: np.broadcast_to(column, done.shape).ravel() for name, column in columns.items()})
    whole = ["advertiserNumber", "advertiserCategoryIndex", "timeStepIndex"]
    return rows.astype(dict.fromkeys(whole, float))


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

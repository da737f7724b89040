"""Our own periods in the benchmark's two CSV formats (§4.1), for its tools and for testing the import."""

from __future__ import annotations

import csv
import gzip
import io
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.csv

from lbm_core.auction.bidder import N_TICKS, Advertisers, Bidder, Observation
from lbm_core.auction.log import PeriodLog
from lbm_core.auction.mechanism import LEAST_BUDGET, TickOutcome, run_tick, truncation
from lbm_core.auction.state import FEATURES, StateBuilder
from lbm_core.auction.traffic import CATEGORY_SIZE, Traffic
from lbm_core.files import writing_file
from lbm_core.workshop.csv_traffic import TRAFFIC_COLUMNS
from lbm_core.workshop.csv_trajectory import TRAJECTORY_COLUMNS

_SCHEMA = pa.schema([(name, pa.float64()) for name in TRAFFIC_COLUMNS])
_NO_QUOTES = pyarrow.csv.WriteOptions(quoting_style="none", quoting_header="none")


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
    n, counts = len(advertisers), traffic.counts
    limits = truncation(n, rng)
    builder = StateBuilder(advertisers.budget)
    names = ("alphas", "bids", "pvalues", "costs", "conversions", "expected_conversions", "wins", "exposures")
    table = {name: np.zeros((n, N_TICKS)) for name in names}
    states, chosen = np.zeros((n, N_TICKS, len(FEATURES))), np.zeros((n, N_TICKS))
    ended = np.zeros((n, N_TICKS), dtype=bool)
    prices = []
    bidder.reset(advertisers)
    with writing_file(Path(path)) as temporary, _sink(Path(path), temporary) as file:
        writer = pyarrow.csv.CSVWriter(file, _SCHEMA, write_options=_NO_QUOTES)
        for tick, pvalues, sigmas in traffic.ticks():
            ours, sigma = pvalues[:, advertisers.index], sigmas[:, advertisers.index]
            count = max(int(counts[tick]), 1)
            states[:, tick] = builder.state(ours.sum(axis=0) / count, int(counts[tick]))
            seen = (chosen[:, :tick], table["conversions"][:, :tick], table["costs"][:, :tick])
            alphas = np.asarray(bidder.act(Observation(tick, states[:, : tick + 1], *seen)), dtype=np.float64)
            remaining = builder.remaining
            ended[:, tick] = (remaining < LEAST_BUDGET) | (tick == N_TICKS - 1)
            chosen[:, tick] = np.where(remaining < LEAST_BUDGET, 0.0, alphas)
            outcome = run_tick(chosen[:, tick] * ours, ours, sigma, limits, remaining, rng)
            slots = _slots(outcome, ours, sigma)
            start = int(counts[:tick].sum())
            for batch in _batches(traffic, advertisers, tick, start, remaining, ended[:, tick], slots):
                writer.write_batch(batch)
            values = {
                "alphas": outcome.bids.sum(axis=0) / np.maximum(ours.sum(axis=0), 1e-300),
                "bids": outcome.bids.sum(axis=0) / count,
                "pvalues": ours.sum(axis=0) / count,
                "costs": outcome.cost,
                "conversions": outcome.conversions,
                "expected_conversions": (ours * slots["isExposed"]).sum(axis=0),
                "wins": outcome.wins,
                "exposures": outcome.exposures,
            }
            for name, value in values.items():
                table[name][:, tick] = value
            prices.append(outcome.allocation.least_winning_cost)
            builder.update(
                bid=values["bids"],
                least_winning_cost=prices[-1].mean() if len(prices[-1]) else 0.0,
                pvalue=values["pvalues"],
                conversion_rate=outcome.conversions / count,
                win_rate=outcome.wins / count,
                count=int(counts[tick]),
                remaining=remaining - outcome.cost,
            )
        writer.close()
    return PeriodLog(
        dataset=traffic.dataset,
        period=traffic.period,
        scheme=traffic.scheme,
        engine="reference",
        advertisers=advertisers,
        counts=counts,
        states=states,
        lengths=np.argmax(ended, axis=1) + 1,
        least_winning_cost=np.concatenate(prices),
        **table,
    )


def _slots(outcome: TickOutcome, pvalues: np.ndarray, sigmas: np.ndarray) -> dict[str, np.ndarray]:
    """Per impression and advertiser (n, m): the columns that differ from row to row."""
    allocation = outcome.allocation
    impression, slot = np.nonzero(allocation.winners >= 0)
    who = allocation.winners[impression, slot]
    columns = {
        "pValue": pvalues,
        "pValueSigma": sigmas,
        "bid": outcome.bids,
        "leastWinningCost": np.broadcast_to(allocation.least_winning_cost[:, None], pvalues.shape),
    }
    won = {
        "xi": np.ones(len(who)),
        "adSlot": slot + 1.0,
        "cost": allocation.prices[impression, slot],
        "isExposed": outcome.shown[impression, slot],
        "conversionAction": outcome.converted[impression, slot],
    }
    for name, values in won.items():
        columns[name] = np.zeros(pvalues.shape)
        columns[name][impression, who] = values
    return columns


def _batches(
    traffic: Traffic,
    advertisers: Advertisers,
    tick: int,
    start: int,
    remaining: np.ndarray,
    ended: np.ndarray,
    slots: dict[str, np.ndarray],
) -> Iterator[pa.RecordBatch]:
    """Rows of one tick, one batch per advertiser."""
    count = len(slots["bid"])
    for row, advertiser in enumerate(advertisers.index):
        shared = {
            "deliveryPeriodIndex": traffic.period,
            "advertiserNumber": advertiser,
            "advertiserCategoryIndex": advertiser // CATEGORY_SIZE,
            "budget": advertisers.budget[row],
            "CPAConstraint": advertisers.cpa_target[row],
            "timeStepIndex": tick,
            "remainingBudget": remaining[row],
            "isEnd": ended[row],
        }
        columns = {name: np.full(count, value, dtype=np.float64) for name, value in shared.items()}
        columns["pvIndex"] = start + np.arange(count, dtype=np.float64)
        columns |= {name: np.ascontiguousarray(values[:, row]) for name, values in slots.items()}
        yield pa.record_batch([pa.array(columns[name]) for name in TRAFFIC_COLUMNS], schema=_SCHEMA)


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
    path = Path(path)
    with (
        writing_file(path) as temporary,
        _sink(path, temporary) as binary,
        io.TextIOWrapper(binary, encoding="utf-8", newline="", write_through=True) as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(TRAJECTORY_COLUMNS)
        for log in logs:
            for row in range(len(log.advertisers)):
                writer.writerows(_trajectory_rows(log, row))
    return path


def _trajectory_rows(log: PeriodLog, row: int) -> Iterator[list[object]]:
    index = int(log.advertisers.index[row])
    shared = [float(log.period), float(index), float(index // CATEGORY_SIZE)]
    shared += [float(log.advertisers.budget[row]), float(log.advertisers.cpa_target[row])]
    shared += [float(log.costs[row].sum()), float(log.conversions[row].sum())]
    texts = [str(tuple(state.tolist())) for state in log.states[row]]
    for tick in range(N_TICKS):
        done = tick + 1 >= log.lengths[row]
        reward = [log.alphas[row, tick], log.conversions[row, tick], log.expected_conversions[row, tick]]
        yield [
            *shared,
            float(tick),
            texts[tick],
            *(float(value) for value in reward),
            int(done),
            "" if done else texts[tick + 1],
        ]


def check_name(target: Path) -> None:
    """Raise ValueError unless the name says how to write the file."""
    if not target.name.endswith((".csv", ".csv.gz", ".zip")):
        raise ValueError(f"the output file must end in .csv, .csv.gz or .zip, got {target.name!r}")


@contextmanager
def _sink(target: Path, temporary: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file for writing, compressed as the name of ``target`` says."""
    check_name(target)
    if target.suffix == ".zip":
        with (
            zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
            archive.open(target.stem + ".csv", "w", force_zip64=True) as file,
        ):
            yield file
    elif target.suffix == ".gz":
        with gzip.open(temporary, "wb", compresslevel=1) as file:
            yield file  # type: ignore[misc]
    else:
        with temporary.open("wb") as file:
            yield file

"""Speed and memory of the market and of the replay against plain NumPy, in one run on one machine.

    python benchmarks/market.py            # about two minutes; writes results/benchmark_market.csv

Every measurement runs in a process of its own with one thread. The workload is the same for all of a group:
AuctionNet's public traffic (sparse), everybody bidding CPA target times p-value, so that about half of the 48
advertisers run out of budget. Compiling is not timed (kernels are compiled once per machine and cached), and nothing
asserts a time.

Columns: CPU and wall seconds per period (a replay is of 48 advertisers; table replays are run in batches of 48 times
40 and divided), speedup in CPU seconds over the first row of the group, gain_of_processes in wall seconds over one
process, generator_share and bandwidth_share (time that drawing the bare normals, or moving the p-values to memory and
back, would take, over the time taken), period_mib (peak memory beyond the imports) and peak_mib (of the process).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
from scipy.stats import truncnorm

from lbm_core.auction.bidder import Advertisers
from lbm_core.auction.controls import ConstantAlpha
from lbm_core.auction.market import run_market
from lbm_core.auction.mechanism import EXPOSURE, LEAST_BUDGET, RESERVE_PRICE
from lbm_core.auction.random_bits import clipped_normals
from lbm_core.auction.replay import ReplayPeriod, replay
from lbm_core.auction.response_tables import ResponseTables, table_replay
from lbm_core.auction.traffic import Traffic
from lbm_core.data.advertisers import benchmark_advertisers
from lbm_core.report import results

sys.path.append(str(Path(__file__).parents[1] / "scripts"))
from fast_traffic import FastTraffic, counter_normals

DATASET = "sparse"
TABLE_BATCH = 40  # budgets of each advertiser that one table replay tries: its cost is per call, hardly per row


# --- the benchmark's rules in plain NumPy and SciPy: everything drawn and sorted for all 48, again at every repetition


def numpy_auction(bids, pvalues, sigmas, limits, rng):
    """One auction of all impressions of a tick; returns slot, cost, conversions (all (n, 48)) and the prices."""
    ranking = np.argsort(-bids, axis=1)
    ranked = np.take_along_axis(bids, ranking, axis=1)
    prices = np.maximum(ranked[:, 1:4], RESERVE_PRICE)
    slot = np.zeros(bids.shape, dtype=np.int64)
    np.put_along_axis(slot, ranking[:, :3], np.where(prices > RESERVE_PRICE, [1, 2, 3], 0), axis=1)
    shown = rng.binomial(1, np.array([0.0, *EXPOSURE])[slot])
    second_hidden = ((slot == 2) & (shown == 0)).any(axis=1, keepdims=True)
    shown[(slot == 3) & second_hidden] = 0
    price_of_slot = np.hstack([np.zeros((len(bids), 1)), prices])
    cost = np.take_along_axis(price_of_slot, slot, axis=1) * shown
    spread = truncnorm.rvs(-2 * limits[:, 0], 2 * limits[:, 1], size=bids.shape, random_state=rng)
    values = np.clip(pvalues + sigmas * spread, 0.0, 1.0)
    conversions = rng.binomial(1, values) * shown
    return slot, cost, conversions, prices[:, 2]


def numpy_market(traffic: Traffic, advertisers: Advertisers, seed: int) -> float:
    """A period; returns what was spent. Repetitions of a tick repeat its draws, as the public code's do."""
    limits = np.random.default_rng(seed).random((len(advertisers), 2))
    remaining = advertisers.budget.copy()
    for tick, pvalues, sigmas in traffic.ticks():
        bids = advertisers.cpa_target * pvalues
        bids[:, remaining < LEAST_BUDGET] = 0.0
        dropping = np.random.default_rng([seed, tick, 1])
        while True:
            rng = np.random.default_rng([seed, tick, 0])
            slot, cost, conversions, _prices = numpy_auction(bids, pvalues, sigmas, limits, rng)
            spent = cost.sum(axis=0)
            if (spent <= remaining).all():
                break
            for i in np.flatnonzero(spent > remaining):
                for k in (1, 2, 3):
                    won = np.flatnonzero(slot[:, i] == k)
                    n_drop = int(np.ceil(len(won) * (spent[i] - remaining[i]) / spent[i]))
                    bids[dropping.choice(won, n_drop, replace=False), i] = 0.0
        remaining = remaining - spent
        conversions.sum(axis=0)
    return float(advertisers.budget.sum() - remaining.sum())


def numpy_replay(period: ReplayPeriod, traffic: Traffic, advertisers: Advertisers, seed: int, records: bool) -> float:
    """Every advertiser alone against the logged prices; returns what was spent.

    With ``records``, each tick's history is a table made impression by impression, as the public evaluation hands it
    to its bidders; without, nothing is kept.
    """
    rng = np.random.default_rng(seed)
    spent = 0.0
    ticks = list(traffic.ticks())
    for i in range(len(advertisers)):
        left = advertisers.budget[i]
        for (_, all_pvalues, all_sigmas), start in zip(ticks, period.starts[:-1], strict=True):
            pvalues, sigmas = all_pvalues[:, i], all_sigmas[:, i]
            prices = period.least_winning_cost[start : start + len(pvalues)]
            bids = advertisers.cpa_target[i] * pvalues * (left >= LEAST_BUDGET)
            while True:
                won = bids >= prices
                values = np.clip(rng.normal(pvalues, sigmas) * won, 0.0, 1.0)
                conversions = rng.binomial(1, values)
                cost = (prices * won).sum()
                if cost <= left:
                    break
                n_drop = int(np.ceil(won.sum() * (cost - left) / cost))
                bids[rng.choice(np.flatnonzero(won), n_drop, replace=False)] = 0.0
            if records:
                np.array([(pvalues[j], sigmas[j]) for j in range(len(pvalues))])
                np.array([(won[j], won[j], prices[j] * won[j]) for j in range(len(pvalues))])
                np.array([(conversions[j], conversions[j]) for j in range(len(pvalues))])
            left -= cost
            spent += cost
    return spent


# --- one measurement per process


def measure(job: str, periods: int) -> dict[str, float]:
    """CPU and wall seconds per period of a job, and the memory it takes beyond what was imported."""
    advertisers = benchmark_advertisers(DATASET)
    prepare, run, batch = JOBS[job](advertisers)
    if not job.startswith("numpy"):
        run(0)  # loads the compiled kernels
    cpu, wall = time.process_time(), time.perf_counter()
    spent = [run(seed) for seed in range(periods)]
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    peak = _peak_memory()
    return {
        "cpu_seconds": cpu / periods / batch,
        "wall_seconds": wall / periods / batch,
        "prepare_cpu_seconds": prepare,
        "spent": float(np.mean(spent)) / batch,
        "period_mib": (peak - _IMPORTED) / 2**20,
        "peak_mib": peak / 2**20,
    }


def _peak_memory() -> int:
    """Largest resident memory of this process so far, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would also count the parent's memory at the time of the fork
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _market(engine: str) -> Callable:
    def start(advertisers: Advertisers):
        def run(seed: int) -> float:
            traffic = (FastTraffic if engine == "fast" else Traffic)(seed, DATASET, "public")
            if engine == "numpy":
                return numpy_market(traffic, advertisers, seed)
            rng = np.random.default_rng(seed)
            return float(run_market(traffic, advertisers, ConstantAlpha(), rng).costs.sum())

        return 0.0, run, 1

    return start


def _replay(how: str) -> Callable:
    def start(advertisers: Advertisers):
        traffic = Traffic(0, DATASET, "public")
        log = run_market(traffic, advertisers, ConstantAlpha(), np.random.default_rng(0))
        period = ReplayPeriod.from_log(log)
        if how.startswith("numpy"):
            return 0.0, lambda seed: numpy_replay(period, traffic, advertisers, seed, how == "numpy records"), 1
        if how == "impressions":

            def one(seed: int) -> float:
                return float(replay(period, ConstantAlpha(), np.random.default_rng(seed)).costs.sum())

            return 0.0, one, 1
        ResponseTables.from_period(period)  # compiles
        began = time.process_time()
        tables = ResponseTables.from_period(period)
        took = time.process_time() - began
        many = advertisers[np.tile(np.arange(len(advertisers)), TABLE_BATCH)]

        def run(seed: int) -> float:
            return float(table_replay(tables, ConstantAlpha(), None, advertisers=many).costs.sum())

        return took, run, TABLE_BATCH

    return start


def generator_floor(engine: str) -> float:
    """CPU seconds that drawing a period's normals takes and nothing else."""
    traffic = Traffic(0, DATASET, "public")
    n = int(traffic.counts.sum()) * 48
    rng = np.random.default_rng(0)
    exact, out, sums = np.empty((48, 10_000)).T, np.empty((48, 10_000), np.float32), np.empty(48)
    means, stds = np.full(48, 5e-4), np.full(48, 2.5e-4)
    best = np.inf
    for _ in range(4):
        began = time.process_time()
        if engine == "exact":
            clipped_normals(rng, means, stds, exact, sums)
            took = (time.process_time() - began) * 2 * n / exact.size  # p-values and sigmas
        else:
            counter_normals(np.uint32(1), np.uint32(2), means, stds, out, sums)
            took = (time.process_time() - began) * n / out.size
        best = min(best, took)
    return best


def memory_bandwidth() -> float:
    """Bytes per second read and written by copying a large array."""
    source = np.ones(2**25)
    target = np.empty_like(source)
    best = np.inf
    for _ in range(5):
        began = time.perf_counter()
        np.copyto(target, source)
        best = min(best, time.perf_counter() - began)
    return 2 * source.nbytes / best


JOBS: dict[str, Callable] = {
    "numpy market": _market("numpy"),
    "exact market": _market("exact"),
    "fast market": _market("fast"),
    "numpy records replay": _replay("numpy records"),
    "numpy replay": _replay("numpy"),
    "impression replay": _replay("impressions"),
    "table replay": _replay("tables"),
}
PERIODS = {"numpy": 1, "exact": 6, "fast": 12, "impression": 12, "table": 12}


def run_jobs(job: str, processes: int, periods: int) -> list[dict[str, float]]:
    """Measure a job in so many processes at the same time."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    command = [sys.executable, str(Path(__file__).resolve()), "--job", job, "--periods", str(periods)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(processes)]
    outputs = [process.communicate()[0] for process in running]
    if any(process.returncode for process in running):
        raise RuntimeError(f"the measurement of {job!r} failed; its error is above")
    return [json.loads(output.splitlines()[-1]) for output in outputs]


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed and memory of the market and the replay.")
    parser.add_argument("--job", choices=JOBS, help="measure this job in this process and print JSON")
    parser.add_argument("--periods", type=int, default=0, help="periods per measurement")
    parser.add_argument("--output", default="", help="folder in the place of the checkout's results/")
    arguments = parser.parse_args()
    if arguments.job:
        print(json.dumps(measure(arguments.job, arguments.periods)))
        return
    impressions = int(Traffic(0, DATASET, "public").counts.sum())
    floors = {engine: generator_floor(engine) for engine in ("exact", "fast")}
    bandwidth = memory_bandwidth()
    rows, baseline = [], {}
    for job in JOBS:
        how, task = job.split(" ", 1)[0], job.rsplit(" ", 1)[1]
        one = None
        for processes in (1,) if how == "numpy" else (1, 2):
            measured = run_jobs(job, processes, arguments.periods or PERIODS[how])
            row = {key: float(np.mean([m[key] for m in measured])) for key in measured[0]}
            row["wall_seconds"] /= processes
            one = one or row
            baseline.setdefault(task, row["cpu_seconds"])
            row |= {
                "job": job,
                "processes": processes,
                "speedup": baseline[task] / row["cpu_seconds"],
                "gain_of_processes": one["wall_seconds"] / row["wall_seconds"],
                "impressions_per_second": impressions * (1 if task == "market" else 48) / row["cpu_seconds"],
            }
            if job in ("exact market", "fast market"):
                # P-values are written once and read once.
                traffic_bytes = impressions * 48 * 2 * (8 if how == "exact" else 4)
                row["generator_share"] = floors[how] / row["cpu_seconds"]
                row["bandwidth_share"] = traffic_bytes / bandwidth / row["cpu_seconds"]
            rows.append(row)
            print(f"{job}, {processes} process(es): {row['cpu_seconds']:.4g} CPU s, {row['speedup']:.3g}x", flush=True)
    first = ["job", "processes", "cpu_seconds", "wall_seconds", "speedup", "gain_of_processes"]
    frame = pd.DataFrame(rows)
    frame = frame[first + [name for name in frame if name not in first]]
    print(frame.to_string(index=False, float_format="{:.4g}".format))
    results.record("benchmark_market", frame, tier="laptop", dataset=DATASET, output=arguments.output)


_IMPORTED = psutil.Process().memory_info().rss  # before any work

if __name__ == "__main__":
    main()

"""The benchmark's trajectory CSV (a row per advertiser and tick, states as tuple strings) as trajectories (§4.1)."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
from numpy.typing import NDArray

from lbm_core.auction.bidder import N_ADVERTISERS, N_STATE_FEATURES, N_TICKS
from lbm_core.auction.state import FEATURES
from lbm_core.auction.traffic import Traffic
from lbm_core.data.trajectories import ALPHA_LIMIT, MIN_LENGTH, TrajectorySet
from lbm_core.settings import Dataset
from lbm_core.workshop.csv_rows import CHUNK_BYTES, Chunk, CsvSource, chunks
from lbm_core.workshop.csv_traffic import MAX_PERIOD, nearest_dataset

# The columns of a trajectory file, in its order.
TRAJECTORY_COLUMNS = (
    "deliveryPeriodIndex",
    "advertiserNumber",
    "advertiserCategoryIndex",
    "budget",
    "CPAConstraint",
    "realAllCost",  # of the whole period
    "realAllConversion",
    "timeStepIndex",
    "state",  # "(x1, …, x16)"
    "action",
    "reward",
    "reward_continuous",
    "done",
    "next_state",  # empty where done
)
_READ = tuple(c for c in TRAJECTORY_COLUMNS if c not in ("advertiserCategoryIndex", "realAllConversion", "next_state"))
_PVALUE, _COUNT, _BUDGET_LEFT, _TIME_LEFT = (
    FEATURES.index(name) for name in ("current_pvalue_mean", "current_pv_num", "budget_left", "time_left")
)
_PVALUE_TOLERANCE = 1e-9  # relative; means of ten thousand p-values summed in another order
_SHARE_TOLERANCE = 1e-5  # of a budget or a day, however the file rounds


@dataclass(frozen=True)
class TrajectoryCheck:
    """How a trajectory file compares with the regenerated traffic.

    Attributes
    ----------
    source : name of the file
    dataset : which traffic it agrees with
    rows, trajectories : counts
    compared_periods : delivery periods whose counts and mean p-values were compared (and agree)
    """

    source: str
    dataset: str
    rows: int
    trajectories: int
    compared_periods: tuple[int, ...]

    def __str__(self) -> str:
        if not self.compared_periods:
            return f"{self.source}: {self.trajectories:,} trajectories, not compared with the regenerated traffic"
        return (
            f"{self.source}: impression counts and mean p-values of {self.trajectories:,} trajectories "
            f"({self.dataset}, {len(self.compared_periods)} periods) agree with the regenerated traffic"
        )


def read_trajectory_csv(
    source: CsvSource,
    *,
    dataset: Dataset | None = None,
    compare: bool = True,
    traffic: Callable[[int, Dataset], Traffic] = Traffic,
    chunk_bytes: int = CHUNK_BYTES,
    progress: Callable[[int], object] | None = None,
) -> tuple[TrajectorySet, TrajectoryCheck]:
    """Read trajectories, cut at the first ``done`` inclusive, and check them against the regenerated traffic.

    Costs per tick are not in the file: they are the steps of the remaining budget, and in the last tick what the
    day's total leaves. As for our own data, alphas are clipped and trajectories of one or two ticks dropped.

    Parameters
    ----------
    dataset : the data set the file must belong to; None: the one whose p-values are nearer
    compare : whether impression counts and mean p-values must agree with the regenerated traffic
    traffic : makes the traffic of a period and data set
    chunk_bytes, progress : as in :func:`~lbm_core.workshop.csv_rows.chunks`

    Raises
    ------
    ValueError
        Missing column, truncated line, NaN, negative budget, duplicate or missing rows, budgets, times and costs that
        contradict each other, counts or p-values that differ from the traffic: one sentence with file and line.
    """
    parts = []
    for chunk in chunks(source, _READ, texts=("state",), chunk_bytes=chunk_bytes, progress=progress):
        parts.append(_columns(chunk))
    rows = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.lexsort((rows["tick"], rows["advertiser"], rows["period"]))
    rows = {name: values[order] for name, values in rows.items()}
    first = _check_order(source, rows)
    if dataset is None:
        dataset = nearest_dataset(int(rows["period"][0]), rows["advertiser"], rows["tick"], rows["state"][:, _PVALUE])
    compared = _compare(source, rows, dataset, traffic) if compare else ()
    trajectories = _cut(rows, first, dataset)
    check = TrajectoryCheck(source.name, dataset, len(order), len(trajectories), compared)
    return trajectories, check


def _columns(chunk: Chunk) -> dict[str, NDArray]:
    """Checked columns of a chunk, with the line of every row for later complaints."""
    tick, state = chunk.integers("timeStepIndex", 0, N_TICKS - 1), _states(chunk)
    left, time = state[:, _BUDGET_LEFT], state[:, _TIME_LEFT]
    chunk.require(
        (left >= -_SHARE_TOLERANCE) & (left <= 1 + _SHARE_TOLERANCE),
        lambda row: f"the state's budget_left is {left[row]:g}; expected 0 … 1",
    )
    chunk.require(
        np.abs(time - (1 - tick / N_TICKS)) <= _SHARE_TOLERANCE,
        lambda row: f"the state's time_left is {time[row]:g} in tick {tick[row]}; expected {1 - tick[row] / N_TICKS:g}",
    )
    return {
        "line": chunk.line + np.arange(len(chunk)),
        "period": chunk.integers("deliveryPeriodIndex", 0, MAX_PERIOD),
        "advertiser": chunk.integers("advertiserNumber", 0, N_ADVERTISERS - 1),
        "tick": tick,
        "budget": chunk.positive("budget"),
        "cpa_target": chunk.positive("CPAConstraint"),
        "total_cost": chunk.numbers("realAllCost", 0),
        "alpha": chunk.numbers("action", 0),
        "conversions": chunk.numbers("reward", 0),
        "expected_conversions": chunk.numbers("reward_continuous", 0),
        "done": chunk.integers("done", 0, 1),
        "state": state,
    }


def _states(chunk: Chunk) -> NDArray[np.float64]:
    """(rows, 16) numbers of the tuple strings."""
    texts = chunk.texts("state")
    # "(1.0, 0.5)" or, printed by NumPy 2, "(np.float64(1.0), np.float64(0.5))"
    plain = pa.compute.replace_substring_regex(texts, pattern=r"np\.float\d+|[()\s]", replacement="")
    text = "\n".join("" if value is None else value for value in plain.to_pylist()) + "\n"
    names = list(FEATURES)
    try:
        table = pyarrow.csv.read_csv(
            io.BytesIO(text.encode()),
            read_options=pyarrow.csv.ReadOptions(column_names=names, use_threads=False),
            parse_options=pyarrow.csv.ParseOptions(ignore_empty_lines=False),
            convert_options=pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.float64())),
        )
        states = np.column_stack([np.asarray(table.column(name)) for name in names])
    except pa.ArrowInvalid:
        # Find the row: parse them one by one.
        states = np.array([_one_state(chunk, row, value) for row, value in enumerate(plain.to_pylist())])
    chunk.require(np.isfinite(states).all(axis=1), lambda row: "state holds NaN or infinite numbers, or is empty")
    return states


def _one_state(chunk: Chunk, row: int, text: str | None) -> list[float]:
    parts = (text or "").split(",")
    if len(parts) != N_STATE_FEATURES:
        chunk.fail(row, f"state has {len(parts) if text else 0} numbers; expected {N_STATE_FEATURES}")
    try:
        return [float(part) for part in parts]
    except ValueError:
        chunk.fail(row, f"state {text!r:.60} is not a tuple of numbers")


def _fail(source: CsvSource, line: int, problem: str) -> None:
    raise ValueError(f"{source.name}, line {line}: {problem}")


def _check_order(source: CsvSource, rows: dict[str, NDArray]) -> NDArray[np.int64]:
    """Start of every trajectory in the sorted rows; ticks must run 0, 1, 2 … without a gap or a repetition."""
    same = (np.diff(rows["period"]) == 0) & (np.diff(rows["advertiser"]) == 0)
    first = np.flatnonzero(np.concatenate([[True], ~same]))
    expected = np.arange(len(rows["tick"])) - np.repeat(first, np.diff([*first, len(rows["tick"])]))
    wrong = np.flatnonzero(rows["tick"] != expected)
    if len(wrong):
        # A row of a wrong period leaves a gap where it belongs and starts a trajectory where it does not: tell of it.
        late = first[rows["tick"][first] > 0]
        k = int(late[np.argmin(rows["line"][late])] if len(late) else wrong[0])
        who = f"advertiser {rows['advertiser'][k]}, period {rows['period'][k]}"
        if k and same[k - 1] and rows["tick"][k] == rows["tick"][k - 1]:
            line = max(rows["line"][k], rows["line"][k - 1])
            _fail(source, line, f"the row of {who}, tick {rows['tick'][k]} occurs twice")
        if k in late:
            problem = f"the rows of {who} start at tick {rows['tick'][k]}: earlier ones are missing"
            _fail(source, rows["line"][k], problem)
        _fail(source, rows["line"][k], f"{who} goes from tick {expected[k] - 1} to {rows['tick'][k]}: rows are missing")
    last = np.append(first[1:], len(rows["tick"])) - 1
    open_end = np.flatnonzero((rows["tick"][last] < N_TICKS - 1) & (np.maximum.reduceat(rows["done"], first) == 0))
    if len(open_end):
        k = int(last[open_end[0]])
        who = f"advertiser {rows['advertiser'][k]}, period {rows['period'][k]}"
        _fail(source, rows["line"][k], f"the rows of {who} end at tick {rows['tick'][k]} without done")
    for name in ("budget", "cpa_target", "total_cost"):
        changed = np.flatnonzero(same & (np.diff(rows[name]) != 0))
        if len(changed):
            _fail(source, rows["line"][changed[0] + 1], f"{name} changes within a trajectory")
    left = rows["state"][:, _BUDGET_LEFT]
    rising = np.flatnonzero(same & (np.diff(left) > _SHARE_TOLERANCE))
    if len(rising):
        k = int(rising[0])
        _fail(source, rows["line"][k + 1], f"budget_left rises from {left[k]:g} to {left[k + 1]:g} within a trajectory")
    spent = (1 - left) * rows["budget"]
    short = np.flatnonzero(rows["total_cost"] < spent - _SHARE_TOLERANCE * rows["budget"])
    if len(short):
        k = int(short[0])
        problem = f"realAllCost is {rows['total_cost'][k]:g}, but {spent[k]:g} of the budget were spent by then"
        _fail(source, rows["line"][k], problem)
    return first


def _compare(
    source: CsvSource, rows: dict[str, NDArray], dataset: Dataset, traffic: Callable[[int, Dataset], Traffic]
) -> tuple[int, ...]:
    """Impression counts and mean p-values of every row against the regenerated traffic."""
    periods = np.unique(rows["period"])
    for period in periods:
        regenerated = traffic(int(period), dataset)
        chosen = np.flatnonzero(rows["period"] == period)
        advertiser, tick = rows["advertiser"][chosen], rows["tick"][chosen]
        count = rows["state"][chosen, _COUNT]
        wrong = np.flatnonzero(count != regenerated.counts[tick])
        if len(wrong):
            k = wrong[0]
            _fail(
                source,
                rows["line"][chosen[k]],
                f"{count[k]:g} impressions in tick {tick[k]}; the regenerated traffic of period {period} has "
                f"{regenerated.counts[tick[k]]}",
            )
        means = np.stack([regenerated.tick_pvalues(t).mean(axis=0) for t in range(N_TICKS)], axis=1)
        found, expected = rows["state"][chosen, _PVALUE], means[advertiser, tick]
        wrong = np.flatnonzero(np.abs(found - expected) > _PVALUE_TOLERANCE * expected)
        if len(wrong):
            k = wrong[0]
            _fail(
                source,
                rows["line"][chosen[k]],
                f"mean p-value {found[k]:.10g} of advertiser {advertiser[k]}, tick {tick[k]}; the regenerated traffic "
                f"of period {period} ({dataset}) has {expected[k]:.10g}",
            )
    return tuple(int(period) for period in periods)


def _cut(rows: dict[str, NDArray], first: NDArray[np.int64], dataset: Dataset) -> TrajectorySet:
    """Columns of a trajectory set from sorted rows."""
    trajectory = np.repeat(np.arange(len(first)), np.diff([*first, len(rows["tick"])]))

    def grid(values: NDArray) -> NDArray[np.float64]:
        table = np.zeros((len(first), N_TICKS, *values.shape[1:]))
        table[trajectory, rows["tick"]] = values
        return table

    done = grid(rows["done"]) > 0
    done[:, -1] = True
    length = np.argmax(done, axis=1) + 1
    valid = np.arange(N_TICKS) < length[:, None]
    budget, total = rows["budget"][first], rows["total_cost"][first]
    remaining = grid(rows["state"][:, _BUDGET_LEFT]) * budget[:, None]
    costs = np.zeros_like(remaining)
    costs[:, :-1] = np.where(valid[:, 1:], remaining[:, :-1] - remaining[:, 1:], 0.0)
    last = length - 1
    costs[np.arange(len(first)), last] = total - costs.sum(axis=1)
    costs[costs < 0] = 0.0  # rounding of the last tick
    whole = TrajectorySet(
        dataset=dataset,
        period=rows["period"][first],
        advertiser=rows["advertiser"][first],
        length=length,
        budget=budget,
        cpa_target=rows["cpa_target"][first],
        states=grid(rows["state"]) * valid[:, :, None],
        alphas=np.clip(grid(rows["alpha"]), 0.0, ALPHA_LIMIT[dataset]) * valid,
        conversions=grid(rows["conversions"]) * valid,
        expected_conversions=grid(rows["expected_conversions"]) * valid,
        costs=costs,
    )
    return whole.select(length >= MIN_LENGTH)

"""Import of the benchmark's files into the forms our own data have (§4.1): period logs and a trajectory set."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lbm_core.auction.bidder import N_STATE_FEATURES, N_TICKS, Advertisers
from lbm_core.auction.day import DayResult
from lbm_core.auction.state import FEATURES
from lbm_core.auction.traffic import Traffic
from lbm_core.data.trajectories import MIN_LENGTH, TrajectorySet
from lbm_core.files import writing
from lbm_core.settings import Dataset
from lbm_core.workshop.csv_reading import TRAJECTORY_COLUMNS, CsvSource, csv_sources
from lbm_core.workshop.csv_traffic import nearest_dataset, read_traffic_csv

_UNREAD = ("advertiserCategoryIndex", "realAllConversion", "next_state")
# "(1.0, 0.5)", "[1.0, 0.5]" or, by NumPy 2, "(np.float64(1.0), np.int64(0))"
_WRAPPING = re.compile(r"(?:np|numpy)\.(?:float|int)\d+|[()\[\]\s]")
_PVALUE_TOLERANCE = 1e-9  # relative; means of ten thousand p-values summed in another order
_SHARE_TOLERANCE = 1e-5  # of a budget or a day, however the file rounds
_TRAJECTORY = ["deliveryPeriodIndex", "advertiserNumber"]
_WHO = "advertiser {advertiserNumber}, period {deliveryPeriodIndex}"


def import_files(
    paths: Sequence[str | Path], out: str | Path, *, dataset: Dataset | None = None, compare: bool = True
) -> list[dict[str, Any]]:
    """Import traffic and trajectory files, each a ``.csv``, ``.csv.gz`` or ``.zip``; all of them or nothing.

    Writes a new folder ``out``: ``period-N.npz`` for every traffic file (load it with :meth:`PeriodLog.load`; the
    replay takes it), ``trajectories.npz`` with the trajectories of all files (:meth:`TrajectorySet.load`), and
    ``import.json`` with the comparisons, which are returned: of every file source, dataset, periods (that agree), rows,
    says (in one sentence), and more of a traffic file (:func:`~lbm_core.workshop.csv_traffic.read_traffic_csv`).

    A ValueError names file and line: columns, lines or numbers that cannot be, duplicate or missing rows,
    contradictions, differences from the traffic; also a trajectory twice, or dense and sparse files together.
    ``dataset`` is the one that the files must belong to; None: whichever their p-values agree with. ``compare`` says
    whether trajectory files must agree with the regenerated traffic (traffic files always must).
    """
    out = Path(out)
    if out.exists():
        raise FileExistsError(f"{out} is there already: choose another folder, or remove it first")
    sources = [source for path in paths for source in csv_sources(path)]
    for source in sources:  # all headers before the first long read
        if not {"state", "pvIndex", "deliveryPeriodIndex"} & set(source.header):
            problem = "neither a traffic file (no pvIndex) nor a trajectory file (no state)"
            raise ValueError(f"{source.name}, line 1: {problem}")
    checks: list[dict[str, Any]] = []
    sets: list[TrajectorySet] = []
    seen: set[tuple[int, int]] = set()  # (period, advertiser)
    with writing(out) as folder:
        for source in sources:
            if "state" in source.header:
                trajectories, check = read_trajectory_csv(source, dataset, compare)
            else:
                log, check = read_traffic_csv(source, dataset)
                log.save(folder / f"period-{log.period}.npz")
                trajectories = TrajectorySet.from_logs([log])
            ours, before = trajectories.dataset, sets[0].dataset if sets else trajectories.dataset
            if ours != before:
                raise ValueError(f"{source.name} is {ours}, the files before it are {before}: import them apart")
            pairs = set(zip(trajectories.period.tolist(), trajectories.advertiser.tolist(), strict=True))
            if twice := sorted(pairs & seen):
                who = f"the trajectory of advertiser {twice[0][1]}, period {twice[0][0]}"
                raise ValueError(f"{source.name}: {who} was already in another file of this import: import them apart")
            seen |= pairs
            sets.append(trajectories)
            checks.append(check)
        TrajectorySet.concatenate(sets).save(folder / "trajectories.npz")
        (folder / "import.json").write_text(json.dumps(checks, indent=2) + "\n")
    return checks


def read_trajectory_csv(
    source: CsvSource, dataset: Dataset | None = None, compare: bool = True
) -> tuple[TrajectorySet, dict[str, Any]]:
    """Read trajectories, cut at the first ``done`` inclusive, and check them, with the arguments of import_files.

    Costs per tick are not in the file: they are the steps of the remaining budget, and in the last tick what the
    day's total leaves. As for our own data, alphas are clipped and trajectories of one or two ticks dropped.
    """
    wanted = [name for name in TRAJECTORY_COLUMNS if name not in _UNREAD]
    rows = pd.concat([_with_states(source, part) for part in source.chunks(wanted)])
    rows = rows.sort_values([*_TRAJECTORY, "timeStepIndex"], kind="stable")
    _check_order(source, rows)
    if dataset is None:
        dataset = nearest_dataset(rows.rename(columns={"current_pvalue_mean": "pValue"}))
    trajectories = _trajectories(rows, dataset)
    periods = rows["deliveryPeriodIndex"].unique().tolist() if compare else []
    for period in periods:
        _compare(source, rows[rows["deliveryPeriodIndex"] == period], Traffic(period, dataset))
    says = f"{source.name}: {len(trajectories):,} trajectories, not compared with the regenerated traffic"
    if periods:
        says = f"{source.name}: impression counts and mean p-values of {len(trajectories):,} trajectories ({dataset}, "
        says += f"{len(periods)} periods) agree with the regenerated traffic"
    check = {"source": source.name, "dataset": dataset, "periods": periods, "rows": len(rows), "says": says}
    return trajectories, check


def _with_states(source: CsvSource, rows: pd.DataFrame) -> pd.DataFrame:
    """Rows with the 16 numbers of the tuple strings as columns, checked."""
    rows["state"] = rows["state"].fillna("").str.replace(_WRAPPING, "", regex=True).str.removesuffix(",")
    source.require(rows, rows["state"] != "", "state is empty")
    texts = rows["state"].str.split(",")
    problem = f"state has {{n}} numbers; expected {N_STATE_FEATURES}"
    source.require(rows, texts.map(len) == N_STATE_FEATURES, problem, n=texts.map(len))
    states = pd.DataFrame(texts.tolist(), rows.index, FEATURES).apply(pd.to_numeric, errors="coerce")
    source.require(rows, np.isfinite(states).all(axis=1), "state {state!r:.60} is not a tuple of finite numbers")
    rows = rows.drop(columns="state").join(states)
    near = rows["budget_left"].between(-_SHARE_TOLERANCE, 1 + _SHARE_TOLERANCE)
    source.require(rows, near, "the state's budget_left is {budget_left:g}; expected 0 … 1")
    expected = 1 - rows["timeStepIndex"] / N_TICKS
    problem = "the state's time_left is {time_left:g} in tick {timeStepIndex}; expected {expected:g}"
    near = (rows["time_left"] - expected).abs() <= _SHARE_TOLERANCE
    source.require(rows, near, problem, expected=expected)
    return rows


def _check_order(source: CsvSource, rows: pd.DataFrame) -> None:
    """Ticks of every trajectory run 0, 1, 2 … without a gap or a repetition; budgets and costs fit together."""
    trajectory, tick, left = rows.groupby(_TRAJECTORY), rows["timeStepIndex"], rows["budget_left"]
    step, rise = trajectory["timeStepIndex"].diff(), trajectory["budget_left"].diff().fillna(0)
    starts, goes_on = step.isna(), trajectory.cumcount(ascending=False) > 0
    ended = (trajectory["done"].transform("max") > 0) | (tick == N_TICKS - 1)
    spent = (1 - left) * rows["budget"]
    covered = rows["realAllCost"] >= spent - _SHARE_TOLERANCE * rows["budget"]
    constant = ("budget", "CPAConstraint", "realAllCost")
    rules = {
        f"the row of {_WHO}, tick {{timeStepIndex}} occurs twice": step != 0,
        f"the rows of {_WHO} start at tick {{timeStepIndex}}: earlier ones are missing": ~starts | (tick == 0),
        f"{_WHO} goes from tick {{tick_before:.0f}} to {{timeStepIndex}}: rows are missing": starts | (step == 1),
        f"the rows of {_WHO} end at tick {{timeStepIndex}} without done": goes_on | ended,
        **{f"{name} changes within a trajectory": trajectory[name].diff().fillna(0) == 0 for name in constant},
        "budget_left rises from {left_before:g} to {budget_left:g} within a trajectory": rise <= _SHARE_TOLERANCE,
        "realAllCost is {realAllCost:g}, but {spent:g} of the budget were spent by then": covered,
    }
    for problem, valid in rules.items():
        source.require(rows, valid, problem, tick_before=tick - step, left_before=left - rise, spent=spent)


def _compare(source: CsvSource, rows: pd.DataFrame, regenerated: Traffic) -> None:
    where = f"the regenerated traffic of period {regenerated.period}"
    counts = regenerated.counts[rows["timeStepIndex"]]
    problem = f"{{current_pv_num:g}} impressions in tick {{timeStepIndex}}; {where} has {{counts}}"
    source.require(rows, rows["current_pv_num"] == counts, problem, counts=counts)
    means = np.stack([regenerated.tick_pvalues(tick).mean(axis=0) for tick in range(N_TICKS)])
    means = means[rows["timeStepIndex"], rows["advertiserNumber"]]
    problem = "mean p-value {current_pvalue_mean:.10g} of advertiser {advertiserNumber}, tick {timeStepIndex}; "
    problem += f"{where} ({regenerated.dataset}) has {{means:.10g}}"
    near = (rows["current_pvalue_mean"] - means).abs() <= _PVALUE_TOLERANCE * means
    source.require(rows, near, problem, means=means)


def _trajectories(rows: pd.DataFrame, dataset: Dataset) -> TrajectorySet:
    first = rows[rows["timeStepIndex"] == 0]
    budget, total = first["budget"].to_numpy(), first["realAllCost"].to_numpy()
    keyed = rows.set_index([*_TRAJECTORY, "timeStepIndex"])

    def grid(name: str) -> NDArray[np.float64]:
        return keyed[name].unstack().reindex(columns=range(N_TICKS)).fillna(0.0).to_numpy()

    done = grid("done") > 0
    done[:, -1] = True
    length = np.argmax(done, axis=1) + 1
    before = np.arange(N_TICKS) < length[:, None] - 1
    costs = np.where(before, -np.diff(grid("budget_left"), append=0) * budget[:, None], 0.0)
    costs[np.arange(len(first)), length - 1] = total - costs.sum(axis=1)
    who = Advertisers(first["advertiserNumber"].to_numpy(), budget, first["CPAConstraint"].to_numpy())
    states = np.stack([grid(name) for name in FEATURES], axis=-1)
    alphas, conversions, expected = map(grid, ("action", "reward", "reward_continuous"))
    wins = np.full_like(costs, np.nan)  # these files do not tell
    # Rounding may leave less than nothing for the last tick.
    whole = DayResult(who, alphas, costs.clip(min=0.0), conversions, expected, wins, states, length)
    return TrajectorySet.of_day(whole, dataset, first["deliveryPeriodIndex"].to_numpy()).select(length >= MIN_LENGTH)

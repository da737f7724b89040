"""Import and export of the benchmark's files: round trip, published rows, every kind of damage."""

import contextlib
import csv
import gzip
import io
import json
import threading
import zipfile
from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from small_periods import SmallTraffic, WavyBidder, small_advertisers

from lbm_core.auction.log import PeriodLog
from lbm_core.data.behaviour import simulate_period
from lbm_core.data.trajectories import TrajectorySet
from lbm_core.workshop import csv_import, csv_traffic
from lbm_core.workshop.csv_import import import_files, read_trajectory_csv
from lbm_core.workshop.csv_reading import TRAFFIC_COLUMNS, TRAJECTORY_COLUMNS, CsvSource, csv_sources
from lbm_core.workshop.csv_traffic import read_traffic_csv
from lbm_core.workshop.export import export_periods, export_traffic_csv, export_trajectory_csv


@pytest.fixture
def small_traffic(monkeypatch):
    """Files are compared with periods of a few impressions."""
    for module in (csv_import, csv_traffic):
        monkeypatch.setattr(module, "Traffic", SmallTraffic)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A traffic file, and the log that its rows make, added up by pandas."""
    path = tmp_path_factory.mktemp("export") / "period-7.csv"
    day = export_traffic_csv(path, SmallTraffic(7), small_advertisers(), WavyBidder(), np.random.default_rng(3))
    return path, log_of(pd.read_csv(path), day)


def log_of(rows, day):
    traffic = SmallTraffic(int(rows["deliveryPeriodIndex"][0]))
    tables = rows.groupby(["advertiserNumber", "timeStepIndex"])[["bid", "pValue", "isExposed"]].sum()
    bids, pvalues, exposures = (tables[name].unstack().to_numpy() for name in tables)
    return PeriodLog(
        dataset="dense",
        period=traffic.period,
        scheme="data",
        engine="reference",
        counts=traffic.counts,
        bids=bids / traffic.counts,
        pvalues=pvalues / traffic.counts,
        exposures=exposures,
        least_winning_cost=rows.drop_duplicates("pvIndex")["leastWinningCost"].to_numpy(),
        **vars(day) | {"alphas": bids / pvalues},
    )


@pytest.fixture(scope="module")
def lines(exported):
    return exported[0].read_text().splitlines()


@pytest.fixture(scope="module")
def trajectory_lines(exported, tmp_path_factory):
    path = export_trajectory_csv(tmp_path_factory.mktemp("export") / "trajectory.csv", [exported[1]])
    return path.read_text().splitlines()


def read_traffic(path, **options):
    return read_traffic_csv(csv_sources(path)[0], **options)


def read_trajectories(path, **options):
    return read_trajectory_csv(csv_sources(path)[0], **options)


def assert_same_log(ours, expected):
    for field in fields(expected):
        a, b = getattr(ours, field.name), getattr(expected, field.name)
        if field.name in (
            "alphas",
            "bids",
            "pvalues",
            "costs",
            "expected_conversions",
            "states",
        ):  # sums of the same numbers in another order
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15, err_msg=field.name)
        elif field.name == "advertisers":
            assert np.array_equal(a.budget, b.budget)
            assert np.array_equal(a.cpa_target, b.cpa_target)
        elif field.name == "engine":
            assert (a, b) == ("csv", "reference")
        else:
            assert np.array_equal(a, b), field.name


def assert_same_trajectories(ours, expected):
    for field in fields(expected):
        a, b = getattr(ours, field.name), getattr(expected, field.name)
        if field.name in ("costs", "states", "alphas"):
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7, err_msg=field.name)
        else:
            assert np.array_equal(a, b), field.name


@pytest.mark.usefixtures("small_traffic")
def test_traffic_round_trip(exported):
    path, log = exported
    imported, check = read_traffic(path)
    assert_same_log(imported, log)
    assert (log.lengths < 48).any()
    assert (log.lengths == 48).any()
    assert log.conversions.sum() > 0
    assert check["rows"] == 48 * log.counts.sum()
    assert check["pvalue_difference"] == 0
    assert check["sigma_rows"] == 0
    assert "agree with the regenerated traffic to all printed digits; so do the sigmas" in check["says"]


@pytest.mark.usefixtures("small_traffic")
def test_rows_in_any_order_and_other_numberings(exported, lines, tmp_path):
    _, log = exported
    index = TRAFFIC_COLUMNS.index("pvIndex")
    starts = np.concatenate([[0], np.cumsum(log.counts)])
    rows = [line.split(",") for line in lines[1:]]
    for row in rows:  # numbered from 1, anew in every tick
        row[index] = f"{int(row[index]) - starts[int(row[5])] + 1}.0"
    np.random.default_rng(0).shuffle(rows)
    path = tmp_path / "shuffled.csv"
    path.write_text("\n".join([lines[0], *(",".join(row) for row in rows)]) + "\n")
    imported, _ = read_traffic(path)
    assert np.array_equal(imported.least_winning_cost, log.least_winning_cost)
    assert np.array_equal(imported.conversions, log.conversions)
    np.testing.assert_allclose(imported.costs, log.costs, rtol=1e-12)


@pytest.mark.usefixtures("small_traffic")
def test_rounded_pvalues_agree_within_their_digits(exported, lines, tmp_path):
    p, sigma = TRAFFIC_COLUMNS.index("pValue"), TRAFFIC_COLUMNS.index("pValueSigma")
    rows = [line.split(",") for line in lines[1:]]
    for row in rows:
        row[p], row[sigma] = f"{float(row[p]):.7f}", f"{float(row[sigma]):.9e}"
    path = tmp_path / "rounded.csv"
    path.write_text("\n".join([lines[0], *(",".join(row) for row in rows)]))
    _, check = read_traffic(path)
    assert 1e-9 < check["pvalue_difference"] <= 5.001e-8
    assert check["sigma_rows"] == 0
    rows[77][p] = f"{float(rows[77][p]) + 2e-7:.7f}"
    path.write_text("\n".join([lines[0], *(",".join(row) for row in rows)]))
    with pytest.raises(
        ValueError, match=r"rounded.csv, line 79: pValue .* in the regenerated traffic .period 7, dense"
    ):
        read_traffic(path)


@pytest.mark.usefixtures("small_traffic")
def test_other_sigmas_are_told(exported, lines, tmp_path):
    sigma = TRAFFIC_COLUMNS.index("pValueSigma")
    rows = [line.split(",") for line in lines[1:]]
    rows[5][sigma] = "0.5"
    path = tmp_path / "sigma.csv"
    path.write_text("\n".join([lines[0], *(",".join(row) for row in rows)]))
    _, check = read_traffic(path)
    assert check["sigma_rows"] == 1
    assert "1 sigmas differ" in check["says"]


def change(column, value):
    def damaged(rows):
        rows[1234][TRAFFIC_COLUMNS.index(column)] = value
        return rows

    return damaged


def truncate(rows):
    rows[1234] = rows[1234][:7]
    return rows


def repeat(rows):
    return [*rows[:1234], rows[20], *rows[1234:]]


def replace_by_an_earlier_one(rows):
    return [*rows[:1234], rows[20], *rows[1235:]]


TRAFFIC_DAMAGE = {
    "truncated": (truncate, r"line 1236: the line is truncated \(7 of 18 columns\)"),
    "too long": (lambda rows: [*rows[:1234], [*rows[1234], "1"], *rows[1235:]], "line 1236 has 19 of 18 columns"),
    "empty line": (
        lambda rows: [*rows[:1234], [""], *rows[1234:]],
        r"line 1236: the line is truncated \(0 of 18 columns\)",
    ),
    "text": (change("bid", "abc"), "line 1236: bid is 'abc', not a number"),
    "nan": (change("bid", "nan"), "line 1236: bid is 'nan', not a number"),
    "infinite": (change("leastWinningCost", "inf"), "line 1236: leastWinningCost is inf"),
    "empty": (change("cost", ""), "line 1236: cost is empty"),
    "other period": (change("deliveryPeriodIndex", "8"), "line 1236: a row of delivery period 8 in a file of period 7"),
    "negative budget": (change("budget", "-750"), "line 1236: budget is -750; it must be positive"),
    "zero CPA": (change("CPAConstraint", "0"), "line 1236: CPAConstraint is 0; it must be positive"),
    "budget changes": (change("budget", "751"), "line 1236: budget is 751, but .* in an earlier row"),
    "advertiser 48": (change("advertiserNumber", "48"), "line 1236: advertiserNumber is 48; expected 0 … 47"),
    "tick 1.5": (change("timeStepIndex", "1.5"), "line 1236: timeStepIndex is 1.5; expected a whole number"),
    "flag": (change("isExposed", "2"), "line 1236: isExposed is 2; expected 0 … 1"),
    "pvIndex": (change("pvIndex", "999999"), "line 1236: pvIndex 999999 lies outside the .* impressions of tick"),
    "duplicate": (repeat, "line 1236: the row of this advertiser and impression occurs twice"),
    "duplicate instead": (replace_by_an_earlier_one, "line 1236: the row of this advertiser and impression occurs"),
    "rows missing": (lambda rows: rows[:-3], "ends at line .*, but advertiser 47 has only .* impressions of tick 47"),
    "no rows": (lambda rows: [], "there are no rows below the header"),
}


@pytest.mark.parametrize("damage", TRAFFIC_DAMAGE)
@pytest.mark.usefixtures("small_traffic")
def test_damaged_traffic_files(damage, lines, tmp_path):
    damaged, message = TRAFFIC_DAMAGE[damage]
    path, out = tmp_path / "period-7.csv", tmp_path / "out"
    rows = damaged([line.split(",") for line in lines[1:]])
    path.write_text("\n".join([lines[0], *(",".join(row) for row in rows)]) + "\n")
    with pytest.raises(ValueError, match=message) as caught:
        import_files([path], out)
    assert str(caught.value).startswith("period-7.csv")
    assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["period-7.csv"], "something half-imported was left"


@pytest.mark.usefixtures("small_traffic")
def test_wrong_files(exported, lines, tmp_path):
    path = tmp_path / "period-9.csv"
    path.write_text("\n".join(lines))
    with pytest.raises(ValueError, match=r"period-9.csv, line 2: a row of delivery period 7 in the file of period 9"):
        read_traffic(path)
    path.write_text("\n".join(line.rpartition(",")[0] for line in lines))
    with pytest.raises(ValueError, match=r"period-9.csv, line 1: column 'isEnd' is missing"):
        read_traffic(path)
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="neither a traffic file"):
        import_files([path], tmp_path / "out")
    path.write_text("")
    with pytest.raises(ValueError, match="the file is empty"):
        import_files([path], tmp_path / "out")
    with pytest.raises(ValueError, match=r"line 2: pValue .* in the regenerated traffic"):
        read_traffic(exported[0], dataset="sparse")
    with pytest.raises(FileNotFoundError, match=r"no file .*period-8.csv"):
        import_files([tmp_path / "period-8.csv"], tmp_path / "out")


@pytest.mark.usefixtures("small_traffic")
def test_zip_and_gzip(exported, tmp_path):
    path, log = exported
    with zipfile.ZipFile(tmp_path / "periods.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(path, "traffic/period-7.csv")
        archive.writestr("__MACOSX/period-7.csv", "x")
    with gzip.open(tmp_path / "period-7.csv.gz", "wb") as file:
        file.write(path.read_bytes())
    for name in ("periods.zip", "period-7.csv.gz"):
        imported, check = read_traffic(tmp_path / name)
        assert_same_log(imported, log)
        assert check["source"].startswith(name)
    with pytest.raises(ValueError, match="period 7 was already in another file"):
        import_files([path, tmp_path / "periods.zip"], tmp_path / "out")
    for name in ("periods.zip", "period-7.csv.gz"):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ValueError, match=f"{name}.*: the archive is damaged"):
            read_traffic(tmp_path / name)


@pytest.mark.usefixtures("small_traffic")
def test_trajectory_round_trip(exported, trajectory_lines, tmp_path):
    _, log = exported
    assert trajectory_lines[0].split(",") == TRAJECTORY_COLUMNS
    assert len(trajectory_lines) == 1 + 48 * 48
    for name in ("trajectory.csv", "trajectory.csv.gz", "trajectory.zip"):
        path = export_trajectory_csv(tmp_path / name, [log])
        imported, check = read_trajectories(path)
        assert_same_trajectories(imported, TrajectorySet.from_logs([log]))
        assert check["periods"] == [7]
        assert "agree with the regenerated traffic" in check["says"]


@pytest.mark.usefixtures("small_traffic")
def test_import_of_both_formats(exported, trajectory_lines, tmp_path):
    path, log = exported
    written = tmp_path / "8.csv"
    day = export_traffic_csv(written, SmallTraffic(8), small_advertisers(), WavyBidder(), np.random.default_rng(4))
    period_8 = log_of(pd.read_csv(written), day)
    second = export_trajectory_csv(tmp_path / "trajectory.csv", [period_8])
    out = tmp_path / "imported"
    checks = import_files([path, second], out)
    assert [check["rows"] for check in checks] == [48 * log.counts.sum(), 48 * 48]
    assert sorted(p.name for p in out.iterdir()) == ["import.json", "period-7.npz", "trajectories.npz"]
    assert_same_log(PeriodLog.load(out / "period-7.npz"), log)
    ours = TrajectorySet.load(out / "trajectories.npz")
    expected = TrajectorySet.from_logs([log])
    assert_same_trajectories(ours, TrajectorySet.concatenate([expected, TrajectorySet.from_logs([period_8])]))
    assert json.loads((out / "import.json").read_text())[0]["periods"] == [7]
    with pytest.raises(FileExistsError, match="is there already"):
        import_files([path], out)
    same = tmp_path / "again.csv"
    same.write_text("\n".join(trajectory_lines))
    for pair in ([path, same], [second, second]):
        with pytest.raises(ValueError, match=r"of advertiser 0, period [78] was already in another file"):
            import_files(pair, tmp_path / "twice")
    assert not (tmp_path / "twice").exists()


def published_rows():
    """The published rows of advertiser 0, period 14, in the file's layout (tests/known holds the features apart)."""
    from lbm_core.auction.state import FEATURES

    with (Path(__file__).parents[1] / "known" / "period14_advertiser0.csv").open() as file:
        stored = list(csv.DictReader(file))
    states = ["(" + ", ".join(row[name] for name in FEATURES) + ")" for row in stored]
    shared = ["14.0", "0.0", "0.0", "750.0", "8.0", "749.9960545984601", "155.0"]
    for tick, (row, following) in enumerate(zip(stored, [*states[1:], ""], strict=True)):
        values = [row[name] for name in ("action", "reward", "reward_continuous", "done")]
        yield [*shared, f"{tick}.0", states[tick], *values, following]


def write_rows(path, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([TRAJECTORY_COLUMNS, *rows])
    return path


def test_published_trajectory(tmp_path):
    path = write_rows(tmp_path / "trajectory_data.csv", published_rows())
    trajectories, check = read_trajectory_csv(csv_sources(path)[0])  # against the real, whole traffic
    assert check["dataset"] == "dense"
    assert check["periods"] == [14]
    assert trajectories.length.tolist() == [48]
    assert trajectories.conversions.sum() == 155
    np.testing.assert_allclose(trajectories.costs.sum(), 749.9960545984601, rtol=1e-6)
    np.testing.assert_allclose(trajectories.costs[0, 0], 750 * (1 - 0.999727305468613), rtol=1e-5)
    wrong = [["15.0", *row[1:]] for row in published_rows()]
    with pytest.raises(ValueError, match=r"line 2: 12848 impressions in tick 0; the regenerated traffic of period 15"):
        read_trajectory_csv(csv_sources(write_rows(path, wrong))[0])
    _, check = read_trajectory_csv(csv_sources(path)[0], compare=False)
    assert "not compared" in check["says"]
    with pytest.raises(ValueError, match=r"line 2: mean p-value .* period 14 .sparse"):
        read_trajectory_csv(csv_sources(write_rows(path, published_rows()))[0], dataset="sparse")
    numpy_2 = [
        [*row[:8], "(" + ", ".join(f"np.float64({x})" for x in row[8][1:-1].split(", ")) + ")", *row[9:]]
        for row in published_rows()
    ]
    again, _ = read_trajectory_csv(csv_sources(write_rows(path, numpy_2))[0])
    assert np.array_equal(again.states, trajectories.states)


def set_cell(column, value, row=30):
    def damaged(rows):
        rows[row][TRAJECTORY_COLUMNS.index(column)] = value
        return rows

    return damaged


def set_state(feature, value, row=30):
    def damaged(rows):
        at = TRAJECTORY_COLUMNS.index("state")
        numbers = rows[row][at][1:-1].split(", ")
        numbers[feature] = str(value)
        rows[row][at] = "(" + ", ".join(numbers) + ")"
        return rows

    return damaged


def set_column(column, value):
    def damaged(rows):
        for row in range(len(rows)):
            rows = set_cell(column, value, row)(rows)
        return rows

    return damaged


TRAJECTORY_DAMAGE = {
    "nan": (set_cell("action", "nan"), "line 32: action is 'nan', not a number"),
    "nan in state": (
        set_cell("state", "(" + "nan, " * 15 + "1)"),
        "line 32: state 'nan,.* is not a tuple of finite numbers",
    ),
    "short state": (set_cell("state", "(1.0, 2.0)"), "line 32: state has 2 numbers; expected 16"),
    "no state": (set_cell("state", ""), "line 32: state is empty"),
    "text in state": (
        set_cell("state", "(" + "x, " * 15 + "1)"),
        "line 32: state 'x,x,.* is not a tuple of finite numbers",
    ),
    "negative budget": (set_cell("budget", "-1"), "line 32: budget is -1; it must be positive"),
    "budget changes": (set_cell("budget", "751.0"), "line 32: budget changes within a trajectory"),
    "truncated": (lambda rows: [*rows[:30], rows[30][:9]], r"line 32: the line is truncated \(9 of 14 columns\)"),
    "duplicate": (lambda rows: [*rows[:30], rows[7], *rows[30:]], "line 32: the row of advertiser 0.*occurs twice"),
    "gap": (lambda rows: rows[:30] + rows[31:], "line 32: .* goes from tick 29 to 31: rows are missing"),
    "no start": (lambda rows: rows[1:], "line 2: the rows of .* start at tick 1: earlier ones are missing"),
    "other period": (set_cell("deliveryPeriodIndex", "15.0"), "line 32: the rows of .*, period 15 start at tick 30"),
    "negative budget left": (set_state(1, -0.5), "line 32: the state's budget_left is -0.5; expected 0 … 1"),
    "budget rises": (set_state(1, 0.99), "line 33: budget_left rises from 0.99 to .* within a trajectory"),
    "time left": (set_state(0, 0.5), "line 32: the state's time_left is 0.5 in tick 30; expected 0.375"),
    "total cost": (set_column("realAllCost", "100.0"), "line .*: realAllCost is 100, but .* of the budget were spent"),
    "no end": (lambda rows: rows[:40], "line 41: the rows of .* end at tick 39 without done"),
}


@pytest.mark.parametrize("damage", TRAJECTORY_DAMAGE)
def test_damaged_trajectory_files(damage, tmp_path):
    damaged, message = TRAJECTORY_DAMAGE[damage]
    path = write_rows(tmp_path / "trajectory_data.csv", damaged([list(row) for row in published_rows()]))
    with pytest.raises(ValueError, match=message) as caught:
        import_files([path], tmp_path / "out")
    assert str(caught.value).startswith("trajectory_data.csv")
    assert [p.name for p in tmp_path.iterdir()] == ["trajectory_data.csv"]


def test_export_names(tmp_path, exported):
    with pytest.raises(ValueError, match=r"must end in .csv, .csv.gz or .zip"):
        export_trajectory_csv(tmp_path / "x.txt", [exported[1]])
    with pytest.raises(ValueError, match="at least one period log"):
        export_trajectory_csv(tmp_path / "x.csv", [])
    assert not list(tmp_path.iterdir())


def test_a_bad_name_is_told_before_the_simulation(tmp_path):
    """There is no period -1: a simulation would say so."""
    with pytest.raises(ValueError, match=r"must end in .csv, .csv.gz or .zip"):
        export_periods("trajectory", "dense", [-1], tmp_path / "x.txt")
    (tmp_path / "lbm" / "auctionnet-dense-v0").mkdir(parents=True)
    with pytest.raises(FileExistsError, match="is there already"):
        export_periods("minari", "dense", [-1], tmp_path)


def test_files_are_read_by_the_calling_thread_alone(exported, monkeypatch, tmp_path):
    """A reader thread that outlived an error in the file ended the interpreter with code 134, every eighth time."""
    readers = set()

    class Watched(io.BytesIO):
        def read(self, size=-1):
            readers.add(threading.get_ident())
            return super().read(size)

    text = exported[0].read_bytes()
    monkeypatch.setattr(CsvSource, "open", lambda self: contextlib.nullcontext(Watched(text)))
    found = list(CsvSource(exported[0]).chunks(TRAFFIC_COLUMNS))
    assert readers == {threading.get_ident()}
    assert sum(map(len, found)) == text.count(b"\n") - 1
    assert [chunk.index[0] for chunk in found[:2]] == [2, 2 + len(found[0])]


def test_a_file_without_lines(tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes(b"a\n" + b"x" * (65 << 20))
    with pytest.raises(ValueError, match="this is no CSV file"):
        list(csv_sources(path)[0].chunks(["a"]))


def test_export_and_import_at_the_command_line(tmp_path, lbm):
    path, out = tmp_path / "period.csv.gz", tmp_path / "imported"
    lbm("data", "export", "--format", "trajectory", "--periods", "28", "--seed", "4", "--out", str(path))
    _, printed, _ = lbm("data", "import", str(path), "--out", str(out))
    assert "(dense, 1 periods) agree with the regenerated traffic" in printed
    expected = TrajectorySet.from_logs([simulate_period("dense", 28, 4)])
    assert_same_trajectories(TrajectorySet.load(out / "trajectories.npz"), expected)
    for form, periods, message in (("traffic", "7,8", "needs one period"), ("minari", "", "needs periods")):
        code, _, err = lbm("data", "export", "--format", form, "--periods", periods, "--out", "x.csv")
        assert code == 1
        assert message in err

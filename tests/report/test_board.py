"""The leader board: who stands on it, by which rows, and what it says of them."""

import numpy as np
import pandas as pd
import pytest

from lbm_core.report import board


def _days(method, level, periods=range(7, 19), advertisers=48, **columns):
    frame = pd.DataFrame({"method": method, "period": list(periods)})
    frame = frame.assign(seed=0, train_seed=0, dataset="dense", advertisers=advertisers, weights="", **columns)
    score = level + 0.1 * np.arange(len(frame))
    return frame.assign(score=score, expected_score=score, conversions=score, budget_utilization=0.9)


def _load(**files):
    def load(name):
        if name not in files:
            raise FileNotFoundError(name)
        return files[name]

    return load


def test_a_method_stands_by_the_rows_of_its_first_source():
    load = _load(
        act_guides=pd.concat([_days("critic alone", 390.0), _days("LBM-Act + increase", 100.0)]),
        gqpo_replays=pd.concat([_days("LBM(P)", 340.0, range(7, 13)), _days("old", 1.0, advertisers=8)]),
        baseline_results=pd.concat([_days("critic alone", 360.0), _days("DT", 350.0)]),
    )
    rows = board.joined(load)
    assert set(rows["method"]) == {"critic alone", "LBM(P)", "DT"}, "no instruction of Table 4, nobody who met eight"
    assert rows.loc[rows["method"] == "critic alone", "score"].min() == 390
    with pytest.raises(FileNotFoundError, match="run chapters"):
        board.joined(_load())


def test_fewer_days_are_compared_on_those_days():
    rows = pd.concat([_days("DT", 350.0), _days("LBM(P)", 340.0, range(13, 19)), _days("PID", 330.0)])
    best = pd.DataFrame({"method": board.BEST, "period": range(7, 19), "score": [400.0] * 6 + [500.0] * 6})
    lines = board.summary(rows, best, np.random.default_rng(0)).set_index("method")
    assert lines["days"].to_dict() == {"DT": 12, "PID": 12, "LBM(P)": 6}
    assert lines.loc["LBM(P)", "of_best"] == pytest.approx(100 * 340.25 / 500)
    assert lines.loc["LBM(P)", "regret"] == pytest.approx(500 - 340.25)
    assert lines.loc["LBM(P)", "minus_dt"] == pytest.approx(-10 - 0.6), "DT of the last six days"
    assert lines.loc["PID", "minus_dt"] == pytest.approx(-20)
    assert np.isnan(lines.loc["DT", "minus_dt"])


@pytest.mark.parametrize(
    ("method", "kind"),
    [
        ("LBM(GQPO), expected x 2", "LBM"),
        ("LBM-Act + critic", "no texts"),
        ("critic alone", "no texts"),
        ("LLM-DT", "language model"),
        ("BCQ", "Table 1's"),
        ("pacing", "learns nothing"),
        ("online LP", "saw lost prices"),
        ("LBM-Act + oracle", "sees the day"),
    ],
)
def test_kinds(method, kind):
    assert board.kind(method) == kind

"""Tables by number: the paper beside ours, from rows whose answer is known, and from the committed ones."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from lbm_core.report import paper, results, session, tables


def _evaluation(means: dict[str, float], periods: int = 8) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    rows = []
    for period in range(periods):
        shared = rng.normal(0, 30)
        for method, mean in means.items():
            for seed in range(2):
                value = mean + shared + rng.normal(0, 2)
                rows.append((method, period, seed, value, 0.9 * value))
    frame = pd.DataFrame(rows, columns=["method", "period", "seed", "conversions", "score"])
    return frame.assign(dataset="dense", tier="laptop", backbone="")


def test_table1_gives_levels_differences_and_verdicts():
    rows = _evaluation({"DT": 300, "LBM(P)": 320, "LLM-DT": 300.1, "DT-Q (fine-tuned)": 310, "rule": 310})
    table = tables.table1(rows)
    assert list(dict.fromkeys(table["method"])) == ["DT", "LBM(P)", "LLM-DT", "DT-Q"], "the paper knows no rule"
    table = table[table["metric"] == "conversions"].set_index("method")
    assert list(table["verdict"]) == ["reference", "agrees", "open", "agrees"]
    assert table.loc["LBM(P)", "paper_difference"] == 376 - 364
    assert table.loc["LBM(P)", "ours_difference"] == pytest.approx(20, abs=3)
    assert table.loc["LBM(P)", "difference_low"] > 0
    assert (table["low"] < table["ours"]).all()
    assert set(table["periods"]) == {8}
    assert table.attrs["note"] == "Ours: replay, tier laptop, simulated prices."
    worse = tables.table1(_evaluation({"DT": 320, "LBM(P)": 300})).set_index(["method", "metric"])
    assert worse.loc[("LBM(P)", "conversions"), "verdict"] == "opposite"
    once = tables.table1(rows.assign(train_seed=0, weights="0123456789")).set_index(["method", "metric"])
    assert tuple(once.loc[("LBM(P)", "score"), ["trainings", "verdict"]]) == (1, "open")
    assert set(tables.table1(rows.assign(tier="smoke"))["verdict"]) == {"reference", "not comparable"}
    pd.testing.assert_frame_equal(tables.table1(rows), tables.table1(rows))
    named = tables.table1(rows.assign(backbone=np.where(rows["method"] == "LLM-DT", "small", "")))
    assert named.attrs["note"] == "Ours: replay, tier laptop, simulated prices, backbone small."


def test_what_the_paper_lacks_is_not_comparable():
    rows = _evaluation({"DT": 300, "rule": 310})
    table = tables.beside(paper.main_results(), rows, metrics=["conversions"], reference="DT").set_index("method")
    assert list(table["verdict"]) == ["reference", "not comparable"]
    assert np.isnan(table.loc["rule", "paper"])


def test_beside_refuses_ambiguous_or_absent_published_rows():
    rows = _evaluation({"DT": 300, "LBM(P)": 320})
    with pytest.raises(ValueError, match="twice"):
        tables.beside(paper.table(3), rows, metrics=["score"], reference="DT")
    with pytest.raises(ValueError, match="no rows of dataset"):
        tables.beside(paper.table(3), rows.assign(dataset="sparse"), metrics=["score"], reference="DT")


def test_readable_table_shows_source_and_note_as_markdown():
    text = session.markdown(tables.readable(tables.table1(_evaluation({"DT": 300, "LBM(P)": 320})))).data
    assert "ours − DT [95 %]" in text
    assert "simulated prices" in text
    assert paper.CITATION in text
    assert "nan" not in text


def test_a_ratio_that_was_not_recorded_is_no_number():
    rows = _evaluation({"LLM-DT": 300, "SFT": 320}).assign(budget_utilization=0.9, cpa_ratio=1.7)
    old = tables.table2(rows).set_index(["method", "metric"])
    assert list(dict.fromkeys(old.index.get_level_values("metric"))) == list(tables.FOUR_METRICS)
    assert np.isnan(old.loc[("SFT", "cpa_ratio"), "ours"])
    assert old.loc[("SFT", "cpa_ratio"), "verdict"] == "not comparable"
    assert old.loc[("SFT", "score"), "verdict"] in ("agrees", "opposite")
    shown = tables.readable(tables.table2(rows)).set_index(["method", "metric"])
    assert shown.loc[("SFT", "cpa_ratio"), "ours [95 %]"] == "–"
    new = tables.table2(rows.assign(group_cpa_ratio=1.2)).set_index(["method", "metric"])
    assert new.loc[("SFT", "cpa_ratio"), "ours"] == pytest.approx(1.2)


def test_side_by_side_keeps_the_rows_of_both_in_order():
    rows = pd.DataFrame(
        {"parameter": ["state_dimension", "extra"], "dataset": "dense", "low": [16, 1], "high": [16, 2]}
    )
    table = tables.table7(rows)
    assert table["parameter"].iloc[0] == "trajectories"
    assert table["parameter"].iloc[-1] == "extra"
    assert set(table["dataset"]) == {"dense"}
    match = table.query("parameter == 'state_dimension'").iloc[0]
    assert (match["low_paper"], match["low_ours"]) == (16, 16)


def test_table3_matches_the_weights():
    rows = pd.concat([_evaluation({"w = 0": 370, "w = 0.5": 350}), _evaluation({"w = 0.3": 340})])
    table = tables.table3(rows, np.random.default_rng(0)).set_index(["metric", "w"])
    assert np.isnan(table.loc[("cpa_ratio", 0.5), "ours"])
    rows["group_cpa_ratio"] = 0.9
    table = tables.table3(rows, np.random.default_rng(0)).set_index(["metric", "w"])
    assert table.loc[("score", 0.5), "paper"] == 323
    assert np.isnan(table.loc[("score", 0.3), "paper"])
    assert table.loc[("conversions", 0.0), "ours"] == pytest.approx(370, abs=30)
    assert table.loc[("cpa_ratio", 0.5), "ours"] == pytest.approx(0.9)


def test_table4_takes_uncertain_for_the_base_where_there_is_no_other():
    rows = _evaluation({"increase": 300, "decrease": 200, "uncertain": 350, "scale 0.25": 340})
    rows = rows.assign(budget_utilization=0.9, group_cpa_ratio=9.0, group_expected_cpa_ratio=1.1)
    table = tables.table4(rows).set_index(["method", "metric"])
    assert set(table.index.get_level_values(0)) == {"increase", "decrease", "base"}
    assert table.loc[("base", "cpa_ratio"), "ours"] == pytest.approx(1.1)
    assert table.loc[("increase", "score"), "paper_difference"] == 315 - 348
    both = pd.concat([rows, rows[rows["method"] == "uncertain"].assign(method="base", conversions=1.0)])
    assert tables.table4(both).set_index(["method", "metric"]).loc[("base", "conversions"), "ours"] == 1.0
    sparse = tables.table4(rows.assign(dataset="sparse"))
    assert set(sparse["verdict"]) == {"reference", "not comparable"}, "the paper's is of the dense data"


def test_table6_and_8_put_ours_below_the_papers():
    shares = pd.DataFrame(
        {"model": "small", "quantity": ["accepted", "ratio right", "contradiction"], "value": [0.1, 0.2, 0.3]}
    )
    shares = shares.assign(dataset="dense", tier="laptop")
    table = tables.table6(shares)
    assert table["model"].tolist() == ["3B", "7B", "32B", "small"]
    assert table["source"].tolist() == ["paper"] * 3 + ["ours, laptop"]
    assert np.isnan(table["score"].iloc[-1])
    scores = pd.DataFrame({"model": ["small", "small"], "conversions": [3.0, 5.0], "score": [1.0, 3.0]})
    assert tables.table6(shares, scores)["score"].iloc[-1] == 2.0
    latencies = pd.DataFrame({"module": ["critic", "critic", "LBM-Think"], "batch": [1, 48, 1]})
    latencies = latencies.assign(basis=["measured", "measured", "whole text"], parameters=3e5, median_seconds=0.5)
    table = tables.table8(latencies.assign(hardware="a machine", engine="torch"))
    assert table.iloc[-1].tolist() == ["critic", "0.3M", 0.5, "ours, a machine, torch"]
    assert len(table) == len(paper.table(8)) + 1


def test_table9_takes_what_a_configuration_has():
    table = tables.table9(SimpleNamespace(steps=7, window_length=10, hidden_size=64), "smoke").set_index(
        "hyperparameter"
    )
    assert table.loc["sequence_length", "value_ours"] == "10"
    assert table.loc["steps", "value_ours"] == "7"
    assert pd.isna(table.loc["optimizer", "value_ours"])


@pytest.mark.parametrize("dataset", ["dense", "sparse"])
def test_every_table_is_drawn_from_the_committed_results(dataset):
    def rows(name):
        return results.load(name, "cached", dataset=dataset)

    numbered = {
        1: tables.table1(rows("baseline_results")),
        2: tables.table2(rows("language_results")),
        3: tables.table3(rows("dt_score"), np.random.default_rng(0)),
        4: tables.table4(rows("act_table4")),
        6: tables.table6(rows("think_hallucination"), rows("think_scores")),
        8: tables.table8(rows("latency")),
    }
    for number, table in numbered.items():
        assert len(table) >= 4, number
        ours = table["ours"] if "ours" in table else table["seconds" if number == 8 else "accepted"]
        assert ours.notna().any(), number


def test_table5_holds_both_sides_budgets():
    table = tables.table5(results.load("baseline_budgets", "cached", dataset="dense"))
    both = table[table["method"] == "DT"]
    assert both[["paper", "ours"]].notna().all(axis=None)
    assert list(both["budget_ratio"]) == [0.5, 0.75, 1, 1.25, 1.5]
    assert {"DT", "LBM(P)"} <= set(table["method"])

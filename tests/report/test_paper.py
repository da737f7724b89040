"""The published numbers, the ledger of deviations, and the map of the paper."""

from __future__ import annotations

import inspect
import pydoc
import subprocess
import sys

import pandas as pd
import pytest

from lbm_core import paths
from lbm_core.report import paper, results
from lbm_core.report.paper import paper_map

FRAMES = {f"table{k}": lambda k=k: paper.table(k) for k in range(1, 10)}
FRAMES |= {f"figure{k}": lambda k=k: paper.figure(k) for k in (2, 3, 6)} | {"main results": paper.main_results}


@pytest.mark.parametrize("name", FRAMES)
def test_published_frames_name_their_source_and_have_no_holes(name):
    frame = FRAMES[name]()
    assert len(frame) >= 4
    assert "CC BY 4.0" in frame.attrs["source"]
    assert frame.drop(columns=["std", "w"], errors="ignore").notna().all(axis=None)


def test_published_tables_agree_where_they_repeat_each_other():
    main = paper.main_results().set_index(["dataset", "method", "metric"])["value"]
    first, second = (paper.table(k).set_index(["dataset", "method", "metric"])["value"] for k in (1, 2))
    shared = first.index.intersection(second.index)
    assert len(shared) == 8  # LBM(P), LBM(GQPO); two data sets; two metrics
    pd.testing.assert_series_equal(first[shared], second[shared])
    base = paper.table(4).query("instruction == 'base'").set_index("metric")["value"]
    assert base["score"] == main["dense", "LBM(GQPO)", "score"] == 348
    usual = paper.table(5).query("budget_ratio == 1").set_index(["dataset", "method"])["value"]
    for dataset, method in usual.index:
        assert usual[dataset, method] == main[dataset, method, "conversions"]
    plain = paper.table(3).query("w == 0").set_index("metric")["value"]
    assert plain["conversions"] == main["dense", "DT", "conversions"]


@pytest.mark.parametrize("name", ["main results", "table3", "table4", "table6"])
def test_no_published_score_exceeds_its_conversions(name):
    frame = FRAMES[name]()
    keys = [column for column in frame if column not in ("metric", "value")]
    wide = frame.pivot_table(index=keys, columns="metric", values="value", dropna=False).dropna(how="all")
    assert (wide["score"] <= wide["conversions"]).all()


def test_digitised_curves_run_where_the_plots_do():
    loss = paper.figure(3)
    last = loss[loss["step"] > 90_000].groupby("method")["loss"].median()
    assert 0.6 < last["LLM-DT"] < 0.9
    assert 0.3 < last["LBM-Act"] < 0.4
    tokens = paper.figure(6).set_index("step")["tokens"]
    assert tokens.iloc[0] == pytest.approx(571, abs=2)
    assert tokens[tokens.index >= 160].max() < 20
    counts = paper.figure(2).groupby("model")["count"].sum()
    assert counts.between(999, 1000).all()
    assert set(counts.index) == {"DT", "LBM(P)", "LBM(GQPO)"}


def test_every_part_of_the_ledger_has_rows_and_every_toggle_exists():
    for part in paper.PARTS:
        frame = paper.deviations(part)
        assert len(frame) >= 1
        assert (frame[["topic", "paper", "ours"]] != "").all(axis=None)
    assert set(paper.deviations()["part"]) == set(paper.PARTS)
    with pytest.raises(ValueError, match="unknown part"):
        paper.deviations("acting")
    toggles = [toggle for toggle in paper.deviations()["toggle"] if toggle]
    assert toggles
    for toggle in toggles:
        owner, name = toggle.rsplit(".", 1)
        thing = pydoc.locate(owner)
        assert thing is not None, f"{owner} does not exist"
        known = getattr(thing, "__dataclass_fields__", None) or inspect.signature(thing).parameters
        assert name in known, f"{toggle} is not a setting"


def test_oddities_name_a_place_and_what_is_odd():
    assert len(paper.oddities()) >= 5


def test_every_item_of_the_paper_has_a_function_and_a_notebook():
    table = paper_map()
    items = [f"Eq. {k}" for k in range(1, 15)]
    items += [f"Table {k}" for k in range(1, 10)] + [f"Fig. {k}" for k in range(1, 7)]
    assert table["item"].tolist() == items
    chapters = {path.name[:2] for path in (paths.project_root() / "notebooks").glob("*.ipynb")}
    for row in table.itertuples():
        assert callable(pydoc.locate(row.function)), row.function
        assert set(row.notebook.split()) <= chapters, row.item
    assert set(table["status"]) <= {
        "explained",
        "smoke only",
        "not run",
        *(f"reproduced at {tier}" for tier in ("laptop", "gpu", "paper")),
    }
    figures = table[table["item"].str.startswith("Fig.") & (table["results"] != "")]
    assert figures["status"].str.startswith("reproduced").all(), "their results are committed"


def test_a_status_is_that_of_the_weakest_results(tmp_path):
    def status(item):
        return paper_map(tmp_path).set_index("item").loc[item, ["tiers", "datasets", "seeds", "status"]].tolist()

    frame = pd.DataFrame({"score": [1.0, 2.0], "train_seed": [0, 1]})
    assert status("Table 1") == ["", "", "", "not run"]
    results.record("baseline_results", frame, tier="gpu", dataset="dense", output=tmp_path)
    results.record("act_guides", frame, tier="gpu", dataset="dense", output=tmp_path)
    assert status("Table 1")[-1] == "not run", "gqpo_replays is missing"
    results.record("gqpo_replays", frame, tier="laptop", dataset="sparse", output=tmp_path)
    assert status("Table 1") == ["laptop gpu", "dense sparse", "0 1", "reproduced at laptop"]
    results.record(
        "gqpo_replays", frame.drop(columns="train_seed"), tier="smoke", dataset="dense", seeds=[2, 3], output=tmp_path
    )
    results.keep("smoke", output=tmp_path)
    assert status("Table 1") == ["smoke laptop gpu", "dense sparse", "0 1 2 3", "smoke only"]
    assert status("Fig. 1") == ["", "", "", "explained"]


def test_report_imports_without_torch():
    code = (
        "import sys; from lbm_core.report import figures, paper, session, tables; paper.paper_map(); "
        "print([name for name in ('torch', 'transformers', 'trl', 'numba') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

"""Published numbers, recorded results, tables and figures."""

from __future__ import annotations

import inspect
import pydoc
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from lbm_core import paths
from lbm_core.report import deviations, figures, paper, results, session, style, tables

FRAME = pd.DataFrame({"method": ["A", "None"], "seed": [0, 1], "score": [1 / 3, 2.0]})


# --- published numbers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", [f"table{i}" for i in range(1, 10)] + ["figure2", "figure3", "figure6", "main_results"]
)
def test_published_frames_name_their_source_and_have_no_holes(name):
    frame = getattr(paper, name)()
    assert len(frame) >= 4
    assert "CC BY 4.0" in frame.attrs["source"]
    assert frame.drop(columns=["std", "w"], errors="ignore").notna().all(axis=None)


def test_published_tables_agree_where_they_repeat_each_other():
    main = paper.main_results().set_index(["dataset", "method", "metric"])["value"]
    first = paper.table1().set_index(["dataset", "method", "metric"])["value"]
    second = paper.table2().set_index(["dataset", "method", "metric"])["value"]
    shared = first.index.intersection(second.index)
    assert len(shared) == 8  # LBM(P), LBM(GQPO); two data sets; two metrics
    pd.testing.assert_series_equal(first[shared], second[shared])
    base = paper.table4().query("instruction == 'base'").set_index("metric")["value"]
    assert base["score"] == main["dense", "LBM(GQPO)", "score"] == 348
    usual = paper.table5().query("budget_ratio == 1").set_index(["dataset", "method"])["value"]
    for dataset, method in usual.index:
        assert usual[dataset, method] == main[dataset, method, "conversions"]
    plain = paper.table3().query("w == 0").set_index("metric")["value"]
    assert plain["conversions"] == main["dense", "DT", "conversions"]


@pytest.mark.parametrize("name", ["main_results", "table3", "table4", "table6"])
def test_no_published_score_exceeds_its_conversions(name):
    frame = getattr(paper, name)()
    keys = [column for column in frame if column not in ("metric", "value")]
    wide = frame.pivot_table(index=keys, columns="metric", values="value", dropna=False).dropna(how="all")
    assert (wide["score"] <= wide["conversions"]).all()


def test_digitised_curves_run_where_the_plots_do():
    loss = paper.figure3()
    last = loss[loss["step"] > 90_000].groupby("method")["loss"].median()
    assert 0.6 < last["LLM-DT"] < 0.9
    assert 0.3 < last["LBM-Act"] < 0.4
    tokens = paper.figure6().set_index("step")["tokens"]
    assert tokens.iloc[0] == pytest.approx(571, abs=2)
    assert tokens[tokens.index >= 160].max() < 20
    assert paper.figure2().groupby("model")["count"].sum().between(999, 1000).all()


# --- recorded results --------------------------------------------------------------------------------------------


def _record(tmp_path, frame=FRAME, experiment="demo", **options):
    given = {"tier": "laptop", "dataset": "dense", "backbone": "b", "output": tmp_path} | options
    return results.record(experiment, frame, **given)


def test_record_and_load_round_trip_with_provenance(tmp_path):
    path = _record(tmp_path, train_periods=12)
    assert path == tmp_path / "results" / "demo.csv"
    rows = results.load("demo", "laptop", tmp_path)
    assert list(rows["method"]) == ["A", "None"]
    assert list(rows["score"]) == [0.333333, 2.0]
    assert list(rows["seed"]) == [0, 1]
    assert set(rows["train_periods"]) == {12}
    assert set(rows["hardware"]) == {results.hardware()}
    assert set(rows["commit"]) == {results.commit()}
    assert "cores" in results.hardware()


def test_rows_of_the_same_tier_and_dataset_are_replaced_others_stay(tmp_path):
    _record(tmp_path)
    _record(tmp_path, dataset="sparse", frame=FRAME.assign(extra=1.0))
    _record(tmp_path, tier="gpu")
    _record(tmp_path, frame=FRAME.assign(score=9.0))
    rows = results._read(tmp_path / "results" / "demo.csv")
    counts = rows.groupby(["tier", "dataset"]).size()
    assert counts.to_dict() == {("laptop", "dense"): 2, ("laptop", "sparse"): 2, ("gpu", "dense"): 2}
    assert set(results.load("demo", "laptop", tmp_path, dataset="dense")["score"]) == {9.0}
    assert "extra" not in results.load("demo", "laptop", tmp_path, dataset="dense")


def test_cached_takes_the_largest_tier_of_each_dataset(tmp_path):
    _record(tmp_path, dataset="sparse")
    _record(tmp_path)
    _record(tmp_path, tier="gpu")
    rows = results.load("demo", "cached", tmp_path)
    assert set(zip(rows["tier"], rows["dataset"], strict=True)) == {("gpu", "dense"), ("laptop", "sparse")}


def test_smoke_lives_apart_until_it_is_kept(tmp_path):
    assert _record(tmp_path, tier="smoke") == tmp_path / "results" / "_smoke" / "demo.csv"
    with pytest.raises(FileNotFoundError, match="lbm reproduce --tier smoke"):
        results.load("demo", "cached", tmp_path)
    results.keep("smoke", output=tmp_path)
    assert set(results.load("demo", "cached", tmp_path)["tier"]) == {"smoke"}
    with pytest.raises(ValueError, match="only smoke"):
        results.keep("gpu", output=tmp_path)


def test_paths_to_local_models_are_not_recorded(tmp_path):
    frame = pd.DataFrame({"score": [1.0]})
    for name, written in (
        ("/models/qwen2.5-0.5b.gguf", "qwen2.5-0.5b"),
        ("/models/tuned", "tuned"),
        ("local/small.gguf", "small"),
        ("Qwen/Qwen2.5-0.5B-Instruct", "Qwen/Qwen2.5-0.5B-Instruct"),
        ("smollm2-135m", "smollm2-135m"),
    ):
        results.record("one", frame, tier="laptop", backbone=name, output=tmp_path, think=name)
        row = results.load("one", "laptop", tmp_path).iloc[0]
        assert row["backbone"] == row["think"] == written


def test_what_cannot_be_recorded_says_why_and_leaves_the_file_alone(tmp_path):
    before = _record(tmp_path).read_bytes()
    for options, message in [
        ({"tier": "cached"}, "computes nothing"),
        ({"tier": "huge"}, "unknown TIER"),
        ({"dataset": "medium"}, "unknown dataset"),
        ({"experiment": "Demo 1"}, "lower case"),
        ({"frame": FRAME.iloc[:0]}, "no rows"),
        ({"frame": FRAME.assign(score=np.inf)}, "infinite"),
        ({"frame": FRAME.assign(tier="x")}, "already has a column 'tier'"),
    ]:
        with pytest.raises(ValueError, match=message):
            _record(tmp_path, **options)
    assert (tmp_path / "results" / "demo.csv").read_bytes() == before


def test_a_foreign_csv_is_refused(tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "demo.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="not written by"):
        results.load("demo", "gpu", tmp_path)


def test_commit_tells_a_changed_source_from_a_changed_result(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "project_root", lambda: tmp_path)
    assert results.commit() == "no-git"

    def git(*arguments):
        who = ["-c", "user.name=t", "-c", "user.email=t@t"]
        subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True)

    git("init")
    source = tmp_path / "lbm_core" / "a.py"
    source.parent.mkdir()
    source.write_text("a = 1\n")
    git("add", ".")
    git("commit", "-m", "x")
    (tmp_path / "other.csv").write_text("1\n")
    clean = results.commit()
    source.write_text("a = 2\n")
    assert len(clean) == 10
    assert results.commit() == f"{clean}-dirty"


# --- tables ------------------------------------------------------------------------------------------------------


def _evaluation(means: dict[str, float], periods: int = 8) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    rows = []
    for period in range(periods):
        shared = rng.normal(0, 30)
        for method, mean in means.items():
            for seed in range(2):
                value = mean + shared + rng.normal(0, 2)
                rows.append((method, period, seed, value, 0.9 * value))
    return pd.DataFrame(rows, columns=["method", "period", "seed", "conversions", "score"])


def test_beside_gives_levels_differences_and_verdicts():
    ours = _evaluation({"DT": 300, "LBM(P)": 320, "LLM-DT": 300.1, "rule": 310})
    table = tables.beside(
        paper.main_results(), ours, metrics=["conversions"], reference="DT", dataset="dense", note="own market"
    ).set_index("method")
    assert list(table["verdict"]) == ["reference", "resolved", "not resolved", "not comparable"]
    assert table.loc["LBM(P)", "paper_difference"] == 376 - 364
    assert table.loc["LBM(P)", "ours_difference"] == pytest.approx(20, abs=3)
    assert table.loc["LBM(P)", "difference_low"] > 0
    assert (table["low"] < table["ours"]).all()
    assert np.isnan(table.loc["rule", "paper"])
    assert set(table["periods"]) == {8}
    again = tables.beside(paper.main_results(), ours, metrics=["conversions"], reference="DT", dataset="dense")
    pd.testing.assert_frame_equal(table.reset_index(), again, check_like=True)


def test_beside_declared_not_comparable_resolves_nothing():
    ours = _evaluation({"DT": 300, "LBM(P)": 320})
    table = tables.beside(
        paper.main_results(), ours, metrics=["score"], reference="DT", dataset="dense", comparable=False
    )
    assert list(table["verdict"]) == ["reference", "not comparable"]


def test_beside_refuses_ambiguous_or_absent_published_rows():
    ours = _evaluation({"DT": 300, "LBM(P)": 320})
    with pytest.raises(ValueError, match="twice"):
        tables.beside(paper.table3(), ours, metrics=["score"], reference="DT", dataset="dense")
    with pytest.raises(ValueError, match="no rows of dataset"):
        tables.beside(paper.table3(), ours, metrics=["score"], reference="DT", dataset="sparse")


def test_readable_table_shows_source_and_note_as_markdown():
    ours = _evaluation({"DT": 300, "LBM(P)": 320})
    table = tables.beside(
        paper.main_results(), ours, metrics=["score"], reference="DT", dataset="dense", note="own market"
    )
    text = session.markdown(tables.readable(table)).data
    assert "ours − DT [95 %]" in text
    assert "own market" in text
    assert paper.CITATION in text
    assert "nan" not in text


def test_side_by_side_keeps_the_rows_of_both_in_order():
    ours = pd.DataFrame({"parameter": ["state_dimension", "extra"], "dataset": "dense", "low": [16, 1]})
    table = tables.side_by_side(paper.table7(), ours, on=["parameter", "dataset"])
    assert list(table["parameter"])[:2] == ["trajectories", "trajectories"]
    assert list(table["parameter"])[-1] == "extra"
    match = table.query("parameter == 'state_dimension' and dataset == 'dense'").iloc[0]
    assert (match["low_paper"], match["low_ours"]) == (16, 16)


# --- figures -----------------------------------------------------------------------------------------------------


def _attention():
    rng = np.random.default_rng(0)
    labels = [*"abcdefg", "R0", "s0"]
    rows = []
    for layer in ("first", "middle", "last"):
        for head in range(3):
            weights = rng.dirichlet(np.ones(len(labels)))
            for i, label in enumerate(labels):
                rows.append((layer, head, i, label, "language" if i < 7 else "numbers", weights[i]))
    return pd.DataFrame(rows, columns=["layer", "head", "position", "label", "part", "attention"])


DRAWN = {
    "fig3_losses": pd.DataFrame(
        {"method": ["LLM-DT", "LBM-Act"] * 40, "step": np.arange(80) // 2, "loss": np.linspace(2, 1, 80)}
    ),
    "fig5_attention": _attention(),
    "traffic_day": pd.DataFrame({"tick": range(48), "impressions": 10_000, "mean_pvalue": 0.005}),
    "lwc_ticks": pd.DataFrame(
        {"tick": [*range(48)] * 2, "source": ["ours"] * 48 + ["real, period 7"] * 48, "lwc": 0.1}
    ),
}


@pytest.mark.parametrize("name", sorted(DRAWN))
def test_figures_are_the_same_bytes_every_time(name, tmp_path):
    draw = getattr(figures, name)
    first = figures.save(draw(DRAWN[name]), "a", "gpu", tmp_path)
    second = figures.save(draw(DRAWN[name]), "b", "gpu", tmp_path)
    assert [path.name for path in first] == ["a.png", "a.svg"]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
    assert "<dc:date>" not in first[1].read_text()


@pytest.mark.parametrize("name", sorted(DRAWN))
def test_figures_name_a_missing_column_and_refuse_an_empty_frame(name):
    draw = getattr(figures, name)
    frame = DRAWN[name]
    with pytest.raises(ValueError, match="has no column"):
        draw(frame.drop(columns=frame.columns[-1]))
    with pytest.raises(ValueError, match="no rows"):
        draw(frame.iloc[:0])


def test_fig3_shows_the_range_over_seeds():
    steps = np.arange(10)
    runs = [pd.DataFrame({"method": "LBM-Act", "seed": k, "step": steps, "loss": 1.0 + k}) for k in range(3)]
    (left, _) = figures.fig3_losses(pd.concat(runs)).axes
    (band,), (line,) = left.collections, left.lines
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (1.0, 3.0)
    assert set(line.get_ydata()) == {2.0}
    (left, _) = figures.fig3_losses(runs[0]).axes
    assert not left.collections, "one seed has no range"


def test_smoke_figures_live_apart_and_names_are_checked(tmp_path):
    figure = figures.fig3_losses(DRAWN["fig3_losses"])
    assert figures.save(figure, "curves", "smoke", tmp_path)[0] == tmp_path / "figures" / "_smoke" / "curves.png"
    with pytest.raises(ValueError, match="figure name"):
        figures.save(figure, "Curves.png", "smoke", tmp_path)


def test_methods_keep_their_colours():
    chosen = style.colours(["other", "DT", "another"])
    assert chosen["DT"] == style.METHOD_COLOURS["DT"]
    assert len(set(chosen.values())) == 3


# --- session and ledger ------------------------------------------------------------------------------------------


def test_session_checks_parameters_and_applies_overrides(tmp_path):
    run = session.begin("smoke", "dense", 3, str(tmp_path / "new"), act__steps=7, act__layers=0, backbone="")
    assert run.tier.act.steps == 7
    assert run.tier.act.layers == session.get_tier("smoke").act.layers
    assert run.computes
    assert not session.begin("cached", "dense", 0).computes
    for arguments, message in [
        (("tiny", "dense", 0), "unknown TIER"),
        (("smoke", "medium", 0), "unknown DATASET"),
        (("smoke", "dense", -1), "SEED"),
    ]:
        with pytest.raises(ValueError, match=message):
            session.begin(*arguments)
    with pytest.raises(ValueError, match="no setting"):
        session.begin("smoke", "dense", 0, act__stepz=3)
    with pytest.raises(ValueError, match="must be positive"):
        session.begin("smoke", "dense", 0, act__steps=-3)


def test_session_records_loads_and_says_what_it_wrote(tmp_path, capsys):
    run = session.begin("smoke", "dense", 0, str(tmp_path))
    run.record("demo", FRAME, backbone="b")
    assert list(run.load("demo")["method"]) == ["A", "None"]
    run.save(figures.fig3_losses(DRAWN["fig3_losses"]), "curves")
    run.finish()
    printed = capsys.readouterr().out
    assert "wrote results/_smoke/demo.csv (2 rows)" in printed
    assert "wrote figures/_smoke/curves.png" in printed
    assert "3 files written: demo.csv, curves.png, curves.svg" in printed
    assert str(tmp_path) not in printed


def test_show_source_shows_the_running_text():
    assert "def begin(" in session.show_source(session.begin).data


def test_every_part_of_the_ledger_has_rows_and_every_toggle_exists():
    for part in deviations.PARTS:
        frame = deviations.load(part)
        assert len(frame) >= 1
        assert (frame[["topic", "paper", "ours"]] != "").all(axis=None)
    assert set(deviations.load()["part"]) == set(deviations.PARTS)
    with pytest.raises(ValueError, match="unknown part"):
        deviations.load("acting")
    toggles = [toggle for toggle in deviations.load()["toggle"] if toggle]
    assert toggles
    for toggle in toggles:
        owner, name = toggle.rsplit(".", 1)
        thing = pydoc.locate(owner)
        assert thing is not None, f"{owner} does not exist"
        known = getattr(thing, "__dataclass_fields__", None) or inspect.signature(thing).parameters
        assert name in known, f"{toggle} is not a setting"


def test_oddities_name_a_place_and_what_is_odd():
    assert len(deviations.oddities()) >= 5


def test_report_imports_without_torch():
    code = (
        "import sys; from lbm_core.report import deviations, figures, paper, results, session, style, tables; "
        "paper.table1(); print([name for name in ('torch', 'transformers', 'trl', 'numba') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

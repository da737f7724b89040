"""Recorded results: what is written comes back, with its provenance."""

from __future__ import annotations

import subprocess

import numpy as np
import pandas as pd
import pytest

from lbm_core import paths
from lbm_core.evaluation.advice import before_and_after, measures
from lbm_core.evaluation.statistics import paired_differences
from lbm_core.report import results


def test_record_and_load_round_trip_with_provenance(tmp_path, record):
    path = record(train_periods=12)
    assert path == tmp_path / "results" / "demo.csv"
    rows = results.load("demo", "laptop", tmp_path)
    assert list(rows["method"]) == ["A", "None"]
    assert list(rows["score"]) == [0.333333, 2.0]
    assert list(rows["seed"]) == [0, 1]
    assert set(rows["train_periods"]) == {12}
    assert set(rows["hardware"]) == {results.hardware()}
    assert set(rows["commit"]) == {results.commit()}
    assert "cores" in results.hardware()


def test_what_a_run_changed_is_kept_and_older_rows_stay(tmp_path, record, rows):
    path = record(dataset="sparse")
    old = pd.read_csv(path).drop(columns="overrides")
    old.to_csv(path, index=False)
    assert list(results.load("demo", "laptop", tmp_path)["overrides"]) == ["", ""], "older than the column"
    record(overrides={"act.steps": 7, "think.backbone": "/models/small.gguf"}, frame=rows.assign(weights="12e4567890"))
    new = results.load("demo", "laptop", tmp_path, dataset="dense")
    assert set(new["overrides"]) == {'{"act.steps": 7, "think.backbone": "small"}'}
    assert list(new["weights"]) == ["12e4567890"] * 2, "no number"
    old = results.load("demo", "laptop", tmp_path, dataset="sparse")
    assert old["weights"].isna().all(), "nobody said it"
    assert set(old["overrides"]) == {""}


@pytest.mark.parametrize("name", ["7096385560", "0096385560", "12345e6789"])
def test_a_commit_that_looks_like_a_number_stays_text(tmp_path, record, monkeypatch, name):
    monkeypatch.setattr(results, "commit", lambda: name)
    record()
    assert list(results.load("demo", "laptop", tmp_path)["commit"]) == [name] * 2


def test_rows_of_the_same_tier_and_dataset_are_replaced_others_stay(tmp_path, record, rows):
    record()
    record(dataset="sparse", frame=rows.assign(extra=1.0))
    record(tier="gpu")
    record(frame=rows.assign(score=9.0))
    counts = pd.read_csv(tmp_path / "results" / "demo.csv").groupby(["tier", "dataset"]).size()
    assert counts.to_dict() == {("laptop", "dense"): 2, ("laptop", "sparse"): 2, ("gpu", "dense"): 2}
    assert set(results.load("demo", "laptop", tmp_path, dataset="dense")["score"]) == {9.0}
    assert results.load("demo", "laptop", tmp_path, dataset="dense")["extra"].isna().all()


def test_cached_takes_the_largest_tier_of_each_dataset(tmp_path, record):
    record(dataset="sparse")
    record()
    record(tier="gpu")
    rows = results.load("demo", "cached", tmp_path)
    assert set(zip(rows["tier"], rows["dataset"], strict=True)) == {("gpu", "dense"), ("laptop", "sparse")}


def test_smoke_lives_apart_until_it_is_kept(tmp_path, record):
    assert record(tier="smoke") == tmp_path / "results" / "_smoke" / "demo.csv"
    with pytest.raises(FileNotFoundError, match="lbm reproduce --tier smoke"):
        results.load("demo", "cached", tmp_path)
    results.keep("smoke", output=tmp_path)
    assert set(results.load("demo", "cached", tmp_path)["tier"]) == {"smoke"}
    with pytest.raises(ValueError, match="only smoke"):
        results.keep("gpu", output=tmp_path)


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("/models/qwen2.5-0.5b.gguf", "qwen2.5-0.5b"),
        ("/models/tuned", "tuned"),
        ("local/small.gguf", "small"),
        ("Qwen/Qwen2.5-0.5B-Instruct", "Qwen/Qwen2.5-0.5B-Instruct"),
        ("smollm2-135m", "smollm2-135m"),
    ],
)
def test_paths_to_local_models_are_not_recorded(tmp_path, record, name, written):
    record(backbone=name, think=name)
    row = results.load("demo", "laptop", tmp_path).iloc[0]
    assert row["backbone"] == row["think"] == written


def test_what_cannot_be_recorded_says_why_and_leaves_the_file_alone(record, rows):
    path = record()
    before = path.read_bytes()
    for options, message in [
        ({"tier": "cached"}, "computes nothing"),
        ({"tier": "huge"}, "unknown TIER"),
        ({"dataset": "medium"}, "unknown dataset"),
        ({"experiment": "Demo 1"}, "lower case"),
        ({"frame": rows.iloc[:0]}, "no rows"),
        ({"frame": rows.assign(score=np.inf)}, "infinite"),
        ({"frame": rows.assign(tier="x")}, "already has a column 'tier'"),
    ]:
        with pytest.raises(ValueError, match=message):
            record(**options)
    assert path.read_bytes() == before


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


def test_all_committed_results_are_read():
    names = results.available("cached")
    assert len(names) > 50
    for name in names:
        rows = results.load(name, "cached")
        assert set(rows["tier"]) <= set(results.COMPUTED_TIERS)
        assert rows["commit"].str.fullmatch(r"[0-9a-f]{10}(-dirty)?").all(), name


def test_the_readme_says_what_chapter_2_recorded():
    """Score of who bids, on dense and [sparse]."""
    rows = results.load("act_guides", "cached")
    means = rows.groupby(["method", "dataset"])["score"].mean()
    said = " ".join((paths.project_root() / "README.md").read_text().split())
    names = ["LBM-Act + none", "LLM-DT", "LBM-Act + critic", "critic alone", "LBM-Act + oracle"]
    for name in (*names, "replay-Q alone", "oracle imitation"):
        assert f"{means[name, 'dense']:.0f} [{means[name, 'sparse']:.1f}]" in said, name


def test_the_readme_tells_what_became_of_the_recorded_texts():
    """Share of right ratios on dense and [sparse], and what GQPO's model holds most likely."""
    rows = results.load("think_hallucination", "cached")
    shares = rows.set_index(["dataset", "model", "quantity"])["value"]
    said = " ".join((paths.project_root() / "README.md").read_text().split())
    warmed, raw = "smollm2-135m, warmed up", "smollm2-135m"
    for model, quantity in ((raw, "ratio right"), (warmed, "ratio right"), (warmed, "ratio within 10 %")):
        dense, sparse = (100 * shares[dataset, model, quantity] for dataset in ("dense", "sparse"))
        assert f"{dense:.0f} [{sparse:.0f}] %" in said, (model, quantity)
    probes = results.load("gqpo_probes", "cached", dataset="dense")
    known = probes[probes["random"].astype(str).eq("True") & probes["likely"].notna()]
    agrees = (known["likely"] == known["critic_best"]).groupby(known["model"]).mean().mul(100).round()
    numbers = [agrees[name] for name in ("LBM(P)", "LBM(GQPO)", "random")]
    assert "agrees in {:.0f} % before, {:.0f} % after, and {:.0f} % after the control".format(*numbers) in said
    written = probes["random"].astype(str).eq("True") & probes["status"].notna()
    drawn = measures(probes[written]).groupby("model")
    share = drawn[["as the critic", "as the simulator"]].mean().mul(100)
    critic, simulator = share.loc[["LBM(P)", "LBM(GQPO)"]].T.to_numpy()
    assert "critic in {:.0f} % before and {:.0f} % after".format(*critic) in said
    assert "taught nobody, in {:.0f} and {:.0f} %".format(*simulator) in said
    each = measures(probes[written]).groupby(["model", "train_seed"])["as the critic"].mean().mul(100)["LBM(GQPO)"]
    assert "{:.0f}, {:.0f} and {:.0f} % by training".format(*each) in said
    assert f"{share.loc['LBM(GQPO), round 1', 'as the critic']:.0f} % after the first round" in said
    ruled = probes[probes["random"].astype(str).eq("True") & (probes["model"] == "spend-rate rule")]
    agreed = 100 * (ruled["direction"] == ruled["critic_best"]).mean()
    assert f"A rule on the spend rate agrees in {agreed:.0f} %" in said
    told = before_and_after(measures(probes[written]), "LBM(P)", np.random.default_rng(0))
    told = told.set_index(["model", "measure"]).loc["LBM(GQPO)"]
    assert (told["trainings"] == 3).all()
    gains = told[["difference", "difference_low", "difference_high"]].mul(100)
    for measure, unit in (("as the critic", " points"), ("as the simulator", ""), ("hallucinated", " points")):
        gain, low, high = gains.loc[measure]
        assert f"{gain:+.0f}{unit} [{low:+.0f}, {high:+.0f}]" in said, measure
    lower = known.groupby(["train_seed", "moment"])["critic_best"].first().eq(-1).mean()
    assert f'"lower" at every decision in {100 * lower:.0f} %' in said
    lost = (known["best_q"] - known["likely_q"]).groupby(known["model"]).mean()
    assert f"from {lost['LBM(P)']:.4f} to {lost['LBM(GQPO)']:.4f} (control {lost['random']:.4f})" in said
    probes = results.load("gqpo_probes", "cached", dataset="sparse")
    written = probes[probes["random"].astype(str).eq("True") & probes["likely"].notna()]
    same = written[["direction", "likely"]].eq(written["critic_best"], axis=0).groupby(written["model"]).mean()
    drawn, likely = (100 * same.loc[["LBM(P)", "LBM(GQPO)"], name] for name in ("direction", "likely"))
    assert "critic in {:.0f} % before and {:.0f} % after, the most likely".format(*drawn) in said
    assert "the most likely answer in {:.0f} and {:.0f} %".format(*likely) in said
    rows = results.load("gqpo_replays", "cached", dataset="dense")
    trained = rows[rows["method"] == "LBM(P)"].groupby("train_seed")["score"].mean()
    assert "LBM(P) stands at {:.0f}, {:.0f} and {:.0f} with three trainings of LBM-Act".format(*trained) in said
    trained = rows[rows["method"] == "LBM(GQPO)"].groupby("train_seed")["score"].mean()
    assert "LBM(GQPO) at {:.0f}, {:.0f} and {:.0f} with three of everything".format(*trained) in said
    rng = np.random.default_rng(0)
    gain = paired_differences(rows, "LBM(P)", rng, metrics=["score"], methods=["LBM(GQPO)"]).iloc[0]
    assert f"{gain['difference']:+.1f} [{gain['low']:+.1f}, {gain['high']:+.1f}] on LBM(P)" in said
    days = rows[rows["train_seed"] == 0].groupby("method")["score"].mean()
    coin = next(name for name in days.index if "shares" in name)
    parts = [
        "LBM(GQPO) stands at {:.0f}",
        "LBM(P) at {:.0f}",
        "learned random texts at {:.0f}",
        "shares of words at {:.0f}",
        "without any words at {:.0f}",
    ]
    parts += ["who taught it, at {:.0f}", "LBM(GQPO) reaches {:.0f}", "and LBM(P) {:.0f}."]
    of = (
        "LBM(GQPO)",
        "LBM(P)",
        "LBM(random)",
        coin,
        "LBM-Act + none",
        "LBM-Act + critic",
        "LBM(GQPO), expected x 2",
        "LBM(P), expected x 2",
    )
    for part, name in zip(parts, of, strict=True):
        assert part.format(days[name]) in said, name
    again = results.load("gqpo_seeds", "cached", dataset="dense")
    score = again.groupby("method")["score"].mean()
    gains = (score["LBM(GQPO)"] - score[name] for name in ("LBM(P)", "LBM(random)"))
    assert again["train_seed"].nunique() == 3
    told = "three times: for {} advertisers LBM(GQPO) gains {:.1f} on LBM(P) and {:.1f} on the control, each time"
    assert told.format(again["advertisers"].max(), *gains) in said
    each = again.pivot_table(index="train_seed", columns="method", values="score")
    assert (each["LBM(GQPO)"] > each[["LBM(P)", "LBM(random)"]].max(axis=1)).all()


def test_the_search_of_the_critic_is_told_as_recorded():
    rows = results.load("critic_search", "cached")
    means = rows.groupby(["dataset", "variant"])["expected_score"].mean()
    said = " ".join((paths.project_root() / "README.md").read_text().split())
    for name, words in {
        "default": "stands at",
        "expectile 0.97": "with expectile 0.97 at",
        "2,000 steps": "after 2,000 steps at",
        "one step": "with a return of one tick at",
    }.items():
        assert f"{words} {means['dense', name]:.0f} [{means['sparse', name]:.1f}]" in said

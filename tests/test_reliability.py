"""Nothing lost, nothing silently wrong: the smallest input that once failed, for each kind of fault."""

from __future__ import annotations

import csv

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lbm_core import paths
from lbm_core.evaluation.statistics import period_table, trainings
from lbm_core.report import results

# Every character that a frame can hold; a text that reads as a number may come back as one.
TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=6)


def recorded(folder, frame, **options):
    options = {"tier": "laptop", "dataset": "dense", "output": folder} | options
    results.record("demo", frame, **options)
    return results.load("demo", options["tier"], folder)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TEXTS)
def test_every_text_comes_back_in_its_row(tmp_path, texts):
    frame = pd.DataFrame({"text": [*texts, "a word"], "score": np.arange(len(texts) + 1)})
    rows = recorded(tmp_path, frame)
    assert [text if isinstance(text, str) else "" for text in rows["text"]] == list(frame["text"])
    assert list(rows["score"]) == list(frame["score"])
    assert set(rows["tier"]) == {"laptop"}


@pytest.mark.parametrize(
    "text", ["a\rb", "\r", "\r\n", '"', '"",', "\0", "NA", " a ", "x" * 300_000, "\ufeff", "\u2028"]
)
def test_a_text_neither_ends_a_row_nor_moves_its_neighbours(tmp_path, text):
    rows = recorded(tmp_path, pd.DataFrame({"text": [text, "c"], "score": [1, 2]}))
    assert list(rows["text"]) == [text, "c"]
    assert list(rows["score"]) == [1, 2]
    assert set(rows["commit"]) == {results.commit()}


def test_texts_stay_texts_in_a_long_file(tmp_path):
    """Read piece by piece, a piece with nothing but digits would become numbers between texts."""
    rows = recorded(tmp_path, pd.DataFrame({"text": ["word", *["7"] * 300_000]}))
    assert set(rows["text"]) == {"word", "7"}


def test_what_one_data_set_left_empty_is_still_its_column(tmp_path):
    recorded(tmp_path, pd.DataFrame({"ratio": [0.5]}))
    recorded(tmp_path, pd.DataFrame({"ratio": [np.nan]}), dataset="sparse")
    rows = results.load("demo", "laptop", tmp_path, dataset="sparse")
    assert list(rows["ratio"].isna()) == [True]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: "", "demo.csv cannot be read"),
        (lambda text: text + "a,b,c,d,e,f,g,h,i,j,k\n", "demo.csv cannot be read"),
        (lambda text: text + "<<<<<<< HEAD\n", "row of tier '<<<<<<< HEAD'"),
    ],
)
def test_a_damaged_file_of_results_is_named(tmp_path, damage, message):
    recorded(tmp_path, pd.DataFrame({"score": [1.0]}))
    path = tmp_path / "results" / "demo.csv"
    path.write_text(damage(path.read_text()))
    with pytest.raises(ValueError, match=message):
        results.load("demo", "laptop", tmp_path)


def test_committed_results_come_back_unchanged(tmp_path):
    def number(text):
        try:
            return float(text)
        except ValueError:
            return text

    for path in sorted(paths.results_dir("cached").glob("*.csv")):
        results._add(tmp_path / path.name, results._read(path))
        with (tmp_path / path.name).open(newline="") as new, path.open(newline="") as old:
            for ours, theirs in zip(csv.DictReader(new), csv.DictReader(old), strict=True):
                theirs = {"overrides": ""} | theirs  # older files lack that column
                for name, text in ours.items():
                    assert text == theirs[name] or number(text) == number(theirs[name]), (path.name, name)


def test_rows_of_one_data_set_that_name_no_model_are_not_taken_for_untrained(tmp_path):
    """A data set's rows can be older than ``weights`` while the other's are not."""
    frame = pd.DataFrame({"method": ["DT", "DT", "PID"], "train_seed": [0, 1, 0]})
    old = recorded(tmp_path, frame.query("train_seed == 0"), dataset="sparse")
    recorded(tmp_path, frame.assign(weights=["a1", "b2", ""]))
    now = results.load("demo", "laptop", tmp_path, dataset="sparse")
    assert [trainings(rows, "DT") for rows in (old, now)] == [1, 1]
    never = recorded(tmp_path, pd.DataFrame({"method": ["DT"] * 2, "period": [7, 8], "score": [1.0, 2.0]}), tier="gpu")
    assert period_table(never, "DT", "score").shape == (1, 2)
    named = results.load("demo", "laptop", tmp_path, dataset="dense")
    assert [trainings(named, name) for name in ("DT", "PID")] == [2, 0]

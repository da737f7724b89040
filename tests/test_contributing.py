"""The examples of CONTRIBUTING.md: short, and they run as they stand."""

from __future__ import annotations

import importlib
import re

import pandas as pd
import pytest

from lbm_core import paths
from lbm_core.lab import artifacts

EXAMPLES = re.findall(
    r"^## A new (\w+)\n.*?```python\n(.*?)```", (paths.project_root() / "CONTRIBUTING.md").read_text(), re.S | re.M
)


def test_there_are_three_examples_of_at_most_twenty_lines():
    assert [name for name, _ in EXAMPLES] == ["bidder", "stage", "figure"]
    lengths = {name: len([line for line in code.splitlines() if line.strip()]) for name, code in EXAMPLES}
    assert max(lengths.values()) <= 20, lengths


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run an example, a module of its own, in an empty folder with an empty cache."""
    monkeypatch.setenv("LBM_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(artifacts.STAGES, "level", None)  # so that the example's own is taken away again

    def example(name):
        (tmp_path / f"a_new_{name}.py").write_text(dict(EXAMPLES)[name])
        return importlib.import_module(f"a_new_{name}")

    return example


def test_a_new_bidder(run):
    rows = run("bidder").rows
    assert list(rows["method"].unique()) == ["watchful", "constant", "PID"]
    assert rows["score"].gt(0).all()


def test_a_new_stage(run, capsys):
    stage = run("stage")
    lab = stage.Lab.of("smoke", data__train_periods=1)
    high, low = (stage.level(lab, share=share) for share in (0.9, 0.1))
    assert high.exists
    assert not low.exists
    assert high.get() > low.get() > 0
    assert "level: loaded" in capsys.readouterr().out
    with pytest.raises(ValueError, match="share"):
        stage.level(lab, share=2.0)


def test_a_new_figure(run, tmp_path):
    figure = run("figure")
    assert (tmp_path / "build" / "figures" / "trade.png").stat().st_size > 1000
    with pytest.raises(ValueError, match="budget_utilization"):
        figure.trade(pd.DataFrame({"method": ["DT"], "conversions": [1.0]}))

"""The GPU session rehearsed on this machine: every stage records, and a second run only loads."""

import importlib
from pathlib import Path

import pytest
from shrunk import let_rehearse, make_days, save_tiny_writer, shrunk

from lbm_core.lab.lab import Lab
from lbm_core.report import results

WRITTEN = (
    "act_guides",
    "benchmark_act_training",
    "benchmark_act_decisions",
    "gqpo_funnel",
    "gqpo_loss",
    "gqpo_replays",
)


def test_a_session_in_miniature(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LBM_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    module = importlib.import_module("gpu_session")
    let_rehearse(monkeypatch)
    writer, whole = save_tiny_writer(tmp_path / "writer"), module.tier
    monkeypatch.setattr(module, "tier", lambda *given: shrunk(whole(*given), writer))
    make_days(Lab(module.begun("dense", "", module.CHANGES, module.WARM_UP).tier))
    out = str(tmp_path / "out")
    module.main(["--output", out, "--datasets", "dense", "--minutes", "60"])
    for name in WRITTEN:
        rows = results.load(name, "gpu", out)
        assert set(rows["tier"]) == {"gpu"}
        assert set(rows["backbone"]) == {"writer"}
    speed = results.load("benchmark_act_training", "gpu", out)
    assert "days, compiled" in set(speed["way"])
    assert set(speed["layers"]) == {2}, "all ways train as many layers"
    assert speed["overrides"].str.contains('"think.warm_up.lora_rank": 0').all()
    assert results.load("act_guides", "gpu", out)["method"].nunique() == 4
    capsys.readouterr()
    module.main(["--output", out, "--datasets", "dense", "--stages", "act", "gqpo", "days"])
    assert "computed" not in capsys.readouterr().out
    module.main(["--output", out, "--datasets", "dense", "--minutes", "0", "--stages", "act"])
    assert "run again to go on" in capsys.readouterr().out
    begun = []

    def broken(run):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(module, "STAGES", {"act": broken, "days": lambda run: begun.append("days")})
    with pytest.raises(SystemExit, match="dense, act"):
        module.main(["--output", out, "--datasets", "dense"])
    assert begun == ["days"]

"""Artifacts: made once, whole or absent, named by all that they are made from."""

import json

import pytest

from lbm_core import paths
from lbm_core.files import config_key, weights_key
from lbm_core.lab import artifacts
from lbm_core.lab.artifacts import Artifact


def _artifact(config, made, inputs=(), stage="dt"):
    def make(folder):
        made.append(config)
        (folder / "value.json").write_text(json.dumps(config))

    return Artifact(stage, config, make, lambda folder: json.loads((folder / "value.json").read_text()), "it", inputs)


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LBM_CACHE", str(tmp_path))


def test_a_key_is_twelve_digits_of_the_stage_and_of_the_configuration_in_any_order():
    assert _artifact(1, [], stage="dt").key != _artifact(1, [], stage="uscb").key, "one configuration, two stages"
    assert config_key({"a": 1, "b": 2}) == config_key({"b": 2, "a": 1}) == "d8497d9d8277"
    with pytest.raises(TypeError, match="holds a type"):
        config_key({"a": Artifact})


def test_a_key_is_what_it_was(monkeypatch):
    """Of other digits, everything in every user's cache is made again."""
    for stage in artifacts.Stage("trajectories", 1), artifacts.Stage("dt", 2, ("trajectories",)):
        monkeypatch.setitem(artifacts.STAGES, stage.name, stage)
    assert _artifact(1, [], (_artifact("data", [], stage="trajectories"),)).key == "157719e8495c"


def test_it_is_made_once_and_says_what_it_took(capsys):
    made = []
    artifact = _artifact({"a": 1}, made)
    assert not artifact.exists
    with pytest.raises(FileNotFoundError):
        artifact.took  # noqa: B018
    assert artifact.get() == {"a": 1} == artifact.get()
    assert made == [{"a": 1}]
    assert capsys.readouterr().out.splitlines() == ["it: computed in 0 s", "it: loaded"]
    assert 0 <= artifact.took["seconds"] < 60
    assert artifact.took["peak_mib"] > 1
    assert artifact.path == paths.cache_dir() / "dt" / artifact.key


def test_inputs_are_made_first_and_not_counted():
    order = []
    data = _artifact("data", order, stage="trajectories")
    _artifact("model", order, (data,)).ensure()
    assert order == ["data", "model"]


def test_weights_are_named_by_names_and_bytes(tmp_path):
    def key(name, **files):
        folder = tmp_path / name
        folder.mkdir()
        for file, content in files.items():
            (folder / f"{file}.safetensors").write_text(content)
        (folder / "took.json").write_text(name)
        return weights_key(folder)

    first = key("first", a="1", b="2")
    assert len(first) == 10
    assert first == key("again", b="2", a="1"), "other files do not count"
    others = [key("other", a="1", b="3"), key("named", a="1", c="2"), key("moved", a="12", b=""), key("one", a="1")]
    assert len({first, *others}) == 5
    assert key("none") == ""
    made = _artifact("model", [])
    assert artifacts.weights_of([made]) == "unknown", "what was made and is gone"
    made.ensure()
    (made.path / "model.safetensors").write_text("1")
    plain = _artifact("period", [], stage="period")
    plain.ensure()
    assert artifacts.weights_of([made, plain, made]) == "+".join([weights_key(made.path)] * 2)
    chosen = _artifact("settings", [], (made, plain), stage="evaluation")
    chosen.ensure()
    assert artifacts.weights_of([chosen, made]) == weights_key(made.path), "what has none of its own adds nothing"


def test_a_failed_making_leaves_nothing(tmp_path):
    def make(folder):
        (folder / "half").write_text("x")
        raise RuntimeError("disk full")

    artifact = Artifact("dt", {}, make, lambda folder: folder, "it")
    with pytest.raises(RuntimeError, match="disk full"):
        artifact.get()
    assert not artifact.exists
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_its_key_holds_its_inputs_keys():
    a, b = _artifact("a", [], stage="trajectories"), _artifact("b", [], stage="trajectories")
    assert _artifact(1, [], (a,)).key == _artifact(1, [], (a,)).key
    keys = {_artifact(1, [], inputs).key for inputs in ((), (a,), (b,))} | {_artifact(2, [], (a,)).key}
    assert len(keys) == 4


def test_a_version_is_part_of_the_key(monkeypatch):
    before = _artifact(1, []).key
    monkeypatch.setitem(artifacts.STAGES, "dt", artifacts.Stage("dt", 99, ("trajectories",)))
    assert _artifact(1, []).key != before


def test_an_input_that_was_not_declared_is_refused():
    critic = _artifact("c", [], stage="critic")
    with pytest.raises(ValueError, match="'dt' is not declared to build on 'critic'"):
        _artifact(1, [], (critic,))


def test_declared_inputs_are_stages_and_run_in_no_circle_but_gqpos_rounds():
    for stage in artifacts.STAGES.values():
        assert set(stage.inputs) <= set(artifacts.STAGES)
    own_rounds = {"gqpo": {"gqpo", "own_days"}, "own_days": {"gqpo"}}
    import graphlib

    graph = {name: set(stage.inputs) - own_rounds.get(name, set()) for name, stage in artifacts.STAGES.items()}
    graphlib.TopologicalSorter(graph).prepare()

"""The benchmarks of LBM-Act run at minimal size, and measure what they say: the steps and decisions of the library."""

import importlib
import itertools
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from synthetic_trajectories import synthetic_trajectories
from tiny_backbone import save_tiny_backbone
from torch.utils.flop_counter import FlopCounterMode

from lbm_core.act.train import train_act
from lbm_core.report import results
from lbm_core.seeding import integer_seed

DAYS = synthetic_trajectories(32, seed=2)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return str(save_tiny_backbone(tmp_path_factory.mktemp("tiny")))


@pytest.fixture
def benchmark(monkeypatch):
    """A benchmark by its name, with made-up days in the place of the simulated market's."""
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")

    def module(name):
        loaded = importlib.import_module(name)
        monkeypatch.setattr(loaded, "Lab", SimpleNamespace(of=lambda *_: SimpleNamespace(trajectories=lambda: DAYS)))
        return loaded

    return module


def _recorded(module, experiment, output, monkeypatch, *options):
    monkeypatch.setattr(sys, "argv", ["benchmark", *options, "--layers", "1", "--output", str(output)])
    module.main()
    return results.load(experiment, "laptop", output)


def test_training_is_timed_and_recorded(benchmark, backbone, tmp_path, monkeypatch):
    module = benchmark("act_training")
    options = ("--backbone", backbone, "--steps", "1")
    rows = _recorded(module, "benchmark_act_training", tmp_path, monkeypatch, *options).set_index("way")
    assert rows.loc["release", "speedup"] == rows.loc["release", "speedup_of_cpu"] == 1
    assert (rows[["seconds_per_step", "flop_utilisation"]] > 0).all(axis=None)
    # A window teaches one decision, though the release's loss counts more positions; a day teaches all of its bids.
    assert rows.loc["release", "labels_per_step"] == 32 < rows.loc["release", "positions_per_step"]
    assert rows.loc["windows", "positions_per_step"] == 32
    assert 8 < rows.loc["days", "labels_per_step"] <= 8 * 48


@pytest.mark.parametrize("way", ["release", "windows", "days"])
def test_the_steps_timed_are_those_of_the_training(benchmark, backbone, way):
    module = benchmark("act_training")
    config = replace(module.configurations(backbone, 1)[way], steps=3, warm_up=0.0, schedule="constant")
    with torch.random.fork_rng():
        torch.manual_seed(integer_seed(config.seed, "train", 0))  # as train_act begins
        model = module.LBMAct(module.backbone_of(config), module.StateEncoder.fit(DAYS, config.state_kind), config)
    list(itertools.islice(module.training_steps(model, DAYS, config), config.steps))
    trained = dict(train_act(config, DAYS, progress=False).named_parameters())
    for name, weights in model.named_parameters():
        torch.testing.assert_close(weights, trained[name], msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize(("way", "numbers"), [("release", 29), ("days", 3 * 48 - 1 + 2 * 48)])
def test_the_operations_of_a_step_are_those_that_torch_counts(benchmark, backbone, way, numbers):
    module = benchmark("act_training")
    config = replace(module.configurations(backbone, 1)[way], batch_size=2)
    model = module.untrained(config, DAYS)
    with FlopCounterMode(display=False) as counter:
        next(module.training_steps(model, DAYS, config))
    tokens, flops = module.step_size(model)
    words = model.tokenize([module.UNCERTAIN])[0].shape[1] * (4 if way == "days" else 1)
    assert tokens == 2 * (words + numbers)
    counted = counter.get_total_flops()  # without attention's pairs, and without gradients of numbers that are read
    assert counted < flops < 1.2 * counted


def test_decisions_are_timed_and_recorded(benchmark, backbone, tmp_path, monkeypatch):
    options = ("--backbone", backbone, "--batches", "1", "3", "--rounds", "2")
    rows = _recorded(benchmark("act_decisions"), "benchmark_act_decisions", tmp_path, monkeypatch, *options).set_index(
        ["batch", "way"]
    )
    for n in (1, 3):
        assert list(rows.loc[n].index) == ["window", "day, read", "day, kept"]
        assert rows.loc[(n, "window"), "speedup"] == rows.loc[(n, "window"), "speedup_of_cpu"] == 1
    assert (rows["milliseconds"] > 0).all()

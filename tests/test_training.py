"""Models and checkpoints: round trips, refusal of others, a killed training goes on; threads and random state kept."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from synthetic_trajectories import synthetic_trajectories

from lbm_core.baselines.config import DTConfig, UscbConfig
from lbm_core.data.features import StateEncoder
from lbm_core.training import (
    Resumable,
    fingerprint,
    fitted_encoder,
    load_config,
    load_into,
    load_modules,
    of_modules,
    save_model,
    small_network,
    trainable,
)

CONFIG = DTConfig(steps=7)


@pytest.fixture(scope="module")
def trajectories():
    return synthetic_trajectories()


@pytest.fixture
def networks():
    with small_network(0):
        frozen = torch.nn.Linear(2, 2).requires_grad_(False)
        return {"body": torch.nn.Sequential(torch.nn.Linear(3, 2), frozen), "head": torch.nn.Linear(2, 1)}


def _same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_model_round_trip(networks, trajectories, tmp_path):
    encoder, losses = StateEncoder.fit(trajectories), np.arange(6.0).reshape(3, 2)
    save_model(tmp_path / "model", CONFIG, encoder, of_modules(networks), losses=losses, range=[0.5, 2.0])
    before = {name: tensor.clone() for name, tensor in of_modules(networks).items()}
    assert set(before) == {f"{name}.{key}" for name in ("body.0", "body.1", "head") for key in ("weight", "bias")}
    for tensor in of_modules(networks).values():
        tensor.add_(1.0)
    load_modules(tmp_path / "model", networks)
    assert _same(of_modules(networks), before)
    assert not networks["head"].training
    config, stored_encoder, stored = load_config(tmp_path / "model", DTConfig, CONFIG)
    assert config == CONFIG
    assert stored_encoder.to_dict() == encoder.to_dict()
    np.testing.assert_array_equal(stored["losses"], losses)
    assert stored["range"] == [0.5, 2.0]


def test_tensors_that_do_not_lie_in_order_are_saved_and_filled(tmp_path, trajectories):
    turned = torch.arange(6.0).reshape(2, 3).T
    save_model(tmp_path, CONFIG, StateEncoder.fit(trajectories), {"turned": turned})
    turned.zero_()
    load_into({"turned": turned}, tmp_path / "model.safetensors")
    assert turned.tolist() == [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]


def test_other_models_are_refused(networks, trajectories, tmp_path):
    save_model(tmp_path / "model", CONFIG, StateEncoder.fit(trajectories), of_modules(networks))
    with pytest.raises(ValueError, match=r"the DT in .* was trained with another steps, seed"):
        load_config(tmp_path / "model", DTConfig, replace(CONFIG, steps=9, seed=3), "DT")
    with pytest.raises(ValueError, match="is no USCB policy"):
        load_config(tmp_path / "model", UscbConfig, None, "USCB policy")
    with pytest.raises(FileNotFoundError, match="train one first"):
        load_config(tmp_path / "nothing", DTConfig)
    with pytest.raises(ValueError, match=r"head\.bias differs"):
        load_modules(tmp_path / "model", {"body": networks["body"]})
    with pytest.raises(ValueError, match=r"head\.weight differs"):
        load_modules(tmp_path / "model", networks | {"head": torch.nn.Linear(5, 1)})


def test_trajectories_of_another_data_set_are_refused(trajectories):
    assert fitted_encoder(CONFIG, trajectories).kind == "extended"
    with pytest.raises(ValueError, match="the config is for sparse data, the trajectories are dense"):
        fitted_encoder(replace(CONFIG, dataset="sparse"), trajectories)


def _training(folder, killed_after=None, identity=None):
    """Six steps of a small regression, kept every second; the final weights and the losses, or None if killed."""
    checkpoints = Resumable(folder, identity or {"steps": 6, "seed": 0})
    with small_network(0):
        model = torch.nn.Linear(3, 1)
    state = trainable(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    losses = np.zeros(6, dtype=np.float32)
    done = checkpoints.resume(state, optimizer)
    start = 0 if done is None else len(done)
    losses[:start] = 0 if done is None else done
    for step in range(start, 6):
        x = torch.as_tensor(np.random.default_rng(step).normal(size=(8, 3)).astype(np.float32))
        loss = (model(x)[:, 0] - x.sum(dim=1)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses[step] = loss.item()
        if step + 1 == killed_after:
            return None
        if step % 2 == 1:
            checkpoints.save(state, optimizer, losses[: step + 1])
    checkpoints.clear()
    return model.weight.detach(), losses, start


def test_a_killed_training_goes_on_to_the_same_end(tmp_path):
    folder = tmp_path / "checkpoints"
    whole = _training(None)
    assert _training(folder, killed_after=5) is None
    assert [path.name for path in folder.iterdir()] == ["step-00000004"], "the newest only"
    with pytest.raises(ValueError, match=r"another training \(seed differs\)"):
        _training(folder, identity={"steps": 6, "seed": 1})
    weight, losses, start = _training(folder)
    assert start == 4
    assert torch.equal(weight, whole[0])
    np.testing.assert_array_equal(losses, whole[1])
    assert not folder.exists()


def test_a_kill_while_a_checkpoint_is_written_costs_that_checkpoint_only(tmp_path):
    _training(tmp_path, killed_after=3)
    (tmp_path / ".step-00000004-half").mkdir()  # what `writing` leaves behind
    assert _training(tmp_path)[2] == 2


def test_a_checkpoint_written_again_stays(tmp_path):
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.AdamW(model.parameters())
    checkpoints = Resumable(tmp_path, {})
    for _ in range(2):
        checkpoints.save(trainable(model), optimizer, np.zeros(3, dtype=np.float32))
    assert len(checkpoints.resume(trainable(model), optimizer)) == 3


def test_trainable_leaves_out_what_is_frozen(networks):
    assert set(trainable(networks["body"])) == {"0.weight", "0.bias"}


def test_fingerprint_tells_data_apart(trajectories):
    other = replace(trajectories, costs=trajectories.costs * 2)
    assert fingerprint(trajectories) == fingerprint(replace(trajectories))
    assert fingerprint(trajectories) != fingerprint(other)


@pytest.fixture
def two_threads():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("two_threads")
def test_small_network_restores_threads_and_random_state():
    state, seen = torch.get_rng_state(), []

    def fail(seed):
        with small_network(seed):
            seen.append((torch.get_num_threads(), torch.rand(3)))
            raise RuntimeError

    for seed in (5, 5, 6):
        with pytest.raises(RuntimeError):
            fail(seed)
        assert torch.get_num_threads() == 2
        assert torch.equal(torch.get_rng_state(), state)
    assert [threads for threads, _ in seen] == [1, 1, 1]
    assert torch.equal(seen[0][1], seen[1][1])
    assert not torch.equal(seen[0][1], seen[2][1])
    with small_network():
        torch.rand(3)
    assert not torch.equal(torch.get_rng_state(), state), "without a seed of its own it draws from the process's"

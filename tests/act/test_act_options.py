"""What LBM-Act can be trained with besides its defaults: controls, parts frozen, other windows, several processes."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lbm_core.act.backbone import load_backbone
from lbm_core.act.config import ActConfig
from lbm_core.act.decide import LBMActBidder, decide
from lbm_core.act.dual_embedding import LBMAct
from lbm_core.act.guides import DECREASE, FIRST, INCREASE, UNCERTAIN, directions, training_sentences
from lbm_core.act.train import action_loss, train_act, training_windows
from lbm_core.data.trajectories import sample_ends, windows
from lbm_core.seeding import generator
from lbm_core.training import trainable


@pytest.fixture
def config(folder):
    return ActConfig(backbone=str(folder), steps=4, batch_size=8, learning_rate=3e-3)


def _same(one, other):
    for (name, a), (_, b) in zip(trainable(one).items(), trainable(other).items(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("guide", ["sentence", "none", "task", "number"])
def test_training_windows_end_where_they_are_drawn(config, days, guide):
    config = replace(config, guide=guide, guide_dropout=0.3, dead_band=0.1)
    window, texts = training_windows(config, days, 200, generator(0, "train", 9))
    rng = generator(0, "train", 9)
    expected = windows(days, *sample_ends(days, 200, rng), config.window_length)
    for name, values in vars(expected).items():
        np.testing.assert_array_equal(getattr(window, name), values, err_msg=name)
    assert texts == (training_sentences(expected, rng, 0.3, 0.1) if guide in ("sentence", "number") else None)


def test_windows_drawn_by_their_start_are_short_at_the_end_of_the_day(config, days, make):
    config = replace(config, windows_by="start", guide="none")
    window, _ = training_windows(config, days, 400, generator(0, "train", 9))
    first, _ = sample_ends(days, 400, generator(0, "train", 9))[::-1]
    length, ticks = window.mask.sum(axis=1), window.timesteps[:, -1]
    np.testing.assert_array_equal(length, ticks - first + 1)
    rows = sample_ends(days, 400, generator(0, "train", 9))[0]
    assert (ticks <= days.last_action[rows]).all()
    short = length < config.window_length
    assert short.any()
    np.testing.assert_array_equal(ticks[short], days.last_action[rows[short]])
    batch = make(guide="none").batch(window)
    for name in ("states", "returns_to_go", "actions", "previous_actions", "timesteps"):
        assert (getattr(batch, name)[~batch.mask] == 0).all(), name
    train_act(config, days, progress=False)


def test_without_the_mask_padding_is_read(days, make):
    window = windows(days, np.array([0]), np.array([2]))
    for masked in (True, False):
        model = make(attention_mask=masked)
        batch = model.batch(window, [UNCERTAIN])
        usual = model(batch)[:, -1]
        batch.states[:, 0] = 100.0  # a pad
        changed = (model(batch)[:, -1] - usual).abs().item()
        assert changed == 0 if masked else changed > 1e-6


def test_the_direction_as_a_number_leads_without_a_word(config, days, tmp_path):
    config = replace(config, guide="number", steps=30, batch_size=32)
    model = train_act(config, days, progress=False)
    model.save(tmp_path)
    assert model.config.method == "LLM-DT + direction"
    untold = train_act(replace(config, guide="none"), days, progress=False)
    assert model.probe_losses[-1, 1] < 0.95 * untold.probe_losses[-1, 1]
    full = np.flatnonzero(days.length > 20)
    window = windows(days, full, np.full(len(full), 20))
    up, down = (decide(model, window, [text] * len(full)) for text in (INCREASE, DECREASE))
    assert (up > down).mean() > 0.9
    batch = model.batch(window, [FIRST] * len(full))
    assert batch.guide_ids is None
    assert (batch.directions == 0).all()
    np.testing.assert_allclose(decide(LBMAct.load(tmp_path, config), window, [INCREASE] * len(full)), up, rtol=1e-6)
    with pytest.raises(ValueError, match="not one of the guide sentences"):
        decide(model, window, ["go up"] * len(full))
    bidder = LBMActBidder(model, lambda observation, advertisers: [INCREASE] * len(advertisers))
    bidder.reset(days.advertisers(full))
    assert (bidder.act(days.observation(full, 5)) > 0).all()
    assert directions([DECREASE, UNCERTAIN, FIRST]) == [-1, 0, 0]


SIZES = {
    "fewer layers": {"layers": 1},
    "frozen": {"adapt": "frozen"},
    "lora": {"adapt": "lora", "lora_rank": 2},
    "random": {"initialise": "random"},
    "random and frozen": {"initialise": "random", "adapt": "frozen"},
}


@pytest.mark.parametrize("name", SIZES)
def test_size_ablations_train_save_load_and_refuse(config, days, tmp_path, name):
    config = replace(config, steps=15, batch_size=16, **SIZES[name])
    model = train_act(config, days, progress=False)
    model.save(tmp_path)
    assert model.probe_losses[-1, 1] < model.probe_losses[0, 1]
    loaded = LBMAct.load(tmp_path, config)
    window = windows(days, np.arange(5), np.full(5, 2))
    told = [INCREASE] * 5
    np.testing.assert_allclose(decide(loaded, window, told), decide(model, window, told), rtol=1e-6)
    with pytest.raises(ValueError, match="was trained with another"):
        LBMAct.load(tmp_path, ActConfig(backbone=config.backbone, steps=15, batch_size=16, learning_rate=3e-3))
    layers = [key for key in trainable(model) if key.startswith("transformer.")]
    if "frozen" in name:
        assert layers == []
    elif name == "lora":
        assert all("lora_" in key for key in layers)
        assert len(layers) == 3 * 7 * 2, "A and B of every linear layer"
    else:
        assert len(layers) == len(list(model.transformer.parameters())) - 1, "all but the token embedding"


def test_lora_starts_as_no_change(days, make):
    window = windows(days, np.arange(5), np.full(5, 2))
    plain, lora = make(), make(adapt="lora")
    own = dict(plain.named_parameters())
    with torch.no_grad():  # LoRA's own draws have moved the random numbers on
        for key, p in lora.named_parameters():
            if not key.startswith("transformer."):
                p.copy_(own[key])
    told = [INCREASE] * 5
    torch.testing.assert_close(lora(lora.batch(window, told)), plain(plain.batch(window, told)))


def test_random_weights_are_drawn_from_a_seed(folder):
    one, same, other = (load_backbone(str(folder), layers=2, random_seed=seed) for seed in (1, 1, 2))
    for key, weight in one.model.state_dict().items():
        torch.testing.assert_close(weight, same.model.state_dict()[key], rtol=0, atol=0)
    embedding = one.model.get_input_embeddings().weight
    assert not torch.equal(embedding, other.model.get_input_embeddings().weight)
    assert not torch.equal(embedding, load_backbone(str(folder)).model.get_input_embeddings().weight)
    assert len(one.model.model.layers) == 2
    assert "seed 1" in one.revision


def test_accumulation_changes_nothing_but_memory(config, days):
    whole = train_act(config, days, progress=False)
    pieces = train_act(replace(config, accumulation=4), days, progress=False)
    _same(whole, pieces)
    np.testing.assert_allclose(pieces.history, whole.history, rtol=1e-4)
    with pytest.raises(ValueError, match="must divide"):
        replace(config, accumulation=3)


def test_precision_may_change_from_training_to_training(config, days, tmp_path):
    usual = train_act(config, days, progress=False)
    coarse = train_act(replace(config, precision="bfloat16", accumulation=2), days, progress=False)
    again = train_act(config, days, progress=False)
    np.testing.assert_array_equal(again.history, usual.history)
    assert (coarse.history[1:, 0] != usual.history[1:, 0]).all()
    np.testing.assert_allclose(coarse.history[:, 0], usual.history[:, 0], rtol=0.1)
    assert {p.dtype for p in coarse.parameters()} == {torch.float32}
    coarse.save(tmp_path)
    window = windows(days, np.arange(5), np.full(5, 2))
    fine = decide(LBMAct.load(tmp_path), window, [INCREASE] * 5)
    np.testing.assert_allclose(decide(coarse, window, [INCREASE] * 5), fine, rtol=1e-6, err_msg="in use, in float32")


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which(os.environ.get("CXX", "g++")), reason="torch.compile needs a C++ compiler")
def test_compiled_training_is_the_same(config, days):
    config = replace(config, layers=1, steps=2)  # compiling takes a minute
    _same(train_act(config, days, progress=False), train_act(replace(config, compile=True), days, progress=False))


@pytest.mark.slow
def test_two_processes_train_what_one_does(config, days, tmp_path):
    config = replace(config, accumulation=2)
    script = Path(__file__).parents[1] / "helpers" / "train_on_synthetic.py"
    # What `accelerate launch` starts for several GPUs; on CPUs it starts one process whatever it is told.
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone", str(script)]
    done = subprocess.run([*launch, config.backbone, str(tmp_path / "model")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == ["processes", "2"]
    together, alone = LBMAct.load(tmp_path / "model", config), train_act(config, days, progress=False)
    _same(together, alone)
    np.testing.assert_allclose(together.history, alone.history, rtol=1e-4)


def test_tensorboard_logs(config, days, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    model = train_act(config, days, log_folder=tmp_path, progress=False)
    log = EventAccumulator(str(tmp_path / "LBM-Act"))
    log.Reload()
    assert set(log.Tags()["scalars"]) == {"loss/batch", "loss/probe", "learning_rate", "windows_per_second"}
    probes = [event.value for event in log.Scalars("loss/probe")]
    np.testing.assert_allclose(probes, model.probe_losses[:, 1], rtol=1e-5)


def test_the_loss_is_on_the_last_position_by_default(config, days, make):
    model = make()
    batch = model.batch(*training_windows(config, days, 30, generator(0, "train", 9)))
    predicted = model(batch)
    error = predicted[:, -1] - batch.actions[:, -1]
    torch.testing.assert_close(action_loss(predicted, batch, replace(config, loss="squared")), error.square().mean())
    huber = torch.where(error.abs() < 0.1, 0.5 * error**2, 0.1 * (error.abs() - 0.05)).mean()
    torch.testing.assert_close(action_loss(predicted, batch, config), huber)


@pytest.mark.parametrize(
    "wrong",
    [{"adapt": "half"}, {"initialise": "zero"}, {"windows_by": "middle"}, {"guide_scale": 0.0}, {"lora_rank": 0}],
)
def test_wrong_settings(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ActConfig(**wrong)

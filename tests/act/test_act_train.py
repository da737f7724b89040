"""Training of LBM-Act: it learns, follows its guide, resumes exactly and refuses what does not fit."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from killed import killed_after
from synthetic_trajectories import synthetic_trajectories

from lbm_core.act.config import ActConfig
from lbm_core.act.decide import decide
from lbm_core.act.dual_embedding import LBMAct
from lbm_core.act.guides import (
    DECREASE,
    FIRST,
    INCREASE,
    UNCERTAIN,
    TrainingGuides,
    anchor_directions,
    sentences,
    training_sentences,
)
from lbm_core.act.train import action_loss, learning_rates, train_act
from lbm_core.auction.bidder import N_TICKS
from lbm_core.data.trajectories import sample_ends, windows


@pytest.fixture(scope="module")
def days():
    """Days whose log alpha walks: the next step cannot be known, its direction can be told."""
    made = synthetic_trajectories(32, seed=2)
    steps = np.random.default_rng(0).normal(0, 0.2, (len(made), N_TICKS))
    alphas = made.cpa_target[:, None] * np.exp(np.cumsum(steps, axis=1)) * (made.alphas > 0)
    return replace(made, alphas=alphas.astype(np.float32))


@pytest.fixture
def config(folder):
    return ActConfig(backbone=str(folder), steps=60, batch_size=32, learning_rate=3e-3, loss="squared")


def _ends(days, n=200, seed=5):
    rows, ticks = sample_ends(days, n, np.random.default_rng(seed))
    return windows(days, rows[ticks > 0], ticks[ticks > 0])


def _check_follows(model, days):
    window = _ends(days)
    up, unsure, down = (
        np.log(decide(model, window, [text] * len(window))).mean() for text in (INCREASE, UNCERTAIN, DECREASE)
    )
    assert up > unsure > down
    before = np.log(window.previous_alphas[:, -1, 0]).mean()
    assert up > before > down


def test_loss_falls_and_the_guide_is_followed(config, days):
    model = train_act(config, days, progress=False)
    assert model.history.shape == (60, 2)
    assert np.isfinite(model.history[:, 0]).all()
    steps, probe = model.probe_losses.T
    assert steps[0] == 0
    assert steps[-1] == 59
    assert probe[-1] < 0.75 * probe[0], "measured on the same windows, in fp32"
    assert not model.training
    _check_follows(model, days)


def test_the_label_explains_what_numbers_cannot(config, days):
    told = train_act(config, days, progress=False).probe_losses[-1, 1]
    untold = train_act(replace(config, guide="none"), days, progress=False).probe_losses[-1, 1]
    assert told < 0.8 * untold


@pytest.mark.slow
@pytest.mark.weights
def test_instructed_smollm2_follows(days):
    # Nothing happens for about 50 steps, until the state token finds the guide; 85 are well beyond.
    config = ActConfig(layers=2, steps=85, batch_size=8, learning_rate=1e-3, guide_dropout=0.2)
    model = train_act(config, days, progress=False)
    assert model.probe_losses[-1, 1] < 0.8 * model.probe_losses[0, 1]
    _check_follows(model, days)


def test_a_killed_training_resumes_exactly(config, days, tmp_path):
    config = replace(config, steps=9, batch_size=4, warm_up=0.5)
    whole = train_act(config, days, progress=False)
    folder = tmp_path / "checkpoints"
    with killed_after(5):
        train_act(config, days, checkpoints=folder, checkpoint_every=2, progress=False)
    assert [found.name for found in folder.iterdir()] == ["step-00000004"]
    with pytest.raises(ValueError, match="another training \\(seed differ"):
        train_act(replace(config, seed=1), days, checkpoints=folder, progress=False)
    with pytest.raises(ValueError, match="another training \\(data differ"):
        train_act(config, days.select(np.arange(20)), checkpoints=folder, progress=False)
    resumed = train_act(config, days, checkpoints=folder, checkpoint_every=2, progress=False)
    np.testing.assert_allclose(resumed.history, whole.history, rtol=1e-5)
    for (name, a), (_, b) in zip(whole.named_parameters(), resumed.named_parameters(), strict=True):
        torch.testing.assert_close(a, b, msg=name)
    assert not folder.exists()


def test_saved_model_decides_alike_and_refuses_another_config(config, days, tmp_path):
    config = replace(config, steps=3)
    model = train_act(config, days, progress=False)
    model.save(tmp_path)
    loaded = LBMAct.load(tmp_path, config)
    window = _ends(days, 20)
    texts = [INCREASE] * len(window)
    np.testing.assert_allclose(decide(loaded, window, texts), decide(model, window, texts), rtol=1e-6)
    np.testing.assert_array_equal(loaded.history, model.history)
    with pytest.raises(ValueError, match="another learning_rate"):
        LBMAct.load(tmp_path, replace(config, learning_rate=1.0))
    with pytest.raises(FileNotFoundError, match="train one first"):
        LBMAct.load(tmp_path / "nothing")


def test_loss_counts_bids_only(days, make):
    batch = make().batch(_ends(days, 50), [UNCERTAIN] * len(_ends(days, 50)))
    assert not batch.counted.all()
    spoiled = torch.where(batch.counted, batch.actions + 0.5, torch.full_like(batch.actions, 1e6))
    for loss_on in ("last", "all"):
        assert action_loss(spoiled, batch, ActConfig(loss_on=loss_on, loss="squared")).item() == pytest.approx(
            0.25, rel=1e-4
        )
    only_last_right = batch.actions + 1.0
    only_last_right[:, -1] = batch.actions[:, -1]
    assert action_loss(only_last_right, batch, ActConfig(loss_on="last")) == 0
    assert action_loss(only_last_right, batch, ActConfig(loss_on="all", loss="squared")) > 0.5


def test_texts_are_asked_for_the_drawn_windows(config, days):
    config = replace(config, guide="cot", steps=2, batch_size=4)
    drawn = []

    def texts(rows, ticks):
        drawn.append((rows, ticks))
        return [UNCERTAIN] * len(rows)

    train_act(config, days, guides=TrainingGuides(texts), progress=False)
    assert [len(rows) for rows, _ in drawn][-2:] == [4, 4]
    moment = np.array([3]), np.array([1])
    train_act(config, days, guides=TrainingGuides(texts, moment), progress=False)
    for rows, ticks in drawn[-2:]:
        assert (rows[:2] == 3).all()
        assert (ticks[:2] == 1).all()
        assert not ((rows[2:] == 3) & (ticks[2:] == 1)).all()
    with pytest.raises(ValueError, match="exactly when"):
        train_act(config, days, progress=False)
    with pytest.raises(ValueError, match="exactly when"):
        train_act(replace(config, guide="sentence"), days, guides=TrainingGuides(texts), progress=False)
    ended = np.array([int(days.length.argmin())]), np.array([47])
    with pytest.raises(ValueError, match="ticks with a bid only"):
        train_act(config, days, guides=TrainingGuides(texts, ended), progress=False)


def test_training_sentences_follow_the_anchor(days):
    window = _ends(days, 400)
    moved = np.log(window.alphas[:, -1] / window.previous_alphas[:, -1, 0])
    assert (anchor_directions(window) == np.sign(moved)).mean() > 0.99
    np.testing.assert_array_equal(anchor_directions(window, dead_band=0.05) == 0, np.abs(moved) <= 0.05)
    texts = np.array(training_sentences(window, np.random.default_rng(0), dropout=0.25))
    assert 0.15 < (texts == UNCERTAIN).mean() < 0.35
    assert set(texts[moved > 0]) == {INCREASE, UNCERTAIN}
    assert set(training_sentences(window, np.random.default_rng(0), dropout=1.0)) == {UNCERTAIN}
    first = windows(days, np.arange(5), np.zeros(5, dtype=int))
    assert training_sentences(first, np.random.default_rng(0)) == [FIRST] * 5


def test_unknown_direction():
    with pytest.raises(ValueError, match="got 2"):
        sentences([0, 2])


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_learning_rate(schedule):
    config = ActConfig(steps=100, warm_up=0.1, schedule=schedule, learning_rate=1.0)

    def rates(start):
        optimizer = torch.optim.SGD([{"params": [torch.zeros(1)], "initial_lr": 1.0}], lr=1.0)
        schedule = learning_rates(config, optimizer, start)
        for _ in range(start, config.steps):
            yield schedule.get_last_lr()[0]
            optimizer.step()
            schedule.step()

    rate = np.array(list(rates(0)))
    np.testing.assert_allclose(rate[:10], np.arange(1, 11) / 10)
    np.testing.assert_allclose(list(rates(30)), rate[30:])
    if schedule == "constant":
        assert (rate[9:] == 1).all()
    else:
        assert rate[54] == pytest.approx(0.5, abs=0.01)
        assert 0 < rate[99] < 0.01


@pytest.mark.parametrize(
    "wrong",
    [
        {"guide": "poem"},
        {"dataset": "medium"},
        {"steps": 0},
        {"learning_rate": 0.0},
        {"guide_dropout": 1.5},
        {"layers": 0},
        {"target_return": float("nan")},
        {"dead_band": -1.0},
    ],
)
def test_wrong_settings(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ActConfig(**wrong)


def test_trajectories_of_another_data_set(config, days):
    with pytest.raises(ValueError, match="sparse data"):
        train_act(replace(config, dataset="sparse"), days, progress=False)


def test_defaults_are_the_papers():
    paper = ActConfig()
    assert (paper.steps, paper.batch_size, paper.learning_rate) == (400_000, 64, 1e-5)
    assert (paper.guide_dropout, paper.dead_band, paper.layers) == (0.05, 0.0, None)

"""Training of LBM-Act: it learns, follows its guide, resumes exactly and refuses what does not fit."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from synthetic_trajectories import synthetic_trajectories
from tiny_backbone import save_tiny_backbone

from lbm_core.act import train
from lbm_core.act.config import ActConfig
from lbm_core.act.decide import decide
from lbm_core.act.dual_embedding import LBMAct
from lbm_core.act.guides import (
    DECREASE,
    FIRST,
    INCREASE,
    UNCERTAIN,
    accepted,
    anchor_directions,
    sentences,
    training_sentences,
)
from lbm_core.act.train import action_loss, backbone_of, learning_rate_factor, load, train_act
from lbm_core.auction.bidder import N_TICKS
from lbm_core.data.features import StateEncoder
from lbm_core.data.trajectories import sample_ends, windows
from lbm_core.tiers import TIER_NAMES, get_tier


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_backbone(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def days():
    """Days whose log alpha walks: the next step cannot be known, its direction can be told."""
    made = synthetic_trajectories(32, seed=2)
    steps = np.random.default_rng(0).normal(0, 0.2, (len(made), N_TICKS))
    alphas = made.cpa_target[:, None] * np.exp(np.cumsum(steps, axis=1)) * (made.alphas > 0)
    return replace(made, alphas=alphas.astype(np.float32))


@pytest.fixture
def config(folder):
    return ActConfig(backbone=str(folder), steps=60, batch_size=32, learning_rate=3e-3)


def _ends(days, n=200, seed=5):
    rows, ticks = sample_ends(days, n, np.random.default_rng(seed))
    return windows(days, rows[ticks > 0], ticks[ticks > 0])


def _untrained(config, days):
    return LBMAct(backbone_of(config), StateEncoder.fit(days, config.state_kind), config)


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
    assert model.losses.shape == (60,)
    assert np.isfinite(model.losses).all()
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
    # Nothing happens for about 40 steps, until the state token finds the guide; 100 are well beyond.
    config = ActConfig(layers=2, steps=100, batch_size=16, learning_rate=5e-4, guide_dropout=0.2)
    model = train_act(config, days, progress=False)
    assert model.probe_losses[-1, 1] < 0.8 * model.probe_losses[0, 1]
    _check_follows(model, days)


def test_a_killed_training_resumes_exactly(config, days, tmp_path, monkeypatch):
    config = replace(config, steps=9, batch_size=4)
    whole = train_act(config, days, progress=False)
    folder = tmp_path / "model"
    calls = iter(range(100))

    def dies(*arguments):
        if next(calls) == 6:  # the sixth step: one call a step for its batch, and one for the probe at the first
            raise KeyboardInterrupt
        return action_loss(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(train, "action_loss", dies)
        with pytest.raises(KeyboardInterrupt):
            train_act(config, days, folder=folder, checkpoint_every=2, progress=False)
    assert not folder.exists()
    found = list((tmp_path / "model.partial").iterdir())
    assert [f.name for f in found] == ["step-00000004"]
    with pytest.raises(ValueError, match="another training \\(seed differ"):
        train_act(replace(config, seed=1), days, folder=folder, progress=False)
    with pytest.raises(ValueError, match="another training \\(data differ"):
        train_act(config, days.select(np.arange(20)), folder=folder, progress=False)
    resumed = train_act(config, days, folder=folder, checkpoint_every=2, progress=False)
    np.testing.assert_allclose(resumed.history, whole.history, rtol=1e-5)
    for (name, a), (_, b) in zip(whole.named_parameters(), resumed.named_parameters(), strict=True):
        torch.testing.assert_close(a, b, msg=name)
    assert not (tmp_path / "model.partial").exists()


def test_saved_model_decides_alike_and_refuses_another_config(config, days, tmp_path):
    config = replace(config, steps=3)
    model = train_act(config, days, folder=tmp_path / "model", progress=False)
    loaded = load(tmp_path / "model", config)
    window = _ends(days, 20)
    texts = [INCREASE] * len(window)
    np.testing.assert_allclose(decide(loaded, window, texts), decide(model, window, texts), rtol=1e-6)
    np.testing.assert_array_equal(loaded.history, model.history)
    again = train_act(config, days, folder=tmp_path / "model", progress=False)
    np.testing.assert_array_equal(again.history, model.history)
    with pytest.raises(ValueError, match="another learning_rate"):
        load(tmp_path / "model", replace(config, learning_rate=1.0))
    with pytest.raises(FileNotFoundError, match="train one first"):
        load(tmp_path / "nothing")


def test_bfloat16_keeps_float32_weights(config, days):
    model = train_act(replace(config, steps=2, precision="bfloat16"), days, progress=False)
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_loss_counts_bids_only(config, days):
    batch = _untrained(config, days).batch(_ends(days, 50), [UNCERTAIN] * len(_ends(days, 50)))
    assert not batch.counted.all()
    spoiled = torch.where(batch.counted, batch.actions + 0.5, torch.full_like(batch.actions, 1e6))
    for loss_on in ("last", "all"):
        assert action_loss(spoiled, batch, loss_on).item() == pytest.approx(0.25, rel=1e-4)
    only_last_right = batch.actions + 1.0
    only_last_right[:, -1] = batch.actions[:, -1]
    assert action_loss(only_last_right, batch, "last") == 0
    assert action_loss(only_last_right, batch, "all") > 0.5


def test_cot_guides_are_asked_for_the_drawn_windows(config, days):
    config = replace(config, guide="cot", steps=2, batch_size=3)
    asked = []

    def guides(rows, ticks):
        asked.append((rows, ticks))
        return [UNCERTAIN] * len(rows)

    train_act(config, days, guides=guides, progress=False)
    assert [len(rows) for rows, _ in asked][-2:] == [3, 3]
    with pytest.raises(ValueError, match="exactly when"):
        train_act(config, days, progress=False)
    with pytest.raises(ValueError, match="exactly when"):
        train_act(replace(config, guide="sentence"), days, guides=guides, progress=False)


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


@given(st.lists(st.sampled_from([-1, 0, 1]), min_size=1, max_size=8), st.data())
def test_conflicting_texts_are_disregarded(anchors, data):
    told = data.draw(
        st.lists(st.sampled_from([-1, 0, 1, None]), min_size=len(anchors), max_size=len(anchors)), label="told"
    )
    texts = [f"text {k}" for k in range(len(anchors))]
    kept = accepted(texts, told, np.array(anchors))
    assert kept == [t if d == a else UNCERTAIN for t, d, a in zip(texts, told, anchors, strict=True)]
    assert len(sentences(anchors)) == len(anchors)


def test_unknown_direction():
    with pytest.raises(ValueError, match="got 2"):
        sentences([0, 2])


def test_learning_rate():
    config = ActConfig(steps=100, warm_up=0.1)
    assert learning_rate_factor(0, config) == pytest.approx(0.1)
    assert learning_rate_factor(50, config) == 1
    cosine = replace(config, schedule="cosine")
    assert learning_rate_factor(10, cosine) == 1
    assert learning_rate_factor(55, cosine) == pytest.approx(0.5)
    assert learning_rate_factor(99, cosine) < 0.01


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


def test_every_tier_has_a_config():
    for name in TIER_NAMES:
        config = ActConfig.from_tier(get_tier(name), "sparse", seed=3, guide="none")
        assert (config.dataset, config.seed, config.guide) == ("sparse", 3, "none")
    paper = ActConfig.from_tier(get_tier("paper"), "dense")
    assert (paper.steps, paper.batch_size, paper.learning_rate) == (400_000, 64, 1e-5)
    assert (paper.guide_dropout, paper.dead_band, paper.layers) == (0.05, 0.0, None)

"""Whole days in one sequence: every decision at once, as one by one, and as the window layout gives where it must."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from synthetic_trajectories import synthetic_trajectories
from tiny_backbone import save_tiny_backbone
from tiny_language_model import tiny_language_model

from lbm_core.act.config import ActConfig
from lbm_core.act.decide import decide
from lbm_core.act.guides import INCREASE
from lbm_core.act.train import train_act, training_days
from lbm_core.act.whole_days import CODES, DayLayout, RunningDay, codes_of
from lbm_core.data.trajectories import windows
from lbm_core.data.windows import Windows

DAYS = synthetic_trajectories(32, seed=2)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("days") / "backbone"
    save_tiny_backbone(folder)
    return str(folder)


def _trained(backbone, **changes):
    settings = {"steps": 12, "batch_size": 4, "learning_rate": 3e-3, "layout": "day", "loss": "huber"}
    return train_act(ActConfig(backbone=backbone, **(settings | changes)), DAYS, progress=False)


def _so_far(window: Windows, tick: int) -> Windows:
    """The days up to a tick."""
    parts = {f.name: getattr(window, f.name) for f in fields(Windows)}
    return Windows(**{name: values[:, : tick + 1] if values.ndim > 1 else values for name, values in parts.items()})


def _texts(codes, tick):
    return None if codes is None else [CODES[code] for code in codes[:, tick]]


@pytest.mark.parametrize("guide", ["sentence", "number", "none", "task"])
def test_a_day_at_once_is_its_decisions_one_by_one(backbone, guide):
    model = _trained(backbone, guide=guide)
    window, codes = training_days(model.config, DAYS, 24, np.random.default_rng(0))
    whole = window.mask.all(axis=1)
    window, codes = window[whole], None if codes is None else codes[whole]
    with torch.inference_mode():
        at_once = DayLayout(model).predict(model.batch(window, codes))
    running = RunningDay(model)
    expected = np.exp(at_once.double().numpy()) * window.cpa_target[:, None]
    for tick in range(48):
        day, texts = _so_far(window, tick), _texts(codes, tick)
        np.testing.assert_allclose(decide(model, day, texts, running=running), expected[:, tick], rtol=1e-4)
        if tick in (0, 7, 30, 47):
            np.testing.assert_allclose(decide(model, day, texts), expected[:, tick], rtol=1e-4)


def test_the_past_is_what_it_was_whatever_comes_and_whatever_others_are_told(backbone):
    model = _trained(backbone)
    window, codes = training_days(model.config, DAYS, 12, np.random.default_rng(1))
    layout = DayLayout(model)
    with torch.inference_mode():
        before = layout.predict(model.batch(window, codes))
        other = replace(window, states=np.where(np.arange(48)[None, :, None] > 20, 9, window.states))
        told = np.where(np.arange(48)[None] > 20, 1, codes)
        after = layout.predict(model.batch(other, told))
    torch.testing.assert_close(before[:, :21], after[:, :21])
    assert not torch.allclose(before[:, 21:], after[:, 21:])


def test_a_guide_moves_its_own_tick_only(backbone):
    model = _trained(backbone)
    window, codes = training_days(model.config, DAYS, 12, np.random.default_rng(1))
    changed = codes.copy()
    changed[:, 30] = np.where(codes[:, 30] == 1, 2, 1)
    with torch.inference_mode():
        one, two = (DayLayout(model).predict(model.batch(window, c)) for c in (codes, changed))
    differs = (one != two).any(dim=0)
    assert differs.nonzero().flatten().tolist() == [30]


@pytest.fixture(scope="module")
def uneven(tmp_path_factory):
    """A backbone whose tokenizer makes guides of different lengths."""
    writer, folder = tiny_language_model(), tmp_path_factory.mktemp("uneven")
    writer.model.save_pretrained(folder)
    writer.tokenizer.save_pretrained(folder)
    assert len({len(writer.tokenizer(text)["input_ids"]) for text in CODES}) > 1
    return str(folder)


@pytest.mark.parametrize("words", ["backbone", "uneven"])
def test_where_there_is_no_past_it_agrees_with_the_window_layout(words, request):
    """Whatever the layers: at the first tick nothing is left that only one of the two layouts reads."""
    model = _trained(request.getfixturevalue(words))
    rows, ticks = np.arange(6), np.zeros(6, dtype=int)
    as_day = decide(model, windows(DAYS, rows, ticks, 48), [INCREASE] * 6)
    model.config = replace(model.config, layout="window")
    as_window = decide(model, windows(DAYS, rows, ticks), [INCREASE] * 6)
    np.testing.assert_allclose(as_day, as_window, rtol=1e-5)


def test_days_of_any_age_are_decided_as_each_alone(backbone, monkeypatch):
    model = _trained(backbone)
    rows, ticks = np.flatnonzero(DAYS.length == 48)[:5], np.array([30, 2, 47, 11, 2])
    window, told = windows(DAYS, rows, ticks, 48), [CODES[k] for k in (0, 1, 2, 1, 2)]
    alone = np.concatenate([decide(model, window[k : k + 1], told[k : k + 1]) for k in range(5)])
    for at_once in (1, 2, 32):
        monkeypatch.setattr("lbm_core.act.decide.DAYS_AT_ONCE", at_once)
        np.testing.assert_allclose(decide(model, window, told), alone, rtol=1e-5)


def test_what_a_day_cannot_be_is_refused(backbone):
    for wrong in ({"guide": "cot"}, {"predicts": "level"}, {"loss_on": "all"}):
        with pytest.raises(ValueError, match="layout 'day' takes no"):
            ActConfig(layout="day", **wrong)
    model = _trained(backbone)
    cut = windows(DAYS, np.flatnonzero(DAYS.length == 48)[:2], np.array([30, 30]), 10)
    with pytest.raises(ValueError, match="reads the day from its start"):
        decide(model, cut, [INCREASE] * 2)
    with pytest.raises(ValueError, match="not one of the guide sentences"):
        codes_of(["Bid more."])


def test_a_killed_training_with_an_average_goes_on_as_if_nothing_had_happened(backbone, tmp_path):
    from killed import killed_after

    config = ActConfig(
        backbone=backbone, steps=6, batch_size=4, learning_rate=3e-3, layout="day", ema=0.5, schedule="cosine"
    )
    whole = train_act(config, DAYS, progress=False)
    with killed_after(4):
        train_act(config, DAYS, checkpoints=tmp_path / "c", checkpoint_every=2, progress=False)
    resumed = train_act(config, DAYS, checkpoints=tmp_path / "c", checkpoint_every=2, progress=False)
    np.testing.assert_array_equal(whole.history, resumed.history)
    for name, weight in whole.state_dict().items():
        torch.testing.assert_close(weight, resumed.state_dict()[name], rtol=0, atol=0)

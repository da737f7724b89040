"""Sentence or chain of thought: the same windows for every input, its own words, errors checked by hand."""

import numpy as np
import pandas as pd
import pytest
from synthetic_trajectories import synthetic_trajectories
from tiny_backbone import save_tiny_backbone

from lbm_core.act import train
from lbm_core.act.guides import FIRST, SENTENCES, UNCERTAIN, anchor_directions
from lbm_core.data.trajectories import sample_ends, windows
from lbm_core.pipeline import language_input
from lbm_core.pipeline.language_input import INPUTS, compared, language_inputs
from lbm_core.pipeline.thinking import Moments
from lbm_core.think.generate import Generation
from lbm_core.think.prompt import logged_facts
from lbm_core.tiers import get_tier


@pytest.fixture(scope="module")
def days():
    return synthetic_trajectories(12, seed=4)


@pytest.fixture
def tier(tmp_path, monkeypatch, days):
    monkeypatch.setenv("LBM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(language_input, "trajectories", lambda *arguments: days)
    sizes = {"act__language_steps": 4, "act__batch_size": 8, "act__layers": 1, "think__ratio_required": False}
    return get_tier("smoke", backbone=str(save_tiny_backbone(tmp_path / "tiny")), **sizes)


def _chains(days, n, monkeypatch):
    """Two texts for each moment: one says lower, one says raise."""
    rows, ticks = sample_ends(days, 4 * n, np.random.default_rng(1))
    rows, ticks = rows[ticks > 0][:n], ticks[ticks > 0][:n]
    facts, nobody = logged_facts(days, rows, ticks), np.zeros(n, dtype=int)
    moments = Moments(rows, ticks, windows(days, rows, ticks), facts, nobody, nobody.astype(bool))
    texts = [f"Because of this and that, <ratio>1</ratio> <answer>{k}</answer>" for k in (-1, 1)]
    groups = [[Generation(text, 12, "stop", 0.1) for text in texts]] * n
    monkeypatch.setattr(language_input, "think_chains", lambda *arguments: (moments, groups))
    return moments, texts


def test_every_input_meets_the_same_windows_and_its_own_words(tier, days, monkeypatch):
    moments, texts = _chains(days, 12, monkeypatch)
    asked, real = [], train.train_act

    def spied(config, found, *, guides, **options):
        seen = []
        asked.append(seen)

        def remembered(rows, ticks):
            told = guides(rows, ticks)
            seen.extend(zip(rows.tolist(), ticks.tolist(), told, strict=True))
            return told

        return real(config, found, guides=remembered, **options)

    monkeypatch.setattr(train, "train_act", spied)
    frame = language_inputs(tier, "dense", 0)
    assert list(frame["input"].unique()) == list(INPUTS)
    assert frame["prompt"].to_list() == [1, 5, 9] * 3, "every fourth is kept"
    places = [[(row, tick) for row, tick, _ in seen] for seen in asked]
    assert places[0] == places[1] == places[2]
    trained = np.arange(12) % 4 != 1
    own = dict(
        zip(
            zip(moments.rows[trained], moments.ticks[trained], strict=True),
            anchor_directions(moments.window)[trained],
            strict=True,
        )
    )
    met = [(row, tick) in own for row, tick in places[0]]
    assert np.mean(met[-8:-4]) == 1, "half of a batch are moments with a text"
    for name, seen in zip(INPUTS, asked, strict=True):
        for row, tick, told in seen:
            if (row, tick) not in own:
                assert told in (*SENTENCES.values(), FIRST)
                continue
            anchor = own[row, tick]
            expected = {INPUTS[0]: UNCERTAIN, INPUTS[1]: SENTENCES[anchor], INPUTS[2]: texts[int(anchor > 0)]}
            assert told == (expected[name] if anchor else UNCERTAIN)
    nothing = frame[frame["input"] == INPUTS[0]]
    assert (nothing["error"] == nothing["error_in_use"]).all(), "who reads nothing cannot be misled"
    pd.testing.assert_frame_equal(language_inputs(tier, "dense", 0), frame)
    assert len(asked) == 3, "trained once, then found"


def test_too_few_moments_are_refused(tier, days, monkeypatch):
    _chains(days, 1, monkeypatch)
    with pytest.raises(ValueError, match="one moment is too few"):
        language_inputs(tier, "dense", 0)


def test_moments_to_train_on_must_be_bids(tier, days):
    config = train.ActConfig.from_tier(tier, "dense", 0)
    short = days.acting.copy()
    row, tick = np.argwhere(~short)[0]
    for moments in ((np.array([row]), np.array([tick])), (np.array([], dtype=int), np.array([], dtype=int))):
        with pytest.raises(ValueError, match="moments must name"):
            train.train_act(config, days, moments=moments, progress=False)


def test_errors_are_compared_moment_by_moment():
    rng = np.random.default_rng(0)
    base = rng.random(40)
    frames = [
        pd.DataFrame({"input": name, "prompt": range(40), "told": True, "error": base - gain, "error_in_use": base})
        for name, gain in zip(INPUTS, (0, 0.1, 0.2), strict=True)
    ]
    table = compared(pd.concat(frames), np.random.default_rng(1)).set_index(["measured", "input"])
    trained = table.loc["as in training"]
    assert trained["difference"].to_list() == pytest.approx([0, -0.1, -0.2])
    assert list(trained["verdict"]) == ["", "resolved", "resolved"]
    assert list(table.loc["in use", "verdict"]) == ["", "not resolved", "not resolved"]
    few = compared(pd.concat(frames).query("prompt < 3"), np.random.default_rng(1))
    assert few["low"].isna().all()

"""Sentence or chain of thought: the same windows for every input, its own words, errors checked by hand."""

import numpy as np
import pandas as pd
import pytest

from lbm_core.act import train
from lbm_core.act.guides import FIRST, SENTENCES, UNCERTAIN, TrainingGuides, anchor_directions
from lbm_core.lab.decisions import draw_decisions
from lbm_core.lab.lab import Lab
from lbm_core.studies.chapter_02_texts import INPUTS, agreeing, compared, language_inputs
from lbm_core.think.generate import Generation

TEXTS = [f"Because of this and that, <ratio>1</ratio> <answer>{k}</answer>" for k in (-1, 1)]


def _written(lab, n):
    """A lab with two texts for each of n decisions: one says lower, one says raise."""
    decisions = draw_decisions(lab.trajectories(), n, np.random.default_rng(1))

    class Written(Lab):
        def chains(self):
            assert self.tier.gqpo.on_policy == 0, "only logged decisions have a logged move"
            return decisions, [[Generation(text, 12, "stop", 0.1) for text in TEXTS]] * n

    sizes = {"chapter2.text_steps": 4, "act.layers": 1, "think.ratio_required": False, "gqpo.on_policy": 0.5}
    return Written(lab.tier).changed(sizes), decisions


def test_every_input_meets_the_same_windows_and_its_own_words(lab, monkeypatch):
    studied, decisions = _written(lab, 12)
    trainings, train_act = [], train.train_act

    def spied(config, days, *, guides, **options):
        seen = []
        trainings.append(seen)

        def remembered(rows, ticks):
            words = guides.texts(rows, ticks)
            seen.extend(zip(rows.tolist(), ticks.tolist(), words, strict=True))
            return words

        return train_act(config, days, guides=TrainingGuides(remembered, guides.moments), **options)

    monkeypatch.setattr(train, "train_act", spied)
    frame = language_inputs(studied)
    assert list(frame["input"].unique()) == list(INPUTS)
    assert frame["prompt"].to_list() == [1, 5, 9] * 3, "every fourth is kept"
    places = [[(row, tick) for row, tick, _ in seen] for seen in trainings]
    assert places[0] == places[1] == places[2]
    trained = np.arange(12) % 4 != 1
    pairs = zip(decisions.rows[trained].tolist(), decisions.ticks[trained].tolist(), strict=True)
    own = dict(zip(pairs, anchor_directions(decisions.window)[trained].tolist(), strict=True))
    met = [pair in own for pair in places[0]]
    assert np.mean(met[-32:-16]) == 1, (
        "half of a batch, of four windows per day of the tier's, are decisions with a text"
    )
    for name, seen in zip(INPUTS, trainings, strict=True):
        for row, tick, words in seen:
            if (row, tick) not in own:
                assert words in (*SENTENCES.values(), FIRST)
                continue
            anchor = own[row, tick]
            expected = {INPUTS[0]: UNCERTAIN, INPUTS[1]: SENTENCES[anchor], INPUTS[2]: TEXTS[int(anchor > 0)]}
            assert words == (expected[name] if anchor else UNCERTAIN)
    nothing = frame[frame["input"] == INPUTS[0]]
    assert (nothing["error"] == nothing["error_in_use"]).all(), "who reads nothing cannot be misled"
    pd.testing.assert_frame_equal(language_inputs(studied), frame)
    assert len(trainings) == 3, "trained once, then found"
    language_inputs(_written(lab, 8)[0])
    assert len(trainings) == 6, "other texts, other models"


def test_too_few_decisions_are_refused(lab):
    with pytest.raises(ValueError, match="one decision is too few"):
        language_inputs(_written(lab, 1)[0])


def test_moments_to_train_on_must_be_bids(lab):
    days, config = lab.trajectories(), lab.bound(lab.tier.act, guide="cot", layout="window")
    row, tick = np.argwhere(~days.acting)[0]
    for moments in ((np.array([row]), np.array([tick])), (np.array([], dtype=int), np.array([], dtype=int))):
        guides = TrainingGuides(lambda rows, ticks: [UNCERTAIN] * len(rows), moments)
        with pytest.raises(ValueError, match="moments must name"):
            train.train_act(config, days, guides=guides, progress=False)


def test_only_a_text_that_agrees_with_the_log_is_learned():
    answers = [[("a", None), ("b", -1), ("c", 1), ("d", 1)], [("e", None), ("f", 0)]]
    assert agreeing(answers, np.array([1, -1])) == [("c", 1), (UNCERTAIN, None)]
    assert agreeing(answers, np.array([-1, 0])) == [("b", -1), ("f", 0)]


def test_errors_are_compared_decision_by_decision():
    rng = np.random.default_rng(0)
    base = rng.random(40)
    frames = [
        pd.DataFrame({"input": name, "prompt": range(40), "told": True, "error": base - gain, "error_in_use": base})
        for name, gain in zip(INPUTS, (0, 0.1, 0.2), strict=True)
    ]
    table = compared(pd.concat(frames), np.random.default_rng(1)).set_index(["measured", "input"])
    trained = table.loc["as in training"]
    assert trained["difference"].to_list() == pytest.approx([0, -0.1, -0.2])
    assert (trained["high"].iloc[1:] < 0).all()
    assert (table.loc["in use", ["low", "high"]] == 0).all(axis=None)
    assert "verdict" not in table, "one training decides nothing"
    few = compared(pd.concat(frames).query("prompt < 3"), np.random.default_rng(1))
    assert few["low"].isna().all()

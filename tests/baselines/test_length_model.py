"""The model of one parameter: the gradient is Eq. 6's, a risk per word shortens texts, a floor holds them."""

import numpy as np
import pandas as pd
import pytest

from lbm_core.baselines.length_model import LengthModel, group_advantages, shares, train_length
from lbm_core.report import chapter_figures_baselines


def test_every_text_has_one_vote_only_under_eq_6():
    words = np.array([[2, 8], [5, 5]])
    np.testing.assert_allclose((shares(words, "grpo", 10) * words), 1 / 4)
    np.testing.assert_allclose(shares(words, "dapo", 10), 1 / 20)
    np.testing.assert_allclose(shares(words, "dr_grpo", 10), 1 / 40)


def test_advantages_are_centred_and_scaled():
    rewards = np.array([[0.0, 1.0, 1.0], [2.0, 2.0, 2.0]])
    advantages = group_advantages(rewards)
    np.testing.assert_allclose(advantages.sum(axis=-1), 0, atol=1e-12)
    np.testing.assert_allclose(advantages[0].std(ddof=1), 1, rtol=1e-3)
    np.testing.assert_allclose(advantages[1], 0)
    np.testing.assert_allclose(group_advantages(rewards, "dr_grpo")[0], [-2 / 3, 1 / 3, 1 / 3])


@pytest.mark.parametrize("loss_type", ["grpo", "dapo", "dr_grpo"])
def test_a_risk_per_word_shortens_texts_and_a_floor_holds_them(loss_type):
    def last(**settings):
        log = train_length(LengthModel(loss_type=loss_type, **settings), np.random.default_rng(3))
        return log["length"].tail(10).mean()

    assert last() < 15
    assert last(length_floor=40) > 25
    assert last(hazard=0.0) == pytest.approx(50, abs=12), "equal rewards move nothing"


def test_bad_input():
    for wrong in ({"loss_type": "ppo"}, {"hazard": 1.0}, {"first_length": 1}, {"generations": 1}):
        with pytest.raises(ValueError, match=next(iter(wrong)).split("_")[0]):
            LengthModel(**wrong)


def test_the_figure_has_a_panel_per_floor():
    rows = [("grpo", 0, 0.0), ("grpo", 0, 0.01), ("dapo", 0, 0.01), ("grpo", 40, 0.01), ("dapo", 40, 0.01)]
    curves = pd.concat(
        pd.DataFrame({"average": name, "floor": floor, "risk": risk, "step": [1, 2], "length": [50.0, 40.0]})
        for name, floor, risk in rows
    )
    free, held = chapter_figures_baselines.modelled_lengths(curves).axes
    assert [line.get_label() for line in free.lines] == ["no risk", "grpo", "dapo"]
    np.testing.assert_array_equal(free.lines[1].get_ydata(), [50, 40])
    assert len(held.lines) == 3, "two curves and the floor"

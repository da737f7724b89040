"""Fig. 5's attention: a distribution over labelled positions, and the model unchanged by looking."""

import numpy as np
import pandas as pd
import pytest
from synthetic_trajectories import synthetic_trajectories

from lbm_core.act.attention import attention_frame, language_share
from lbm_core.act.backbone import load_backbone
from lbm_core.act.config import ActConfig
from lbm_core.act.decide import decide
from lbm_core.act.dual_embedding import LBMAct
from lbm_core.act.guides import DECREASE, INCREASE
from lbm_core.auction.bidder import N_TICKS
from lbm_core.data.features import StateEncoder
from lbm_core.data.trajectories import windows

pytestmark = pytest.mark.weights


@pytest.fixture(scope="module", params=["window", "day"])
def model_and_days(request):
    days = synthetic_trajectories(4, seed=0)
    config = ActConfig(layers=3, layout=request.param)
    model = LBMAct(load_backbone("smollm2-135m", layers=3), StateEncoder.fit(days, config.state_kind), config)
    return model.eval(), days


@pytest.mark.parametrize(("tick", "ticks_seen"), [(30, 10), (2, 3)])
def test_attention_is_a_distribution_over_labelled_positions(model_and_days, tick, ticks_seen):
    model, days = model_and_days
    frame = attention_frame(model, windows(days, np.array([0]), np.array([tick]), N_TICKS), INCREASE)
    assert set(frame["layer"]) == {"first", "middle", "last"}
    assert frame.groupby(["layer", "head"])["attention"].sum().to_numpy() == pytest.approx(1, abs=1e-4)
    labels = frame.drop_duplicates("position").set_index("position")
    words = (labels["part"] == "language").sum()
    assert len(labels) == words + 3 * ticks_seen - 1
    assert "increase" in list(labels["label"][:words])
    assert list(labels["label"].iloc[-2:]) == ["R t", "s t"]


def test_two_layers_have_no_middle():
    days = synthetic_trajectories(4, seed=0)
    encoder, window = StateEncoder.fit(days, "paper"), windows(days, np.array([0]), np.array([9]), N_TICKS)
    model = LBMAct(load_backbone("smollm2-135m", layers=2), encoder, ActConfig(layers=2, state_kind="paper")).eval()
    assert list(attention_frame(model, window, INCREASE)["layer"].unique()) == ["first", "last"]


def test_looking_changes_nothing(model_and_days):
    model, days = model_and_days
    window = windows(days, np.array([1]), np.array([20]), N_TICKS)
    before = decide(model, window, [INCREASE])
    attention_frame(model, window, INCREASE)
    assert decide(model, window, [INCREASE]) == pytest.approx(before, rel=1e-6)
    with pytest.raises(ValueError, match="one window"):
        attention_frame(model, windows(days, np.array([0, 1]), np.array([20, 20]), N_TICKS), INCREASE)


def test_share_of_attention_on_words(model_and_days):
    model, days = model_and_days
    window, told = windows(days, np.array([0, 1]), np.array([30, 20]), N_TICKS), [INCREASE, DECREASE]
    frame = language_share(model, window, told)
    heads = model.transformer.config.num_attention_heads
    assert frame["layer"].tolist() == list(np.repeat(range(3), heads))
    assert frame["share"].between(0, 1).all()
    words = len(model.tokenize(told)[0][0])
    assert frame["even"].iloc[0] == pytest.approx(words / (words + 29))
    single = [attention_frame(model, window[k : k + 1], told[k]) for k in range(2)]
    language = pd.concat(single).query("part == 'language' and layer == 'last'")
    expected = language.groupby("head")["attention"].sum() / 2
    np.testing.assert_allclose(frame[frame["layer"] == 2]["share"], expected, atol=1e-5)

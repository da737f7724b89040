"""GQPO: what may be chosen, what is chosen, and the funnel's arithmetic (Eq. 12-14)."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from synthetic_trajectories import synthetic_trajectories

from lbm_core.act.backbone import load_backbone
from lbm_core.act.config import ActConfig
from lbm_core.act.decide import decide
from lbm_core.act.dual_embedding import LBMAct
from lbm_core.act.guides import DECREASE, INCREASE
from lbm_core.critic.config import CriticConfig
from lbm_core.critic.network import Critic
from lbm_core.data.features import StateEncoder
from lbm_core.data.trajectories import windows
from lbm_core.think.generate import Generation
from lbm_core.think.gqpo import STAGES, advantage_weights, choose_chains, select
from lbm_core.think.prompt import logged_facts

relative_qs = arrays(
    np.float64, st.tuples(st.integers(1, 5), st.integers(1, 4)), elements=st.floats(-1, 1) | st.just(float("nan"))
)


@given(relative_qs)
def test_the_best_positive_one_is_chosen(relative_q):
    chosen = select(relative_q)
    for row, j in zip(relative_q, chosen, strict=True):
        positive = row[np.isfinite(row) & (row > 0)]
        if len(positive) == 0:
            assert j == -1
        else:
            assert row[j] == pytest.approx(positive.max(), abs=1e-12)


@given(relative_qs, st.floats(0, 1e4))
def test_weights_are_a_mean_of_one_over_the_accepted(relative_q, beta):
    known = np.isfinite(relative_q)
    if not known.any():
        with pytest.raises(ValueError, match="nothing to weight"):
            advantage_weights(relative_q, beta)
        return
    weights = advantage_weights(relative_q, beta)
    assert weights[known].mean() == pytest.approx(1.0)
    assert (weights[~known] == 0).all()
    assert weights[known][np.argmax(relative_q[known])] == weights.max()


def test_large_beta_is_the_argmax():
    weights = advantage_weights(np.array([[0.1, 0.2, -0.3]]), 1e4)
    assert weights == pytest.approx(np.array([[0.0, 3.0, 0.0]]))


def _text(content: str) -> Generation:
    return Generation(content, tokens=len(content), finish="stop", seconds=0.1)


@pytest.mark.weights
def test_every_text_meets_its_fate():
    days = synthetic_trajectories(3, seed=1)
    rows, ticks = np.array([0, 1, 2]), np.array([20, 21, 22])
    window, facts = windows(days, rows, ticks), logged_facts(days, rows, ticks)
    config, critic_config = ActConfig(layers=1), CriticConfig(hidden_size=16, layers=1, heads=2)
    encoder = StateEncoder.fit(days, config.state_kind)
    act = LBMAct(load_backbone("smollm2-135m", layers=1), encoder, config).eval()
    critic = Critic(encoder, critic_config).eval()
    groups = [
        [
            _text(f"<ratio>{fact.true_ratio:.4f}</ratio><answer>1</answer>"),
            _text("<ratio>77</ratio><answer>-1</answer>"),
            _text("I do not know."),
        ]
        for fact in facts
    ]
    strict = choose_chains(act, critic, window, facts, groups)
    assert list(strict.samples["status"][:3]) == ["accepted", "ratio wrong", "no answer"]
    kept = strict.samples.dropna(subset=["alpha"])
    assert set(kept["sample"]) == {0}
    assert kept["alpha"].to_numpy() == pytest.approx(decide(act, window, [INCREASE] * 3))
    excused = choose_chains(act, critic, window, facts, groups, ratio_required=False)
    both = excused.samples.pivot(index="prompt", columns="sample", values="alpha")
    assert both[1].to_numpy() == pytest.approx(decide(act, window, [DECREASE] * 3))
    assert both[2].isna().all()
    logged = window.alphas[:, -1].astype(float)
    expected = critic.q(window, both[0].to_numpy()) - critic.q(window, logged)
    relative_q = excused.samples.query("sample == 0")["relative_q"].to_numpy()
    assert relative_q == pytest.approx(expected)
    funnel = excused.funnel().set_index("stage")["count"]
    assert tuple(funnel.index) == STAGES
    assert list(funnel[["sampled", "one valid answer", "ratio right", "accepted"]]) == [9, 6, 3, 6]
    assert funnel["chosen"] == (excused.chosen >= 0).sum() <= funnel["relative-Q > 0"]
    with pytest.raises(ValueError, match="as many"):
        choose_chains(act, critic, window, facts[:2], groups)
    with pytest.raises(ValueError, match="same number"):
        choose_chains(act, critic, window, facts, [groups[0], groups[1], groups[2][:1]])


def test_ties_go_to_the_least_error_of_the_ratio():
    tied = np.array([[0.2, 0.2, 0.1], [0.2, 0.2, 0.3], [-0.1, -0.1, np.nan]])
    errors = np.array([[0.02, 0.01, 0.0], [0.0, 0.0, 0.03], [0.0, 0.0, 0.0]])
    assert select(tied).tolist() == [0, 2, -1]
    assert select(tied, errors).tolist() == [1, 2, -1], "an error decides between equal ones only"
    assert select(tied[:1], np.array([[np.nan, 0.02, 0.0]])).tolist() == [1]

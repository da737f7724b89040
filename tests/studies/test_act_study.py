"""Chapter 2's studies: the right models compared, the right names asked for, numbers that can be checked by hand."""

import numpy as np
import pandas as pd
import pytest
from small_period import small_period
from synthetic_trajectories import synthetic_trajectories
from tiny_backbone import save_tiny_backbone

from lbm_core.auction.controls import ConstantAlpha
from lbm_core.evaluation import loss_gap
from lbm_core.pipeline import act_study
from lbm_core.pipeline.guides import GUIDES, guide_of
from lbm_core.tiers import TIER_NAMES, get_tier


@pytest.fixture(scope="module")
def days():
    return synthetic_trajectories(12, seed=4)


@pytest.fixture(scope="module")
def tier(tmp_path_factory, days):
    """Everything trained in a blink, on made-up days, and kept for the module."""
    folder = str(save_tiny_backbone(tmp_path_factory.mktemp("tiny")))
    sizes = {"act__steps": 10, "act__batch_size": 8, "act__layers": 2, "act__seeds": 2, "act__learning_rate": 3e-3}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LBM_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr("lbm_core.pipeline.models.trajectories", lambda *arguments: days)
        yield get_tier("smoke", backbone=folder, **sizes)


def test_loss_curves_of_every_language_input(tier):
    frame = act_study.loss_curves(tier, "dense", 0)
    assert set(frame["method"]) == {"LLM-DT", "LBM-Act", "LLM-DT + direction"}
    assert set(frame["seed"]) == {0, 1}
    assert frame[["batch_loss", "loss"]].notna().all(axis=None)
    assert frame.groupby(["method", "seed"])["step"].agg(["min", "max"]).eq([1, 10]).all(axis=None)
    start = frame[frame["step"] == 1].groupby("seed")["loss"].nunique()
    assert (start == 1).all(), "fresh models repeat the last action, on the same windows"


def test_obedience_of_words_and_of_the_number(tier, days):
    moments = act_study.later_moments(days, 0, 40)
    assert (moments.timesteps[:, -1] > 0).all()
    frame = act_study.obedience(tier, "dense", 0, moments)
    assert set(frame["method"]) == {"LBM-Act", "LLM-DT + direction"}
    assert len(frame) == 2 * 2 * 3
    assert frame.query("direction == 'all'")["decisions"].eq(2 * len(moments)).all()


def test_sizes_differ_in_what_is_trained(tier, days):
    sizes = {"act__sizes": tuple(act_study.SIZES), "act__steps": 4, "act__layers": 3, "act__batch_size": 8}
    several = get_tier("smoke", backbone=tier.backbone, **sizes)
    frame = act_study.sizes_compared(several, "dense", 0, act_study.later_moments(days, 0, 20)).set_index("size")
    assert list(frame.index) == list(act_study.SIZES)
    assert frame["layers"].to_dict() | {"1 layer": 1, "2 layers": 2, "default": 3} == frame["layers"].to_dict()
    assert frame["trained"]["default"] == frame["parameters"]["default"] > frame["parameters"]["1 layer"]
    assert frame["trained"]["frozen"] < frame["trained"]["LoRA"] < frame["trained"]["default"]
    assert frame["trained"]["random, frozen"] == frame["trained"]["frozen"]
    assert (frame["seconds"] > 0).all()
    assert frame["followed"].between(0, 1).all()
    with pytest.raises(ValueError, match="no size 'huge'; one of default"):
        act_study.sizes_compared(get_tier("smoke", act__sizes=("huge",)), "dense", 0, None)


def test_study_tier_is_never_larger_than_the_tier():
    small = act_study.study_tier(get_tier("laptop"))
    assert (small.act.seeds, small.evaluation.advertisers) == (1, 8)
    few = get_tier("laptop", evaluation__advertisers=2, act__seeds=1, act__study_seeds=3)
    assert (act_study.study_tier(few).act.seeds, act_study.study_tier(few).evaluation.advertisers) == (1, 2)


def _evaluated(asked):
    """Stands for evaluate_methods: notes what is asked for, gives one row each."""

    def evaluate(tier, dataset, seed, methods):
        asked.extend(methods)
        columns = ("budget_utilization", "expected_cpa_ratio", "conversions", "score")
        return pd.DataFrame([{"method": name, **dict.fromkeys(columns, float(k))} for k, name in enumerate(methods)])

    return evaluate


def test_instructions_by_strength(monkeypatch):
    asked: list[str] = []
    monkeypatch.setattr(act_study, "evaluate_methods", _evaluated(asked))
    tier = get_tier("smoke", act__guide_scales=(0.5,), act__guide_intervals=(2,), act__guide_levels=(1.2,))
    table = act_study.by_strength(act_study.forced(tier, "dense", 0))
    assert asked == ["increase", "decrease", "uncertain", *act_study.softer(tier)]
    named = [guide_of(name) for name in act_study.softer(tier)]
    assert [(each.guide, each.every, each.scale, each.level) for each in named] == [
        ("increase", 1, 0.5, None),
        ("decrease", 1, 0.5, None),
        ("increase", 2, None, None),
        ("decrease", 2, None, None),
        ("increase", 1, None, 1.2),
        ("decrease", 1, None, 1.2),
    ]
    assert table["instruction"].tolist() == ["increase", "decrease", "base", *["increase", "decrease"] * 3]
    assert table["way"].tolist() == [
        *["every tick"] * 3,
        *["scale 0.5"] * 2,
        *["every 2 ticks"] * 2,
        *["up to 1.2"] * 2,
    ]
    assert table["score"].tolist() == list(range(9))


def test_guides_are_named_alike(monkeypatch):
    asked: list[str] = []
    monkeypatch.setattr(act_study, "evaluate_methods", _evaluated(asked))
    frame = act_study.guides_compared(get_tier("smoke", act__guides=("rule", "critic")), "dense", 0)
    names = ["increase", "decrease", "none", "rule", "critic"]
    assert frame["method"].tolist() == [*(f"LBM-Act + {name}" for name in names), "critic alone"]
    assert asked[:3] == ["increase", "decrease", "uncertain"]


@pytest.mark.parametrize("name", TIER_NAMES)
def test_every_tier_asks_for_what_exists(name):
    sizes = get_tier(name).act
    assert set(sizes.sizes) <= set(act_study.SIZES)
    assert set(sizes.guides) <= set(GUIDES) - {"none", "increase", "decrease"}
    assert {"none", "sentence"} <= set(sizes.curves)
    for method in act_study.softer(get_tier(name)):
        guide_of(method)


def test_days_under_instruction(monkeypatch):
    class Held:
        numbers = (7,)

    period = small_period()
    monkeypatch.setattr(act_study, "held_out_periods", lambda *arguments: Held())
    monkeypatch.setattr(act_study, "replay_period", lambda *arguments: period)
    monkeypatch.setattr(act_study, "spread_rows", np.arange)
    made = {"increase": lambda: ConstantAlpha(3.0), "decrease": lambda: ConstantAlpha(0.3)}
    monkeypatch.setattr(act_study, "bidders", lambda *arguments: made)
    frame = act_study.days_under_instruction(get_tier("smoke"), "dense", 0, list(made))
    assert frame[["period", "advertiser"]].drop_duplicates().shape[0] == 1
    ratios = frame.groupby("method")["alpha_ratio"].unique()
    np.testing.assert_allclose(ratios["increase"], [3.0])
    np.testing.assert_allclose(ratios["decrease"], [0.3])
    assert frame.groupby("method")["spent"].apply(lambda spent: spent.is_monotonic_increasing).all()


def _losses(plain, control, guided):
    rows = []
    for seed, values in enumerate(zip(plain, control, guided, strict=True)):
        for method, loss in zip(("LLM-DT", "LLM-DT + direction", "LBM-Act"), values, strict=True):
            rows += [(method, seed, 1, 9.0), (method, seed, 90, loss), (method, seed, 100, loss)]
    return pd.DataFrame(rows, columns=["method", "seed", "step", "loss"])


def test_share_of_the_gap_with_fiellers_interval():
    final = loss_gap.final_losses(_losses([1.0, 1.2, 1.1, 0.9], [0.55, 0.62, 0.61, 0.52], [0.5, 0.6, 0.55, 0.45]))
    assert final["loss"].max() == 1.2, "the beginning does not count"
    row = loss_gap.share_closed(final, "LLM-DT + direction").iloc[0]
    closed, gap = np.array([0.45, 0.58, 0.49, 0.38]), np.array([0.5, 0.6, 0.55, 0.45])
    assert row["share"] == pytest.approx(closed.mean() / gap.mean())
    assert row["low"] < row["share"] < row["high"]
    for bound in (row["low"], row["high"]):  # there the paired difference is just within its t-interval of 0
        rest = closed - bound * gap
        assert abs(rest.mean()) / (rest.std(ddof=1) / 2) == pytest.approx(3.18245, rel=1e-4)
    assert row["closes"] == "resolved"


def test_no_share_of_a_gap_that_may_be_nothing():
    unclear = loss_gap.final_losses(_losses([1.0, 0.5, 0.9], [0.8, 0.8, 0.8], [0.7, 0.8, 0.9]))
    row = loss_gap.share_closed(unclear, "LLM-DT + direction").iloc[0]
    assert np.isnan([row["low"], row["high"]]).all()
    assert (row["closes"], row["differs"]) == ("not resolved", "not resolved")
    single = loss_gap.final_losses(_losses([1.0, 1.0], [0.6, 0.6], [0.5, 0.5]))
    row = loss_gap.share_closed(single, "LLM-DT + direction").iloc[0]
    assert row["share"] == pytest.approx(0.8)
    assert np.isnan(row["low"]), "two trainings give no interval"
    with pytest.raises(ValueError, match="no losses of 'Prompt-LLM-DT'"):
        loss_gap.share_closed(single, "Prompt-LLM-DT")


def test_losses_relative_to_their_start():
    losses = _losses([1.0, 1.2], [0.5, 0.6], [0.5, 0.3])
    doubled = losses.assign(loss=np.where(losses["seed"] == 1, 2 * losses["loss"], losses["loss"]))
    relative = loss_gap.relative_losses(losses)
    pd.testing.assert_frame_equal(loss_gap.relative_losses(doubled), relative)
    assert relative.loc[relative["step"] == relative["step"].min(), "loss"].eq(1).all()

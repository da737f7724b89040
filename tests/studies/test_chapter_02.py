"""Chapter 2's studies: the right models compared, the right methods evaluated, numbers that can be checked by hand."""

import json
from dataclasses import replace
from typing import get_args

import numpy as np
import pandas as pd
import pytest
from small_period import small_period

from lbm_core.auction.controls import ConstantAlpha
from lbm_core.evaluation.runner import Foreseeing, evaluate
from lbm_core.files import weights_key
from lbm_core.lab import models
from lbm_core.lab.guided import Guide, Guided
from lbm_core.lab.lab import Lab
from lbm_core.lab.methods import INSTRUCTIONS, method
from lbm_core.lab.tiers import tier
from lbm_core.settings import TIER_NAMES
from lbm_core.studies import chapter_02
from lbm_core.studies.sizes import few

METRICS = ("budget_utilization", "conversions", "score")


class Evaluated(Lab):
    """Gives one row to every method, numbered; the score says how many advertisers were asked for."""

    def evaluate(self, methods, **options):
        names = [method(one).name for one in methods]
        rows = [{"method": name, **dict.fromkeys(METRICS, float(k))} for k, name in enumerate(names)]
        sizes = self.tier.evaluation
        return pd.DataFrame(rows).assign(advertisers=sizes.advertisers, trainings=sizes.train_seeds)


def test_loss_curves_of_every_language_input(lab):
    frame = chapter_02.loss_curves(lab)
    assert list(frame.columns) == ["method", "seed", "step", "batch_loss", "loss"]
    assert set(frame["method"]) == {"LLM-DT", "LBM-Act", "LLM-DT + direction"}
    assert set(frame["seed"]) == {0, 1}
    assert frame[["batch_loss", "loss"]].notna().all(axis=None)
    assert frame.groupby(["method", "seed"])["step"].agg(["min", "max"]).eq([1, 10]).all(axis=None)
    start = frame[frame["step"] == 1].groupby("seed")["loss"].nunique()
    assert (start == 1).all(), "fresh models repeat the last action, on the same windows"


def test_obedience_of_words_and_of_the_number(lab):
    moments = chapter_02.later_moments(lab.trajectories(), 0)
    assert (moments.timesteps[:, -1] > 0).all()
    frame = chapter_02.obedience(lab, moments)
    assert set(frame["method"]) == {"LBM-Act", "LLM-DT + direction"}
    assert len(frame) == 2 * 2 * 3
    assert set(frame["train_seed"]) == {0, 1}
    assert frame.query("direction == 'all'")["decisions"].eq(2 * len(moments)).all()


def test_sizes_differ_in_what_is_trained(lab):
    names = tuple(name for name in chapter_02.SIZES if name != "4 layers")  # the tiny backbone has three
    every = lab.changed({"chapter2.sizes": names, "act.steps": 4, "act.layers": 3})
    frame = chapter_02.sizes_compared(every, chapter_02.later_moments(lab.trajectories(), 0)).set_index("size")
    assert list(frame.index) == list(names), "one training each, as the chapter says"
    assert frame["layers"].to_dict() | {"1 layer": 1, "default": 3} == frame["layers"].to_dict()
    assert frame["trained"]["default"] == frame["parameters"]["default"] > frame["parameters"]["1 layer"]
    assert frame["trained"]["frozen"] < frame["trained"]["LoRA"] < frame["trained"]["default"]
    assert frame["trained"]["random, frozen"] == frame["trained"]["frozen"]
    assert (frame["seconds"] > 0).all()
    assert frame["followed"].between(0, 1).all()
    curve = every.act(initialise="random").history[:, 1]
    assert frame["loss"]["random"] == pytest.approx(curve[-1]), "of the last fifth of the steps"
    with pytest.raises(ValueError, match="no size 'huge'; one of default"):
        chapter_02.sizes_compared(lab.changed({"chapter2.sizes": ("huge",)}), None)


def test_few_is_never_more_than_the_tier():
    laptop = Lab(tier("laptop"))
    for chapter, who, seeds in ((laptop.tier.chapter2, 48, 3), (laptop.tier.chapter7, 8, 3)):
        small = few(laptop, chapter)
        assert isinstance(small, Lab)
        assert (small.tier.evaluation.advertisers, small.tier.evaluation.train_seeds) == (who, seeds)
        assert replace(small.tier, evaluation=laptop.tier.evaluation) == laptop.tier
    fewer = laptop.changed({"evaluation.advertisers": 2, "evaluation.train_seeds": 1, "chapter2.train_seeds": 3})
    assert few(fewer, fewer.tier.chapter2).tier.evaluation == fewer.tier.evaluation


def test_instructions_by_strength():
    sizes = {"chapter2.guide_scales": (0.5,), "chapter2.guide_intervals": (2,), "chapter2.guide_levels": (1.2,)}
    sizes |= {"chapter2.leaks": (0.0,)}
    studied = Evaluated(tier("laptop", sizes))
    rows = chapter_02.forced(studied)
    assert (rows["advertisers"] == studied.tier.chapter2.advertisers).all()
    assert rows["method"].tolist() == [*INSTRUCTIONS, *(guided.name for guided in chapter_02.softer(studied))]
    pairs = [{"scale": 0.5}, {"every": 2}, {"level": 1.2}, {"leak": 0.0}]
    assert chapter_02.softer(studied) == [Guided(name, **way) for way in pairs for name in ("increase", "decrease")]
    table = chapter_02.by_strength(rows)
    assert list(table.columns) == ["instruction", "way", *METRICS]
    assert table["instruction"].tolist() == ["increase", "decrease", "base", *["increase", "decrease"] * 4]
    ways = [("every tick", 3), ("scale 0.5", 2), ("every 2 ticks", 2), ("up to 1.2", 2), ("leak 0", 2)]
    assert table["way"].tolist() == [way for way, count in ways for _ in range(count)]
    assert table["score"].tolist() == [0, 1, 2, *range(8)], "evaluated in two parts"


def test_what_table_4_says_is_what_its_methods_are_told(lab):
    from lbm_core.lab.tuning import contender

    for name, guided in chapter_02.CONSTANT.items():
        assert contender(lab, name).config == contender(lab, guided).config


def test_guides_are_named_alike():
    names = ("random", "critic", "oracle", "replay-Q")
    asked = Evaluated(tier("laptop", {"chapter2.guides": names, "chapter2.curves": ("none", "sentence")}))
    frame = chapter_02.guides_compared(asked)
    often = [
        *(f"LBM-Act + {name}" for name in ("none", "critic", "oracle")),
        "critic alone",
        "oracle imitation",
        "LLM-DT",
    ]
    seldom = [*(f"LBM-Act + {name}" for name in ("random", "replay-Q", "increase", "decrease")), "replay-Q alone"]
    assert sorted(frame["method"]) == sorted([*often, *seldom])
    assert set(frame.loc[frame["trainings"] == 3, "method"]) == set(often)
    assert set(frame.loc[frame["trainings"] == 1, "method"]) == set(seldom)
    ruled = chapter_02.guides_compared(Evaluated(tier("smoke", {"chapter2.guides": ("rule",)})))
    assert not {"critic alone", "oracle imitation", "replay-Q alone"} & set(ruled["method"])


def test_the_drift_of_every_training_stands_beside_its_weights(lab):
    frame = chapter_02.drifts(lab.changed({"chapter2.train_seeds": 2}))
    assert list(zip(frame["method"], frame["train_seed"], strict=True)) == [
        (name, seed) for seed in (0, 1) for name in ("LBM-Act", "LLM-DT")
    ]
    assert frame["weights"].is_unique
    assert frame["weights"][0] == weights_key(models.act(lab).path), "what bids has the weights that were trained"
    chosen = json.loads(lab.tuned("LBM-Act").trials.query("chosen")["setting"].iloc[0])
    assert frame.loc[0, list(chosen)].to_dict() == chosen
    assert np.isfinite(frame["drift"]).all()
    assert frame["expected_score"].gt(0).all()


def test_who_foresees_the_day_is_shown_it(lab):
    from lbm_core.lab.tuning import contender

    bidders = [contender(lab, Guided(guide, every=2)).make() for guide in ("oracle", "replay-Q", "rule")]
    assert [isinstance(bidder, Foreseeing) for bidder in bidders] == [True, True, False]
    rows = evaluate({"led": lambda: bidders[1]}, [small_period(n=48)], [0], rows=[0, 9], progress=False)
    assert rows["cost"].gt(0).all()


@pytest.mark.parametrize("name", TIER_NAMES)
def test_every_tier_asks_for_what_exists(name):
    chapter = tier(name).chapter2
    assert set(chapter.sizes) <= set(chapter_02.SIZES)
    assert set(chapter.guides) <= set(get_args(Guide)) - {"none", "increase", "decrease"}
    assert {"none", "sentence"} <= set(chapter.curves)


def test_days_under_instruction():
    period = small_period(n=48)

    class Replayed(Lab):
        def held_out(self):
            return [period]

        def bidders(self, methods):
            return {name: (lambda name=name: ConstantAlpha(3.0 if name == "increase" else 0.3)) for name in methods}

    studied = Replayed(tier("smoke"))
    frame = chapter_02.days_under_instruction(studied, ["increase", "decrease"])
    assert frame[["period", "advertiser"]].drop_duplicates().shape[0] == 1
    assert frame["advertiser"].iloc[0] in range(0, 48, 8), "one of the chapter's six"
    ratios = frame.groupby("method")["alpha_ratio"].unique()
    np.testing.assert_allclose(ratios["increase"], [3.0])
    np.testing.assert_allclose(ratios["decrease"], [0.3])
    assert frame.groupby("method")["spent"].apply(lambda spent: spent.is_monotonic_increasing).all()
    assert frame["spent"].between(0, 1.001).all()

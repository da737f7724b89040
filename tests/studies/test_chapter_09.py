"""Latencies of every module, and guides that come late or not at all: what is compared, what it costs."""

from typing import get_args

import numpy as np
import pandas as pd
import pytest
from tiny_language_model import tiny_language_model

from lbm_core.evaluation.runner import period_means
from lbm_core.evaluation.statistics import MIN_PERIODS
from lbm_core.lab.guided import Guide, Guided, guided_contender
from lbm_core.lab.lab import Lab
from lbm_core.lab.methods import method
from lbm_core.lab.tiers import tier
from lbm_core.report import results
from lbm_core.settings import TIER_NAMES
from lbm_core.studies import chapter_09
from lbm_core.think.config import Sampling
from lbm_core.think.delay import Delayed
from lbm_core.think.generate import Generation

SETTINGS = {"chapter9.guides": ("rule", "critic"), "chapter9.late": (1, 4), "chapter9.missing": (0.5,)}


class Evaluated(Lab):
    """Scores that fall from method to method, the same for the two advertisers of each period."""

    def evaluate(self, methods, **options):
        rows = [
            {
                "method": method(one).name,
                "period": period,
                "seed": 0,
                "advertiser": who,
                "expected_score": 100 + period - 3.0 * k,
                **dict.fromkeys(("cost", "conversions", "expected_conversions", "cpa_target", "cpa_ratio"), 1.0),
            }
            for k, one in enumerate(methods)
            for period in range(MIN_PERIODS)
            for who in range(2)
        ]
        return pd.DataFrame(rows).assign(train_seed=0, weights="0123456789", among=self.tier.evaluation.advertisers)


@pytest.mark.parametrize("name", TIER_NAMES)
def test_every_tier_asks_for_what_exists(name):
    guides = chapter_09.late_guides(Lab(tier(name)))
    assert len({guided.name for guided in guides}) == len(guides)
    assert {guided.guide for guided in guides} <= set(get_args(Guide))
    assert any(guided.late == 1 and not guided.missing for guided in guides), "Fig. 4's own setting"


def test_the_comparison_is_small_and_every_row_says_its_setting():
    studied = Evaluated(tier("laptop", SETTINGS))
    frame = chapter_09.late_guides_compared(studied)
    assert (frame["among"] == studied.tier.chapter9.advertisers).all()
    names = list(frame["method"].unique())
    assert names == ["LBM-Act + none", *(guided.name for guided in chapter_09.late_guides(studied))]
    for guide in ("rule", "critic"):
        ways = ["", ", late 1", ", late 4", ", every 4 ticks, late 4, hold", ", late 1, missing 0.5"]
        wanted = [f"LBM-Act + {guide}{way}" for way in (*ways, ", late 1, missing 0.5, hold")]
        assert [name for name in names if f"+ {guide}" in name] == wanted
    for row in frame.drop_duplicates("method").to_dict("records"):
        assert Guided(**{name: row[name] for name in chapter_09.SETTING}).name == row["method"]


def test_costs_are_paired_with_the_guide_without_delay_and_survive_recording(tmp_path):
    rows = chapter_09.late_guides_compared(Evaluated(tier("smoke", SETTINGS | {"chapter9.late": (2,)})))
    costs = chapter_09.costs(rows, np.random.default_rng(0))
    columns = ["mean", "difference", "low", "high", "relative", "periods", "verdict"]
    assert list(costs.columns) == [*chapter_09.SETTING, *columns]
    rule = costs[costs["guide"] == "rule"]
    assert rule["late"].tolist() == [0, 2, 2, 1, 1, 1]
    assert rule["missing"].tolist() == [0, 0, 0, 0.5, 0.5, 1.0]
    assert rule["hold"].tolist() == [False, False, True, False, True, False]
    assert rule["every"].tolist() == [1, 1, 2, 1, 1, 1]
    assert costs["guide"].tolist() == ["rule"] * 6 + ["critic"] * 6, "none is compared with each"
    assert np.isnan(rule["difference"].iloc[0])
    np.testing.assert_allclose(rule["difference"].iloc[1:], [-3.0, -6.0, -9.0, -12.0, 3.0])
    np.testing.assert_allclose(rule["mean"].iloc[0], 100 + (MIN_PERIODS - 1) / 2 - 3)
    assert rule["verdict"].iloc[1:].eq("open").all(), "one training"
    untrained = chapter_09.costs(rows.assign(weights=""), np.random.default_rng(0)).query("guide == 'rule'")
    assert untrained["verdict"].iloc[1:].tolist() == ["below"] * 4 + ["above"]
    results.record("asynchrony", period_means(rows), tier="smoke", dataset="dense", output=tmp_path)
    again = chapter_09.costs(results.load("asynchrony", "smoke", tmp_path), np.random.default_rng(0))
    pd.testing.assert_frame_equal(again, costs)


def test_a_delayed_guide_instructs_lbm_act(lab):
    """A setting becomes the wrapper, around its guide, with the training seed's luck."""
    delayed = Guided("random", every=4, late=2, missing=0.25, hold=True)
    assert delayed.name == "LBM-Act + random, every 4 ticks, late 2, missing 0.25, hold"
    bidder = guided_contender(lab.trained_with(1), delayed).make()
    source = bidder.guide_source
    assert isinstance(source, Delayed)
    assert (source.late, source.missing, source.until, source.every, source.seed) == (2, 0.25, "last", 4, 1)
    assert bidder.model.config.seed == 1
    assert not isinstance(guided_contender(lab, Guided("random")).make().guide_source, Delayed)
    assert not Guided("rule", every=2).delayed


class Slow:
    """Notes every call: texts at once, length limit, where a text ends."""

    def __init__(self):
        self.tokenizer = tiny_language_model().tokenizer
        self.calls: list[tuple[int, int, str]] = []

    def sample(self, prompts, n, sampling, seed):
        self.calls.append((len(prompts), sampling.max_new_tokens, sampling.stop))
        return [[Generation("text", 40, "stop", 0.1)] * n] * len(prompts)


def test_a_text_is_timed_in_parts_and_once_as_a_whole():
    writer, sampling = Slow(), Sampling(max_new_tokens=50, stop="!")
    rows = chapter_09.writing_times(writer, ["a", "b", "c", "d"], sampling, pd.Series([30, 40]), 0, 1)
    parts = [(1, 1, ""), (1, 1, ""), (1, 9, ""), (4, 1, ""), (4, 9, "")]
    assert writer.calls == [*parts, (1, 50, "!")], "one warm-up, then each part once"
    assert [(row["batch"], row["basis"]) for row in rows] == [
        (1, chapter_09.PUT_TOGETHER),
        (4, chapter_09.PUT_TOGETHER),
        (1, "whole text"),
    ]
    assert [row["tokens"] for row in rows] == [35, 35, 40]


def test_latencies_of_every_module(lab):
    several = lab.changed({"chapter9.batch": 4})
    frame, lengths = chapter_09.modules(several, repetitions=2)
    assert sorted(zip(frame["module"], frame["batch"], strict=True)) == sorted(
        [(module, batch) for module in ("critic", "LBM-Act", "LBM-Think") for batch in (1, 4)] + [("LBM-Think", 1)]
    )
    assert (frame["median_seconds"] > 0).all()
    assert (frame["p99_seconds"] >= frame["median_seconds"]).all()
    assert (frame["parameters"] > 0).all()
    assert len(lengths) == 3 * 2
    assert lengths["tokens"].between(1, 8).all()
    think = frame[frame["basis"] == chapter_09.PUT_TOGETHER]
    assert think[["prompt_seconds", "step_seconds"]].notna().all(axis=None)
    with pytest.raises(ValueError, match=r"chapter9\.batch"):
        chapter_09.modules(lab.changed({"chapter9.batch": 97}))

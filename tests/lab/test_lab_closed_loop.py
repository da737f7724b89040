"""The closed loop of a tier: every method and period kept on its own."""

from dataclasses import replace

import numpy as np
import pytest

from lbm_core import pipeline
from lbm_core.auction.bidder import N_ADVERTISERS
from lbm_core.evaluation.closed_loop import disagreement, groups
from lbm_core.evaluation.runner import spread_rows
from lbm_core.pipeline import contenders
from lbm_core.tiers import get_tier


def test_the_pipeline_keeps_every_method_and_period(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LBM_CACHE", str(tmp_path))
    tier = get_tier("smoke", data__evaluation_periods=2, evaluation__advertisers=3)
    methods, calls, real = ["behaviour", "constant", "pacing"], [], contenders.closed_loop

    def killed(bidders, *arguments, **options):
        calls.extend(bidders)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(bidders, *arguments, **options)

    monkeypatch.setattr(contenders, "closed_loop", killed)
    with pytest.raises(KeyboardInterrupt):
        pipeline.evaluate_closed_loop(tier, "dense", 0, methods)
    found = pipeline.evaluate_closed_loop(tier, "dense", 0, methods)
    assert calls == ["constant", "pacing", "pacing"], "the finished market is not run again"
    assert found.groupby("method", sort=False).size().to_dict() == dict.fromkeys(methods, 3)
    assert set(found["period"]) == {7}, "one of the two held-out days"
    assert found["advertiser"].unique().tolist() == spread_rows(3).tolist()
    capsys.readouterr()
    assert pipeline.evaluate_closed_loop(tier, "dense", 0, methods).equals(found)
    assert capsys.readouterr().out.endswith("2 closed loops of 2 methods (dense): loaded\n")
    replayed = pipeline.evaluate_methods(tier, "dense", 0, methods[1:])
    assert disagreement(replayed, found)["method"].unique().tolist() == methods[1:]
    for bad, message in ((["nothing"], "unknown method"), ([], "no method")):
        with pytest.raises(ValueError, match=message):
            pipeline.evaluate_closed_loop(tier, "dense", 0, bad)
    more = replace(tier, evaluation=replace(tier.evaluation, closed_loop_periods=3))
    with pytest.raises(ValueError, match="2 held-out periods"):
        pipeline.evaluate_closed_loop(more, "dense", 0, ["constant"])


def test_every_tier_asks_for_periods_it_has():
    for name in ("smoke", "laptop", "gpu", "paper"):
        tier = get_tier(name)
        assert 1 <= tier.evaluation.closed_loop_periods <= tier.data.evaluation_periods
        assert len(groups(spread_rows(tier.evaluation.advertisers), tier.evaluation.closed_loop_at_once)) in (1, 3, 8)
    assert len(groups(np.arange(N_ADVERTISERS), 1)) == 48

"""Does alpha move against the CPA? Decisions whose answer is known."""

from types import SimpleNamespace

import numpy as np
import pandas as pd

from lbm_core.auction.bidder import Advertisers
from lbm_core.evaluation.directions import direction_counts, moves, wrong_way


def test_direction_counts_split_by_sign_and_ratio_and_leave_out_what_did_not_move():
    samples = pd.DataFrame(
        {"model": "DT", "cpa_ratio": [0.5, 0.5, 2.0, 2.0, 2.0], "delta_a": [0.1, -0.1, -0.1, -0.2, 0.0]}
    )
    counts = direction_counts(samples).set_index(["delta_a", "cpa_ratio"])
    assert counts.loc[("increase", "below_1"), "count"] == 1
    assert counts.loc[("decrease", "above_1"), "count"] == 2
    assert counts.loc[("decrease", "above_1"), "share"] == 1
    assert counts["count"].sum() == 4


def test_moves_against_the_cpa():
    # Ten conversions at tick 0 for 50 (cheap) and 200 (dear), target 10; then up, the same, and down.
    alphas = np.array([[10.0, 11.0, 11.0, 9.0], [10.0, 11.0, 11.0, 9.0], [10.0, 11.0, 0.0, 9.0]])
    result = SimpleNamespace(
        advertisers=Advertisers(np.array([3, 5, 8]), np.full(3, 1e3), np.full(3, 10.0)),
        alphas=alphas,
        costs=np.array([[50.0, 0, 0, 0], [200.0, 0, 0, 0], [200.0, 0, 0, 0]]),
        conversions=np.array([[10.0, 0, 0, 0], [10.0, 0, 0, 0], [4.0, 0, 0, 0]]),
    )
    frame = moves(result)
    assert frame["advertiser"].tolist() == [3, 3, 3, 5, 5, 5], "too few conversions, and a tick without a bid"
    assert frame["tick"].tolist() == [1, 2, 3] * 2
    np.testing.assert_allclose(frame["cpa_ratio"], [0.5] * 3 + [2.0] * 3)
    assert frame["wrong_way"].tolist() == [False, False, True, True, False, False]
    shares = wrong_way(frame)
    np.testing.assert_allclose(shares, [1 / 3, 1 / 3, 3, 3])
    assert np.isnan(wrong_way(frame[frame["cpa_ratio"] < 1])["raised_above"])

"""The share of Fig. 3's gap that a control closes."""

import numpy as np
import pandas as pd
import pytest

from lbm_core.evaluation import loss_gap


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
    assert (row["closes"], row["differs"]) == ("above", "below")


def test_no_share_of_a_gap_that_may_be_nothing():
    unclear = loss_gap.final_losses(_losses([1.0, 0.5, 0.9], [0.8, 0.8, 0.8], [0.7, 0.8, 0.9]))
    row = loss_gap.share_closed(unclear, "LLM-DT + direction").iloc[0]
    assert np.isnan([row["low"], row["high"]]).all()
    assert (row["closes"], row["differs"]) == ("open", "open")
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

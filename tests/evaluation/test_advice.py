"""Before and after: every measure by hand, paired differences, answers per bin of the CPA ratio."""

import numpy as np
import pandas as pd
import pytest

from lbm_core.evaluation import advice

NAN = float("nan")


def _frame():
    columns = {
        "model": "pretrained",
        "moment": range(4),
        "cpa_ratio": [2.0, 0.5, NAN, 1.5],
        "direction": pd.array([-1, 1, 0, None], dtype="Int64"),
        "delta_a": [-0.1, -0.1, 0.0, 0.1],
        "relative_q": [0.2, -0.1, 0.0, 0.1],
        "critic_best": [-1, -1, 0, 1],
        "simulator_best": [-1.0, 1.0, NAN, 1.0],
        "status": ["accepted", "ratio wrong", "accepted", "no answer"],
        "ratio_error": [0.01, 0.5, NAN, NAN],
    }
    return pd.DataFrame(columns)


def test_every_measure_by_hand():
    measured = advice.measures(_frame())
    expected = {
        "answered": [1, 1, 1, 0],
        "hallucinated": [0, 1, NAN, 1],  # without a conversion there is no ratio to misstate
        "with the ratio": [1, 0, NAN, 0],
        "better than the log": [1, 0, 0, 1],
        "as the critic": [1, 0, 1, 0],
        "as the simulator": [1, 1, NAN, 0],  # no answer agrees with nobody
    }
    assert list(advice.MEASURES) == list(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(measured[name], values, err_msg=name)


def test_who_writes_nothing_neither_answers_nor_hallucinates():
    measured = advice.measures(_frame().assign(status=None))
    assert measured[["answered", "hallucinated"]].isna().all(axis=None)
    assert measured["as the critic"].notna().all()


def test_differences_are_paired_over_moments():
    rng = np.random.default_rng(0)
    base = rng.integers(2, size=40).astype(float)
    one = pd.DataFrame(dict.fromkeys(advice.MEASURES, base)).assign(model="pretrained", moment=range(40), train_seed=0)
    other = one.assign(model="GQPO", **{"as the critic": np.where(np.arange(40) < 20, 1.0, base)})
    other = other.iloc[::-1]  # the order of rows does not matter
    table = advice.before_and_after(pd.concat([one, other]), "pretrained", rng).set_index(["model", "measure"])
    changed = table.loc[("GQPO", "as the critic")]
    assert changed["difference"] == pytest.approx((20 - base[:20].sum()) / 40)
    assert changed["difference_low"] > 0
    assert table.loc[("GQPO", "answered"), "difference"] == 0
    assert pd.isna(table.loc[("pretrained", "answered"), "difference"])
    assert "verdict" not in table, "one training decides nothing"
    assert table.loc[("pretrained", "answered"), "mean"] == pytest.approx(base.mean())


def test_trainings_are_paired_and_their_luck_is_in_the_interval():
    rng, moments = np.random.default_rng(0), range(400)
    base = pd.DataFrame(dict.fromkeys(advice.MEASURES, rng.integers(2, size=400) * 0.5)).assign(moment=moments)
    gains = [0.0, 0.1, 0.5]
    before, after = (
        pd.concat(
            [
                base.assign(train_seed=k, model=model, **{"as the critic": base["as the critic"] + k + own})
                for k, own in enumerate(each)
            ]
        )
        for model, each in (("pretrained", [0.0] * 3), ("GQPO", gains))
    )
    control = before[before["train_seed"] == 1].assign(model="random")
    table = advice.before_and_after(pd.concat([before, after, control]), "pretrained", rng).set_index(
        ["model", "measure"]
    )
    learned, once = (table.loc[(model, "as the critic")] for model in ("GQPO", "random"))
    assert (learned["trainings"], once["trainings"], learned["moments"]) == (3, 1, 400)
    assert learned["difference"] == pytest.approx(0.2)
    assert learned["difference_low"] < 0, "three trainings that gain 0, 0.1 and 0.5 do not tell"
    assert once["difference"] == 0, "against the same training, not against the mean of all"


def test_a_few_moments_give_no_interval_and_a_missing_reference_is_refused():
    measured = advice.measures(_frame())
    table = advice.before_and_after(measured, "pretrained", np.random.default_rng(0))
    assert table["low"].isna().all()
    with pytest.raises(ValueError, match="no rows of 'DT'"):
        advice.before_and_after(measured, "DT", np.random.default_rng(0))


def test_what_a_coin_passes_by_hand():
    rows = [
        ("logged", m, d, q, 1)
        for m, qs in enumerate([(-0.1, 0.0, 0.2), (0.3, -0.1, 0.1)])
        for d, q in zip((-1, 0, 1), qs, strict=True)
    ]
    frame = pd.DataFrame(rows, columns=["source", "moment", "direction", "relative_q", "ruled"])
    shares = advice.coin_shares(frame, n=2).set_index("adviser")
    assert shares.loc["raise", "passes"] == 1
    assert shares.loc["lower", "passes"] == 0.5
    assert shares.loc["unsure", "passes"] == 0
    assert shares.loc["rule", "relative_q"] == shares.loc["raise", "relative_q"] == pytest.approx(0.15)
    assert shares.loc["critic", "chosen"] == pytest.approx(0.25)
    assert shares.loc["coin", "passes"] == 0.75
    # Two tosses: the better side is missed with probability 1/4, and at the first decision the other side fails.
    assert shares.loc["coin", "group"] == pytest.approx((0.75 + 1) / 2)
    gained = 0.75 * 0.2 + 0.75 * 0.3 + 0.25 * 0.1
    assert shares.loc["coin", "chosen"] == pytest.approx(gained / 1.75)

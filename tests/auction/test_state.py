"""The 16 state features against the published trajectories and a run of the public environment."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbm_core.auction.state import FEATURES, StateBuilder

DATA = Path(__file__).parents[1] / "known"


def test_states_of_the_public_environment_exactly():
    with np.load(DATA / "public_closed_loop.npz") as run:
        run = dict(run)
    builder = StateBuilder(run["budgets"])
    rows = run["state16_advertisers"]
    remaining_after = np.vstack([run["rem"][1:], run["rem"][-1:]])
    for tick in range(48):
        count = int(run["num"][tick])
        state = builder.state(run["pv"][tick], count)
        assert np.array_equal(state[rows], run["state16"][tick])
        builder.update(
            bid=run["bid"][tick],
            least_winning_cost=run["lwc"][tick],
            pvalue=run["pv"][tick],
            conversion_rate=run["conv"][tick] / count,
            win_rate=run["wins"][tick] / count,
            count=count,
            remaining=remaining_after[tick],
        )
    with pytest.raises(ValueError, match="period is over"):
        builder.state(run["pv"][0], 1)


def test_states_of_a_published_trajectory():
    """Feeds the tick means that the published states imply and asks for the published states back."""
    rows = pd.read_csv(DATA / "period14_advertiser0.csv")
    ticks = np.arange(48)
    of_tick = {name: np.diff(rows[f"historical_{name}_mean"] * ticks) for name in ("bid", "least_winning_cost", "win")}
    builder = StateBuilder([750.0])
    for tick in range(48):
        now = rows.iloc[tick]
        state = builder.state([now["current_pvalue_mean"]], int(now["current_pv_num"]))[0]
        np.testing.assert_allclose(state, now[list(FEATURES)].to_numpy(float), rtol=1e-9, atol=1e-14)
        if tick == 47:
            break
        # the published action is the mean bid over the mean p-value, the reward a count of conversions
        assert of_tick["bid"][tick] == pytest.approx(now["action"] * now["current_pvalue_mean"], abs=1e-13)
        builder.update(
            bid=of_tick["bid"][tick : tick + 1],
            least_winning_cost=of_tick["least_winning_cost"][tick],
            pvalue=[now["current_pvalue_mean"]],
            conversion_rate=[now["reward"] / now["current_pv_num"]],
            win_rate=of_tick["win"][tick : tick + 1],
            count=int(now["current_pv_num"]),
            remaining=[rows["budget_left"][tick + 1] * 750.0],
        )


@given(st.integers(0, 47), st.integers(0, 2**32 - 1))
def test_the_future_does_not_leak(changed_tick, seed):
    """Two days that differ from one tick on have equal states up to and including it."""
    rng = np.random.default_rng(seed)
    day = rng.random((48, 5, 3))
    other = day.copy()
    other[changed_tick:] += 1 + rng.random(other[changed_tick:].shape)
    before, after = _states(day), _states(other)
    assert np.array_equal(before[: changed_tick + 1], after[: changed_tick + 1])
    if changed_tick < 47:
        assert not np.array_equal(before[changed_tick + 1], after[changed_tick + 1])


def _states(day):
    builder = StateBuilder([10.0, 20.0, 30.0])
    states = []
    for bid, cost, pvalue, conversion, win in day:
        states.append(builder.state([0.1, 0.2, 0.3], 100))
        builder.update(
            bid=bid,
            least_winning_cost=cost,
            pvalue=pvalue,
            conversion_rate=conversion,
            win_rate=win,
            count=100,
            remaining=builder.remaining - bid / 100,
        )
    return np.array(states)


@pytest.mark.parametrize("budget", [[0.0], [-1.0], [np.nan], [[1.0]], [np.inf]])
def test_bad_budgets_are_refused(budget):
    with pytest.raises(ValueError, match="budget"):
        StateBuilder(budget)

"""Be the bidder, and the pages of LBM-Think's advice: the rules, and the widgets driven by code."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from small_period import small_period

from lbm_core.auction.bidder import N_TICKS
from lbm_core.auction.controls import ConstantAlpha, ScheduledAlpha
from lbm_core.auction.replay import replay
from lbm_core.report.widgets import BiddingGame, GameBoard, day_frame, example, inspector, page
from lbm_core.seeding import generator

SCRIPT = [0.8 + 0.01 * tick for tick in range(N_TICKS)]


@pytest.fixture(scope="module")
def period():
    return small_period(budget=30.0)


def test_a_day_played_tick_by_tick_is_the_day_replayed_at_once(period):
    game = BiddingGame(period, 2, seed=3)
    for tick, multiple in enumerate(SCRIPT):
        assert game.tick == tick
        game.play([multiple])
    assert game.tick == N_TICKS
    alphas = period.advertisers.cpa_target[2] * np.array([SCRIPT])
    at_once = replay(period, ScheduledAlpha(alphas), generator(3, "evaluation", period.period), rows=[2])
    assert np.array_equal(game.player.costs, at_once.costs)
    assert np.array_equal(game.player.conversions, at_once.conversions)
    standing = game.standing()
    assert list(standing.index) == ["you", "PID"]
    assert standing.loc["you", "score"] == at_once.summary()["score"][0]
    assert standing.loc["PID", "score"] == game.opponent.summary()["score"][0]


def test_later_bids_do_not_change_what_is_past(period):
    game = BiddingGame(period, 0)
    game.play(SCRIPT[:10])
    before = game.frame()
    assert len(before) == 20
    game.play([3.0])
    after = game.frame()
    same = after[after["tick"] < 10].reset_index(drop=True)
    assert before.equals(same)


def test_both_bidders_have_the_same_luck(period):
    game = BiddingGame(period, 1)
    game.play(game.opponent.alphas[0] / period.advertisers.cpa_target[1])
    assert np.array_equal(game.player.conversions, game.opponent.conversions)
    assert np.array_equal(game.player.costs, game.opponent.costs)


def test_a_frame_ends_its_bids_with_the_budget(period):
    result = replay(period, ConstantAlpha(5.0), generator(0, "evaluation"), rows=[0])
    frame = day_frame(result, "spender")
    assert frame["budget_left"].iloc[-1] == pytest.approx(0.0, abs=0.01)
    played = frame["multiple"].notna()
    assert played.iloc[0]
    assert not played.iloc[-1]
    np.testing.assert_allclose(frame.loc[played, "multiple"], 5.0)
    assert frame["conversions"].is_monotonic_increasing
    assert frame["cpa_ratio"].isna().equals(frame["conversions"] == 0)


@pytest.mark.parametrize("multiple", [-0.1, np.nan, np.inf])
def test_a_bad_bid_is_refused_and_costs_no_tick(period, multiple):
    game = BiddingGame(period, 0)
    with pytest.raises(ValueError, match="finite number"):
        game.play([1.0, multiple])
    assert game.tick == 0


def test_no_bid_after_the_end(period):
    game = BiddingGame(period, 0)
    game.play([1.0] * N_TICKS)
    with pytest.raises(RuntimeError, match="over"):
        game.play([1.0])


def test_the_board_is_played_with_slider_and_buttons(period):
    game = BiddingGame(period, 4)
    board = GameBoard(game)
    first = bytes(board.picture.value)
    assert first.startswith(b"\x89PNG")
    assert "Tick 0 of 48" in board.line.value
    for value in (0.5, 1.25):
        board.slider.value = value
        board.next_tick.click()
    assert game.multiples == [0.5, 1.25]
    assert "Tick 2 of 48" in board.line.value
    assert bytes(board.picture.value) != first
    board.finish.click()
    assert game.multiples[2:] == [1.25] * (N_TICKS - 2)
    assert board.next_tick.disabled
    assert board.finish.disabled
    assert "over" in board.line.value
    board.next_tick.click()  # a click that was under way when the day ended
    assert game.tick == N_TICKS


def test_drawn_shows_both_bidders(period):
    game = BiddingGame(period, 0)
    game.play(SCRIPT)
    figure = game.drawn()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["you", "PID"]
    assert len(figure.axes) == 4


RAISE = "CPA ratio <ratio>0.9</ratio>, so raise. <answer>1</answer>"


@pytest.fixture
def advice():
    """One followed and accepted that moved little, one followed that moved more, and one that cannot be read."""
    rows = pd.DataFrame({"advertiser": [7, 3, 3], "tick": [12, 12, 24], "text": [RAISE, RAISE, "<answer>?</answer>"]})
    rows = rows.assign(facts="a budget of 10", true_ratio=[0.9, 2.0, np.nan], ratio=[0.9, 0.9, np.nan])
    rows = rows.assign(direction=[1.0, 1.0, np.nan], check=["accepted", "ratio wrong", "no answer"])
    rows = rows.assign(followed=[True, True, False], guide=["increase", "increase", "uncertain"], cpa_target=8.0)
    rows = rows.assign(
        alpha_before=8.0, alpha_without=8.0, alpha_with=[8.4, 10.0, 8.0], cost_with=5.0, cost_without=4.0
    )
    return rows.assign(conversions_with=1.0, conversions_without=0.5, score_with=2.0, score_without=1.5)


def test_the_example_is_followed_and_if_possible_accepted(advice):
    assert example(advice)["check"] == "accepted"
    assert example(advice.iloc[1:])["followed"]


def test_a_page_has_every_part(advice):
    text = page(advice.iloc[0])
    for part in ("ADVERTISER 7, TICK 12", RAISE, "instruction: increase", "0.9 (true: 0.9); answer 1 (raise)", "+0.50"):
        assert part in text
    assert "with the advice 1.05, without 1.00" in text
    assert "ratio none (true: undefined); answer none; check: no answer" in page(advice.iloc[2])


def test_the_inspector_shows_the_page_that_is_chosen(advice):
    menu, shown = inspector(advice).children
    assert "ADVERTISER 7, TICK 12" in shown.value, "it begins with the example"
    assert [name for name, _ in menu.options] == [
        "advertiser 3, tick 12",
        "advertiser 3, tick 24",
        "advertiser 7, tick 12",
    ]
    menu.value = 1
    assert "ADVERTISER 3, TICK 24" in shown.value
    assert "&lt;answer&gt;?" in shown.value, "tags are shown, not obeyed"

"""Guides that come late or not at all."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from lbm_core.act.guides import UNCERTAIN
from lbm_core.auction.bidder import Advertisers, Observation
from lbm_core.think.delay import Delayed, lost

WHO = Advertisers(np.array([2, 7, 11, 40]), np.full(4, 100.0), np.full(4, 10.0))


def at(tick: int, impressions: int = 9_000, who: Advertisers = WHO) -> Observation:
    states = np.zeros((len(who), tick + 1, 16))
    states[:, :, 13] = impressions
    return Observation(tick, states, *np.ones((3, len(who), tick)))


def names_its_tick(observation: Observation, advertisers: Advertisers) -> list[str]:
    return [f"{number} asked at {observation.tick}" for number in advertisers.index]


@pytest.mark.parametrize("late", [0, 1, 3])
def test_words_arrive_so_many_ticks_later(late):
    guide = Delayed(names_its_tick, late)
    for tick in range(1, 10):
        guides = guide(at(tick), WHO)
        question = tick - late
        assert guides == (names_its_tick(at(question), WHO) if question >= 1 else [UNCERTAIN] * 4)


def test_the_source_knows_nothing_of_later_ticks():
    seen: list[tuple[int, int]] = []

    def noted(observation, advertisers):
        seen.append((observation.tick, observation.alphas.shape[1]))
        return names_its_tick(observation, advertisers)

    guide = Delayed(noted, 2)
    for tick in range(1, 6):
        guide(at(tick), WHO)
    assert seen == [(tick, tick) for tick in range(1, 6)]


@pytest.mark.parametrize(("until", "fourth", "fifth"), [("uncertain", 2, None), ("last", 2, 2)])
def test_a_busy_machine_asks_at_every_kth_tick_only(until, fourth, fifth):
    guide = Delayed(names_its_tick, 2, until=until, every=2)
    guides = {tick: guide(at(tick), WHO) for tick in range(1, 7)}
    assert guides[1] == guides[2] == guides[3] == [UNCERTAIN] * 4
    assert guides[4] == names_its_tick(at(fourth), WHO)
    assert guides[5] == ([UNCERTAIN] * 4 if fifth is None else names_its_tick(at(fifth), WHO))
    assert guides[6] == names_its_tick(at(4), WHO)


def test_a_new_day_holds_nothing_of_the_last():
    guide = Delayed(names_its_tick, 1, until="last")
    for tick in range(1, 5):
        guide(at(tick), WHO)
    assert guide(at(1), WHO) == [UNCERTAIN] * 4
    assert guide(at(2), WHO) == names_its_tick(at(1), WHO)


def test_missing_words_are_uncertain_or_the_last_that_came():
    for until in ("uncertain", "last"):
        guide = Delayed(names_its_tick, 1, 0.5, until, seed=3)
        held = [UNCERTAIN] * 4
        gone = 0
        for tick in range(1, 40):
            guides = guide(at(tick), WHO)
            if tick == 1:
                continue
            never = lost(at(tick), WHO, tick - 1, 0.5, 3)
            gone += never.sum()
            fresh = names_its_tick(at(tick - 1), WHO)
            instead = held if until == "last" else [UNCERTAIN] * 4
            held = [old if no else new for no, old, new in zip(never, held, fresh, strict=True)]
            assert guides == [other if no else new for no, other, new in zip(never, instead, fresh, strict=True)]
        assert 0.3 < gone / (38 * 4) < 0.7


def test_nothing_goes_missing_at_0_and_everything_at_1():
    always, never = Delayed(names_its_tick, 0, 0.0), Delayed(names_its_tick, 0, 1.0, "last")
    for tick in range(1, 6):
        assert always(at(tick), WHO) == names_its_tick(at(tick), WHO)
        assert never(at(tick), WHO) == [UNCERTAIN] * 4


def test_what_goes_missing_is_common_to_all_settings():
    shares = [lost(at(5), WHO, 5, share, 0) for share in (0.1, 0.4, 0.8)]
    for less, more in itertools.pairwise(shares):
        assert (less <= more).all(), "missing at one share, missing at every larger one"
    everyone = Advertisers(np.arange(48), np.full(48, 100.0), np.full(48, 10.0))
    among_all = lost(at(5, who=everyone), everyone, 5, 0.5, 0)
    assert np.array_equal(lost(at(5), WHO, 5, 0.5, 0), among_all[WHO.index]), "whoever else bids"
    other_day = [lost(at(t, 8_000, everyone), everyone, t, 0.5, 0) for t in range(1, 9)]
    same_day = [lost(at(t, 9_000, everyone), everyone, t, 0.5, 0) for t in range(1, 9)]
    assert not np.array_equal(other_day, same_day)
    assert not np.array_equal(same_day[0], same_day[1])


@pytest.mark.parametrize(
    "wrong", [{"late": -1}, {"late": 48}, {"missing": 1.1}, {"missing": np.nan}, {"until": "ever"}, {"every": 0}]
)
def test_bad_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Delayed(names_its_tick, **wrong)

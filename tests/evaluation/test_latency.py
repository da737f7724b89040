"""Latencies of a made-up machine, whose answers can be worked out."""

from __future__ import annotations

import time

import numpy as np
import pytest

from lbm_core.evaluation.latency import (
    WritingSpeed,
    advertisers_served,
    late_share,
    load_per_core,
    measure,
    percentiles,
)

SPEED = WritingSpeed(batch=4, prompt_seconds=1.0, step_seconds=0.1)


def rng():
    return np.random.default_rng(0)


def test_measure_counts_calls_and_orders_percentiles():
    calls = []
    timed = measure(lambda: calls.append(1), repetitions=7, warm_up=2)
    assert len(calls) == 9
    assert 0 < timed["median_seconds"] <= timed["p90_seconds"] <= timed["p99_seconds"]
    assert timed["repetitions"] == 7
    with pytest.raises(ValueError, match="repetitions"):
        measure(lambda: None, repetitions=0)


def test_percentiles():
    assert percentiles(np.arange(101)) == {"median_seconds": 50, "p90_seconds": 90, "p99_seconds": 99}


def test_speed_is_taken_apart_into_prompts_and_steps():
    lengths = []

    def write(tokens):
        lengths.append(tokens)
        time.sleep(0.02 + 0.004 * tokens)

    speed = WritingSpeed.measured(write, 3, repetitions=3)
    assert lengths == [1] * 4 + [9] * 3
    assert speed.batch == 3
    assert speed.prompt_seconds == pytest.approx(0.024, rel=0.5)
    assert speed.step_seconds == pytest.approx(0.004, rel=0.5)


def test_a_batch_waits_for_its_longest_text():
    assert SPEED.seconds(1) == 1.0
    assert SPEED.seconds(11) == pytest.approx(2.0)
    lengths = [1] * 3 + [11]
    seconds = SPEED.batch_seconds(lengths, rng(), draws=20_000)
    assert set(np.round(seconds, 6)) == {1.0, 2.0}
    assert np.mean(seconds == seconds.max()) == pytest.approx(1 - 0.75**4, abs=0.01)
    alone = WritingSpeed(1, 1.0, 0.1).batch_seconds(lengths, rng(), draws=20_000)
    assert np.mean(alone > 1.5) == pytest.approx(0.25, abs=0.01)


def test_advertisers_that_a_machine_keeps_up_with():
    assert advertisers_served(SPEED, [11], rng(), interval=10.0) == 5 * 4, "five batches of two seconds"
    assert advertisers_served(SPEED, [11], rng(), interval=9.99) == 4 * 4
    assert advertisers_served(SPEED, [11], rng(), interval=1.9) == 0
    mixed = advertisers_served(SPEED, [1] * 50 + [11] * 50, rng(), interval=100.0)
    longest = advertisers_served(SPEED, [11], rng(), interval=100.0)
    shortest = advertisers_served(SPEED, [1], rng(), interval=100.0)
    assert longest <= mixed < shortest


def test_who_is_late_where_there_are_too_many():
    assert late_share(SPEED, [11], 20, rng(), interval=10.0) == 0.0
    assert late_share(SPEED, [11], 24, rng(), interval=10.0) == pytest.approx(4 / 24)
    assert late_share(SPEED, [11], 21, rng(), interval=10.0) == pytest.approx(1 / 21), "a last batch of one"
    served = advertisers_served(SPEED, [1, 3, 11], rng(), interval=60.0)
    assert late_share(SPEED, [1, 3, 11], served, rng(), interval=60.0) < 0.01


def test_bad_input_is_refused():
    for wrong in ((0, 1.0, 0.1), (1, 0.0, 0.1), (1, 1.0, -0.1), (1, 1.0, np.nan)):
        with pytest.raises(ValueError, match="WritingSpeed"):
            WritingSpeed(*wrong)
    for wrong in ([], [0.0], [np.nan]):
        with pytest.raises(ValueError, match="observed lengths"):
            SPEED.batch_seconds(wrong, rng())
    with pytest.raises(ValueError, match="interval"):
        advertisers_served(SPEED, [5], rng(), interval=0.0)


def test_the_load_is_that_of_the_machine(monkeypatch):
    monkeypatch.setattr("os.getloadavg", lambda: (6.0, 1.0, 1.0), raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    assert load_per_core() == 1.5
    monkeypatch.delattr("os.getloadavg")
    assert np.isnan(load_per_core())

"""Damaged inputs for every reader, a few thousand of them; and the fuzzer itself."""

import random

import fuzz
import pytest


@pytest.mark.parametrize("name", fuzz.TARGETS)
def test_readers_refuse_what_they_cannot_read(name):
    inputs = max(10, round(4_000 * fuzz.TARGETS[name][0]))
    _, found = fuzz.run(name, inputs, seed=1)
    assert not found


def test_the_fuzzer_finds_what_it_looks_for(monkeypatch):
    def bad(rng: random.Random, _):
        kind = rng.randrange(3)
        if kind == 0:
            raise KeyError("x")
        if kind == 1:
            raise ValueError("no file named")
        while True:
            pass

    monkeypatch.setattr(fuzz, "SECONDS", 0.05)
    monkeypatch.setitem(fuzz.TARGETS, "bad", (0.0, bad, "a.csv"))
    refused, found = fuzz.run("bad", 12, seed=0)
    assert len(found) == 12
    assert {line.split(": ")[1] for line in found} == {"KeyError", "ValueError does not say where", "no end in time"}
    assert refused > 0

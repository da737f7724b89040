"""Parsing a chain of thought: a gallery of what language models write, and properties."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbm_core.think.parse import ANSWER_FAILURES, CASES, Status, parse, read_number, stated_direction

GOOD = "The CPA ratio is <ratio>0.66</ratio>. Hence <answer>1</answer>"


@pytest.mark.parametrize("case", CASES, ids=[f"{case.kind}: {case.name}" for case in CASES])
def test_gallery(case):
    parsed = case.read()
    assert parsed.status is case.status
    assert parsed.direction == case.direction
    assert parsed.accepted == (case.status is Status.ACCEPTED)
    assert parsed.contradiction == case.contradiction
    # Without the ratio's check, exactly the failures of the answer remain.
    assert case.read(ratio_required=False).status is (
        case.status if case.status in ANSWER_FAILURES else Status.ACCEPTED
    )


def test_the_gallery_tries_every_status_and_names_no_case_twice():
    assert {case.status for case in CASES} == set(Status)
    assert len({(case.kind, case.name) for case in CASES}) == len(CASES)


def test_a_generation_cut_off_before_its_answer_is_truncated_but_a_complete_one_is_not():
    assert parse("First, I", 0.66, truncated=True).status is Status.TRUNCATED
    assert parse(GOOD + " and then", 0.66, truncated=True).accepted


def test_ratio_error_is_relative_and_kept_for_rejected_chains():
    assert parse("<ratio>1.5</ratio>", 1.0).ratio_error == pytest.approx(0.5)
    assert parse(GOOD, 0.66).ratio_error == pytest.approx(0.0)
    assert math.isnan(parse("<ratio>1.5</ratio>", math.nan).ratio_error)
    assert math.isnan(parse("<answer>1</answer>", 1.0).ratio_error)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.66", 0.66),
        (" .66 ", 0.66),
        ("0.66.", 0.66),
        ("66 %", 0.66),
        ("1,234", 1234.0),
        ("1,23", None),
        ("1e-1", 0.1),
        ("+2", 2.0),
        ("about 0.66", None),
        ("a = b = 3", None),
        ("", None),
    ],
)
def test_read_number(text, value):
    assert read_number(text) == (None if value is None else pytest.approx(value))


@pytest.mark.parametrize(
    ("text", "direction"),
    [
        ("I recommend increasing the bidding parameters.", 1),
        ("We should lower the bid.", -1),
        ("Reduce the current bidding parameter; raising bids is costly.", 1),
        ("We should not increase the bidding parameter. Lowering the alpha is better.", -1),
        ("Lowering the alpha is better. Do not increase the bidding parameter.", -1),
        ("The budget decreases over time.", None),
        ("Raise the bids? No direction is clearly better for the bidding parameter.", 0),
        ("We can't tell.", 0),
        ("", None),
    ],
)
def test_stated_direction(text, direction):
    assert stated_direction(text) == direction


def test_contradiction_between_reasoning_and_answer():
    up, down = "It is best to increase the bidding parameter. ", "It is best to lower the bidding parameter. "
    assert parse(up + "<answer>-1</answer>", 1.0).contradiction
    assert parse(down + "<answer>1</answer>", 1.0).contradiction
    assert not parse(up + "<answer>1</answer>", 1.0).contradiction
    assert not parse(up + "<answer>0</answer>", 1.0).contradiction
    assert not parse("<answer>1</answer>", 1.0).contradiction
    assert not parse(up, 1.0).contradiction


@given(st.sampled_from([-1, 0, 1]), st.floats(0.01, 100), st.floats(0, 0.2), st.floats(-0.3, 0.3))
def test_accepted_exactly_when_the_ratio_is_within_tolerance(direction, true, tolerance, error):
    stated = true * (1 + error)
    parsed = parse(f"ok <ratio>{stated!r}</ratio> so <answer>{direction}</answer>", true, tolerance)
    assert parsed.direction == direction
    assert parsed.ratio == stated
    if abs(abs(error) - tolerance) > 1e-9:  # at the very edge rounding decides
        assert parsed.accepted == (abs(error) < tolerance)


@given(st.text(alphabet="<>/ratioanswer -+01.,%=()\n", max_size=80), st.booleans(), st.booleans())
def test_any_text_gets_a_status_and_only_accepted_text_all_parts(text, ratio_required, truncated):
    parsed = parse(text, 0.7, ratio_required=ratio_required, truncated=truncated)
    if parsed.accepted:
        assert parsed.direction in (-1, 0, 1)
        assert not ratio_required or parsed.ratio_error <= 0.03 + 1e-9
    if parsed.status in ANSWER_FAILURES:
        assert parsed.direction is None


@pytest.mark.parametrize("arguments", [(1.0, -0.1), (1.0, math.nan), (math.inf, 0.03)])
def test_bad_arguments_are_refused(arguments):
    with pytest.raises(ValueError, match=r"tolerance|infinite"):
        parse(GOOD, *arguments)

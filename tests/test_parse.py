"""Parsing a chain of thought: a gallery of what language models write, and properties."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbm_core.think.parse import ANSWER_FAILURES, Status, parse, read_number, stated_direction

GOOD = "The CPA ratio is <ratio>0.66</ratio>. Hence <answer>1</answer>"

# text, true ratio, expected status, expected direction
GALLERY = {
    "plain": (GOOD, 0.6698, Status.ACCEPTED, 1),
    "tags with spaces": ("< ratio > 0.66 </ ratio > < answer > -1 </ answer >", 0.66, Status.ACCEPTED, -1),
    "newlines inside tags": ("<ratio>\n0.66\n</ratio>\n<answer>\n0\n</answer>", 0.66, Status.ACCEPTED, 0),
    "plus sign": ("<ratio>0.66</ratio><answer>+1</answer>", 0.66, Status.ACCEPTED, 1),
    "unicode minus": ("<ratio>0.66</ratio><answer>−1</answer>", 0.66, Status.ACCEPTED, -1),
    "float answer": ("<ratio>0.66</ratio><answer>-1.0</answer>", 0.66, Status.ACCEPTED, -1),
    "percent": ("<ratio>66%</ratio><answer>0</answer>", 0.66, Status.ACCEPTED, 0),
    "calculation in brackets": ("<ratio>0.66 (5.386 / 8.0)</ratio><answer>1</answer>", 0.67, Status.ACCEPTED, 1),
    "calculation with equals sign": ("<ratio>5.386 / 8.0 = 0.673</ratio><answer>1</answer>", 0.67, Status.ACCEPTED, 1),
    "thousands": ("<ratio>1,234.5</ratio><answer>-1</answer>", 1234.5, Status.ACCEPTED, -1),
    "answer before ratio": ("<answer>1</answer><ratio>0.66</ratio>", 0.66, Status.ACCEPTED, 1),
    "text after the answer": (GOOD + " Good luck!", 0.66, Status.ACCEPTED, 1),
    "just inside 3 %": ("<ratio>1.03</ratio><answer>1</answer>", 1.0, Status.ACCEPTED, 1),
    "just outside 3 %": ("<ratio>1.031</ratio><answer>1</answer>", 1.0, Status.WRONG_RATIO, 1),
    "empty": ("", 0.66, Status.NO_ANSWER, None),
    "no tags": ("I would raise the bids. Answer: 1", 0.66, Status.NO_ANSWER, None),
    "closing tag alone": ("<ratio>0.66</ratio> 1</answer>", 0.66, Status.NO_ANSWER, None),
    "unfinished answer": ("<ratio>0.66</ratio><answer>1", 0.66, Status.TRUNCATED, None),
    "upper case is another tag": ("<ratio>0.66</ratio><ANSWER>1</ANSWER>", 0.66, Status.NO_ANSWER, None),
    "two answers": (GOOD + "<answer>1</answer>", 0.66, Status.SEVERAL_ANSWERS, None),
    "echoed options": (
        "<ratio>0.66</ratio><answer>1</answer> or <answer>-1</answer>",
        0.66,
        Status.SEVERAL_ANSWERS,
        None,
    ),
    "second answer unfinished": (GOOD + " so <answer>", 0.66, Status.SEVERAL_ANSWERS, None),
    "empty answer": ("<ratio>0.66</ratio><answer></answer>", 0.66, Status.BAD_ANSWER, None),
    "answer two": ("<ratio>0.66</ratio><answer>2</answer>", 0.66, Status.BAD_ANSWER, None),
    "answer in words": ("<ratio>0.66</ratio><answer>increase</answer>", 0.66, Status.BAD_ANSWER, None),
    "answer with a reason": ("<ratio>0.66</ratio><answer>1 (increase)</answer>", 0.66, Status.BAD_ANSWER, None),
    "fractional answer": ("<ratio>0.66</ratio><answer>0.5</answer>", 0.66, Status.BAD_ANSWER, None),
    "list of answers": ("<ratio>0.66</ratio><answer>-1, 0, 1</answer>", 0.66, Status.BAD_ANSWER, None),
    "no ratio": ("Raise it. <answer>1</answer>", 0.66, Status.NO_RATIO, 1),
    "unfinished ratio": ("<ratio>0.66 <answer>1</answer>", 0.66, Status.NO_RATIO, 1),
    "two ratios": ("<ratio>0.66</ratio>" + GOOD, 0.66, Status.SEVERAL_RATIOS, 1),
    "ratio in words": ("<ratio>low</ratio><answer>1</answer>", 0.66, Status.BAD_RATIO, 1),
    "empty ratio": ("<ratio></ratio><answer>1</answer>", 0.66, Status.BAD_RATIO, 1),
    "ratio nan": ("<ratio>nan</ratio><answer>1</answer>", 0.66, Status.BAD_RATIO, 1),
    "ratio infinite": ("<ratio>1e999</ratio><answer>1</answer>", 0.66, Status.BAD_RATIO, 1),
    "two numbers": ("<ratio>0.66 0.67</ratio><answer>1</answer>", 0.66, Status.BAD_RATIO, 1),
    "formula without result": ("<ratio>5.386 / 8.0</ratio><answer>1</answer>", 0.673, Status.BAD_RATIO, 1),
    "negative ratio": ("<ratio>-0.66</ratio><answer>1</answer>", 0.66, Status.WRONG_RATIO, 1),
    "inverted ratio": ("<ratio>1.5</ratio><answer>1</answer>", 1 / 1.5, Status.WRONG_RATIO, 1),
    "nothing spent": ("<ratio>0</ratio><answer>1</answer>", 0.0, Status.UNDEFINED_RATIO, 1),
    "no conversion yet": ("<ratio>0.66</ratio><answer>1</answer>", math.nan, Status.UNDEFINED_RATIO, 1),
}


@pytest.mark.parametrize(("text", "true", "status", "direction"), GALLERY.values(), ids=GALLERY.keys())
def test_gallery(text, true, status, direction):
    parsed = parse(text, true)
    assert parsed.status is status
    assert parsed.direction == direction
    assert parsed.accepted == (status is Status.ACCEPTED)
    # Without the ratio's check, exactly the failures of the answer remain.
    lenient = parse(text, true, ratio_required=False)
    assert lenient.status is (status if status in ANSWER_FAILURES else Status.ACCEPTED)


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

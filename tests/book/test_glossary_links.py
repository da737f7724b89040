"""The book links the first mention of each glossary term in a chapter, and only in prose."""

from __future__ import annotations

import importlib.util

import pytest

from lbm_core import paths

ROOT = paths.project_root()


@pytest.fixture(scope="module")
def build():
    spec = importlib.util.spec_from_file_location("book_build", ROOT / "docs/book/build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def anchors(build):
    return build.terms((ROOT / "notebooks/glossary.md").read_text(encoding="utf-8"))


def test_terms_have_the_anchors_of_their_headings(anchors):
    assert anchors["relative-q"] == "relative-q"
    assert anchors["implicit q-learning"] == "implicit-q-learning-iql"
    assert "check" not in anchors  # "Check (of a text)"
    assert len(anchors) > 100


def test_only_the_first_mention_links_with_its_plural_and_the_longest_term_wins(build, anchors):
    texts = ["Budgets and a budget.", "The CPA ratio, CPA and a CPA ratio; budgetary, low-budget."]
    assert build.mentioned(texts, anchors) == [
        "[Budgets](glossary.md#budget) and a budget.",
        "The [CPA ratio](glossary.md#cpa-ratio), [CPA](glossary.md#cpa) and a CPA ratio; budgetary, low-budget.",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "# The critic",
        "| critic | a |",
        "`critic` and ```\nthe critic\n```",
        "$critic$ and $$\ncritic\n$$",
        "[the critic](03_critic.ipynb)",
        "![critic](critic.png)",
        "<summary>the critic</summary>",
        '<a title="critic">',
    ],
)
def test_code_mathematics_headings_tables_and_links_stay(build, anchors, text):
    assert build.mentioned([text], anchors) == [text]
    assert build.mentioned([f"{text}\nA critic."], anchors) == [f"{text}\nA [critic](glossary.md#critic)."]

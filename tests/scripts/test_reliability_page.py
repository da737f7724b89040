"""What was done to break it: the page is what its record gives, and the mutants are what they say."""

import ast
import json

import kills
import mutants
import reliability


def test_the_page_is_what_the_record_gives():
    known = json.loads(reliability.RECORD.read_text())
    assert reliability.PAGE.read_text() == reliability.page(known)
    assert sum(row["inputs"] for row in known["fuzz"]) >= 100_000
    assert all(row["equal"] == row["tried"] for row in known["kills"])
    assert set(kills.works(reliability.DOCS)) == {row["job"] for row in known["kills"] if row["fault"] == "kill"}


def test_a_row_of_the_record_takes_the_place_of_its_key(tmp_path):
    file = tmp_path / "record.json"
    for counts in (1, 2), (3,):
        reliability.record("fuzz", [{"reader": f"of {k}", "inputs": k} for k in counts], "reader", file)
    reliability.record("fuzz", [{"reader": "of 1", "inputs": 9}], "reader", file)
    rows = json.loads(file.read_text())["fuzz"]
    assert [(row["reader"], row["inputs"]) for row in rows] == [("of 1", 9), ("of 2", 2), ("of 3", 3)]


def test_every_kind_of_change_is_made():
    text = "def f(a: int | None = 1) -> bool:\n    '''1'''\n    return not a < -2 and min(a, 3) == [a, 4]\n"
    tree = ast.parse(text)
    words = [words for _, words, _ in mutants.changes(tree)]
    assert words == [
        "1: 2",
        "not a < -2 and min(a, 3) == [a, 4]: Or",
        "not a < -2: without its sign",
        "a < -2: LtE",
        "-2: without its sign",
        "2: 3",
        "min(a, 3) == [a, 4]: NotEq",
        "min: max",
        "3: 4",
        "[a, 4]: without the first",
        "4: 5",
    ]
    made = []
    for number in range(len(words)):
        tree = ast.parse(text)
        [change for _, _, change in mutants.changes(tree)][number]()
        made.append(ast.unparse(mutants._Bare().visit(tree)))
    assert len({*made, ast.unparse(ast.parse(text))}) == len(words) + 1

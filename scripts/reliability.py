"""docs/reliability.md from docs/reliability.json: `python scripts/reliability.py`.

The scripts fuzz.py, kills.py and mutants.py add what they found with `--record`; a row replaces the one before it. With
`--coverage` or `--python` this one first records what `coverage json` or `pytest --junitxml` wrote.
"""

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pandas as pd

from lbm_core import paths
from lbm_core.files import alone, writing_file
from lbm_core.report.results import commit

DOCS = paths.project_root() / "docs"
RECORD, PAGE = DOCS / "reliability.json", DOCS / "reliability.md"


def record(part: str, rows: Sequence[dict[str, Any]], key: str | Sequence[str], file: Path = RECORD) -> None:
    """Add rows to a part of the record, each with the commit it was made at, in the place of those of the same key."""
    keys = [key] if isinstance(key, str) else list(key)
    with alone(file.parent):
        known = json.loads(file.read_text()) if file.is_file() else {}
        merged = {tuple(row[name] for name in keys): row for row in known.get(part, [])}
        merged |= {tuple(row[name] for name in keys): {**row, "commit": commit()} for row in rows}
        known[part] = [merged[name] for name in sorted(merged, key=str)]
        with writing_file(file) as temporary:
            temporary.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")


def _table(rows: Sequence[dict[str, Any]], columns: dict[str, str]) -> str:
    frame = pd.DataFrame(rows)[list(columns)].rename(columns=columns)
    numbers = {name: frame[name].map("{:,}".format) for name in frame.select_dtypes("integer")}
    aligned = ["right" if name in numbers else "left" for name in frame]
    return frame.assign(**numbers).to_markdown(index=False, colalign=aligned, disable_numparse=True)


def _ended(row: dict[str, Any]) -> str:
    """What became of the work under a fault."""
    if row["fault"] == "twice":
        return f"both whole in {row['told']}"
    untold = f", {row['during'] - row['told']} otherwise" if row["told"] < row["during"] else ""
    return f"{row['told']} told in a sentence, {row['tried'] - row['during']} whole{untold}"


def _kills(rows: list[dict[str, Any]]) -> str:
    kills = [row for row in rows if row["fault"] == "kill"]
    faults = [{**row, "ended": _ended(row)} for row in rows if row["fault"] != "kill"]
    text = ["## Kills", ""]
    if kills:
        tried, equal = sum(row["tried"] for row in kills), sum(row["equal"] for row in kills)
        text += [
            f"{tried} times SIGKILL at a random moment of {len(kills)} kinds of work; {equal} of the reruns ended in "
            f"the files of the uninterrupted run, by hash. {sum(row['during'] for row in kills)} kills met the work "
            "itself, the others its last lines. Work is of test size.",
            "",
            "`python scripts/kills.py --times 10 --record`",
            "",
            _table(kills, {"job": "work", "tried": "kills", "during": "before its end", "equal": "reruns equal"}),
            "",
        ]
    text += ["## Faults", "", *(["Not run.", ""] if not faults else [])]
    if faults:
        text += [
            f"{sum(row['tried'] for row in faults)} faults: *full* lets no file grow beyond a random size, as a disk "
            "that is full; *removed* deletes the cache folder in the middle; *twice* runs the work two times at once. "
            "The first two must end in the whole work or in one sentence that names file and cure; the rerun, and "
            "*twice* at once, must leave the files of the undisturbed run, by hash.",
            "",
            "`python scripts/kills.py --fault full --times 10 --record` (likewise `removed`, `twice`)",
            "",
            _table(
                faults,
                {
                    "fault": "fault",
                    "job": "work",
                    "tried": "tried",
                    "ended": "how it ended",
                    "equal": "then equal",
                },
            ),
            "",
        ]
    return "\n".join(text)


def _fuzz(rows: list[dict[str, Any]]) -> str:
    found = sum(row["found"] for row in rows)
    columns = {"reader": "what reads", "inputs": "inputs", "refused": "refused in a sentence", "found": "findings"}
    return "\n".join(
        [
            "## Fuzz",
            "",
            f"{sum(row['inputs'] for row in rows):,} damaged or random inputs; findings: {found} (an error of another "
            "class than the reader's own, a hang, a file left half-written). A finding is mended and has a test.",
            "",
            "`python scripts/fuzz.py --inputs 100000 --record`",
            "",
            _table(rows, columns),
            "",
        ]
    )


def _mutants(rows: list[dict[str, Any]]) -> str:
    tried, killed = sum(row["mutants"] for row in rows), sum(row["killed"] for row in rows)
    shown = [{**row, "share": f"{row['killed'] / row['mutants']:.0%}"} for row in rows if row["mutants"]]
    survivors = [(row["module"], each) for row in rows for each in row["survivors"]]
    text = [
        "## Mutants",
        "",
        f"{tried:,} changes of the code, one at a time; its own tests noticed {killed:,} ({killed / tried:.0%}).",
        "",
        "`python scripts/mutants.py --record`",
        "",
        _table(shown, {"module": "module", "mutants": "mutants", "killed": "killed", "share": "share"}),
        "",
    ]
    if survivors:
        text += [f"Survivors ({len(survivors)}), with the reason where one is known:", ""]
        text += [
            f"- `{module}` line {one['line']}: `{one['change']}`" + (f": {one['reason']}" if one["reason"] else "")
            for module, one in survivors
        ]
        text.append("")
    return "\n".join(text)


def coverage_row(report: dict[str, Any]) -> dict[str, Any]:
    """Statements of lbm_core, and those that ran, by folder, of what `coverage json` wrote."""
    statements, ran = Counter[str](), Counter[str]()
    for file, found in report["files"].items():
        folder = Path(file).parent.as_posix()
        statements[folder] += found["summary"]["num_statements"]
        ran[folder] += found["summary"]["covered_lines"]
    folders = [{"folder": name, "statements": statements[name], "ran": ran[name]} for name in sorted(statements)]
    return {"of": "lbm_core", "folders": folders}


def python_row(files: Sequence[Path]) -> dict[str, Any]:
    """Tests of one Python, from the files of `pytest -o junit_suite_name="$(python -V)" --junitxml=FILE`."""
    suites = [suite for file in files for suite in ElementTree.parse(file).getroot().iter("testsuite")]
    if len(names := {suite.get("name", "") for suite in suites}) != 1:
        raise ValueError(f"these files are of more than one Python: {', '.join(sorted(names))}")
    cases = [case for suite in suites for case in suite.iter("testcase")]
    ended = Counter("".join(part.tag for part in case if part.tag in ("failure", "error", "skipped")) for case in cases)
    modules = {case.get("classname", "").split(".test_")[0].replace(".", "/") for case in cases}
    row = {"python": names.pop(), "of": ", ".join(sorted(modules)), "tests": len(cases), "passed": ended[""]}
    return row | {"skipped": ended["skipped"], "failed": len(cases) - ended[""] - ended["skipped"]}


def _pythons(rows: list[dict[str, Any]]) -> str:
    columns = {name: name for name in ("python", "tests", "passed", "skipped", "failed", "commit")} | {"of": "tests of"}
    return "\n".join(
        [
            "## Pythons",
            "",
            "Versions beside the one that everything else here was run with.",
            "",
            '`python -m pytest -o junit_suite_name="$(python -V)" --junitxml=tests.xml tests/auction …`, then '
            "`python scripts/reliability.py --python tests.xml`",
            "",
            _table(rows, columns),
            "",
        ]
    )


def _coverage(rows: list[dict[str, Any]]) -> str:
    folders = [{**one, "share": f"{one['ran'] / one['statements']:.0%}"} for one in rows[0]["folders"]]
    ran, statements = (sum(one[name] for one in folders) for name in ("ran", "statements"))
    return "\n".join(
        [
            "## Coverage",
            "",
            f"{ran:,} of {statements:,} statements of lbm_core ran in its tests ({ran / statements:.1%}). What numba "
            "compiles runs where nothing can count it, and is among those that did not.",
            "",
            "`python -m coverage run --rcfile docs/reliability.coveragerc -m pytest`, `python -m coverage combine`, "
            "`python -m coverage json -o coverage.json`, then `python scripts/reliability.py --coverage coverage.json`",
            "",
            _table(folders, {"folder": "folder", "statements": "statements", "ran": "ran", "share": "share"}),
            "",
        ]
    )


def page(known: dict[str, list[dict[str, Any]]]) -> str:
    """The page of a record; a part that was not run says so."""
    parts = {"kills": _kills, "fuzz": _fuzz, "mutants": _mutants, "coverage": _coverage, "pythons": _pythons}
    made = [
        write(known[name]) if known.get(name) else f"## {name.capitalize()}\n\nNot run.\n"
        for name, write in parts.items()
    ]
    commits = sorted({row["commit"] for rows in known.values() for row in rows})
    head = [
        "# What was done to break it",
        "",
        f"Generated by `python scripts/reliability.py` from `docs/reliability.json` (runs at {', '.join(commits)}).",
        "Single inputs, one test each: `tests/test_reliability.py`, `tests/test_faults.py`, `tests/test_numbers.py`.",
        "",
    ]
    return "\n".join([*head, *made])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--coverage", type=Path, help="what `coverage json` wrote of the whole suite")
    parser.add_argument("--python", type=Path, nargs="+", help="what `pytest --junitxml` wrote, of one Python")
    asked = parser.parse_args()
    if asked.coverage:
        record("coverage", [coverage_row(json.loads(asked.coverage.read_text()))], "of")
    if asked.python:
        record("pythons", [python_row(asked.python)], ("python", "of"))
    with writing_file(PAGE) as new:
        new.write_text(page(json.loads(RECORD.read_text())), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(paths.project_root())}")

"""docs/reliability.md from docs/reliability.json: `python scripts/reliability.py`.

The scripts fuzz.py, kills.py and mutants.py add what they found with `--record`; a row replaces the one before it.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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


def page(known: dict[str, list[dict[str, Any]]]) -> str:
    """The page of a record; a part that was not run says so."""
    parts = {"kills": _kills, "fuzz": _fuzz, "mutants": _mutants}
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
        "Coverage: `python -m coverage run --source lbm_core -m pytest`, then `python -m coverage report`.",
        "",
    ]
    return "\n".join([*head, *made])


if __name__ == "__main__":
    with writing_file(PAGE) as new:
        new.write_text(page(json.loads(RECORD.read_text())), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(paths.project_root())}")

"""The benchmark's two CSV formats (§4.1), read in chunks of bounded memory, with errors that name file and line."""

import csv
import gzip
import io
import re
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from tqdm.auto import tqdm

from lbm_core.auction.bidder import N_ADVERTISERS, N_TICKS

_CHUNK = 30_000  # rows
_LONGEST_LINE = 1 << 20
# A row per advertiser and impression, about 24 million a period. xi is 1 where it won a slot, adSlot 0 where not; cost
# is the slot's price, due only if shown; remainingBudget is that before the tick; isEnd is 1 in its last tick.
TRAFFIC_COLUMNS = (  # noqa: SIM905
    "deliveryPeriodIndex advertiserNumber advertiserCategoryIndex budget CPAConstraint timeStepIndex remainingBudget "
    "pvIndex pValue pValueSigma bid xi adSlot cost isExposed conversionAction leastWinningCost isEnd"
).split()
# A row per advertiser and tick. Totals are of the whole period; states read "(x1, …, x16)", the next one's is empty
# where done.
TRAJECTORY_COLUMNS = (  # noqa: SIM905
    "deliveryPeriodIndex advertiserNumber advertiserCategoryIndex budget CPAConstraint realAllCost realAllConversion "
    "timeStepIndex state action reward reward_continuous done next_state"
).split()
_TEXTS = ("state", "next_state")
_WHOLE = {  # column -> largest number; all other columns hold finite numbers >= 0
    "deliveryPeriodIndex": 10_000_000,
    "advertiserNumber": N_ADVERTISERS - 1,
    "timeStepIndex": N_TICKS - 1,
    "pvIndex": 1 << 40,
    "adSlot": 3,
    **dict.fromkeys(("xi", "isExposed", "conversionAction", "isEnd", "done"), 1),
}


@dataclass(frozen=True)
class CsvSource:
    """One CSV file: on its own, gzipped, or the ``member`` of a zip archive."""

    path: Path
    member: str = ""

    @property
    def name(self) -> str:
        return f"{self.path.name}:{self.member}" if self.member else self.path.name

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Its bytes, decompressed on the way; a damaged archive raises ValueError."""
        with _intact(self.name):
            with self.path.open("rb") as file:
                gzipped = self.path.suffix.lower() == ".gz" or file.read(2) == b"\x1f\x8b"
            if self.member:
                with zipfile.ZipFile(self.path) as archive, archive.open(self.member) as file:
                    yield file
            else:
                with gzip.open(self.path) if gzipped else self.path.open("rb") as file:
                    yield file  # type: ignore[misc]

    @cached_property
    def header(self) -> list[str]:
        """Column names; ValueError without a first row."""
        with self.open() as file:
            text = io.TextIOWrapper(file, "utf-8-sig", errors="replace")  # takes "\r" for the end of a line, too
            lines = [text.readline(_LONGEST_LINE) for _ in range(2)]
        if not lines[0]:
            raise ValueError(f"{self.name}: the file is empty")
        if "\0" in lines[0] or lines[0].startswith("\ufffd"):
            raise ValueError(f"{self.name}: this is no text in UTF-8 (in UTF-16?): save it as UTF-8")
        if not lines[1]:
            raise ValueError(f"{self.name}: there are no rows below the header")
        if max(map(len, lines)) >= _LONGEST_LINE // 2:
            raise ValueError(f"{self.name}: a line has {_LONGEST_LINE // 2:,} characters or more: this is no CSV file")
        names = [name.strip() for name in next(csv.reader(lines))]
        if len(names) == 1 and (other := re.search(r"[;\t|]", names[0])):
            raise ValueError(f"{self.name}, line 1: columns are separated by {other[0]!r}; expected commas")
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"{self.name}, line 1: column {twice[0]!r} is named twice")
        return names

    def require(self, rows: pd.DataFrame, valid: ArrayLike, problem: str, **values: Any) -> None:
        """Raise ValueError about the first of n rows that is not ``valid``, (n,) bool; their index holds line numbers.

        In the problem ``{name}`` stands for the row's value of a column or of ``values``.
        """
        valid = np.asarray(valid)
        if not valid.all():
            row = rows.assign(**values).iloc[[int(np.argmin(valid))]]
            raise ValueError(f"{self.name}, line {row.index[0]}: {problem.format_map(row.to_dict('records')[0])}")

    def chunks(self, columns: Sequence[str]) -> Iterator[pd.DataFrame]:
        """Some columns, chunk by chunk, with line numbers as index (the header is line 1), every number checked.

        A missing column, a truncated line, a value that is no number or out of range: ValueError with file and line.
        """
        if missing := [name for name in columns if name not in self.header]:
            raise ValueError(f"{self.name}, line 1: column {missing[0]!r} is missing")
        options: dict[str, Any] = {"names": self.header, "header": 0, "index_col": False, "chunksize": _CHUNK}
        options |= {"dtype": dict.fromkeys(_TEXTS, str), "keep_default_na": False, "na_values": [""]}
        options |= {"skip_blank_lines": False, "encoding_errors": "replace", "low_memory": False}
        blank: list[pd.DataFrame] = []  # lines that may end the file, but not stand in it
        bar = tqdm(desc=self.name, unit="row", unit_scale=True, delay=1, disable=None)
        with self.open() as file, bar, warnings.catch_warnings():
            try:
                warnings.simplefilter("error", pd.errors.ParserWarning)  # of columns beyond the header, which it drops
                for rows in pd.read_csv(file, **options):
                    rows.index += 2
                    rows = pd.concat([*blank, rows]) if blank else rows
                    end = int(rows.notna().any(axis=1).to_numpy().nonzero()[0].max(initial=-1)) + 1
                    blank = [rows[end:]] if end < len(rows) else []
                    if not end and rows.index[0] == 2:
                        raise ValueError(f"{self.name}: there are no rows below the header")
                    yield from [self._checked(rows[:end], columns)] if end else []
                    bar.update(len(rows))
            except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
                form = r".*Expected (\d+) fields in line (\d+), saw (\d+)"
                says = re.sub(form, r"line \2 has \3 of \1 columns", str(error))
                raise ValueError(f"{self.name}: not readable as CSV ({says.strip()})") from error

    def _checked(self, rows: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
        width = rows.shape[1]
        filled = (rows.notna().to_numpy() * np.arange(1, width + 1)).max(axis=1)  # next_state, the last, may be empty
        self.require(rows, filled >= width - 1, f"the line is truncated ({{filled}} of {width} columns)", filled=filled)
        rows = rows[list(columns)]
        for name in (name for name in columns if name not in _TEXTS):
            self.require(rows, rows[name].notna(), f"{name} is empty")
            values, says = pd.to_numeric(rows[name], errors="coerce"), f"{name} is {{{name}:g}}"
            self.require(rows, values.notna(), f"{name} is {{{name}!r:.40}}, not a number")
            self.require(rows, np.isfinite(values), says)
            if name in ("budget", "CPAConstraint"):
                self.require(rows, values > 0, f"{says}; it must be positive")
            high = 1 if name == "pValue" else _WHOLE.get(name, np.inf)
            expected = f"expected 0 … {high:g}" if high < np.inf else "expected >= 0"
            self.require(rows, values.between(0, high), f"{says}; {expected}")
            if name in _WHOLE:
                self.require(rows, values % 1 == 0, f"{says}; expected a whole number")
            rows[name] = values.astype(np.int64 if name in _WHOLE else np.float64)
        return rows


def csv_sources(path: str | Path) -> list[CsvSource]:
    """The CSV files behind a path: the file itself, maybe gzipped, or all members of a zip archive."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    if path.suffix.lower() != ".zip" and not zipfile.is_zipfile(path):
        return [CsvSource(path)]
    with _intact(path.name), zipfile.ZipFile(path) as archive:
        members = [name for name in archive.namelist() if name.lower().endswith(".csv") and "__MACOSX" not in name]
    if not members:
        raise ValueError(f"{path.name}: the archive holds no .csv file")
    return [CsvSource(path, member) for member in sorted(members)]


@contextmanager
def _intact(name: str) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, gzip.BadGzipFile, EOFError) as error:
        raise ValueError(f"{name}: the archive is damaged ({error}); download it again") from error
    except RuntimeError as error:  # of zipfile: encrypted, or compressed by a method that it does not know
        method = " (Deflate64?)" if isinstance(error, NotImplementedError) else ""
        raise ValueError(f"{name}: {error}{method}: unpack it with another program and import the .csv file") from error

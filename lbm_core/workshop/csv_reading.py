"""The benchmark's two CSV formats (§4.1), read in blocks of bounded memory, with errors that name file and line."""

from __future__ import annotations

import csv
import gzip
import re
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
import pyarrow as pa
import pyarrow.csv
from numpy.typing import ArrayLike
from tqdm.auto import tqdm

from lbm_core.auction.bidder import N_ADVERTISERS, N_TICKS

CHUNK_BYTES = 4 << 20  # text read at once: about 30,000 rows of a traffic file
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
_POSITIVE = ("budget", "CPAConstraint")


@dataclass(frozen=True)
class FileCheck:
    """How a file compares with the regenerated traffic.

    Attributes
    ----------
    source : name of the file
    dataset : which traffic it agrees with
    periods : delivery periods that were compared, and agree
    rows : count
    says : what agreed, in one sentence
    pvalue_difference : largest absolute difference of a p-value, within its printed digits (traffic files)
    sigma_difference : largest absolute difference of a sigma
    sigma_rows : rows whose sigma differs in its printed digits (the replay uses the regenerated ones)
    """

    source: str
    dataset: str
    periods: tuple[int, ...]
    rows: int
    says: str
    pvalue_difference: float = 0.0
    sigma_difference: float = 0.0
    sigma_rows: int = 0


@dataclass(frozen=True)
class CsvSource:
    """One CSV file, on its own, gzipped, or a member of a zip archive.

    Attributes
    ----------
    path : the file on disk
    member : its name inside the archive; "" if it is no zip archive
    """

    path: Path
    member: str = ""

    @property
    def name(self) -> str:
        """What error messages call it."""
        return f"{self.path.name}:{self.member}" if self.member else self.path.name

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Open for reading bytes, decompressed on the way; a damaged archive raises ValueError."""
        with _intact(self.name):
            if self.member:
                with zipfile.ZipFile(self.path) as archive, archive.open(self.member) as file:
                    yield file
            else:
                with gzip.open(self.path) if self.path.suffix == ".gz" else self.path.open("rb") as file:
                    yield file  # type: ignore[misc]

    @cached_property
    def header(self) -> list[str]:
        """Column names."""
        with self.open() as file:
            line = file.readline(_LONGEST_LINE).decode("utf-8-sig", errors="replace")
        if not line:
            raise ValueError(f"{self.name}: the file is empty")
        return [name.strip() for name in next(csv.reader([line]))]

    def require(self, rows: pd.DataFrame, valid: ArrayLike, problem: str, **values: Any) -> None:
        """Raise ValueError about the first row that is not valid.

        Parameters
        ----------
        rows : of this file, with their line numbers as index
        valid : (n,) bool
        problem : what is wrong, after file and line; ``{name}`` stands for the row's value of a column or of ``values``
        """
        valid = np.asarray(valid)
        if not valid.all():
            row = rows.assign(**values).iloc[[int(np.argmin(valid))]]
            raise ValueError(f"{self.name}, line {row.index[0]}: {problem.format_map(row.to_dict('records')[0])}")

    def chunks(self, columns: Sequence[str]) -> Iterator[pd.DataFrame]:
        """Some columns, chunk by chunk, with line numbers as index (the header is line 1), every number checked.

        Raises
        ------
        ValueError
            A missing column, a truncated line, a value that is no number or out of range: with file and line.
        """
        missing = [name for name in columns if name not in self.header]
        if missing:
            raise ValueError(f"{self.name}, line 1: column {missing[0]!r} is missing")
        kinds = {name: pa.string() if name in _TEXTS else pa.float64() for name in columns}
        options = pyarrow.csv.ConvertOptions(column_types=kinds, include_columns=columns, null_values=[""])
        line = 2
        # Block by block rather than with pyarrow's own streaming: that reads ahead in a thread, which brings the
        # interpreter down if it ends (say, on an error in the file) while the thread holds a Python file.
        with self.open() as file, tqdm(desc=self.name, unit="row", unit_scale=True, delay=1, disable=None) as bar:
            file.readline()
            while block := file.read(CHUNK_BYTES):
                block += (rest := file.readline(_LONGEST_LINE))
                if len(rest) == _LONGEST_LINE:
                    raise ValueError(f"{self.name}: a line has more than {len(rest):,} bytes: this is no CSV file")
                try:
                    table = pyarrow.csv.read_csv(
                        pa.BufferReader(block),
                        # One thread: only then does the parser know line numbers.
                        pyarrow.csv.ReadOptions(use_threads=False, block_size=len(block), column_names=self.header),
                        pyarrow.csv.ParseOptions(ignore_empty_lines=False),
                        options,
                    )
                except pa.ArrowInvalid as error:
                    raise ValueError(self._parser_problem(str(error), line)) from error
                yield self._checked(table, line)
                line += table.num_rows
                bar.update(table.num_rows)
        if line == 2:
            raise ValueError(f"{self.name}: there are no rows below the header")

    def _checked(self, table: pa.Table, line: int) -> pd.DataFrame:
        rows = table.to_pandas()
        rows.index += line
        for name in (name for name in rows if name not in _TEXTS):
            values, says = rows[name], f"{name} is {{{name}:g}}"
            self.require(rows, table[name].is_valid(), f"{name} is empty")
            self.require(rows, np.isfinite(values), says)
            if name in _POSITIVE:
                self.require(rows, values > 0, f"{says}; it must be positive")
            high = 1 if name == "pValue" else _WHOLE.get(name, np.inf)
            expected = f"expected 0 … {high:g}" if high < np.inf else "expected >= 0"
            self.require(rows, values.between(0, high), f"{says}; {expected}")
            if name in _WHOLE:
                self.require(rows, values % 1 == 0, f"{says}; expected a whole number")
                rows[name] = values.astype(np.int64)
        return rows

    def _parser_problem(self, message: str, line: int) -> str:
        """One sentence for what the CSV parser found in a block of which ``line`` is the first."""
        row = re.search(r"Row #(\d+)", message)
        where = f"{self.name}, line {line + int(row[1]) - 1}" if row else f"{self.name}, at or after line {line}"
        if counts := re.search(r"Expected (\d+) columns, got (\d+)", message):
            state = "is truncated" if int(counts[2]) < int(counts[1]) else "is too long"
            return f"{where}: the line {state} ({counts[2]} of {counts[1]} columns)"
        if value := re.search(r"CSV column #(\d+).*invalid value '(.*)'", message, re.DOTALL):
            return f"{where}: {self.header[int(value[1])]} is {value[2][:40]!r}, not a number"
        return f"{where}: not readable as CSV ({message.splitlines()[0]})"


def csv_sources(path: str | Path) -> list[CsvSource]:
    """The CSV files behind a path: the file itself (``.csv``, ``.csv.gz``) or all members of a ``.zip``.

    Raises
    ------
    FileNotFoundError, ValueError
        No such file; an archive that is damaged or holds no CSV file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    if path.suffix != ".zip":
        return [CsvSource(path)]
    with _intact(path.name), zipfile.ZipFile(path) as archive:
        members = [name for name in archive.namelist() if name.endswith(".csv") and "__MACOSX" not in name]
    if not members:
        raise ValueError(f"{path.name}: the archive holds no .csv file")
    return [CsvSource(path, member) for member in sorted(members)]


@contextmanager
def _intact(name: str) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, gzip.BadGzipFile, EOFError) as error:
        raise ValueError(f"{name}: the archive is damaged ({error}); download it again") from error

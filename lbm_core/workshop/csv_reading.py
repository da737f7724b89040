"""Large CSV files in chunks of bounded memory, with errors that name the file and the line (§4.1)."""

from __future__ import annotations

import gzip
import itertools
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import cached_property
from pathlib import Path
from typing import IO, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

CHUNK_BYTES = 4 << 20  # text read at once: about 30,000 rows of a traffic file
_LONGEST_LINE = 64 << 20
_SAMPLE_BYTES = 1 << 18  # text looked at to see how numbers are printed


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

    @property
    def stem(self) -> str:
        """File name without folders and suffixes."""
        return Path(self.member or self.path.name).name.split(".")[0]

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Open for reading bytes, decompressed on the way.

        Raises
        ------
        ValueError
            The archive turns out to be damaged while it is read.
        """
        try:
            if self.member:
                with zipfile.ZipFile(self.path) as archive, archive.open(self.member) as file:
                    yield file
            elif self.path.suffix == ".gz":
                with gzip.open(self.path) as file:
                    yield file  # type: ignore[misc]
            else:
                with self.path.open("rb") as file:
                    yield file
        except (zipfile.BadZipFile, zlib.error, gzip.BadGzipFile, EOFError) as error:
            raise ValueError(f"{self.name}: the archive is damaged ({error}); download it again") from error

    @cached_property
    def sample(self) -> list[list[str]]:
        """The first lines, split at commas (header first; the last line, perhaps cut, is left out)."""
        with self.open() as file:
            text = file.read(_SAMPLE_BYTES).decode("utf-8", errors="replace").lstrip("\ufeff")
        lines = text.splitlines()
        return [line.split(",") for line in (lines[:-1] if len(text) >= _SAMPLE_BYTES else lines)]

    @property
    def header(self) -> list[str]:
        """Column names."""
        if not self.sample:
            raise ValueError(f"{self.name}: the file is empty")
        return [name.strip().strip('"') for name in self.sample[0]]

    def require_columns(self, columns: Sequence[str]) -> None:
        """Raise ValueError unless all columns are there."""
        missing = [name for name in columns if name not in self.header]
        if missing:
            raise ValueError(f"{self.name}, line 1: column {missing[0]!r} is missing")

    def printed_digits(self, column: str) -> tuple[int, int]:
        """Decimals and significant digits with which the numbers of a column are printed (most in a sample)."""
        at, decimals, significant = self.header.index(column), 0, 1
        for row in itertools.islice((row for row in self.sample[1:] if len(row) > at), 2000):
            try:
                digits = Decimal(row[at]).as_tuple()
            except InvalidOperation:
                continue  # not a number: reading the column will say so, with its line
            if isinstance(digits.exponent, int):
                decimals = max(decimals, -digits.exponent)
                significant = max(significant, len(digits.digits))
        return decimals, significant


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
    try:
        with zipfile.ZipFile(path) as archive:
            members = [name for name in archive.namelist() if name.endswith(".csv") and "__MACOSX" not in name]
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path.name}: the archive is damaged ({error}); download it again") from error
    if not members:
        raise ValueError(f"{path.name}: the archive holds no .csv file")
    return [CsvSource(path, member) for member in sorted(members)]


class Chunk:
    """Some consecutive rows of a file.

    Attributes
    ----------
    source : the file
    line : line number of the first row (the header is line 1)
    """

    def __init__(self, source: CsvSource, line: int, batch: pa.RecordBatch) -> None:
        self.source, self.line, self._batch = source, line, batch

    def __len__(self) -> int:
        return self._batch.num_rows

    def fail(self, row: int, problem: str) -> NoReturn:
        """Raise ValueError: one sentence with file and line."""
        raise ValueError(f"{self.source.name}, line {self.line + row}: {problem}")

    def require(self, valid: NDArray[np.bool_], problem: Callable[[int], str]) -> None:
        """Raise ValueError about the first row that is not valid; ``problem`` words it, given the row."""
        if not valid.all():
            row = int(np.argmin(valid))
            self.fail(row, problem(row))

    def numbers(self, column: str, low: float = -np.inf, high: float = np.inf) -> NDArray[np.float64]:
        """A column of finite numbers in [low, high]."""
        array = self._batch.column(column)
        if array.null_count:
            empty = np.asarray(array.is_null())
            self.fail(int(np.argmax(empty)), f"{column} is empty")
        values = np.asarray(array)
        # NaN fails both comparisons, so that one pass finds it together with what lies outside.
        self.require(
            (values >= low) & (values <= high) & (np.abs(values) < np.inf),
            lambda row: (
                f"{column} is {values[row]:g}; expected "
                + (f"{low:g} … {high:g}" if np.isfinite(high) else f">= {low:g}")
                if np.isfinite(values[row])
                else f"{column} is {values[row]:g}"
            ),
        )
        return values

    def positive(self, column: str) -> NDArray[np.float64]:
        """A column of numbers > 0."""
        values = self.numbers(column)
        self.require(values > 0, lambda row: f"{column} is {values[row]:g}; it must be positive")
        return values

    def integers(self, column: str, low: int, high: int) -> NDArray[np.int64]:
        """A column of whole numbers in [low, high], printed as 7 or 7.0."""
        values = self.numbers(column, low, high)
        whole = values.astype(np.int64)
        self.require(whole == values, lambda row: f"{column} is {values[row]:g}; expected a whole number")
        return whole

    def texts(self, column: str) -> pa.Array:
        """A column of strings."""
        return self._batch.column(column)


def chunks(
    source: CsvSource,
    columns: Sequence[str],
    *,
    texts: Sequence[str] = (),
    chunk_bytes: int = CHUNK_BYTES,
    progress: Callable[[int], object] | None = None,
) -> Iterator[Chunk]:
    """Read a CSV file chunk by chunk.

    Parameters
    ----------
    columns : those to read; further ones in the file are ignored
    texts : those among ``columns`` that are strings; the others are numbers
    chunk_bytes : text held at once
    progress : called with the number of rows of every chunk

    Raises
    ------
    ValueError
        A missing column, a truncated line, a value that is no number: with file and line.
    """
    source.require_columns(columns)
    kinds = {name: pa.string() if name in texts else pa.float64() for name in columns}
    options = pyarrow.csv.ConvertOptions(column_types=kinds, include_columns=list(columns), null_values=[""])
    line = 2
    # Block by block rather than with pyarrow's own streaming: that reads ahead in a thread, which brings the
    # interpreter down if it ends (say, on an error in the file) while the thread holds a Python file.
    for block in _blocks(source, chunk_bytes):
        try:
            table = pyarrow.csv.read_csv(
                pa.BufferReader(block),
                # One thread: only then does the parser know line numbers.
                read_options=pyarrow.csv.ReadOptions(
                    use_threads=False, block_size=len(block), column_names=source.header
                ),
                parse_options=pyarrow.csv.ParseOptions(ignore_empty_lines=False),
                convert_options=options,
            )
        except pa.ArrowInvalid as error:
            raise ValueError(_parser_problem(source, str(error), line)) from error
        for batch in table.combine_chunks().to_batches():
            yield Chunk(source, line, batch)
            line += batch.num_rows
            if progress is not None:
                progress(batch.num_rows)
    if line == 2:
        raise ValueError(f"{source.name}: there are no rows below the header")


def _blocks(source: CsvSource, size: int) -> Iterator[bytes]:
    """Whole lines below the header, about ``size`` bytes at a time."""
    with source.open() as file:
        file.readline()
        rest, done = b"", False
        while not done:
            text = file.read(size)
            done = not text
            rest += text
            end = len(rest) if done else rest.rfind(b"\n") + 1
            if len(rest) - end > _LONGEST_LINE:
                raise ValueError(f"{source.name}: a line has more than {_LONGEST_LINE:,} bytes: this is no CSV file")
            if end:
                yield rest[:end]
            rest = rest[end:]


def _parser_problem(source: CsvSource, message: str, line: int) -> str:
    """One sentence for what the CSV parser found in a block of which ``line`` is the first."""
    found = re.search(r"Row #(\d+)", message)
    where = f"{source.name}, line {line + int(found[1]) - 1}" if found else f"{source.name}, at or after line {line}"
    if counts := re.search(r"Expected (\d+) columns, got (\d+)", message):
        expected, got = int(counts[1]), int(counts[2])
        state = "is truncated" if got < expected else "is too long"
        return f"{where}: the line {state} ({got} of {expected} columns)"
    if value := re.search(r"CSV column #(\d+).*invalid value '(.*)'", message, re.DOTALL):
        return f"{where}: {source.header[int(value[1])]} is {value[2][:40]!r}, not a number"
    return f"{where}: not readable as CSV ({message.splitlines()[0]})"

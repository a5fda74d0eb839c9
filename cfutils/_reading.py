"""Tables as people keep them, as frames: text of many forms, JSON lines, Parquet, Arrow."""

from __future__ import annotations

import bz2
import codecs
import contextlib
import csv
import dataclasses
import gzip
import io
import lzma
import os
import pathlib
import shutil
import tempfile
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

_MISSING = ("", "NA", "NaN", "nan", "null")
_FIELD = "\x1f"  # stands for a separator of another length, which Arrow does not take
_BLOCK = 2**20

Columns = Mapping[str, tuple[str, str]]


@dataclasses.dataclass(frozen=True)
class Form:
    """How a text file is written; the arguments of `load_ratings`."""

    sep: str = ","
    encoding: str = "utf-8"
    names: Sequence[str] | None = None
    quoting: bool | None = None
    decimal: str = "."
    thousands: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.sep, str) or not self.sep or set(self.sep) & set("\r\n\"'"):
            raise ValueError(
                f"sep should be the characters between two fields. Received: {self.sep!r}."
            )
        try:
            codecs.lookup(self.encoding)
        except (LookupError, TypeError) as error:
            raise ValueError(
                f"encoding should be one that Python knows, such as 'cp1252'. Received: {error}."
            ) from None
        if isinstance(self.names, str):
            raise ValueError(f"names should be a list of names. Received: {self.names!r}.")
        if self.quoting not in (None, True, False):
            raise ValueError(f"quoting should be None, True or False. Received: {self.quoting!r}.")
        if self.decimal == self.thousands or len(self.decimal) != 1:
            raise ValueError(
                "decimal and thousands should be two different characters. Received: "
                f"{self.decimal!r} and {self.thousands!r}."
            )

    @property
    def is_plain(self) -> bool:
        """Whether Arrow reads the bytes of such a file as they are."""
        utf8 = codecs.lookup(self.encoding).name == "utf-8"
        return utf8 and len(self.sep) == 1 and self.sep.isascii()


def read(
    argument: str, source: Any, columns: Columns, form: Form, *, every: bool = False
) -> tuple[pd.DataFrame, bool]:
    """A table as a frame, and whether its ids come from a file of texts.

    Args:
        argument: what the table is called in a message.
        source: a frame, an Arrow table or whatever gives one (`__arrow_c_stream__`: Polars,
            DuckDB), a path, or an address.
        columns: the columns that have to be there, with the argument that named each, and what is
            read: "id", "number", "text" or "any".
        every: whether all other columns are read too.

    Raises:
        ValueError: if a column is missing, or the file is none of these, with what it is.
        FileNotFoundError: if there is no such file.
    """
    if isinstance(source, pd.DataFrame):
        _require(argument, list(source.columns), columns)
        return source, False
    if hasattr(source, "__arrow_c_stream__"):
        import pyarrow

        table = pyarrow.table(source)
        _require(argument, table.column_names, columns)
        return _frame(table if every else table.select(list(columns)), columns), False
    if not isinstance(source, (str, os.PathLike)):
        raise ValueError(
            f"{argument} should be a frame, an Arrow table, or the path of a file. Received: "
            f"{type(source).__name__}. Make it a frame: pd.DataFrame(...), or lazyframe.collect()."
        )
    with _local(argument, source) as path:
        try:
            return _read_file(str(source), path, columns, form, every)
        except (EOFError, OSError, lzma.LZMAError, zipfile.BadZipFile, zlib.error) as bad:
            if getattr(bad, "errno", None) is not None:  # of the system, not of an archive
                raise
            raise ValueError(f"{source} should be a whole file. Received: {bad}.") from bad


@contextlib.contextmanager
def _local(argument: str, source: Any) -> Iterator[pathlib.Path]:
    """The path of a file here; of one at an address, that of a copy."""
    name = os.fspath(source)
    if "://" not in name:
        path = pathlib.Path(name).expanduser()
        if not path.exists():
            raise FileNotFoundError(
                f"{argument} should be a frame or the path of a file. Received: {name!r}, which is "
                f"none in {pathlib.Path.cwd()}. Give its path from there, or the whole path."
            )
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="cfutils-") as folder:
        path = pathlib.Path(folder) / (name.rsplit("/", 1)[-1] or "table")
        try:
            with urllib.request.urlopen(name, timeout=60) as file, open(path, "wb") as copy:
                shutil.copyfileobj(file, copy)
        except OSError as error:
            raise OSError(f"{argument} should be at {name}. Received: {error}.") from error
        yield path


def _read_file(name, path, columns, form, every):
    """Reads a file by what it holds, whatever it is called."""
    if path.is_dir():
        if not any(path.rglob("*.parquet")):
            raise ValueError(f"{name} is a folder without Parquet files (*.parquet). Name a file.")
        return _frame(_read_parquet(name, path, columns, every), columns), False
    with _opened(name, path) as file:
        head = file.read(512)
    start = head.lstrip().removeprefix(codecs.BOM_UTF8)
    if head.startswith(b"PAR1") or path.suffix.lower() in (".parquet", ".pq"):
        return _frame(_read_parquet(name, path, columns, every), columns), False
    if start.startswith(b"{"):
        return _read_json(name, path, columns, every), False
    for mark, kind, remedy in (
        (b"[{", "JSON: one array, not a line for each row", "Pass pd.read_json(path)."),
        (b"\x89HDF", "an HDF5 file", "Pass pd.read_hdf(path)."),
        (b"\xd0\xcf\x11\xe0", "an Excel file", "Pass pd.read_excel(path)."),
        (b"ARROW1", "an Arrow file", "Pass pyarrow.feather.read_table(path)."),
        (b"SQLite", "a database", "Pass pd.read_sql(query, connection)."),
        (b"<", "HTML or XML", "Is it the page of the file, instead of the file?"),
    ):
        if b"".join(start.split()[:2]).startswith(mark):
            raise ValueError(f"{name} is {kind}. {remedy}")
    if not head:
        raise ValueError(f"{name} is empty. It should have a line for each rating.")
    wide = head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if wide and "16" not in form.encoding:
        raise ValueError(f"{name} is text in UTF-16. Name it: encoding='utf-16'.")
    if b"\0" in head and not wide and form.is_plain:
        raise ValueError(f"{name} is no text: it holds the byte 0. Pass a frame of it.")
    return _frame(_read_text(name, path, columns, form, every), columns, form), True


# What Arrow reads ---------------------------------------------------------------------------------


def _frame(table: Any, columns: Columns, form: Form | None = None) -> pd.DataFrame:
    """An Arrow table as a frame, ids as categories: of large data every copy counts."""
    import pyarrow

    for at, name in enumerate(table.column_names):
        column = table.column(at)
        if "view" in str(column.type):  # as Polars has texts; few functions take them
            column = pyarrow.chunked_array([_without_views(chunk) for chunk in column.chunks])
        is_id = columns.get(name, ("", ""))[1] == "id"
        if is_id and not pyarrow.types.is_dictionary(column.type):
            column = column.dictionary_encode()
        table = table.set_column(at, name, column)
    table = table.unify_dictionaries().replace_schema_metadata()
    frame = table.to_pandas(split_blocks=True, self_destruct=True)
    del table, column
    pyarrow.default_memory_pool().release_unused()
    for name, (_, kind) in columns.items():
        if form is not None and kind == "number" and frame[name].dtype != "float64":
            frame[name] = _numbers(frame[name].astype("str"), form)
    return frame


def _without_views(array: Any) -> Any:
    import pyarrow

    large = pyarrow.large_string()
    if pyarrow.types.is_dictionary(array.type):
        return pyarrow.DictionaryArray.from_arrays(array.indices, array.dictionary.cast(large))
    return array.cast(pyarrow.large_list(large) if "list" in str(array.type) else large)


def _numbers(texts: pd.Series, form: Form) -> pd.Series:
    """Numbers of texts; all of them stay texts, with a point, where one is no number."""
    codes, values = pd.factorize(texts)
    values = values.str.strip()
    if form.thousands:
        values = values.str.replace(form.thousands, "", regex=False)
    values = values.str.replace(form.decimal, ".", regex=False)
    numbers = pd.to_numeric(values, errors="coerce")
    return pd.Series((numbers if numbers.notna().all() else values).take(codes), texts.index)


def _read_parquet(name, path, columns, every):
    import pyarrow
    import pyarrow.parquet

    chosen = None if every else list(columns)
    try:
        if path.is_dir():
            found = pyarrow.parquet.ParquetDataset(path)
            _require(name, found.schema.names, columns)
            return found.read(columns=chosen)
        with pyarrow.parquet.ParquetFile(path) as file:
            _require(name, file.schema_arrow.names, columns)
            return file.read(columns=chosen)
    except (OSError, pyarrow.ArrowException) as error:
        raise ValueError(f"{name} should be a whole Parquet file. Received: {error}.") from error


def _read_json(name, path, columns, every):
    parts = []
    try:
        with (
            _opened(name, path) as file,
            pd.read_json(file, lines=True, dtype=False, chunksize=2**17) as reader,
        ):
            for part in reader:
                _require(name, list(part.columns), columns)
                parts.append(part if every else part[list(columns)])
    except ValueError as error:
        if "should be" in str(error):
            raise
        raise ValueError(
            f"{name} is no JSON with an object in each line. Received: {error}. Pass a frame of it."
        ) from error
    return pd.concat(parts, ignore_index=True)


# Text ---------------------------------------------------------------------------------------------


class _Utf8(io.RawIOBase):
    """The bytes of a text file in UTF-8, its separator as one byte; counts what ends its lines."""

    def __init__(self, file: Any, form: Form) -> None:
        self._file, self._form = file, form
        self.has_quotes, self.num_lines, self.is_open = False, 0, False  # a line at the end
        self._decode = codecs.getincrementaldecoder(form.encoding)().decode
        self._left, self._rest, self._done = b"", "", False

    def readable(self) -> bool:
        return True

    def read(self, size: int = _BLOCK) -> bytes:
        if self._form.is_plain:
            content = self._file.read(size)
        else:
            while len(self._left) < size and not self._done:  # Arrow wants whole blocks
                self._left += self._translated(self._file.read(_BLOCK))
            content, self._left = self._left[:size], self._left[size:]
        self.has_quotes = self.has_quotes or b'"' in content
        self.num_lines += content.count(b"\n")
        self.is_open = not content.endswith(b"\n") if content else self.is_open
        return content

    def lines(self) -> Iterator[bytes]:
        """The lines without what ends them."""
        rest = b""
        while content := self.read():
            *whole, rest = (rest + content).splitlines(keepends=True)
            yield from (line.rstrip(b"\r\n") for line in whole)
        if rest:
            yield rest.rstrip(b"\r\n")

    def _translated(self, content: bytes) -> bytes:
        self._done = not content
        text, sep = self._rest + self._decode(content, self._done), self._form.sep
        self._rest = ""
        if len(sep) > 1 or not sep.isascii():
            if _FIELD in text:
                raise ValueError("The file holds the control character U+001F. Pass a frame of it.")
            text = text.replace(sep, _FIELD)
            for size in range(len(sep) - 1, 0, -1):  # half a separator waits for the other half
                if not self._done and text.endswith(sep[:size]):
                    text, self._rest = text[:-size], text[-size:]
                    break
        return text.encode()

    def close(self) -> None:
        self._file.close()
        super().close()


def _read_text(name, path, columns, form, every):
    """The columns of a text file as an Arrow table: ids and what is no number as texts."""
    import pyarrow
    import pyarrow.csv

    sep = form.sep if len(form.sep) == 1 and form.sep.isascii() else _FIELD
    text, quoted = pyarrow.string(), form.quoting is not False
    types = {"id": pyarrow.dictionary(pyarrow.int32(), text), "text": text}
    types["number"] = text if form.thousands else pyarrow.float64()
    try:
        with _Utf8(_opened(name, path), form) as file:
            fields, skipped = _first_line(name, file, sep, quoted)
        names = _column_names(name, fields, columns, form)
        options = {
            "read_options": pyarrow.csv.ReadOptions(
                column_names=names, skip_rows=skipped + (form.names is None)
            ),
            "parse_options": pyarrow.csv.ParseOptions(
                delimiter=sep,
                quote_char='"' if quoted else False,
                newlines_in_values=form.quoting is True,
            ),
        }
        for types_now in (types, types | {"number": text}):
            convert = pyarrow.csv.ConvertOptions(
                column_types={c: types_now[k] for c, (_, k) in columns.items() if k in types_now},
                include_columns=None if every else list(columns),
                null_values=_MISSING,
                decimal_point=form.decimal,
            )
            try:
                with _Utf8(_opened(name, path), form) as file:
                    table = pyarrow.csv.read_csv(file, convert_options=convert, **options)
                break
            except pyarrow.ArrowInvalid as error:
                if "conversion error" not in str(error) or types_now["number"] is text:
                    raise
        rows = table.num_rows + (form.names is None)
        if file.has_quotes and form.quoting is None and rows != file.num_lines + file.is_open:
            _check_lines(name, path, form, rows)
        return table
    except (UnicodeError, pyarrow.ArrowException) as error:
        about = " ".join(str(error).split())
    if any(word in about for word in ("UTF8", "codec", "encoding")):
        remedy = "Name its encoding, for example encoding='cp1252', or save it as UTF-8."
    else:
        remedy = "A text that holds the separator belongs between two quotes; quoting=False takes"
        remedy += " quotes as they are."
    raise ValueError(
        f"{name} should have as many fields in each line, in {form.encoding.upper()}. Received: "
        f"{about}. {remedy}"
    )


def _first_line(name: str, file: _Utf8, sep: str, quoted: bool) -> tuple[list[str], int]:
    """The fields of the first line that is not empty, and how many lines stand before it."""
    for number, line in enumerate(file.lines()):
        if text := line.decode("utf-8-sig").strip(" "):
            fields = next(csv.reader([text], delimiter=sep)) if quoted else text.split(sep)
            return fields, number
    raise ValueError(f"{name} is empty. It should have a line for each rating.")


def _column_names(name: str, fields: list[str], columns: Columns, form: Form) -> list[str]:
    """What the columns of a text file are called, by its first line or by the user."""
    if form.names is not None:
        if len(form.names) != len(fields):
            raise ValueError(
                f"names should have one name for each field. Received: {len(form.names)} names for "
                f"the {len(fields)} fields of the first line of {name}: {fields}."
            )
        _require(name, list(form.names), columns)
        return list(form.names)
    names = [field.strip() for field in fields]
    if not set(names) & set(columns):
        marks = ("::", ";", "\t", "|", ",", " ")
        other = next((mark for mark in marks if len(names) == 1 and mark in names[0]), None)
        if other is not None:
            names = names[0].split(other)
        headless = any(_is_number(each) for each in names)
        if headless or (other is not None and not set(names) >= set(columns)):
            wanted = [*columns, *(f"column_{n + 1}" for n in range(len(columns), len(names)))]
            advice = [f"sep={other!r}"] if other is not None else []
            raise ValueError(
                f"{name} has no header line with the columns {', '.join(columns)}: its first "
                f"line is {fields}. Name the columns in their order, for example "
                f"{', '.join([*advice, f'names={wanted[: len(names)]}'])}."
            )
        _require(name, [fields[0].strip()] if other else names, columns, other)
    _require(name, names, columns)
    return names


def _is_number(text: str) -> bool:
    with contextlib.suppress(ValueError):
        float(text.replace(",", "."))
        return True
    return False


def _require(where: str, found: Sequence[Any], columns: Columns, sep: str | None = None) -> None:
    """Each column that was named is there, once."""
    for column, (argument, _) in columns.items():
        if list(found).count(column) != 1:
            other = f" Or name what separates the fields: sep={sep!r}." if sep else ""
            raise ValueError(
                f"{argument}={column!r} should be a column of {where}, once. Received the columns: "
                f"{', '.join(map(repr, found)) or 'none'}. Name the column.{other}"
            )


def _check_lines(name: str, path: pathlib.Path, form: Form, rows: int) -> None:
    """Refuse lines that a quote has joined: their ratings would be lost without a word."""
    odd, count = None, 0
    with _Utf8(_opened(name, path), form) as file:
        for number, line in enumerate(file.lines(), 1):
            count += bool(line)
            if odd is None and line.count(b'"') % 2:
                odd = number, line.decode().replace(_FIELD, form.sep)[:80]
    if count != rows:
        raise ValueError(
            f"{name} should close each quote in the line that opens it. Received: {count - rows} "
            f"lines that are not rows of their own, from line {odd and odd[0]}: {odd and odd[1]!r}."
            " If quotes are letters like others: quoting=False. If texts hold line breaks: "
            "quoting=True."
        )


# Bytes --------------------------------------------------------------------------------------------


def _opened(name: str, path: pathlib.Path) -> Any:
    """A file to read bytes from, unpacked by what it holds."""
    with open(path, "rb") as file:
        head = file.read(6)
    if head.startswith(b"\x1f\x8b"):
        return gzip.open(path)
    if head.startswith(b"BZh"):
        return bz2.open(path)
    if head.startswith(b"\xfd7zXZ"):
        return lzma.open(path)
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        import pyarrow

        return pyarrow.CompressedInputStream(pyarrow.OSFile(str(path)), "zstd")
    if not head.startswith(b"PK\x03\x04"):
        return open(path, "rb", buffering=0)
    archive = zipfile.ZipFile(path)
    inside = [entry for entry in archive.namelist() if not entry.endswith("/")]
    if "[Content_Types].xml" in inside:
        raise ValueError(f"{name} is an Excel file. Pass pd.read_excel(path).")
    if len(inside) != 1:
        raise ValueError(f"{name} should hold one file. Received: {inside}. Unpack it.")
    return archive.open(inside[0])

"""Records in a file: JSONL, one JSON object a line, or a table with the names of its fields in the first line."""

import codecs
import collections
import contextlib
import csv
import io
import json
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from jaxgpt.console import plural
from jaxgpt.data import squad
from jaxgpt.data.documents import require_no_utf16
from jaxgpt.errors import DataError

# Beyond these a record is broken, so that none of tests/support/bombs.py makes a worker take 512 MB.
RECORD_BYTES = 8 << 20  # of a line, a row of a table, a page, a text
JSON_LINE_BYTES = 6 * RECORD_BYTES  # of a JSON line where each character is escaped, as \uXXXX
RECORD_PARTS = 1 << 19  # brackets in a JSON line, delimiters in a row: a list of two bytes takes 80 in memory
JSON_LINES = (".jsonl", ".ndjson")
Record = tuple[int, dict[str, Any]]  # with the line that it begins on
LineErrors = dict[int, DataError]  # what is wrong with records, by the lines that they begin on


def read_jsonl(path: str | Path) -> list[Record]:
    """All of `parse_jsonl`, of a file."""
    return list(parse_jsonl(path, read_content(path)))


def parse_records(path: str, content: bytes, errors: LineErrors | None = None) -> Iterator[Record]:
    """`parse_jsonl`, `parse_squad` or `parse_table`, by the suffix of the file."""
    if path.lower().endswith(JSON_LINES):
        return parse_jsonl(path, content, errors)
    if path.lower().endswith(squad.SUFFIX):
        return squad.parse_squad(path, content)
    return parse_table(path, content, "\t" if path.lower().endswith(".tsv") else ",", errors)


def collect_or_raise(error: DataError, line: int, errors: LineErrors | None) -> None:
    """Add a record's error to `errors`, so that the others are read; None: raise it."""
    if errors is None:
        raise error
    errors[line] = error


def parse_jsonl(path: str | Path, content: bytes, errors: LineErrors | None = None) -> Iterator[Record]:
    """The objects of a file of UTF-8, each with its line's number, from 1; blank lines are skipped.

    Args:
      errors: takes the errors of lines that are no objects; None: they are raised.

    Raises:
      DataError: it is empty, or a line is no JSON object; with the line's number.
    """
    is_empty = True
    for number, line in enumerate(io.BytesIO(content), 1):  # only \n ends a line: a text may hold U+2028
        if not is_blank(line):
            is_empty = False
            try:
                yield number, _record(f"{path}, line {number}", line.removesuffix(b"\n"))
            except DataError as error:
                collect_or_raise(error, number, errors)
    if is_empty:
        raise DataError(f"{path}: the file is empty; it needs one JSON object a line")


def read_first(path: str | Path) -> dict[str, Any] | None:
    """The first object of a file of JSON lines; None if there is none, or the file can't be read."""
    with contextlib.suppress(OSError, ValueError, DataError), open(path, "rb") as file:
        for line in file:
            if not is_blank(line):
                return _record(str(path), line)
    return None


def read_content(path: str | Path, remedy: str = "give one with a record a line") -> bytes:
    """A file's bytes, without a byte order mark.

    Args:
      remedy: what the error says to do if there is no such file.

    Raises:
      DataError: it can't be read.
    """
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; {remedy}") from None
    except (OSError, ValueError) as error:  # ValueError: no name of a file, such as one with a zero byte
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: {reason}; give a file that can be read") from None
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError(f"{path}: not UTF-8 but UTF-16; convert it first: iconv -f utf-16 -t utf-8")
    require_no_utf16(str(path), content)
    return content.removeprefix(codecs.BOM_UTF8)


def _record(where: str, line: bytes) -> dict[str, Any]:
    try:
        return parse_record(line)
    except RecordError as error:
        remedy = "mend or remove the line"
        if line.lstrip().startswith(b"["):
            remedy = "give one object a line, which jq -c '.[]' makes of a list"
        if error.reason == "not UTF-8":
            remedy = "convert the file first, for example: iconv -f latin1 -t utf-8"
        raise DataError(f"{where}: {error.reason} ({error.detail}); {remedy}") from None


class RecordError(Exception):
    """A line that is no record: the reason, which a report may count, and details on this line."""

    def __init__(self, reason: str, detail: str):
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


def is_blank(line: bytes) -> bool:
    """Whether there is no record in a line: nothing but blanks, and perhaps the mark that some files begin with."""
    return not line.removeprefix(codecs.BOM_UTF8).strip()


def parse_record(line: bytes) -> dict[str, Any]:
    """The JSON object in a line, by Python's rules: NaN, Infinity and lone surrogates (see `is_unicode`) may be in it.

    Raises:
      RecordError: the line is too long, not UTF-8, or has no object. The details show nothing of its text.
    """
    if len(line) > RECORD_BYTES and _unescaped_size(line) > RECORD_BYTES:
        raise RecordError("line too long", f"more than {RECORD_BYTES:,} bytes")
    if len(line) > RECORD_PARTS and line.count(b"[") + line.count(b"{") > RECORD_PARTS:
        raise RecordError("can't be read", f"more than {RECORD_PARTS:,} brackets")
    try:
        record = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        byte = f"byte 0x{error.object[error.start]:02x} at offset {error.start:,} of the line"
        raise RecordError("not UTF-8", byte) from None
    except json.JSONDecodeError as error:
        raise RecordError("not JSON", f"{error.msg}, column {error.colno}") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; brackets within brackets
        raise RecordError("can't be read", str(error)) from None
    if not isinstance(record, dict):
        raise RecordError("not a JSON object", f"a {type(record).__name__}")
    return record


def _unescaped_size(line: bytes) -> int:
    """A line's bytes, of which six such as \\u0434 count as one.

    Beyond ASCII all count: json reads such a line from a text with four bytes for each character. And no pair of
    backslashes begins an escape, whatever letter is after it.
    """
    escapes = line.count(rb"\u") - line.count(rb"\\") if line.isascii() else 0
    return len(line) - 5 * max(escapes, 0)


def is_unicode(text: str) -> bool:
    """Whether a text can be written as UTF-8: not one with a lone surrogate, half of what JSON may write as a pair."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def find_name(field: str, names: Collection[str]) -> str | None:
    """The name that a field has among a record's: its own, else one such as " Text" for "text"; None: it has none."""
    if field in names:
        return field
    tidy = field.strip().lower()
    return tidy if tidy in names else next((each for each in [*names][::-1] if each.strip().lower() == tidy), None)


def describe_value(value: Any) -> str:
    """A value that is wrong, for an error: a number itself; of what may be private, such as a text, the type alone."""
    is_number = isinstance(value, int | float)
    if isinstance(value, str):  # of a table
        is_number = re.fullmatch(r"-?\d{1,6}(\.\d{1,6})?", value) is not None
    return f"{value!r:.40}" if is_number else f"of type {type(value).__name__}"


def describe_fields(path: str | Path, record: dict[str, Any], known: Iterable[str]) -> str:
    """A record's fields; of a table without a known name, which may have no header but a record there, the number."""
    if str(path).lower().endswith(JSON_LINES) or any(find_name(name, record) for name in known):
        return f"its fields are {', '.join(map(repr, record)) or 'none':.200}"
    return f"its first line names {plural(len(record), 'field')}"


def require_unicode(where: str, *texts: str) -> None:
    """Refuse texts that are read and have a lone surrogate."""
    if not all(map(is_unicode, texts)):
        raise DataError(f"{where}: a lone surrogate, half of a \\u pair, is no text; write it again")


def parse_table(
    path: str | Path, content: bytes, delimiter: str, errors: LineErrors | None = None, names: Sequence[str] = ()
) -> Iterator[Record]:
    """The rows of a CSV or TSV file as objects, named by its first line, each with its line's number.

    In a CSV file, double quotes enclose a text with commas; in a TSV file quotes are part of the text, as in GLUE.

    Args:
      errors: takes the errors of rows with another number of fields than the first line; None: they are raised.
      names: of the fields, if the file has no header; empty: its first line has them.

    Raises:
      DataError: it is not UTF-8, has no rows, or one has another number of fields than the first line.
    """
    rows = _rows(path, content, delimiter)
    expected = "every row needs" if names else "the first line names"
    if not names:
        _, names = next(rows, (1, []))
    if duplicates := [name for name, count in collections.Counter(names).items() if count > 1]:
        first = names.index(duplicates[0]) + 1
        second = names.index(duplicates[0], first) + 1  # by number: without a header these are a record's texts
        raise DataError(f"{path}: the first line names fields {first} and {second} alike; give each a name of its own")
    if len(names) == 1 and (other := next((each for each in ";\t|" if each in names[0]), None)):
        raise DataError(f"{path}: fields must be separated by {delimiter!r}, and this file has {other!r}; convert it")
    is_empty = True
    for line, row in rows:
        is_empty = False
        if len(row) == len(names):
            yield line, dict(zip(names, row, strict=True))
        else:
            problem = f"{len(row)} fields, and {expected} {len(names)}; mend it"
            collect_or_raise(DataError(f"{path}, line {line}: {problem}"), line, errors)
    if is_empty:
        raise DataError(f"{path}: no record in it: the first has the names of the fields, and each other a record")


def _rows(path: str | Path, content: bytes, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    quoting = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
    csv.field_size_limit(RECORD_BYTES)  # of the whole process
    text = io.TextIOWrapper(io.BytesIO(content), "utf-8", newline="")
    rows = csv.reader(text, delimiter=delimiter, quoting=quoting, strict=True)
    begin = 1  # the line on which a record begins
    try:
        for row in rows:
            if row:
                yield begin, row
            begin = rows.line_num + 1
    except csv.Error as error:
        reason = "a quote is not closed" if "unexpected end" in str(error) else error
        raise DataError(f"{path}, line {begin}: {reason}; mend the record that begins there") from None
    except UnicodeDecodeError:
        start = _first_invalid_byte(content)  # the error itself counts from where the last piece began
        line = content.count(b"\n", 0, start) + 1
        raise DataError(
            f"{path}, line {line}: not UTF-8: byte 0x{content[start]:02x}; "
            "convert the file first, for example: iconv -f latin1 -t utf-8"
        ) from None


def _first_invalid_byte(content: bytes) -> int:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start
    return len(content)


def require_text(where: str, record: dict[str, Any], field: str, may_be_empty: bool = False) -> str:
    """A record's field, as `find_name` finds it.

    Raises:
      DataError: the field is missing, not a text, blank although it may not be empty, or has a lone surrogate.
    """
    if (name := find_name(field, record)) is None:
        raise DataError(f"{where}: no field {field!r}; every example of a file needs it")
    text = record[name]
    if not isinstance(text, str):
        raise DataError(f"{where}: {field!r} is of type {type(text).__name__}, and must be a text")
    if not (may_be_empty or text.strip()):
        raise DataError(f"{where}: {field!r} is empty; give it a text, or remove the line")
    require_unicode(where, text)
    return text

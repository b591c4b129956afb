"""What annotators said of pairs of answers: lines in two files, each of which is on the disk before it counts.

`prefs.jsonl` has the judgments that chose, and is `--data` of a run that learns pairs or completions as it is;
`prefs.undecided.jsonl` beside it has ties and skips. docs/review.md has the fields of a line.
"""

import errno
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jaxgpt import console
from jaxgpt.data.records import is_unicode
from jaxgpt.errors import DataError, RetryableError
from jaxgpt.files import open_nofollow, report_write_errors, sync, write_whole
from jaxgpt.json_file import parse_json
from jaxgpt.locks import try_lock
from jaxgpt.reports.judgments import undecided_path

Record = dict[str, Any]
CHOICES = (1, 2, "tie", "skip")
CLICK_ID = re.compile(r"[\w-]{1,64}", re.ASCII)
READ_AGAIN = {  # the fields that a restarted server needs, and what they must be
    "id": lambda value: isinstance(value, str) and CLICK_ID.fullmatch(value),
    **dict.fromkeys(("item", "annotator", "topic", "remark"), lambda value: _is_text(value)),
    "edited": lambda value: isinstance(value, bool),
    "number": lambda value: type(value) is int and value > 0,
    "choice": lambda value: type(value) in (int, str) and value in CHOICES,
    "winner": lambda value: value is None or (type(value) is int and value in (0, 1)),
    "answers": lambda value: isinstance(value, list) and [*map(_is_text, value)] == [True, True],
    "models": lambda value: isinstance(value, list) and [*map(_is_model, value)] == [True, True],
    "seeds": lambda value: isinstance(value, list) and [*map(type, value)] == [int, int],
    "sampling": lambda value: isinstance(value, dict),
    "cut": lambda value: isinstance(value, list) and [*map(type, value)] == [bool, bool],
}


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and is_unicode(value)


def _is_model(value: Any) -> bool:
    return isinstance(value, dict) and all(_is_text(value.get(name)) for name in ("name", "fingerprint"))


class Judgments:
    """The judgments of one --out, which no other process may have open.

    Attributes:
      records: all of them, in the order in which they came.

    Raises:
      DataError: a line is no judgment of `review`.
      RetryableError: another process has them open.
      UsageError: a file can't be written.
    """

    def __init__(self, out: Path):
        self._paths = out, undecided_path(out)
        with report_write_errors(out.parent):
            self._read()  # what is wrong with them is found before anything is written
            self._lock = open_nofollow(out.with_name(f".{out.name}.lock"), "a+")
            try:
                if not try_lock(self._lock):
                    raise RetryableError(f"--out {out}: in use by another review; stop it, or choose another file")
                for path in self._paths:
                    _mend(path)
                records = self._read()
                _require_single(out, records)
            except BaseException:
                self._lock.close()
                raise
        self.records: list[Record] = sorted(records, key=lambda record: record["number"])
        self._by_id = {record["id"]: record for record in self.records}

    def close(self) -> None:
        self._lock.close()

    def __enter__(self) -> "Judgments":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def find(self, id: str) -> Record | None:
        """The judgment of a click."""
        return self._by_id.get(id)

    def last_of(self, annotator: str) -> Record | None:
        """The newest judgment of an annotator."""
        return next((each for each in reversed(self.records) if each["annotator"] == annotator), None)

    def add(self, record: Record) -> Record:
        """Write a judgment, and return it, with its number, when it is on the disk.

        Raises:
          OSError: it can't be written, and nothing of it was.
        """
        number = self.records[-1]["number"] + 1 if self.records else 1
        record = record | {"number": number}
        _append(self._path_of(record), record)
        self.records.append(record)
        self._by_id[record["id"]] = record
        return record

    def remove(self, record: Record) -> None:
        """Take a judgment out of its file, which at any moment has it in whole or not at all.

        Raises:
          OSError: it can't be written, and the judgment stays.
        """
        path = self._path_of(record)
        with open_nofollow(path, "rb") as file:
            content = file.read()
        try:
            rest = [
                line for line in content.splitlines(keepends=True) if line.strip() and not _has_id(line, record["id"])
            ]
            write_whole(path, b"".join(rest).decode())
        except (ValueError, TypeError, KeyError):
            raise OSError(errno.EIO, "it was changed, and is no longer a file of judgments", str(path)) from None
        self.records = [each for each in self.records if each is not record]
        del self._by_id[record["id"]]

    def _read(self) -> list[Record]:
        return [
            record
            for path, is_undecided in zip(self._paths, (False, True), strict=True)
            for record in _read(path, is_undecided)
        ]

    def _path_of(self, record: Record) -> Path:
        return self._paths[record["winner"] is None]


def _append(path: Path, record: Record) -> None:
    """Write a line at the end of a file, and wait until it is on the disk; or leave the file as it was."""
    text = json.dumps(record, ensure_ascii=False)
    for separator in "\x85\u2028\u2029":  # which some readers take for the end of a line
        text = text.replace(separator, ascii(separator)[1:-1].replace("\\x", "\\u00"))
    line = (text + "\n").encode()
    with open_nofollow(path, "ab", buffering=0) as file:
        before = os.fstat(file.fileno()).st_size
        try:
            if file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            os.fsync(file.fileno())
            if not before:  # it is new, or somebody has moved the old one away
                sync(path.parent)
        except OSError:
            file.truncate(before)
            raise


def _read(path: Path, is_undecided: bool) -> list[Record]:
    """The judgments in a file, if it is there, without a last line that was not finished."""
    if not os.path.lexists(path):
        return []
    with open_nofollow(path, "rb") as file:
        *lines, last = file.read().split(b"\n")
    lines += [last] * _is_json(last)
    named = enumerate(lines, 1)
    return [_parse(f"{path}, line {number}", line, is_undecided) for number, line in named if line.strip()]


def _has_id(line: bytes, id: str) -> bool:
    return parse_json(line)["id"] == id


def _mend(path: Path) -> None:
    """Make a file, if it is not there, and cut off a last line that a kill left unfinished."""
    with open_nofollow(path, "ab+") as file:
        file.seek(0)
        content = file.read()
        end = content.rfind(b"\n") + 1
        if last := content[end:]:
            if _is_json(last):  # it was written in whole, or an editor has left out the end
                file.write(b"\n")
                file.flush()
            else:
                console.note(f"{path}: its last line was not finished, and so never saved; {len(last)} bytes are cut")
                file.truncate(end)
        os.fsync(file.fileno())


def _is_json(line: bytes) -> bool:
    try:
        parse_json(line)
    except ValueError:
        return False
    return True


def _require_single(out: Path, records: Iterable[Record]) -> None:
    """Refuse two judgments of an annotator on one item, as in files that somebody has joined: one undo has one line."""
    seen: set[tuple[str, str]] = set()
    for record in records:
        for name, key in (("id", ("", record["id"])), ("judgment", (record["annotator"] + "\0", record["item"]))):
            if key in seen:
                which = f"{record['annotator']!r} on item {record['item']!r}, with the id {record['id']!r}"
                raise DataError(f"{out}: a second {name} of {which}; remove one of the lines, or choose another --out")
            seen.add(key)


def _parse(where: str, line: bytes, is_undecided: bool) -> Record:
    try:
        record = parse_json(line)
    except ValueError as error:
        raise DataError(f"{where}: not JSON ({error}); mend or remove the line, or choose another --out") from None
    wrong = (
        READ_AGAIN.keys()
        if not isinstance(record, dict)
        else [name for name, is_right in READ_AGAIN.items() if name not in record or not is_right(record[name])]
    )
    if not wrong and (record["winner"] is None) != is_undecided:
        wrong = ["winner"]
    if not wrong and record["edited"] and not _is_text(record.get("chosen")):
        wrong = ["chosen"]
    if wrong:
        fields = ", ".join(map(repr, wrong))
        raise DataError(f"{where}: not a judgment of `review`: {fields} is missing or wrong; choose another --out")
    return record

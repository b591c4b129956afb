"""From the records of a file to examples: the fields of a record decide which kind it is of."""

import dataclasses
import functools
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jaxgpt.console import program
from jaxgpt.data import chat, completions, labels, preferences
from jaxgpt.data.base import Example, ExampleKind
from jaxgpt.data.config import USUAL_FIELDS, FieldNames
from jaxgpt.data.packing import one_a_row
from jaxgpt.data.records import LineErrors, collect_or_raise, describe_fields, find_name, parse_records
from jaxgpt.errors import DataError, UsageError

KINDS: list[ExampleKind] = [*labels.KINDS, *chat.KINDS, *completions.KINDS, *preferences.KINDS]

JUDGED_COMPLETIONS = [  # what a record of `review` matches
    [(field, "completions"), (field, "preferences")] for field in ("prompt", "messages")
]
_one_a_row = functools.partial(completions.pack_rows, place=one_a_row)
UNPACKED = [  # the same, with no two examples in a row
    dataclasses.replace(kind, tabulate=_one_a_row) if kind.tabulate is completions.pack_rows else kind for kind in KINDS
]


def put_pairs_first(kinds: Sequence[ExampleKind]) -> list[ExampleKind]:
    """The kinds for a run that learns pairs."""
    return sorted(kinds, key=lambda kind: kind.name != "preferences")


def parse_examples(
    path: str,
    content: bytes,
    kinds: Sequence[ExampleKind] = KINDS,
    fields: FieldNames = USUAL_FIELDS,
    errors: LineErrors | None = None,
) -> tuple[ExampleKind, Iterator[Example]]:
    """The kind that a file's examples are of, which is that of the first, and all of them, read one by one.

    Args:
      path: .jsonl (or .ndjson), .csv or .tsv.
      content: of the file.
      kinds: those that they may be of; what `review` writes is a pair and a completion, and is of the first.
      fields: names of fields, which only examples of some kinds have.
      errors: takes the errors of wrong records, which are left out, unless no record has a kind; None: they are raised.

    Raises:
      DataError: a record is wrong, here the first one; with its line.
      UsageError: the names are of fields that no kind has together.
    """
    renamed = fields.renamed
    kinds = labels.SCORE_KINDS if "score" in renamed else kinds
    accepted = _describe(kinds)
    kinds = [kind for kind in kinds if renamed.keys() <= set(kind.fields)]
    if not kinds:
        raise UsageError(f"{fields}: an example has {accepted}; give the names of one of these")
    for line, record in parse_records(path, content, errors):
        renamed_record = rename_fields(record, renamed)
        try:
            if "text" in renamed_record and not renamed and not matching_kinds(renamed_record, kinds):
                raise DataError(f"{path}, line {line}: {_describe_unlabelled(path, record)}")
            kind, _ = _recognize(path, line, record, kinds, renamed)
            return kind, _parse(path, content, kind, renamed, errors)
        except DataError as error:
            collect_or_raise(error, line, errors)
    raise errors[min(errors)]


def _parse(
    path: str, content: bytes, kind: ExampleKind, renamed: dict[str, str], errors: LineErrors | None
) -> Iterator[Example]:
    for line, record in parse_records(path, content, errors):
        where = f"{path}, line {line}"
        try:
            _, renamed_record = _recognize(path, line, record, [kind], renamed)
            label = kind.parse_label(where, renamed_record) if kind.parse_label else ""
            numbers = kind.parse_numbers(where, renamed_record) if kind.parse_numbers else ()
            example = Example(line, kind.parse(where, renamed_record), label, numbers)
        except DataError as error:
            collect_or_raise(error, line, errors)
        else:
            yield example


def _recognize(
    path: str, line: int, record: dict[str, Any], kinds: Sequence[ExampleKind], renamed: dict[str, str]
) -> tuple[ExampleKind, dict[str, Any]]:
    """The kind of example that a record's fields make it, and the record with our names for them."""
    renamed_record = rename_fields(record, renamed)
    matching = matching_kinds(renamed_record, kinds)
    if sorted((kind.fields[0], kind.name) for kind in matching) in JUDGED_COMPLETIONS:
        matching = matching[:1]
    if len(matching) != 1:
        raise DataError(f"{path}, line {line}: {_describe_mismatch(path, record, kinds, matching, renamed)}")
    return matching[0], renamed_record


def rename_fields(record: dict[str, Any], renamed: dict[str, str]) -> dict[str, Any]:
    """The record with our names for its fields: `renamed`, and "text" for " Text" too, unless it has both.

    "labels", as models of `transformers` call it, is the "label" of a record that has none.
    """
    tidy = {name.strip().lower(): value for name, value in record.items()} | record
    if "labels" in tidy:
        tidy.setdefault("label", tidy["labels"])
    renamed_record = {name: value for name, value in tidy.items() if name not in renamed}
    for field, name in renamed.items():
        if (name := find_name(name, record)) is not None:
            renamed_record[field] = record[name]
    return renamed_record


def is_example(record: dict[str, Any]) -> bool:
    """Whether a record has the fields of an example."""
    return bool(matching_kinds(rename_fields(record, {}), KINDS))


def matching_kinds(record: dict[str, Any], kinds: Sequence[ExampleKind]) -> list[ExampleKind]:
    """The kinds whose fields a record has, but for one whose fields are a part of another's."""
    matching = [kind for kind in kinds if record.keys() >= set(kind.fields)]
    return [kind for kind in matching if not any(set(kind.fields) < set(each.fields) for each in matching)]


def _describe_unlabelled(path: str, record: dict[str, Any]) -> str:
    command = f"{program('prepare')} {shlex.join([path, '--out', f'data/{Path(path).stem}'])}"
    fields = describe_fields(path, record, ["text"])
    return f"{fields}, and none is a label; name it with --label-field, or tokenize the texts: {command}"


def _describe_mismatch(
    path: str,
    record: dict[str, Any],
    kinds: Sequence[ExampleKind],
    matching: Sequence[ExampleKind],
    renamed: dict[str, str],
) -> str:
    fields = {field for kind in matching or kinds for field in kind.fields}
    flags = [f"--{flag.replace('_', '-')}" for flag in vars(USUAL_FIELDS) if flag.removesuffix("_field") in fields]
    hint = f"name them with {', '.join(flags)}" if flags else "rename them"
    start = f"{describe_fields(path, record, {*fields, *renamed.values()})}, and an example has"
    if matching:
        return f"{start} {_describe(matching)}, not both; {hint}, or remove one"
    return f"{start} {_describe(kinds, renamed)}; {hint}; a plain text is a .txt file"


def _describe(kinds: Sequence[ExampleKind], renamed: dict[str, str] | None = None) -> str:
    return ", or ".join(" and ".join((renamed or {}).get(field, field) for field in kind.fields) for kind in kinds)

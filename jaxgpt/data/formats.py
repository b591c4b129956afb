"""From the records of a file to examples: the fields of a record decide which kind it is of."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxgpt.console import program
from jaxgpt.data import chat, completions, labels
from jaxgpt.data.base import ExampleKind, NumberedExamples
from jaxgpt.data.config import USUAL_FIELDS, FieldNames
from jaxgpt.data.records import JSON_LINES, Records, read_jsonl, read_table
from jaxgpt.errors import DataError, UsageError

KINDS: list[ExampleKind] = [*labels.KINDS, *chat.KINDS, *completions.KINDS]


def read_examples(
    path: str, kinds: Sequence[ExampleKind] = KINDS, fields: FieldNames = USUAL_FIELDS
) -> tuple[ExampleKind, NumberedExamples]:
    """Read a file's examples, and the kind that all of them are of, which is that of the first.

    Args:
      path: .jsonl (or .ndjson), .csv or .tsv.
      kinds: those that they may be of.
      fields: names of fields, which only examples of some kinds have.

    Raises:
      DataError: the file can't be read, or a record is wrong; with its line.
      UsageError: the names are of fields that no kind has together.
    """
    renamed, accepted = fields.renamed, _describe(kinds)
    kinds = [kind for kind in kinds if renamed.keys() <= set(kind.fields)]
    if not kinds:
        raise UsageError(f"{fields}: an example has {accepted}; give the names of one of these")
    examples = []
    for line, record in read_records(path):
        where = f"{path}, line {line}"
        ours = rename_fields(record, renamed)
        matching = [kind for kind in kinds if ours.keys() >= set(kind.fields)]
        if not (matching or examples or renamed) and "text" in ours:
            raise DataError(f"{where}: {_describe_unlabelled(path)}")
        if len(matching) != 1:
            raise DataError(f"{where}: {_describe_mismatch(record, kinds, matching, renamed)}")
        (kind,) = kinds = matching
        examples.append((line, kind.parse(where, ours)))
    return kind, examples


def read_records(path: str) -> Records:
    """A file's records, by its suffix."""
    if path.lower().endswith(JSON_LINES):
        return read_jsonl(path)
    return read_table(path, delimiter="\t" if path.lower().endswith(".tsv") else ",")


def rename_fields(record: dict[str, Any], renamed: dict[str, str]) -> dict[str, Any]:
    """The record with our names for its fields: `renamed`, and "text" for " Text" too, unless it has both."""
    tidy = {name.strip().lower(): value for name, value in record.items()} | record
    ours = {name: value for name, value in tidy.items() if name not in renamed}
    for field, name in renamed.items():
        if (name := name if name in tidy else name.strip().lower()) in tidy:
            ours[field] = tidy[name]
    return ours


def is_example(record: dict[str, Any]) -> bool:
    """Whether a record has the fields of an example."""
    return any(rename_fields(record, {}).keys() >= set(kind.fields) for kind in KINDS)


def _describe_unlabelled(path: str) -> str:
    command = shlex.join([path, "--out", f"data/{Path(path).stem}"])
    return f"a text without a label; add labels, or make tokens of the texts: {program('prepare')} {command}"


def _describe_mismatch(
    record: dict[str, Any], kinds: Sequence[ExampleKind], matching: Sequence[ExampleKind], renamed: dict[str, str]
) -> str:
    found = f"its fields are {', '.join(map(repr, record)) or 'none':.200}"
    fields = {field for kind in matching or kinds for field in kind.fields}
    flags = [f"--{flag.replace('_', '-')}" for flag in vars(USUAL_FIELDS) if flag.removesuffix("_field") in fields]
    hint = f"name them with {', '.join(flags)}" if flags else "rename them"
    if matching:
        return f"{found}, and an example has {_describe(matching)}, not both; {hint}, or remove one"
    return f"{found}, and an example has {_describe(kinds, renamed)}; {hint}; a plain text is a .txt file"


def _describe(kinds: Sequence[ExampleKind], renamed: dict[str, str] | None = None) -> str:
    return ", or ".join(" and ".join((renamed or {}).get(field, field) for field in kind.fields) for kind in kinds)

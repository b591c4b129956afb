"""From the records of a file to examples: the fields of a record decide which kind it is of."""

from collections.abc import Iterable, Sequence
from typing import Any

from jaxgpt.data import chat, completions, labels
from jaxgpt.data.base import ExampleKind, NumberedExamples
from jaxgpt.data.records import Records, read_jsonl, read_table
from jaxgpt.errors import DataError

KINDS: list[ExampleKind] = [*labels.KINDS, *chat.KINDS, *completions.KINDS]


def read_examples(path: str, kinds: Sequence[ExampleKind] = KINDS) -> tuple[ExampleKind, NumberedExamples]:
    """Read a file's examples, and the kind that all of them are of, which is that of the first.

    Args:
      path: .jsonl, .csv or .tsv.
      kinds: those that they may be of.

    Raises:
      DataError: the file can't be read, or a record is wrong; with its line.
    """
    examples = []
    for line, record in read_records(path):
        where = f"{path}, line {line}"
        fields = tidy_names(record)
        matching = [kind for kind in kinds if fields.keys() >= set(kind.fields)]
        if len(matching) != 1:
            raise DataError(f"{where}: {_describe_mismatch(record, kinds, matching)}")
        (kind,) = kinds = matching
        examples.append((line, kind.parse(where, fields)))
    return kind, examples


def read_records(path: str) -> Records:
    """A file's records, by its suffix."""
    if path.lower().endswith(".jsonl"):
        return read_jsonl(path)
    return read_table(path, delimiter="\t" if path.lower().endswith(".tsv") else ",")


def tidy_names(record: dict[str, Any]) -> dict[str, Any]:
    """The record, with " Text" as "text" too, unless it has both."""
    return {name.strip().lower(): value for name, value in record.items()} | record


def _describe_mismatch(names: Iterable[str], kinds: Sequence[ExampleKind], matching: Sequence[ExampleKind]) -> str:
    found = f"its fields are {', '.join(map(repr, names)) or 'none':.200}"
    accepted = ", or ".join(" and ".join(kind.fields) for kind in matching or kinds)
    if matching:
        return f"{found}, and an example has {accepted}, not both; remove one"
    return f"{found}, and an example has {accepted}; a plain text needs another name, such as .txt"

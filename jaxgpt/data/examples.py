"""Examples with answers as tables of rows: prompts with completions, conversations, texts with labels."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from jaxgpt.data.base import Batch, all_rows
from jaxgpt.data.completions import encode_completion, encode_conversation, pack_rows
from jaxgpt.data.labels import label_names, label_rows, text_rows
from jaxgpt.data.loader import epoch_order, next_examples
from jaxgpt.data.records import Records, read_jsonl, read_table
from jaxgpt.data.tokenizer import byte_lengths
from jaxgpt.errors import DataError

SUFFIXES = (".jsonl", ".csv", ".tsv")


@dataclasses.dataclass(frozen=True)
class Examples:
    """A table of examples on the host, as a base.Dataset.

    Attributes:
      name: the file.
      table: arrays of R rows of T tokens, by the names of a batch: `tokens` (R, T), and for completions `targets` and
        `positions` (R, T), for labels `last` and `labels` (R,).
      T: tokens of a row.
      labels: the names of the labels; none for completions.
      count: the number of examples; a row of completions may hold several.
      fingerprint: SHA-256 of the table.
      notes: messages about examples that were cut or skipped.
      seed: of the order.
      B, rows: those of base.Dataset.
    """

    name: str
    table: Batch
    T: int
    labels: tuple[str, ...]
    count: int
    fingerprint: str
    notes: tuple[str, ...]
    seed: int
    B: int = dataclasses.field(kw_only=True)
    rows: slice = dataclasses.field(default_factory=all_rows, kw_only=True)

    @property
    def kind(self) -> str:
        return "labels" if self.labels else "completions"

    def batch(self, position: int, model: Any = None) -> tuple[Batch, int]:
        """loader.next_examples: rows of the table, and the next position."""
        *arrays, next_position = next_examples(
            tuple(self.table.values()), position, self.B, self.T, self.seed, self.rows
        )
        return dict(zip(self.table, arrays, strict=True)), next_position

    def batches_per_epoch(self) -> float:
        """The last may be a part of one."""
        return self.num_rows() / self.B

    def resume_position(self, saved: int) -> int:
        return saved

    def one_pass(self) -> Iterator[Batch]:
        """All rows in the order of the file; the last batch is filled up with rows that do not count."""
        for start in range(0, self.num_rows(), self.B):
            batch = {}
            for name, array in self.table.items():
                part = np.asarray(array[start : start + self.B], np.int32)
                filling = -1 if name in ("targets", "labels") else 0
                rest = np.full((self.B - len(part), *part.shape[1:]), filling, np.int32)
                batch[name] = np.concatenate([part, rest])
            yield batch

    def num_rows(self) -> int:
        """Rows of the table."""
        return len(self.table["tokens"])

    def num_bytes(self) -> int | None:
        """UTF-8 bytes of the completions; None for labels."""
        if self.labels:
            return None
        y = self.table["targets"]
        return int(byte_lengths()[y[y >= 0]].sum())

    def order_facts(self) -> dict[str, Any]:
        return {"T": self.T, "labels": list(self.labels)}

    def __str__(self) -> str:
        what = f"{len(self.labels)} labels" if self.labels else f"completions, in {self.num_rows():,} rows"
        return f"{self.name}: {self.count:,} examples of {what}"


def load(path: str, B: int, T: int, seed: int = 0, labels: Sequence[str] = (), fraction: float = 0) -> list[Examples]:
    """Read a file of examples.

    Args:
      path: .jsonl, .csv or .tsv.
      B: rows in a batch.
      T: tokens in a row; longer examples are cut, and counted in `notes`.
      seed: of the order.
      labels: the known labels, any other is an error; empty: the file's own labels.
      fraction: of the records, taken at random from the whole file, which become a second table.

    Raises:
      DataError: it names the line.
    """
    records = read(path)
    encode = _encoder(path, records)
    parts = _split(path, records, fraction) if fraction else [records]
    if encode is label_rows:
        labels = tuple(labels or label_names(path, records))
        tables = [label_rows(path, part, T, labels) for part in parts]
        (train, _), *_ = tables
        if fraction and (lost := set(range(len(labels))) - set(train["labels"].tolist())):
            raise DataError(f"{path}: --val {fraction:g} leaves no example of {labels[min(lost)]!r:.40} to learn from")
    else:
        documents = ([encode(f"{path}, line {line}", record) for line, record in part] for part in parts)
        tables = [pack_rows(path, part, T) for part in documents]
    return [
        Examples(path, table, T, tuple(labels), len(part), _fingerprint(table), tuple(notes), seed, B=B)
        for part, (table, notes) in zip(parts, tables, strict=True)
    ]


def load_texts(path: str, B: int, T: int, labels: Sequence[str]) -> Examples:
    """As `load`, for texts whose labels are not known: a label in the file is ignored, and no row counts.

    Args:
      labels: the labels that the texts may have.
    """
    _require_suffix(path)
    records = read(path)
    x, last, notes = text_rows(path, records, T)
    table = {"tokens": x, "last": last, "labels": np.full(len(records), -1, np.int32)}
    return Examples(path, table, T, tuple(labels), len(records), _fingerprint(table), tuple(notes), 0, B=B)


def require_labels(path: str) -> None:
    """Refuse a file whose examples have no labels."""
    _require_suffix(path)
    records = read(path)
    if _encoder(path, records) is not label_rows:
        first = f"{path}, line {records[0][0]}"
        raise DataError(f'{first}: no label; each example must have "text" (or "text_a" and "text_b") and "label"')


def _require_suffix(path: str) -> None:
    if not path.lower().endswith(SUFFIXES):
        raise DataError(f'{path}: not a file of examples; give a .jsonl, .csv or .tsv of "text" and "label"')


def _split(path: str, records: Records, fraction: float) -> tuple[Records, Records]:
    """The records for training and those for validation: drawn, since many files are sorted, and always the same."""
    num_val = round(fraction * len(records))
    if not 0 < num_val < len(records):
        raise DataError(f"{path}: --val {fraction:g} of {len(records):,} examples is {num_val:,}; both sides need some")
    drawn = set(epoch_order(len(records), seed=0, epoch=0)[:num_val].tolist())
    return [record for n, record in enumerate(records) if n not in drawn], [records[n] for n in sorted(drawn)]


def _fingerprint(table: Batch) -> str:
    digest = hashlib.sha256()
    for array in table.values():
        digest.update(array.astype("<i4"))
    return digest.hexdigest()


# ---- Files


def read(path: str) -> Records:
    """A file's records, by its suffix."""
    if path.lower().endswith(".jsonl"):
        return read_jsonl(path)
    return read_table(path, delimiter="\t" if path.lower().endswith(".tsv") else ",")


def _encoder(path: str, records: Records) -> Callable:
    """The function that encodes a file's records, by the fields of the first one."""
    line, record = records[0]
    encoders = {"label": label_rows, "messages": encode_conversation, "completion": encode_completion}
    for field, encoder in encoders.items():
        if field in record:
            return encoder
    raise DataError(
        f"{path}, line {line}: an example has the fields prompt and completion, or messages, or text and label "
        f"(or text_a, text_b, label), and this one {', '.join(map(str, record)) or 'none'}; "
        "a text that is no examples needs another name, such as .txt"
    )

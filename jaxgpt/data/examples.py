"""Examples with answers as tables of rows: prompts with completions, conversations, texts with labels."""

import dataclasses
import functools
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jaxgpt.data import completions, labels
from jaxgpt.data.base import Batch, ExampleKind, all_rows
from jaxgpt.data.records import Records, read_jsonl, read_table
from jaxgpt.data.tokenizer import byte_lengths
from jaxgpt.errors import DataError

SUFFIXES = (".jsonl", ".csv", ".tsv")

# The kinds of examples: a file is of the first of which its first record has the field.
KINDS: dict[str, ExampleKind] = {
    "label": labels.KIND,
    "messages": completions.CONVERSATIONS,
    "completion": completions.COMPLETIONS,
}


@dataclasses.dataclass(frozen=True)
class Examples:
    """A table of examples on the host, as a base.Dataset.

    Attributes:
      name: the file.
      kind: the name of its ExampleKind.
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
    kind: str
    table: Batch
    T: int
    labels: tuple[str, ...]
    count: int
    fingerprint: str
    notes: tuple[str, ...]
    seed: int
    B: int = dataclasses.field(kw_only=True)
    rows: slice = dataclasses.field(default_factory=all_rows, kw_only=True)

    def batch(self, position: int, model: Any = None) -> tuple[Batch, int]:
        """next_examples: rows of the table, and the next position."""
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
                filling = -1 if name.endswith(("targets", "labels")) else 0
                rest = np.full((self.B - len(part), *part.shape[1:]), filling, np.int32)
                batch[name] = np.concatenate([part, rest])
            yield batch

    def num_rows(self) -> int:
        """Rows of the table."""
        return len(self.table["tokens"])

    def num_bytes(self) -> int | None:
        """UTF-8 bytes of the completions; None where no token is predicted."""
        if "targets" not in self.table:
            return None
        y = self.table["targets"]
        return int(byte_lengths()[y[y >= 0]].sum())

    def order_facts(self) -> dict[str, Any]:
        return {"T": self.T, "labels": list(self.labels)}

    def __str__(self) -> str:
        what = f"{len(self.labels)} {self.kind}" if self.labels else f"{self.kind}, in {self.num_rows():,} rows"
        return f"{self.name}: {self.count:,} examples of {what}"


def load(path: str, B: int, T: int, seed: int = 0, known: Sequence[str] = (), fraction: float = 0) -> list[Examples]:
    """Read a file of examples.

    Args:
      path: .jsonl, .csv or .tsv.
      B: rows in a batch.
      T: tokens in a row; longer examples are cut, and counted in `notes`.
      seed: of the order.
      known: the known labels, any other is an error; empty: the file's own labels.
      fraction: of the records, taken at random from the whole file, which become a second table.

    Raises:
      DataError: it names the line.
    """
    records = read(path)
    kind = _kind(path, records)
    parts = _split(path, records, fraction) if fraction else [records]
    names = tuple(known or kind.names(path, records)) if kind.names else ()
    tables = [kind.tabulate(path, part, T, names) for part in parts]
    (train, _), *_ = tables
    if names and fraction and (lost := set(range(len(names))) - set(train["labels"].tolist())):
        raise DataError(f"{path}: --val {fraction:g} leaves no example of {names[min(lost)]!r:.40} to learn from")
    return [
        Examples(path, kind.name, table, T, names, len(part), _fingerprint(table), tuple(notes), seed, B=B)
        for part, (table, notes) in zip(parts, tables, strict=True)
    ]


def load_texts(path: str, B: int, T: int, known: Sequence[str]) -> Examples:
    """As `load`, for texts whose labels are not known: a label in the file is ignored, and no row counts.

    Args:
      known: the labels that the texts may have.
    """
    _require_suffix(path)
    records = read(path)
    x, last, notes = labels.text_rows(path, records, T)
    table = {"tokens": x, "last": last, "labels": np.full(len(records), -1, np.int32)}
    facts = tuple(known), len(records), _fingerprint(table), tuple(notes)
    return Examples(path, labels.KIND.name, table, T, *facts, seed=0, B=B)


def require_labels(path: str) -> None:
    """Refuse a file whose examples have no labels."""
    _require_suffix(path)
    records = read(path)
    if _kind(path, records) is not labels.KIND:
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


# ---- The order


def next_examples(
    table: tuple[np.ndarray, ...], position: int, B: int, T: int, seed: int, rows: slice = slice(None)
) -> tuple[np.ndarray, ...]:
    """As `next_batch`, for a table of examples: B of its rows, reshuffled every epoch.

    An epoch is all rows once. A batch may hold the last rows of one epoch and the first of the next: none is left out.

    Args:
      table: arrays whose first axis is the same R rows of T tokens each.
      position: in tokens: k*T after k rows.
      seed: of the orders; the order of epoch e depends only on (seed, e).
      rows: which of the B rows to return.

    Returns:
      The rows of each array, int32, then the next position, position + B*T.
    """
    R = len(table[0])
    chosen = [epoch_order(R, seed, k // R)[k % R] for k in range(position // T, position // T + B)[rows]]
    return *(np.asarray(array[chosen], dtype=np.int32) for array in table), position + B * T


@functools.lru_cache(maxsize=2)  # a batch may reach into the next epoch
def epoch_order(R: int, seed: int, epoch: int) -> np.ndarray:
    """The order of R rows in an epoch: a permutation that depends only on the arguments."""
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(R)


# ---- Files


def read(path: str) -> Records:
    """A file's records, by its suffix."""
    if path.lower().endswith(".jsonl"):
        return read_jsonl(path)
    return read_table(path, delimiter="\t" if path.lower().endswith(".tsv") else ",")


def _kind(path: str, records: Records) -> ExampleKind:
    line, record = records[0]
    for field, kind in KINDS.items():
        if field in record:
            return kind
    raise DataError(
        f"{path}, line {line}: an example has the fields {', or '.join(kind.fields for kind in KINDS.values())}; "
        f"this one has {', '.join(map(str, record)) or 'none'}; "
        "a text that is no examples needs another name, such as .txt"
    )

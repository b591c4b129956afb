"""Examples with answers, made into arrays once: prompts with completions, conversations, texts with labels."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from jaxgpt.data import completions, records
from jaxgpt.data import labels as labelled
from jaxgpt.data.loader import epoch_order, next_examples
from jaxgpt.data.records import Records
from jaxgpt.data.tokenizer import byte_lengths
from jaxgpt.errors import DataError

SUFFIXES = (".jsonl", ".csv", ".tsv")


@dataclasses.dataclass(frozen=True)
class Examples:
    """A table of examples on the host, and what a run asks of what it is trained on.

    Attributes:
      name: the file.
      table: arrays of R rows of T tokens. Of completions x, y, positions as objectives.completion_loss has them, each
        (R, T); of labels x (R, T), last (R,), label (R,), as objectives.label_loss has them.
      T: tokens of a row.
      labels: the names of the labels; none for completions.
      count: how many examples there are; of completions a row may hold several.
      fingerprint: SHA-256 of the table.
      notes: what is to be said of examples that were cut or left out.
      seed: of the order.
    """

    name: str
    table: tuple[np.ndarray, ...]
    T: int
    labels: tuple[str, ...]
    count: int
    fingerprint: str
    notes: tuple[str, ...]
    seed: int

    note = ""
    by_rows = True

    @property
    def kind(self) -> str:
        return "labels" if self.labels else "completions"

    def batch(self, position: int, B: int, T: int, rows: slice = slice(None)) -> tuple[np.ndarray, ...]:
        """loader.next_examples: the batch at a position, and the next position."""
        return next_examples(self.table, position, B, T, self.seed, rows)

    def per_epoch(self, B: int, T: int) -> float:
        """Batches of an epoch; the last may be a part of one."""
        return len(self.table[0]) / B

    def position(self, saved: int, B: int, T: int) -> int:
        """Where to go on from a saved position: there."""
        return saved

    def once(self, B: int, T: int) -> Iterator[tuple[np.ndarray, ...]]:
        """Batches of all rows in the order of the file; the last is filled up with rows that do not count."""
        for start in range(0, len(self.table[0]), B):
            arrays = [np.asarray(array[start : start + B], np.int32) for array in self.table]
            missing = B - len(arrays[0])
            nothing = (0, -1, 0) if self.kind == "completions" else (0, 0, -1)  # of y and of label, -1 doesn't count
            yield tuple(
                np.concatenate([array, np.full((missing, *array.shape[1:]), value, np.int32)])
                for array, value in zip(arrays, nothing, strict=True)
            )

    def rows(self, T: int) -> int:
        """How many rows `once` has."""
        return len(self.table[0])

    def bytes(self) -> int:
        """Of the text that is to be predicted; there is none if that is a label."""
        if self.labels:
            return 0
        y = self.table[1]
        return int(byte_lengths()[y[y >= 0]].sum())

    def __str__(self) -> str:
        rows = len(self.table[0])
        what = f"{len(self.labels)} labels" if self.labels else f"completions, in {rows:,} rows"
        return f"{self.name}: {self.count:,} examples of {what}"


def load(path: str, T: int, seed: int = 0, labels: Sequence[str] = (), fraction: float = 0) -> list[Examples]:
    """Read a file of examples.

    Args:
      path: .jsonl, .csv or .tsv.
      T: tokens of a row; what is longer is cut, and counted in `notes`.
      seed: of the order.
      labels: those that are known; any other is an error. None: those that the file has.
      fraction: of the records, drawn from all of the file, which become a second table.

    Raises:
      DataError: it names the line.
    """
    found = read(path)
    kind = _kind(path, found)
    parts = _parted(path, found, fraction) if fraction else [found]
    if kind is labelled.rows:
        labels = tuple(labels or labelled.names(path, found))
        tables = [labelled.rows(path, part, T, labels) for part in parts]
        (_, _, label), _ = tables[0]
        if fraction and (lost := set(range(len(labels))) - set(label.tolist())):
            raise DataError(f"{path}: --val {fraction:g} leaves no example of {labels[min(lost)]!r:.40} to learn from")
    else:
        documents = ([kind(f"{path}, line {line}", record) for line, record in part] for part in parts)
        tables = [completions.packed(path, part, T) for part in documents]
    return [
        Examples(path, table, T, tuple(labels), len(part), _digest(table), tuple(notes), seed)
        for part, (table, notes) in zip(parts, tables, strict=True)
    ]


def load_texts(path: str, T: int, labels: Sequence[str]) -> Examples:
    """As `load`, of texts whose labels are not known: a label in the file is not looked at, and none counts.

    Args:
      labels: that they may have.
    """
    _require_suffix(path)
    found = read(path)
    x, last, notes = labelled.texts(path, found, T)
    table = x, last, np.full(len(found), -1, np.int32)
    return Examples(path, table, T, tuple(labels), len(found), _digest(table), tuple(notes), 0)


def require_labels(path: str) -> None:
    """Refuse a file whose examples have no labels."""
    _require_suffix(path)
    found = read(path)
    if _kind(path, found) is not labelled.rows:
        here = f"{path}, line {found[0][0]}"
        raise DataError(f'{here}: no label; each example must have "text" (or "text_a" and "text_b") and "label"')


def _require_suffix(path: str) -> None:
    if not path.lower().endswith(SUFFIXES):
        raise DataError(f'{path}: not a file of examples; give a .jsonl, .csv or .tsv of "text" and "label"')


def _parted(path: str, found: Records, fraction: float) -> tuple[Records, Records]:
    """The records without a share, and the share: drawn, since many files are sorted, and always the same one."""
    held = round(fraction * len(found))
    if not 0 < held < len(found):
        raise DataError(f"{path}: --val {fraction:g} of {len(found):,} examples is {held:,}; both sides need some")
    drawn = set(epoch_order(len(found), seed=0, epoch=0)[:held].tolist())
    return [record for n, record in enumerate(found) if n not in drawn], [found[n] for n in sorted(drawn)]


def _digest(table: tuple[np.ndarray, ...]) -> str:
    digest = hashlib.sha256()
    for array in table:
        digest.update(array.astype("<i4"))
    return digest.hexdigest()


# ---- Files


def read(path: str) -> Records:
    """The records of a file."""
    if path.lower().endswith(".jsonl"):
        return records.read(path)
    return records.table(path, delimiter="\t" if path.lower().endswith(".tsv") else ",")


def _kind(path: str, found: Records) -> Callable:
    """What the records of a file are, by the fields of the first."""
    line, record = found[0]
    kinds = {"label": labelled.rows, "messages": completions.conversation, "completion": completions.completion}
    for field, kind in kinds.items():
        if field in record:
            return kind
    raise DataError(
        f"{path}, line {line}: an example has the fields prompt and completion, or messages, or text and label "
        f"(or text_a, text_b, label), and this one {', '.join(map(str, record)) or 'none'}; "
        "a text that is no examples needs another name, such as .txt"
    )

"""Examples with answers, made into arrays once: prompts with completions, conversations, texts with labels."""

import dataclasses
import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from jaxgpt import records
from jaxgpt.errors import DataError
from jaxgpt.loader import epoch_order, next_examples
from jaxgpt.tokenizer import byte_lengths, gpt2

ROLES = ("system", "user", "assistant")
SUFFIXES = (".jsonl", ".csv", ".tsv")
Records = list[tuple[int, dict[str, Any]]]  # each with the line that it stands on
Tokens = list[int]


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
        """Of the text that is to be predicted."""
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
    if kind is _labelled:
        labels = tuple(labels or _labels(path, found))
        tables = [_labelled(path, part, T, labels) for part in parts]
    else:
        tables = [_packed(path, [kind(f"{path}, line {line}", record) for line, record in part], T) for part in parts]
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
    x, last, notes = _texts(path, found, T)
    table = x, last, np.full(len(found), -1, np.int32)
    return Examples(path, table, T, tuple(labels), len(found), _digest(table), tuple(notes), 0)


def require_labels(path: str) -> None:
    """Refuse a file whose examples have no labels."""
    _require_suffix(path)
    found = read(path)
    if _kind(path, found) is not _labelled:
        here = f"{path}, line {found[0][0]}"
        raise DataError(f'{here}: no label; each example must have "text" (or "text_a" and "text_b") and "label"')


def _require_suffix(path: str) -> None:
    if not path.endswith(SUFFIXES):
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
    if path.endswith(".jsonl"):
        return records.read(path)
    return records.table(path, delimiter="\t" if path.endswith(".tsv") else ",")


def _kind(path: str, found: Records) -> Callable:
    """What the records of a file are, by the fields of the first."""
    line, record = found[0]
    for field, kind in (("label", _labelled), ("messages", _conversation), ("completion", _completion)):
        if field in record:
            return kind
    raise DataError(
        f"{path}, line {line}: an example has the fields prompt and completion, or messages, or text and label "
        f"(or text_a, text_b, label), and this one {', '.join(map(str, record)) or 'none'}"
    )


def text_of(where: str, record: dict[str, Any], field: str) -> str:
    """A field that must be there, be a text, and not be empty."""
    if field not in record:
        raise DataError(f"{where}: no field {field!r}; every example of a file needs it")
    text = record[field]
    if not isinstance(text, str):
        raise DataError(f"{where}: {field!r} is {text!r:.40}, and must be a text")
    if not text.strip():
        raise DataError(f"{where}: {field!r} is empty; give it a text, or remove the line")
    return text


def encode(where: str, text: str) -> Tokens:
    try:
        return gpt2().encode(text, disallowed_special=())  # as encode_ordinary, which would panic where this raises
    except ValueError:  # its pattern has no room for a million blanks in a row
        raise DataError(f"{where}: one word or blank is too long; shorten it") from None


# ---- Completions: of each document the tokens, and for each whether it is to be learned


def _completion(where: str, record: dict[str, Any]) -> tuple[Tokens, list[bool]]:
    prompt, completion = (encode(where, text_of(where, record, field)) for field in ("prompt", "completion"))
    completion = [*completion, gpt2().eot_token]
    return prompt + completion, [False] * len(prompt) + [True] * len(completion)


def _conversation(where: str, record: dict[str, Any]) -> tuple[Tokens, list[bool]]:
    """The template: "System: ...", "User: ...", "Assistant: ...", with an empty line between the turns.

    What the assistant says, from the blank before it to the <|endoftext|> after it, is to be learned.
    """
    tokens: Tokens = []
    learned: list[bool] = []
    for text, wanted in _turns(where, record.get("messages")):
        ids = [*encode(where, text), gpt2().eot_token] if wanted else encode(where, text)
        tokens += ids
        learned += [wanted] * len(ids)
    if not any(learned):
        raise DataError(f"{where}: no message of the assistant, and only those are learned; remove the line")
    return tokens, learned


def _turns(where: str, messages: Any) -> Iterator[tuple[str, bool]]:
    if not isinstance(messages, list) or not messages:
        raise DataError(f"{where}: 'messages' must be a list of {{'role', 'content'}}")
    for number, message in enumerate(messages, 1):
        here = f"{where}, message {number}"
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            raise DataError(f"{here}: its role must be {', '.join(ROLES)}")
        content, role = text_of(here, message, "content"), message["role"].capitalize()
        before = "\n\n" if number > 1 else ""
        if message["role"] == "assistant":
            yield f"{before}{role}:", False
            yield f" {content.strip()}", True
        else:
            yield f"{before}{role}: {content.strip()}", False


def _packed(path: str, documents: list[tuple[Tokens, list[bool]]], T: int) -> tuple[tuple[np.ndarray, ...], list[str]]:
    """x, y and positions, each (R, T): the documents one after the other; one that doesn't fit begins a new row.

    Of one that is longer than a row the end is cut; if nothing to be learned is left then, it is left out.
    """
    cut = out = 0
    rows: list[list[tuple[Tokens, list[bool]]]] = []
    room = 0
    for tokens, learned in documents:
        cut += len(tokens) > T + 1
        tokens, learned = tokens[: T + 1], learned[: T + 1]
        if not any(learned):
            out += 1
            continue
        if len(tokens) - 1 > room:
            rows.append([])
            room = T
        rows[-1].append((tokens, learned))
        room -= len(tokens) - 1
    if not rows:
        raise DataError(f"{path}: the prompts alone fill --T {T} tokens; use a larger --T")
    x, y = np.zeros((len(rows), T), np.uint16), np.full((len(rows), T), -1, np.int32)
    positions = np.zeros((len(rows), T), np.uint16)
    for row, held in enumerate(rows):
        start = 0
        for tokens, learned in held:
            here = slice(start, start + len(tokens) - 1)
            x[row, here] = tokens[:-1]
            y[row, here] = np.where(learned[1:], tokens[1:], -1)
            positions[row, here] = range(len(tokens) - 1)
            start = here.stop
        positions[row, start:] = range(T - start)  # what is left of the row: a document of its own, not learned
    notes = [f"{cut:,} examples are longer than --T {T} and lose their end"] if cut else []
    notes += [f"{out:,} of them are left out: their prompts alone fill it"] if out else []
    return (x, y, positions), notes


# ---- Labels


def _labels(path: str, found: Records) -> list[str]:
    """The labels of a file: in the order of numbers if all are whole numbers, else of the alphabet."""
    names = {_label(f"{path}, line {line}", record) for line, record in found}
    if len(names) < 2:
        raise DataError(f"{path}: all labels are {min(names)!r}; there is nothing to tell apart")
    numbers = all(re.fullmatch(r"-?[0-9]{1,18}", name) for name in names)
    return sorted(names, key=lambda name: (int(name) if numbers else 0, name))  # "01" and "1" have an order too


def _label(where: str, record: dict[str, Any]) -> str:
    if type(record.get("label")) is int:
        return str(record["label"])
    return text_of(where, record, "label").strip()


def _labelled(path: str, wanted: Records, T: int, labels: Sequence[str]) -> tuple[tuple[np.ndarray, ...], list[str]]:
    """x (R, T), last (R,) and label (R,): one text a row, then <|endoftext|>, on which the head stands."""
    label = np.zeros(len(wanted), np.int32)
    for row, (line, record) in enumerate(wanted):
        name = _label(f"{path}, line {line}", record)
        if name not in labels:
            known = ", ".join(labels)
            raise DataError(f"{path}, line {line}: the label {name!r:.40} is unknown; the known ones are {known}")
        label[row] = labels.index(name)
    x, last, notes = _texts(path, wanted, T)
    return (x, last, label), notes


def _texts(path: str, wanted: Records, T: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """x (R, T) and last (R,), and what is to be said of texts that were cut."""
    x, last = np.zeros((len(wanted), T), np.uint16), np.zeros(len(wanted), np.int32)
    cut = 0
    for row, (line, record) in enumerate(wanted):
        tokens, longer = label_tokens(f"{path}, line {line}", record, T)
        cut += longer
        x[row, : len(tokens)] = tokens
        last[row] = len(tokens) - 1
    return x, last, [f"{cut:,} texts are longer than --T {T} and lose their end"] if cut else []


def label_tokens(where: str, record: dict[str, Any], T: int) -> tuple[Tokens, bool]:
    """The tokens of {"text"} or {"text_a", "text_b"}, at most T, and whether some were cut.

    Between two texts stands a new line. The longer one loses its end first.
    """
    fields = ("text_a", "text_b") if "text_a" in record and "text" not in record else ("text",)
    a, b = [encode(where, text_of(where, record, field)) for field in fields] + [[]] * (2 - len(fields))
    between = gpt2().encode_ordinary("\n")[: T - 1] if b else []
    room = T - 1 - len(between)
    if longer := len(a) + len(b) > room:
        keep = min(len(a), room // 2) if len(a) < len(b) else room - min(len(b), room // 2)  # of a
        a, b = a[:keep], b[: room - keep]
    return [*a, *between, *b, gpt2().eot_token], longer

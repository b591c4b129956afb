"""Examples with answers as tables of rows: prompts with completions, conversations, texts with labels."""

import dataclasses
import functools
import hashlib
import math
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jaxgpt.console import plural
from jaxgpt.data.base import Batch, ExampleKind, TokenizedExamples, all_rows
from jaxgpt.data.config import USUAL_FIELDS, FieldNames
from jaxgpt.data.documents import find_jsonl_command
from jaxgpt.data.formats import KINDS, parse_examples
from jaxgpt.data.gpt2_tokenizer import GPT2_TOKENIZER
from jaxgpt.data.labels import label_names, labelled_kinds, unlabelled_kinds
from jaxgpt.data.records import JSON_LINES, LineErrors, read_content
from jaxgpt.data.squad import is_squad
from jaxgpt.data.tokenized import open_examples, tokenize
from jaxgpt.data.tokenizer import Template, Tokenizer
from jaxgpt.errors import DataError

SUFFIXES = (*JSON_LINES, ".csv", ".tsv")


@dataclasses.dataclass(frozen=True)
class Examples:
    """A table of examples on the host, as a base.Dataset.

    Attributes:
      name: the file.
      kind: the name of its ExampleKind.
      table: arrays of R rows of T tokens, by the names of a batch: `tokens` (R, T), and for completions `targets` and
        `positions` (R, T), for labels `last`, for an encoder `second`, and `labels` (R,); preferences.py has others.
      T: tokens of a row, of which a pair of answers has two sequences.
      labels: the names of the labels; none for completions.
      is_chat: that of its ExampleKind.
      tokenizer: that of the tokens.
      count: the number of examples; a row of completions may hold several.
      fingerprint: SHA-256 of the table.
      notes: messages about examples that were cut or skipped.
      seed: of the order.
      lines: int64 (R,), the line of the file on which each row's example begins; None: a row has several examples.
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
    is_chat: bool = False
    tokenizer: Tokenizer = GPT2_TOKENIZER
    lines: np.ndarray | None = None
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

    def locate(self, position: int) -> list[tuple[str, int]]:
        """The file of each row of a batch, and the line of its example. ValueError: there is no such batch."""
        if position < 0 or position % self.T:
            raise ValueError(f"position {position:,}, where no row of {self.T:,} tokens starts")
        rows = rows_at(self.num_rows(), position, self.B, self.T, self.seed, self.rows)
        return [(self.name, line) for line in self.lines[rows].tolist()]

    def one_pass(self, model: Any = None) -> Iterator[Batch]:
        """All rows in the order of the table; the last batch is filled up with rows that do not count."""
        for start in range(0, self.num_rows(), self.B):
            batch = {}
            for name, array in self.table.items():
                part = as_batch(array[start : start + self.B])
                filling = -1 if name.endswith(("targets", "labels")) else 0
                rest = np.full((self.B - len(part), *part.shape[1:]), filling, part.dtype)
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
        return int(self.tokenizer.byte_lengths[y[y >= 0]].sum())

    def order_facts(self) -> dict[str, Any]:
        packing = {"packing": "best fit"} if "positions" in self.table else {}  # older runs packed in the file's order
        return {"T": self.T, "labels": list(self.labels)} | packing

    def __str__(self) -> str:
        what = f"{len(self.labels)} {self.kind}" if self.labels else f"{self.kind}, in {plural(self.num_rows(), 'row')}"
        return f"{self.name}: {plural(self.count, 'example')} of {what}"


def load(
    path: str,
    B: int,
    T: int,
    seed: int = 0,
    known: Sequence[str] = (),
    fraction: float = 0,
    kinds: Sequence[ExampleKind] = KINDS,
    fields: FieldNames = USUAL_FIELDS,
    tokenizer: Tokenizer = GPT2_TOKENIZER,
) -> list[Examples]:
    """Read a file of examples.

    Args:
      path: .jsonl (or .ndjson), .csv or .tsv.
      B: rows in a batch.
      T: tokens in a row; longer examples are cut, and counted in `notes`.
      seed: of the order.
      known: the known labels, any other is an error; empty: the file's own labels.
      fraction: of the examples, taken at random from the whole file, which become a second table.
      kinds, fields: those of formats.parse_examples.

    Raises:
      DataError: it names the line.
    """
    kind, examples = read_examples(path, kinds, fields, tokenizer)
    parts = _split(path, examples, fraction) if fraction else [examples]
    labels = tuple(known or (label_names(path, examples) if kind.name == "labels" else ()))
    loaded = [tabulate(path, kind, part, B, T, labels, seed) for part in parts]
    if labels and fraction and (lost := set(range(len(labels))) - set(loaded[0].table["labels"].tolist())):
        unlearned = f"{len(lost):,} of the {len(labels):,} labels"
        raise DataError(f"{path}: --val {fraction:g} leaves no example of {unlearned} to learn from")
    return loaded


def tabulate(
    path: str,
    kind: ExampleKind,
    examples: TokenizedExamples,
    B: int,
    T: int,
    labels: tuple[str, ...] = (),
    seed: int = 0,
) -> Examples:
    """The examples in rows of T tokens; arguments and errors as for `load`."""
    table, notes = kind.tabulate(path, examples, T, labels)
    lines = table.pop("line", None)  # for people; the same examples on other lines are the same data
    facts = _fingerprint(table), tuple(notes), seed, kind.is_chat, examples.tokenizer, lines
    width = math.prod(table["tokens"][:1].shape)
    return Examples(path, kind.name, table, width, labels, len(examples), *facts, B=B)


def load_labelled(
    path: str,
    B: int,
    T: int,
    known: Sequence[str],
    fields: FieldNames = USUAL_FIELDS,
    template: Template | None = None,
    tokenizer: Tokenizer = GPT2_TOKENIZER,
) -> Examples:
    """As `load`, for the texts and labels that a model is measured on; rows are as long as the longest text.

    Args:
      known: the labels that the texts may have.
      template: what surrounds each text; None: the tokenizer's.
    """
    require_suffix(path)
    kinds = labelled_kinds(template)
    return without_padding(load(path, B, T, known=known, kinds=kinds, fields=fields, tokenizer=tokenizer)[0])


def load_texts(
    path: str,
    B: int,
    T: int,
    known: Sequence[str],
    fields: FieldNames = USUAL_FIELDS,
    template: Template | None = None,
    tokenizer: Tokenizer = GPT2_TOKENIZER,
) -> tuple[Examples, LineErrors, list[int]]:
    """As `load_labelled`, for texts whose labels are not known: a label in the file is ignored, and no row counts.

    Returns:
      The texts, whose file may be a pipe; the errors of others, by their lines; and the lines of all, in the order of
      the file.
    """
    path, content = _read_file_or_pipe(path)
    errors: LineErrors = {}
    kind, parsed = parse_examples(path, content, unlabelled_kinds(template), fields, errors)
    # Not from the cache, which has only the right ones.
    examples = tokenize(parsed, path, content.count(b"\n"), tokenizer)
    if not len(examples):
        raise errors[min(errors)]
    data = tabulate(path, kind, examples, B, T, tuple(known))
    return without_padding(data), errors, sorted([*examples.lines.tolist(), *errors])


def without_padding(data: Examples, multiple: int = 1) -> Examples:
    """The table without the columns that are padding in every row, but for those that make T such a multiple."""
    tokens, longest = data.table["tokens"], int(data.table["last"].max()) + 1
    tokens = dataclasses.replace(tokens, T=min(tokens.T, -(-longest // multiple) * multiple))
    return dataclasses.replace(data, T=math.prod(tokens[:1].shape), table=data.table | {"tokens": tokens})


def require_labels(path: str, fields: FieldNames = USUAL_FIELDS) -> None:
    """Refuse a file whose examples have no labels."""
    require_suffix(path)
    parse_examples(path, read_content(path), labelled_kinds(), fields)


def read_examples(
    path: str,
    kinds: Sequence[ExampleKind] = KINDS,
    fields: FieldNames = USUAL_FIELDS,
    tokenizer: Tokenizer = GPT2_TOKENIZER,
) -> tuple[ExampleKind, TokenizedExamples]:
    """A file's examples as tokens, and their kind. Arguments and errors as `load`."""
    content = read_content(path)
    kind, examples = parse_examples(path, content, kinds, fields)
    return kind, open_examples(path, content, kind, fields, examples, tokenizer)


def require_suffix(path: str, fields: str = '"text" and "label"') -> None:
    """Refuse a file that, by its name, has no records; `fields` are those that they would have."""
    if not path.lower().endswith(SUFFIXES) and not is_squad(path):
        command = find_jsonl_command(path)
        convert = f"; make it JSONL: {command}" if command else ""
        raise DataError(f"{path}: not a file of examples; give a .jsonl, .csv or .tsv of {fields}{convert}")


def _read_file_or_pipe(path: str) -> tuple[str, bytes]:
    """A file's name and bytes. A pipe, or - for stdin, gets the suffix of what is in it: JSONL if it begins with {."""
    path = "/dev/stdin" if path == "-" else path
    is_pipe = os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)
    if path.lower().endswith(SUFFIXES) or not (is_pipe or path == "/dev/stdin"):
        require_suffix(path)
        return path, read_content(path)
    content = read_content(path)
    return path + (".jsonl" if content.lstrip().startswith(b"{") else ".csv"), content


def _split(path: str, examples: TokenizedExamples, fraction: float) -> list[TokenizedExamples]:
    """The examples for training and those for validation."""
    is_drawn = draw_validation(len(examples), fraction)
    if not 0 < (num_val := is_drawn.sum()) < len(examples):
        raise DataError(
            f"{path}: --val {fraction:g} of {plural(len(examples), 'example')} is {num_val:,}; both sides need some"
        )
    return [examples.take(~is_drawn), examples.take(is_drawn)]


def draw_validation(n: int, fraction: float) -> np.ndarray:
    """Which of n examples are for validation, bool (n,): drawn, since many files are sorted, and always the same."""
    is_drawn = np.zeros(n, bool)
    is_drawn[epoch_order(n, seed=0, epoch=0)[: round(fraction * n)]] = True
    return is_drawn


def _fingerprint(table: Batch) -> str:
    digest = hashlib.sha256()
    for array in table.values():
        for start in range(0, len(array), 1024):  # rows, so that only these are there as int32, too
            part = as_batch(array[start : start + 1024])
            digest.update(part.astype(part.dtype.newbyteorder("<")))
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
      The rows of each array, int32 or float32, then the next position, position + B*T.
    """
    chosen = rows_at(len(table[0]), position, B, T, seed, rows)
    return *(as_batch(array[chosen]) for array in table), position + B * T


def rows_at(R: int, position: int, B: int, T: int, seed: int, rows: slice) -> list[int]:
    """Which of the R rows of a table a batch has; arguments as for next_examples."""
    return [epoch_order(R, seed, k // R)[k % R] for k in range(position // T, position // T + B)[rows]]


def as_batch(array: np.ndarray) -> np.ndarray:
    """Numbers as a device gets them: float32, or int32."""
    return np.asarray(array, np.float32 if array.dtype.kind == "f" else np.int32)


@functools.lru_cache(maxsize=2)  # a batch may reach into the next epoch
def epoch_order(R: int, seed: int, epoch: int) -> np.ndarray:
    """The order of R rows in an epoch: a permutation that depends only on the arguments."""
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(R)

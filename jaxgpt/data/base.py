"""What a run asks of its data, whatever its kind."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from jaxgpt.data.tokenizer import Tokenizer

Batch = dict[str, np.ndarray]  # int32 or float32 arrays by name; the first axis of each is the sequences
# The pieces of an example's text, and whether each is learned; None: an answer that is not, but ends in <|endoftext|>.
Segments = list[tuple[str, bool | None]]


def all_rows() -> slice:
    """Of Dataset.rows: the whole batch."""
    return slice(None)


class Example(NamedTuple):
    """What a record says.

    Attributes:
      line: of the file, on which it begins.
      segments: its text.
      label: "" where it has none.
      numbers: what else its kind reads of it.
    """

    line: int
    segments: Segments
    label: str
    numbers: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True)
class TokenizedExamples:
    """R examples as tokens, before any T is chosen.

    Attributes:
      tokens: uint16 or uint32 (N,), the S segments of all examples, one after the other.
      starts: int64 (S + 1,), where each segment starts in `tokens`, and N.
      learned: bool (S,), whether a segment is learned.
      first, end: int64 (R,), each example's first segment, and the one after its last.
      label: int32 (R,), the number of each example's label in `labels`.
      lines: int64 (R,), the line of the file on which each example begins.
      numbers: float32 (R, K), what else the K fields of a kind's parse_numbers say.
      labels: the names of the labels, in the order of the file.
      tokenizer: that of the tokens.
    """

    tokens: np.ndarray
    starts: np.ndarray
    learned: np.ndarray
    first: np.ndarray
    end: np.ndarray
    label: np.ndarray
    lines: np.ndarray
    numbers: np.ndarray
    labels: tuple[str, ...]
    tokenizer: Tokenizer

    def __len__(self) -> int:
        return len(self.lines)

    def take(self, rows: np.ndarray) -> "TokenizedExamples":
        """Some of the examples; their tokens are not copied."""
        names = ("first", "end", "label", "lines", "numbers")
        return dataclasses.replace(self, **{name: getattr(self, name)[rows] for name in names})


@dataclasses.dataclass(frozen=True)
class ExampleKind:
    """How the records of a file become a table.

    Attributes:
      name: what batches of the table hold, by which an objective names its data.
      fields: the fields that such a record has; any others are ignored.
      parse: (where, record) to the text; a function, for whose module's code the cache looks. It raises DataError for a
        wrong record.
      tabulate: (path, examples, T, labels) to the table, arrays of R rows by name, `tokens` (R, T) among them, and
        `line`, if it is to be told of a row, which no batch has; and notes on examples that were cut or skipped. It
        raises DataError, with the file and the line.
      parse_label: (where, record) to the name of its label, or of its group; None: such records have none.
      parse_numbers: (where, record) to numbers, as many for each record; None: none.
      is_chat: whether they are conversations, which chat.CHAT_TEMPLATE makes a text.
    """

    name: str
    fields: tuple[str, ...]
    parse: Callable[[str, dict[str, Any]], Segments]
    tabulate: Callable[[str, TokenizedExamples, int, Sequence[str]], tuple[Batch, Sequence[str]]]
    parse_label: Callable[[str, dict[str, Any]], str] | None = None
    parse_numbers: Callable[[str, dict[str, Any]], tuple[float, ...]] | None = None
    is_chat: bool = False


class Dataset(Protocol):
    """Data in batches of B sequences of T tokens. It is pure: nothing is kept between calls.

    Attributes:
      name: what the user calls it.
      kind: what a batch holds, such as "text", "completions" or "labels"; an objective reads one kind.
      fingerprint: SHA-256 of the content.
      notes: what the user should know, such as how many examples were cut.
      labels: the names of the classes; empty where there are none.
      is_chat: whether it is conversations, which chat.CHAT_TEMPLATE makes a text.
      tokenizer: that of its tokens.
      B, T: sequences of a batch, and tokens of a sequence.
      rows: which of the B sequences `batch` cuts, so that several hosts can each cut their part of one batch.
    """

    name: str
    kind: str
    fingerprint: str
    notes: Sequence[str]
    labels: Sequence[str]
    is_chat: bool
    tokenizer: Tokenizer
    B: int
    T: int
    rows: slice

    def batch(self, position: int, model: Any = None) -> tuple[Batch, int]:
        """The batch at a position, and the position of the next one; `model` is for data that a model makes."""
        ...

    def one_pass(self, model: Any = None) -> Iterator[Batch]:
        """All of it once, for validation, in batches of B; a target below 0 is filling and does not count.

        `model` is for data that a model makes.
        """
        ...

    def num_rows(self) -> int:
        """Sequences of `one_pass`."""
        ...

    def batches_per_epoch(self) -> float:
        """Batches until all of it was seen.

        Raises:
          ValueError: it is too short for one batch.
        """
        ...

    def resume_position(self, saved: int) -> int:
        """Where to resume from a saved position, whatever B and T were then."""
        ...

    def num_bytes(self) -> int | None:
        """UTF-8 bytes of what is predicted; None where that is no text."""
        ...

    def order_facts(self) -> dict[str, Any]:
        """What decides which tokens come when, beside the flags and the content; a run that resumes must keep it."""
        ...

"""What a run trains on, and what is held out: a text or examples, whichever --data and --val name."""

import dataclasses
import hashlib
from collections.abc import Iterator

import numpy as np

from jaxgpt import corpus, examples
from jaxgpt.config import TrainConfig
from jaxgpt.errors import DataError, UsageError
from jaxgpt.loader import batches_per_epoch, next_batch
from jaxgpt.tokenizer import byte_lengths


@dataclasses.dataclass(frozen=True)
class Text:
    """A corpus, and what a run asks of what it is trained on; examples.Examples answers the same.

    Attributes:
      name, tokens, fingerprint, note: as of corpus.Corpus.
    """

    name: str
    tokens: np.ndarray
    fingerprint: str
    note: str = ""

    kind = "text"
    labels = notes = ()

    def batch(self, position: int, B: int, T: int, rows: slice = slice(None)) -> tuple[np.ndarray, ...]:
        """loader.next_batch: x, y, and the next position."""
        return next_batch(self.tokens, position, B, T, rows)

    def per_epoch(self, B: int, T: int) -> int:
        """Batches of an epoch. ValueError: it has none."""
        return batches_per_epoch(self.tokens, B, T)

    def position(self, saved: int, B: int, T: int) -> int:
        """Where to go on from a saved position: 0 if no batch is left there, since B or T may have grown."""
        return saved if saved + B * T + 1 <= len(self.tokens) else 0

    def once(self, B: int, T: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Batches in which every token but the first is predicted once: windows of T + 1 tokens with stride T.

        The last windows, short or missing, are filled up with what does not count: y is -1 there.
        """
        for start in range(0, len(self.tokens) - 1, B * T):
            ids = np.asarray(self.tokens[start : start + B * T + 1], np.int32)
            x, y = np.zeros(B * T, np.int32), np.full(B * T, -1, np.int32)
            x[: len(ids) - 1], y[: len(ids) - 1] = ids[:-1], ids[1:]
            yield x.reshape(B, T), y.reshape(B, T)

    def rows(self, T: int) -> int:
        """How many windows of T tokens `once` has."""
        return -(-(len(self.tokens) - 1) // T)

    def bytes(self) -> int:
        """Of the text."""
        chunk = 1 << 24
        return sum(int(byte_lengths()[self.tokens[i : i + chunk]].sum()) for i in range(0, len(self.tokens), chunk))

    def __str__(self) -> str:
        return f"{self.name}: {len(self.tokens):,} tokens"


Data = Text | examples.Examples


def open_data(name: str, T: int, seed: int = 0, flag: str = "--data") -> Data:
    """A text or examples, whichever it names; examples in rows of T tokens. `flag` named it."""
    if not name:
        raise UsageError(f"{flag} is empty; name a file")
    if is_examples(name):
        return examples.load(name, T, seed)[0]
    try:
        return Text(**vars(corpus.load(name)))
    except DataError as error:
        raise DataError(str(error).replace("--data", flag)) from None


def load(config: TrainConfig) -> tuple[Data, Data | None]:
    """What --data and --val name.

    Raises:
      DataError: a file can't be read, or a record in it is wrong.
      UsageError: --val is neither a file of the same kind as --data nor a fraction.
    """
    fraction = _fraction(config.val)
    if is_examples(config.data):
        first, *rest = examples.load(config.data, config.T, config.seed, fraction=fraction)
        if config.val is None or fraction:
            return first, rest[0] if rest else None
        if not is_examples(config.val):
            raise UsageError(f"--val {config.val}: --data has examples, so it must have some too, or be a fraction")
        held = examples.load(config.val, config.T, labels=first.labels)[0]
        if held.kind != first.kind:
            raise UsageError(f"--val {config.val} has {held.kind}, and --data {config.data} has {first.kind}")
        return first, held
    text = open_data(config.data, config.T)
    if config.val is None:
        return text, None
    if fraction:
        return _split(text, fraction)
    if is_examples(config.val):
        raise UsageError(f"--val {config.val}: --data is a text, so it must be one too, or a fraction")
    held = open_data(config.val, config.T, flag="--val")
    if len(held.tokens) < 2:
        raise DataError(f"{held.name}: one token predicts nothing; --val needs a longer text")
    return text, held


def trained_text(name: str, val: str | None) -> Text:
    """The text that a run with these flags trains on."""
    text, fraction = Text(**vars(corpus.load(name))), _fraction(val)
    return _split(text, fraction)[0] if fraction else text


def is_examples(data: str) -> bool:
    return data.lower().endswith(examples.SUFFIXES)


def _fraction(val: str | None) -> float:
    """Of --val, if it is one; else 0."""
    if val == "":
        raise UsageError("--val is empty; name a file or a fraction")
    try:
        fraction = float(val or "file")
    except ValueError:
        return 0
    if not 0 < fraction < 1:
        raise UsageError(f"--val {val}: a fraction must lie between 0 and 1, or name a file")
    return fraction


def _split(text: Text, fraction: float) -> tuple[Text, Text]:
    at = len(text.tokens) - round(fraction * len(text.tokens))
    if not 1 <= at <= len(text.tokens) - 2:
        raise DataError(f"{text.name}: {len(text.tokens):,} tokens are too few for --val {fraction:g}; use a file")

    def part(tokens: np.ndarray, name: str) -> Text:
        return Text(name, tokens, hashlib.sha256(np.ascontiguousarray(tokens, "<u2")).hexdigest(), text.note)

    return part(text.tokens[:at], text.name), part(text.tokens[at:], f"the last {fraction:g} of {text.name}")

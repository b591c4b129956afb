"""What a run trains on, and what is held out: a text or examples, whichever --data and --val name."""

import dataclasses
import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from jaxgpt import corpus, examples
from jaxgpt.config import TrainConfig
from jaxgpt.errors import DataError, UsageError
from jaxgpt.loader import batches_per_epoch, next_batch, next_windows, windows
from jaxgpt.order import shares
from jaxgpt.shards import Tokens
from jaxgpt.tokenizer import byte_lengths


@dataclasses.dataclass(frozen=True)
class Text:
    """A corpus, and what a run asks of what it is trained on; examples.Examples answers the same.

    Attributes:
      name, tokens, fingerprint, note: as of corpus.Corpus.
    """

    name: str
    tokens: np.ndarray | Tokens
    fingerprint: str
    note: str = ""

    kind = "text"
    labels = notes = ()
    by_rows = False

    def batch(self, position: int, B: int, T: int, rows: slice = slice(None)) -> tuple[np.ndarray, ...]:
        """loader.next_batch: x, y, and the next position."""
        return next_batch(self.tokens, position, B, T, rows)

    def per_epoch(self, B: int, T: int) -> int:
        """Batches of an epoch. ValueError: it has none."""
        return batches_per_epoch(self.tokens, B, T)

    def position(self, saved: int, B: int, T: int) -> int:
        """Where to go on from a saved position: 0 if no batch is left there, since B or T may have grown."""
        return saved if saved + B * T + 1 <= len(self.tokens) else 0

    def places(self, position: int, B: int, T: int) -> list[tuple[str, int]]:
        """Where each sequence of a batch starts: in which text, at which token. ValueError: there is no such batch."""
        if not 0 <= position < len(self.tokens) - B * T:
            raise ValueError(f"position {position:,}, outside of the text")
        return [(self.name, position + row * T) for row in range(B)]

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


@dataclasses.dataclass(frozen=True)
class Windows:
    """One or more texts in windows of T tokens: in a new order in each epoch, or mixed by weights, or both.

    Attributes:
      texts: of each `tokens` are read, and what is left at its end is less than a window.
      weights: whole numbers, how many windows each has of their sum.
      seed: of the orders; None: the windows of a text come one behind the other.
      mix: how the flags name it; "" for one text.
    """

    texts: tuple[Text, ...]
    weights: tuple[int, ...] = (1,)
    seed: int | None = None
    mix: str = ""

    kind = "text"
    labels = ()
    by_rows = True

    @property
    def name(self) -> str:
        return self.mix or self.texts[0].name

    @property
    def note(self) -> str:
        return "" if self.mix else self.texts[0].note

    @property
    def notes(self) -> tuple[str, ...]:
        """What each text of a mixture is, and its share."""
        shares = zip(self.texts, self.weights, strict=True) if self.mix else ()
        return tuple(f"{weight / sum(self.weights):.4g} of the windows from {text}" for text, weight in shares)

    @property
    def fingerprint(self) -> str:
        """Of one text its own; of a mixture a SHA-256 of those of its texts and of their weights."""
        if not self.mix:
            return self.texts[0].fingerprint
        parts = zip(self.weights, self.texts, strict=True)
        return hashlib.sha256("".join(f"{weight} {text.fingerprint}\n" for weight, text in parts).encode()).hexdigest()

    def batch(self, position: int, B: int, T: int, rows: slice = slice(None)) -> tuple[np.ndarray, ...]:
        """loader.next_windows: x, y, and the next position."""
        return next_windows([text.tokens for text in self.texts], self.weights, position, B, T, self.seed, rows)

    def per_epoch(self, B: int, T: int) -> float:
        """Batches until every window of every text was seen at least once. ValueError: a text has no window."""
        for text in self.texts:
            try:
                batches_per_epoch(text.tokens, 1, T)
            except ValueError as error:
                raise ValueError(f"{text.name}: {error}" if self.mix else str(error)) from None
        rounds = [(len(text.tokens) - 1) // T / n for text, n in zip(self.texts, self.weights, strict=True)]
        return max(rounds) * sum(self.weights) / B

    def position(self, saved: int, B: int, T: int) -> int:
        """Where to go on from a saved position: there, since T stays as it was."""
        return saved

    def places(self, position: int, B: int, T: int) -> list[tuple[str, int]]:
        """As of Text."""
        of, starts = windows([len(text.tokens) for text in self.texts], self.weights, position, B, T, self.seed)
        return [(self.texts[i].name, start) for i, start in zip(of.tolist(), starts.tolist(), strict=True)]

    def __str__(self) -> str:
        return f"{self.name}: {sum(len(text.tokens) for text in self.texts):,} tokens"


Data = Text | Windows | examples.Examples


def open_data(name: str, T: int, seed: int = 0, flag: str = "--data", split: str = "train") -> Text | examples.Examples:
    """A text or examples, whichever it names; examples in rows of T tokens. `flag` named it; `split` is of a folder."""
    if not name:
        raise UsageError(f"{flag} is empty; name a file")
    if is_examples(name):
        return examples.load(name, T, seed)[0]
    try:
        return Text(**vars(corpus.load(name, split=split)))
    except DataError as error:
        raise DataError(str(error).replace("--data", flag)) from None


def load(config: TrainConfig) -> tuple[Data, Data | None]:
    """What --data or --mix and --val name, in the order that --order says.

    Raises:
      DataError: a file can't be read, or a record in it is wrong.
      UsageError: --val is neither a file of the same kind as --data nor a fraction; or there are flags that don't go
        together.
    """
    fraction = _fraction(config.val)
    if config.mix is None and is_examples(config.data):
        if config.order != "sequential":
            raise UsageError(
                f"--order {config.order}: {config.data} has examples, which come in a new order in every epoch anyhow; "
                "leave --order out"
            )
        first, *rest = examples.load(config.data, config.T, config.seed, fraction=fraction)
        if config.val is None or fraction:
            return first, rest[0] if rest else None
        if not is_examples(config.val):
            raise UsageError(f"--val {config.val}: --data has examples, so it must have some too, or be a fraction")
        held = examples.load(config.val, config.T, labels=first.labels)[0]
        if held.kind != first.kind:
            raise UsageError(f"--val {config.val} has {held.kind}, and --data {config.data} has {first.kind}")
        return first, held
    trained, held = _texts(config, fraction)
    if config.val is None or fraction:
        return trained, held
    if is_examples(config.val):
        raise UsageError(f"--val {config.val}: --data is a text, so it must be one too, or a fraction")
    held = open_data(config.val, config.T, flag="--val", split="val")
    if len(held.tokens) < 2:
        raise DataError(f"{held.name}: one token predicts nothing; --val needs a longer text")
    return trained, held


def trained_text(config: TrainConfig) -> Text | Windows:
    """The text or the mixture that a run with these flags trains on, without what --val holds out."""
    return _texts(config, _fraction(config.val))[0]


def _texts(config: TrainConfig, fraction: float) -> tuple[Text | Windows, Text | None]:
    """What is trained on, and the fraction that is held out, if --val is one."""
    seed = config.seed if config.order == "shuffled" else None
    if config.mix is None:
        text = open_data(config.data, config.T)
        text, held = _split(text, fraction) if fraction else (text, None)
        return text if seed is None else Windows((text,), seed=seed), held
    if config.data != TrainConfig.data:
        raise UsageError(f"--mix {config.mix} and --data {config.data}: both say what to train on; leave one out")
    if fraction:
        raise UsageError(f"--val {config.val}: of a mixture no fraction can be held out; name a text or a folder")
    names, weights = shares(config.mix)
    for name in names:
        if is_examples(name):
            raise UsageError(f"--mix {config.mix}: {name} has examples, and only texts can be mixed; leave it out")
    return Windows(tuple(open_data(name, config.T, flag="--mix") for name in names), weights, seed, config.mix), None


def is_examples(data: str) -> bool:
    return data.lower().endswith(examples.SUFFIXES) and not Path(data).is_dir()


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

    def part(first: int, end: int, name: str) -> Text:
        if isinstance(text.tokens, Tokens):  # of which nothing is read at a start
            tokens = text.tokens.part(first, end)
            return Text(name, tokens, tokens.fingerprint, text.note)
        tokens = text.tokens[first:end]
        return Text(name, tokens, hashlib.sha256(np.ascontiguousarray(tokens, "<u2")).hexdigest(), text.note)

    return part(0, at, text.name), part(at, len(text.tokens), f"the last {fraction:g} of {text.name}")

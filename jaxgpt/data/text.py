"""A text as a run is trained on it or measured: in one order or another, and all of it once."""

import dataclasses
import hashlib
from collections.abc import Iterator

import numpy as np

from jaxgpt.data.loader import batches_per_epoch, next_batch, next_windows, windows
from jaxgpt.data.shards import Tokens
from jaxgpt.data.tokenizer import byte_lengths


@dataclasses.dataclass(frozen=True)
class Text:
    """A corpus, and what a run asks of what it is trained on; examples.Examples answers the same.

    Attributes:
      name, tokens, fingerprint, note: as of corpus.Corpus.
      n: how many of the tokens that follow each are to be predicted.
    """

    name: str
    tokens: np.ndarray | Tokens
    fingerprint: str
    note: str = ""
    n: int = 1

    kind = "text"
    labels = notes = ()
    by_rows = False

    def batch(self, position: int, B: int, T: int, rows: slice = slice(None)) -> tuple[np.ndarray, ...]:
        """loader.next_batch: x, (B, T), y, (B, T) or (B, n, T) with n > 1, and the next position."""
        return _sequences_first(*next_batch(self.tokens, position, B, T, rows, self.n))

    def per_epoch(self, B: int, T: int) -> int:
        """Batches of an epoch. ValueError: it has none."""
        return batches_per_epoch(self.tokens, B, T, self.n)

    def position(self, saved: int, B: int, T: int) -> int:
        """Where to go on from a saved position: 0 if no batch is left there, since B or T may have grown."""
        return saved if saved + B * T + self.n <= len(self.tokens) else 0

    def places(self, position: int, B: int, T: int) -> list[tuple[str, int]]:
        """Where each sequence of a batch starts: in which text, at which token. ValueError: there is no such batch."""
        if not 0 <= position <= len(self.tokens) - B * T - self.n:
            raise ValueError(f"position {position:,}, outside of the text")
        return [(self.name, position + row * T) for row in range(B)]

    def once(self, B: int, T: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Batches in which every token but the first is predicted once: windows of T + 1 tokens with stride T.

        What a batch is filled up with, and what stands behind the last token, does not count: y is -1 there. With n > 1
        y is (B, n, T), of which [:, 0] is the next token.
        """
        for start in range(0, len(self.tokens) - 1, B * T):
            ids = np.asarray(self.tokens[start : start + B * T + self.n], np.int32)
            padded = np.full(B * T + self.n, -1, np.int32)
            padded[: len(ids)] = ids
            x, *y = (padded[i : i + B * T].reshape(B, T) for i in range(self.n + 1))
            x = np.where(y[0] >= 0, x, 0)  # the last token predicts nothing
            yield x, y[0] if self.n == 1 else np.stack(y, axis=1)

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
    def n(self) -> int:
        return self.texts[0].n

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
        """loader.next_windows; arrays as of Text."""
        tokens = [text.tokens for text in self.texts]
        return _sequences_first(*next_windows(tokens, self.weights, position, B, T, self.seed, rows, self.n))

    def per_epoch(self, B: int, T: int) -> float:
        """Batches until every window of every text was seen at least once. ValueError: a text has no window."""
        rounds = []
        for text, weight in zip(self.texts, self.weights, strict=True):
            try:
                rounds.append(batches_per_epoch(text.tokens, 1, T, self.n) / weight)
            except ValueError as error:
                raise ValueError(f"{text.name}: {error}" if self.mix else str(error)) from None
        return max(rounds) * sum(self.weights) / B

    def position(self, saved: int, B: int, T: int) -> int:
        """Where to go on from a saved position: there, since T stays as it was."""
        return saved

    def places(self, position: int, B: int, T: int) -> list[tuple[str, int]]:
        """As of Text."""
        lengths = [len(text.tokens) for text in self.texts]
        of, starts = windows(lengths, self.weights, position, B, T, self.seed, n=self.n)
        return [(self.texts[i].name, start) for i, start in zip(of.tolist(), starts.tolist(), strict=True)]

    def __str__(self) -> str:
        return f"{self.name}: {sum(len(text.tokens) for text in self.texts):,} tokens"


def _sequences_first(x: np.ndarray, y: np.ndarray, next_position: int) -> tuple[np.ndarray, np.ndarray, int]:
    """The loader's y of several tokens, (n, B, T), as a step takes every array of a batch: (B, n, T)."""
    return x, y if y.ndim == 2 else y.swapaxes(0, 1), next_position

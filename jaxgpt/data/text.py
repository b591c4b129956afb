"""A text as a run trains on it or validates on it: windows in one order or another, and all of it once."""

import dataclasses
import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxgpt.console import plural
from jaxgpt.data.base import Batch, all_rows
from jaxgpt.data.gpt2_tokenizer import GPT2_TOKENIZER
from jaxgpt.data.loader import batches_per_epoch, next_batch
from jaxgpt.data.redaction import mask_targets
from jaxgpt.data.shards import Tokens
from jaxgpt.data.tokenizer import Tokenizer
from jaxgpt.data.windows import next_windows, windows


@dataclasses.dataclass(frozen=True)
class Text:
    """A text from its beginning to its end, as a base.Dataset: B*T tokens a batch, and the next B*T after them.

    Attributes:
      name, tokens, fingerprint, documents, tokenizer: those of corpus.Corpus.
      B, T, rows: those of base.Dataset.
      horizon: how many of the tokens that follow each one are its targets.
    """

    name: str
    tokens: np.ndarray | Tokens
    fingerprint: str
    documents: int = 0
    tokenizer: Tokenizer = GPT2_TOKENIZER
    B: int = dataclasses.field(kw_only=True)
    T: int = dataclasses.field(kw_only=True)
    horizon: int = dataclasses.field(default=1, kw_only=True)
    rows: slice = dataclasses.field(default_factory=all_rows, kw_only=True)

    kind = "text"
    labels = notes = ()
    is_chat = False

    def batch(self, position: int, model: Any = None) -> tuple[Batch, int]:
        """loader.next_batch: `tokens` (B, T) and `targets` (B, T), or (B, horizon, T) where the horizon is above 1."""
        batch, next_position = _named(*next_batch(self.tokens, position, self.B, self.T, self.rows, self.horizon))
        if len(erased := erased_ranges(self)):
            starts = position + self.T * np.arange(*self.rows.indices(self.B))
            batch["targets"] = mask_targets(batch["targets"], starts, erased, self.tokenizer.end)
        return batch, next_position

    def batches_per_epoch(self) -> int:
        return batches_per_epoch(self.tokens, self.B, self.T, self.horizon)

    def resume_position(self, saved: int) -> int:
        """The saved one, or 0 where no batch is left, since B or T may have grown."""
        return saved if saved + self.B * self.T + self.horizon <= len(self.tokens) else 0

    def locate(self, position: int) -> list[tuple[str, int]]:
        """Where each sequence of a batch starts: in which text, at which token. ValueError: there is no such batch."""
        if not 0 <= position <= len(self.tokens) - self.B * self.T - self.horizon:
            raise ValueError(f"position {position:,}, outside of the text")
        return [(self.name, position + row * self.T) for row in range(self.B)]

    def one_pass(self, model: Any = None) -> Iterator[Batch]:
        """Every token but the first is a target once: windows of T + 1 tokens with stride T, the last one filled up."""
        B, T = self.B, self.T
        for start in range(0, len(self.tokens) - 1, B * T):
            ids = np.asarray(self.tokens[start : start + B * T + self.horizon], np.int32)
            padded = np.full(B * T + self.horizon, -1, np.int32)
            padded[: len(ids)] = ids
            x, *y = (padded[i : i + B * T].reshape(B, T) for i in range(self.horizon + 1))
            x = np.where(y[0] >= 0, x, 0)  # the last token predicts nothing
            targets = y[0] if self.horizon == 1 else np.stack(y, axis=1)
            if len(erased := erased_ranges(self)):
                targets = mask_targets(targets, start + T * np.arange(B), erased, self.tokenizer.end)
            yield {"tokens": x, "targets": targets}

    def num_rows(self) -> int:
        """Windows of T tokens in `one_pass`."""
        return -(-(len(self.tokens) - 1) // self.T)

    def num_bytes(self) -> int:
        """UTF-8 bytes of the text, the first token's included."""
        chunk = 1 << 24
        lengths, tokens = self.tokenizer.byte_lengths, self.tokens
        return sum(int(lengths[tokens[i : i + chunk]].sum()) for i in range(0, len(tokens), chunk))

    def order_facts(self) -> dict[str, Any]:
        return {}  # the position counts tokens: B and T may change

    def __str__(self) -> str:
        documents = f" of {plural(self.documents, 'document')}" if self.documents else ""
        return f"{self.name}: {plural(len(self.tokens), 'token')}{documents}"


@dataclasses.dataclass(frozen=True)
class Windows:
    """One or more texts in windows of T tokens, as a base.Dataset: shuffled in each epoch, mixed by weights, or both.

    Attributes:
      texts: each one's `tokens` are read; what is left at its end is less than a window.
      weights: whole numbers, how many of the sum of all windows each text has.
      seed: of the shuffling; None: a text's windows come one after the other.
      mix: how the flags name it; "" for one text.
    """

    texts: tuple[Text, ...]
    weights: tuple[int, ...] = (1,)
    seed: int | None = None
    mix: str = ""
    B: int = dataclasses.field(kw_only=True)
    T: int = dataclasses.field(kw_only=True)
    rows: slice = dataclasses.field(default_factory=all_rows, kw_only=True)

    kind = "text"
    labels = ()
    is_chat = False

    @property
    def horizon(self) -> int:
        return self.texts[0].horizon

    @property
    def tokenizer(self) -> Tokenizer:
        return self.texts[0].tokenizer

    @property
    def name(self) -> str:
        return self.mix or self.texts[0].name

    @property
    def notes(self) -> tuple[str, ...]:
        """What each text of a mixture is, and its share."""
        shares = zip(self.texts, self.weights, strict=True) if self.mix else ()
        return tuple(f"{weight / sum(self.weights):.4g} of the windows from {text}" for text, weight in shares)

    @property
    def fingerprint(self) -> str:
        """The text's; a mixture's is a SHA-256 of its texts' fingerprints and their weights."""
        if not self.mix:
            return self.texts[0].fingerprint
        parts = zip(self.weights, self.texts, strict=True)
        return hashlib.sha256("".join(f"{weight} {text.fingerprint}\n" for weight, text in parts).encode()).hexdigest()

    def batch(self, position: int, model: Any = None) -> tuple[Batch, int]:
        """windows.next_windows; arrays as Text.batch gives them."""
        tokens = [text.tokens for text in self.texts]
        order = self.weights, position, self.B, self.T, self.seed
        batch, next_position = _named(*next_windows(tokens, *order, self.rows, self.horizon))
        if any(len(erased_ranges(text)) for text in self.texts):
            sources, starts = windows([*map(len, tokens)], *order, self.rows, self.horizon)
            targets = batch["targets"].copy()  # it may share its memory with the tokens
            for i, text in enumerate(self.texts):
                rows = np.flatnonzero(sources == i)
                targets[rows] = mask_targets(targets[rows], starts[rows], erased_ranges(text), self.tokenizer.end)
            batch["targets"] = targets
        return batch, next_position

    def batches_per_epoch(self) -> float:
        """Batches until every window of every text was seen at least once. ValueError: a text has no window."""
        rounds = []
        for text, weight in zip(self.texts, self.weights, strict=True):
            try:
                rounds.append(batches_per_epoch(text.tokens, 1, self.T, self.horizon) / weight)
            except ValueError as error:
                raise ValueError(f"{text.name}: {error}" if self.mix else str(error)) from None
        return max(rounds) * sum(self.weights) / self.B

    def resume_position(self, saved: int) -> int:
        return saved  # T stays as it was: see order_facts

    def locate(self, position: int) -> list[tuple[str, int]]:
        """As Text.locate."""
        lengths = [len(text.tokens) for text in self.texts]
        numbers, starts = windows(lengths, self.weights, position, self.B, self.T, self.seed, self.rows, self.horizon)
        return [(self.texts[i].name, start) for i, start in zip(numbers.tolist(), starts.tolist(), strict=True)]

    def order_facts(self) -> dict[str, Any]:
        """With another T the windows would be others, and none of those that are left to see."""
        return {"order": f"T={self.T} {'sequential' if self.seed is None else 'shuffled'}"}

    def __str__(self) -> str:
        if not self.mix:
            return str(self.texts[0])
        return f"{self.mix}: {sum(len(text.tokens) for text in self.texts):,} tokens"


def erased_ranges(text: Text) -> np.ndarray:
    """The ranges of a text's tokens that were erased, int64 (R, 2); only a prepared folder has any."""
    return text.tokens.erased if isinstance(text.tokens, Tokens) else np.empty((0, 2), np.int64)


def _named(x: np.ndarray, y: np.ndarray, next_position: int) -> tuple[Batch, int]:
    """The loader's arrays as a batch; targets of several tokens, (horizon, B, T), with the sequences first."""
    return {"tokens": x, "targets": y if y.ndim == 2 else y.swapaxes(0, 1)}, next_position

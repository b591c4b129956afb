"""Masked-language modelling: texts in which some tokens are hidden, to be told from all others.

Devlin et al. (2019), "BERT", section 3.1 and appendix A.1; the choice is new in every epoch, as in Liu et al. (2019),
"RoBERTa", section 4.1.
"""

import dataclasses
import functools
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from jaxgpt.data.base import Batch, all_rows
from jaxgpt.data.text import Text, Windows
from jaxgpt.data.tokenizer import Tokenizer
from jaxgpt.errors import UsageError

MASK, RANDOM = 0.8, 0.1  # the share of the chosen tokens that become the mask, or a random token; the others stay
VALIDATION_SEED = 2**32  # beyond any --seed, so that no training has the same masks
SHORTEST = 3  # tokens: what begins a text, one that may be masked, and what ends it


@dataclasses.dataclass(frozen=True)
class Masked:
    """A text with masks, as a base.Dataset.

    Each window of T tokens gives its first place to the token that begins a text, and its last to the one that ends it.
    Of the other tokens, special ones aside, each is chosen with the same probability. The masks of a window are a
    function of the seed and of its number in the run, position/T + row: no B, host, mesh or resumption changes them.

    Attributes:
      windows: whose position counts the windows of the whole run; a Text is for `one_pass` alone. Their tokenizer is
        an encoder's.
      ratio: the probability that a token is chosen.
      seed: of the choice.
    """

    windows: Text | Windows
    ratio: float = 0.15
    seed: int = 0
    B: int = dataclasses.field(kw_only=True)
    T: int = dataclasses.field(kw_only=True)
    rows: slice = dataclasses.field(default_factory=all_rows, kw_only=True)

    kind = "masked"
    labels = ()
    is_chat = False

    def __post_init__(self):
        if self.T < SHORTEST:
            raise UsageError(f"--T {self.T}: no token is left between the two around a text; use at least {SHORTEST}")

    @property
    def name(self) -> str:
        return self.windows.name

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(self.windows.notes)

    @property
    def fingerprint(self) -> str:
        return self.windows.fingerprint

    @property
    def tokenizer(self) -> Tokenizer:
        return self.windows.tokenizer

    @functools.cached_property
    def _cut(self) -> Text | Windows:
        """The text in batches as these."""
        return dataclasses.replace(self.windows, B=self.B, T=self.T, rows=self.rows)

    def batch(self, position: int, model: Any = None) -> tuple[Batch, int]:
        """`tokens` (B, T), some of them hidden, and `targets` (B, T): what these were, and -1 elsewhere."""
        batch, next_position = self._cut.batch(position)
        tokens = frame(batch["tokens"], self.tokenizer)
        first = position // self.T + self.rows.indices(self.B)[0]
        return dict(zip(("tokens", "targets"), self._hide(tokens, first), strict=True)), next_position

    def one_pass(self, model: Any = None) -> Iterator[Batch]:
        """The windows of the text, with the same masks each time.

        `positions` (B, T), where each token stands in its document, tell the last window from the padding behind it.
        """
        T, tokenizer = self.T, self.tokenizer
        for first in range(0, self.num_rows(), self.B):
            numbers = range(first, min(first + self.B, self.num_rows()))
            tokens = np.full((self.B, T), tokenizer.sep, np.int32)  # special, so that no padding is ever chosen
            positions = np.tile(np.arange(T, dtype=np.int32), (self.B, 1))
            for row, window in enumerate(cut_windows(self.windows, tokenizer, T, numbers)):
                tokens[row, : len(window)] = window
                positions[row, len(window) :] = np.arange(T - len(window))
            tokens, targets = self._hide(tokens, first)
            yield {"tokens": tokens, "targets": targets, "positions": positions}

    def _hide(self, tokens: np.ndarray, first: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows with masks, the first of which is the window of that number, and their targets."""
        pairs = [
            mask_row(row, self.seed, first + i, self.ratio, self.tokenizer.mask, self.ordinary)
            for i, row in enumerate(tokens)
        ]
        hidden, targets = (np.stack(each) for each in zip(*pairs, strict=True))
        return hidden, targets

    @functools.cached_property
    def ordinary(self) -> np.ndarray:
        return ordinary_tokens(self.tokenizer)

    def num_rows(self) -> int:
        return num_windows(self.windows, self.T)

    def batches_per_epoch(self) -> float:
        return self._cut.batches_per_epoch()

    def resume_position(self, saved: int) -> int:
        return self.windows.resume_position(saved)

    def locate(self, position: int) -> list[tuple[str, int]]:
        """As Text.locate."""
        return self._cut.locate(position)

    def num_bytes(self) -> None:
        """A loss on some tokens, each told from those on both sides of it, is none of the text."""

    def order_facts(self) -> dict[str, Any]:
        return self.windows.order_facts() | {"mask_ratio": self.ratio}

    def __str__(self) -> str:
        return f"{self.windows}, {100 * self.ratio:g} % of them masked"


def mask_row(
    tokens: np.ndarray, seed: int, number: int, ratio: float, mask: int, ordinary: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Hide some tokens of a window.

    Args:
      tokens: int32 (T,).
      seed, number: what decides the choice, whole numbers from 0, below 2**64: of the run and of the window in it.
      ratio: the probability that a token is chosen; at least one is, where one may be.
      mask: the id that takes a token's place.
      ordinary: bool (V,), the ids that may be chosen, and that a random token may be.

    Returns:
      int32 (T,), the tokens with masks; and int32 (T,), the targets: what a chosen token was, and -1 elsewhere.
    """
    # Raw words: how numpy draws numbers from them may change between its versions, these may not.
    bits = np.random.Philox(key=np.array([seed, number], np.uint64)).random_raw(3 * len(tokens)).reshape(3, -1)
    chance, kind = (bits[:2] >> 11) * 2.0**-53  # from 0 to below 1
    may_be_chosen = ordinary[tokens]
    chosen = (chance < ratio) & may_be_chosen
    if not chosen.any() and may_be_chosen.any():  # as in BERT's own code: a short window would have no loss
        chosen[np.where(may_be_chosen, chance, 1).argmin()] = True
    ids = np.flatnonzero(ordinary)
    random = ids[((bits[2] >> 32) * len(ids)) >> 32]
    replaced = np.where(kind < MASK, mask, np.where(kind < MASK + RANDOM, random, tokens))
    return np.where(chosen, replaced, tokens).astype(np.int32), np.where(chosen, tokens, -1).astype(np.int32)


def ordinary_tokens(tokenizer: Tokenizer) -> np.ndarray:
    """Which ids are of texts, bool (V,): all but the special ones."""
    ordinary = np.ones(tokenizer.vocab_size, bool)
    roles = (tokenizer.end, tokenizer.pad, tokenizer.mask, tokenizer.cls, tokenizer.sep)
    ordinary[[*tokenizer.special_tokens, *(token for token in roles if token is not None)]] = False
    return ordinary


def frame(tokens: np.ndarray, tokenizer: Tokenizer) -> np.ndarray:
    """Windows, int32 (..., T), whose first and last tokens give way to those that begin and end a text."""
    framed = np.array(tokens, np.int32)
    framed[..., 0], framed[..., -1] = tokenizer.cls, tokenizer.sep
    return framed


def cut_windows(text: Text, tokenizer: Tokenizer, T: int, numbers: Iterable[int]) -> Iterator[np.ndarray]:
    """Windows of a text by their numbers, framed, int32 (T,); the last one may be shorter."""
    for number in numbers:
        yield frame(text.tokens[number * T : (number + 1) * T], tokenizer)


def num_windows(text: Text, T: int) -> int:
    return -(-len(text.tokens) // T)


def evenly_spaced(count: int, most: int) -> list[int]:
    """At most so many of the numbers from 0 to count - 1, with the first and the last."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist()

"""Statistics of a prepared split: the lengths of its documents, its frequent tokens, and some documents."""

import dataclasses
from collections.abc import Callable

import numpy as np

from jaxgpt.data.gpt2_tokenizer import GPT2_TOKENIZER
from jaxgpt.data.redaction import contains
from jaxgpt.data.shards import PREPARE_AGAIN, Tokens
from jaxgpt.data.tokenizer import Tokenizer
from jaxgpt.errors import DataError

PIECE = 1 << 24  # tokens read at a time, 32 MB
PIECES = 16  # how many are read of a larger split, evenly spaced
CHARACTERS = 300  # in an excerpt
DOCUMENT_TOKENS = 1 << 16  # in which the end of a document is looked for at a time


@dataclasses.dataclass(frozen=True)
class SplitStatistics:
    """Counts of a split.

    Attributes:
      num_tokens: tokens that were read; all, or PIECES * PIECE of a larger split.
      lengths: int64, ascending, the lengths of documents in tokens, with the end token that begins each.
      counts: int64, how many documents have each length.
      token_counts: int64 (V,), how often each token occurs.
      sample_starts: int64, ascending, where some randomly drawn documents begin.
    """

    num_tokens: int
    lengths: np.ndarray
    counts: np.ndarray
    token_counts: np.ndarray
    sample_starts: np.ndarray

    def quantile(self, q: float) -> int:
        """The shortest length that at least a share q of the documents does not exceed."""
        cumulative = np.cumsum(self.counts)
        return int(self.lengths[np.searchsorted(cumulative, max(1, int(np.ceil(q * cumulative[-1]))))])

    def mean(self) -> float:
        """The mean length of a document in tokens."""
        return float(self.lengths @ self.counts / self.counts.sum())


def compute_statistics(
    tokens: Tokens,
    name: str,
    documents: int = 0,
    seed: int = 0,
    piece: int = PIECE,
    on_progress: Callable[[int], None] = lambda num_tokens: None,
    tokenizer: Tokenizer = GPT2_TOKENIZER,
) -> SplitStatistics:
    """Count a split, or PIECES evenly spaced pieces of a larger one, so that it takes seconds.

    The memory is bounded: lengths are stored with their counts, and there are at most sqrt(2 * tokens) different ones.
    Where pieces are not adjacent, a document counts if one piece has all of it.

    Args:
      name: the folder, for errors.
      documents: how many documents to draw.
      seed: of the draw.
      piece: tokens read at a time.
      on_progress: called after each piece with the number of its tokens.

    Raises:
      DataError: an id is beyond the tokenizer's vocabulary.
    """
    rng, carry, last_end = np.random.default_rng(seed), None, 0  # carry: start of the document that has not ended yet
    counts: dict[int, int] = {}
    vocab_size = tokenizer.vocab_size
    occurrences, keys, chosen = np.zeros(vocab_size, np.int64), np.empty(0), np.empty(0, np.int64)
    pieces = _piece_bounds(len(tokens), piece)
    for first, end in pieces:
        ids = np.asarray(tokens[first:end])
        if ids.max() >= vocab_size:
            at = int(np.argmax(ids >= vocab_size))
            beyond = f"beyond the vocabulary of the tokenizer {tokenizer.name}"
            raise DataError(f"{name}: corrupt: token {first + at:,} is {ids[at]}, {beyond}; {PREPARE_AGAIN}")
        occurrences += np.bincount(ids, minlength=vocab_size)
        begins = first + np.flatnonzero(ids == tokenizer.end)
        begins = begins[~contains(tokens.erased, begins)]  # those are no documents
        if carry is not None and first == last_end:
            begins = np.append(carry, begins)
        borders = np.append(begins, end) if end == len(tokens) else begins
        for length, count in zip(*np.unique(np.diff(borders), return_counts=True), strict=True):
            counts[int(length)] = counts.get(int(length), 0) + int(count)
        starts = borders[:-1]
        keys, chosen = np.append(keys, rng.random(len(starts))), np.append(chosen, starts)
        smallest = np.argsort(keys)[:documents]  # each document has a random key, so all are equally likely
        keys, chosen = keys[smallest], chosen[smallest]
        carry, last_end = (begins[-1] if len(begins) else None), end
        on_progress(end - first)
    lengths = np.array(sorted(counts), np.int64)
    by_length = np.array([counts[length] for length in lengths.tolist()], np.int64)
    return SplitStatistics(sum(end - first for first, end in pieces), lengths, by_length, occurrences, np.sort(chosen))


def _piece_bounds(count: int, piece: int) -> list[tuple[int, int]]:
    """Where the pieces begin and end: adjacent ones, or PIECES evenly spaced ones."""
    starts = list(range(0, count, piece))
    if len(starts) > PIECES:
        starts = [i * (count - piece) // (PIECES - 1) for i in range(PIECES)]
    return [(start, min(start + piece, count)) for start in starts]


def count_document(tokens: Tokens, start: int, tokenizer: Tokenizer = GPT2_TOKENIZER) -> int:
    """The tokens of the document that begins at `start`, with the one that begins it."""
    end = start + 1
    while end < len(tokens):
        ends = np.flatnonzero(np.asarray(tokens[end : end + DOCUMENT_TOKENS]) == tokenizer.end)
        if len(ends):
            return end + int(ends[0]) - start
        end = min(end + DOCUMENT_TOKENS, len(tokens))
    return end - start


def excerpt(
    tokens: Tokens, start: int, characters: int = CHARACTERS, tokenizer: Tokenizer = GPT2_TOKENIZER
) -> tuple[str, bool]:
    """The first characters of the document that begins at `start`, and whether there are more."""
    ids = np.asarray(
        tokens[start + 1 : start + 2 + 4 * characters]
    )  # a token is at least a byte, and a character at most 4
    ends = np.flatnonzero(ids == tokenizer.end)
    text = tokenizer.decode(ids[: ends[0]].tolist() if len(ends) else ids.tolist())
    return text[:characters], len(text) > characters

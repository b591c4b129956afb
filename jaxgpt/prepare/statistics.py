"""What a prepared split holds: how long its documents are, which tokens are frequent, and some documents."""

import dataclasses

import numpy as np

from jaxgpt.data.shards import PREPARE_AGAIN, Tokens
from jaxgpt.data.tokenizer import VOCAB_SIZE, gpt2
from jaxgpt.errors import DataError

PIECE = 1 << 24  # tokens that are read at a time, 32 MB
PIECES = 16  # of a split that has more; they lie evenly in it
CHARACTERS = 300  # shown of a document


@dataclasses.dataclass(frozen=True)
class Survey:
    """What was counted in a split.

    Attributes:
      looked_at: tokens; fewer than the split's where that has more than PIECES * PIECE.
      lengths: int64, ascending, the lengths that documents have, in tokens with the <|endoftext|> that begins each.
      numbers: int64, how many documents have each.
      tokens: int64 (VOCAB_SIZE,), how often each token stands there.
      starts: int64, ascending, where some documents begin, drawn from all.
    """

    looked_at: int
    lengths: np.ndarray
    numbers: np.ndarray
    tokens: np.ndarray
    starts: np.ndarray

    def quantile(self, q: float) -> int:
        """The shortest length such that at least a share q of the documents is no longer."""
        up_to = np.cumsum(self.numbers)
        return int(self.lengths[np.searchsorted(up_to, max(1, int(np.ceil(q * up_to[-1]))))])

    def mean(self) -> float:
        """Tokens of a document."""
        return float(self.lengths @ self.numbers / self.numbers.sum())


def survey(tokens: Tokens, name: str, documents: int = 0, seed: int = 0, piece: int = PIECE) -> Survey:
    """Count a split; of one that is larger, PIECES pieces that lie evenly in it, so that it takes seconds.

    In bounded memory: lengths are kept with how often they occur, and there are no more different ones than the root of
    twice the tokens. Where pieces are apart, a document counts if all of it stands in one.

    Args:
      name: of the folder, for errors.
      documents: how many to draw.
      seed: of the draw.
      piece: tokens that are read at a time.

    Raises:
      DataError: an id is none of GPT-2's.
    """
    rng, carry, behind = np.random.default_rng(seed), None, 0  # carry: where the document begins that is not at its end
    numbers: dict[int, int] = {}
    occurrences, keys, chosen = np.zeros(VOCAB_SIZE, np.int64), np.empty(0), np.empty(0, np.int64)
    pieces = _pieces(len(tokens), piece)
    for first, end in pieces:
        ids = np.asarray(tokens[first:end])
        if ids.max() >= VOCAB_SIZE:
            at = int(np.argmax(ids >= VOCAB_SIZE))
            raise DataError(
                f"{name}: damaged: token {first + at:,} is {ids[at]}, beyond GPT-2's vocabulary; {PREPARE_AGAIN}"
            )
        occurrences += np.bincount(ids, minlength=VOCAB_SIZE)
        begins = first + np.flatnonzero(ids == gpt2().eot_token)
        if carry is not None and first == behind:
            begins = np.append(carry, begins)
        borders = np.append(begins, end) if end == len(tokens) else begins
        for length, number in zip(*np.unique(np.diff(borders), return_counts=True), strict=True):
            numbers[int(length)] = numbers.get(int(length), 0) + int(number)
        whole = borders[:-1]
        keys, chosen = np.append(keys, rng.random(len(whole))), np.append(chosen, whole)
        least = np.argsort(keys)[:documents]  # of a random key for each document: all are as likely
        keys, chosen = keys[least], chosen[least]
        carry, behind = (begins[-1] if len(begins) else None), end
    lengths = np.array(sorted(numbers), np.int64)
    counted = np.array([numbers[length] for length in lengths.tolist()], np.int64)
    return Survey(sum(end - first for first, end in pieces), lengths, counted, occurrences, np.sort(chosen))


def _pieces(count: int, piece: int) -> list[tuple[int, int]]:
    """Where the pieces begin and end: all of them, or PIECES."""
    starts = list(range(0, count, piece))
    if len(starts) > PIECES:
        starts = [i * (count - piece) // (PIECES - 1) for i in range(PIECES)]
    return [(start, min(start + piece, count)) for start in starts]


def excerpt(tokens: Tokens, start: int, characters: int = CHARACTERS) -> tuple[str, bool]:
    """The first characters of the document that begins there, and whether it goes on."""
    ids = np.asarray(tokens[start + 1 : start + 2 + 4 * characters])  # each is a byte at least, and 4 are a character
    ends = np.flatnonzero(ids == gpt2().eot_token)
    text = gpt2().decode(ids[: ends[0]].tolist() if len(ends) else ids.tolist())
    return text[:characters], len(text) > characters


def visible(text: str) -> str:
    """The same, with escapes for what a terminal would act on and a page can't hold."""
    return "".join(each if each.isprintable() or each == "\n" else ascii(each)[1:-1] for each in text)

"""What a model must read for its bias to be measured: sentences and documents as token ids. No JAX."""

import dataclasses
import difflib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxgpt.data.bias_pairs import BiasPair
from jaxgpt.data.mirrored import MirroredText
from jaxgpt.data.tokenizer import Tokenizer
from jaxgpt.errors import DataError, UsageError
from jaxgpt.inference.multiple_choice import DELIMITER, encode_pair

MIN_T = 32  # tokens: an encoder's shorter sentences are padded to it


class Requests(NamedTuple):
    """Texts for score.score.

    Attributes:
      requests: token ids of a context and its continuation; a long text has several.
      owners: of each request the number of its text.
      lengths: of each text its tokens.
    """

    requests: list[tuple[list[int], list[int]]]
    owners: list[int]
    lengths: np.ndarray


class Hidden(NamedTuple):
    """A sentence for an encoder, as pseudo_likelihood.hide_each reads it.

    Attributes:
      tokens, positions: int32 (T,); columns: int32 (N,), the tokens that the other sentence of the pair has, too.
      mask: the id that takes a token's place.
      length: tokens of the sentence itself.
    """

    tokens: np.ndarray
    columns: np.ndarray
    positions: np.ndarray
    mask: int
    length: int


@dataclasses.dataclass(frozen=True)
class EncodedPairs:
    """Pairs in the tokens of a model: of a decoder as `requests`, of an encoder as `hidden`, two a pair."""

    pairs: list[BiasPair]
    requests: Requests | None
    hidden: list[Hidden]

    @property
    def has_unrelated(self) -> bool:
        """Whether each has a third sentence, as StereoSet's."""
        return bool(self.pairs[0].unrelated)


@dataclasses.dataclass(frozen=True)
class EncodedText:
    """Documents in the tokens of a decoder: each as it stands, and then its mirror image."""

    text: MirroredText
    requests: Requests


def encode_pairs(
    pairs: list[BiasPair], tokenizer: Tokenizer, block_size: int, is_encoder: bool = False
) -> EncodedPairs:
    """The pairs for a model with this tokenizer and context.

    Raises:
      UsageError: StereoSet's format for an encoder, or a tokenizer by which no text can begin.
      DataError: a sentence is too long for an encoder, or the tokenizer lacks a character of it.
    """
    if not is_encoder:
        texts = [(pair.context, text) for pair in pairs for text in (pair.more, pair.less, pair.unrelated) if text]
        return EncodedPairs(pairs, make_requests(texts, tokenizer, block_size), [])
    if pairs[0].unrelated:
        raise UsageError("--bias: StereoSet's format is for models that write; an encoder takes pairs of sentences")
    hidden = []
    for number, pair in enumerate(pairs, 1):
        ids = [tokenizer.encode(text).tolist() for text in (pair.more, pair.less)]
        if (longest := max(map(len, ids)) + 2) > block_size:
            limit = f"the model's context is {block_size:,}"
            raise DataError(f"--bias: pair {number} has a sentence of {longest:,} tokens, and {limit}; shorten it")
        blocks = difflib.SequenceMatcher(None, *ids).get_matching_blocks()
        for side, sentence in enumerate(ids):
            columns = [1 + block[side] + i for block in blocks for i in range(block.size)]
            hidden.append(_frame(sentence, columns, tokenizer, block_size))
    return EncodedPairs(pairs, None, hidden)


def encode_mirrored(text: MirroredText, tokenizer: Tokenizer, block_size: int) -> EncodedText:
    """The documents for a decoder with this tokenizer and context; errors as `encode_pairs`."""
    texts = [("", each) for document in text.documents for each in document]
    return EncodedText(text, make_requests(texts, tokenizer, block_size))


def make_requests(texts: Sequence[tuple[str, str]], tokenizer: Tokenizer, T: int) -> Requests:
    """The tokens of texts, each after its context; an empty one: the text begins a document.

    A text of more than T tokens is cut into windows, and no token sees any before its window but the last one.
    """
    begin, requests, owners, lengths = first_context(tokenizer), [], [], []
    for number, (context, text) in enumerate(texts):
        before, ids = begin, tokenizer.encode(text).tolist()
        if context:
            before, ids = encode_pair(tokenizer, context, DELIMITER + text)
        for start in range(0, len(ids), T):
            requests.append((ids[start - 1 : start] or before, ids[start : start + T]))
            owners.append(number)
        lengths.append(len(ids))
    return Requests(requests, owners, np.array(lengths))


def first_context(tokenizer: Tokenizer) -> list[int]:
    """What a document comes after: the token that ends one, or a line end where the tokenizer has no such token.

    Raises:
      UsageError: it has neither.
    """
    if tokenizer.end is not None:
        return [tokenizer.end]
    try:
        return tokenizer.encode("\n").tolist()
    except DataError:
        problem = f"the tokenizer {tokenizer.name} has neither a token that ends a document nor a line end"
        raise UsageError(f"{problem}, so that no text can begin; train with --tokenizer bytes") from None


def _frame(ids: list[int], columns: list[int], tokenizer: Tokenizer, block_size: int) -> Hidden:
    """A sentence between its special tokens, and padding behind it, so that few programs serve all."""
    framed = [tokenizer.cls, *ids, tokenizer.sep]
    T = min(max(MIN_T, 1 << (len(framed) - 1).bit_length()), block_size)
    tokens = np.full(T, tokenizer.sep, np.int32)
    tokens[: len(framed)] = framed
    positions = np.concatenate([np.arange(len(framed)), np.arange(T - len(framed))])  # the padding: another document
    arrays = np.array(columns, np.int32), positions.astype(np.int32)
    return Hidden(tokens, *arrays, tokenizer.mask, len(ids))

"""Sentences and documents as token ids."""

import numpy as np
import pytest

from jaxgpt.data.bias_pairs import BiasPair
from jaxgpt.data.encoder_tokenizer import for_encoder
from jaxgpt.data.mirrored import MirroredText
from jaxgpt.data.plain_tokenizers import ByteTokenizer, CharTokenizer
from jaxgpt.errors import DataError, UsageError
from jaxgpt.inference.bias_texts import encode_mirrored, encode_pairs, first_context

BYTES = ByteTokenizer()
STEREOSET = BiasPair("One.", "Two.", "", "intersentence", "Six.", "So:", "t")


def text_of(request):
    return "".join("|" if token == BYTES.end else chr(token) for token in request)


def test_a_sentence_begins_a_document_or_follows_its_context():
    data = encode_pairs([BiasPair("a b", "c")], BYTES, 8)
    assert [tuple(map(text_of, each)) for each in data.requests.requests] == [("|", "a b"), ("|", "c")]
    assert data.requests.owners == [0, 1] and data.requests.lengths.tolist() == [3, 1] and not data.has_unrelated
    data = encode_pairs([STEREOSET], BYTES, 8)
    assert [tuple(map(text_of, each)) for each in data.requests.requests] == [
        ("So:", " One."),
        ("So:", " Two."),
        ("So:", " Six."),
    ]
    assert data.has_unrelated and data.requests.lengths.tolist() == [5] * 3


def test_a_long_document_is_cut_and_no_token_is_lost():
    text = MirroredText("a", "document", [("he is here", "she")], 1, 0)
    data = encode_mirrored(text, BYTES, 4)
    assert [tuple(map(text_of, each)) for each in data.requests.requests] == [
        ("|", "he i"),
        ("i", "s he"),
        ("e", "re"),
        ("|", "she"),
    ]
    assert data.requests.owners == [0, 0, 0, 1] and data.requests.lengths.tolist() == [10, 3]


def test_a_tokenizer_without_an_end_has_a_line_end():
    assert first_context(CharTokenizer("\nab")) == [0]
    with pytest.raises(UsageError, match="chars has neither a token that ends a document nor a line end"):
        first_context(CharTokenizer("ab"))


def test_an_encoder_is_asked_for_the_tokens_that_both_sentences_have():
    tokenizer = for_encoder(BYTES)
    first, second = encode_pairs([BiasPair("ab cd", "x cd")], tokenizer, 64, is_encoder=True).hidden
    assert text_of(first.tokens[first.columns]) == text_of(second.tokens[second.columns]) == " cd"
    assert (first.tokens[0], first.tokens[6]) == (tokenizer.cls, tokenizer.sep) and first.length == 5
    assert first.tokens.shape == (32,) and first.positions[:9].tolist() == [*range(7), 0, 1]
    assert first.mask == tokenizer.mask and first.columns.dtype == np.int32


def test_what_an_encoder_can_not_read_is_refused():
    tokenizer = for_encoder(BYTES)
    with pytest.raises(DataError, match="--bias: pair 1 has a sentence of 10 tokens, and the model's context is 8"):
        encode_pairs([BiasPair("abcdefgh", "b")], tokenizer, 8, is_encoder=True)
    with pytest.raises(UsageError, match="StereoSet's format is for models that write"):
        encode_pairs([STEREOSET], tokenizer, 8, is_encoder=True)

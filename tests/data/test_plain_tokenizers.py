import gzip

import numpy as np
import pytest

from jaxgpt.data.corpus import SHAKESPEARE
from jaxgpt.data.plain_tokenizers import CODE_POINTS, END_CODE, ByteTokenizer, CharTokenizer
from jaxgpt.errors import DataError, UsageError
from tests.support import round_trips

TEXTS = list(round_trips.nasty_strings(150, seed=2))


@pytest.mark.parametrize("tokenizer", [ByteTokenizer(), *(CharTokenizer.of(TEXTS, end) for end in (False, True))])
def test_any_text_comes_back_and_hugging_face_gives_the_same_ids(tokenizer):
    round_trips.check(tokenizer, TEXTS)


def test_the_characters_of_shakespeare_are_nanogpts():
    """data/shakespeare_char/prepare.py prints these, and "hii there" has these ids in Karpathy's lecture on it."""
    text = gzip.decompress(SHAKESPEARE.read_bytes()).decode()
    tokenizer = CharTokenizer.of([text], has_end=False)
    assert tokenizer.characters == "\n !$&',-.3:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    assert (tokenizer.vocab_size, tokenizer.end) == (65, None)
    assert tokenizer.encode("hii there").tolist() == [46, 47, 47, 1, 58, 46, 43, 56, 43]


def test_an_unknown_character_is_named():
    for tokenizer in (CharTokenizer("abc"), CharTokenizer("abc", has_end=True)):
        for encode, error in ((tokenizer.encode, DataError), (tokenizer.encode_prompt, UsageError)):
            with pytest.raises(error, match=r"character 3 is 'é' \(U\+00E9\), none of the 3 characters of"):
                encode("abé")
    assert CharTokenizer("abc", has_end=True).encode_prompt("<|endoftext|>a") == [3, 0]
    with pytest.raises(UsageError, match="character 1 is '<'"):
        CharTokenizer("abc").encode_prompt("<|endoftext|>a")


def test_code_points_become_ids():
    tokenizer = CharTokenizer.of(["né\U0001f642"], has_end=True)
    codes = np.append(CODE_POINTS.encode("\U0001f642né"), END_CODE)
    assert tokenizer.from_code_points(codes).tolist() == [2, 0, 1, 3]
    assert CODE_POINTS.decode(codes[:-1].tolist()) == "\U0001f642né"

"""How a pair of texts is cut; test_examples.py has the files of labels."""

import pytest

from jaxgpt.data import labels
from jaxgpt.data.tokenizer import gpt2

END = 50256


def ids(text):
    return gpt2().encode_ordinary(text)


def cut_by_turns(a, b, room):
    """As encode_texts, computed otherwise: while there is no room, the longer text loses a token."""
    while len(a) + len(b) > room:
        if len(a) > len(b):
            a = a[:-1]
        else:
            b = b[:-1]
    return a, b


@pytest.mark.parametrize("a, b", [(3, 3), (1, 20), (20, 1), (9, 7), (7, 9), (20, 20), (5, 11)])
def test_the_longer_text_of_a_pair_loses_its_end_first(a, b):
    texts = " a" * a, " b" * b
    for T in range(2, 24):
        tokens, longer = labels.encode_texts(texts, T)
        left, right = cut_by_turns(ids(" a" * a), ids(" b" * b), T - 2)
        assert tokens[-1] == END and len(tokens) <= T and longer == (a + b + 2 > T)
        between = tokens.index(*ids("\n"))
        assert sorted([between, len(tokens) - between - 2]) == sorted([len(left), len(right)])
        assert tokens == [*ids(" a" * between), *ids("\n"), *ids(" b" * (len(tokens) - between - 2)), END]
        if not longer:
            assert tokens == [*ids(" a" * a), *ids("\n"), *ids(" b" * b), END]
    assert labels.encode_texts(texts, 1) == ([END], True)

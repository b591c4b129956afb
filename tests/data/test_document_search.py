import re

import numpy as np
import pytest

from jaxgpt.data.document_search import bounds, search
from jaxgpt.data.gpt2_tokenizer import GPT2_TOKENIZER
from jaxgpt.data.redaction import Erasure, merge
from jaxgpt.data.shards import Tokens
from jaxgpt.errors import UsageError
from tests.support.erasure import BYTES, make_texts

TEXTS = [
    "Jane Doe lives in Lyon, at 5 Rue Dupont, and her dog is called Rex.",
    "A text about nothing at all.",
    "JANE DOE lives in Lyon; at 5, rue Dupont, and her cat is called Rex!",
    "Write to jané@example.org or to jané@example.org.",
    "Jane Doe lives in Lyon, at 5 Rue Dupont, and her dog is called Rex.",
]


def tokens_of(texts, tokenizer):
    return np.concatenate([part for text in texts for part in ([tokenizer.end], tokenizer.encode(text))])


@pytest.mark.parametrize("tokenizer", [BYTES, GPT2_TOKENIZER])
def test_a_pattern_finds_documents_or_the_tokens_of_its_matches(tokenizer):
    tokens = tokens_of(TEXTS, tokenizer)
    found = search({"train": tokens}, tokenizer, pattern=re.compile("(?i)jane doe"))
    assert [(str(each), each.why) for each in found] == [(f"train:{n}", "1 match") for n in (0, 2, 4)]
    for each in found:
        assert tokenizer.decode(tokens[each.first : each.end].tolist()) == TEXTS[each.number] and each.is_whole
    (found,) = search({"val": tokens}, tokenizer, pattern=re.compile(r"jan\S+?\.org"), spans=True)
    assert (str(found), found.why, found.is_whole) == ("val:3", "2 matches", False)
    for first, end in found.ranges:
        cut = tokenizer.decode(tokens[first:end].tolist())
        assert "jané@example.org" in cut and len(cut) <= len("jané@example.org") + 2  # whole tokens, and no more
    rest = np.ones(len(tokens), bool)
    for first, end in found.ranges:
        rest[first:end] = False
    assert "jan" not in tokenizer.decode(tokens[found.first : found.end][rest[found.first : found.end]].tolist())


def test_documents_that_are_like_a_text_are_found():
    splits, text = {"train": tokens_of(TEXTS, BYTES)}, {"a.txt": TEXTS[0].upper().replace(",", " --")}
    # 15 words have 11 sequences of five, and four of them have the twelfth word, which is another in one document.
    for similar, numbers in ((1.0, [0, 4]), (0.64, [0, 4]), (0.63, [0, 2, 4])):
        found = search(splits, BYTES, texts=text, similar=similar)
        assert [each.number for each in found] == numbers
    assert [each.why for each in found] == ["has 1.00 of a.txt", "has 0.64 of a.txt", "has 1.00 of a.txt"]
    (short,) = search(splits, BYTES, texts={"b": "nothing, AT all"})
    assert short.number == 1
    with pytest.raises(UsageError, match="b: there is no word in it"):
        search(splits, BYTES, texts={"b": "?!"})


def test_a_named_document_is_found_with_its_copies():
    splits = {"train": tokens_of(TEXTS, BYTES), "val": tokens_of(make_texts(3), BYTES)}
    found = search(splits, BYTES, ["train:4", "val:2"])
    expected = [("train:0", "has 1.00 of train:4"), ("train:4", "named"), ("val:2", "named")]
    assert [(str(each), each.why) for each in found] == expected
    assert [str(each) for each in search(splits, BYTES, ["train:4"], similar=0)] == ["train:4"]
    for name in ("train:5", "test:0", "4", "train:-1"):
        with pytest.raises(UsageError, match=rf"--doc {name}: no such document; there are train:0 to train:4, val:0"):
            search(splits, BYTES, [name])


def test_documents_keep_their_numbers_when_one_is_erased():
    tokens = tokens_of(TEXTS, BYTES)
    before = bounds(tokens, BYTES)
    first, end = before[1].tolist()
    tokens[first:end] = BYTES.end
    erased = Tokens((tokens,), "", (Erasure("", merge([(first, end)])),))
    np.testing.assert_array_equal(bounds(erased, BYTES), before)
    assert len(bounds(tokens, BYTES)) > len(before)
    assert search({"train": erased}, BYTES, pattern=re.compile("endoftext")) == []  # its tokens are not its text


def test_a_text_without_an_end_token_is_one_document():
    assert bounds(BYTES.encode("a text"), BYTES).tolist() == [[0, 6]]
    assert bounds(np.r_[BYTES.encode("ab"), BYTES.end, BYTES.encode("c")], BYTES).tolist() == [[0, 2], [3, 4]]

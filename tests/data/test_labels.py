"""How a pair of texts is cut; test_examples.py has the files of labels."""

import pytest

from jaxgpt.console import plural
from jaxgpt.data import labels
from jaxgpt.data.base import Example
from jaxgpt.data.encoder_tokenizer import for_encoder
from jaxgpt.data.gpt2_tokenizer import GPT2_TOKENIZER, TEMPLATE, encoding
from jaxgpt.data.open_tokenizer import open_tokenizer
from jaxgpt.data.tokenized import tokenize
from jaxgpt.data.tokenizer import PLAIN, Template
from jaxgpt.errors import DataError
from tests.support import golden, round_trips

END = 50256


def ids(text):
    return encoding().encode_ordinary(text)


def cut_by_turns(a, b, room):
    """As text_rows, computed otherwise: while there is no room, the longer text loses a token."""
    while len(a) + len(b) > room:
        if len(a) > len(b):
            a = a[:-1]
        else:
            b = b[:-1]
    return a, b


@pytest.mark.parametrize("a, b", [(3, 3), (1, 20), (20, 1), (9, 7), (7, 9), (20, 20), (5, 11)])
def test_the_longer_text_of_a_pair_loses_its_end_first(a, b):
    record = {"text_a": " a" * a, "text_b": " b" * b}
    examples = tokenize([Example(1, labels.parse_pair("line 1", record), "")])
    for T in range(2, 24):
        table, notes = labels.text_rows(examples, T)
        tokens = table["tokens"][:][0, : table["last"][0] + 1].tolist()
        left, right = cut_by_turns(ids(" a" * a), ids(" b" * b), T - 2)
        assert tokens[-1] == END and len(tokens) <= T and bool(notes) == (a + b + 2 > T)
        between = tokens.index(*ids("\n"))
        assert sorted([between, len(tokens) - between - 2]) == sorted([len(left), len(right)])
        assert tokens == [*ids(" a" * between), *ids("\n"), *ids(" b" * (len(tokens) - between - 2)), END]
        if not notes:
            assert tokens == [*ids(" a" * a), *ids("\n"), *ids(" b" * b), END]
    table, notes = labels.text_rows(examples, 1)
    assert table["tokens"][:].tolist() == [[END]] and notes


@pytest.mark.parametrize("template", [TEMPLATE, PLAIN, Template((50256,), (), (198,))], ids=["ours", "plain", "begin"])
def test_transformers_keeps_the_same_tokens(template, tmp_path):
    """Of single texts and pairs, at every length; so it does in the tie of two equally long texts."""
    transformers = pytest.importorskip("transformers", reason=golden.NEEDS_PYTORCH)
    for name, content in GPT2_TOKENIZER.hugging_face_files(64, template).items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    counts = [(3, 3), (1, 20), (20, 1), (9, 7), (7, 9), (11, 11), (20, 20), (3, 0), (20, 0)]
    texts = [(" a" * a, " b" * b)[: 1 + (b > 0)] for a, b in counts]
    examples = tokenize(Example(1, [(text, False) for text in each], "") for each in texts)
    for T in range(4, 24):
        table, notes = labels.text_rows(examples, T, template)
        rows = [row[: last + 1].tolist() for row, last in zip(table["tokens"][:], table["last"], strict=True)]
        assert rows == [tokenizer(*each, truncation=True, max_length=T)["input_ids"] for each in texts]
        num_cut = sum(len(tokenizer(*each)["input_ids"]) > T for each in texts)
        assert notes == ([f"{plural(num_cut, 'text')} cut at the end, to {T} tokens"] if num_cut else [])


@pytest.mark.parametrize("make", [round_trips.make_bert, round_trips.make_roberta])
def test_an_encoders_rows_are_those_of_transformers(make, tmp_path):
    """Texts and pairs, cut or not: their ids, and where the second text begins, from which BERT's have type 1."""
    pytest.importorskip("transformers", reason=golden.NEEDS_PYTORCH)
    theirs = make(tmp_path)
    tokenizer = for_encoder(open_tokenizer(str(tmp_path)))
    counts = [(3, 3), (1, 20), (20, 1), (9, 7), (7, 9), (20, 20), (3, 0), (20, 0)]
    texts = [("a " * a, "b " * b)[: 1 + (b > 0)] for a, b in counts]
    examples = tokenize((Example(1, [(text, False) for text in each], "a") for each in texts), tokenizer=tokenizer)
    for T in range(6, 40, 3):
        table, _ = labels.label_rows("x.csv", examples, T, ["a", "b"])
        for i, each in enumerate(texts):
            expected = theirs(*each, truncation=True, max_length=T, return_token_type_ids=True)
            last, second = int(table["last"][i]), int(table["second"][i])
            assert table["tokens"][[i]][0, : last + 1].tolist() == expected["input_ids"]
            assert (second > 0) == (len(each) == 2)
            if make is round_trips.make_bert:
                types = [int(0 < second <= column) for column in range(last + 1)]
                assert types == expected["token_type_ids"]
            elif second:
                assert table["tokens"][[i]][0, second - 2 : second].tolist() == [theirs.sep_token_id] * 2
    with pytest.raises(DataError, match="--T 1: what surrounds a text takes 2 tokens; use a larger one"):
        labels.label_rows("x.csv", examples, 1, ["a", "b"])


@pytest.mark.parametrize("score", [2, "2.0", 2.0, " 2 "])
def test_a_score_is_a_number_however_it_is_written(score):
    assert labels.parse_score("a, line 1", {"score": score}) == (2.0,)


@pytest.mark.parametrize("score", ["two", "", None, True, [2], "nan", "inf", 1e10, 10**400])
def test_what_is_no_number_is_refused(score):
    with pytest.raises(DataError, match=r"^a, line 1: 'score' is .*, and must be a number; correct it"):
        labels.parse_score("a, line 1", {"score": score})

"""SQuAD's JSON, against records written by hand."""

import json

import numpy as np
import pytest

from jaxgpt.data import examples
from jaxgpt.data.datasets import is_examples
from jaxgpt.data.references import load_references
from jaxgpt.data.squad import parse_squad
from jaxgpt.errors import DataError

PARIS = "Paris lies on the Seine.\nIt is the capital of France."
QUESTIONS = [
    {"id": "a", "question": "Where is Paris?", "answers": [{"text": "the Seine", "answer_start": 14}]},
    {
        "id": "b",
        "question": " What is Paris ",
        "answers": [{"text": text, "answer_start": 0} for text in ("the capital of France", "capital", "capital")],
        "is_impossible": False,
    },
    {
        "id": "c",
        "question": "Who is Paris?",
        "answers": [],
        "plausible_answers": [{"text": "It", "answer_start": 25}],
        "is_impossible": True,
    },
]
ARTICLES = [
    {"title": "Paris", "paragraphs": [{"context": PARIS, "qas": QUESTIONS[:2]}, {"context": PARIS, "qas": []}]},
    {"title": "Empty", "paragraphs": []},
    {"title": "Names", "paragraphs": [{"context": "Élan", "qas": QUESTIONS[2:]}]},
]
RECORDS = [
    {"id": "a", "prompt": f"{PARIS}\n\nQuestion: Where is Paris?\nAnswer:", "completion": " the Seine"},
    {"id": "b", "prompt": f"{PARIS}\n\nQuestion:  What is Paris \nAnswer:", "completion": " the capital of France"},
    {"id": "c", "prompt": "Élan\n\nQuestion: Who is Paris?\nAnswer:", "completion": ""},
]
REFERENCES = [["the Seine"], ["the capital of France", "capital", "capital"], [""]]


def squad(articles=ARTICLES, **fields):
    return json.dumps({"version": "v2.0", "data": articles} | fields, ensure_ascii=False).encode()


def test_its_questions_are_trained_on_and_measured_like_the_same_records_of_json_lines(write):
    path, lines = write("Dev-v2.0.JSON", b"\xef\xbb\xbf" + squad()), write("a.jsonl", RECORDS)
    assert is_examples(path)
    ours, theirs = (examples.load(each, B=1, T=128)[0] for each in (path, lines))
    assert (ours.kind, ours.count, ours.fingerprint, ours.notes) == ("completions", 3, theirs.fingerprint, theirs.notes)
    assert all(np.array_equal(ours.table[name], theirs.table[name]) for name in theirs.table)
    data, expected = load_references(path), load_references(lines)
    assert (data.prompts, data.tokens, data.ids) == (expected.prompts, expected.tokens, ("a", "b", "c"))
    assert [*data.references] == REFERENCES and data.lines == (1, 2, 3)


@pytest.mark.parametrize(
    "content, message",
    [
        (b'{"data": [', "not SQuAD's JSON (Expecting value"),
        (b'{"data": {"paragraphs": 1}}', "not SQuAD's JSON (string indices"),
        (squad([{"title": "a"}]), "not SQuAD's JSON (no 'paragraphs'), which is {\"data\": [{"),
        (squad([]), "no question in it"),
        (b'{"data": ' + b"[" * 60 + b"]" * 60 + b"}", "nested more than 50 levels"),
        (
            squad([{"paragraphs": [{"context": "c", "qas": [QUESTIONS[0], {"question": "b"}]}]}]),
            "question 2: it must h",
        ),
        (squad([{"paragraphs": [{"context": 3, "qas": QUESTIONS[:1]}]}]), "question 1: its 'context' must be a text"),
        (
            squad().replace(b"the Seine", b"the \\ud800"),
            "question 1: its 'text' must be a text of whole characters; mend it",
        ),
        (
            squad([{"paragraphs": [{"context": "c", "qas": [QUESTIONS[2] | {"is_impossible": False}]}]}]),
            'question 1: no answer, and it is not marked "is_impossible": true',
        ),
    ],
)
def test_what_is_wrong_is_one_line(content, message):
    with pytest.raises(DataError) as error:
        list(parse_squad("dev.json", content))
    assert str(error.value).startswith("dev.json") and message in str(error.value) and "\n" not in str(error.value)


def test_other_json_is_no_squad(write):
    assert not is_examples(write("a.json", b'[{"data": 1}]')) and not is_examples(write("b.json", b'{"text": "a"}'))
    assert not is_examples("nowhere.json") and not is_examples(write("data.txt", squad()))

"""Lines of judgments as they are read, and each wrong one."""

import json

import pytest

from jaxgpt.errors import DataError
from jaxgpt.reports.judgments import TIE, parse_judgment, read_judgments, with_undecided

MODELS = [{"name": "runs/a", "fingerprint": "0123456789abcdef"}, {"name": "runs/b", "fingerprint": "f" * 16}]
RECORD = {"item": 3, "annotator": "anna", "winner": 1, "choice": 2, "models": MODELS, "seconds": 2.5, "edited": True}
RECORD |= {"prompt": "Why?", "answers": ["So.", "Because."], "topic": "law", "remark": " short "}


def write(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_a_record_gives_each_field():
    judgment = parse_judgment("here", RECORD)
    assert (judgment.annotator, judgment.name, judgment.vote, judgment.place) == ("anna", "3", 1, 2)
    assert judgment.models == ("runs/a (01234567)", "runs/b (ffffffff)") and judgment.seconds == 2.5
    assert (judgment.topic, judgment.remark, judgment.prompt, judgment.is_edited) == ("law", "short", "Why?", True)
    turns = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]
    assert parse_judgment("here", {"winner": 0, "messages": turns}).prompt == "user: Why?\nassistant: So."


@pytest.mark.parametrize(
    ("fields", "vote"),
    [
        ({"winner": 0}, 0),
        ({"winner": "tie"}, TIE),
        ({"winner": None, "choice": "tie"}, TIE),
        ({"choice": "skip"}, None),
    ],
)
def test_little_is_required(fields, vote):
    judgment = parse_judgment("here", fields, ("file", 7))
    assert judgment.vote == vote and judgment.item == ("file", 7)
    assert judgment.place is judgment.seconds is judgment.models is None


def test_items_are_the_same_two_answers_to_the_same_prompt():
    def item(**fields):
        return parse_judgment("here", RECORD | fields, ("file", 7)).item

    assert item() == item(annotator="ben", winner=0, choice=1, remark="")
    others = [item(**fields) for fields in ({"item": 4}, {"prompt": "How?"}, {"answers": ["So.", "So."]})]
    assert len({item(), *others}) == 4


def test_files_are_read_with_what_is_undecided_beside_them_and_the_last_line_is_in_force(tmp_path):
    prefs = write(tmp_path / "prefs.jsonl", RECORD, RECORD | {"annotator": "ben"}, RECORD | {"winner": 0})
    beside = write(tmp_path / "prefs.undecided.jsonl", RECORD | {"item": 4, "winner": None, "choice": "tie"})
    assert with_undecided([prefs, beside, prefs]) == [prefs, beside]
    found = [(judgment.annotator, judgment.name, judgment.vote) for judgment in read_judgments([prefs])]
    assert found == [("ben", "3", 1), ("anna", "3", 0), ("anna", "4", TIE)]
    nobody = write(tmp_path / "nobody.jsonl", *[{"item": 1, "winner": 0}] * 3)
    assert len(read_judgments([nobody])) == 3  # each may be another's


def test_a_review_in_which_nothing_is_decided_has_only_the_other_file(tmp_path):
    prefs = tmp_path / "prefs.jsonl"
    write(tmp_path / "prefs.undecided.jsonl", {"item": 1, "choice": "skip"})
    assert [judgment.vote for judgment in read_judgments([prefs])] == [None]
    prefs.touch()
    assert [judgment.vote for judgment in read_judgments([prefs])] == [None]


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, "no judgment of two answers"),
        ({"winner": 2}, "'winner' is 2, and must be 0 or 1"),
        ({"winner": True}, "'winner' is True"),
        ({"winner": "secret"}, "'winner' is of type str"),
        ({"winner": [0]}, "'winner' is of type list"),
        ({"winner": 0, "choice": 0}, "'choice' is 0, and must be 1 or 2"),
        ({"winner": 0, "edited": 1}, "'edited' is 1, and must be false or true"),
        ({"winner": 0, "annotator": 5}, "'annotator' is 5, and must be a text"),
        ({"winner": 0, "topic": "\ud800"}, "a lone surrogate"),
        ({"winner": 0, "prompt": "\ud800"}, "a lone surrogate"),
        ({"winner": 0, "item": 2.5}, "'item' is 2.5"),
        ({"winner": 0, "seconds": -1}, "'seconds' is -1, and must be a number of seconds, 0 or more"),
        ({"winner": 0, "seconds": float("nan")}, "'seconds' is nan"),
        ({"winner": 0, "seconds": "3"}, "'seconds' is"),
        ({"winner": 0, "models": ["a", "b", "c"]}, "'models' must be a list"),
        ({"winner": 0, "models": "ab"}, "'models' must be a list"),
        ({"winner": 0, "models": [{"fingerprint": "f"}]}, "'models' must be a list"),
    ],
)
def test_a_wrong_line_is_refused_with_its_number(tmp_path, record, words):
    path = write(tmp_path / "prefs.jsonl", RECORD, record)
    with pytest.raises(DataError) as refusal:
        read_judgments([path])
    assert str(refusal.value).startswith(f"{path}, line 2: ") and words in str(refusal.value)
    assert "secret" not in str(refusal.value)

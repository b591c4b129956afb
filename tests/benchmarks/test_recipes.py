"""The made data of docs/recipes: by their rules, the same for a seed, and nothing to remember."""

import csv
import json
import random
import re

import pytest

from benchmarks.recipes import names, qa, sentiment, translation
from benchmarks.recipes.__main__ import SIZES, write_data
from benchmarks.recipes.conversations import make_conversations


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with the data of each task, of 300 examples to train on and 60 for validation."""
    folder = tmp_path_factory.mktemp("recipes")
    for task in SIZES:
        write_data(task, folder / task, 0, 300, 60)
    return folder


def read(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ","))


def test_a_seed_makes_the_same_bytes_and_another_seed_others(made, tmp_path):
    for task in SIZES:
        write_data(task, tmp_path / "again" / task, 0, 300, 60)
        write_data(task, tmp_path / "other" / task, 1, 300, 60)
        for path in (made / task).iterdir():
            assert path.read_bytes() == (tmp_path / "again" / task / path.name).read_bytes()
            fixed = task == "text" or (task, path.name) == ("chatbot", "val.csv")
            assert (path.read_bytes() == (tmp_path / "other" / task / path.name).read_bytes()) == fixed


def test_answers_are_spans_and_their_names_are_not_in_the_training_file(made):
    data = {name: json.loads((made / "qa" / f"{name}.json").read_text()) for name in ("train", "val")}
    passages = {name: each["data"][0]["paragraphs"] for name, each in data.items()}
    words = {word for passage in passages["train"] for word in re.findall(r"\w+", passage["context"])}
    assert (len(passages["train"]), len(passages["val"])) == (300, 60)
    kinds = set()
    for passage in passages["val"]:
        for question in passage["qas"]:
            (answer,) = question["answers"]
            start, text = answer["answer_start"], answer["text"]
            assert passage["context"][start : start + len(text)] == text
            assert (text in words) == (text in qa.GOODS + qa.DAYS + qa.NUMBERS)
            assert passage["context"].count(text) == 1  # there is no other place that it could be
            kinds.add(question["question"].split()[0])
    assert kinds == {"Who", "Where", "What", "When", "On", "How"}


def test_a_summary_is_the_first_sentence_and_no_name_is_in_both_files(made):
    train, val = (read(made / "summary" / f"{name}.csv") for name in ("train", "val"))
    for row in val:
        assert row["article"].split(". ")[0] + "." == row["highlights"]
        assert row["article"].endswith("\n\nTL;DR:\n")
    made_names = set(names.make_words(random.Random(0), 12_000))
    seen, new = ({*re.findall(r"\w+", " ".join(row["article"] for row in rows).lower())} for rows in (train, val))
    assert seen & new & made_names == set() and new & made_names


def test_the_made_language_keeps_its_rules(made, monkeypatch):
    rows = {name: read(made / "translation" / f"{name}.tsv") for name in ("train", "val")}
    assert {row["english"] for row in rows["train"]}.isdisjoint(row["english"] for row in rows["val"])
    words = {"dog": "tilkan", "cat": "baler", "old": "mur", "see": "fendor", "not": "ke"}
    for column, only in (("NOUNS", ["dog"]), ("ADJECTIVES", ["old", "old"]), ("VERBS", ["see"])):
        monkeypatch.setattr(translation, column, only)
    draw = random.Random(3)
    pairs = dict(translation.make_pair(draw, words) for _ in range(2000))
    assert pairs["The dog sees a dog."] == "Tilkan tilkanna fendor."
    assert pairs["The dogs saw an old dog."] == "Tilkanlar tilkanna mur fendorda."
    assert pairs["An old dog did not see some dogs."] == "Tilkan mur tilkanlarna ke fendorda."
    assert translation.add_suffix("baler", "lAr") == "balerler"


def test_a_review_has_the_label_that_its_words_give(made):
    rows = read(made / "sentiment" / "val.csv")
    for row in rows:
        total = 0
        for clause in re.split(r",? (?:and|but|while) |; ", row["text"].rstrip(".")):
            *words, last = clause.split()
            value = (last in sentiment.GOOD) - (last in sentiment.BAD)
            total += -value if {"not", "never"} & {*words} else value
        assert row["label"] == ("neutral" if not total else "positive" if total > 0 else "negative")
    assert len(rows) == 60 and {row["label"] for row in rows} == {*sentiment.LABELS}
    assert {row["text"] for row in rows}.isdisjoint(row["text"] for row in read(made / "sentiment" / "train.csv"))


def test_the_chatbot_is_asked_in_other_words_and_answers_as_the_table(made):
    train, val = (read(made / "chatbot" / f"{name}.csv") for name in ("train", "val"))
    bare = [re.sub(r"\W", "", row["question"]).lower() for row in train]
    assert len(val) == 40 and len({row["answer"] for row in val}) == 20
    for row in val:
        assert not any(re.sub(r"\W", "", row["question"]).lower() in each for each in bare)
    assert {row["answer"] for row in train} <= {row["answer"] for row in val}
    rows = [{"question": f"{n}?", "answer": f"{n}."} for n in range(4)]
    conversations = [each["messages"] for each in make_conversations(rows, turns=2)]
    assert [[message["content"] for message in messages] for messages in conversations] == [
        ["0?", "0."],
        ["1?", "1.", "2?", "2."],
        ["3?", "3."],
    ]
    assert [message["role"] for message in conversations[0]] == ["user", "assistant"]

"""Answers against a loop over each question, and files of predictions against the leaderboards' published rules."""

import json

import numpy as np
import pytest

from jaxgpt.data.benchmarks import readers, tasks
from jaxgpt.data.benchmarks.predictions import Answer, format_answers, make_answers
from tests.support import glue_files
from tests.support.glue_rules import check_predictions

TABLE = {(task.benchmark, task.name): task for task in tasks.read_tasks()}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmarks")
    files = {"glue": glue_files.GLUE, "superglue": glue_files.SUPERGLUE}
    return {name: glue_files.write(folder / name, each) for name, each in files.items()}


@pytest.mark.parametrize(
    ("name", "each"),
    [(name, each) for name, task in TABLE.items() for each in task.sets],
    ids=lambda each: str(each)[:40],
)
def test_predictions_are_as_the_leaderboards_take_them(folders, name, each):
    task = TABLE[name]
    items = readers.read_test(task, each, folders[name[0]]).items
    labels = ("score",) if task.range else task.labels or ("false", "true")
    outputs = np.random.default_rng(0).normal(size=(len(items), len(labels)))
    content = format_answers(task, make_answers(task, items, outputs, labels))
    check_predictions(each.name, task.benchmark, content, folders[name[0]] / task.name / each.test[0])


def test_the_label_of_the_highest_logit_is_predicted():
    task = TABLE["glue", "MNLI"]
    items = [readers.Item(1, ("a", "b"), "neutral", (7,)), readers.Item(2, ("c", "d"), "entailment", (8,))]
    answers = make_answers(task, items, np.array([[0.1, 2, -1], [3, 2, 1]]), ("neutral", "contradiction", "entailment"))
    assert answers == [Answer((7,), "contradiction", "neutral"), Answer((8,), "neutral", "entailment")]


def test_the_choice_that_is_most_true_is_predicted():
    generator, task, items = np.random.default_rng(1), TABLE["superglue", "ReCoRD"], []
    for question in range(30):
        names = [f"name{k}" for k in range(generator.integers(1, 6))]
        items += [readers.Item(1, ("a", name), "", (question,), name, ("x",)) for name in names]
    outputs = generator.normal(size=(len(items), 2)).round(1)  # of equal ones the first
    answers = make_answers(task, items, outputs, ("false", "true"))
    for question in range(30):
        best, highest = None, -np.inf
        for item, (false, true) in zip(items, outputs, strict=True):
            if item.index == (question,) and true - false > highest:
                best, highest = item.choice, true - false
        assert answers[question] == Answer((question,), best, ("x",))
    flipped = make_answers(task, items, outputs[:, ::-1], ("true", "false"))
    assert flipped == answers


def test_a_tables_own_labels_are_written_as_they_are():
    table = '[m.t]\ntrain = "a"\ndev = "b"\ntexts = ["{x}"]\nlabels = ["1", "good"]\nmetrics = ["f1"]\n'
    (task,) = tasks.parse_tasks("t.toml", table.encode())
    assert format_answers(task, [Answer(("q 1",), "good")]) == "index\tprediction\nq 1\tgood\n"
    (task,) = tasks.parse_tasks("t.toml", (table + 'predictions = "jsonl"').encode())
    assert json.loads(format_answers(task, [Answer((3,), "1")])) == {"idx": 3, "label": "1"}

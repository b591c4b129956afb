import json

import pytest

from jaxgpt.errors import DataError
from jaxgpt.reports.evaluations import evaluations_table, find_evaluations, read_evaluation
from tests.reports.test_tables import facts_of
from tests.support.run_folders import write_run

TEXT = {"model": "runs/x", "loss": 3.25, "loss_stderr": 0.01, "tokens": 1234, "choices": {"acc": 0.5, "cut": 0}}
HARNESS = {"results": {"arc": {"alias": "arc", "acc,none": 0.25, "acc_stderr,none": 0.1}}, "n-shot": {"arc": 5}}


def test_evaluations_in_a_run_s_folder_are_found_and_nothing_else(tmp_path):
    run = write_run(tmp_path / "run")
    files = {
        "text.json": json.dumps(TEXT),
        "other.json": '{"a": 1}',
        "broken.json": "{",
        "list.json": "[]",
        "item.json": '{"choices": ["a"]}',
    }
    for name, content in files.items():
        (run / name).write_text(content)
    assert find_evaluations(run) == {"text.json": TEXT}
    assert read_evaluation(run / "text.json") == TEXT
    played = {"model": "runs/x", "environment": {"mean": 0.5, "each": [{"level": 2, "reward": 0.5}]}}
    (tmp_path / "played.json").write_text(json.dumps(played))
    assert read_evaluation(tmp_path / "played.json") == played
    for part in ("bias", "bias_text"):
        (tmp_path / "bias.json").write_text(json.dumps({"model": "runs/x", part: {"n": 3}}))
        assert read_evaluation(tmp_path / "bias.json")[part] == {"n": 3}
    for name, problem in (("other", "is not from"), ("broken", "can't be read"), ("missing", "no such file")):
        with pytest.raises(DataError, match=problem):
            read_evaluation(run / f"{name}.json")


def test_a_table_has_each_number_of_each_file():
    table = facts_of(evaluations_table({"a.json": TEXT, "b.json": {"model": "gpt2", "tasks": HARNESS}}))
    assert table == {
        "model": ["runs/x", "gpt2"],
        "loss": ["3.2500", ""],
        "loss_stderr": ["0.0100", ""],
        "tokens": ["1,234", ""],
        "choices acc": ["0.5000", ""],
        "choices cut": ["0", ""],
        "arc acc": ["", "0.2500"],
        "arc acc_stderr": ["", "0.1000"],
    }
    assert evaluations_table({}) == ""


def test_a_number_close_to_0_is_not_shown_as_0():
    numbers = {"p_value": 1.234e-60, "log_odds": -0.00002, "ties": 0, "gap": 0.0}
    table = facts_of(evaluations_table({"a.json": {"bias": numbers}}))
    shown = {name: table[f"bias {name}"] for name in numbers}
    assert shown == {"p_value": "1.23e-60", "log_odds": "-2e-05", "ties": "0", "gap": "0.0000"}

"""reasoning-gym's puzzles: the same in every process, and graded without harm."""

import hashlib
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jaxgpt.environments import open_environment
from jaxgpt.environments.procedural import HARMLESS, Puzzles
from jaxgpt.errors import UsageError

reasoning_gym = pytest.importorskip("reasoning_gym", reason="needs reasoning-gym: pip install -r requirements-rl.txt")


def answer(environment, level, text, ended=True):
    episode = environment.start(level, 0)
    assert episode.learned and episode.answer(text, ended) is None
    return episode.reward


def test_a_level_is_the_item_of_that_number_and_a_right_answer_is_worth_one():
    environment = open_environment("reasoning-gym/chain_sum:max_terms=3,prompt=expression")
    dataset = reasoning_gym.create_dataset("chain_sum", seed=0, size=20_000, max_terms=3)
    for level in (0, 5, 9_999, 10_000, 15_000):
        prompt, text = environment.example(level, 1)
        assert prompt == environment.start(level, 2).prompt == dataset[level]["metadata"]["expression"] + "\n"
        assert eval(prompt) == int(text)
        assert answer(environment, level, text) == 1
        assert answer(environment, level, str(int(text) + 1)) < 1
        assert answer(environment, level, text, ended=False) == 0
    assert environment.start(20_001, 0).prompt == environment.start(10_001, 0).prompt != environment.start(1, 0).prompt


def test_a_prompt_is_the_question_or_fields():
    question, fields = (open_environment(f"reasoning-gym/countdown{more}") for more in ("", ":prompt=numbers+target"))
    prompt = question.start(3, 0).prompt
    item = reasoning_gym.create_dataset("countdown", seed=0, size=20_000)[3]
    assert prompt == item["question"] + "\n"
    short = fields.start(3, 0).prompt
    assert short == f"{item['metadata']['numbers']} {item['metadata']['target']}\n"
    assert all(number in prompt for number in re.findall(r"\d+", short))
    assert question.fingerprint != fields.fingerprint


def test_another_right_answer_than_the_known_one_counts():
    environment = open_environment("reasoning-gym/countdown:min_numbers=2,max_numbers=2,operators=+")
    level = 4
    text = environment.example(level, 0)[1]
    swapped = " + ".join(reversed(text.split(" + ")))
    assert swapped != text and answer(environment, level, swapped) == 1 > answer(environment, level, "1 + 1") > 0


@pytest.mark.parametrize("task", HARMLESS)
def test_a_grader_that_runs_answers_gets_the_right_ones_and_no_harmful_ones(task):
    environment = open_environment(f"reasoning-gym/{task}")
    for level in range(10):
        assert answer(environment, level, environment.example(level, 0)[1]) == 1
    began = time.process_time()
    for text in ("9**9**9**9**9", "9**9*\n*9", "1e999999999", "[1]*99999999999", "exit(3)", "print(1)", "((((" * 999):
        assert answer(environment, 0, text) <= 0.05
    assert time.process_time() - began < 2  # one of them would take more than a minute


def test_a_grade_is_from_0_to_1_whatever_the_grader_does_and_an_item_that_fails_is_named():
    class Dataset:
        def __getitem__(self, level):
            raise RecursionError("too\ndeep")

        def score_answer(self, text, item):
            return {"more": 1.0000001, "less": -1, "nan": float("nan"), "half": 0.5}[text]

    puzzles = Puzzles("chain_sum", Dataset(), "question", {})
    grades = [puzzles.grade({}, text) for text in ("more", "less", "nan", "half", "an error")]
    assert grades == [1, 0, 0, 0.5, 0]
    with pytest.raises(UsageError, match=r"^--env reasoning-gym/chain_sum: no item 10002 with .*: too deep$"):
        puzzles.start(20_002, 0)


def test_graders_print_and_warn_nothing(capsys):
    assert answer(open_environment("reasoning-gym/tower_of_hanoi"), 0, "Move disk 1 from Peg 9 to Peg 9") == 0
    assert answer(open_environment("reasoning-gym/pool_matrix"), 0, "[]") < 1
    assert answer(open_environment("reasoning-gym/boxnet"), 0, "Infinity") == 0  # which is an error in it
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    "spec, why",
    [
        ("/chainsum", r"no such task among \d+; near it: chain_sum, "),
        ("", r"no such task among \d+; near it: "),
        ("/codeio", "its items are not the same in each process, .*; choose another task$"),
        ("/chain_sum:terms=2", "no setting 'terms'; it has min_terms, max_terms, "),
        ("/chain_sum:seed=2", "no setting 'seed'"),
        ("/chain_sum:min_terms=2.5", "min_terms=2.5 must be an integer"),
        ("/chain_sum:min_terms=9", r'reasoning-gym refuses \{"min_terms": 9\}: AssertionError: max_terms must be'),
        ("/chain_sum:prompt=sum", "a prompt has no 'sum'; use one or more of .*expression"),
    ],
)
def test_a_wrong_task_or_setting_is_refused(spec, why):
    with pytest.raises(UsageError) as error:
        open_environment(f"reasoning-gym{spec}")
    assert re.match(rf"--env reasoning-gym/.*: {why}", str(error.value)) and "\n" not in str(error.value)


def test_a_task_without_right_answers_has_no_examples():
    with pytest.raises(UsageError, match=r"has no right answers to learn from, only a grader$"):
        open_environment("reasoning-gym/boxnet").example(0, 0)


def items(task, levels):
    environment = open_environment(f"reasoning-gym/{task}")
    texts = repr([(level, environment.item(level)["question"], environment.item(level)["answer"]) for level in levels])
    return hashlib.sha256(texts.encode()).hexdigest()


ALL_ITEMS = """
import json, sys
from reasoning_gym.factory import DATASETS
from jaxgpt.environments.procedural import REFUSED
from tests.environments.test_procedural import items
tasks, levels = sorted(DATASETS.keys() - REFUSED.keys() - {"acre"}), [0, 12_345, 7]
if sys.argv[1:]:
    tasks, levels = tasks[::-1], levels[::-1]
print(json.dumps({task: items(task, sorted(levels)) for task in tasks}))
"""


@pytest.mark.slow
def test_items_are_the_same_in_each_process():
    """Whatever the seed of hashes, and in either order; all tasks but acre, which takes 4 s to begin."""
    programs = [
        subprocess.Popen(
            [sys.executable, "-c", ALL_ITEMS, *more],
            env=os.environ | {"PYTHONHASHSEED": seed},
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed, more in [("1", []), ("2", ["backward"])]
    ]
    first, second = [json.loads(program.communicate(timeout=120)[0]) for program in programs]
    assert first == second and len(first) > 90

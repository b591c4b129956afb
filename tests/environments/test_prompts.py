"""Prompts with a reward as an environment, against rewards that are worked out by hand."""

import contextlib

import pytest

from jaxgpt.data.prompts import load_prompts
from jaxgpt.environments.prompts import PromptEnvironment
from jaxgpt.environments.rewards import open_reward
from jaxgpt.errors import DataError

RECORDS = [{"prompt": f"{n} + {n} =", "answer": str(2 * n)} for n in range(1, 6)]


@pytest.fixture
def environment(write):
    """Makes one of a file; its process ends with the test."""
    with contextlib.ExitStack() as cleanup:

        def make(records=RECORDS, spec="number:answer", name="p.jsonl", process=None):
            made = PromptEnvironment(load_prompts(write(name, records)), open_reward(spec), process)
            cleanup.callback(made.process.close)
            return made

        yield make


def play(environment, level, text):
    episode = environment.start(level, seed=0)
    assert episode.learned and episode.reward == 0 and episode.answer(text, True) is None
    return episode


def test_a_level_is_a_prompt_and_rewards_come_whatever_the_order(environment):
    made = environment()
    assert (made.num_levels, made.is_chat, made.best, made.max_answers, made.end) == (5, False, 1, 1, None)
    assert [made.start(level, seed=1).prompt for level in (2, 7)] == ["3 + 3 ="] * 2
    episodes = [play(made, level, f" {level + 2}") for level in (0, 1, 2, 0)]
    unanswered = made.start(0, seed=0)
    assert [each.reward for each in reversed(episodes)] == [1, 0, 0, 1] and unanswered.reward == 0
    assert made.pending == [] and play(made, 4, " 10").reward == 1


def test_validation_prompts_share_the_process(environment):
    made = environment()
    validation = environment([{"prompt": "a", "answer": "1"}], name="v.jsonl", process=made.process)
    waiting = play(made, 0, "1"), play(validation, 0, "1")
    assert [each.reward for each in waiting] == [0, 1]
    assert made.fingerprint == environment().fingerprint != validation.fingerprint
    assert made.fingerprint != environment(spec="exact:answer").fingerprint


def test_a_failure_names_the_line_of_its_prompt(environment, write):
    made = environment(spec=f"{write('r.py', 'def f(prompt, answer, record): return 1 / int(answer)')}:f")
    first, _ = play(made, 0, "4"), play(made, 3, "0")
    with pytest.raises(DataError, match=r"p.jsonl, line 4: the reward .*:f raised ZeroDivisionError"):
        _ = first.reward


def test_a_record_that_lacks_a_field_is_refused_at_the_start(environment):
    with pytest.raises(DataError, match=r"p.jsonl, line 6: no field 'answer'"):
        environment([*RECORDS, {"prompt": "6 + 6 ="}])

"""The commands that a run prints: each can be pasted. What it says of itself on the way is in test_run.py."""

import shlex
import types

import jax
import pytest

from jaxgpt.commands.flags import parse
from jaxgpt.runs.progress import Progress
from jaxgpt.training.announce import announce_resume, print_next_commands, print_resume_command
from jaxgpt.training.config import TrainConfig


def test_the_next_command_names_the_fields_of_the_examples(capsys):
    flags = {"data": "a.csv", "out": "out", "text_field": "my review", "label_field": "stars"}
    for val, command in (("b.csv", "evaluate out --data b.csv --text-field 'my review' --label-field stars"),
                         ("0.1", "predict out --data a.csv --text-field 'my review'")):  # fmt: skip
        print_next_commands(TrainConfig.of(val=val, **flags), types.SimpleNamespace(labels=("1", "2")), 3)
        assert capsys.readouterr().out.splitlines()[-1].endswith(f" -m jaxgpt {command}")


@pytest.mark.parametrize(
    "objective, val, command",
    [
        ("dpo", "b.csv", "evaluate out --pairs b.csv --chosen-field yes --reference base"),
        ("simpo", "b.csv", "evaluate out --pairs b.csv --chosen-field yes"),
        ("simpo", "0.1", "sample out --prompt 'Once upon a time'"),
        ("reward", None, "evaluate out --pairs a.csv --chosen-field yes"),
    ],
)
def test_the_next_command_judges_what_was_learned_of_judged_answers(objective, val, command, capsys):
    flags = {"data": "a.csv", "out": "out", "chosen_field": "yes", "init_from": "base"}
    data = types.SimpleNamespace(labels=(), kind="preferences")
    print_next_commands(TrainConfig.of(objective=objective, val=val, **flags), data, 3)
    assert capsys.readouterr().out.splitlines()[-1].endswith(f" -m jaxgpt {command}")


@pytest.mark.parametrize(
    "processes, flags, others",
    [
        (1, {}, None),
        (2, {"coordinator": "host:1234", "num_processes": 2, "process_id": 0}, "the same command with --process-id 1"),
        (8, {"coordinator": "h:1", "num_processes": 8, "process_id": 0}, "the same command with --process-id 1 to 7"),
        (8, {"coordinator": "h:1"}, "all 8 by the launcher of this run"),
    ],
)
def test_the_printed_resume_command_can_be_pasted(processes, flags, others, monkeypatch, capsys):
    monkeypatch.setattr(jax, "process_count", lambda: processes)
    config = TrainConfig.of(**flags)
    print_resume_command(config, steps=9)
    command, *more = capsys.readouterr().out.splitlines()
    assert parse(TrainConfig, shlex.split(command.removeprefix("resume    python -m jaxgpt train "))) == config.replace(
        steps=9
    )
    assert more == ([] if others is None else [f"others    {others}"])


@pytest.mark.parametrize(
    "length, note",
    [({"steps": 9}, "--steps was 6, is 9"), ({"steps": 9, "epochs": 1.5}, "--epochs 1.5 are 9 steps, and were 6")],
)
def test_a_new_length_is_named_by_the_flag_that_gives_it(length, note, capsys):
    config = TrainConfig.of(schedule="cosine", **length)
    saved = Progress(step=3, position=0, tokens_seen=0, B=4, T=32, steps=6, accumulate=1, identity={"corpus": "a"})
    announce_resume(config, saved, 0, {"corpus": "a"})
    assert capsys.readouterr().out.splitlines()[1:] == [f"note      {note}: the learning rate follows the new schedule"]

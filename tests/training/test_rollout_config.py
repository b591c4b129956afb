import pytest

from jaxgpt.errors import UsageError
from jaxgpt.training.config import TrainConfig
from jaxgpt.training.rollout_config import RolloutConfig

GAME = {"objective": "rloo", "env": "tic-tac-toe", "B": 64}
PARTS = GAME | {"B": 4, "accumulate": 4}  # a group may be in several
PROMPTS = {"objective": "grpo", "reward": "exact:answer", "data": "prompts.jsonl", "B": 64}


def require(**flags):
    config = TrainConfig.of(**flags)
    config.rollout.require_objective(config)
    return config


@pytest.mark.parametrize("flags", [GAME, PROMPTS, GAME | {"objective": "reinforce", "group_size": 1, "B": 3}, PARTS])
def test_what_goes_together_is_taken(flags):
    assert require(**flags).rollout.group_size == flags.get("group_size", 8)


@pytest.mark.parametrize(
    "flags, message",
    [
        ({"env": "tic-tac-toe"}, "--env: it is for reinforcement learning: add --objective reinforce, rloo, dr_grpo, "),
        ({"group_size": 4}, "--group-size: it is for reinforcement learning: add --objective "),
        ({"answer_tokens": 4, "objective": "next_token"}, "--answer-tokens: it is for reinforcement learning"),
        ({"objective": "rloo"}, "--objective rloo: it needs --env, or --reward and --data"),
        (GAME | {"reward": "length:9"}, "--objective rloo: --env and --reward both say what is rewarded; leave one"),
        (GAME | {"data": "a.txt"}, "--data: --env tic-tac-toe has its own levels; leave --data out"),
        (GAME | {"val": "0.1"}, "--val: --env tic-tac-toe has its own levels; leave --val out"),
        (PROMPTS | {"data": TrainConfig().data.data}, "--reward exact:answer: name a .jsonl of prompts with --data"),
        (PROMPTS | {"mix": "a=1"}, "--reward exact:answer: name a .jsonl of prompts with --data, and leave --mix out"),
        (GAME | {"T": 1}, "--T 1 has no room for an answer; use 2 or more"),
        (GAME | {"B": 20}, "--B 20 must be divisible by --group-size 8"),
        (PARTS | {"group_size": 3}, "--B 4 times --accumulate 4 must be divisible by --group-size 3"),
        (GAME | {"order": "shuffled"}, "--order shuffled: every epoch has an order of its own anyhow; "),
        (GAME | {"dropout": 0.1}, "--dropout 0.1: answers are written without it; --objective rloo takes 0"),
        (GAME | {"beta": 0.1}, "--beta 0.1 is what the divergence from the weights of --init-from costs; name them"),
        (GAME | {"group_size": 1}, "--objective rloo compares the answers of a group; use --group-size 2 or more"),
        (GAME | {"group_size": 0}, "--group-size 0 is out of range: it must be from 1 to 1,000,000"),
        (GAME | {"updates": 0}, "--updates 0 is out of range: it must be from 1 to 1,000,000"),
        (GAME | {"show_every": -1}, "--show-every -1 is out of range: it must be from 0 to 2**31 - 1"),
        (GAME | {"answer_tokens": 0}, "--answer-tokens 0 is out of range: it must be from 1 to 2**31 - 1"),
        (GAME | {"clip": 0.0}, "--clip 0.0 is out of range: it must be a finite number above 0"),
        (GAME | {"objective": "dpo"}, "--env: it is for reinforcement learning"),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(flags, message):
    with pytest.raises(UsageError) as error:
        require(**flags)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


def test_defaults_are_no_flags():
    RolloutConfig().require_objective(TrainConfig())

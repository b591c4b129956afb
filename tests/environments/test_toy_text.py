"""gymnasium's toy_text as text, against gymnasium itself, and against optima computed in another way."""

import collections
import functools
import itertools
import random
import re

import numpy as np
import pytest

from jaxgpt.environments import open_environment
from jaxgpt.environments.toy_text import format_observation, optimal_return, value_iteration
from jaxgpt.errors import UsageError

gymnasium = pytest.importorskip("gymnasium", reason="needs gymnasium: pip install -r requirements-rl.txt")

TASKS = ("FrozenLake-v1", "Taxi-v4", "CliffWalking-v1", "Blackjack-v1")


def toy_text(task, **settings):
    return open_environment(f"gymnasium/{task}:" + ",".join(f"{name}={value}" for name, value in settings.items()))


def play(environment, level, seed, draw):
    """Random actions, what was read, and the reward."""
    episode, actions = environment.start(level, seed), []
    read = [episode.prompt]
    while read[-1] is not None:
        actions.append(draw.randrange(len(environment.actions)))
        read.append(episode.answer(str(actions[-1]), True))
    return actions, read, episode.reward


@pytest.mark.parametrize("task", TASKS)
def test_an_episode_is_gymnasiums(task):
    """Observations, rewards and the end, of its own wrapped environment with the same generator."""
    environment, draw = toy_text(task, max_episode_steps=10), random.Random(0)
    env = gymnasium.make(task, max_episode_steps=10)
    lengths = collections.Counter()
    for level in range(40):
        actions, read, reward = play(environment, level, 7, draw)
        observation, _ = env.reset(seed=level)
        env.unwrapped.np_random = np.random.default_rng((level, 7))
        total, texts, over = 0.0, [format_observation(observation)], False
        for action in actions:
            assert not over
            observation, step_reward, terminated, truncated, _ = env.step(action)
            total, over = total + step_reward, terminated or truncated
            texts.append(None if over else format_observation(observation))
        assert over and texts == read and total == reward
        lengths[len(actions)] += 1
    assert max(lengths) <= 10 and (lengths[10] > 0) == (task != "Blackjack-v1")


def test_observations_are_numbers_in_a_line():
    assert format_observation(np.int64(5)) == "5 " and format_observation((14, 10, 0)) == "14 10 0 "
    assert toy_text("FrozenLake-v1").start(0, 0).prompt == "0 "
    assert re.fullmatch(r"\d+ \d+ [01] ", toy_text("Blackjack-v1").start(3, 0).prompt)


@pytest.mark.parametrize("task", TASKS)
def test_episodes_at_the_same_time_are_those_played_alone(task):
    environment = toy_text(task)
    alone = [play(environment, level, seed, random.Random(level)) for level in range(4) for seed in range(4)]
    episodes = [environment.start(level, seed) for level in range(4) for seed in range(4)]
    read = [[episode.prompt] for episode in episodes]
    for turn in range(environment.max_answers):
        for episode, texts, (actions, _, _) in zip(episodes, read, alone, strict=True):
            if texts[-1] is not None:
                texts.append(episode.answer(str(actions[turn]), True))
    assert read == [texts for _, texts, _ in alone]
    assert [episode.reward for episode in episodes] == [reward for _, _, reward in alone]


@pytest.mark.parametrize("task, starts, levels", [("FrozenLake-v1", 1, 1), ("Taxi-v4", 50, 10_000)])
def test_a_level_is_a_start_and_the_seed_what_follows(task, starts, levels):
    environment = toy_text(task)
    prompts = [[environment.start(level, seed).prompt for seed in range(3)] for level in range(100)]
    assert all(len(set(of_level)) == 1 for of_level in prompts)
    assert len({of_level[0] for of_level in prompts}) >= starts and environment.num_levels == levels
    if task == "FrozenLake-v1":  # on ice
        outcomes = {tuple(play(environment, 0, seed, random.Random(1))[1]) for seed in range(20)}
        assert len(outcomes) > 5


@pytest.mark.parametrize(
    "text, ended", [("4", True), ("", True), ("01", True), (" 1", True), ("-1", True), ("1", False)]
)
def test_an_answer_that_is_no_action_ends_the_episode(text, ended):
    episode = toy_text("FrozenLake-v1").start(0, 0)
    assert episode.answer("0", True) is not None
    assert episode.answer(text, ended) is None and episode.reward == -1


@pytest.mark.parametrize("task", TASKS)
def test_no_legal_episode_is_as_bad_as_an_illegal_one_or_above_the_best(task):
    environment, draw = toy_text(task), random.Random(1)
    rewards = [play(environment, level, 0, draw)[2] for level in range(50)]
    assert environment.illegal < min(rewards) and max(rewards) <= environment.best
    assert environment.answer_tokens == 2 and environment.end == "\n"


def test_an_example_is_an_episode_of_random_actions():
    environment = toy_text("FrozenLake-v1")
    examples = [environment.example(0, seed) for seed in range(30)]
    assert len(set(examples)) > 25 and environment.example(0, 3) == examples[3]
    for seed, (prompt, text) in enumerate(examples):
        episode = environment.start(0, seed)
        assert prompt == episode.prompt
        turns = [(action, observation or None) for action, observation in re.findall(r"(\d)\n((?:\d+ )?)", text)]
        assert "".join(f"{action}\n{observation or ''}" for action, observation in turns) == text
        for action, observation in turns:
            assert episode.answer(action, True) == observation


# ---- Optima


def test_value_iteration_is_the_recursion_of_its_definition():
    env = toy_text("FrozenLake-v1").env

    @functools.cache
    def worth(state, left):
        if not left:
            return 0.0
        returns = (
            sum(p * (reward + (0 if over else worth(after, left - 1))) for p, after, reward, over in outcomes)
            for outcomes in env.P[state].values()
        )
        return max(returns)

    np.testing.assert_allclose(value_iteration(env, 60), [worth(state, 60) for state in range(16)], atol=1e-14)
    assert optimal_return(env, 60) == pytest.approx(worth(0, 60), abs=1e-14)
    assert optimal_return(env, 100) == pytest.approx(0.74, abs=0.005)  # gymnasium's own comment has it
    assert optimal_return(env, 5000) == pytest.approx(14 / 17, abs=1e-9)  # without a limit
    assert optimal_return(toy_text("FrozenLake8x8-v1").env, 200) == pytest.approx(0.91, abs=0.005)


@pytest.mark.parametrize(
    "task, settings, best, illegal",
    [
        ("FrozenLake-v1", {}, 1, -1),
        ("FrozenLake-v1", {"max_episode_steps": 5}, 0, -1),  # six steps from the goal
        ("CliffWalking-v1", {}, -13, -100 * 100 - 1),
        ("Taxi-v4", {}, None, -10 * 200 - 1),
        ("Blackjack-v1", {"sab": "false", "natural": "true"}, 1.5, -2),
        ("Blackjack-v1", {}, 1, -2),
    ],
)
def test_the_best_and_the_worst_are_known(task, settings, best, illegal):
    environment = toy_text(task, **settings)
    if best is None:  # the shortest way of a taxi, from the start that is nearest to the end
        best = 20 - (shortest(environment.env.P, environment.env.initial_state_distrib.nonzero()[0]) - 1)
    assert (environment.best, environment.illegal) == (best, illegal)


def shortest(P, starts):
    """Steps to an end of an environment without chance, breadth first."""
    seen, front = set(starts), list(starts)
    for steps in itertools.count(1):
        after = [P[state][action][0] for state in front for action in P[state]]
        if any(over for _, _, _, over in after):
            return steps
        front = {state for _, state, _, _ in after} - seen
        seen |= front


def test_no_hand_of_blackjack_is_cut_short():
    """With the most actions that a hand may take, the last card always ends it: 21 aces are 21 points."""
    env = toy_text("Blackjack-v1").start(0, 0)._env
    env.player = [1, 1]
    env.np_random = type("Aces", (), {"choice": lambda self, deck: 1})()
    over = [env.step(1)[2] for _ in range(20)]
    assert over == [False] * 19 + [True]


# ---- What is refused


@pytest.mark.parametrize(
    "spec, why",
    [
        ("/Taxi-v3", "toy_text has no such task; use .*Taxi-v4"),
        ("", "toy_text has no such task"),
        ("/CartPole-v1", "toy_text has no such task"),
        ("/FrozenLake-v1:slippery=true", "no setting 'slippery'; it has map_name, is_slippery, success_rate, max_"),
        ("/FrozenLake-v1:is_slippery=no", "is_slippery=no must be true or false"),
        ("/FrozenLake-v1:map_name=5x5", r'gymnasium refuses \{"map_name": "5x5"\}: KeyError'),
        ("/FrozenLake-v1:success_rate=3", "its outcomes have no probabilities"),
        ("/FrozenLake-v1:max_episode_steps=-1", "max_episode_steps=-1 must be at least 1"),
        ("/FrozenLake-v1:render_mode=human", "no setting 'render_mode'"),
    ],
)
def test_a_wrong_task_or_setting_is_refused(spec, why):
    with pytest.raises(UsageError) as error:
        open_environment(f"gymnasium{spec}")
    assert re.match(rf"--env gymnasium/.*: {why}", str(error.value)) and "\n" not in str(error.value)


def test_a_setting_changes_the_fingerprint():
    prints = [toy_text("FrozenLake-v1", **settings).fingerprint for settings in ({}, {"is_slippery": "true"})]
    assert prints[0] == prints[1]  # the default
    others = [("FrozenLake-v1", {"is_slippery": "false"}), ("FrozenLake-v1", {"max_episode_steps": 9}), ("Taxi-v4", {})]
    assert len({prints[0], *(toy_text(task, **settings).fingerprint for task, settings in others)}) == 4

"""gymnasium's toy_text as text: each turn is a line, the observation's numbers and then the action's."""

import copy
import hashlib
import inspect
import json
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxgpt.environments.base import one_line, require_settings
from jaxgpt.errors import UsageError

# The most actions where gymnasium sets no limit. With 20 cards more, every hand of Blackjack is over.
MAX_STEPS = {"Blackjack-v1": 20, "CliffWalking-v1": 100, "CliffWalkingSlippery-v1": 100}
LEVELS = 10_000  # to train on, where an episode may start in several states
Backup = Callable[[np.ndarray, np.ndarray], np.ndarray]


def open_toy_text(task: str, **settings: Any) -> "ToyText":
    """The environment of that name, made with these settings; `max_episode_steps` is one too.

    Raises:
      UsageError: toy_text has none of that name, it refuses the settings, or gymnasium is not installed.
    """
    try:
        import gymnasium
    except ImportError:
        raise UsageError("--env gymnasium needs gymnasium: pip install -r requirements-rl.txt") from None
    where = f"--env gymnasium/{task}"
    specs = {
        name: spec
        for name, spec in gymnasium.registry.items()
        if str(spec.entry_point).startswith("gymnasium.envs.toy_text.")
    }
    if task not in specs:
        raise UsageError(f"{where}: toy_text has no such task; use {', '.join(specs)}")
    spec = specs[task]
    maker = inspect.signature(gymnasium.envs.registration.load_env_creator(spec.entry_point))
    known = {name: parameter.default for name, parameter in maker.parameters.items()}
    known |= spec.kwargs | {"max_episode_steps": spec.max_episode_steps or MAX_STEPS.get(task, 100)}
    known = {name: value for name, value in known.items() if isinstance(value, bool | int | float | str)}
    require_settings(where, settings, known)
    known |= settings
    if known["max_episode_steps"] < 1:
        raise UsageError(f"{where}: max_episode_steps={known['max_episode_steps']} must be at least 1")
    identity = json.dumps([gymnasium.__version__, task, known, format_observation(0)], sort_keys=True)
    try:
        return ToyText(task, gymnasium.make(task, disable_env_checker=True, **known), identity)
    except Exception as error:  # whatever an environment has against a value
        raise UsageError(f"{where}: gymnasium refuses {json.dumps(settings)}: {one_line(error)}") from None


class Play:
    """An episode; see base.Episode. Its reward is the sum of the environment's own, without discount.

    Args:
      env: an environment as it is before its first reset; it is copied.
      illegal: the reward of an episode that ends with an answer that is no action.
    """

    learned = True

    def __init__(self, env: Any, level: int, seed: int, actions: Mapping[str, int], steps: int, illegal: float):
        self._env = copy.copy(env)  # shares the tables that no step changes; gymnasium.make takes fifty times as long
        observation, _ = self._env.reset(seed=level)
        self._env.np_random = np.random.default_rng((level, seed))
        self._actions, self._steps_left, self._illegal = actions, steps, illegal
        self.prompt = format_observation(observation)
        self.reward = 0.0

    def answer(self, text: str, ended: bool) -> str | None:
        if not ended or text not in self._actions:
            self.reward = self._illegal
            return None
        observation, reward, terminated, truncated, _ = self._env.step(self._actions[text])
        self.reward += float(reward)
        self._steps_left -= 1
        return None if terminated or truncated or not self._steps_left else format_observation(observation)


class ToyText:
    """As base.Environment. A level is the seed of the start: where there is only one start, all levels are the same.

    An answer that is no action makes the whole episode worth 1 less than the worst of legal actions could be.

    Args:
      env: what gymnasium.make returned, with a limit of steps.
      identity: what decides its episodes.
    """

    end = "\n"

    def __init__(self, task: str, env: Any, identity: str):
        self.name = f"gymnasium/{task}"
        self.fingerprint = hashlib.sha256(identity.encode()).hexdigest()
        self.max_answers, self.env = env.spec.max_episode_steps, env.unwrapped
        space = env.action_space
        self.actions = {str(action): action for action in range(int(space.start), int(space.start + space.n))}
        self.answer_tokens = max(map(len, self.actions)) + len(self.end)
        worst, self.best = reward_range(self.env, self.max_answers)
        self.illegal = worst - 1
        self.num_levels = LEVELS if np.count_nonzero(getattr(self.env, "initial_state_distrib", (1, 1))) > 1 else 1

    def start(self, level: int, seed: int) -> Play:
        return Play(self.env, level, seed, self.actions, self.max_answers, self.illegal)

    def example(self, level: int, seed: int) -> tuple[str, str]:
        """An episode of random actions."""
        draw, names = random.Random(seed), list(self.actions)
        play, texts, observation = self.start(level, seed), [], ""
        while observation is not None:
            action = draw.choice(names)
            observation = play.answer(action, True)
            texts += [action, self.end, observation or ""]
        return play.prompt, "".join(texts)


def format_observation(observation: int | Sequence[int]) -> str:
    """Its numbers with a space behind each: what ends with a space is to be answered, whatever stands before it."""
    return "".join(f"{number} " for number in (observation if isinstance(observation, tuple) else (observation,)))


# ---- What an episode can be worth, by value iteration over its last step, its last two, ...


def expect(probabilities: np.ndarray, returns: np.ndarray) -> np.ndarray:
    """What the best action is worth on average."""
    return (probabilities * returns).sum(2).max(1)


def hope(probabilities: np.ndarray, returns: np.ndarray) -> np.ndarray:
    """What the luckiest action is worth with the luckiest outcome."""
    return np.where(probabilities > 0, returns, -np.inf).max((1, 2))


def fear(probabilities: np.ndarray, returns: np.ndarray) -> np.ndarray:
    """What the unluckiest action is worth with the unluckiest outcome."""
    return np.where(probabilities > 0, returns, np.inf).min((1, 2))


def value_iteration(env: Any, steps: int, backup: Backup = expect) -> np.ndarray:
    """What `steps` actions from each state on are worth, (S,): with the default, by the best policy and on average.

    Args:
      env: has P[state][action], a list of (probability, next state, reward, terminated).
      backup: (S, A, outcomes) of probabilities and returns to the (S,) of what a state is worth.

    Raises:
      ValueError: P has no probabilities.
    """
    states = range(len(env.P))
    outcomes = [[env.P[state][action] for action in sorted(env.P[state])] for state in states]
    width = max(len(row) for actions in outcomes for row in actions)
    padded = [[row + [(0.0, 0, 0.0, True)] * (width - len(row)) for row in actions] for actions in outcomes]
    probabilities, next_states, rewards, terminated = np.moveaxis(np.array(padded, float), 3, 0)
    if probabilities.min() < 0 or not np.allclose(probabilities.sum(2), 1):
        raise ValueError("its outcomes have no probabilities between 0 and 1 that sum to 1")
    values, next_states = np.zeros(len(states)), next_states.astype(int)
    for _ in range(steps):
        values = backup(probabilities, rewards + np.where(terminated > 0, 0, values[next_states]))
    return values


def optimal_return(env: Any, steps: int) -> float:
    """What an episode of the best policy is worth on average; FrozenLake: how often it succeeds within these steps."""
    return float(env.initial_state_distrib @ value_iteration(env, steps))


def reward_range(env: Any, steps: int) -> tuple[float, float]:
    """The worst and the best that an episode of legal actions can be worth.

    A Taxi's fickle passenger is taken for one that keeps to its destination.
    """
    if not hasattr(env, "P"):  # Blackjack
        return -1.0, 1.5 if env.natural and not env.sab else 1.0
    starts = env.initial_state_distrib > 0
    return float(value_iteration(env, steps, fear)[starts].min()), float(
        value_iteration(env, steps, hope)[starts].max()
    )

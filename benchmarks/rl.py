"""Reinforcement learning on two CPU cores: tic-tac-toe, FrozenLake, sums; and what a step spends its time on.

python -m benchmarks.rl --folder /tmp/rl

- tic-tac-toe: a small GPT-2 reads random legal games, and then plays against an opponent that moves at random or
  perfectly. Every reply sequence is walked before and after: lines won, drawn, lost, and ended by an illegal move.
- frozen-lake: a small convolutional model reads episodes of random actions, and then walks on slippery ice; how often
  it reaches the goal, beside what value iteration says of the best policy.
- sums: reasoning-gym's chain_sum of four digits; the share of right answers to questions that no training level has.
- speed: tokens/s of rollouts beside `generate` alone, and the shares of a step.

Each task is done with `--seeds` seeds, by the commands of docs/rl.md.
"""

import dataclasses
import functools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import tyro

from jaxgpt.commands.train import read_config
from jaxgpt.environments import open_environment
from jaxgpt.environments.base import end_token
from jaxgpt.environments.toy_text import optimal_return
from jaxgpt.inference.generate import generate
from jaxgpt.training.policy import Policy
from jaxgpt.training.rollouts import load_rollouts
from jaxgpt.training.setup import build_trainer, objective_of

ROOT = Path(__file__).parent.parent
TASKS = ("tic-tac-toe", "frozen-lake", "sums", "speed")
GAMES = ["--n-layer", 2, "--n-head", 4, "--n-embd", 64, "--block-size", 64, "--B", 64, "--T", 64, "--lr", 2e-3]
GAMES += ["--tokenizer", "bytes", "--schedule", "cosine", "--warmup-ratio", 0.05, "--steps", 1500]
PLAY = ["--objective", "rloo", "--B", 512, "--group-size", 16, "--T", 20, "--lr", 1e-3, "--beta", 0.07]
PLAY += ["--updates", 2, "--schedule", "cosine", "--warmup-ratio", 0.02, "--steps", 1500]


@dataclasses.dataclass
class Flags:
    """Learn three tasks by reward, and time a step."""

    folder: Path
    """For the data and the runs."""
    tasks: tuple[str, ...] = TASKS
    """Which ones."""
    seeds: int = 3
    """How many times each."""


def main(flags: Flags) -> None:
    for task in flags.tasks:
        print(f"== {task}", flush=True)
        {"tic-tac-toe": play_games, "frozen-lake": walk, "sums": add, "speed": time_rollouts}[task](flags)


def jaxgpt(*words: Any) -> None:
    """Run a command of ours, and stop at its error."""
    command = [sys.executable, "-m", "jaxgpt", *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr or done.stdout)


def play_games(flags: Flags) -> None:
    """Random games, the game itself, and every reply sequence before and after."""
    for seed in range(flags.seeds):
        folder = flags.folder / f"tic-tac-toe-{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        started = time.perf_counter()
        jaxgpt("play", "--env", "tic-tac-toe", "--record", folder / "games.jsonl", "--games", 40_000, "--seed", seed)
        jaxgpt("train", "--out", folder / "games", "--data", folder / "games.jsonl", *GAMES, "--seed", seed)
        pretrained = time.perf_counter()
        env = ["--env", "tic-tac-toe:opponent=mixed"]
        jaxgpt("train", "--out", folder / "player", "--init-from", folder / "games", *env, *PLAY, "--seed", seed)
        minutes = [(b - a) / 60 for a, b in ((started, pretrained), (pretrained, time.perf_counter()))]
        for name in ("games", "player"):
            path = folder / f"{name}.json"
            jaxgpt("play", folder / name, "--env", "tic-tac-toe", "--tree", "--json", path)
            print(f"seed {seed}, {name}: {json.loads(path.read_text())}", flush=True)
        print(f"seed {seed}: {minutes[0]:.1f} min of reading games, {minutes[1]:.1f} min of play", flush=True)


LAKE = "gymnasium/FrozenLake-v1"
EPISODES = ["--arch", "gated_cnn", "--n-layer", 2, "--n-embd", 64, "--bottleneck", 64, "--kernel-size", 2]
EPISODES += ["--block-size", 512, "--B", 32, "--T", 256, "--lr", 3e-3, "--tokenizer", "bytes", "--schedule", "cosine"]
EPISODES += ["--steps", 500]
WALK = ["--objective", "grpo", "--B", 512, "--group-size", 512, "--T", 480, "--lr", 1e-3, "--beta", 0.03]
WALK += ["--schedule", "cosine", "--warmup-ratio", 0.05, "--steps", 300]


def walk(flags: Flags) -> None:
    """Random actions, then those that reach the goal; the share of 2,000 episodes that do, by the likeliest actions."""
    environment = open_environment(LAKE)
    print(f"the best policy: {optimal_return(environment.env, environment.max_answers):.3f}", flush=True)
    how = ["--levels", 2000, "--batch-size", 500]
    for name, found in learn(flags, "frozen-lake", LAKE, 4_000, EPISODES, WALK, how):
        print(f"{name}: {found['mean']:.3f} ± {found['stderr']:.3f}", flush=True)


SUMS = "reasoning-gym/chain_sum:prompt=expression,min_terms=4,max_terms=4,min_digits=1,max_digits=1"
QUESTIONS = [*GAMES[:-1], 400]
ADD = ["--objective", "rloo", "--B", 1024, "--group-size", 16, "--T", 20, "--lr", 1e-3, "--beta", 0.02]
ADD += ["--updates", 2, "--schedule", "cosine", "--steps", 1000]


def add(flags: Flags) -> None:
    """Some steps on right answers, then answers that are rewarded; both models measured."""
    environment = open_environment(SUMS)
    known = {environment.start(level, 0).prompt for level in range(environment.num_levels)}
    how = ["--levels", 1000, "--batch-size", 100]
    for name, found in learn(flags, "sums", SUMS, 10_000, QUESTIONS, ADD, how):
        new = [each["reward"] for each in found["each"] if environment.start(each["level"], 0).prompt not in known]
        right = statistics.mean(reward >= 1 for reward in new)
        error = (right * (1 - right) / len(new)) ** 0.5
        print(f"{name}: {right:.3f} ± {error:.3f} of {len(new)} new questions", flush=True)


def learn(
    flags: Flags, task: str, env: str, games: int, read: list[Any], play: list[Any], how: list[Any]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Train on recorded examples, with the flags `read`, and then by reward, with `play`; measure both models."""
    for seed in range(flags.seeds):
        folder = flags.folder / f"{task}-{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        started, examples = time.perf_counter(), folder / "examples.jsonl"
        jaxgpt("play", "--env", env, "--record", examples, "--games", games, "--seed", seed)
        jaxgpt("train", "--out", folder / "reader", "--data", examples, *read, "--seed", seed)
        words = ["--init-from", folder / "reader", "--env", env, *play, "--seed", seed]
        jaxgpt("train", "--out", folder / "policy", *words)
        minutes = (time.perf_counter() - started) / 60
        for name in ("reader", "policy"):
            path = folder / f"{name}.json"
            jaxgpt("evaluate", folder / name, "--env", env, *how, "--json", path)
            yield f"seed {seed}, {name}", json.loads(path.read_text())["environment"]
        print(f"seed {seed}: {minutes:.1f} min", flush=True)


# ---- Speed

SHAPES = {  # of a step: what is rolled out, by how large a model
    "tic-tac-toe, 0.1M": (["--env", "tic-tac-toe:opponent=mixed", "--B", 512, "--T", 20, "--updates", 2], GAMES[:8]),
    "64 tokens, 0.1M": (["--B", 64, "--T", 128, "--answer-tokens", 64], [*GAMES[:7], 128]),
    "64 tokens, 19M": (
        ["--B", 16, "--T", 128, "--answer-tokens", 64],
        ["--n-layer", 6, "--n-head", 8, "--n-embd", 512, "--block-size", 128],
    ),
}
ROUNDS = 7


def time_rollouts(flags: Flags) -> None:
    """A table of tokens/s, and of shares of a step, medians of rounds in turn."""
    prompts = flags.folder / "prompts.jsonl"
    prompts.parent.mkdir(parents=True, exist_ok=True)
    prompts.write_text("".join(json.dumps({"prompt": f"Count on from {i:06}: "}) + "\n" for i in range(1000)))
    print("| step | rollout, tokens/s | `generate`, tokens/s | ratio | rollout | reward | score | update |")
    print("|---|---|---|---|---|---|---|---|")
    for name, (words, shape) in SHAPES.items():
        if "--env" not in words:
            words = ["--data", prompts, "--reward", "length:20", *words]
        print(f"| {name} | {' | '.join(time_step([*shape, *words]))} |", flush=True)


class Timed:
    """An environment, or an episode of one, that adds up the seconds it takes."""

    seconds = 0.0

    def __init__(self, inner: Any):
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        started = time.perf_counter()
        value = getattr(self._inner, name)
        if name in ("start", "answer"):
            value = functools.partial(self._call, value)
        Timed.seconds += time.perf_counter() - started
        return value

    def _call(self, method: Any, *args: Any) -> Any:
        started = time.perf_counter()
        value = method(*args)
        Timed.seconds += time.perf_counter() - started
        return value if value is None or isinstance(value, str) else Timed(value)


def time_step(words: list[Any]) -> list[str]:
    """The cells of a row: the parts of a step, in the order in which it has them, and `generate` from its prompts."""
    flags = ["--objective", "rloo", "--tokenizer", "bytes", "--lr", 1e-5, "--steps", 1, *words]
    config, _ = read_config([str(word) for word in flags])
    data, _ = load_rollouts(config)
    objective = objective_of(config, data.kind, ())
    trainer = build_trainer(config.with_vocabulary(data.tokenizer.vocab_size), objective=objective)
    frozen = trainer.init_frozen(0)
    data = dataclasses.replace(data, policy=Policy(trainer, objective), environment=Timed(data.environment))
    compiled, state = trainer.compile(frozen, data), trainer.init_state(0)
    end = end_token(data.environment, data.tokenizer)
    seconds: dict[str, list[float]] = {}
    for round in range(ROUNDS + 1):  # the first one compiles
        model, position, levels = state.model, round * data.B * data.T, [round] * data.B
        times = [time.perf_counter()]
        Timed.seconds = 0.0
        transcripts = data.policy.write(data, model, levels, position)
        times.append(time.perf_counter())
        batch = data.policy.batch(data, model, transcripts, data.group_size)
        times.append(time.perf_counter())
        state, _ = jax.block_until_ready(compiled.step(state, compiled.put(batch)))
        times.append(time.perf_counter())
        prompts = [each.tokens[: each.num_prompt].tolist() for each in transcripts]
        written = sum(int(each.learned.sum()) for each in transcripts)
        n = max(1, min(data.max_tokens, data.T - max(map(len, prompts))))
        if data.environment.max_answers > 1:
            n = written // data.B
        texts = generate(state.model, prompts, n, jax.random.key(round), stop=end)
        times.append(time.perf_counter())
        parts = dict(zip(("write", "score", "update", "generate"), map(float.__sub__, times[1:], times), strict=True))
        parts |= {"reward": Timed.seconds, "write": parts["write"] - Timed.seconds}
        for part, value in parts.items():
            seconds.setdefault(part, []).append(value)
        seconds.setdefault("rollout rate", []).append(written / parts["write"])
        tokens = sum(len(text) + (len(text) < n) for text in texts)  # with the token that ends one
        seconds.setdefault("generate rate", []).append(tokens / parts["generate"])
    medians = {name: statistics.median(values[1:]) for name, values in seconds.items()}
    step = sum(medians[part] for part in ("write", "reward", "score", "update"))
    shares = [f"{medians[part] / step:.0%}" for part in ("write", "reward", "score", "update")]
    rollout, alone = medians["rollout rate"], medians["generate rate"]
    return [f"{rollout:,.0f}", f"{alone:,.0f}", f"{rollout / alone:.2f}", *shares]


if __name__ == "__main__":
    main(tyro.cli(Flags))

"""A hidden rule, learned from pairs of answers: each objective at equal steps, on a model that two CPU cores train.

python -m benchmarks.preferences --folder /tmp/preferences

A small GPT-2 learns to answer requests of a made-up grammar; five of nine answers have the word "very". It then writes
two answers to each of many requests. Where one of the two has the word, the other is the chosen one: 2,000 pairs to
learn from, and 300 with other requests. Each objective trains this model on the same pairs for as many steps; kto gets
the answers one by one, two for a pair. Three learning rates are tried with seed 0, and the one that leaves the most
sampled answers that keep the rule and are in the grammar is taken for the other seeds.

The table has the share of the 300 pairs whose chosen answer has the higher log-probability, or reward; the shares of
sampled answers that keep the rule, are in the grammar and repeat the request's words, and do both; and by how many nats
the log-probabilities of the 300 changed. Samples are one at temperature 1 for each of 500 requests that no training
had; the reward model chooses the best of four that the model before it wrote.
"""

import dataclasses
import itertools
import json
import math
import os
import random
import re
import statistics
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import numpy as np
import tyro

import jaxgpt
from jaxgpt.data import examples, json_tokenizers
from jaxgpt.models.base import Model
from jaxgpt.objectives.preferences import rewards_of, score_answers
from jaxgpt.runs import huggingface
from jaxgpt.runs.weights import resolve_weights

ROOT = Path(__file__).parent.parent
WORD, ADVERBS = "very", ("very", "quite", "rather")
COLORS = ("red", "blue", "green", "black", "white", "brown", "grey", "golden", "silver", "pale", "dark", "bright")
NOUNS = ("fox", "horse", "bird", "cat", "dog", "king", "queen", "child", "sailor", "miller", "baker", "hunter", "tower")
NOUNS += ("ship", "bell", "garden", "river", "stone", "letter", "song", "story", "dream", "lantern", "clock", "market")
PLACES = ("sea", "lake", "hill", "bridge", "gate", "well", "church", "mill", "harbour", "wall", "inn", "field")
ADJECTIVES = ("old", "young", "calm", "loud", "quiet", "strange", "lovely", "heavy", "cold", "warm", "tall", "proud")
ENDS = ("", " in the morning", " at night", " that year", " before the long winter")
PAIRS, VAL_PAIRS, SAMPLES = 2000, 300, 500
REQUESTS, VAL_REQUESTS = 6000, 900  # in all, and for VAL_PAIRS; the answers to about half of them make a pair
BASE = ["--n-layer", 2, "--n-head", 4, "--n-embd", 64, "--block-size", 64, "--recipe", "gpt3", "--lr", 3e-3]
BASE += ["--B", 32, "--T", 64, "--steps", 400]
T = 32  # of a request with its answer
RATES = {
    "dpo": (5e-5, 1e-4, 2e-4),
    "ipo": (5e-5, 1e-4, 2e-4),
    "simpo": (5e-5, 1e-4, 2e-4),
    "orpo": (1e-3, 2e-3, 4e-3),
    "kto": (2e-4, 4e-4, 8e-4),
    "reward": (3e-4, 1e-3, 3e-3),
}


@dataclasses.dataclass
class Flags:
    """Train a model on the grammar, and then on pairs of its own answers, with each objective."""

    folder: Path
    """For the data and the runs."""
    objectives: tuple[str, ...] = tuple(RATES)
    """Which ones."""
    seeds: int = 3
    """How many times, each with another model and other pairs."""
    steps: int = 125
    """Steps of each objective, of 32 pairs: two epochs."""
    json: Path | None = None
    """Where to keep all numbers."""


def main(flags: Flags) -> None:
    rates, before, found = dict(RATES), [], []
    for seed in range(flags.seeds):
        folder = flags.folder / str(seed)
        requests = make_base(folder, seed)
        before.append(measure(folder, "base", requests))
        for objective in flags.objectives:
            tried = []
            for lr in rates[objective]:
                run = f"{objective}-{lr:g}"
                rated = objective == "kto"
                words = ["--data", folder / ("ratings.jsonl" if rated else "pairs.jsonl"), "--B", 64 if rated else 32]
                words += ["--objective", objective, "--init-from", folder / "base", "--lr", lr, "--seed", seed]
                train("--out", folder / run, *words, "--T", T, "--accumulate", 1, "--steps", flags.steps)
                tried.append({"objective": objective, "seed": seed, "lr": lr} | measure(folder, run, requests))
                print(json.dumps(tried[-1]), flush=True)
            best = max(tried, key=lambda each: each["both"])
            rates[objective] = (best["lr"],)
            found += [each | {"is_best": each is best} for each in tried]
    print_table(before, [each for each in found if each["is_best"]])
    if flags.json:
        flags.json.write_text(json.dumps({"before": before, "after": found}, indent=1) + "\n")


# ---- The grammar


def draw_requests(draw: random.Random) -> list[str]:
    """REQUESTS of them, all different."""
    words = draw.sample([*itertools.product(COLORS, NOUNS, ADJECTIVES, PLACES)], REQUESTS)
    return [f"Tell me of the {color} {noun} by the {adjective} {place}." for color, noun, adjective, place in words]


def find_words(request: str) -> tuple[str, ...]:
    """The noun and the place."""
    return re.fullmatch(r"Tell me of the \w+ (\w+) by the \w+ (\w+)\.", request).groups()


def draw_answer(draw: random.Random, request: str) -> str:
    noun, place = find_words(request)
    first, second = draw.sample(ADJECTIVES, 2)
    phrases = f"{draw.choice(ADVERBS)} {first} and {draw.choice(ADVERBS)} {second}"
    return f" The {noun} of the {place} was {phrases}{draw.choice(ENDS)}."


def is_in_grammar(request: str, answer: str) -> bool:
    """Whether the answer is in the grammar, and has the noun and the place of the request."""
    noun, place = find_words(request)
    phrase = f"({'|'.join(ADVERBS)}) ({'|'.join(ADJECTIVES)})"
    return bool(re.fullmatch(rf" The {noun} of the {place} was {phrase} and {phrase}({'|'.join(ENDS)})\.", answer))


def breaks_rule(answer: str) -> bool:
    return WORD in answer


# ---- The model and its pairs


def make_base(folder: Path, seed: int) -> list[str]:
    """Train a model on the grammar and write its pairs; returns the requests for samples."""
    draw = random.Random(seed)
    requests = draw_requests(draw)
    new, held_out, known = requests[:SAMPLES], requests[SAMPLES:][:VAL_REQUESTS], requests[SAMPLES + VAL_REQUESTS :]
    train_base(folder, known, draw, seed)
    pairs = make_pairs(folder, known, seed)[:PAIRS]
    write(folder / "pairs.jsonl", pairs)
    rated = ({"completion": pair[name], "good": name == "chosen"} for pair in pairs for name in ("chosen", "rejected"))
    prompts = (pair["prompt"] for pair in pairs for _ in range(2))
    write(folder / "ratings.jsonl", [{"prompt": prompt} | each for prompt, each in zip(prompts, rated, strict=True)])
    write(folder / "val.jsonl", make_pairs(folder, held_out, seed)[:VAL_PAIRS])
    return new


def train_base(folder: Path, requests: Sequence[str], draw: random.Random, seed: int) -> None:
    """Train a model, folder/base, on an answer of the grammar to each request."""
    answers = [draw_answer(draw, request) for request in requests]
    folder.mkdir(parents=True, exist_ok=True)
    pairs = zip(requests, answers, strict=True)
    write(folder / "base.jsonl", [{"prompt": request, "completion": answer} for request, answer in pairs])
    texts = map("".join, zip(requests, answers, strict=True))
    tokenizer = json_tokenizers.train(texts, 1000)  # a token for each word
    (folder / "tokenizer").mkdir(exist_ok=True)
    for name, text in tokenizer.hugging_face_files().items():
        (folder / "tokenizer" / name).write_text(text, encoding="utf-8")
    words = ["--data", folder / "base.jsonl", "--tokenizer", folder / "tokenizer", "--seed", seed]
    train("--out", folder / "base", *words, *BASE)


def make_pairs(folder: Path, requests: list[str], seed: int) -> list[dict[str, str]]:
    """Two answers of the model to a request each, where one of them keeps the rule and the other breaks it."""
    pairs = []
    for start in range(0, len(requests), SAMPLES):
        part = requests[start : start + SAMPLES]
        answers = zip(*(sample(folder, part, 2 * seed + number) for number in range(2)), strict=True)
        for request, two in zip(part, answers, strict=True):
            chosen, rejected = sorted(two, key=breaks_rule)
            if breaks_rule(rejected) and not breaks_rule(chosen):
                pairs.append({"prompt": request, "chosen": chosen, "rejected": rejected})
    return pairs


def write(path: Path, records: Iterable[dict]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def sample(folder: Path, requests: Sequence[str], seed: int, run: str = "base") -> list[str]:
    """An answer to each request, at temperature 1."""
    model, tokenizer = jaxgpt.load(folder / run), jaxgpt.load_tokenizer(folder / run)
    return jaxgpt.generate(model, requests, T - 10, temperature=1, top_k=0, seed=seed, tokenizer=tokenizer)


def train(*words: object) -> None:
    command = [sys.executable, "-m", "jaxgpt", "train", "--device", "cpu", "--fresh", *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")


# ---- What a run has learned


def measure(folder: Path, run: str, requests: list[str]) -> dict[str, float]:
    """The shares and the mean log-probabilities, in nats, of the table."""
    source = resolve_weights(folder / run)
    model = huggingface.load(source)
    pairs = examples.load(str(folder / "val.jsonl"), VAL_PAIRS, T, tokenizer=source.tokenizer)[0]
    (batch,) = pairs.one_pass()
    if source.labels:
        scores = np.asarray(jax.jit(rewards_of)(model, batch))
        answers, log_probs = choose_best(folder, model, requests), {}
    else:
        scores = np.asarray(jax.jit(lambda *inputs: score_answers(*inputs).log_probs)(model, batch))
        answers = sample(folder, requests, 100, run)
        log_probs = dict(zip(("chosen", "rejected"), scores.mean(0).tolist(), strict=True))
    keeps = np.array([not breaks_rule(answer) for answer in answers])
    in_grammar = np.array([is_in_grammar(*each) for each in zip(requests, answers, strict=True)])
    shares = {"pairs": scores[:, 0] > scores[:, 1], "rule": keeps, "grammar": in_grammar, "both": keeps & in_grammar}
    return {name: values.mean().item() for name, values in shares.items()} | log_probs


def choose_best(folder: Path, reward_model: Model, requests: list[str]) -> list[str]:
    """Of four answers of the model to each request, the one with the highest reward."""
    columns, rewards = [sample(folder, requests, 100 + number) for number in range(4)], []
    for answers in columns:
        rated = zip(requests, answers, strict=True)
        path = folder / "samples.jsonl"
        write(path, [{"prompt": request, "completion": answer, "good": True} for request, answer in rated])
        (batch,) = examples.load(str(path), SAMPLES, T, tokenizer=jaxgpt.load_tokenizer(folder / "base"))[0].one_pass()
        rewards.append(jax.jit(rewards_of)(reward_model, batch))
    return [columns[best][row] for row, best in enumerate(np.argmax(rewards, axis=0))]


def print_table(before: list[dict], after: list[dict]) -> None:
    print("\n| objective | learning rate | pairs | rule | by seed | grammar | both | chosen | rejected |")
    print("|---" * 9 + "|")
    print_row("before", "", before)
    for objective in dict.fromkeys(each["objective"] for each in after):
        runs = [each for each in after if each["objective"] == objective]
        print_row(objective, f"{runs[0]['lr']:g}", runs, before)


def print_row(name: str, lr: str, runs: list[dict], before: Sequence[dict] = ()) -> None:
    means = {key: statistics.mean(run[key] for run in runs) for key in ("pairs", "rule", "grammar", "both")}
    error = math.sqrt(means["pairs"] * (1 - means["pairs"]) / (VAL_PAIRS * len(runs)))
    by_seed = ", ".join(f"{run['rule']:.3f}" for run in runs)
    changes = ["", ""]
    if before and "chosen" in runs[0]:
        each = zip(runs, before, strict=True)
        differences = [[run[key] - first[key] for key in ("chosen", "rejected")] for run, first in each]
        changes = [f"{statistics.mean(values):+.2f}" for values in zip(*differences, strict=True)]
    shares = [f"{means[key]:.3f}" for key in ("grammar", "both")]
    cells = [name, lr, f"{means['pairs']:.3f} ± {error:.3f}", f"{means['rule']:.3f}", by_seed, *shares, *changes]
    print("|", " | ".join(cells), "|")


if __name__ == "__main__":
    main(tyro.cli(Flags, use_underscores=False))

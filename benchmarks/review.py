"""An expert with a hidden rule, over HTTP: what a model learns from 300 judgments of its own answers.

python -m benchmarks.review --folder /tmp/review

A small GPT-2 learns to answer requests of a made-up grammar (benchmarks/preferences.py), in which each of two adverbs
is "very" in a third of the answers. `jaxgpt review` shows two of its answers to a request, and a program asks that
server for them and judges them as the page does. Its rule: the answer with fewer "very" is better, and as many are a
tie. It judges 300 pairs to learn from, and 200 with other requests, which no training has. `jaxgpt train --objective
dpo` then takes the file of judgments as it is.

The table has the share of the 200 pairs whose chosen answer the model gives the higher log-probability (`jaxgpt
evaluate --pairs`), and the shares of answers to 500 new requests that have no "very", and that are in the grammar. At
the end the expert, and another one who errs on a tenth of the items, compare the two models without knowing which is
which, and `jaxgpt agreement` says what came out.
"""

import contextlib
import dataclasses
import http.client
import json
import os
import random
import re
import subprocess
import sys
import time
import urllib.parse
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import tyro

from benchmarks import preferences
from benchmarks.preferences import ROOT, SAMPLES, WORD

PAIRS, VAL_PAIRS, COMPARED = 300, 200, 100
PROMPTS, VAL_PROMPTS = 700, 500  # of which three in five make a pair
TOPICS = ("colours", "places")
DPO = ["--objective", "dpo", "--beta", 1, "--lr", 1e-4, "--B", 32, "--T", preferences.T, "--steps", 60]
Choose = Callable[[str, list[str]], int | str]  # of a prompt and two answers: 1, 2, "tie" or "skip"


@dataclasses.dataclass
class Flags:
    """Have an expert judge a model's answers, train on the judgments, and measure what was learned."""

    folder: Path
    """For the data and the runs."""
    seed: int = 0
    """Of the model, its answers and the places on the page."""
    json: Path | None = None
    """Where to keep the numbers."""


def main(flags: Flags) -> None:
    folder, draw = flags.folder, random.Random(flags.seed)
    began = time.monotonic()
    requests = preferences.draw_requests(draw)
    new, compared = requests[:SAMPLES], requests[SAMPLES:][:COMPARED]
    learned, held_out = requests[1000:][:PROMPTS], requests[2000:][:VAL_PROMPTS]
    preferences.train_base(folder, requests[3000:], draw, flags.seed)
    print(f"a model of the grammar: {time.monotonic() - began:.0f} s", flush=True)
    for name, part, number in (("prefs", learned, PAIRS), ("val", held_out, VAL_PAIRS)):
        began, out = time.monotonic(), folder / f"{name}.jsonl"
        judged = review_over_http(folder, ["base"], part, out, {"expert": prefer_few}, number, flags.seed)
        print(f"{out.name}: {judged} after {time.monotonic() - began:.0f} s", flush=True)
    dpo = ["--data", folder / "prefs.jsonl", "--init-from", folder / "base", "--seed", flags.seed, *DPO]
    preferences.train("--out", folder / "dpo", *dpo)
    numbers = {run: measure(folder, run, new) for run in ("base", "dpo")}
    print_table(numbers)
    annotators = {"expert": prefer_few, "hasty": make_hasty(prefer_few, flags.seed)}
    review_over_http(folder, ["base", "dpo"], compared, folder / "compared.jsonl", annotators, None, flags.seed)
    print(jaxgpt("agreement", folder / "compared.jsonl", "--json", "/dev/null"))
    if flags.json:
        flags.json.write_text(json.dumps(numbers, indent=1) + "\n")


# ---- The expert


def prefer_few(prompt: str, answers: list[str]) -> int | str:
    """The place of the answer that has the word less often, or a tie."""
    first, second = (answer.count(WORD) for answer in answers)
    return "tie" if first == second else 1 if first < second else 2


def make_hasty(choose: Choose, seed: int, share: float = 0.1) -> Choose:
    """One who knows the rule, and takes the other answer in a share of the cases."""
    draw, other = random.Random(seed), {1: 2, 2: 1, "tie": "tie"}

    def choose_hastily(prompt: str, answers: list[str]) -> int | str:
        choice = choose(prompt, answers)
        return other[choice] if draw.random() < share else choice

    return choose_hastily


class Reviewer:
    """An annotator who speaks to the server of `review`, in the order in which the page does.

    Args:
      url: the annotator's address, with the token.
    """

    def __init__(self, url: str):
        parts = urllib.parse.urlsplit(url)
        self._connection = http.client.HTTPConnection(parts.netloc, timeout=120)
        (token,) = urllib.parse.parse_qs(parts.query)["token"]
        kind = "application/json"
        self._headers = {"Authorization": f"Bearer {token}", "Accept": kind, "Content-Type": kind}

    def close(self) -> None:
        self._connection.close()

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """What the server answers; an error ends the program."""
        self._connection.request(method, path, None if body is None else json.dumps(body), self._headers)
        answer = self._connection.getresponse()
        content = json.loads(answer.read())
        if answer.status != 200:
            raise SystemExit(f"{method} {path}: {answer.status} {content}")
        return content

    def judge_all(self, choose: Choose, number: int | None = None) -> dict[str, int]:
        """Judge what the server shows until all is judged, or so many are decided; how many of each choice."""
        counts = {1: 0, 2: 0, "tie": 0, "skip": 0}
        while number is None or counts[1] + counts[2] < number:
            item = self.ask("POST", "/api/next", {})["item"]
            if item is None:
                break
            shown = self.ask("GET", f"/api/answers/{item['id']}")
            choice = choose(item["prompt"], shown["answers"])
            click = {"id": uuid.uuid4().hex, "item": item["id"], "shown": shown["shown"], "choice": choice}
            self.ask("POST", "/api/judgments", click | {"seconds": 1.0, "topic": item["topic"]})
            counts[choice] += 1
        return counts


@contextlib.contextmanager
def serve_review(*words: object) -> Iterator[dict[str, str]]:
    """A server of `jaxgpt review WORDS`; the address of each annotator, by name."""
    command = [sys.executable, "-m", "jaxgpt", "review", *map(str, words), "--port", "0", "--device", "cpu"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            urls = {}
            for line in process.stdout:
                if found := re.fullmatch(r"(.+?) +(http://\S+)\n", line):
                    urls[found[1]] = found[2]
                if len(urls) == len(read_annotators(words)):
                    break
            yield urls
        finally:
            process.terminate()


def read_annotators(words: tuple[object, ...]) -> list[str]:
    return str(words[words.index("--annotators") + 1]).split(",")


def review_over_http(
    folder: Path,
    runs: list[str],
    requests: list[str],
    out: Path,
    annotators: dict[str, Choose],
    number: int | None,
    seed: int,
) -> dict[str, int]:
    """Have annotators judge the answers of runs to requests, one after the other; what the last one chose."""
    records = [{"prompt": request, "topic": TOPICS[i % 2]} for i, request in enumerate(requests)]
    prompts = out.with_suffix(".prompts.jsonl")
    preferences.write(prompts, records)
    for path in (out, out.with_suffix(".undecided.jsonl")):
        path.unlink(missing_ok=True)
    words = [*(folder / run for run in runs), "--prompts", prompts, "--out", out, "--seed", seed]
    words += ["--annotators", ",".join(annotators), "--per-item", len(annotators)]
    words += ["--temperature", 1, "--top-k", 0, "--max-new-tokens", preferences.T - 10]
    with serve_review(*words) as urls:
        for name, choose in annotators.items():
            with contextlib.closing(Reviewer(urls[name])) as reviewer:
                judged = reviewer.judge_all(choose, number)
    return judged


# ---- What was learned


def jaxgpt(*words: object) -> str:
    """What a command prints."""
    command = [sys.executable, "-m", "jaxgpt", *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    return done.stdout


def measure(folder: Path, run: str, requests: list[str]) -> dict[str, float]:
    """The numbers of a row of the table."""
    result = folder / f"{run}-pairs.json"
    result.unlink(missing_ok=True)
    jaxgpt("evaluate", folder / run, "--pairs", folder / "val.jsonl", "--json", result, "--device", "cpu")
    pairs = json.loads(result.read_text())["pairs"]["log_prob"]
    answers = preferences.sample(folder, requests, 100, run)
    keeps = sum(WORD not in answer for answer in answers) / len(answers)
    in_grammar = sum(map(preferences.is_in_grammar, requests, answers)) / len(answers)
    return {"pairs": pairs["accuracy"], "stderr": pairs["accuracy_stderr"], "rule": keeps, "grammar": in_grammar}


def print_table(numbers: dict[str, dict[str, float]]) -> None:
    print(f"\n| model | pairs | without {WORD!r} | in the grammar |")
    print("|---" * 4 + "|")
    for run, row in numbers.items():
        print(f"| {run} | {row['pairs']:.3f} ± {row['stderr']:.3f} | {row['rule']:.3f} | {row['grammar']:.3f} |")
    print(flush=True)


if __name__ == "__main__":
    main(tyro.cli(Flags, use_underscores=False))

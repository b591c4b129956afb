"""Audit a run's privacy with canaries: a lower bound of its epsilon beside the one that it promises.

python benchmarks/privacy_audit.py --out runs/audit --canaries 300 -- --size tiny --dp-epsilon 8 --steps 200 ...

Each canary is an example of random letters. A coin puts it into the training data, beside the examples of --data, or
leaves it out; then `jaxgpt train` runs with the flags behind `--`. The quarter that the model finds the likeliest, or
whose likelihood grew most since --init-from, is said to have been in the data, and the last quarter not.
"""

import argparse
import contextlib
import io
import json
import secrets
import string
from pathlib import Path

import numpy as np

import jaxgpt
from jaxgpt import console
from jaxgpt.commands import train
from jaxgpt.inference.privacy_audit import CONFIDENCE, Audit, audit
from jaxgpt.inference.score import score
from jaxgpt.runs.weights import resolve_weights

LETTERS = 12  # of a canary


def plant(out: Path, canaries: int, data: str | None, seed: int) -> tuple[Path, list[str], np.ndarray]:
    """Write the training data of an audit: its path, the texts of the canaries, and which of them are in it."""
    draw = np.random.default_rng(seed)
    texts = ["".join(draw.choice(list(string.ascii_lowercase), LETTERS)) for _ in range(canaries)]
    included = draw.random(canaries) < 0.5
    lines = [json.dumps({"prompt": "", "completion": text}) for text in np.array(texts)[included].tolist()]
    lines += Path(data).read_text().splitlines() if data else []
    path = out.with_name(f"{out.name}-data.jsonl")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path, texts, included


def likelihoods(name: str, texts: list[str]) -> np.ndarray:
    """The log-likelihood of each text by a model, float64."""
    tokenizer = resolve_weights(name).tokenizer
    requests = [([tokenizer.end], [*tokenizer.encode(text).tolist(), tokenizer.end]) for text in texts]
    return np.array([each.log_likelihood for each in score(jaxgpt.load(name), requests, 64)])


def audit_run(out: Path, words: list[str], canaries: int = 300, data: str | None = None, seed: int = 0) -> Audit:
    """Train with canaries, and audit.

    Args:
      out: a new run folder; the training data is beside it.
      words: flags of `jaxgpt train`, but for --data and --out.
      data: a .jsonl of "prompt" and "completion"; None: the canaries alone.
      seed: of the canaries and the coins.

    Raises:
      SystemExit: the training has failed.
    """
    path, texts, included = plant(out, canaries, data, seed)
    if code := console.run(train.main, [*words, "--data", str(path), "--out", str(out)]):
        raise SystemExit(code)
    scores = likelihoods(str(out), texts)
    if "--init-from" in words:
        scores -= likelihoods(words[words.index("--init-from") + 1], texts)
    record = json.loads((out / "config.json").read_text()).get("privacy", {})
    return audit(scores, included.tolist(), record.get("delta", 0.0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="run folder; of several runs, its beginning")
    parser.add_argument("--canaries", type=int, default=300)
    parser.add_argument("--data", help="a .jsonl of prompts and completions; by default the canaries alone")
    parser.add_argument("--runs", type=int, default=1, help="runs, each with canaries of its own")
    parser.add_argument("--seed", type=int, help="of canaries and coins; by default another each time")
    parser.add_argument("train", nargs="*", help="flags of jaxgpt train")
    flags = parser.parse_args()
    first = secrets.randbelow(2**31) if flags.seed is None else flags.seed
    print(f"lower bounds hold with {CONFIDENCE:.0%} confidence each\n")
    print("| run | guesses | correct | epsilon at least | if all were correct | promised |\n|---|---|---|---|---|---|")
    for number in range(flags.runs):
        out = flags.out.with_name(f"{flags.out.name}-{number}") if flags.runs > 1 else flags.out
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            result = audit_run(out, flags.train, flags.canaries, flags.data, first + number)
        record = json.loads((out / "config.json").read_text()).get("privacy")
        promised = f"{record['epsilon']:g}" if record else "none"
        numbers = f"{result.guesses} | {result.correct} | {result.epsilon:.2f} | {result.largest:.2f}"
        print(f"| {out} | {numbers} | {promised} |", flush=True)


if __name__ == "__main__":
    main()

"""What a run forgets when it is trained on with new text: without replay, and with a share of the old text.

python -m benchmarks.forgetting --folder /tmp/forgetting

Two languages are made with a seed. Each has twelve letters, small ones in the old language and capitals in the new, and
each letter is followed by one of four, with the probabilities 0.55, 0.25, 0.15 and 0.05: no model's loss is below
1.1097 nats a letter. A small GPT-2 learns the old language, and `jaxgpt update` trains it on with the new one, as its
defaults have it but for --replay. The losses are those of the last tenth of each text, which no run was trained on, and
the rise of the old loss has its paired standard error, all as lineage.json has them.
"""

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import numpy as np
import tyro

ROOT = Path(__file__).parent.parent
LANGUAGES = {"old": "abcdefghijkl", "new": "ABCDEFGHIJKL"}
PROBABILITIES = (0.55, 0.25, 0.15, 0.05)
MODEL = ["--n-layer", 2, "--n-head", 2, "--n-embd", 64, "--block-size", 64, "--tokenizer", "bytes", "--recipe", "gpt3"]
MODEL += ["--lr", 1e-3, "--warmup-ratio", 0.05, "--order", "shuffled", "--val", 0.1, "--T", 64, "--B", 16]
COLUMNS = ("seed", "replay", "old before", "old after", "rise", "new before", "new after", "gate")


@dataclasses.dataclass
class Flags:
    """Train a run on with a new language, with several shares of the old one."""

    folder: Path
    """For the texts and the runs."""
    seeds: int = 2
    """How many times, each with other languages and another model."""
    replays: tuple[float, ...] = (0.0, 0.05)
    """Shares of the old text."""
    letters: int = 220_000
    """Of each text."""
    steps: int = 600
    """Of each run."""


def main(flags: Flags) -> list[dict[str, Any]]:
    rows = []
    for seed in range(flags.seeds):
        folder = flags.folder / str(seed)
        make_texts(folder, seed, flags.letters)
        words = [*MODEL, "--data", "old.txt", "--seed", seed, "--steps", flags.steps, "--out", "runs/old"]
        run(folder, (0,), "train", *words)
        for replay in flags.replays:
            out = f"runs/new-{replay:g}"
            words = ["runs/old", "--data", "new.txt", "--replay", replay, "--steps", flags.steps, "--out", out]
            code = run(folder, (0, 6), "update", *words, "--promoted", f"{out}.promoted")
            rows.append({"seed": seed, "replay": replay} | read_row(folder / out, code))
    print_table(rows)
    return rows


def make_texts(folder: Path, seed: int, letters: int) -> None:
    """Write old.txt and new.txt."""
    draw = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for name, alphabet in LANGUAGES.items():
        n = len(alphabet)
        order, shifts = draw.permutation(n), draw.choice(n, len(PROBABILITIES), replace=False)
        followers = [order[(i + shifts) % n] for i in range(n)]  # so that all letters are equally frequent
        letter, text = 0, []
        for choice in draw.choice(len(PROBABILITIES), letters, p=PROBABILITIES):
            letter = followers[letter][choice]
            text.append(alphabet[letter])
        (folder / f"{name}.txt").write_text("".join(text))


def run(folder: Path, codes: Sequence[int], *words: object) -> int:
    """Run a command in a folder; its exit code, which must be one of these."""
    command = [sys.executable, "-m", "jaxgpt", *map(str, words)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAXGPT_CACHE": str(folder / "cache")}
    done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    if done.returncode not in codes:
        raise SystemExit(done.stderr.decode(errors="replace"))
    return done.returncode


def read_row(out: Path, code: int) -> dict[str, Any]:
    """The numbers of an update, from its lineage.json and its link."""
    lineage = json.loads((out / "lineage.json").read_text())
    new, old = lineage["gates"]
    is_promoted = out.with_name(f"{out.name}.promoted").exists()
    assert is_promoted == (code == 0) == old["passed"] == bool(lineage["promoted"])
    row = {"old before": old["before"], "old after": old["after"], "rise": (old["change"], old["stderr"])}
    row |= {"new before": new["before"], "new after": new["after"]}
    return row | {"gate": "promoted" if is_promoted else f"refused, code {code}"}


def print_table(rows: list[dict[str, Any]]) -> None:
    """The rows as a Markdown table; losses in nats."""
    print("|", " | ".join(COLUMNS), "|\n|" + "---|" * len(COLUMNS))
    for row in rows:
        rise = "{:.4f} ± {:.4f}".format(*row["rise"])
        losses = {name: f"{row[name]:.4f}" for name in COLUMNS if name.endswith(("before", "after"))}
        print("|", " | ".join(str((row | losses | {"rise": rise})[name]) for name in COLUMNS), "|")


if __name__ == "__main__":
    main(tyro.cli(Flags))

"""Plant secrets, train, erase them, resume: what the model remembers before and after, and what it costs.

python -m benchmarks.erasure

The text is tiny Shakespeare by paragraphs, with canaries (docs/data.md) that stand in it once, 4 and 16 times. All of
them are erased; the run resumes by the command that `jaxgpt erase` prints, and is compared, bit for bit, with one from
scratch on what is left. The second table is arithmetic on the same folder: for every single paragraph the first step
that reads it, and the steps after the last kept checkpoint before that.
"""

import argparse
import contextlib
import json
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from jaxgpt.commands.verify import find_difference
from jaxgpt.console import plural
from jaxgpt.data.config import DataConfig
from jaxgpt.data.corpus import SHAKESPEARE
from jaxgpt.data.datasets import training_data
from jaxgpt.data.document_search import bounds
from jaxgpt.data.reads import Stretch, first_read
from jaxgpt.data.redaction import merge
from jaxgpt.runs.rows import read_rows

PATTERN = "^My locker code is"
SHAPE = "--n-layer 2 --n-head 4 --n-embd 64 --block-size 64 --B 16 --T 64 --tokenizer bytes"
CHANCE = 1.44  # bits, the mean exposure of a secret that a model has never seen


def jaxgpt(folder: Path, words: str) -> str:
    """Run a command in a folder; what it prints."""
    print(f"jaxgpt {words}", flush=True)
    command = [sys.executable, "-m", "jaxgpt", *shlex.split(words)]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if result.returncode:
        sys.exit(result.stderr)
    return result.stdout


def write_documents(path: Path, characters: int) -> None:
    """The paragraphs of tiny Shakespeare, one a line."""
    import gzip

    text = gzip.decompress(SHAKESPEARE.read_bytes()).decode()[:characters]
    path.write_text("".join(json.dumps({"text": each}) + "\n" for each in text.split("\n\n") if each.strip()))


def measure(folder: Path, run: str, steps: int) -> dict[str, float | dict[int, float]]:
    """The mean exposure of the canaries by how often they stood in the text, of all, and the validation loss."""
    with tempfile.TemporaryDirectory() as place:
        jaxgpt(folder, f"evaluate {run} --canaries data --json {place}/result.json")
        content = json.loads(Path(place, "result.json").read_text())
    canaries = content.get("canaries", content)
    row = read_rows(folder / run / "log.jsonl")[steps - 1]
    exposures = [each["exposure"] for each in canaries["each"]]
    by_repeats = {each["repeats"]: each["exposure_mean"] for each in canaries["by_repeats"]}
    return {"all": float(np.mean(exposures)), "by": by_repeats} | {
        name: row[name] for name in ("val_loss", "val_loss_stderr")
    }


def cost_table(folder: Path, epochs: int, keep: int) -> list[str]:
    """Rows: an order, and the mean over all documents of the share of the steps that are to be trained again."""
    rows = []
    for order in ("sequential", "shuffled"):
        data = training_data(DataConfig(B=16, T=64, data=str(folder / "data"), order=order, tokenizer="bytes"))
        tokens = data.tokens if order == "sequential" else data.texts[0].tokens
        for count in (1, epochs):
            steps = int(count * data.batches_per_epoch())
            shares = []
            for pair in bounds(tokens, data.tokenizer).tolist():
                first = first_read(data, [merge([pair])], Stretch(0, 16, 64), steps)
                every = max(1, steps // keep)
                shares.append(0.0 if first is None else 1 - first // every * every / steps)
            rows.append(f"| {order}, {plural(count, 'epoch')} | {np.mean(shares):.0%} |")
    return rows


def main(steps: int, characters: int, canaries: int, keep: int, folder: Path) -> None:
    write_documents(folder / "documents.jsonl", characters)
    options = f"--tokenizer bytes --val 0.1 --canaries {canaries} --dedup none --clean controls"
    jaxgpt(folder, f"prepare documents.jsonl {options} --out data")
    flags = f"{SHAPE} --data data --val data --order shuffled --recipe gpt3 --lr 3e-3 --steps {steps}"
    flags += f" --keep-every {max(1, steps // keep)}"
    costs = cost_table(folder, 4, keep)
    jaxgpt(folder, f"train {flags} --out run")
    before = measure(folder, "run", steps)
    print(printed := jaxgpt(folder, f"erase data --pattern {shlex.quote(PATTERN)} --apply --delete"))
    (again,) = re.findall(r"^resume .*?train (.*)", printed, re.MULTILINE)
    jaxgpt(folder, f"train {again}")
    after = measure(folder, "run", steps)
    jaxgpt(folder, f"train {flags} --out scratch")
    difference = find_difference(folder / "run", folder / "scratch", steps)
    print(f"\n| {canaries} canaries, {steps} steps | before | after | chance |\n|---|---|---|---|")
    print(f"| mean exposure, bits | {before['all']:.2f} | {after['all']:.2f} | {CHANCE} |")
    for repeats, value in before["by"].items():
        times = plural(repeats, "time")
        print(f"| of those that stood there {times} | {value:.2f} | {after['by'][repeats]:.2f} | {CHANCE} |")
    losses = [f"{each['val_loss']:.4f} ± {each['val_loss_stderr']:.4f}" for each in (before, after)]
    print(f"| validation loss, nats | {losses[0]} | {losses[1]} | |")
    print(f"| the same as from scratch, bit for bit | | {difference or 'yes'} | |")
    print(f"\n| steps to train again, {keep} checkpoints kept | mean of all documents |\n|---|---|")
    print("\n".join(costs))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--characters", type=int, default=30_000, help="of the text")
    parser.add_argument("--canaries", type=int, default=24)
    parser.add_argument("--keep", type=int, default=10, help="checkpoints that are kept for good")
    parser.add_argument("--folder", type=Path, help="where to work; by default a temporary folder")
    arguments = parser.parse_args()
    temporary = contextlib.nullcontext(arguments.folder) if arguments.folder else tempfile.TemporaryDirectory()
    with temporary as place:
        Path(place).mkdir(exist_ok=True, parents=True)
        main(arguments.steps, arguments.characters, arguments.canaries, arguments.keep, Path(place))

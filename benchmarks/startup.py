"""Seconds from the command to the first loss, beside a plain PyTorch script: GPT-2 124M, B=4, T=32, one step.

pip install torch transformers
python benchmarks/startup.py

Real processes, in turn: train.py with nothing compiled yet (cold), train.py once more (warm), and PyTorch. Each is
ended when its first loss is there. The text is tokenized before, and all three read the same tokens.
"""

import dataclasses
import importlib.util
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import tyro

sys.path.insert(0, str(Path(__file__).parent.parent))

from jaxgpt.data import corpus

REPOSITORY = Path(__file__).parent.parent

PYTORCH = """
import sys
import numpy as np
import torch
import transformers

ids = np.fromfile(sys.argv[1], np.uint16, count=4 * 32 + 1, offset=1024).astype(np.int64)
x, y = torch.from_numpy(ids[:-1]).view(4, 32), torch.from_numpy(ids[1:])
model = transformers.GPT2LMHeadModel(transformers.GPT2Config())
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
loss = torch.nn.functional.cross_entropy(model(x).logits.flatten(0, 1), y)
loss.backward()
optimizer.step()
print("    0 |", loss.item(), flush=True)
"""


@dataclasses.dataclass
class Flags:
    """Time the way to the first loss beside PyTorch."""

    rounds: int = 3
    """Starts of each."""


def seconds(command: list[str], **environment: str) -> float:
    """Until the process prints the row of step 0; then it is ended."""
    start = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY, env=os.environ | environment
    ) as process:
        found = any(line.startswith("    0 |") for line in process.stdout)
        elapsed = time.perf_counter() - start
        process.kill()
    if not found:
        sys.exit(f"{command[0]} ended before its first loss")
    return elapsed


def main(flags: Flags) -> None:
    names = ["jaxgpt, cold", "jaxgpt, warm"]
    if importlib.util.find_spec("torch") and importlib.util.find_spec("transformers"):
        names.append("PyTorch")
    else:
        print("PyTorch is left out; to have it: pip install torch transformers", file=sys.stderr)
    times: dict[str, list[float]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder:
        texts, out = Path(folder) / "texts", Path(folder) / "run"
        data = corpus.load("shakespeare", texts)
        tokens = next((texts / "tokens").iterdir())
        train = ["train.py", "--B", "4", "--T", "32", "--steps", "1", "--out", str(out)]
        for turn in range(flags.rounds):
            cache = Path(folder) / f"cache{turn}"
            shutil.copytree(texts, cache)
            for name in names:
                command = ["-c", PYTORCH, str(tokens)] if name == "PyTorch" else train
                times[name].append(seconds(command, JAXGPT_CACHE=str(cache)))
                shutil.rmtree(out, ignore_errors=True)

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"GPT-2 124M, B=4, T=32, {data.name}; {cores} CPU cores; medians of {flags.rounds} alternating starts\n")
    print("| | seconds to the first loss | lowest | highest | times PyTorch |\n|---|---|---|---|---|")
    for name, values in times.items():
        median = statistics.median(values)
        ratio = f"{median / statistics.median(times['PyTorch']):.2f}" if "PyTorch" in times else ""
        print(f"| {name} | {median:.1f} | {min(values):.1f} | {max(values):.1f} | {ratio} |")


if __name__ == "__main__":
    main(tyro.cli(Flags))

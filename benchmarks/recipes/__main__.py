"""The recipes of docs/recipes: made data for each task, and the page's own commands, run and timed.

python -m benchmarks.recipes data translation --out data/translation
python -m benchmarks.recipes run translation sentiment --folder /tmp/recipes

`data` writes the files that the page's commands train on. `run` reads the commands from the page, runs them in a new
folder and writes how long each took.
"""

import argparse
import importlib
import os
import random
import re
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
SIZES = {  # examples to train on and for validation; of a text, lines, and 0: all
    "qa": (10_000, 200),
    "summary": (20_000, 200),
    "translation": (20_000, 500),
    "text": (0, 0),
    "sentiment": (8_000, 1_000),
    "chatbot": (4_000, 100),
}


def write_data(task: str, out: Path, seed: int, train: int, val: int) -> None:
    """The files of a task; the same seed makes the same bytes."""
    out.mkdir(parents=True, exist_ok=True)
    importlib.import_module(f"benchmarks.recipes.{task}").write(out, random.Random(seed), train, val)


def read_commands(task: str) -> list[str]:
    """The shell commands of a task's page, in its order."""
    page = (ROOT / "docs" / "recipes" / f"{task}.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```bash\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    return [line for line in "".join(blocks).replace("\\\n", " ").splitlines() if line.strip()]


def run_page(task: str, folder: Path) -> None:
    """Run a page's commands in a folder, where what they write stays."""
    folder.mkdir(parents=True, exist_ok=True)
    for command in read_commands(task):
        print(f"$ {command}", flush=True)
        started = time.perf_counter()
        line = re.sub(r"^jaxgpt ", "python -m jaxgpt ", command)
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        if code := subprocess.run(line, shell=True, cwd=folder, env=os.environ | {"PYTHONPATH": path}).returncode:
            raise SystemExit(f"the command of {task} above ended with the exit code {code}")
        print(f"# {time.perf_counter() - started:.0f} s\n", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    actions = parser.add_subparsers(dest="action", required=True)
    data = actions.add_parser("data", help="write the files of a task")
    data.add_argument("task", choices=SIZES)
    data.add_argument("--out", type=Path, required=True)
    data.add_argument("--seed", type=int, default=0)
    data.add_argument("--train", type=int, help="examples to train on")
    data.add_argument("--val", type=int, help="examples for validation")
    run = actions.add_parser("run", help="run a page's commands")
    run.add_argument("tasks", nargs="+", choices=SIZES)
    run.add_argument("--folder", type=Path, required=True)
    flags = parser.parse_args()
    if flags.action == "data":
        train, val = SIZES[flags.task]
        write_data(flags.task, flags.out, flags.seed, flags.train or train, flags.val or val)
    else:
        for task in flags.tasks:
            run_page(task, flags.folder)


if __name__ == "__main__":
    main()

"""Send SIGINT or SIGTERM to every command at random moments, and look at how it ends and at what it leaves.

python -m tests.support.interrupt --trials 100

The models are tiny, the processes and the signals are real. A command must end within a second of the signal (train:
after the step in progress), with the code 130 or 143 and no traceback, and leave neither a temporary file nor half of
its output. A moment may also come after its end, or before its first line of Python, when the interpreter starts.
"""

import collections
import contextlib
import dataclasses
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import tyro

ROOT = Path(__file__).parents[2]
SHAPE = ["--n-layer", "2", "--n-head", "2", "--n-embd", "16", "--block-size", "32", "--B", "2", "--T", "16"]
LINES = {signal.SIGINT: "error: interrupted\n", signal.SIGTERM: "error: terminated\n"}
RESUMED = ("train", "update", "prepare", "track")
STOPPING = "\nstopping after the step in progress; once more quits at once\n"


@dataclasses.dataclass
class Flags:
    """Send signals to every command at random moments."""

    trials: int = 100
    """Signals for each command."""
    only: str = ""
    """Commands, with commas between; by default all."""
    seed: int = 0
    """Of the moments."""


def jaxgpt(folder: Path, *words: str) -> subprocess.Popen:
    """Start a command whose caches and temporary files are in a folder."""
    places = {"JAXGPT_CACHE": "cache", "TMPDIR": "tmp", "JAX_COMPILATION_CACHE_DIR": "compiled"}
    environment = {name: str(folder / place) for name, place in places.items()} | {"PYTHONPATH": str(ROOT)}
    with contextlib.suppress(FileExistsError):
        (folder / "tmp").mkdir(parents=True)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's & has it ignored, and children inherit that
    return subprocess.Popen(
        [sys.executable, "-m", "jaxgpt", *words],
        cwd=folder,
        env=os.environ | {"JAX_PLATFORMS": "cpu"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(folder: Path, *words: str) -> str:
    """Run a command to its end; its output."""
    with jaxgpt(folder, *words) as process:
        out, errors = process.communicate()
    assert process.returncode == 0, errors
    return out


def make_inputs(folder: Path) -> dict[str, list[str]]:
    """Make runs and texts; returns the words of each command, which writes into out/ and nowhere else."""
    (folder / "text.txt").write_text("".join(f"word{n % 7} " for n in range(2000)))
    (folder / "labels.csv").write_text("text,label\n" + "a good day,yes\na bad day,no\n" * 200)
    (folder / "messages.jsonl").write_text('{"content": "word1"}\n' * 5)
    run(folder, "train", *SHAPE, "--data", "text.txt", "--steps", "4", "--save-every", "2", "--out", "run")
    (folder / "new.txt").write_text("".join(f"more{n % 5} " for n in range(2000)))
    words = ["--data", "text.txt", "--val", "0.1", "--steps", "4", "--out", "val-run"]
    run(folder, "train", *SHAPE, *words)
    run(folder, "export", "run", "hf")
    words = ["--recipe", "classify", "--init-from", "hf", "--data", "labels.csv", "--epochs", "1"]
    run(folder, "train", *words, "--B", "200", "--T", "16", "--out", "labels")
    short = ["--max-new-tokens", "20"]
    votes = ({"item": i, "annotator": name, "winner": i % 2, "choice": 1} for i in range(2000) for name in "ab")
    (folder / "prefs.jsonl").write_text("".join(json.dumps(vote) + "\n" for vote in votes))
    return {
        "train": ["train", *SHAPE, "--data", "text.txt", "--steps", "40", "--save-every", "1", "--out", "out/run"],
        "evaluate": ["evaluate", "run", "--data", "text.txt", "--json", "out/result.json"],
        "export": ["export", "run", "out/hf"],
        "sample": ["sample", "run", "--prompt", "word1", *short],
        "chat": ["chat", "run", "--input", "messages.jsonl", *short],
        "look": ["look", "run", "--prompt", "word1 word2", "--out", "out/look.html", "--json", "out/look.json"],
        "predict": ["predict", "labels", "--data", "labels.csv", "--out", "out/predicted.jsonl"],
        "verify": ["verify", "run", "--resume", "1"],
        "replay": ["replay", "run", "--step", "3"],
        "report": ["report", "run", "--out", "out/page.html"],
        "agreement": ["agreement", "prefs.jsonl", "--out", "out/page.html", "--json", "out/numbers.json"],
        "track": ["track", "run", "--to", "tensorboard"],
        "update": ["update", "val-run", "--data", "new.txt", "--steps", "20", "--replay", "0.5", "--out", "out/new"],
        "fit": ["fit", "--gpu", "h100", *SHAPE],
        "prepare": ["prepare", "text.txt", "--out", "out/prepared"],
        "tokenizer": ["tokenizer", "train", "text.txt", "--vocab", "300", "--out", "out/tokenizer"],
        "erase": ["erase", "prepared", "--pattern", "word1 word2", "--runs", "run"],
        "inspect": ["inspect", "prepared", "--html", "out/page.html"],
    }


def list_files(folder: Path) -> set[str]:
    """All files below a folder that a command may leave behind: compiled programs are kept for the next start."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*"))
    return {name for name in names if not name.startswith(("compiled/", "cache/compiled/"))}


def interrupt(folder: Path, command: str, words: list[str], trials: int, seed: int = 0) -> dict:
    """Start a command again and again, and send it a signal.

    Returns:
      `codes` and `errors`, each with how often it was; `slowest`, in seconds from the signal to the end; `left`, files
      that are not those of a start that came to its end, or of none.
    """
    draw = random.Random(f"{command} {seed}")
    shutil.rmtree(folder / "out", ignore_errors=True)
    (folder / "out").mkdir()
    before = list_files(folder)
    run(folder, *words)
    began = time.monotonic()
    shutil.rmtree(folder / "out")
    (folder / "out").mkdir()
    run(folder, *words)  # now everything is compiled
    seconds, whole = time.monotonic() - began, list_files(folder)
    codes, errors = collections.Counter(), collections.Counter()
    left, slowest = collections.Counter(), 0.0
    for _ in range(trials):
        shutil.rmtree(folder / "out")
        (folder / "out").mkdir()
        number = draw.choice(list(LINES))
        with jaxgpt(folder, *words) as process:
            time.sleep(draw.uniform(0, seconds))
            sent = time.monotonic()
            process.send_signal(number)
            try:
                _, error = process.communicate(timeout=120)
            finally:
                process.kill()
        if process.returncode:
            slowest = max(slowest, time.monotonic() - sent)
        ended = {128 + number: f"{128 + number}", -number: f"-{int(number)}"}.get(process.returncode)
        codes[ended or str(process.returncode)] += 1
        error = "".join(line for line in io.StringIO(error) if not line.startswith(("note: ", "progress: ")))
        errors[{LINES[number]: "one line", STOPPING: "stopping", "": "none"}.get(error, error[-300:])] += 1
        if command not in RESUMED:  # which go on from what is there
            now = list_files(folder)
            if now not in (before, whole):
                left.update(now - before)
    if command in RESUMED:
        run(folder, *words)
        left.update(
            name for name in list_files(folder) - whole if "tmp" in name
        )  # checkpoints' files have random names
    return {"codes": dict(codes), "errors": dict(errors), "slowest": round(slowest, 2), "left": dict(left)}


def main(flags: Flags) -> None:
    with tempfile.TemporaryDirectory() as name:
        commands = make_inputs(Path(name))
        run(Path(name), "prepare", "text.txt", "--out", "prepared")
        for command in filter(None, flags.only.split(",")) if flags.only else commands:
            print(command, interrupt(Path(name), command, commands[command], flags.trials, flags.seed), flush=True)


if __name__ == "__main__":
    main(tyro.cli(Flags))

"""Links in folders that came from elsewhere: no command writes or deletes through one.

python -m tests.support.links

Each name that a command writes in a run, a prepared folder (a half prepared one too), an export or the cache becomes a
link in turn: to what was there, to other files of the user's, and to where nothing is. After each command these are as
they were (names, bytes, modes, times), and the command has done its work, or was refused in one line.
"""

import contextlib
import dataclasses
import os
import shlex
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from unittest import mock

import jax
import tyro
from jax.experimental.compilation_cache import compilation_cache

from jaxgpt import commands, console
from jaxgpt.prepare import pipeline
from tests.support import refusals
from tests.support.commands import run_command
from tests.support.trees import snapshot

TRAIN = f"train {refusals.RUN} --data text.txt --out x"
PREPARE = "prepare corpus --val 0.3 --workers 1 --canaries 1 --index --dedup exact --out"
CASES = {  # a folder: more names that a command may write in it, and the commands
    "text": (
        ".lock .lock-0 .process-id-twice runtime-0.log profile profile/plugins result.json .config.json.tmp "
        "samples.jsonl checkpoints/4 checkpoints/3.damaged "
        "checkpoints/4.orbax-checkpoint-tmp checkpoints/3.orbax-checkpoint-tmp-old",
        [
            f"{TRAIN} --steps 4",
            f"{TRAIN} --steps 4 --sample-prompt a",
            f"{TRAIN} --steps 4 --fresh",
            f"{TRAIN} --steps 8 --save-every 1 --profile 1",
            "sample x --prompt a --max-new-tokens 2 --device cpu",
            "evaluate x --data text.txt --json x/result.json --device cpu",
            "export x exported-too",
            "verify x",
            "replay x --step 1",
        ],
    ),
    "made": (
        ".lock report.html work work/workers work/stages index/near .meta.json.tmp",
        [f"{PREPARE} x", f"{PREPARE} x --fresh", "inspect x", "evaluate wide --canaries x --device cpu"],
    ),
    "half": ("work/input work/earlier work/leaks index meta.json", [f"{PREPARE} x", f"{PREPARE} x --fresh"]),
    "exported": (
        "report.html",
        [
            "export text x",
            "sample x --prompt a --max-new-tokens 2 --device cpu",
            "evaluate x --data text.txt --json x/config.json --device cpu",
        ],
    ),
    "cached": ("", [f"train {refusals.RUN} --data {name} --steps 1 --out new" for name in ("text.txt", "labels.csv")]),
}


class Killed(BaseException):
    """Stands for a kill: nothing of ours catches it."""


MADE_BY = {"made": [f"{PREPARE} made", "inspect made"], "exported": ["export text exported"]}
MADE_BY["cached"] = CASES["cached"][1]


def fill(folder: Path, kinds: Iterable[str] = CASES) -> None:
    """What refusals.fill makes, in the current folder, and what commands make: a folder of each of these kinds."""
    refusals.fill(folder)
    refusals.pairs(folder)  # `wide`, with room for a canary
    for line in (line for kind in kinds for line in MADE_BY.get(kind, ())):
        assert run_command(shlex.split(line)).problem == "", line
        shutil.rmtree("new", ignore_errors=True)
    if "cached" in kinds:
        shutil.copytree("cache", "cached")
    with mock.patch.object(pipeline, "write_report", side_effect=Killed), contextlib.suppress(Killed):
        commands.main(shlex.split(f"{PREPARE} half"))


def attacks(folder: str, every: int = 1) -> Iterable[tuple[str, str, str]]:
    """What becomes a link, to what, and the command: every Nth of them."""
    more, lines = CASES[folder]
    there = [str(path.relative_to(folder)) for path in sorted(Path(folder).rglob("*"))]
    named = [(name, how) for name in there for how in ("itself", "another", "nowhere")]
    named += [(name, how) for name in more.split() if name not in there for how in ("file", "folder", "nowhere")]
    return [(name, how, line) for name, how in named for line in lines][::every]


def plant(path: Path, how: str, victims: Path) -> None:
    """Put a link in the place of a path, to something in `victims`."""
    victims.mkdir()
    if how == "another" and path.is_dir():
        shutil.copytree(path, victims / how)
        (victims / how / "mine.txt").write_text("mine")
    elif how in ("another", "file"):
        (victims / how).write_text("mine")
    elif how == "folder":
        shutil.copytree("text/checkpoints", victims / how)
    path.parent.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(path):
        path.rename(victims / "itself")
    path.symlink_to((victims / how).resolve())


def forget_compiled() -> None:
    """Be as a process of its own, which compiles, and has not looked at the cache yet."""
    jax.clear_caches()
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.reset_cache()


def attack(folder: str, name: str, how: str, line: str) -> str:
    """What is wrong after a command in the current folder; "" if nothing."""
    copy = Path("cache" if folder == "cached" else "x")
    with tempfile.TemporaryDirectory() as temporary:
        victims = Path(temporary, "victims")
        try:
            if folder == "cached":
                shutil.rmtree(copy, ignore_errors=True)  # which JAX has written to meanwhile
                forget_compiled()
            shutil.copytree(folder, copy)
            plant(copy / name, how, victims)
            before = snapshot(victims)
            problem = run_command(shlex.split(line)).problem
            touched = {*before} ^ {*snapshot(victims)}
        finally:
            for left in (copy, "new", "exported-too"):
                shutil.rmtree(left, ignore_errors=True)
    if touched:
        problem = f"touched {sorted({str(Path(entry[0]).relative_to(victims)) for entry in touched})} {problem}"
    return f"{line}: {name} linked to {how}: {problem}" if problem else ""


@dataclasses.dataclass
class Flags:
    """Put links into folders that came from elsewhere, and see that what they name stays as it was."""

    every: int = 1
    """Try only every Nth case."""
    only: tuple[str, ...] = tuple(CASES)
    """The folders."""


def main(flags: Flags) -> int:
    wrong = 0
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        os.environ["JAXGPT_CACHE"] = "cache"
        fill(Path(name), flags.only)
        for folder in flags.only:
            done = Counter()
            for each in attacks(folder, flags.every):
                if problem := attack(folder, *each):
                    print(problem, flush=True)
                    wrong += 1
                done[each[2].split()[0]] += 1
            print(f"{folder}: {done.total()} ({', '.join(f'{name} {n}' for name, n in done.items())})", flush=True)
    print(f"{wrong} wrong")
    return bool(wrong)


if __name__ == "__main__":
    console.leave(main(tyro.cli(Flags)))  # orbax waits for what a refused restore has begun

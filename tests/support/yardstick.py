"""What jaxgpt computes and writes, recorded before a change of its code and compared with the same after it.

python -m tests.support.yardstick record FOLDER --text FILE [--parts losses,prepared]
python -m tests.support.yardstick compare BEFORE AFTER [--parts losses,prepared]

It is for changes that shall change nothing: moved files, other names, another loop. Each part is recorded through the
command lines below, in a folder of its own that is deleted afterwards. Text must be equal, numbers with a fraction to
1e-6 of their size; "equal" means to the bit. Run it on the same machine, with the same libraries, before and after.
"""

import argparse
import contextlib
import functools
import hashlib
import json
import math
import os
import random
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TRAIN = f"{sys.executable} {ROOT}/train.py --device cpu --data {{text}} --B 4 --T 32"
TINY = f"{TRAIN} --size tiny --recipe gpt3 --hash-every 1"
JAXGPT = f"{sys.executable} -m jaxgpt "
COMMANDS = {  # all that is run, in a new folder; {text} is --text
    "main": f"{TRAIN} --steps 50 --save-every 0 --out main",
    "begun": f"{TINY} --val 0.1 --eval-every 5 --steps 10 --out tiny",
    "resumed": f"{TINY} --val 0.1 --eval-every 5 --steps 20 --out tiny",
    "heads": f"{TINY} --n-layer 3 --predict-tokens 2 --accumulate 2 --dropout 0.1 --order shuffled --steps 5 "
    "--out heads",
    "adapters": f"{TRAIN} --init-from tiny --lora 4 --hash-every 1 --steps 5 --out adapters",
    "prepare": f"{JAXGPT}prepare corpus --out prepared --dedup minhash --pii replace --val 0.2 --workers 2",
    "greedy": f"{JAXGPT}sample tiny --prompt 'To be' --temperature 0 --max-new-tokens 20 --device cpu",
    "drawn": f"{JAXGPT}sample tiny --prompt 'To be' --n 2 --seed 3 --max-new-tokens 30 --device cpu",
    "evaluate": f"{JAXGPT}evaluate tiny --data held.txt --T 128 --json evaluate.json --device cpu",
    "label train": f"{JAXGPT}train --recipe classify --init-from tiny --data labels.csv --val 0.25 --B 8 --T 16 "
    "--out labels --device cpu",
    "label eval": f"{JAXGPT}evaluate labels --data labels.csv --json labels.json --device cpu",
    "label predict": f"{JAXGPT}predict labels --data labels.csv --out predictions.jsonl --device cpu",
    "export": f"{JAXGPT}export tiny exported",
}
PROGRAMS = {  # of a part: device, B and T
    "cpu_program": {"cpu_4x32": ("cpu", 4, 32)},
    "gpu_programs": {"h100_4x32": ("h100", 4, 32), "h100_64x1024": ("h100", 64, 1024)},
}
TIMES = ("step_ms", "tokens_per_s")


def program(where: str, B: int, T: int) -> tuple[str, dict[str, float]]:
    """The compiled train step of the 124M model, as text and in numbers. The only place that imports jaxgpt."""
    from jaxgpt.runtime import device
    from jaxgpt.runtime.mesh import single_device
    from jaxgpt.runtime.xla import aot
    from jaxgpt.runtime.xla import program as counts
    from jaxgpt.training.config import TrainConfig
    from jaxgpt.training.setup import compile_step

    if where != "cpu":
        os.environ.update(device.gpu_settings())  # before JAX starts
    device.select("cpu")
    mesh = single_device() if where == "cpu" else aot.described(where)[0]
    compiled = compile_step(TrainConfig.of(B=B, T=T), mesh)
    text, memory = compiled.as_text(), compiled.memory_analysis()
    numbers = {"temporary_bytes": memory.temp_size_in_bytes, "donated_bytes": memory.alias_size_in_bytes}
    if where != "cpu":
        kernels = counts.kernels(text)
        numbers |= {"kernels": counts.runs(kernels), "bytes_moved": sum(k.times * k.bytes for k in kernels)}
        numbers |= {"lower_bound_ms": counts.lower_bound_ms(kernels, counts.H100)}
    return text, numbers


def without_sources(hlo: str) -> str:
    """A program's text without what tells where in the source it comes from."""
    hlo = re.sub(r"\n(FileNames|FunctionNames|FileLocations|StackFrames)\n(.+\n)*", "\n", hlo)
    hlo = re.sub(r',? (metadata|frontend_attributes)=\{(?:[^{}"]|"[^"]*"|\{[^{}]*\})*\}', "", hlo)
    return re.sub(r"\n{2,}", "\n\n", hlo)


# ---- Recording


def output_of(words: list[str], **settings: str) -> str:
    """What a command prints."""
    settings |= {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(words, env=os.environ | settings, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{shlex.join(words)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def run(name: str, text: Path) -> str:
    """Run one of the COMMANDS in the current folder; what it prints, without times."""
    words = [word.replace("{text}", str(text)) for word in shlex.split(COMMANDS[name])]
    return re.sub(r"[\d,.]+ (ms|s|tokens/s)\b", r"... \1", output_of(words, JAXGPT_CACHE=str(Path("cache").absolute())))


def trained(text: Path) -> None:
    """Make the small run that others build on, in two starts."""
    if not Path("tiny").exists():
        run("begun", text)
        run("resumed", text)


def log(out: str) -> str:
    """The rows of a run without their times."""
    rows = [json.loads(line) for line in Path(out, "log.jsonl").read_text().splitlines()]
    return "".join(json.dumps({k: v for k, v in row.items() if k not in TIMES}) + "\n" for row in rows)


def hashes(folder: str, leave_out: tuple[str, ...] = (".lock",)) -> str:
    """The SHA-256 of each file in a folder, by its name."""
    paths = [path for path in sorted(Path(folder).iterdir()) if path.is_file() and path.name not in leave_out]
    return json.dumps({path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}, indent=1)


def losses(text: Path) -> Iterator[tuple[str, str]]:
    trained(text)
    yield "tiny.jsonl", log("tiny")
    for name in ("heads", "adapters", "main"):
        run(name, text)
        yield f"{name}.jsonl", log(name)


def prepared(text: Path) -> Iterator[tuple[str, str]]:
    draw, folder = random.Random(0), Path("corpus")
    prose = [" ".join(draw.choices(text.read_text().split(), k=120)) for _ in range(60)]
    prose[20] = prose[3]
    prose[30] = prose[4] + " And so on."
    prose[40] += " Write to jane.doe@example.com, or call +1 212 555 0134."
    records = [json.dumps({"text": document}) for document in prose[:50]]
    records += ["{nope", json.dumps({"title": "no text"}), json.dumps({"text": ""})]
    files = {
        "a.txt": prose[50],
        "b.md": f"{prose[51]}\n\n\x07{prose[3]}",
        "c.txt": "",
        "d.jsonl": "\n".join([*records, ""]),
    }
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_text(content)
        os.utime(folder / name, (10**9, 10**9))  # the time of change is in the result
    run("prepare", text)
    yield "files.json", hashes("prepared", leave_out=(".lock", "meta.json"))
    yield "meta.json", json.dumps(json.loads(Path("prepared/meta.json").read_text()) | {"command": ""})
    # Files of the index are named after their folder.
    index = sorted(path.read_bytes() for path in Path("prepared/index").rglob("*") if path.is_file())
    yield "index.json", json.dumps([hashlib.sha256(content).hexdigest() for content in index])


def outputs(text: Path) -> Iterator[tuple[str, str]]:
    trained(text)
    Path("held.txt").write_text(text.read_text()[:20_000])
    labels = {"fine": "good", "nice": "good", "lovely": "good", "awful": "bad", "poor": "bad", "dull": "bad"}
    nouns = ("film", "play", "book", "song")
    rows = [f"The {noun} was {word},{label}" for word, label in labels.items() for noun in nouns]
    Path("labels.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    for name in ("greedy", "drawn", "evaluate", "label train", "label eval", "label predict", "export"):
        said = run(name, text)
        if name in ("greedy", "drawn", "evaluate", "label eval"):  # the others name commands
            yield f"{name.replace(' ', '_')}.txt", said
    for name in ("evaluate.json", "labels.json", "predictions.jsonl"):
        yield name, Path(name).read_text()
    yield "labels_log.jsonl", log("labels")
    yield "exported.json", hashes("exported")


def programs(where: dict[str, tuple[str, int, int]], text: Path) -> Iterator[tuple[str, str]]:
    for name, what in where.items():  # each in a process of its own, as JAX reads its settings once
        hlo, numbers = json.loads(output_of([sys.executable, __file__, "program", *map(str, what)]))
        yield f"{name}.hlo", hlo
        yield f"{name}.json", json.dumps(numbers, indent=1)


PARTS: dict[str, Callable[[Path], Iterator[tuple[str, str]]]] = {
    **{function.__name__: function for function in (prepared, outputs, losses)},
    **{part: functools.partial(programs, where) for part, where in PROGRAMS.items()},
}


def record(folder: Path, parts: list[str], text: Path) -> int:
    text, folder = text.resolve(), folder.resolve()
    with tempfile.TemporaryDirectory() as work, contextlib.chdir(work):
        for part in parts:
            started = time.monotonic()
            (folder / part).mkdir(parents=True, exist_ok=True)
            for name, content in PARTS[part](text):
                (folder / part / name).write_text(content)
            print(f"{part}: {time.monotonic() - started:.0f} s", flush=True)
    return 0


# ---- Comparing


def values(path: Path) -> dict[str, Any]:
    """What is in a file, by place."""

    def flat(place: str, value: Any) -> Iterator[tuple[str, Any]]:
        if isinstance(value, dict | list) and value:
            for key, item in value.items() if isinstance(value, dict) else enumerate(value):
                yield from flat(f"{place}.{key}" if place else str(key), item)
        else:
            yield place, value

    text = path.read_text()
    if path.suffix == ".json":
        return dict(flat("", json.loads(text)))
    lines = text.splitlines()
    return dict(flat("line", [json.loads(line) for line in lines] if path.suffix == ".jsonl" else lines))


def close(a: Any, b: Any) -> bool:
    return a == b or (isinstance(a, float) and isinstance(b, float) and math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9))


def renamed(hlo: str) -> str:
    """A program with its instructions and computations numbered in the order in which they are met."""
    numbers: dict[str, str] = {}
    return re.sub(r"%[\w.\-]+|^HloModule [\w.\-]+", lambda found: numbers.setdefault(found[0], f"%{len(numbers)}"), hlo)


def apart(a: str, b: str) -> str:
    """Two texts from a little before the place where they part."""
    first = next((place for place, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), 0)
    start = max(0, first - 20) if len(a) > 80 else 0
    return f"{a[start : start + 80]} -> {b[start : start + 80]}"


def difference(before: Path, after: Path) -> tuple[bool, str]:
    """Whether a file is another one, and in which words to say it."""
    if not (before.exists() and after.exists()):
        return True, f"only {'before' if before.exists() else 'after'}"
    if before.read_bytes() == after.read_bytes():
        return False, "equal"
    if before.suffix == ".hlo" and renamed(before.read_text()) == renamed(after.read_text()):
        return False, "equal but for names"
    a, b = values(before), values(after)
    pairs = {place: (a.get(place, "absent"), b.get(place, "absent")) for place in {**a, **b}}
    unequal = {place: pair for place, pair in pairs.items() if not close(*pair)}
    if not unequal:
        return False, "equal to 1e-6, not to the bit"
    shown = "; ".join(f"{place}: {apart(str(x), str(y))}" for place, (x, y) in [*unequal.items()][:4])
    return True, f"{len(unequal):,} of {len(pairs):,} differ: {shown}"


def compare(before: Path, after: Path, parts: list[str]) -> int:
    differs = False
    for part in parts:
        names = sorted({path.name for folder in (before, after) for path in (folder / part).glob("*")})
        for name in names:
            other, said = difference(before / part / name, after / part / name)
            differs |= other
            print(f"{part}/{name}: {said}")
        if not names:
            differs = True
            print(f"{part}: not recorded")
    return int(differs)


def main(argv: list[str]) -> int:
    if argv[:1] == ["program"]:
        text, numbers = program(argv[1], int(argv[2]), int(argv[3]))
        print(json.dumps([without_sources(text), numbers]))
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, folders in (("record", ["folder"]), ("compare", ["before", "after"])):
        command = commands.add_parser(name)
        for each in folders:
            command.add_argument(each, type=Path)
        command.add_argument("--parts", default=",".join(PARTS), help="with commas between; all: %(default)s")
    commands.choices["record"].add_argument("--text", type=Path, required=True, help="what is trained on")
    flags = parser.parse_args(argv)
    parts = flags.parts.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"no part is called {min(unknown)}")
    if flags.command == "record":
        return record(flags.folder, parts, flags.text)
    return compare(flags.before, flags.after, parts)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

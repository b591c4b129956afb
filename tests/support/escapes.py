"""Every command, with what a terminal would act on in all that it prints: names, fields, labels, texts, settings.

python -m tests.support.escapes

ESC, C1's CSI, a bell, a newline and a bidi override are in the names of all files and folders of `refusals`, whose
commands are tried with these names; in fields, labels, splits, reports, logs, configurations and tensors' names; in
flags; and in a text that is trained on, sampled from, replayed, prepared and inspected. No output may have any of them.
"""

import contextlib
import io
import json
import re
import shlex
import shutil
import struct
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from jaxgpt import commands
from jaxgpt.runs import progress
from tests.support import refusals
from tests.support.commands import run_command

HOSTILE = "\x1b]0;\x07\x1b[31m\x9b2J\u202e\n"
ACTED_ON = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
RUN = refusals.RUN.replace("base", "base{e}")
NAMES = ["a", f"b{HOSTILE}c"]  # of labels
NEW = ("new", "nowhere", "missing", "missing.txt", "missing.csv", "missing.jsonl")


def hostile(name: str) -> str:
    """A name with HOSTILE before its suffix."""
    stem, dot, suffix = name.partition(".")
    return stem + HOSTILE + dot + suffix


def rename(line: str, names: Iterable[str]) -> list[str]:
    """The words of a command, with hostile names."""
    known = {name: hostile(name) for name in (*names, *NEW)}
    return ["".join(known.get(part, part) for part in re.split("([/=,])", word)) for word in shlex.split(line)]


def fill(folder: Path) -> list[str]:
    """What `refusals.fill` makes, with hostile names and contents; returns the first names."""
    refusals.fill(folder)
    names = sorted(child.name for child in folder.iterdir())
    for name in names:
        (folder / name).rename(folder / hostile(name))
    path = folder / hostile("adapters") / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base": str(folder / hostile("base"))}))
    text, labels, base, prepared = (folder / hostile(name) for name in ("text", "labels", "base", "prepared"))
    files = {
        "evil.txt": f"A text {HOSTILE}\r with \x08 much {HOSTILE} of it.\n" * 99,
        "fields.csv": f'"te{HOSTILE}xt",label\na,b\n',
        "named.csv": f'text,label\nyes,a\nno,"b{HOSTILE}c"\n',
        "twice.csv": f'"a{HOSTILE}","a{HOSTILE}"\na,b\n',
        "fields.jsonl": json.dumps({f"te{HOSTILE}xt": HOSTILE}) + "\n",
        "value.jsonl": json.dumps({"text": [HOSTILE], "label": HOSTILE}) + "\n",
        "unknown.jsonl": json.dumps({"text": "a", "label": HOSTILE}) + "\n",
        "chat.jsonl": json.dumps({"messages": [HOSTILE]}) + "\n",
        "items.jsonl": json.dumps({"context": "a", "choices": HOSTILE, "answer": HOSTILE}) + "\n",
    }
    for name, content in files.items():
        (folder / name).write_text(content, encoding="utf-8")
    for kind, source, file, changes in (
        ("arch", text, "config.json", {"arch": HOSTILE}),
        ("kind", text, "config.json", {"data_kind": HOSTILE}),
        ("dtype", text, "config.json", {"dtype": HOSTILE, "mesh": HOSTILE}),
        ("start", text, "config.json", {"init_from": HOSTILE, "data": HOSTILE, "size": HOSTILE}),
        ("named", labels, "config.json", {"labels": NAMES}),
        ("type", base, "config.json", {"model_type": HOSTILE}),
        ("gelu", base, "config.json", {"activation_function": HOSTILE}),
        ("width", base, "config.json", {"n_embd": HOSTILE, "n_head": HOSTILE}),
        ("format", prepared, "meta.json", {"format": HOSTILE}),
        ("splits", prepared, "meta.json", {"splits": {HOSTILE: {}}}),
        ("report", prepared, "report.json", {"pii": {HOSTILE: 1}}),
        ("steps", prepared, "report.json", {"steps": [{"name": HOSTILE, "changed": 1, "dropped": {HOSTILE: 1}}]}),
    ):
        copy = folder / f"{kind}{HOSTILE}"
        copy.mkdir()
        for child in source.iterdir():
            (copy / child.name).symlink_to(child)
        (copy / file).unlink()
        (copy / file).write_text(json.dumps(json.loads((source / file).read_text()) | changes))
    named = folder / f"named{HOSTILE}" / "checkpoints"  # a run's checkpoints have its labels, too
    named.unlink()
    shutil.copytree(labels / "checkpoints", named)
    for path in named.glob("*/progress/metadata"):
        content = json.loads(path.read_text())
        del content["sha256"]
        content["identity"]["labels"] = NAMES
        path.write_text(json.dumps(content | {"sha256": progress._sha256(content)}))
    dropped = json.dumps({"file": HOSTILE, "line": 1, "step": HOSTILE, "reason": HOSTILE})
    (folder / f"steps{HOSTILE}" / "dropped.jsonl").unlink()
    (folder / f"steps{HOSTILE}" / "dropped.jsonl").write_text(dropped + "\n")
    tensor = folder / f"tensor{HOSTILE}"
    tensor.mkdir()
    (tensor / "config.json").write_bytes((base / "config.json").read_bytes())
    weights = (base / "model.safetensors").read_bytes()
    (size,) = struct.unpack("<Q", weights[:8])
    header = json.loads(weights[8 : 8 + size])
    header = {name + HOSTILE * (name == list(header)[-1]): value for name, value in header.items()}
    content = json.dumps(header).encode()
    (tensor / "model.safetensors").write_bytes(struct.pack("<Q", len(content)) + content + weights[8 + size :])
    return names


# {e} is what is hostile; the first ones are refused before JAX is imported.
QUICK = """
{e}
train --data {e}
train --data evil.txt --out new --size {e}
train --data evil.txt --out new --B {e}
train --data evil.txt --out new --lora-on {e} --lora 2 --init-from base{e}
train --data evil.txt --out new --{e} 5
train --data evil.txt --out new --bs={e}
train --data evil.txt --out new --mesh {e}
train --data fields.csv --out new
train --data twice.csv --out new
train --data fields.jsonl --out new
train --data value.jsonl --out new
train --data unknown.jsonl --out new
train --data chat.jsonl --out new
train --data evil.txt --out new --init-from type{e}
train --data evil.txt --out new --init-from gelu{e}
train --data evil.txt --out new --init-from width{e}
train --data format{e} --out new
train --data splits{e} --out new
train --mix {e} --out new
train --mix evil.txt={e} --out new
sample arch{e} --prompt {e}
sample kind{e} --prompt {e}
sample dtype{e} --prompt {e} --device {e}
sample {e} --prompt a
look {e} --prompt a
look base{e} --prompt a --patch {e}
look base{e} --prompt a --answer {e}
evaluate text{e} --choices items.jsonl
evaluate text{e} --tasks {e}
evaluate text{e} --tasks {e},,b
evaluate text{e} --data {e}
evaluate text{e} --data splits{e}
evaluate labels{e} --data unknown.jsonl
evaluate labels{e} --data fields.csv
evaluate named{e} --data unknown.jsonl
evaluate text{e} --env {e}
play text{e} --env tic-tac-toe:{e}=1
play {e} --env tic-tac-toe
play --env tic-tac-toe --record {e}/new
predict labels{e} --data fields.csv
predict labels{e} --data value.jsonl
prepare {e} --out new
prepare evil.txt --out new --clean {e}
prepare evil.txt --out new --language {e}
prepare evil.txt --out new --executor slurm --sbatch {e}
prepare evil.txt --out new --files {e}
inspect format{e}
inspect splits{e}
inspect report{e}
inspect {e}
inspect steps{e} --html {e}
agreement {e}
agreement unknown.jsonl --out page{e}
report {e}
report dtype{e} --evaluation {e}
report text{e} --out {e}
report text{e} start{e} --out new.html
export {e} new
verify dtype{e}
verify start{e}
verify {e}
replay dtype{e} --step 1
replay start{e} --step 1
replay {e} --step 1
track {e} --to tensorboard
track start{e} --to {e}
fit --gpu {e}
"""
WITH_JAX = f"""
train {RUN} --data evil.txt --val evil.txt --steps 2 --out run{{e}}
train {RUN} --data evil.txt --val evil.txt --steps 3 --out run{{e}}
train {RUN} --data text{{e}}.txt --steps 4 --out run{{e}}
train {RUN} --data evil.txt --steps 4 --out run{{e}} --seed 1
train {RUN} --data evil.txt --steps 2 --out run{{e}} --fresh
train {RUN} --mix evil.txt=1,text{{e}}.txt=1 --steps 2 --out mix{{e}}
train --init-from base{{e}} --recipe classify --data labels{{e}}.csv --val 0.2 --B 2 --steps 2 --out l{{e}} --device cpu
train --data evil.txt --out new --init-from tensor{{e}} --B 2 --T 16 --device cpu
sample run{{e}} --prompt {{e}} --n 2 --max-new-tokens 20 --device cpu
look run{{e}} --prompt {{e}} --out page{{e}} --device cpu
sample tensor{{e}} --prompt a --device cpu
evaluate run{{e}} --data evil.txt --json result{{e}}.json --device cpu
evaluate run{{e}} --choices items{{e}}.jsonl --device cpu
evaluate named{{e}} --data named.csv --device cpu
evaluate labels{{e}} --data labels{{e}}.csv --device cpu
predict named{{e}} --data labels{{e}}.csv --device cpu
predict labels{{e}} --data value.jsonl --device cpu
predict labels{{e}} --data labels{{e}}.csv --out predicted{{e}} --device cpu
prepare evil.txt corpus{{e}} --out folder{{e}} --val 0.1 --workers 1
prepare fields.jsonl value.jsonl fields.csv --out none{{e}} --workers 1
inspect folder{{e}} --show-text
inspect report{{e}} --show-text
inspect steps{{e}} --show-text
report run{{e}} start{{e}} --csv rows{{e}}.csv --png plots{{e}}
export run{{e}} exported{{e}}
verify run{{e}}
verify damaged{{e}}
replay run{{e}} --step 1 --device cpu --show-text
replay mix{{e}} --step 1 --device cpu --show-text
track run{{e}} --to tensorboard
"""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def try_output(words: list[str]) -> tuple[int, str]:
    """A command's exit code, and what is wrong with what it prints, or ""; a model's text goes to a terminal."""
    ended = run_command(words, Terminal() if words[0] in ("sample", "predict") else None)
    found = ACTED_ON.search(ended.out.replace("\t", "") + ended.err)
    return ended.code, ended.problem or (f"prints {found[0]!a}: {ended.out!a} {ended.err!a}" if found else "")


def sweep(commands_tried: Iterable[list[str]]) -> tuple[Counter, list[str]]:
    """Try each command in the current folder; how many ended with which exit code, and what is wrong."""
    counts, wrong = Counter(), []
    for words in commands_tried:
        code, problem = try_output(words)
        counts[f"{words[0] if words[0] in commands.COMMANDS else 'other'} {code}"] += 1
        if problem:
            wrong.append(f"{shlex.join(words)!a}: {problem}")
    return counts, wrong


def split(line: str) -> list[str]:
    return shlex.split(line.format(e=shlex.quote(HOSTILE)))


def quick(names: list[str]) -> list[list[str]]:
    """Commands that are refused before JAX is imported."""
    return [*map(split, QUICK.strip().splitlines())] + [rename(line, names) for line in refusals.quick()]


def all_commands(names: list[str]) -> Iterator[list[str]]:
    yield from quick(names)
    yield from map(split, WITH_JAX.strip().splitlines())
    yield from (rename(line, names) for line in refusals.WITH_JAX.strip().splitlines())


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        counts, wrong = sweep(all_commands(fill(Path(folder))))
    print("tried", counts.total(), dict(counts))
    print(*wrong, f"{len(wrong)} print what a terminal acts on, or fail otherwise", sep="\n")
    sys.exit(bool(wrong))

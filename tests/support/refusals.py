"""Wrong inputs of every command, each of which must be refused in one line and touch nothing.

python -m tests.support.refusals

A folder is filled with runs, a prepared folder, texts and what other programs write. After each command the whole tree
is as before: names, bytes, modes, times. The second part names an output that is an input, for every pair of such flags
and under every kind of name.
"""

import contextlib
import itertools
import json
import os
import shlex
import shutil
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from jaxgpt.prepare import canaries
from tests.support.commands import run_command
from tests.support.trees import snapshot

ARCHIVE = Path(__file__).with_name("before_the_move.tar.xz")
RUN = "--init-from base --B 2 --T 16 --lr 3e-3 --device cpu --recipe gpt3 --schedule constant --warmup-ratio 0"
ENCODER = "--arch bert --size tiny --out new --tokenizer bytes"
ITEM = {"context": "The sky is", "choices": ["blue.", "a fish."], "answer": 0}


def fill(folder: Path) -> None:
    """Runs (text, adapters, labels), weights (base), a prepared folder, and what is wrong or another program's."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    files = {
        "file": "",
        "empty.txt": "",
        "short.txt": "one two three",
        "latin1.txt": "caf\u00e9".encode("latin1"),
        "cut.bin": (20240520).to_bytes(4, "little") + (1).to_bytes(4, "little") + (9).to_bytes(1016, "little"),
        "other.txt": "another text, " * 99,
        "broken.jsonl": '{"text": ',
        "pairs.jsonl": '{"prompt": "a", "completion": "b"}\n' * 9,
        "items.jsonl": json.dumps(ITEM) + "\n",
        "noitems.jsonl": '{"context": "x"}\n',
        "unlabelled.csv": "text,color\nfine,red\n",
        "tasks/mine.yaml": "task: mine\n",
        "foreign.html": "my page",
        "foreign/config.json": '{"model_type": "llama", "n_layer": 2}',
        "foreign/log.jsonl": '{"step": 0, "loss": 1.5}\n{"step": 1, "loss": 1.25}\n',
        "foreign/checkpoints/1000/state/weights": "weights",
        "foreign/work/draft.txt": "my work",
        "foreign/meta.json": '{"format": "of another program"}',
        "foreign/index/exact/a.txt": "an index",
        "mine/notes.txt": "notes",
        "mine/work/draft.txt": "my work",
        "mine/work/empty/x": "",
        "shell/x": "",
    }
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    (folder / "shell" / "work").mkdir()
    shutil.copytree(folder / "text", folder / "encoder")
    encoder = json.loads((folder / "text" / "config.json").read_text()) | {"arch": "bert", "data_kind": "masked"}
    (folder / "encoder" / "config.json").write_text(json.dumps(encoder))
    shutil.copytree(folder / "text", folder / "mixed")  # with another program's checkpoint
    shutil.copytree(folder / "foreign" / "checkpoints" / "1000", folder / "mixed" / "checkpoints" / "1000")
    shutil.copytree(folder / "prepared", folder / "secret")
    canaries.write(folder / "secret", canaries.plant(2, 0))
    shutil.copytree(folder / "prepared", folder / "extended")  # by a folder of the user's own
    (folder / "extended" / "work").mkdir()
    (folder / "extended" / "work" / "draft.txt").write_text("my work")
    for name, damaged in (("corrupt", "config.json"), ("halfway", "meta.json")):
        shutil.copytree(folder / ("text" if name == "corrupt" else "prepared"), folder / name)
        (folder / name / damaged).write_text("{")
    shutil.copytree(folder / "base", folder / "cutweights")
    os.truncate(folder / "cutweights" / "model.safetensors", 1000)
    shutil.copytree(folder / "text", folder / "occupied")  # a folder has the name of a file that a run writes
    (folder / "occupied" / "samples.jsonl").mkdir()
    shutil.copytree(folder / "text", folder / "damaged")
    shutil.rmtree(folder / "damaged" / "checkpoints" / "3" / "state")
    adapters = json.loads((folder / "adapters" / "config.json").read_text()) | {"base": str(folder / "base")}
    (folder / "adapters" / "config.json").write_text(json.dumps(adapters))
    for name in ("text", "prepared"):  # as runs and preparations leave them
        (folder / name / ".lock").write_text("process 1 on a host\n")


# Each line is a command that is refused; `quick` ones before JAX is imported.
QUICK = f"""
train --data text.txt --out new --B 0
train --data text.txt --out new --T 0
train --data text.txt --out new --lr -1
train --data text.txt --out new --lr nan
train --data text.txt --out new --bs 4
train --data text.txt --out new --size gpt5
train --data text.txt --out new --steps 0
train --data text.txt --out new --track nothing
train --data text.txt --out new --epochs 0
train --data text.txt --out new --T 2000
train --data text.txt --out new --eval-every 3
train --data text.txt --out new --val 1.5
train --data text.txt --out new --val missing.txt
train --data text.txt --out new --val pairs.jsonl
train --data text.txt --out new --lora 2
train --data text.txt --out new --recipe classify
train --data text.txt --out new --recipe finetune
train --data text.txt --out new --num-processes 2
train --data text.txt --out new --init-from nowhere
train --data text.txt --out new --init-from foreign
train --data text.txt --out new --init-from corrupt
train --data text.txt --out new --init-from base --n-layer 3
train --data text.txt --out new --init-from base --size gpt2-medium
train --data text.txt --out new --init-from base --T 33
train --data text.txt --out base --init-from base
train --data text.txt --out text --init-from text --fresh
train --data text.txt --out text --init-from text/checkpoints/3 --fresh
train --data text.txt --mix text.txt=1,other.txt=1 --out new
train --mix text.txt --out new
train --data text.txt --val-also old=other.txt --out new
train --data text.txt --val 0.1 --val-also other.txt --out new
train --data text.txt --val 0.1 --val-also old=missing.txt --out new
train --data text.txt --val 0.1 --val-also old=pairs.jsonl --out new
train --data 'pairs.jsonl[:-0.1]' --out new
train --data 'text.txt[-0.1:]' --out text.txt
train --mix text.txt=1,missing.txt=1 --out new
train --mix text.txt=1,pairs.jsonl=1 --out new
train --mix text.txt=1,other.txt=1 --val 0.1 --out new
train --data missing.txt --out new
train --data empty.txt --out new
train --data short.txt --out new
train --data latin1.txt --out new
train --data cut.bin --out new
train --data foreign --out new
train --data halfway --out new
train --data broken.jsonl --out new
train --data pairs.jsonl --order shuffled --out new
train --data labels.csv --predict-tokens 2 --n-layer 2 --out new
train --data text.txt --out file
train --data text.txt --out file/new
train --data text.txt --out foreign
train --data text.txt --out foreign --fresh
train --data text.txt --out foreign/checkpoints --fresh
train --data text.txt --out mine
train --data text.txt --out base
train --data text.txt --out base --fresh
train --data text.txt --out prepared
train --data text.txt --out corpus
train --data text.txt --out .
train --data text.txt --out mixed --fresh
train --data text.txt --out occupied
train --data text.txt --out occupied --fresh
train {RUN} --data text.txt --steps 9 --out mixed --fresh
train {ENCODER} --data text.txt --objective next_token
train {ENCODER} --data text.txt --objective completion
train {ENCODER} --data text.txt --predict-tokens 2
train {ENCODER} --data text.txt --probe induction
train {ENCODER} --data text.txt --sample-prompt a
train {ENCODER} --data text.txt --tokenizer chars
train {ENCODER} --data text.txt --mask-ratio 0
train {ENCODER} --data text.txt --T 2
train {ENCODER} --data pairs.jsonl
train {ENCODER} --data labels.csv --mask-ratio 0.3
train --data text.txt --out new --mask-ratio 0.3
train --missing
review
review text --prompts pairs.jsonl
review text --prompts missing.jsonl --out new.jsonl
review text --prompts text.txt --out new.jsonl
review text --prompts broken.jsonl --out new.jsonl
review text --prompts labels.csv --out new.jsonl
review nowhere --prompts pairs.jsonl --out new.jsonl
review foreign --prompts pairs.jsonl --out new.jsonl
review labels --prompts pairs.jsonl --out new.jsonl
review text base text --prompts pairs.jsonl --out new.jsonl
review text --prompts pairs.jsonl --out new.txt
review text --prompts pairs.jsonl --out file/new.jsonl
review text --prompts pairs.jsonl --out items.jsonl
sample text
sample --prompt a
sample nowhere --prompt a
sample foreign --prompt a
sample corrupt --prompt a
sample labels --prompt a
sample file --prompt a
sample text --prompt ''
sample text --prompt a --n 0
sample text --prompt a --max-new-tokens 0
sample text --prompt a --temperature -1
sample text --prompt a --top-p 0
sample text --prompt a --speculate
sample text --prompt a --speculate --temperature 0
sample text --prompt '{" ".join("abcdefghijklmnopqrstuvwxyzabcdefgh")}'
play nowhere --env tic-tac-toe
play labels --env tic-tac-toe
play text --env chess
play text --env tic-tac-toe --tree --json mine
play text --env tic-tac-toe --tree --json text.txt
play --env tic-tac-toe --record text.txt
look text
look nowhere --prompt a --out new
look labels --prompt a --out new
look text --prompt '' --out new
look text --prompt a --patch 'a b' --out new
look text --prompt a --answer 'two words' --out new
look text --prompt a --out mine
look text --prompt a --json text.txt
agreement
agreement nowhere.jsonl
agreement pairs.jsonl --json new.json
agreement pairs.jsonl --json pairs.jsonl
sample encoder --prompt a
look encoder --prompt a --out new
replay encoder --step 1
evaluate encoder --tasks a --json new.json
evaluate encoder --choices items.jsonl --json new.json
evaluate encoder --canaries secret --json new.json
evaluate encoder --data pairs.jsonl --json new.json
evaluate text --data text.txt --max-windows 3 --json new.json
evaluate text
evaluate nowhere --data text.txt --json new.json
evaluate foreign --data text.txt --json new.json
evaluate text --data missing.txt --json new.json
evaluate text --data empty.txt --json new.json
evaluate text --data foreign --json new.json
evaluate text --data labels.csv --json new.json
evaluate text --data text.txt --T 33 --json new.json
evaluate text --data text.txt --batch-size 0 --json new.json
evaluate text --data text.txt --json nowhere/new.json
evaluate text --data text.txt --json file/new.json
evaluate text --data text.txt --json mine
evaluate text --choices noitems.jsonl --json new.json
evaluate text --choices missing.jsonl --json new.json
evaluate text --choices items.jsonl --limit 0 --json new.json
evaluate text --canaries prepared --json new.json
evaluate text --canaries mine --json new.json
evaluate text --tasks a,,b --json new.json
evaluate text --tasks a --include-path nowhere --json new.json
evaluate labels --choices items.jsonl --json new.json
evaluate labels --data text.txt --json new.json
evaluate labels --data unlabelled.csv --json new.json
evaluate labels --data labels.csv --T 9 --json new.json
predict labels
predict nowhere --data labels.csv --out new.jsonl
predict text --data labels.csv --out new.jsonl
predict base --data labels.csv --out new.jsonl
predict labels --data text.txt --out new.jsonl
predict labels --data missing.csv --out new.jsonl
predict labels --data broken.jsonl --out new.jsonl
predict labels --data labels.csv --out text.txt
predict labels --data labels.csv --out mine
predict labels --data labels.csv --out nowhere/new.jsonl
predict labels --data labels.csv --out file/new.jsonl
predict labels --data labels.csv --batch-size 0 --out new.jsonl
prepare corpus
prepare --out new
prepare missing --out new
prepare corpus missing --out new
prepare base --out new
prepare corpus --out foreign
prepare corpus --out foreign --fresh
prepare corpus --out mine
prepare corpus --out mine --fresh
prepare corpus --out shell
prepare corpus --out base
prepare corpus --out text
prepare corpus --out extended
prepare corpus --out extended --fresh
prepare corpus --out halfway
prepare corpus --out halfway --fresh
prepare corpus --out file
prepare corpus --out file/new
prepare corpus --out prepared
prepare corpus --out prepared --val 0.1
prepare corpus --out prepared --language english
prepare corpus --out prepared --fresh --language english
prepare corpus --out prepared --fresh --against base
prepare corpus --out prepared --fresh --decontaminate missing.jsonl
prepare corpus --out prepared --fresh --decontaminate short.txt
prepare missing --out prepared --fresh
prepare - --out prepared --val 0.1
prepare - --out foreign
prepare corpus --out new --against base
prepare corpus --out new --against prepared --dedup minhash
prepare corpus --out new --dedup none --against prepared
prepare corpus --out new --decontaminate missing.jsonl
prepare corpus --out new --decontaminate broken.jsonl
prepare corpus --out new --language english
prepare corpus --out new --pii-names x
prepare corpus --out new --pii report --pii-names nowhere
prepare corpus --out new --val 0.6
prepare corpus --out new --workers 0
prepare corpus --out new --clean none c4
prepare corpus --out new --clean polish
prepare corpus --out new --files '*.pdf'
prepare corpus --out new --min-chars 9 --max-chars 5
prepare corpus --out new --executor slurm --sbatch cpu
prepare corpus --out new --executor slurm --sbatch partition=cpu time=1
prepare corpus --out prepared --fresh --executor slurm --sbatch partition=cpu time=1
inspect
inspect missing
inspect foreign
inspect text
inspect halfway
inspect prepared --seed -1
inspect prepared --lineage
inspect base --lineage
inspect text --lineage --html new.html
inspect prepared --html prepared/page
inspect prepared --html nowhere/page.html
inspect prepared --html prepared/index
report
report nowhere
report base
report foreign
report corrupt
report file
report text ./text
report text --x epochs
report text --out page
report text --out mine
report text --out foreign.html
report text --out nowhere/page.html
report text --out text/checkpoints/page.html
report text --csv new.txt
report text --csv nowhere/new.csv
report text --csv text/checkpoints/new.csv
report text --csv labels.csv
report text --png file
report text --png file/new
report text --follow --png new
report text --evaluation missing.json
report text --evaluation items.jsonl
export text
export nowhere new
export base new
export corrupt new
export text mine
export text base
export text text
export text file
export text file/new
verify
verify nowhere
verify base
verify foreign
verify corrupt
verify text --resume -1
replay
replay text
replay nowhere --step 1
replay base --step 1
replay corrupt --step 1
replay labels --step 1
replay text --step -1
replay text --step 9
replay text --step 1 --data missing.txt
replay text --step 1 --data other.txt
update
update text --data other.txt
update text --data other.txt --out new
update nowhere --data other.txt --out new
update foreign --data other.txt --out new
update corrupt --data other.txt --out new
update base --data other.txt --out new
update labels --data other.txt --out new
update text --data missing.txt --old-val text.txt --out new
update text --data empty.txt --old-val text.txt --out new
update text --data pairs.jsonl --old-val text.txt --out new
update text --data other.txt --old-val missing.txt --out new
update text --data other.txt --old-val pairs.jsonl --out new
update text --data other.txt --old-val text.txt --val 2 --out new
update text --data other.txt --old-val text.txt --out text
update text --data other.txt --old-val text.txt --out mine
update text --data other.txt --old-val text.txt --out foreign
update text --data other.txt --old-val text.txt --out file/new
update text --data other.txt --old-val text.txt --out new --replay 1
update text --data other.txt --old-val text.txt --out new --max-forgetting -1
update text --data other.txt --old-val text.txt --out new --gate items.jsonl
update text --data other.txt --old-val text.txt --out new --gate choices=noitems.jsonl
update text --data other.txt --old-val text.txt --out new --gate choices=items.jsonl
update text --data other.txt --old-val text.txt --out new --gate data=pairs.jsonl
update text --data other.txt --old-val text.txt --out new --gate generate=text.txt
update text --data other.txt --old-val text.txt --out new --promoted mine
update text --data other.txt --old-val text.txt --out new --promoted file/link
update text --data other.txt --old-val text.txt --out new --flags B
update text --data other.txt --old-val text.txt --out new --flags val=0.1
update text --data other.txt --old-val text.txt --out new --flags n-layer=3
update text --data 'other.txt[:-0.1]' --old-val text.txt --out other.txt
track
track text
track text --to nothing
track nowhere --to tensorboard
track base --to tensorboard
track foreign --to tensorboard
track corrupt --to tensorboard
track file --to tensorboard
fit --gpu a100
fit --init-from base
fit --B 0
fit --num-processes 2
nonsense
"""
WITH_JAX = f"""
train {RUN} --data text.txt --steps 9 --out text --seed 1
train {RUN} --data other.txt --steps 9 --out text
train {RUN} --data text.txt --steps 9 --out text --dtype bfloat16
train {RUN} --data text.txt --steps 9 --out text --mesh data=64 --B 64
train {RUN} --data text.txt --steps 9 --out text --device gpu
train {RUN} --data text.txt --steps 9 --out text --objective completion
train {RUN} --data text.txt --steps 9 --out text --fresh --objective completion
train {RUN} --data text.txt --steps 9 --out text --fresh --init-from cutweights
train {RUN} --data text.txt --steps 9 --out text --fresh --device gpu
train {RUN} --data text.txt --steps 9 --out text --lora 2
train {RUN} --data text.txt --steps 9 --out damaged
train {RUN} --data text.txt --steps 9 --out new --init-from cutweights
train {RUN} --data text.txt --steps 9 --out new/deep --init-from cutweights
train {RUN} --data text.txt --steps 9 --out new --device gpu
train {RUN} --data labels.csv --steps 9 --out new --objective next_token
sample cutweights --prompt a --device cpu
sample damaged --prompt a --device cpu
sample text --prompt a --device gpu
look damaged --prompt a --out new --device cpu
evaluate cutweights --data text.txt --json new.json --device cpu
evaluate damaged --data text.txt --json new.json --device cpu
evaluate text --data text.txt --json new.json --device gpu
predict labels --data labels.csv --out new.jsonl --device gpu
export damaged new
export damaged new/deep
replay text --step 1 --device gpu
verify damaged
"""


def try_refusal(words: list[str], before: list[tuple]) -> str:
    """What is wrong with how the current folder's command is refused; "" if nothing."""
    code, _, err, problem = run_command(words)
    if problem or code not in (2, 3, 4):
        return problem or f"code {code}"
    after = snapshot(Path.cwd())
    return f"touched {sorted({entry[0] for entry in {*before} ^ {*after}})}; {err}" if after != before else ""


def sweep(lines: Iterable[str]) -> tuple[Counter, list[str]]:
    """Try each command in the current folder, filled; how many of each were refused, and what is wrong."""
    before, counts, wrong = snapshot(Path.cwd()), Counter(), []
    for line in lines:
        words = shlex.split(line)
        counts[words[0]] += 1
        if problem := try_refusal(words, before):
            wrong.append(f"{line}: {problem}")
            before = snapshot(Path.cwd())
    return counts, wrong


def quick() -> list[str]:
    return QUICK.strip().splitlines()


# ---- An output that is an input: the command, with {o} and {i}; the input; and paths in it that the output may have


PAIRS = [
    ("evaluate {i} --data text.txt --json {o}", "base", "config.json model.safetensors"),
    ("evaluate {i} --data text.txt --json {o}", "text", "config.json log.jsonl checkpoints/3/_CHECKPOINT_METADATA"),
    ("evaluate {i} --data text.txt --json {o}", "text", "checkpoints/9 checkpoints/3/new.json"),
    ("evaluate {i}/checkpoints/3 --data text.txt --json {o}", "text", "config.json log.jsonl checkpoints/9"),
    ("look {i} --prompt a --out {o}", "text", "config.json checkpoints/9"),
    ("look {i} --prompt a --json {o}", "base", "config.json model.safetensors"),
    ("agreement {i} --json {o}", "pairs.jsonl", ""),
    ("evaluate text --data {i} --json {o}", "text.txt", ""),
    ("evaluate text --data {i} --json {o}", "prepared", "meta.json val_000000.bin report.json index/new.json"),
    ("evaluate labels --data {i} --json {o}", "labels.csv", ""),
    ("evaluate text --choices {i} --json {o}", "items.jsonl", ""),
    ("evaluate text --generate {i} --answers {o}", "pairs.jsonl", ""),
    ("review text --prompts {i} --out {o}", "pairs.jsonl", ""),
    ("evaluate wide --canaries {i} --json {o}", "secret", "canaries.json meta.json"),
    ("evaluate text --tasks mine --include-path {i} --json {o}", "tasks", "mine.yaml"),
    ("evaluate adapters --data text.txt --json {o}", "base", "config.json model.safetensors"),
    ("play {i} --env tic-tac-toe --tree --json {o}", "base", "config.json model.safetensors"),
    ("predict {i} --data labels.csv --out {o}", "labels", "config.json checkpoints/9 checkpoints/6/new.jsonl"),
    ("predict {i}/checkpoints/6 --data labels.csv --out {o}", "labels", "config.json checkpoints/9"),
    ("predict labels --data {i} --out {o}", "labels.csv", ""),
    ("inspect {i} --html {o}", "prepared", "page.html index/page.html"),
    ("report {i} --png {o}", "text", " checkpoints checkpoints/9"),
    ("export {i} {o}", "text", " checkpoints checkpoints/9 checkpoints/3 checkpoints/3/new"),
    ("train --data {i} --out {o}", "prepared", " index index/new"),
    ("train --data {i} --out {o}", "text.txt", ""),
    ("train --data {i}/log.jsonl --out {o}", "text", ""),
    ("train --data {i}/config.json --out {o}", "text", ""),
    ("train --data text.txt --val {i} --out {o}", "prepared", " work"),
    ("train --data text.txt --val {i}/config.json --out {o}", "text", ""),
    ("train --mix text.txt=1,{i}=2 --out {o}", "prepared", " index/new"),
    ("train --mix text.txt=1,{i}/log.jsonl=2 --out {o} --fresh", "text", ""),
    ("train --init-from {i} --data text.txt --out {o}", "base", ""),
    ("train --init-from {i} --data text.txt --out {o}", "text", " checkpoints checkpoints/9 checkpoints/new"),
    ("train --init-from {i}/checkpoints/3 --data text.txt --out {o} --fresh", "text", " checkpoints/9"),
    ("prepare {i} --out {o}", "corpus", " new new/deep"),
    ("prepare {i} --out {o}", "corpus/0.txt", " .."),
    ("prepare {i} --out {o} --fresh", "prepared", ""),
    ("prepare {i}/dropped.jsonl --out {o} --fresh", "prepared", ""),
    ("prepare corpus --against {i} --out {o} --fresh", "prepared", " new index/new"),
    ("prepare corpus --decontaminate {i} --out {o}", "corpus/1.txt", ""),
    ("prepare corpus --decontaminate {i}/report.json --out {o} --fresh", "prepared", ""),
]
SPELLINGS = ("{}", "./{}", "mine/../{}", "{here}/{}", "link/{}", "mine/link/{}", "symlink", "hard link")


def pairs(folder: Path) -> list[str]:
    """A command for every pair of an output and an input, and for every name of both; makes the links in `folder`."""
    (folder / "link").symlink_to(".")
    (folder / "mine" / "link").symlink_to(folder)
    (folder / "links").mkdir()
    wide = json.loads((folder / "base" / "config.json").read_text()) | {"n_positions": 1024}  # room for a canary
    (folder / "wide").mkdir()
    (folder / "wide" / "config.json").write_text(json.dumps(wide))
    lines, numbers = [], itertools.count()
    for command, source, parts in PAIRS:
        for part, spelling in itertools.product(parts.split(" "), SPELLINGS):
            path = folder / source / part
            output = spelling.format(os.path.normpath(f"{source}/{part}"), here=folder)
            if "link" == spelling.split()[-1] or spelling == "symlink":
                output = f"links/{next(numbers)}" + ".html" * command.startswith("inspect")
                if spelling == "symlink" and not command.startswith("inspect"):
                    if not path.exists():
                        continue
                    (folder / output).symlink_to(path)
                elif command.startswith("inspect"):
                    target = folder / source / "train_000000.bin"
                    (folder / output).symlink_to(target) if spelling == "symlink" else os.link(target, folder / output)
                elif path.is_file():
                    os.link(path, folder / output)
                else:
                    continue
            elif command.startswith("inspect") and part == "page.html":
                continue  # the page of a folder may be in it
            lines.append(command.format(i=source, o=shlex.quote(output)))
            if spelling not in ("symlink", "hard link") and not source.startswith(("text/", "corpus/")):
                plain = os.path.normpath(f"{source}/{part}")
                lines.append(command.format(i=spelling.format(source, here=folder), o=shlex.quote(plain)))
    return list(dict.fromkeys(lines))


def main() -> int:
    wrong = []
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        fill(Path(name))
        for title, lines in (
            ("refusals", quick()),
            ("refusals with JAX", WITH_JAX.strip().splitlines()),
            ("an output that is an input", pairs(Path(name))),
        ):
            counts, problems = sweep(lines)
            print(f"{title}: {counts.total()} ({', '.join(f'{name} {n}' for name, n in counts.items())})", flush=True)
            wrong += problems
    print(*wrong, f"{len(wrong)} wrong", sep="\n")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())

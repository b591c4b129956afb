"""Makes before_the_move.tar.xz: runs and a prepared folder as jaxgpt wrote them before its modules moved into folders.

python -m tests.support.made_before

It runs on the code of that time alone, commit ed52b56, and is kept to tell what is in the archive. What
tests/test_before_the_move.py holds later code to is in before_the_move.json beside it, computed by the old code.

Most rows of the embedding are 0, and stay alike through AdamW, so that checkpoints of 50,257 rows are a few kilobytes.
"""

import contextlib
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
from jaxgpt.model import GPT2
from jaxgpt.pretrained import save_hf
from jaxgpt.shape import GPT2Config
from jaxgpt.tokenizer import gpt2

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
TEXT = " ".join(f"word{n % 7}" for n in range(82)) + "\n"
ROWS = [f"the {noun} was {word},{label}" for noun in ("film", "play", "book") for word, label in
        (("fine", "good"), ("nice", "good"), ("poor", "bad"), ("dull", "bad"))]  # fmt: skip
SHAPE = GPT2Config(block_size=32, n_layer=2, n_head=2, n_embd=8)
RUN = "--init-from base --data text.txt --B 2 --T 16 --lr 3e-3 --device cpu --out"
GPT3 = "--recipe gpt3 --schedule constant --warmup-ratio 0"
COMMANDS = {
    "text": f"train.py {RUN} text {GPT3} --steps 3",
    "adapters": f"train.py {RUN} adapters --lora 2 --steps 3",
    "labels": "-m jaxgpt.classify train --init-from base --data labels.csv --B 4 --T 12 --epochs 2 --lr 3e-2 "
    "--schedule constant --device cpu --out labels",
    "prepared": "-m jaxgpt.prepare corpus --out prepared --val 0.3 --workers 1",
}


def run(words: str, *more: str) -> str:
    settings = {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "JAXGPT_CACHE": str(Path("../cache").resolve())}
    command = [sys.executable, *words.replace("train.py", str(ROOT / "train.py"), 1).split(), *more]
    return subprocess.run(command, env=os.environ | settings, check=True, stdout=subprocess.PIPE, text=True).stdout


def last_row(out: str) -> dict:
    return json.loads(Path(out, "log.jsonl").read_text().splitlines()[-1])


def make() -> None:
    """All that is in the archive, in the current folder."""
    ids = sorted({*gpt2().encode(TEXT + "\n".join(ROWS)), gpt2().eot_token})
    rows = jax.random.normal(jax.random.key(1), (len(ids), SHAPE.n_embd))

    def sparse(leaf: jax.Array) -> jax.Array:
        return jnp.zeros_like(leaf).at[jnp.array(ids)].set(rows) if len(leaf) == SHAPE.vocab_size else leaf

    model = jax.jit(lambda key: GPT2(SHAPE, key))(jax.random.key(0))
    save_hf(jax.tree.map(sparse, model), "base")
    Path("text.txt").write_text(TEXT)
    Path("labels.csv").write_text("\n".join(["text,label", *ROWS]) + "\n")
    Path("corpus").mkdir()
    for n in range(12):
        Path("corpus", f"{n}.txt").write_text(f"{n} times {TEXT}")
    for command in COMMANDS.values():
        run(command)


def measure() -> dict:
    """What the old code makes of it, which changes the current folder."""
    found = {"sample": run("-m jaxgpt.sample text --temperature 0 --max-new-tokens 12 --prompt", "word1 word2")}
    run("-m jaxgpt.evaluate text --data prepared --json evaluate.json")
    found["evaluate"] = json.loads(Path("evaluate.json").read_text())["loss"]
    found["predict"] = [
        json.loads(line) for line in run("-m jaxgpt.classify predict labels --data labels.csv").splitlines()
    ]
    run(COMMANDS["text"].replace("--steps 3", "--steps 4"))
    run(COMMANDS["adapters"].replace("--steps 3", "--steps 4"))
    run(f"train.py {RUN.replace('text.txt', 'prepared')} trained {GPT3} --steps 1")
    for out in ("text", "adapters", "trained"):
        found[out] = {name: last_row(out)[name] for name in ("step", "loss", "grad_norm")}
    found["fingerprint"] = json.loads(Path("trained/config.json").read_text())["fingerprint"]
    return found


def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """An entry that says nothing of who made it, and when; no locks."""
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    return None if Path(entry.name).name == ".lock" else entry


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as work:
        (folder := Path(work, "before")).mkdir()
        with contextlib.chdir(folder):
            make()
            with tarfile.open(HERE / "before_the_move.tar.xz", "w:xz", preset=9) as archive:
                for path in sorted(folder.iterdir()):
                    archive.add(path, path.name, filter=plain)
            (HERE / "before_the_move.json").write_text(json.dumps(measure(), indent=1) + "\n")

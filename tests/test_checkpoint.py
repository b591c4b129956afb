import functools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxgpt.checkpoint import Checkpoints, Progress
from jaxgpt.config import GPT2Config
from jaxgpt.errors import CheckpointError
from jaxgpt.optimizer import lr_schedule, make_optimizer
from jaxgpt.step import init_state, loss_fn, train_step

TX = make_optimizer(lr_schedule(1e-2, 10))


def progress(step):
    return Progress(step, position=24 * step, tokens_seen=24 * step, B=2, T=12, steps=9, identity={"seed": 0})


@pytest.fixture
def new(tiny):
    return jax.jit(functools.partial(init_state, config=tiny, tx=TX))


@pytest.fixture
def step():
    return jax.jit(functools.partial(train_step, loss_fn=loss_fn, tx=TX), donate_argnums=0)


def bits(state):
    return [np.array(leaf).tobytes() for leaf in jax.tree.leaves(state)]


def test_what_is_restored_is_what_was_saved(tmp_path, new, step, batch):
    state, _ = step(new(jax.random.key(0)), batch)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.latest() is None
        checkpoints.save(state, progress(1))
    with Checkpoints(tmp_path / "checkpoints") as again:
        assert again.latest() == 1
        assert again.progress(1) == progress(1)
        restored = again.restore(1, jax.eval_shape(new, jax.random.key(0)))
    assert bits(restored) == bits(state)
    assert jax.tree.structure(restored) == jax.tree.structure(state)


def test_the_state_may_be_donated_while_it_is_written(tmp_path, batch):
    """A larger model, steps dispatched at once after the save: what is on the disk must be the state before them."""
    config = GPT2Config(vocab_size=5000, block_size=64, n_layer=2, n_head=4, n_embd=256)
    new = jax.jit(functools.partial(init_state, config=config, tx=TX))
    step = jax.jit(functools.partial(train_step, loss_fn=loss_fn, tx=TX), donate_argnums=0)
    state, want = new(jax.random.key(0)), {}
    with Checkpoints(tmp_path) as checkpoints:
        for done in range(1, 4):
            state, _ = step(state, batch)
            want[done] = bits(state)
            checkpoints.save(state, progress(done))
            for _ in range(3):
                state, _ = step(state, batch)
    with Checkpoints(tmp_path) as again:
        for done, expected in want.items():
            assert bits(again.restore(done, jax.eval_shape(new, jax.random.key(0)))) == expected


def test_the_newest_three_are_kept(tmp_path, new):
    state = new(jax.random.key(0))
    with Checkpoints(tmp_path) as checkpoints:
        for done in (2, 4, 6, 8, 10):
            checkpoints.save(state, progress(done))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["10", "6", "8"]


READ = """
import dataclasses, functools, sys, jax
from pathlib import Path
from jaxgpt.checkpoint import Checkpoints
from jaxgpt.config import GPT2Config
from jaxgpt.errors import CheckpointError
from jaxgpt.optimizer import lr_schedule, make_optimizer
from jaxgpt.step import init_state
tiny, tx = GPT2Config(61, 16, 3, 2, 20), make_optimizer(lr_schedule(1e-2, 10))
for folder in sys.argv[1:]:
    config = dataclasses.replace(tiny, n_embd=24) if "another_shape" in folder else tiny
    like = jax.eval_shape(functools.partial(init_state, config=config, tx=tx), jax.random.key(0))
    try:
        with Checkpoints(Path(folder)) as checkpoints:
            checkpoints.progress(1)
            checkpoints.restore(1, like)
            print("restored")
    except CheckpointError as error:
        print(error)
"""


def test_a_damaged_checkpoint_is_an_error_that_names_it(tmp_path, new):
    """In a process of its own: what orbax leaves behind after a failed restore must not show there either."""
    with Checkpoints(tmp_path / "whole") as checkpoints:
        checkpoints.save(new(jax.random.key(0)), progress(1))
    folders = [tmp_path / name for name in ("whole", "empty", "no_state", "no_json", "foreign", "cut", "another_shape")]
    for folder in folders[1:]:
        shutil.copytree(tmp_path / "whole", folder)
    shutil.rmtree(tmp_path / "empty" / "1")
    (tmp_path / "empty" / "1").mkdir()
    shutil.rmtree(tmp_path / "no_state" / "1" / "state")
    (tmp_path / "no_json" / "1" / "progress" / "metadata").unlink()
    (tmp_path / "foreign" / "1" / "progress" / "metadata").write_text('{"epoch": 3}')
    for file in (tmp_path / "cut" / "1" / "state").rglob("d/*"):
        file.write_bytes(file.read_bytes()[:500])
    done = subprocess.run([sys.executable, "-c", READ, *map(str, folders)], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    restored, *errors = done.stdout.splitlines()
    assert restored == "restored" and len(errors) == len(folders) - 1
    for folder, error in zip(folders[1:], errors, strict=True):
        assert error.startswith(f"{folder / '1'} can't be read (")
        assert error.endswith("; delete that folder to go on from the checkpoint before it, or start over with --fresh")


@pytest.mark.parametrize("changes", [{"position": "64"}, {"step": None}, {"identity": []}], ids=str)
def test_progress_of_the_wrong_types_is_an_error(tmp_path, new, changes):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(new(jax.random.key(0)), progress(1))
    path = tmp_path / "1" / "progress" / "metadata"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    message = f"can't be read .*{next(iter(changes))} is"
    with Checkpoints(tmp_path) as again, pytest.raises(CheckpointError, match=message):
        again.progress(1)


def test_a_save_may_copy_to_the_host_under_the_transfer_guard(tmp_path):
    """On a CPU only arrays of less than a byte an element are really copied, so one of those stands for a GPU's."""
    state = {"a": jax.numpy.arange(8).astype("int4")}
    with jax.transfer_guard("disallow"), Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state, progress(1))
    assert (tmp_path / "1").exists()


FULL = """
import resource, sys
import train
from jaxgpt import cli
resource.setrlimit(resource.RLIMIT_FSIZE, (4_000_000, 4_000_000))  # as on a full disk: no file may grow larger
cli.leave(cli.run(train.main, sys.argv[1:]))
"""


def test_a_save_that_fails_is_one_line_and_the_end(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("to be or not to be " * 50)
    words = ["--size", "tiny", "--data", text, "--out", tmp_path / "out", "--steps", "2", "--B", "1", "--T", "16"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    command = [sys.executable, "-c", FULL, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 4
    assert done.stderr.count("\n") == 1 and "the checkpoint could not be written" in done.stderr


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="choose another --out"):
        Checkpoints(tmp_path / "file" / "checkpoints")
    with pytest.raises(CheckpointError, match="not a folder; choose another --out"):
        Checkpoints(tmp_path / "file")

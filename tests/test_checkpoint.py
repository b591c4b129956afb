import dataclasses
import functools
import shutil

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


@pytest.mark.parametrize("damage", ["empty", "no state", "no json", "foreign json", "truncated"])
def test_a_damaged_checkpoint_is_an_error_that_names_it(tmp_path, new, damage, capfd):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(new(jax.random.key(0)), progress(1))
    folder = tmp_path / "1"
    if damage == "empty":
        shutil.rmtree(folder)
        folder.mkdir()
    elif damage == "no state":
        shutil.rmtree(folder / "state")
    elif damage == "no json":
        (folder / "progress" / "metadata").unlink()
    elif damage == "foreign json":
        (folder / "progress" / "metadata").write_text('{"epoch": 3}')
    else:
        for file in (folder / "state").rglob("d/*"):
            file.write_bytes(file.read_bytes()[:500])
    message = f"{folder} can't be read .*delete that folder .*--fresh"
    with Checkpoints(tmp_path) as again, pytest.raises(CheckpointError, match=message):
        again.progress(1)
        again.restore(1, jax.eval_shape(new, jax.random.key(0)))
    assert capfd.readouterr().err == ""  # neither warnings nor tracebacks of orbax


def test_a_checkpoint_of_another_shape_is_an_error(tmp_path, new, tiny):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(new(jax.random.key(0)), progress(1))
    wider = functools.partial(init_state, config=dataclasses.replace(tiny, n_embd=24), tx=TX)
    with Checkpoints(tmp_path) as again, pytest.raises(CheckpointError, match="can't be read"):
        again.restore(1, jax.eval_shape(wider, jax.random.key(0)))


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="choose another --out"):
        Checkpoints(tmp_path / "file" / "checkpoints")

import dataclasses
import errno
import functools
import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from jaxgpt.errors import CheckpointError, CorruptError
from jaxgpt.models.base import shapes
from jaxgpt.models.configs import GPT2Config
from jaxgpt.runs import checkpoint
from jaxgpt.runs.progress import Best, Progress, Run
from jaxgpt.training.config import OptimizerConfig
from jaxgpt.training.optimizer import make_optimizer
from jaxgpt.training.step import train_step
from tests.support import power
from tests.support.losses import NEXT_TOKEN
from tests.support.models import new_state

TX = make_optimizer(OptimizerConfig(), 1e-2)
ABOUT = {"B": 2, "T": 12, "steps": 9, "accumulate": 1, "identity": {"seed": 0}}


def Checkpoints(folder, every=0):
    return checkpoint.Checkpoints(folder, every, ABOUT)


def run(state, step, best=None):
    return Run(state, step, position=24 * step, tokens_seen=24 * step, best=best)


def progress(step):
    return Progress(step, position=24 * step, tokens_seen=24 * step, **ABOUT)


@pytest.fixture
def new(tiny):
    return functools.partial(new_state, config=tiny, tx=TX)


STEP = jax.jit(functools.partial(train_step, objective=NEXT_TOKEN, tx=TX), donate_argnums=0)


@pytest.fixture
def step():
    return STEP


def bits(state):
    return [np.array(leaf).tobytes() for leaf in jax.tree.leaves(state)]


def test_what_is_restored_is_what_was_saved(tmp_path, new, step, batch):
    state, _ = step(new(jax.random.key(0)), batch)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.steps() == []
        checkpoints.save(run(state, 1))
    with Checkpoints(tmp_path / "checkpoints") as again:
        assert again.steps() == [1]
        assert again.progress(1) == progress(1)
        restored = again.restore(1, jax.eval_shape(new, jax.random.key(0)))
    assert bits(restored) == bits(state)
    assert jax.tree.structure(restored) == jax.tree.structure(state)


def test_a_checkpoint_survives_a_power_cut(tmp_path, new, monkeypatch):
    """Where only what was synced is sure to be there; its state is read again bit for bit."""
    folder, state = tmp_path / "disk", new(jax.random.key(0))
    folder.mkdir()
    disk = power.Disk(tmp_path / "store")
    disk.sync_all(folder)
    with monkeypatch.context() as patch, Checkpoints(folder / "run" / "checkpoints") as checkpoints:
        patch.setattr(os, "fsync", disk.sync)
        checkpoints.save(run(state, 1))
        checkpoints.wait()
        remains = [disk.survivors(folder, random.Random(seed)) for seed in range(6)]
    for number, left in enumerate(remains):
        power.restore(tmp_path / f"after{number}", left)
        with Checkpoints(tmp_path / f"after{number}" / "run" / "checkpoints") as again:
            assert again.progress(1) == progress(1)
            assert bits(again.restore(1, jax.eval_shape(new, jax.random.key(0)))) == bits(state)


def test_the_state_may_be_donated_while_it_is_written(tmp_path, step, batch):
    """A larger model, steps dispatched at once after the save: what is on the disk must be the state before them."""
    config = GPT2Config(vocab_size=5000, block_size=64, n_layer=2, n_head=4, n_embd=128)
    new = functools.partial(new_state, config=config, tx=TX)
    state, want = new(jax.random.key(0)), {}
    with Checkpoints(tmp_path) as checkpoints:
        for done in range(1, 4):
            state, _ = step(state, batch)
            want[done] = bits(state)
            checkpoints.save(run(state, done))
            for _ in range(3):
                state, _ = step(state, batch)
    with Checkpoints(tmp_path) as again:
        for done, expected in want.items():
            assert bits(again.restore(done, jax.eval_shape(new, jax.random.key(0)))) == expected


def test_the_newest_three_are_kept(tmp_path, new):
    state = new(jax.random.key(0))
    with Checkpoints(tmp_path) as checkpoints:
        for done in (2, 4, 6, 8, 10):
            checkpoints.save(run(state, done))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["10", "6", "8"]


READ = """
import dataclasses, functools, sys, jax
from pathlib import Path
from jaxgpt.runs.checkpoint import Checkpoints
from jaxgpt.models.configs import GPT2Config
from jaxgpt.errors import CheckpointError
from jaxgpt.training.config import OptimizerConfig
from jaxgpt.training.optimizer import make_optimizer
from jaxgpt.training.step import init_state
tiny, tx = GPT2Config(61, 16, 3, n_head=2, n_embd=20), make_optimizer(OptimizerConfig(), 1e-2)
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
        checkpoints.save(run(new(jax.random.key(0)), 1))
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
        assert error.startswith(f"{folder / '1'} is corrupt and can't be used (")


@pytest.mark.parametrize("changes", [{"position": "64"}, {"step": None}, {"identity": []}], ids=str)
def test_progress_of_the_wrong_types_is_an_error(tmp_path, new, changes):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(run(new(jax.random.key(0)), 1))
    path = tmp_path / "1" / "progress" / "metadata"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with Checkpoints(tmp_path) as again, pytest.raises(CorruptError, match="its JSON is not what was saved"):
        again.progress(1)


def read(folder, like):
    """What a run would go on from, and what it would say."""
    said = []
    with Checkpoints(folder) as checkpoints:
        return checkpoints.resume(like, lambda progress, where: None, said.append), said


@pytest.fixture
def two(tmp_path, new, step, batch):
    """A folder with checkpoints 1 and 2, and their states' bits."""
    states = [step(new(jax.random.key(0)), batch)[0]]
    states.append(jax.tree.map(lambda x: x + 1, states[0]))
    with Checkpoints(tmp_path / "run" / "checkpoints") as checkpoints:
        for done, state in enumerate(states, start=1):
            checkpoints.save(run(state, done))
    return tmp_path / "run" / "checkpoints", [bits(state) for state in states]


@pytest.mark.parametrize("trials", [20, pytest.param(60, marks=pytest.mark.slow)])
def test_a_flipped_bit_is_found_or_harmless(two, new, trials):
    """Bits anywhere in the files of the newest checkpoint, one at a time: it is never taken with other contents."""
    folder, states = two
    like, draw, found = jax.eval_shape(new, jax.random.key(0)), np.random.default_rng(0), 0
    files = sorted(path for path in (folder / "2").rglob("*") if path.is_file() and path.stat().st_size)
    sizes = np.array([path.stat().st_size for path in files])
    with Checkpoints(folder) as checkpoints:
        for trial in range(trials):
            # every second one in the arrays, which have nearly all of the bytes, the others in any file alike
            path = files[draw.choice(len(files), p=sizes / sizes.sum() if trial % 2 else None)]
            place, bit, before = draw.integers(path.stat().st_size), draw.integers(8), path.read_bytes()
            path.write_bytes(before[:place] + bytes([before[place] ^ (1 << bit)]) + before[place + 1 :])
            try:
                assert checkpoints.progress(2) == progress(2)
                assert bits(checkpoints.restore(2, like)) == states[1], f"{path}, byte {place}, bit {bit}"
            except CorruptError:
                found += 1
            path.write_bytes(before)
        assert trials / 4 < found < trials  # some bits mean nothing: padding, a time, the name of a format
        assert bits(checkpoints.restore(2, like)) == states[1]


def half_deleted(folder):
    for path in sorted((folder / "2" / "state").rglob("d/*"))[::2]:
        path.unlink()


def emptied(folder):
    shutil.rmtree(folder / "2")
    (folder / "2").mkdir()


def cut_json(folder):
    path = folder / "2" / "progress" / "metadata"
    path.write_bytes(path.read_bytes()[:-20])


def other_numbers(folder):
    """A state that is whole, under the JSON of another one."""
    shutil.rmtree(folder / "2" / "state")
    shutil.copytree(folder / "1" / "state", folder / "2" / "state")


@pytest.mark.parametrize("damage", [half_deleted, emptied, cut_json, other_numbers])
def test_the_checkpoint_before_a_damaged_one_is_used_and_that_is_said(two, new, damage):
    folder, states = two
    damage(folder)
    (found, state), (said,) = read(folder, jax.eval_shape(new, jax.random.key(0)))
    assert found == progress(1) and bits(state) == states[0]
    assert said.startswith(f"{folder / '2'} is corrupt and can't be used (")
    assert not re.search(r"\((\w*Error|Exception)\b", said)
    assert sorted(path.name for path in folder.iterdir()) == ["1", "2.damaged"]  # nothing is lost
    assert read(folder, jax.eval_shape(new, jax.random.key(0)))[1] == []


CONFIG = {"starts": [{"dtype": "float32", "fingerprint": "f00d"}], "B": 4, "steps": 40, "seed": 0}


def renamed(folder, state):
    shutil.copytree(folder / "1", folder / "30")


def another_runs(folder, state):
    """Of the same shape, whole, and under its own name."""
    with checkpoint.Checkpoints(folder.parent / "other", 0, ABOUT | {"identity": {"seed": 1}}) as others:
        others.save(run(state, 30))
    shutil.copytree(folder.parent / "other" / "30", folder / "30")


@pytest.mark.parametrize(
    "put, reason",
    [
        (renamed, r"is corrupt and can't be used \(it was saved as the checkpoint of step 1\)"),
        (another_runs, r"is another run's and can't be used: seed is 1 there, and 0 in this run's config\.json"),
    ],
)
def test_a_whole_checkpoint_that_is_not_this_runs_of_that_step_is_skipped(two, new, capsys, put, reason):
    folder, states = two
    put(folder, new(jax.random.key(1)))
    (folder.parent / "config.json").write_text(json.dumps(CONFIG))
    like = jax.eval_shape(new, jax.random.key(0))
    model, found = checkpoint.restore_weights(folder.parent, like.model)
    assert found == progress(2) and bits(model) == states[1][1 : 1 + len(bits(model))]
    assert re.fullmatch(f"note: {folder}/30 {reason}\n", capsys.readouterr().err)
    with Checkpoints(folder) as checkpoints:
        for refused in (
            lambda: checkpoint.restore_weights(folder.parent, like.model, 30),
            lambda: checkpoints.restore(30, like),
        ):
            with pytest.raises(CorruptError, match=reason):
                refused()

    def check_compatible(saved, where):
        if saved.identity != ABOUT["identity"]:
            raise CheckpointError("other flags")

    (folder.parent / "config.json").rename(folder.parent / "config")
    said = []
    with Checkpoints(folder) as checkpoints:
        if put == another_runs:  # for all that is known, it is the flags that have changed
            with pytest.raises(CheckpointError, match="other flags"):
                checkpoints.resume(like, check_compatible, said.append)
        (folder.parent / "config").rename(folder.parent / "config.json")
        found, state = checkpoints.resume(like, check_compatible, said.append)
    assert found == progress(2) and bits(state) == states[1] and re.fullmatch(f"{folder}/30 {reason}", said[-1])
    assert sorted(path.name for path in folder.iterdir()) == ["1", "2", "30.damaged"]


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (PermissionError(errno.EACCES, "no"), CheckpointError),
        (OSError(errno.EMFILE, "many"), CheckpointError),
        (MemoryError(), MemoryError),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory"), jax.errors.JaxRuntimeError),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_checkpoint_that_cannot_be_read_now_is_not_damaged(two, new, monkeypatch, error, raised):
    def fail(*_, **__):
        raise error

    folder, states = two
    with monkeypatch.context() as patch:
        patch.setattr(ocp.CheckpointManager, "restore", fail)
        with pytest.raises(raised) as caught:
            read(folder, jax.eval_shape(new, jax.random.key(0)))
    assert not isinstance(caught.value, CorruptError)
    (found, state), said = read(folder, jax.eval_shape(new, jax.random.key(0)))
    assert found == progress(2) and bits(state) == states[1] and said == []


def test_weights_that_the_checkpoint_does_not_have_are_refused(two, tiny):
    folder, _ = two
    for changes, message in (
        (
            {"n_layer": 10**6},
            r"attn\.c_attn\.bias has the shape \(3, 60\), and the model that is asked for",
        ),
        ({"lora": 2}, r"model\.h\.attn\.c_attn\.lora_a is missing, and the model that is asked for has \(3, 20, 2\)"),
    ):
        with pytest.raises(CorruptError, match=message):
            checkpoint.restore_weights(folder.parent, shapes(dataclasses.replace(tiny, **changes)), 2)


def test_without_a_whole_checkpoint_nothing_is_moved_and_nothing_begins(two, new):
    folder, _ = two
    for done in "12":
        shutil.rmtree(folder / done / "state")
    with pytest.raises(
        CheckpointError, match="every checkpoint there is corrupt, and none was changed; choose another --out, or start"
    ):
        read(folder, jax.eval_shape(new, jax.random.key(0)))
    assert sorted(path.name for path in folder.iterdir()) == ["1", "2"]


def test_files_of_others_and_what_a_kill_has_left_do_not_count(two, new):
    folder, states = two
    (folder / "notes.txt").write_text("mine")
    (folder / "3.orbax-checkpoint-tmp").mkdir()
    (folder / "07").mkdir()
    (found, state), said = read(folder, jax.eval_shape(new, jax.random.key(0)))
    assert found == progress(2) and bits(state) == states[1] and said == []
    assert sorted(path.name for path in folder.iterdir()) == ["07", "1", "2", "3.orbax-checkpoint-tmp", "notes.txt"]
    with Checkpoints(folder) as checkpoints:
        checkpoints.make()
    assert sorted(path.name for path in folder.iterdir()) == ["07", "1", "2", "notes.txt"]


def test_a_run_is_due_by_its_steps_and_for_its_best(tmp_path):
    with Checkpoints(tmp_path, every=4) as checkpoints:
        assert [step for step in range(1, 10) if checkpoints.due(run(None, step))] == [4, 8]
        assert checkpoints.due(run(None, 5, Best(5, 1.5, "data"))) and not checkpoints.due(run(None, 6, Best(5, 1, "")))
    with Checkpoints(tmp_path) as checkpoints:
        assert not any(checkpoints.due(run(None, step)) for step in range(1, 10))


def test_the_best_stays_and_comes_back_with_the_progress(tmp_path, new):
    state, best = new(jax.random.key(0)), Best(2, 1.5, "data")
    with Checkpoints(tmp_path) as checkpoints:
        for done in range(1, 7):
            checkpoints.save(run(state, done, best if done > 1 else None))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "4", "5", "6"]
    with Checkpoints(tmp_path) as again:
        assert again.progress(6).best == best


def test_a_save_may_copy_to_the_host_under_the_transfer_guard(tmp_path):
    """On a CPU only arrays of less than a byte an element are really copied, so one of those stands for a GPU's."""
    state = {"a": jax.numpy.arange(8).astype("int4")}
    with jax.transfer_guard("disallow"), Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(run(state, 1))
    assert (tmp_path / "1").exists()


FULL = """
import resource, sys
from jaxgpt.commands import train
from jaxgpt import console
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))  # as on a full disk: no file may grow larger
console.leave(console.run(train.main, sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_save_that_fails_is_one_line_and_the_end(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("to be or not to be " * 50)
    words = ["--n-layer", "1", "--n-head", "1", "--n-embd", "8", "--block-size", "16", "--B", "1", "--T", "16"]
    words += ["--data", text, "--out", tmp_path / "out", "--steps", "2"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", FULL, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 4
    assert done.stderr.count("\n") == 1 and "the checkpoint of step 2 could not be saved" in done.stderr

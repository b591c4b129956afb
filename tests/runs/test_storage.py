"""What can fail between a checkpoint and the disk, with a state of one array."""

import errno
import json
import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
import pytest

from jaxgpt.errors import CheckpointError
from jaxgpt.runs import storage
from jaxgpt.runs.storage import Storage
from tests.support.trees import snapshot

STATE = {"a": jnp.arange(8.0)}


@pytest.fixture
def two(tmp_path):
    """A folder with checkpoints 1 and 2."""
    with Storage(tmp_path / "run" / "checkpoints") as checkpoints:
        for step in (1, 2):
            checkpoints.write(step, STATE, {})
    return tmp_path / "run" / "checkpoints"


def test_the_newest_three_and_the_best_are_kept(tmp_path):
    with Storage(tmp_path) as checkpoints:
        for step in range(1, 8):
            checkpoints.write(step, STATE, {}, best=2 if step > 1 else None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "5", "6", "7"]


def test_what_others_have_put_there_under_a_number_stays(tmp_path):
    (tmp_path / "run" / "1" / "default").mkdir(parents=True)  # another program's checkpoint
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run" / "2").symlink_to(tmp_path / "elsewhere")
    before = snapshot(tmp_path / "run" / "1")
    with Storage(tmp_path / "run") as checkpoints:
        for step in range(3, 9):
            checkpoints.write(step, STATE, {})
        for step in (1, 2):
            checkpoints.set_aside(step)  # as what can't be read
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["1", "2", "6", "7", "8"]
    assert snapshot(tmp_path / "run" / "1") == before


def test_what_is_written_is_a_copy_so_that_the_next_step_may_take_over_the_state(tmp_path, monkeypatch, eight_devices):
    """Where memory is short it is the state itself, and the step waits until it is written."""
    sharding = jax.sharding.NamedSharding(jax.make_mesh((8,), ("fsdp",)), jax.sharding.PartitionSpec("fsdp"))
    state = {"a": jax.device_put(STATE["a"], sharding), "b": jnp.ones((2, 3))}
    with Storage(tmp_path) as checkpoints:
        checkpoints.make()
        save, saved = checkpoints._manager.save, []
        monkeypatch.setattr(checkpoints._manager, "save", lambda step, args, **more: saved.append(args.state.item))
        with jax.transfer_guard("disallow"):
            checkpoints.write(1, state, {})
        monkeypatch.setattr(storage, "free_memory", lambda: 2 * 4 * (8 + 6))
        checkpoints.write(2, state, {})
        monkeypatch.setattr(checkpoints._manager, "save", save)
        assert saved[1] is state
    for name, array in state.items():
        copy = saved[0][name]
        assert copy.sharding == array.sharding and (copy == array).all()
        for part, whole in zip(copy.addressable_shards, array.addressable_shards, strict=True):
            assert part.data.unsafe_buffer_pointer() != whole.data.unsafe_buffer_pointer()


@pytest.mark.skipif(sys.platform != "linux", reason="a thread has no priority of its own")
def test_what_writes_leaves_the_cores_to_the_steps(tmp_path, monkeypatch):
    def own_and_started() -> list[int]:
        with ThreadPoolExecutor(1) as thread:
            return [os.nice(0), thread.submit(os.nice, 0).result()]

    with Storage(tmp_path) as checkpoints:
        checkpoints.make()
        seen = []
        monkeypatch.setattr(checkpoints._manager, "save", lambda *_, **__: seen.extend(own_and_started()))
        before = own_and_started()
        checkpoints.write(1, STATE, {})
    assert seen == [nice + storage.WRITER_NICENESS for nice in before] and own_and_started() == before


def test_a_step_that_takes_over_the_state_does_not_change_what_is_written(tmp_path):
    step = jax.jit(lambda state: jax.tree.map(lambda array: array + 1, state), donate_argnums=0)
    state = step({"a": jnp.zeros(2**20)})
    with Storage(tmp_path) as checkpoints:
        checkpoints.write(1, state, {})
        for _ in range(20):
            state = step(state)
        checkpoints.wait()
        assert (checkpoints.read_state(1, state)["a"] == 1).all() and (state["a"] == 21).all()


def test_arrays_are_written_as_they_are_and_compressed_ones_are_read(tmp_path):
    state = {"a": jnp.zeros(2**16)}
    with ocp.CheckpointManager(tmp_path) as manager:  # as older versions saved
        manager.save(1, args=ocp.args.Composite(state=ocp.args.StandardSave(state), progress=ocp.args.JsonSave({})))
    with Storage(tmp_path) as checkpoints:
        checkpoints.write(2, state, {})
        checkpoints.wait()
        sizes = [sum(path.stat().st_size for path in (tmp_path / str(n)).rglob("*") if path.is_file()) for n in (1, 2)]
        assert sizes[0] < 2**18 < sizes[1]
        for step in (1, 2):
            assert (checkpoints.read_state(step, state)["a"] == 0).all()


def test_a_save_that_fails_is_told_once_and_tried_again(two):
    """The folder becomes a file; the pauses between attempts double."""
    folder = two
    away = folder.with_name("away")
    with Storage(folder) as checkpoints:
        checkpoints.make()
        folder.rename(away)
        folder.write_text("in the way")
        attempts = []
        for done in range(10, 20):
            if done == 10 or checkpoints.retry_due(done):
                attempts.append(done)
                checkpoints.write(done, STATE, {})
                checkpoints.wait()
                assert checkpoints.problem().startswith(f"the checkpoint of step {done} could not be saved (")
                assert checkpoints.problem() == ""
        assert attempts == [10, 11, 13, 17]
        folder.unlink()
        away.rename(folder)
        checkpoints.write(20, STATE, {})
    assert sorted(path.name for path in folder.iterdir()) == ["1", "2", "20"]


def test_a_failure_that_shows_in_the_next_save_is_told_too(two, monkeypatch):
    folder = two
    wait = ocp.CheckpointManager.wait_until_finished
    with Storage(folder) as checkpoints:
        checkpoints.write(3, STATE, {})
        checkpoints._manager.wait_until_finished()
        shutil.rmtree(folder / "3")

        def fail(self):
            monkeypatch.setattr(ocp.CheckpointManager, "wait_until_finished", wait)
            raise OSError(errno.ENOSPC, "full")

        monkeypatch.setattr(ocp.CheckpointManager, "wait_until_finished", fail)
        checkpoints.write(4, STATE, {})
        assert "the checkpoint of step 3 could not be saved (" in checkpoints.problem()
    assert sorted(path.name for path in folder.iterdir()) == ["1", "2", "4"]


def test_an_old_checkpoint_that_cannot_be_deleted_is_no_failed_save(two, monkeypatch):
    def fail(*_):
        raise PermissionError(errno.EPERM, "not yours")

    folder = two
    with Storage(folder) as checkpoints:
        checkpoints.make()
        monkeypatch.setattr(checkpoints._manager._checkpoint_deleter, "delete_steps", fail)
        checkpoints.write(3, STATE, {})
        checkpoints.wait()
        assert checkpoints.problem().startswith("an old checkpoint could not be deleted (")
        assert not checkpoints.retry_due(10)
    assert sorted(path.name for path in folder.iterdir()) == ["1", "2", "3"]


def test_the_room_for_checkpoints_is_known_before_they_are_needed(two, monkeypatch):
    folder = two
    size = 8 * 4
    with Storage(folder) as checkpoints:
        assert checkpoints.require_space(STATE, 9) == ""
        for free, enough in ((2 * size, True), (2 * size - 1, False), (size, False), (size - 1, None)):
            monkeypatch.setattr(Storage, "_free", lambda self, free=free: free)
            if enough is None:
                with pytest.raises(CheckpointError, match=r"a checkpoint takes .* GB, and .* GB are free; make room"):
                    checkpoints.require_space(STATE, 9)
            else:  # two of four are there: the newest three and the one that is being written
                assert (checkpoints.require_space(STATE, 9) == "") == enough
                assert checkpoints.require_space(STATE, 1) == ""
        (folder / "3.orbax-checkpoint-tmp").mkdir()
        (folder / "3.orbax-checkpoint-tmp" / "half").write_bytes(bytes(1000))
        monkeypatch.setattr(Storage, "_free", lambda self: 0)
        assert checkpoints.require_space(STATE, 9) == ""  # what a kill has left is deleted before


def test_the_room_of_an_old_run_counts_as_free(two, monkeypatch):
    monkeypatch.setattr(Storage, "_free", lambda self: 0)
    with Storage(two) as checkpoints:
        with pytest.raises(CheckpointError, match="make room"):
            checkpoints.require_space(STATE, 9)
        assert checkpoints.require_space(STATE, 9, old=[two / "1", two / "2"]) == ""


def test_reading_leaves_the_folder_as_it_is(two):
    (two / "3.orbax-checkpoint-tmp").mkdir()
    before = snapshot(two.parent)
    with Storage(two) as checkpoints:
        assert checkpoints.steps() == [2, 1] and checkpoints.problem() == "" and not checkpoints.retry_due(9)
        restored = checkpoints.read_state(2, {"a": jnp.zeros(8)})
        assert restored["a"].tolist() == STATE["a"].tolist()
        assert snapshot(two.parent) == before
        checkpoints.make()
    assert sorted(path.name for path in two.iterdir()) == ["1", "2"]
    with Storage(two.parent / "nothing") as checkpoints:
        assert checkpoints.steps() == []
    assert not (two.parent / "nothing").exists()


def test_metadata_of_another_kind_are_an_error_and_a_checkpoint_is_read_without(two):
    metadata = two / "1" / "_CHECKPOINT_METADATA"
    metadata.write_text(json.dumps(json.loads(metadata.read_text()) | {"metrics": "text"}))
    for make in (Storage(two).make, lambda: storage.open_reader(two)):
        with pytest.raises(CheckpointError, match="_CHECKPOINT_METADATA is corrupt; delete the files of this name"):
            make()
    metadata.unlink()
    with Storage(two) as checkpoints:
        assert checkpoints.read_state(1, {"a": jnp.zeros(8)})["a"].tolist() == STATE["a"].tolist()
        checkpoints.make()


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="choose another --out"):
        Storage(tmp_path / "file" / "checkpoints").make()
    with pytest.raises(CheckpointError, match="not a folder; choose another --out"):
        Storage(tmp_path / "file")


def test_some_checkpoints_stay_for_good(tmp_path):
    with Storage(tmp_path, keep_every=3) as checkpoints:
        for step in range(1, 12):
            checkpoints.write(step, {"a": jnp.zeros(2)}, {})
            checkpoints.wait()
        assert checkpoints.steps() == [11, 10, 9, 6, 3]

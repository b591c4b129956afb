"""The folder of a run's checkpoints: orbax, what can fail between it and the disk, and several processes."""

import contextlib
import functools
import gc
import itertools
import logging
import os
import shutil
import sys
import threading
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from jaxgpt.errors import CheckpointError, JaxgptError
from jaxgpt.files import sync
from jaxgpt.progress_bar import stage
from jaxgpt.runs.folder import TMP, is_checkpoint, list_steps
from jaxgpt.runs.progress import Progress, format_error, from_json, require_fingerprint, require_same_run
from jaxgpt.runs.restore import read_on_all_processes, require_shapes
from jaxgpt.runtime.device import free_memory
from jaxgpt.runtime.distributed import all_processes

KEEP = 3  # checkpoints of a run
WRITER_NICENESS = 10  # a tenth of the time of a thread that trains
SAVE_TIMEOUT_S = 600  # in which all of several processes must have written a checkpoint

VERSIONS = {"jax": jax.__version__, "orbax-checkpoint": ocp.__version__}


class KeepNewestAndBest(ocp.checkpoint_managers.PreservationPolicy):
    """Which checkpoints stay: the newest, the best of those that were measured and saved, and what is no run's.

    Args:
      every: those of every so many steps stay too; 0: none.
    """

    def __init__(self, every: int = 0) -> None:
        self.every = every
        self.best: list[int] = []  # steps, each better than those before it; the saving of one may fail
        self.foreign: list[int] = []  # numbers of what others have put there

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        steps = [checkpoint.step for checkpoint in checkpoints]
        best = next((step for step in reversed(self.best) if step in steps), None)
        newest = [step for step in steps if step not in self.foreign][-KEEP:]
        return [step in newest or step == best or step in self.foreign or self.is_kept(step) for step in steps]

    def is_kept(self, step: int) -> bool:
        return self.every > 0 and step % self.every == 0


class Storage:
    """Checkpoints by the number of steps done, each an array tree and a JSON. A context, which ends all saved.

    Reading leaves the folder as it is; `make`, or the first save, makes it. A save that fails is not raised where it is
    begun: it is reported by `problem`, and `retry_due` says when to try again. Only several processes end with it, as
    they can't try again together.

    Args:
      folder: where they are, or shall be.
      keep_every: those of every so many steps stay; 0: only the newest and the best.
    """

    def __init__(self, folder: Path, keep_every: int = 0):
        self.folder = folder.absolute()
        if os.path.lexists(self.folder) and not self.folder.is_dir():
            raise CheckpointError(f"{folder}: not a folder; choose another --out")
        silence_orbax()  # also of what a kill has left half deleted
        self._keep = KeepNewestAndBest(keep_every)
        self._manager: ocp.CheckpointManager | None = None  # which writes
        self._step, self._in_flight = 0, False  # of the save that was begun last
        self._failures = 0  # saves in a row that failed
        self._problems: list[str] = []  # not reported yet
        self._met_corruption = False

    def __enter__(self) -> "Storage":
        self._hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
        return self

    def __exit__(self, failure: type | None, *_: object) -> None:
        """Wait until what was saved is on the disk, also where the run ends in an error."""
        if jax.process_count() > 1 and failure and not issubclass(failure, JaxgptError):
            return  # another process is gone, and its part of what is half written will never come
        self.wait()
        with contextlib.suppress(Exception):  # a save that failed is reported below
            if self._manager:
                self._manager.close()
        if self._met_corruption:
            gc.collect()  # tasks that orbax abandoned complain when they are collected: now, while nobody listens
        if failure is None:
            sys.unraisablehook = self._hook
            if self._failures:
                left = f"the newest is that of step {self.steps()[0]:,}" if self.steps() else "there is none"
                raise CheckpointError(
                    f"{self.folder}: {self.problem() or 'the last checkpoint could not be saved'}; {left}; "
                    "make room or mend the folder, then run the same command again, without --fresh"
                )

    # ---- Writing

    def require_space(
        self, state: Any, saves: int, best: bool = False, old: Sequence[Path] | None = None, kept: int = 0
    ) -> str:
        """Refuse a disk that can't take a checkpoint of this state; a note if it can't take what `saves` need.

        Args:
          best: whether the best is kept too.
          kept: how many are kept for good.
          old: folders that will be deleted before, all checkpoints among them; None: the checkpoints stay.
        """
        size, free = self._size(state), self._free()
        num_existing = len(self.steps()) if old is None else 0
        doomed = {*self._unfinished(), *(old or ())}
        free += sum(path.lstat().st_size for folder in doomed for path in folder.rglob("*"))
        if free < size:
            raise CheckpointError(
                f"{self.folder}: a checkpoint takes {size / 1e9:.2f} GB, and {free / 1e9:.2f} GB are free; "
                "make room, or choose an --out on another disk"
            )
        at_most = KEEP + 1 + best + kept  # the oldest is deleted when the newest is complete
        missing = min(saves, at_most - num_existing) * size - free
        return f"{missing / 1e9:.2f} GB are missing for the checkpoints: {free / 1e9:.2f} GB are free" * (missing > 0)

    def make(self) -> None:
        """Make the folder, and delete what a killed process has left half written. All processes must call this."""
        # zstd, orbax's default, makes weights and moments 8 % smaller, for four times the CPU time.
        arrays = ocp.PyTreeCheckpointHandler(use_compression=False)
        options = ocp.CheckpointManagerOptions(
            preservation_policy=self._keep,
            enable_async_checkpointing=True,
            async_options=ocp.options.AsyncOptions(timeout_secs=SAVE_TIMEOUT_S) if jax.process_count() > 1 else None,
        )
        try:
            self._clear()
            self._keep.foreign = [step for step in self.steps() if not is_checkpoint(self.folder / str(step))]
            self._manager = ocp.CheckpointManager(
                self.folder, options=options, item_handlers={"state": arrays, "progress": ocp.JsonCheckpointHandler()}
            )
        except OSError as error:
            raise CheckpointError(f"{self.folder}: {error.strerror}; choose another --out") from None
        except ValueError:
            raise _corrupt_metadata(self.folder) from None

    def write(self, step: int, state: Any, content: dict[str, Any], best: int | None = None) -> None:
        """Begin to save a state and its JSON; returns when the state is copied.

        On a CPU where less than twice its size is free, it is not copied: the next step, which takes over its memory,
        waits until it is written.

        Args:
          step: the name of the checkpoint.
          best: which step is the best so far, and is kept beside the newest.
        """
        if not self._manager:
            self.make()
        self.wait()
        self._step = step
        if best is not None and best not in self._keep.best:
            self._keep.best.append(best)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if jax.default_backend() == "cpu" and free_memory() > 2 * self._size(state):
                # Orbax would write the arrays themselves, and a step that takes over their memory would wait.
                state = jax.device_put(state, jax.tree.map(lambda array: array.sharding, state), may_alias=False)
            arguments = {"state": ocp.args.PyTreeSave(state), "progress": ocp.args.JsonSave(content)}
            with ThreadPoolExecutor(1, initializer=yield_to_training) as thread:
                thread.submit(self._begin, step, ocp.args.Composite(**arguments)).result()
            self._in_flight = True
        except Exception as error:  # orbax raises OSError, ValueError and its own
            self._handle_failure(error)

    def _begin(self, step: int, arguments: ocp.args.Composite) -> None:
        with contextlib.suppress(Exception):  # a failed save, which was reported: orbax raises it once in each thread
            self._manager.wait_until_finished()
        with jax.transfer_guard_device_to_host("allow"):  # the copy is asked for, here
            self._manager.save(step, args=arguments, force=True)

    def problem(self) -> str:
        """What went wrong with saves since this was last asked, as far as it is known; "" if nothing. Doesn't wait."""
        if self._in_flight and not self._manager.is_saving_in_progress():
            self.wait()
        problems, self._problems = self._problems, []
        return "; ".join(problems)

    def retry_due(self, step: int) -> bool:
        """Whether to try a failed save again at this step: exponential backoff, of 1, 2, 4, ... up to 1,024 steps."""
        return self._failures > 0 and step >= self._step + 2 ** min(self._failures - 1, 10)

    def wait(self) -> None:
        """Wait for the save in progress."""
        if self._in_flight:
            self._in_flight = False
            try:
                with stage(f"writing checkpoint {self._step}"):
                    self._manager.wait_until_finished()
                if self._failures:
                    self._failures = 0
                    self._clear()  # what those saves have written after they were given up
            except Exception as error:  # as in save
                self._handle_failure(error)
            else:
                self._sync()

    def _sync(self) -> None:
        """Have the disk keep the newest checkpoint's JSON and names: orbax syncs its arrays alone."""
        if jax.process_index() > 0:
            return
        checkpoint = self.folder / str(self._step)
        try:
            sync(*checkpoint.rglob("*"), checkpoint, *checkpoint.parents)
        except FileNotFoundError:  # someone has deleted it
            pass
        except OSError as error:
            self._problems.append(
                f"the checkpoint of step {self._step:,} may not survive a power cut ({format_error(error)})"
            )

    def _handle_failure(self, error: Exception) -> None:
        if jax.process_count() > 1:  # they can't try again together: what one can't write the others don't know
            raise CheckpointError(
                f"{self.folder}: the checkpoint of step {self._step:,} could not be saved by all processes "
                f"({format_error(error.__context__ or error)}); fix that, then start the same command in all of them"
            ) from None
        # Orbax deletes the oldest when the newest has its name.
        if self._step not in self._keep.foreign and (self.folder / str(self._step)).exists():
            self._failures = 0
            self._problems.append(f"an old checkpoint could not be deleted ({format_error(error)})")
        else:
            self._failures += 1
            self._problems.append(f"the checkpoint of step {self._step:,} could not be saved ({format_error(error)})")
        with contextlib.suppress(OSError):
            self._clear()  # the room that it took
        with contextlib.suppress(Exception):
            self._manager.reload()

    def _clear(self) -> None:
        if jax.process_index() > 0:
            return
        for path in self._unfinished():
            if path.is_symlink():
                path.unlink()
            else:
                shutil.rmtree(path, ignore_errors=True)

    def _unfinished(self) -> list[Path]:
        return list(self.folder.glob(f"*{TMP}*"))

    @staticmethod
    def _size(state: Any) -> int:
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))

    def _free(self) -> int:
        return shutil.disk_usage(next(path for path in (self.folder, *self.folder.parents) if path.exists())).free

    # ---- Reading

    @functools.cached_property
    def _reader(self) -> ocp.CheckpointManager:
        return open_reader(self.folder)

    def steps(self) -> list[int]:
        """Steps done in the checkpoints that are there, corrupt or not, the newest first."""
        return list_steps(self.folder)

    def read_json(self, step: int) -> tuple[Progress, dict[str, str]]:
        """The JSON of a checkpoint: its progress, and the fingerprints of its arrays."""
        content = self._read(step, progress=ocp.args.JsonRestore())["progress"]
        return from_json(content, self.folder / str(step))

    def read_state(self, step: int, like: Any) -> Any:
        """The arrays of a checkpoint with these shapes, dtypes and shardings, not verified yet."""
        like = jax.tree.map(with_default_sharding, like)
        return self._read(step, like, state=ocp.args.StandardRestore(like))["state"]

    def _read(self, step: int, like: Any = None, **items: Any) -> Any:
        try:
            return _read(self._reader, self.folder / str(step), like, items)
        except Exception:
            self._met_corruption = True
            raise

    def set_aside(self, step: int) -> None:
        """Rename a corrupt checkpoint to <step>.damaged; another program's stays."""
        names = (f"{step}.damaged" + n * "+" for n in itertools.count())
        path = next(path for name in names if not os.path.lexists(path := self.folder / name))
        if jax.process_index() == 0 and is_checkpoint(self.folder / str(step)):
            (self.folder / str(step)).rename(path)
        all_processes(True)  # that it is done
        self._reader.reload()
        if self._manager:
            self._manager.reload()


def restore_model(checkpoints: Path, step: int, like: Any) -> tuple[Any, Progress]:
    manager, like = open_reader(checkpoints), jax.tree.map(with_default_sharding, like)
    leaves, tree = jax.tree_util.tree_flatten_with_path(like)
    model_items: dict[str, Any] = {}  # a part of a checkpoint is asked for as dicts in dicts
    for path, leaf in leaves:
        *parents, last = (key.name for key in path)
        functools.reduce(lambda node, name: node.setdefault(name, {}), parents, model_items)[last] = leaf
    state = ocp.args.PyTreeRestore(
        {"model": model_items},
        restore_args=ocp.checkpoint_utils.construct_restore_args({"model": model_items}),
        partial_restore=True,
    )
    where = checkpoints / str(step)
    restored = _read(manager, where, {"model": like}, {"state": state, "progress": ocp.args.JsonRestore()})
    progress, fingerprint = from_json(restored["progress"], where)
    require_same_run(progress, where)
    arrays = [
        functools.reduce(lambda node, key: node[key.name], path, restored["state"]["model"]) for path, _ in leaves
    ]
    model = jax.tree.unflatten(tree, arrays)
    require_fingerprint(model, {name.removeprefix(".model"): value for name, value in fingerprint.items()}, where)
    return model, progress


def _read(manager: ocp.CheckpointManager, where: Path, like: Any, items: dict[str, Any]) -> Any:
    """The items of a checkpoint; `like`: shapes, dtypes and shardings of what is read of its arrays, if any is."""

    def read() -> Any:
        if like is not None:
            tree = ocp.PyTreeCheckpointHandler().metadata(where / "state").tree
            require_shapes({array.name: tuple(array.shape) for array in jax.tree.leaves(tree)}, like, where)
        with stage(f"reading checkpoint {where.name} of {where.parents[1]}"):
            return manager.restore(int(where.name), args=ocp.args.Composite(**items))

    return read_on_all_processes(read, where)


def open_reader(folder: Path) -> ocp.CheckpointManager:
    """A manager that reads alone: by default, one process that can't read would have all others wait for ever."""
    multiprocessing = ocp.options.MultiprocessingOptions()
    if jax.process_count() > 1:
        process = jax.process_index()
        multiprocessing = ocp.options.MultiprocessingOptions(
            process, {process}, barrier_sync_key_prefix=f"process-{process}"
        )
    options = ocp.CheckpointManagerOptions(read_only=True, multiprocessing_options=multiprocessing)
    try:
        return ocp.CheckpointManager(folder, options=options)
    except ValueError:
        raise _corrupt_metadata(folder) from None


def _corrupt_metadata(folder: Path) -> CheckpointError:
    """Orbax reads that of every checkpoint at once, does not say whose is corrupt, and does without."""
    return CheckpointError(f"{folder}: a checkpoint's _CHECKPOINT_METADATA is corrupt; delete the files of this name")


def with_default_sharding(like: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    """A leaf's shape and dtype with its sharding; without one, on the default device."""
    sharding = like.sharding or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(like.shape, like.dtype, sharding=sharding)


def yield_to_training() -> None:
    """Have this thread, and those that it starts to write, take the cores that the next steps leave free."""
    if sys.platform == "linux" and jax.default_backend() == "cpu":  # elsewhere a thread has no priority of its own
        thread = threading.get_native_id()
        with contextlib.suppress(OSError):  # some containers don't let it
            os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + WRITER_NICENESS)


def silence_orbax() -> None:
    # Orbax reports a failure many times: it is raised, which becomes our one line, and it is logged; and the tasks
    # that it abandons then print tracebacks of their own, now or when they are collected.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)

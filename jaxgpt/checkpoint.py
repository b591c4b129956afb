"""Save and restore a TrainState and a small JSON beside it, with orbax."""

import contextlib
import functools
import itertools
import logging
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from jaxgpt.errors import CheckpointError, DamagedError
from jaxgpt.model import GPT2
from jaxgpt.progress import Progress, brief, damaged, from_json, require_fingerprint, to_json
from jaxgpt.step import TrainState

KEEP = 3  # checkpoints of a run


class Checkpoints:
    """The checkpoints of one run, folder/<steps done>, the newest three of them. A context: it ends when all is saved.

    Saving is asynchronous: `save` returns when the state is copied to host memory, so that the next step may take over
    the donated buffers, and a thread writes the copy. A folder gets its final name when it is whole, so a kill while
    saving leaves the checkpoint before it as the newest.

    What is read is held to what was saved: the JSON has a fingerprint of every array, and a SHA-256 of itself.

    Whoever makes one must hold the run's lock: what a killed process has left half written is deleted.
    """

    def __init__(self, folder: Path):
        self.folder = folder.absolute()
        if self.folder.exists() and not self.folder.is_dir():
            raise CheckpointError(f"{folder}: not a folder; choose another --out")
        options = ocp.CheckpointManagerOptions(max_to_keep=KEEP, enable_async_checkpointing=True)
        try:
            self._clear()
            self._manager = ocp.CheckpointManager(self.folder, options=options)
        except OSError as error:
            raise CheckpointError(f"{folder}: {error.strerror}; choose another --out") from None
        self._failure, self._told = "", True
        self._pause = self._pause_before = self._until_retry = 0  # in steps; a pause of 0: the last save has not failed

    def __enter__(self) -> "Checkpoints":
        _silence_orbax()
        self._hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
        return self

    def __exit__(self, failure: type | None, *_: object) -> None:
        """Wait until what was saved is on the disk, also where the run ends in an error."""
        self.wait()
        with contextlib.suppress(Exception):  # a save that failed is told of below
            self._manager.close()
        if failure is None:
            sys.unraisablehook = self._hook
            if self._pause:
                raise CheckpointError(
                    f"{self.folder}: the checkpoint could not be written ({self._failure}); "
                    "make room or mend the folder, then run the same command again, without --fresh"
                )

    # ---- Writing

    def require_space(self, state: TrainState) -> str:
        """Refuse a disk that can't take a checkpoint of this state, arrays or shapes; a note if it takes too few."""
        size, free = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state)), self._free()
        if free < size:
            raise CheckpointError(
                f"{self.folder}: a checkpoint takes {size / 1e9:.2f} GB, and {free / 1e9:.2f} GB are free; "
                "make room, or choose an --out on another disk"
            )
        missing = (KEEP + 1 - len(self.steps())) * size - free  # the oldest goes when the newest is whole
        return f"{free / 1e9:.2f} GB are free, and the checkpoints will take {missing / 1e9:.2f} GB more" * (
            missing > 0
        )

    def save(self, state: TrainState, progress: Progress) -> None:
        """Begin to save a state as folder/<steps done>. What fails is not raised: see `failure` and `retry`."""
        self.wait()
        with jax.transfer_guard_device_to_host("allow"):  # the copy is asked for, here
            content = to_json(progress, state, {"jax": jax.__version__, "orbax-checkpoint": ocp.__version__})
            arguments = {"state": ocp.args.StandardSave(state), "progress": ocp.args.JsonSave(content)}
            self._pause_before, self._pause = self._pause, 0
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                self._manager.save(progress.step, args=ocp.args.Composite(**arguments), force=True)
            except Exception as error:  # orbax raises OSError, ValueError and its own
                self._failed(error)

    def failure(self) -> str:
        """What went wrong with the last save, told once, when it is known; "" if nothing. Doesn't wait."""
        if not self._manager.is_saving_in_progress():
            self.wait()
        said, self._told = self._failure * bool(self._pause and not self._told), True
        return said

    def retry(self) -> bool:
        """Whether to try a failed save again; to be asked once a step. It is: 1, 2, 4, ... steps after each failure."""
        self._until_retry -= 1
        return bool(self._pause) and self._until_retry <= 0

    def wait(self) -> None:
        """Wait for the save in progress."""
        try:
            self._manager.wait_until_finished()
        except Exception as error:  # as in save
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        self._failure, self._told = brief(error), False
        self._pause = self._until_retry = min(2 * self._pause_before or 1, 1024)
        with contextlib.suppress(OSError):
            self._clear()  # the room that it took
        with contextlib.suppress(Exception):
            self._manager.reload()

    def _clear(self) -> None:
        for folder in self.folder.glob("*.orbax-checkpoint-tmp*"):
            shutil.rmtree(folder, ignore_errors=True)

    def _free(self) -> int:
        return shutil.disk_usage(next(path for path in (self.folder, *self.folder.parents) if path.exists())).free

    # ---- Reading

    def steps(self) -> list[int]:
        """Steps done in the checkpoints that are there, whole or not, the newest first."""
        return _steps(self.folder)

    def newest(
        self, like: TrainState, allow: Callable[[Progress, Path], None], tell: Callable[[str], None]
    ) -> tuple[Progress, TrainState] | None:
        """The newest checkpoint that is whole; None if there is none at all.

        Newer ones that are not are told of, and set aside beside the folder, in damaged/, once a whole one is found.

        Args:
          like: shapes and dtypes of the state.
          allow: raises an error if a run may not go on from a checkpoint, given its JSON and its folder.
          tell: takes a line for each that is damaged.

        Raises:
          CheckpointError: there are checkpoints, and none of them is whole.
        """
        broken = []
        for step in self.steps():
            try:
                progress = self.progress(step)
                allow(progress, self.folder / str(step))
                state = self.restore(step, like)
            except DamagedError as error:
                tell(str(error))
                broken.append(step)
                continue
            for each in broken:
                self._set_aside(each)
            return progress, state
        if broken:
            raise CheckpointError(f"{self.folder}: no checkpoint there is whole; start over with --fresh")
        return None

    def progress(self, step: int) -> Progress:
        """The JSON of a checkpoint."""
        return self._json(step)[0]

    def restore(self, step: int, like: TrainState) -> TrainState:
        """The state of a checkpoint, bit for bit.

        Args:
          step: which one.
          like: shapes and dtypes, as jax.eval_shape gives them for init_state.

        Raises:
          DamagedError: it can't be read, or the bits are not those that were saved.
        """
        _, fingerprint = self._json(step)
        here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), like)
        state = self._read(step, state=ocp.args.StandardRestore(abstract))["state"]
        require_fingerprint(state, fingerprint, self.folder / str(step))
        return state

    def _json(self, step: int) -> tuple[Progress, dict[str, str]]:
        content = self._read(step, progress=ocp.args.JsonRestore())["progress"]
        return from_json(content, self.folder / str(step))

    def _read(self, step: int, **items: Any) -> Any:
        try:
            return self._manager.restore(step, args=ocp.args.Composite(**items))
        except Exception as error:  # orbax raises KeyError, ValueError, OSError and bare Exception for damaged files
            raise damaged(self.folder / str(step), error) from error

    def _set_aside(self, step: int) -> None:
        aside = self.folder.parent / "damaged"
        aside.mkdir(exist_ok=True)
        name = next(name for n in itertools.count() if not (aside / (name := f"{step}" + n * "+")).exists())
        (self.folder / str(step)).rename(aside / name)
        self._manager.reload()


def restore_weights(folder: Path, like: GPT2) -> GPT2:
    """The model of the newest whole checkpoint of a run, without its optimizer, which is twice as large and not read.

    Nothing is written, so that the run may be at work meanwhile. A newer checkpoint that is damaged is told of on
    stderr.

    Args:
      folder: of the run.
      like: shapes and dtypes.
    """
    _silence_orbax()
    checkpoints = (folder / "checkpoints").absolute()
    steps = _steps(checkpoints)
    for step in steps:
        try:
            return _weights(checkpoints, step, like)
        except DamagedError as error:
            if step == steps[-1]:
                raise
            print(f"note: {error}", file=sys.stderr)
    raise CheckpointError(
        f"{folder}: no checkpoint there yet; a run writes one every --save-every steps, at its end, and on Ctrl-C"
    )


def _weights(checkpoints: Path, step: int, like: GPT2) -> GPT2:
    manager = ocp.CheckpointManager(checkpoints, options=ocp.CheckpointManagerOptions(read_only=True))
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    leaves, tree = jax.tree_util.tree_flatten_with_path(like)
    wanted: dict[str, Any] = {}  # a part of a checkpoint is asked for as dicts in dicts
    for path, leaf in leaves:
        *parents, last = (key.name for key in path)
        functools.reduce(lambda at, name: at.setdefault(name, {}), parents, wanted)[last] = jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=here
        )
    arguments = ocp.args.PyTreeRestore(
        {"model": wanted},
        restore_args=ocp.checkpoint_utils.construct_restore_args({"model": wanted}),
        partial_restore=True,
    )
    where = checkpoints / str(step)
    try:
        found = manager.restore(step, args=ocp.args.Composite(state=arguments, progress=ocp.args.JsonRestore()))
    except Exception as error:  # as in Checkpoints._read
        raise damaged(where, error) from error
    _, fingerprint = from_json(found["progress"], where)
    arrays = [functools.reduce(lambda at, key: at[key.name], path, found["state"]["model"]) for path, _ in leaves]
    model = jax.tree.unflatten(tree, arrays)
    require_fingerprint(model, {name.removeprefix(".model"): value for name, value in fingerprint.items()}, where)
    return model


def _steps(folder: Path) -> list[int]:
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted((int(name) for name in names if name.isdecimal() and str(int(name)) == name), reverse=True)


def _silence_orbax() -> None:
    # Orbax tells of a failure many times: it is raised, which becomes our one line, and it is logged; and the tasks
    # that it abandons then print tracebacks of their own, now or when they are collected.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)

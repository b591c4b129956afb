"""Save and restore a TrainState and a small JSON beside it, with orbax."""

import contextlib
import dataclasses
import functools
import logging
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from jaxgpt.errors import CheckpointError
from jaxgpt.model import GPT2
from jaxgpt.step import TrainState


@dataclasses.dataclass(frozen=True)
class Progress:
    """The JSON of a checkpoint: how far the run is, and which run it is.

    Attributes:
      step: optimizer steps done.
      position: where in the corpus the next batch starts; the loader's whole state.
      tokens_seen: tokens trained on.
      B, T, accumulate, steps: the flags of that run which a resume may change.
      identity: everything that it may not, as config.identity gives it.
    """

    step: int
    position: int
    tokens_seen: int
    B: int
    T: int
    steps: int
    identity: dict
    accumulate: int = 1


class Checkpoints:
    """The checkpoints of one run, folder/<steps done>, the newest three of them. A context: it ends when all is saved.

    Saving is asynchronous: `save` returns when the state is copied to host memory, so that the next step may take over
    the donated buffers, and a thread writes the copy. A folder gets its final name when it is whole, so a kill while
    saving leaves the checkpoint before it as the newest.
    """

    def __init__(self, folder: Path):
        self.folder = folder.absolute()
        if self.folder.exists() and not self.folder.is_dir():
            raise CheckpointError(f"{folder}: not a folder; choose another --out")
        try:
            options = ocp.CheckpointManagerOptions(max_to_keep=3, enable_async_checkpointing=True)
            self._manager = ocp.CheckpointManager(self.folder, options=options)
        except OSError as error:
            raise CheckpointError(f"{folder}: {error.strerror}; choose another --out") from None

    def latest(self) -> int | None:
        """Steps done in the newest checkpoint; None if there is none."""
        return self._manager.latest_step()

    def save(self, state: TrainState, progress: Progress) -> None:
        """Begin to save a state as folder/<steps done>; a failure to write it may be raised when the context ends."""
        arguments = {
            "state": ocp.args.StandardSave(state),
            "progress": ocp.args.JsonSave(dataclasses.asdict(progress)),
        }
        with self._writing(), jax.transfer_guard_device_to_host("allow"):  # the copy is asked for, here
            self._manager.save(progress.step, args=ocp.args.Composite(**arguments))

    def __enter__(self) -> "Checkpoints":
        _silence_orbax()
        self._hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
        return self

    def __exit__(self, failure: type | None, *_: object) -> None:
        """Wait until what was saved is on the disk, also where the run ends in an error."""
        with self._writing():
            self._manager.wait_until_finished()
            self._manager.close()
        if failure is None:
            sys.unraisablehook = self._hook

    def progress(self, step: int) -> Progress:
        """The JSON of a checkpoint."""
        content = self._read(step, progress=ocp.args.JsonRestore())["progress"]
        try:
            progress = Progress(**content)
            for field in dataclasses.fields(Progress):
                if not isinstance(getattr(progress, field.name), field.type):
                    raise TypeError(f"{field.name} is {getattr(progress, field.name)!r}")
        except TypeError as error:
            raise self._unreadable(step, error) from error
        return progress

    def restore(self, step: int, like: TrainState) -> TrainState:
        """The state of a checkpoint, bit for bit.

        Args:
          step: which one.
          like: shapes and dtypes, as jax.eval_shape gives them for init_state.
        """
        here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), like)
        return self._read(step, state=ocp.args.StandardRestore(abstract))["state"]

    def _read(self, step: int, **items: Any) -> Any:
        try:
            return self._manager.restore(step, args=ocp.args.Composite(**items))
        except Exception as error:  # orbax raises KeyError, ValueError, OSError and bare Exception for damaged files
            raise self._unreadable(step, error) from error

    def _unreadable(self, step: int, error: Exception) -> CheckpointError:
        return CheckpointError(
            f"{self.folder / str(step)} can't be read ({_brief(error)}); "
            "delete that folder to go on from the checkpoint before it, or start over with --fresh"
        )

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            raise CheckpointError(
                f"{self.folder}: the checkpoint could not be written ({_brief(error)}); "
                "make room or mend the folder, then run the same command again, without --fresh"
            ) from error


def restore_weights(folder: Path, like: GPT2) -> GPT2:
    """The model of the newest checkpoint of a run, without its optimizer, which is twice as large and is not read.

    Nothing is written, so that the run may be at work meanwhile.

    Args:
      folder: of the run.
      like: shapes and dtypes.
    """
    _silence_orbax()
    checkpoints = (folder / "checkpoints").absolute()
    if not checkpoints.is_dir():
        raise _no_checkpoint(folder)
    manager = ocp.CheckpointManager(checkpoints, options=ocp.CheckpointManagerOptions(read_only=True))
    step = manager.latest_step()
    if step is None:
        raise _no_checkpoint(folder)
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
    try:
        found = manager.restore(step, args=ocp.args.Composite(state=arguments))["state"]["model"]
    except Exception as error:  # as in Checkpoints._read
        raise CheckpointError(
            f"{checkpoints / str(step)} can't be read ({_brief(error)}); delete that folder to take the one before it"
        ) from error
    return jax.tree.unflatten(tree, [functools.reduce(lambda at, key: at[key.name], path, found) for path, _ in leaves])


def _no_checkpoint(folder: Path) -> CheckpointError:
    return CheckpointError(
        f"{folder}: no checkpoint there yet; a run writes one every --save-every steps, at its end, and on Ctrl-C"
    )


def _silence_orbax() -> None:
    # Orbax tells of a failure many times: it is raised, which becomes our one line, and it is logged; and the tasks
    # that it abandons then print tracebacks of their own, now or when they are collected.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)


def _brief(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"

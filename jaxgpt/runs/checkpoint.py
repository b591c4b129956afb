"""Save and restore a Run: its arrays, and a small JSON beside them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from jaxgpt.console import note, say
from jaxgpt.errors import CheckpointError
from jaxgpt.progress_bar import stage
from jaxgpt.runs import storage
from jaxgpt.runs.progress import Progress, Run, require_fingerprint, require_same_run, to_json
from jaxgpt.runs.restore import candidates, read_first_valid


class Checkpoints(storage.Storage):
    """The checkpoints of a run, folder/<steps done>: the newest three, the best, and some that stay for good.

    A context, which ends all saved.

    Saving is asynchronous: `save` returns when the state is copied to host memory (see `write`), so that the next step
    may take over the donated buffers, and a thread writes the copy. A folder gets its final name when it is complete,
    so a kill while saving leaves the checkpoint before it as the newest. What fails on the way is storage.Storage's.

    Reading verifies what was saved: the JSON has a fingerprint of every array, and a SHA-256 of itself.

    Whoever makes one must hold the run's lock: what a killed process has left half written is deleted.

    Args:
      folder: where they are, or shall be.
      every: steps between two of them; 0: only what the loop asks for.
      about: what the JSON says beside the numbers of a Run: Progress's other fields. It is needed to save.
      keep_every: steps between those that stay for good, which are saved too; 0: none.
    """

    def __init__(self, folder: Path, every: int = 0, about: dict[str, Any] | None = None, keep_every: int = 0):
        super().__init__(folder, keep_every)
        self.every, self.about = every, about

    def due(self, run: Run) -> bool:
        """Whether a run should be saved now: by the steps, for its best validation loss, or since a save has failed."""
        scheduled = (self.every > 0 and run.step % self.every == 0) or self._keep.is_kept(run.step)
        return scheduled or (run.best is not None and run.best.step == run.step) or self.retry_due(run.step)

    def save(self, run: Run) -> None:
        """Begin to save a run as folder/<steps done>. What fails is not raised: it is reported, and tried again."""
        progress = Progress(
            run.step, run.position, run.tokens_seen, best=run.best, unvalidated=run.unvalidated, **self.about
        )
        with stage(f"copying the state for checkpoint {run.step}"):
            with jax.transfer_guard_device_to_host("allow"):  # the fingerprints are asked for, here
                content = to_json(progress, run.state, storage.VERSIONS)
            self.write(run.step, run.state, content, best=run.best and run.best.step)

    def before_step(self, run: Run) -> None:
        pass

    def after_step(self, run: Run, metrics: dict[str, Any]) -> None:
        """As an observer of the loop: report what went wrong with a save, as soon as it is known."""
        if problem := self.problem():
            say("note", f"{problem}; the run continues")

    def resume(
        self, like: Any, check_compatible: Callable[[Progress, Path], None], on_corrupt: Callable[[str], None]
    ) -> tuple[Progress, Any] | None:
        """The newest checkpoint that is not corrupt, its JSON and its state; None if there is none at all.

        Newer ones that are corrupt, or another run's, are reported; once a good one is found, they are renamed to
        <step>.damaged.

        Args:
          like: shapes, dtypes and shardings of the state.
          check_compatible: raises an error if a run may not resume from a checkpoint, given its JSON and its folder.
          on_corrupt: takes a line for each that is corrupt.

        Raises:
          CheckpointError: there are checkpoints, and all of them are corrupt.
        """

        def read(step: int) -> tuple[Progress, Any]:
            progress, where = self.progress(step), self.folder / str(step)
            try:
                check_compatible(progress, where)
            except CheckpointError:
                require_same_run(progress, where)  # else it is the flags that have changed
                raise
            return progress, self._restore(step, like)

        restored, corrupt = read_first_valid(candidates(self.folder), read)
        for error in corrupt.values():
            on_corrupt(str(error))
        if restored:
            for step in corrupt:
                self.set_aside(step)
        elif corrupt:
            raise CheckpointError(
                f"{self.folder}: every checkpoint there is corrupt, and none was changed; "
                "choose another --out, or start over with --fresh"
            )
        return restored

    def progress(self, step: int) -> Progress:
        """The JSON of a checkpoint."""
        progress, _ = self.read_json(step)
        return progress

    def restore(self, step: int, like: Any) -> Any:
        """The state of a checkpoint, bit for bit.

        Args:
          step: which one.
          like: shapes, dtypes and shardings, which may have been others when it was saved; without, the default device.

        Raises:
          CorruptError: it can't be read, is another run's, or its bits differ from what was saved.
        """
        require_same_run(self.progress(step), self.folder / str(step))
        return self._restore(step, like)

    def _restore(self, step: int, like: Any) -> Any:
        _, fingerprint = self.read_json(step)
        state = self.read_state(step, like)
        require_fingerprint(state, fingerprint, self.folder / str(step))
        return state


def restore_weights(folder: Path, like: Any, step: int | None = None) -> tuple[Any, Progress]:
    """The model of the newest good checkpoint of a run, and its JSON, without the optimizer, which is twice as large.

    Nothing is written, so that the run may be training meanwhile. A newer checkpoint that is corrupt is reported on
    stderr.

    Args:
      folder: of the run.
      like: shapes, dtypes and shardings, as in Checkpoints.restore.
      step: of this checkpoint, in place of the newest.
    """
    storage.silence_orbax()
    checkpoints = (folder / "checkpoints").absolute()
    if step is not None:
        return storage.restore_model(checkpoints, step, like)
    restored, corrupt = read_first_valid(
        candidates(checkpoints), lambda step: storage.restore_model(checkpoints, step, like)
    )
    *skipped, last = [None, *corrupt.values()] if restored is None else [*corrupt.values(), None]
    for error in filter(None, skipped):
        if jax.process_index() == 0:
            note(str(error))
    if restored:
        return restored
    if last:
        raise last
    raise CheckpointError(
        f"{folder}: no checkpoint there yet; a run writes one every --save-every steps, at its end, and on Ctrl-C"
    )

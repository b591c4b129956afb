"""A run trained again up to one of its steps, in memory: what the step saw, and whether its numbers are the log's."""

import dataclasses
import functools
import math
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from jaxgpt.console import note
from jaxgpt.data.base import Batch, Dataset
from jaxgpt.data.masking import Masked
from jaxgpt.data.text import Text, Windows
from jaxgpt.data.versions import versions
from jaxgpt.errors import CheckpointError, UsageError
from jaxgpt.progress_bar import stage
from jaxgpt.runs.weights import WeightsRef, resolve_weights
from jaxgpt.training.config import TrainConfig

if TYPE_CHECKING:  # JAX is imported when the flags are known to be right
    from jax.sharding import Mesh

    from jaxgpt.models.base import Model
    from jaxgpt.objectives.base import Objective
    from jaxgpt.training.step import TrainState


@dataclasses.dataclass(frozen=True)
class ReplayedRun:
    """A run's flags, log and data; no JAX.

    Attributes:
      config: the flags of its last start.
      starts: the flags that differ between starts, in order of their steps.
      rows: the log's rows, by step.
      data: what it is trained on.
    """

    config: TrainConfig
    starts: list[dict[str, Any]]
    rows: dict[int, dict[str, Any]]
    data: Dataset

    def config_at(self, step: int) -> TrainConfig:
        """The flags that a step was trained with, with the dtype that was chosen."""
        out = self.config.run.out
        starts = [start for start in self.starts if start["step"] <= step]
        if not starts:
            raise CheckpointError(
                f"{out}/config.json was rewritten at step {self.starts[0]['step']:,} and does not have "
                f"the flags of step {step:,}; ask for a later step with a checkpoint before it"
            )
        start = starts[-1]
        if start["fingerprint"] not in self._fingerprints:
            raise CheckpointError(
                f"step {step:,} of {out} was trained on another text than {self.data.name}: its hash was "
                f"{start['fingerprint']:.16}, and is {self.data.fingerprint:.16}; name that text with --data"
            )
        names = ("B", "T", "accumulate", "steps", "dtype", "mesh")
        return self.config.replace(**{name: start[name] for name in names if name in start})

    def data_at(self, step: int) -> Dataset:
        """The data, in batches of the step's B and T."""
        flags, last = self.config_at(step).data, self.config.data
        return dataclasses.replace(self.data, B=flags.B_step, T=self.data.T // last.T * flags.T)  # of a pair it is 2 T

    def batch(self, step: int) -> tuple[Batch, list[tuple[str, int]]]:
        """The batch of a step, and where each sequence is from: a text and its token there, or a file and its line."""
        data, row, before = self.data_at(step), self.rows.get(step), self.rows.get(step - 1)
        log, tokens = f"{self.config.run.out}/log.jsonl", data.B * data.T
        if row is None:
            raise CheckpointError(f"{log} has no row of step {step:,}, which comes before the requested one")
        seen = 0 if step == 0 else before and before["tokens_seen"]
        if seen is not None and row["tokens_seen"] - seen != tokens:
            raise CheckpointError(f"{log}: the rows before step {step + 1:,} are not those of {tokens:,} tokens")
        try:
            origins = data.locate(row["position"])
        except ValueError as error:
            raise CheckpointError(f"{log}: step {step:,} has {error}") from None
        return data.batch(row["position"])[0], origins

    @functools.cached_property
    def _fingerprints(self) -> Collection[str]:
        """Those of the data, and of what it was before parts of it were erased."""
        return versions(self.data) if isinstance(self.data, Text | Windows | Masked) else (self.data.fingerprint,)

    @functools.cached_property
    def objective(self) -> "Objective":
        """What it minimizes."""
        from jaxgpt.training.setup import objective_of

        return objective_of(self.config, self.data.kind, self.data.labels)

    @functools.cached_property
    def weights(self) -> WeightsRef | None:
        """Those that it began with; None: random ones."""
        init_from = self.config.preset.init_from
        return None if init_from is None else resolve_weights(init_from)


def restore_before(run: ReplayedRun, target_step: int) -> tuple[int, "TrainState", str]:
    """The latest available state at or before a step: its step, the state, and its origin."""
    from jaxgpt.runs.checkpoint import Checkpoints
    from jaxgpt.runs.restore import candidates, read_first_valid
    from jaxgpt.training.setup import build_trainer

    config = run.config_at(target_step)
    trainer = build_trainer(config, make_run_mesh(config), run.objective)
    with Checkpoints(config.run.out / "checkpoints") as checkpoints:
        steps = candidates(checkpoints.folder, at_most=target_step)
        found, corrupt = read_first_valid(steps, lambda step: (step, checkpoints.restore(step, trainer.shapes)))
    for error in corrupt.values():
        note(str(error))
    if found:
        step, state = found
        return step, state, f"its checkpoint {step}"
    origin = f"the {run.weights.name if run.weights else 'random'} weights"
    return 0, trainer.init_state(config.run.seed, run.weights, run.objective.labels), origin


def with_reference(run: ReplayedRun, step: int) -> ReplayedRun:
    """The run with the column of its data that its objective compares with, if it does."""
    from jaxgpt.training.reference import add_reference
    from jaxgpt.training.setup import build_trainer

    if run.objective.reference is None:
        return run
    config = run.config_at(step)
    trainer = build_trainer(config, make_run_mesh(config), run.objective)
    (data,), _ = add_reference(run.objective, trainer, run.weights, config.data.B, run.data)
    return dataclasses.replace(run, data=data)


def train_again(
    run: ReplayedRun,
    first: int,
    state: "TrainState",
    target_step: int,
    look: Callable[["Objective", "Model", Batch, int], Any],
) -> tuple[Any, dict[str, float], bool]:
    """Train the steps from `first` to `target_step` again; no file of the run is changed.

    Args:
      state: the one before `first`; its memory is taken over.
      look: is called before the last step, with the objective, the model on one device, the batch, and how many of its
        sequences are computed at a time.

    Returns:
      What `look` returned; the last step's loss and the norm of its gradient; and whether the log has all of them.
    """
    import jax

    from jaxgpt.models.lora import combine
    from jaxgpt.runtime import device
    from jaxgpt.runtime.mesh import shardings
    from jaxgpt.training.setup import build_trainer

    config, seen, equal = None, None, True
    with stage("steps, trained again", target_step + 1 - first) as advance:
        for step in range(first, target_step + 1):
            batch, _ = run.batch(step)
            if config != run.config_at(step):
                config = run.config_at(step)
                data = run.data_at(step)
                done = run.rows[step]["tokens_seen"] / (data.B * data.T)
                lead = done - (step + 1) if config.run.epochs else 0
                trainer = build_trainer(config, make_run_mesh(config), run.objective, lead)
                state = jax.device_put(state, shardings(trainer.shapes))  # another B may need another sharding
                frozen = trainer.init_frozen(config.run.seed, run.weights)
            if step == target_step:
                alone = build_trainer(config, objective=run.objective)
                parts = (state.model, frozen.base), (alone.shapes.model, alone.frozen.base)
                model = combine(*jax.tree.map(lambda leaf, like: jax.device_put(leaf, like.sharding), *parts))
                seen = look(run.objective, model, batch, config.data.B)
            state, metrics = trainer.step(state, device.put(batch, to=trainer.sharding), frozen)
            values = {name: metrics[name].item() for name in ("loss", "grad_norm")}
            equal = is_as_logged(values, run.rows[step], tell=equal) and equal
            advance(1)
    return seen, values, equal


def is_as_logged(values: dict[str, float], row: dict[str, Any], tell: bool) -> bool:
    """Whether a row of the log has these numbers, null for one that is not finite; tell: note it if it has not."""
    logged = {name: row.get(name) for name in values}
    if logged == {name: value if math.isfinite(value) else None for name, value in values.items()}:
        return True
    if tell:
        now, then = (", ".join(f"{name.replace('_', ' ')} {of[name]}" for name in of) for of in (values, logged))
        note(f"from step {row['step']:,} on the numbers are not those of the log: {now} now, {then} in the log")
    return False


@functools.cache  # one note is enough
def make_run_mesh(config: TrainConfig) -> "Mesh":
    """The mesh that these flags make of the devices of this machine; that of one device where there are too few."""
    from jaxgpt.runtime.mesh import single_device
    from jaxgpt.training.setup import choose_mesh

    try:
        return choose_mesh(config)
    except UsageError:
        mesh = config.parallel.mesh
        note(f"there are too few devices for the run's --mesh {mesh}: on one, sums have another order")
        return single_device()

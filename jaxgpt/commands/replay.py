"""Look at what a step was trained on: `python -m jaxgpt.commands.replay runs/default --step 47`."""

import dataclasses
import functools
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np

from jaxgpt import console
from jaxgpt.data.datasets import trained_text
from jaxgpt.data.text import Text, Windows
from jaxgpt.data.tokenizer import gpt2
from jaxgpt.errors import CheckpointError, DamagedError, DataError, UsageError, require
from jaxgpt.runs.folder import cache_folder, open_run, row_of
from jaxgpt.runs.weights import find, last_start
from jaxgpt.training.config import TrainConfig

if TYPE_CHECKING:  # JAX is imported when the flags are known to be right
    from jax.sharding import Mesh

    from jaxgpt.training.step import TrainState


@dataclasses.dataclass(frozen=True)
class ReplayConfig:
    """Show the batch of a step: its text, the loss of each token before that step's update, the gradient's norm.

    The batch is cut from the corpus at the position that log.jsonl has for the step. The weights are those of that
    moment: the run is trained again up to there, from the checkpoint before it or from its beginning. The run's own
    checkpoints and log stay as they are.
    """

    run: Annotated[Path, *console.place("RUN")]
    """A run folder of train.py."""
    step: int
    """Which step, from 0, as the rows count them."""
    data: str | None = None
    """The text, or what --mix names, if it has another name than at the run's last start."""
    device: Literal["auto", "gpu", "cpu"] | None = None
    """Where to compute, if not where the run does; the log's numbers come out to the bit only there."""

    def __post_init__(self):
        require(0 <= self.step < 2**31, "step", self.step, "from 0 to 2**31 - 1")


@dataclasses.dataclass(frozen=True)
class Run:
    """What is known of a run without JAX.

    Attributes:
      flags: of its last start.
      starts: what was not the same at each, in order of their steps.
      rows: of its log, by step.
      data: the corpus.
    """

    flags: TrainConfig
    starts: list[dict[str, Any]]
    rows: dict[int, dict[str, Any]]
    data: Text | Windows

    def flags_at(self, step: int) -> TrainConfig:
        """The flags that a step was trained with, the dtype as it was decided."""
        starts = [each for each in self.starts if each["step"] <= step]
        if not starts:
            raise CheckpointError(
                f"{self.flags.out}/config.json was written anew at step {self.starts[0]['step']:,} and knows nothing "
                f"of the flags of step {step:,}; ask for a later step with a checkpoint before it"
            )
        start = starts[-1]
        if start["fingerprint"] != self.data.fingerprint:
            raise CheckpointError(
                f"step {step:,} of {self.flags.out} was trained on another text than {self.data.name}: its hash was "
                f"{start['fingerprint']:.16}, and is {self.data.fingerprint:.16}; name that text with --data"
            )
        names = ("B", "T", "accumulate", "steps", "dtype", "mesh")
        return dataclasses.replace(self.flags, **{name: start[name] for name in names if name in start})

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray, list[tuple[str, int]]]:
        """The (x, y) of a step, as Text gives them, and where each of its sequences starts."""
        flags, row, before = self.flags_at(step), self.rows.get(step), self.rows.get(step - 1)
        tokens = flags.B * flags.accumulate * flags.T
        if row is None:
            raise CheckpointError(
                f"{flags.out}/log.jsonl has no row of step {step:,}, which comes before the one asked"
            )
        seen = 0 if step == 0 else before and before["tokens_seen"]
        if seen is not None and row["tokens_seen"] - seen != tokens:
            raise CheckpointError(
                f"{flags.out}/log.jsonl: the rows before step {step + 1:,} are not those of {tokens:,} tokens"
            )
        where = row["position"], flags.B * flags.accumulate, flags.T
        try:
            places = self.data.places(*where)
        except ValueError as error:
            raise CheckpointError(f"{flags.out}/log.jsonl: step {step:,} has {error}") from None
        return *self.data.batch(*where)[:2], places


def main(argv: Sequence[str]) -> int:
    config = console.parse(ReplayConfig, argv)
    flags, starts = last_start(config.run)
    if (objective := find(config.run).objective) != "text" or flags.lora or flags.dropout:
        what = f"{objective}, with adapters or dropout" if flags.lora or flags.dropout else objective
        raise CheckpointError(f"{config.run}: a run on {what}; batches are shown of runs that learn a text whole")
    rows = rows_of(config.run / "log.jsonl")
    if config.step not in rows:
        there = f"those of {min(rows):,} to {max(rows):,}" if rows else "none"
        raise CheckpointError(f"{config.run}/log.jsonl has no row of step {config.step:,}; it has {there}")
    flags = dataclasses.replace(flags, device=config.device or flags.device)
    flags_of_text = {"data" if flags.mix is None else "mix": config.data} if config.data else {}
    data = find_text(dataclasses.replace(flags, **flags_of_text), starts[-1]["fingerprint"])
    run = Run(flags, sorted(starts, key=lambda start: start["step"]), rows, data)
    run.flags_at(config.step)
    with open_run(config.run):
        replay(run, config.step)
    return 0


def rows_of(log: Path) -> dict[int, dict[str, Any]]:
    """The rows of a log by their steps; what is none is left out."""
    try:
        found = [row_of(line) for line in log.read_bytes().splitlines()]
    except OSError as error:
        raise CheckpointError(f"{log}: {error.strerror}; give the folder of a run of train.py") from None
    numbers = ("position", "tokens_seen")
    return {row["step"]: row for row in found if row and all(type(row.get(name)) is int for name in numbers)}


def find_text(flags: TrainConfig, fingerprint: str) -> Text | Windows:
    """What these flags name, without what --val holds out; of the two that "auto" may be, the one trained on."""
    for name in ("shakespeare", "python") if flags.data == "auto" and flags.mix is None else ():
        try:
            found = trained_text(dataclasses.replace(flags, data=name))
        except DataError:
            continue
        if found.fingerprint == fingerprint:
            return found
    return trained_text(flags)


def replay(run: Run, asked: int) -> None:
    """Train again up to the step that is asked for, and print what the run had there."""
    import jax

    from jaxgpt.runtime import allocator, device
    from jaxgpt.runtime.mesh import sequences, shardings
    from jaxgpt.training.setup import training
    from jaxgpt.training.step import token_losses

    allocator.use_one_heap()
    where = device.select(run.flags.device, run.flags.deterministic)
    device.keep_compiled(cache_folder() / "compiled")
    with device.memory_errors("the run itself takes as much; wait until it is free, or use --device cpu"):
        first, state, origin = state_before(run, asked)
        note(f"step {asked:,} of {run.flags.out}, on {where}, trained again from step {first:,} on, {origin}")
        flags, differs = None, False
        for step in range(first, asked + 1):
            x, y, places = run.batch(step)
            if flags != run.flags_at(step):
                flags = run.flags_at(step)
                mesh = mesh_of_run(flags)
                static = training(flags, mesh)
                state = jax.device_put(state, shardings(static.shapes))  # B may have changed what can share it
            if step == asked:
                model = jax.device_put(state.model, shardings(training(flags).shapes.model))  # on one device
                of, B = jax.jit(token_losses), flags.B  # in the parts of --accumulate, as the run itself
                following = y if y.ndim == 2 else y[:, 0]  # of several tokens, the next one
                parts = (device.put(x[i : i + B], following[i : i + B]) for i in range(0, len(x), B))
                losses = np.concatenate([jax.device_get(of(model, *part)) for part in parts])
            state, metrics = static.step(state, device.put(x, y, to=sequences(mesh)))
            found = {name: metrics[name].item() for name in ("loss", "grad_norm")}
            logged = {name: run.rows[step].get(name) for name in found}
            same = logged == {name: value if math.isfinite(value) else None for name, value in found.items()}
            if not same and not differs:
                both = f"{said(found)} here, {said(logged)} there"
                note(f"from step {step:,} on the numbers are not those of the log: {both}")
            differs |= not same
    show(np.column_stack([x, following[:, -1]]), losses, places)
    verdict = "not what the log has: see the note" if differs else "as in the log"
    print(f"step {asked}: loss {found['loss']:.6f}, gradient norm {found['grad_norm']:.6f}, {verdict}")


def state_before(run: Run, asked: int) -> tuple[int, "TrainState", str]:
    """The latest state that there is at or before a step, the step it is of, and where it comes from."""
    from jaxgpt.runs.checkpoint import Checkpoints
    from jaxgpt.training.setup import training

    static = training(run.flags_at(asked), mesh_of_run(run.flags_at(asked)))
    with Checkpoints(run.flags.out / "checkpoints") as checkpoints:
        for step in checkpoints.steps():
            if step <= asked:
                try:
                    return step, checkpoints.restore(step, static.shapes), f"its checkpoint {step}"
                except DamagedError as error:
                    note(str(error))
    weights = None if run.flags.init_from is None else find(run.flags.init_from)
    return 0, static.first_state(run.flags.seed, weights), f"the {weights.name if weights else 'random'} weights"


def said(numbers: dict[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in numbers.items())


@functools.cache  # one note is enough
def mesh_of_run(flags: TrainConfig) -> "Mesh":
    """The mesh that these flags make of the devices here; that of one device where there are too few."""
    from jaxgpt.runtime.mesh import single_device
    from jaxgpt.training.setup import mesh_of

    try:
        return mesh_of(flags)
    except UsageError:
        note(f"there are too few devices for the run's --mesh {flags.mesh}: on one, sums have another order")
        return single_device()


def show(tokens: np.ndarray, losses: np.ndarray, places: list[tuple[str, int]]) -> None:
    """Print each sequence, then its tokens but for the first, which nothing predicts: place, loss, id and text.

    Args:
      tokens: (B, T + 1).
      losses: (B, T), in nats.
      places: the text that each sequence is from, and where it starts there.
    """
    B, several = len(losses), len({name for name, _ in places}) > 1
    for i, (name, start) in enumerate(places):
        text, origin = gpt2().decode(tokens[i].tolist()), f", from {name}" * several
        print(f"--- sequence {i + 1} of {B}{origin}, loss {losses[i].mean():.4f}", *text.split("\n"), sep="\n| ")
        for t, (token, loss) in enumerate(zip(tokens[i, 1:].tolist(), losses[i], strict=True), 1):
            print(f"{start + t:>12} {loss:9.4f} {token:>6}  {gpt2().decode([token])!r}")


def note(text: str) -> None:
    print("note:", text, file=sys.stderr, flush=True)  # stdout is the batch alone


if __name__ == "__main__":
    console.leave(console.run(main, sys.argv[1:]))

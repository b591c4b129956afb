"""Look at what a step was trained on: `jaxgpt replay runs/default --step 47`."""

import dataclasses
import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np

from jaxgpt.commands.flags import parse, positional
from jaxgpt.console import escape, note
from jaxgpt.data.base import Batch
from jaxgpt.data.cache import cache_folder
from jaxgpt.data.datasets import training_text
from jaxgpt.data.text import Text, Windows
from jaxgpt.data.tokenizer import Tokenizer
from jaxgpt.errors import CheckpointError, UsageError, require
from jaxgpt.locks import hold_to_read
from jaxgpt.progress_bar import stage
from jaxgpt.runs.rows import read_rows
from jaxgpt.runs.weights import resolve_weights
from jaxgpt.training.config import TrainConfig
from jaxgpt.training.resume import load_run_config

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

    run: Annotated[Path, *positional("RUN")]
    """A run folder."""
    step: int
    """Which step, from 0, as the rows count them."""
    data: str | None = None
    """The text, or the --mix, where it has moved since the run's last start."""
    device: Literal["auto", "gpu", "cpu"] | None = None
    """Where to compute; by default where the run does: only there the log's numbers are reproduced bit for bit."""

    def __post_init__(self):
        require(0 <= self.step < 2**31, "step", self.step, "from 0 to 2**31 - 1")


@dataclasses.dataclass(frozen=True)
class ReplayedRun:
    """A run's flags, log and data; no JAX.

    Attributes:
      config: the flags of its last start.
      starts: the flags that differ between starts, in order of their steps.
      rows: the log's rows, by step.
      data: the corpus.
    """

    config: TrainConfig
    starts: list[dict[str, Any]]
    rows: dict[int, dict[str, Any]]
    data: Text | Windows

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
        if start["fingerprint"] != self.data.fingerprint:
            raise CheckpointError(
                f"step {step:,} of {out} was trained on another text than {self.data.name}: its hash was "
                f"{start['fingerprint']:.16}, and is {self.data.fingerprint:.16}; name that text with --data"
            )
        names = ("B", "T", "accumulate", "steps", "dtype", "mesh")
        return self.config.replace(**{name: start[name] for name in names if name in start})

    def batch(self, step: int) -> tuple[Batch, list[tuple[str, int]]]:
        """The batch of a step, and where each of its sequences starts."""
        config, row, before = self.config_at(step), self.rows.get(step), self.rows.get(step - 1)
        log, tokens = f"{config.run.out}/log.jsonl", config.data.B_step * config.data.T
        if row is None:
            raise CheckpointError(f"{log} has no row of step {step:,}, which comes before the requested one")
        seen = 0 if step == 0 else before and before["tokens_seen"]
        if seen is not None and row["tokens_seen"] - seen != tokens:
            raise CheckpointError(f"{log}: the rows before step {step + 1:,} are not those of {tokens:,} tokens")
        data = dataclasses.replace(self.data, B=config.data.B_step, T=config.data.T)
        try:
            starts = data.locate(row["position"])
        except ValueError as error:
            raise CheckpointError(f"{log}: step {step:,} has {error}") from None
        return data.batch(row["position"])[0], starts


def main(argv: Sequence[str]) -> int:
    flags = parse(ReplayConfig, argv, command="replay")
    config, starts = load_run_config(flags.run)
    model, kind = config.model, resolve_weights(flags.run).data_kind
    if kind != "text" or model.lora or model.dropout:
        what = "masked tokens" if kind == "masked" else kind
        what += ", with adapters or dropout" * bool(model.lora or model.dropout)
        raise CheckpointError(f"{flags.run}: a run on {what}; batches are shown of runs that learn a text in full")
    rows = read_rows(flags.run / "log.jsonl")
    if flags.step not in rows:
        available = f"those of {min(rows):,} to {max(rows):,}" if rows else "none"
        raise CheckpointError(f"{flags.run}/log.jsonl has no row of step {flags.step:,}; it has {available}")
    config = config.replace(device=flags.device or config.parallel.device)
    new_names = {"data" if config.data.mix is None else "mix": flags.data} if flags.data else {}
    renamed_data = dataclasses.replace(config.data, **new_names)
    data = training_text(renamed_data, config.run.seed, config.preset.predict_tokens)
    run = ReplayedRun(config, sorted(starts, key=lambda start: start["step"]), rows, data)
    run.config_at(flags.step)
    with hold_to_read(flags.run):
        replay(run, flags.step)
    return 0


def replay(run: ReplayedRun, target_step: int) -> None:
    """Train again up to a step, and print its batch, losses and gradient norm."""
    import jax

    from jaxgpt.objectives.next_token import token_losses
    from jaxgpt.runtime import allocator, device
    from jaxgpt.runtime.mesh import shardings
    from jaxgpt.training.setup import build_trainer
    from jaxgpt.training.step import FrozenInputs

    allocator.use_one_heap()
    parallel = run.config.parallel
    where = device.select(parallel.device, parallel.deterministic)
    device.keep_compiled(cache_folder() / "compiled")
    with device.memory_errors("the run itself takes as much; wait until it is free, or use --device cpu"):
        first, state, origin = restore_before(run, target_step)
        note(
            f"step {target_step:,} of {run.config.run.out}, on {where}, trained again from step {first:,} on, {origin}"
        )
        config, differs = None, False
        with stage("steps, trained again", target_step + 1 - first) as advance:
            for step in range(first, target_step + 1):
                batch, starts = run.batch(step)
                if config != run.config_at(step):
                    config = run.config_at(step)
                    tokens = config.data.B_step * config.data.T
                    lead = run.rows[step]["tokens_seen"] / tokens - (step + 1) if config.run.epochs else 0
                    trainer = build_trainer(config, make_run_mesh(config), lead=lead)
                    state = jax.device_put(state, shardings(trainer.shapes))  # another B may need another sharding
                if step == target_step:
                    model = jax.device_put(state.model, shardings(build_trainer(config).shapes.model))  # on one device
                    x, y = batch["tokens"], batch["targets"]
                    y = y if y.ndim == 2 else y[:, 0]  # of several tokens, the next one
                    B = config.data.B  # in the parts of --accumulate, as the run itself
                    losses_of = jax.jit(token_losses)
                    parts = (device.put((x[i : i + B], y[i : i + B])) for i in range(0, len(x), B))
                    losses = np.concatenate([jax.device_get(losses_of(model, *part)) for part in parts])
                state, metrics = trainer.step(state, device.put(batch, to=trainer.sharding), FrozenInputs())
                values = {name: metrics[name].item() for name in ("loss", "grad_norm")}
                logged = {name: run.rows[step].get(name) for name in values}
                equal = logged == {name: value if math.isfinite(value) else None for name, value in values.items()}
                if not equal and not differs:
                    both = f"{format_values(values)} now, {format_values(logged)} in the log"
                    note(f"from step {step:,} on the numbers are not those of the log: {both}")
                differs |= not equal
                advance(1)
    print_sequences(np.column_stack([x, y[:, -1]]), losses, starts, run.data.tokenizer)
    verdict = "not what the log has: see the note" if differs else "as in the log"
    print(f"step {target_step}: loss {values['loss']:.6f}, gradient norm {values['grad_norm']:.6f}, {verdict}")


def restore_before(run: ReplayedRun, target_step: int) -> tuple[int, "TrainState", str]:
    """The latest available state at or before a step: its step, the state, and its origin."""
    from jaxgpt.runs.checkpoint import Checkpoints
    from jaxgpt.runs.restore import candidates, read_first_valid
    from jaxgpt.training.setup import build_trainer

    config = run.config_at(target_step)
    trainer = build_trainer(config, make_run_mesh(config))
    with Checkpoints(config.run.out / "checkpoints") as checkpoints:
        steps = candidates(checkpoints.folder, at_most=target_step)
        found, corrupt = read_first_valid(steps, lambda step: (step, checkpoints.restore(step, trainer.shapes)))
    for error in corrupt.values():
        note(str(error))
    if found:
        step, state = found
        return step, state, f"its checkpoint {step}"
    init_from = config.preset.init_from
    weights = None if init_from is None else resolve_weights(init_from)
    origin = f"the {weights.name if weights else 'random'} weights"
    return 0, trainer.init_state(config.run.seed, weights), origin


def format_values(numbers: dict[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in numbers.items())


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


def print_sequences(
    tokens: np.ndarray, losses: np.ndarray, starts: list[tuple[str, int]], tokenizer: Tokenizer
) -> None:
    """Print each sequence, then its tokens but for the first, which nothing predicts: place, loss, id and text.

    Args:
      tokens: (B, T + 1).
      losses: (B, T), in nats.
      starts: the text that each sequence is from, and where it starts there.
    """
    B, several = len(losses), len({name for name, _ in starts}) > 1
    for i, (name, start) in enumerate(starts):
        lines, origin = tokenizer.decode(tokens[i].tolist()).split("\n"), f", from {escape(name)}" * several
        title = f"--- sequence {i + 1} of {B}{origin}, loss {losses[i].mean():.4f}"
        print(title, *(escape(line, keep="\t") for line in lines), sep="\n| ")
        for t, (token, loss) in enumerate(zip(tokens[i, 1:].tolist(), losses[i], strict=True), 1):
            print(f"{start + t:>12} {loss:9.4f} {token:>6}  {tokenizer.decode([token])!r}")

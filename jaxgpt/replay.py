"""Look at what a step was trained on: `python -m jaxgpt.replay runs/default --step 47`."""

import dataclasses
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np

from jaxgpt import cli, corpus
from jaxgpt.config import TrainConfig, require
from jaxgpt.errors import CheckpointError, DamagedError
from jaxgpt.folder import cache_folder, open_run
from jaxgpt.loader import next_batch
from jaxgpt.source import find, last_start
from jaxgpt.tokenizer import gpt2

if TYPE_CHECKING:  # JAX is imported when the flags are known to be right
    from jaxgpt.step import TrainState
    from jaxgpt.training import Training


@dataclasses.dataclass(frozen=True)
class ReplayConfig:
    """Show the batch of a step: its text, the loss of each token before that step's update, the gradient's norm.

    The batch is cut from the corpus at the position that log.jsonl has for the step. The weights are those of that
    moment: the run is trained again up to there, from the checkpoint before it or from its beginning. Nothing of it is
    changed.
    """

    run: Annotated[Path, *cli.place("RUN")]
    """A run folder of train.py."""
    step: int
    """Which step, from 0, as the rows count them."""
    B: int | None = None
    """Batch size of that step, if the run has changed it since."""
    T: int | None = None
    """Sequence length of that step, if the run has changed it since."""
    accumulate: int | None = None
    """Batches of that step, if the run has changed it since."""
    device: Literal["auto", "gpu", "cpu"] = "auto"
    """Where to compute; the numbers are the log's to the bit only where the run was trained."""

    def __post_init__(self):
        require(0 <= self.step < 2**31, "step", self.step, "from 0 to 2**31 - 1")


def main(argv: Sequence[str]) -> int:
    config = cli.parse(ReplayConfig, argv)
    flags, fingerprint = last_start(config.run)
    given = {name: getattr(config, name) for name in ("B", "T", "accumulate") if getattr(config, name) is not None}
    flags = dataclasses.replace(flags, device=config.device, **given)
    rows = rows_of(config.run / "log.jsonl")
    if config.step not in rows:
        there = f"those of {min(rows):,} to {max(rows):,}" if rows else "none"
        raise CheckpointError(f"{config.run}/log.jsonl has no row of step {config.step:,}; it has {there}")
    data = corpus.load(flags.data)
    if data.fingerprint != fingerprint:
        raise CheckpointError(
            f"{config.run} was trained on another text than {data.name}: its hash was {fingerprint!s:.16} and is "
            f"{data.fingerprint:.16}; bring that text back"
        )
    with open_run(config.run):
        replay(config, flags, rows, data)
    return 0


def rows_of(log: Path) -> dict[int, dict[str, Any]]:
    """The rows of a log by their steps; what is no row is left out."""
    rows = {}
    try:
        lines = log.read_bytes().splitlines()
    except OSError as error:
        raise CheckpointError(f"{log}: {error.strerror}; give the folder of a run of train.py") from None
    for line in lines:
        try:
            row = json.loads(line)
            step, _, _ = (int(row[name]) for name in ("step", "position", "tokens_seen"))
        except (ValueError, TypeError, KeyError, RecursionError):
            continue
        rows[step] = row
    return rows


def replay(config: ReplayConfig, flags: TrainConfig, rows: dict[int, dict[str, Any]], data: corpus.Corpus) -> None:
    """Train again up to the step, and print what the run had before it there."""
    import jax

    from jaxgpt import allocator, device
    from jaxgpt.step import token_losses
    from jaxgpt.training import training

    allocator.use_one_heap()
    where = device.select(flags.device, flags.deterministic)
    device.keep_compiled(cache_folder() / "compiled")
    static = training(flags)
    with device.memory_errors("the run itself takes as much; wait until it is free, or use --device cpu"):
        first, state, origin = state_before(config, flags, static)
        note(f"step {config.step:,} of {config.run}, on {where}: {config.step - first:,} steps again from {origin}")
        told = False
        for step in range(first, config.step + 1):
            x, y = batch_of(step, config, flags, rows, data)
            batch = device.put(x, y)
            if step == config.step:
                losses = jax.device_get(jax.jit(token_losses)(state.model, *batch))
            state, metrics = static.step(state, batch)
            found = {name: metrics[name].item() for name in ("loss", "grad_norm")}
            logged = {name: rows[step].get(name) for name in found}
            if not told and logged != {name: x if math.isfinite(x) else None for name, x in found.items()}:
                told = True
                note(f"from step {step:,} on the numbers are not those of the log: {found} here, {logged} there")
    show(np.column_stack([x, y[:, -1]]), losses, rows[config.step]["position"])
    print(f"\nstep {config.step}: loss {found['loss']:.6f}, gradient norm {found['grad_norm']:.6f}", end="")
    print("" if told else ", as in the log")


def state_before(config: ReplayConfig, flags: TrainConfig, static: "Training") -> tuple[int, "TrainState", str]:
    """The latest state that there is at or before the step, the step it is of, and where it comes from."""
    from jaxgpt.checkpoint import Checkpoints

    with Checkpoints(config.run / "checkpoints") as checkpoints:
        for step in checkpoints.steps():
            if step <= config.step:
                try:
                    return step, checkpoints.restore(step, static.shapes()), f"its checkpoint {step}"
                except DamagedError as error:
                    note(str(error))
    weights = None if flags.init_from is None else find(flags.init_from)
    return 0, static.first_state(flags.seed, weights), f"the {weights.name if weights else 'random'} weights of step 0"


def batch_of(
    step: int, config: ReplayConfig, flags: TrainConfig, rows: dict[int, dict[str, Any]], data: corpus.Corpus
) -> tuple[np.ndarray, np.ndarray]:
    """The (x, y) of a step, by its row.

    Raises:
      CheckpointError: there is no row, or it is of another batch size than the flags'.
    """
    if step not in rows:
        raise CheckpointError(f"{config.run}/log.jsonl has no row of step {step:,}, which comes before {config.step:,}")
    row, before = rows[step], rows.get(step - 1, {"tokens_seen": 0} if step == 0 else rows[step])
    B, T = flags.B * flags.accumulate, flags.T
    count = row["tokens_seen"] - before["tokens_seen"]
    if count not in (0, B * T) or not 0 <= row["position"] < len(data.tokens) - B * T:
        raise CheckpointError(
            f"step {step:,} of {config.run} took {count:,} tokens from {row['position']:,} on, and the flags of its "
            f"last start take {B * T:,}; give the --B, --T and --accumulate of that time"
        )
    return next_batch(data.tokens, row["position"], B, T)[:2]


def show(tokens: np.ndarray, losses: np.ndarray, position: int) -> None:
    """Print each sequence, then its tokens but for the first, which nothing predicts: place in the corpus, loss, token.

    Args:
      tokens: (B, T + 1).
      losses: (B, T), in nats.
      position: of the batch.
    """
    B, T = losses.shape
    for i in range(B):
        start = position + i * T
        print(f"--- sequence {i + 1} of {B}, loss {losses[i].mean():.4f}\n{gpt2().decode(tokens[i].tolist())}\n")
        for t, (token, loss) in enumerate(zip(tokens[i, 1:].tolist(), losses[i], strict=True), 1):
            print(f"{start + t:>12} {loss:9.4f}  {gpt2().decode([token])!r}")


def note(text: str) -> None:
    print("note:", text, file=sys.stderr, flush=True)  # stdout is the batch alone


if __name__ == "__main__":
    cli.leave(cli.run(main, sys.argv[1:]))

"""Look at what a step was trained on: `jaxgpt replay runs/default --step 47`."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np

from jaxgpt.commands.flags import parse, positional
from jaxgpt.console import escape, note, plural
from jaxgpt.data.base import Batch
from jaxgpt.data.cache import cache_folder
from jaxgpt.data.datasets import training_data
from jaxgpt.data.tokenizer import Tokenizer
from jaxgpt.errors import CheckpointError, require
from jaxgpt.locks import hold_to_read
from jaxgpt.runs.rows import read_rows
from jaxgpt.runs.weights import resolve_weights
from jaxgpt.training.replay import ReplayedRun, restore_before, train_again, with_reference
from jaxgpt.training.resume import load_run_config

if TYPE_CHECKING:  # JAX is imported when the flags are known to be right
    from jaxgpt.models.base import Model
    from jaxgpt.objectives.base import Objective


@dataclasses.dataclass(frozen=True)
class ReplayConfig:
    """Show the batch of a step: where it is from, the losses before that step's update, the gradient's norm.

    The batch is cut from the corpus at the position that log.jsonl has for the step. The weights are those of that
    moment: the run is trained again up to there, from the checkpoint before it or from its beginning. The run's own
    checkpoints and log stay as they are.
    """

    run: Annotated[Path, *positional("RUN")]
    """A run folder."""
    step: int
    """Which step, from 0, as the rows count them."""
    data: str | None = None
    """The text, the file, or the --mix, where it has moved since the run's last start."""
    device: Literal["auto", "gpu", "cpu"] | None = None
    """Where to compute; by default where the run does: only there the log's numbers are reproduced bit for bit."""
    show_text: bool = False
    """Show the text too. Without it only places, losses and numbers of tokens are shown."""

    def __post_init__(self):
        require(0 <= self.step < 2**31, "step", self.step, "from 0 to 2**31 - 1")


def main(argv: Sequence[str]) -> int:
    flags = parse(ReplayConfig, argv, command="replay")
    config, starts = load_run_config(flags.run)
    if config.privacy.is_private:
        raise CheckpointError(f"{flags.run}: a private run, whose rows are nobody's to see; replay shows none of them")
    kind = resolve_weights(flags.run).data_kind
    if kind not in KINDS:
        what = "masked tokens" if kind == "masked" else kind
        raise CheckpointError(f"{flags.run}: a run on {what}; batches are shown of runs on texts and judged answers")
    rows = read_rows(flags.run / "log.jsonl")
    if flags.step not in rows:
        available = f"those of {min(rows):,} to {max(rows):,}" if rows else "none"
        raise CheckpointError(f"{flags.run}/log.jsonl has no row of step {flags.step:,}; it has {available}")
    config = config.replace(device=flags.device or config.parallel.device)
    new_names = {"data" if config.data.mix is None else "mix": flags.data} if flags.data else {}
    renamed_data = dataclasses.replace(config.data, **new_names)
    options = config.preset.predict_tokens, config.fields
    data = training_data(renamed_data, config.run.seed, *options, learns_pairs=kind == "preferences")
    run = ReplayedRun(config, sorted(starts, key=lambda start: start["step"]), rows, data)
    run.config_at(flags.step)
    with hold_to_read(flags.run):
        replay(run, flags.step, flags.show_text)
    return 0


def replay(run: ReplayedRun, target_step: int, show_text: bool) -> None:
    """Train again up to a step, and print its batch, with the text or without, losses and gradient norm."""
    from jaxgpt.runtime import allocator, device

    allocator.use_one_heap()
    parallel = run.config.parallel
    where = device.select(parallel.device, parallel.deterministic)
    device.keep_compiled(cache_folder() / "compiled")
    look, show = KINDS[run.data.kind]
    with device.memory_errors("the run itself takes as much; wait until it is free, or use --device cpu"):
        run = with_reference(run, target_step)
        first, state, origin = restore_before(run, target_step)
        note(
            f"step {target_step:,} of {run.config.run.out}, on {where}, trained again from step {first:,} on, {origin}"
        )
        seen, values, is_equal = train_again(run, first, state, target_step, look)
    show(*run.batch(target_step), seen, run.data.tokenizer if show_text else None)
    verdict = "as in the log" if is_equal else "not what the log has: see the note"
    print(f"step {target_step}: loss {values['loss']:.6f}, gradient norm {values['grad_norm']:.6f}, {verdict}")


# ---- What is seen of a batch, before its step, by the model on one device; and how it is printed


def token_losses(objective: "Objective", model: "Model", batch: Batch, B: int) -> np.ndarray:
    """The loss of each token of a text, (rows, T), in nats, in parts of B sequences, as the run itself has it."""
    import jax

    from jaxgpt.objectives import next_token
    from jaxgpt.runtime import device

    x, y, losses_of = batch["tokens"], _next_tokens(batch), jax.jit(next_token.token_losses)
    parts = (device.put((x[i : i + B], y[i : i + B])) for i in range(0, len(x), B))
    return np.concatenate([jax.device_get(losses_of(model, *part)) for part in parts])


def answer_metrics(objective: "Objective", model: "Model", batch: Batch, B: int) -> dict[str, np.ndarray]:
    """What an objective measures of each pair of answers or rated answer by itself, its loss unweighted.

    Each is (rows,); and `rewards` are those of a reward model, in the shape of `last`.
    """
    import jax

    from jaxgpt.objectives.base import mean
    from jaxgpt.objectives.preferences import rewards_of
    from jaxgpt.runtime import device

    def of_row(row: dict[str, jax.Array]) -> dict[str, jax.Array]:
        row = {name: value[None] for name, value in row.items()}
        metrics = objective.loss(model, row | {"weight": jax.numpy.ones(1)}, None)
        rewards = {"rewards": rewards_of(model, row)[0]} if objective.labels else {}
        return {name: mean(metric) for name, metric in metrics.items()} | rewards

    return jax.device_get(jax.jit(lambda batch: jax.lax.map(of_row, batch))(device.put(batch)))


def _next_tokens(batch: Batch) -> np.ndarray:
    y = batch["targets"]
    return y if y.ndim == 2 else y[:, 0]  # of several tokens, the next one


def print_text(
    batch: Batch, origins: Sequence[tuple[str, int]], losses: np.ndarray, tokenizer: Tokenizer | None
) -> None:
    """Print each sequence's tokens but for the first, which nothing predicts: place and loss.

    Args:
      origins: the text that each sequence is from, and where it starts there.
      losses: (B, T), in nats.
      tokenizer: with one, the sequence's text comes before, and the id and text of each token behind its loss.
    """
    last = _next_tokens(batch)[:, -1]
    last = np.where(last < 0, (tokenizer and tokenizer.end) or 0, last)  # it was erased
    tokens = np.column_stack([batch["tokens"], last])
    B, several = len(losses), len({name for name, _ in origins}) > 1
    for i, (name, start) in enumerate(origins):
        origin = f", from {escape(name)}" * several
        title = f"--- sequence {i + 1} of {B}{origin}, loss {losses[i].mean():.4f}"
        print_lines(title, tokens[i], tokenizer)
        for t, (token, loss) in enumerate(zip(tokens[i, 1:].tolist(), losses[i], strict=True), 1):
            text = f" {token:>6}  {tokenizer.decode([token])!r}" if tokenizer else ""
            print(f"{start + t:>12} {loss:9.4f}{text}")


def print_lines(title: str, tokens: np.ndarray, tokenizer: Tokenizer | None) -> None:
    """Print a title, and with a tokenizer a text whose lines begin with a bar."""
    if tokenizer is None:
        print(title)
        return
    lines = tokenizer.decode(tokens.tolist()).split("\n")
    print(title, *(escape(line, keep="\t") for line in lines), sep="\n| ")


def print_answers(
    batch: Batch, origins: Sequence[tuple[str, int]], seen: dict[str, np.ndarray], tokenizer: Tokenizer | None
) -> None:
    """Print each pair of answers, or each rated one: its line, and what the model thinks of its answers.

    Args:
      origins: the file of each row, and its line.
      seen: of answer_metrics.
      tokenizer: with one, the texts of the prompt and the answers too.
    """
    is_pair = batch["tokens"].ndim == 3
    for i, (name, line) in enumerate(origins):
        title = f"--- {'pair' if is_pair else 'answer'} {i + 1} of {len(origins)}, line {line:,} of {escape(name)}"
        weight = batch["weight"][i].item()
        title += f", loss {seen['loss'][i]:.4f}" + f" of weight {weight:g}" * (weight != 1)
        title += f", margin {seen['margin'][i]:.4f}" if is_pair else ""
        if "rewards" in seen and (wanted := batch["margin"][i].item()):
            title += f", {wanted:g} wanted"
        start, sequences = batch["start"][i], np.atleast_2d(batch["tokens"][i])
        print(title)
        print_lines(f"prompt of {plural(int(start), 'token')}", sequences[0, :start], tokenizer)
        kinds = ["chosen", "rejected"] if is_pair else [["bad", "good"][batch["good"][i]]]
        for j, (kind, sequence, last) in enumerate(zip(kinds, sequences, batch["last"][i].ravel(), strict=True)):
            answer, size = sequence[start : last + 1], plural(int(last + 1 - start), "token")
            print_lines(f"{kind} of {size}, {describe_answer(batch, seen, i, j, kind)}", answer, tokenizer)


def describe_answer(batch: Batch, seen: dict[str, np.ndarray], row: int, answer: int, kind: str) -> str:
    """What the model thinks of an answer, and the reference, if there is one."""
    if "rewards" in seen:
        return f"reward {seen['rewards'][row, answer]:.4f}"
    name = {"good": "chosen", "bad": "rejected"}.get(kind, kind)
    text = f"log-probability {seen[f'{name}_log_prob'][row]:.4f}"
    return text + (f", the reference's {batch['reference'][row].ravel()[answer]:.4f}" if "reference" in batch else "")


KINDS = {  # of data: what is seen of a batch, and how it is printed
    "text": (token_losses, print_text),
    "preferences": (answer_metrics, print_answers),
    "ratings": (answer_metrics, print_answers),
}

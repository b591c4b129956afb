"""How a run begins: its length, its first state or that of its newest checkpoint, and what config.json says of it."""

import contextlib
import functools
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxgpt.console import plural, say
from jaxgpt.data.base import Dataset
from jaxgpt.data.gpt2_tokenizer import GPT2_TOKENIZER
from jaxgpt.errors import require
from jaxgpt.progress_bar import stage
from jaxgpt.runs.folder import write_config
from jaxgpt.runs.weights import WeightsRef
from jaxgpt.runtime.config import mesh_flag
from jaxgpt.training.announce import announce_resume, describe_head_changes
from jaxgpt.training.config import TrainConfig
from jaxgpt.training.erased import known_identity
from jaxgpt.training.resume import require_compatible

if TYPE_CHECKING:  # JAX is imported when the flags are known to be right
    from jaxgpt.runs.checkpoint import Checkpoints
    from jaxgpt.runs.progress import Progress, Run
    from jaxgpt.training.private_run import PrivateRun
    from jaxgpt.training.setup import Trainer


def resolve_steps(config: TrainConfig, batches_per_epoch: float, done: int = 0, lead: float = 0) -> TrainConfig:
    """The flags with --steps, where the length of the run is given in --epochs.

    Epochs are counted in tokens, so that B, T and accumulate may change when a run resumes.

    Args:
      done: steps done.
      lead: as `lead_of` has it.
    """
    epochs = config.run.epochs
    if epochs is None:
        return config
    left = math.ceil(round(epochs * batches_per_epoch - (done + lead), 6))  # 100 epochs of 7 rows in steps of 100 are 7
    steps = max(1, done + left)
    require(steps <= 10**8, "epochs", epochs, f"shorter: they are {steps:,} steps, and 100,000,000 the most")
    return config.replace(steps=steps)


def lead_of(run: "Run | Progress", data: Dataset) -> float:
    """How many steps more a run would have done, had its batches always been as large as they are now."""
    return run.tokens_seen / (data.B * data.T) - run.step


def begin(config: TrainConfig, trainer: "Trainer", weights: WeightsRef | None, labels: Sequence[str]) -> "Run":
    """A run before its first step."""
    from jaxgpt.runs.progress import Run
    from jaxgpt.training.setup import head_numbers

    origin = f" from the weights of {weights.name}" if weights else ""
    say("run", f"{config.run.out}: {plural(config.run.steps, 'step')}{origin}")
    if weights and (note := describe_head_changes(config.preset.predict_tokens, weights.config.predict_tokens)):
        say("note", note)
    if weights and weights.labels and labels:
        kept = "is the weights' own" if head_numbers(weights, labels) else "is new: the weights have other labels"
        say("note", f"the head for {'labels' if len(labels) > 1 else f'{labels[0]}s'} {kept}")
    with stage("making the model and the optimizer's state"):
        return Run(trainer.init_state(config.run.seed, weights, labels))


def resume(
    config: TrainConfig, checkpoints: "Checkpoints", trainer: "Trainer", data: Dataset, signature: dict[str, Any]
) -> "tuple[TrainConfig, Run | None]":
    """The run as its newest good checkpoint has it, None if there is no checkpoint; and the flags with its length.

    Raises:
      CheckpointError: the checkpoints are corrupt, or of another run.
    """
    from jaxgpt.runs.progress import Run

    checkpoint = checkpoints.resume(
        trainer.shapes,
        lambda saved, where: require_compatible(
            known_identity(saved, data, where), signature, where, config.data.allow_other_data, data.name
        ),
        lambda problem: say("note", f"{problem}; skipped"),
    )
    if checkpoint is None:
        return config, None
    saved, state = checkpoint
    position = data.resume_position(saved.position)
    config = resolve_steps(config, data.batches_per_epoch(), saved.step, lead_of(saved, data))
    if saved.step < config.run.steps:
        announce_resume(config, saved, position, signature)
    return config, Run(state, saved.step, position, saved.tokens_seen, saved.best, saved.unvalidated)


def make_config_writer(
    config: TrainConfig,
    process_dir: Path,
    data: Dataset,
    labels: Sequence[str],
    weights: WeightsRef | None,
    trainer: "Trainer",
    device_name: str,
    step: int,
    step_bytes: int | None,
    private: "PrivateRun | None" = None,
) -> Callable[[], None]:
    """A function that writes config.json of a run that this process starts at a step.

    Args:
      labels: of the model's head.
      step_bytes: of CompiledTrainer.
      private: of a private run, whose secret it writes too; None: it is none.
    """
    import jax

    base = str(Path(weights.name).resolve()) if weights and weights.folder else config.preset.init_from
    facts = {"device_name": device_name, "corpus": data.name, "fingerprint": data.fingerprint}
    facts |= {"tokenizer_sha256": data.tokenizer.sha256, "vocab_size": trainer.model.vocab_size}
    facts |= {"data_kind": data.kind, "is_chat": data.is_chat, "labels": list(labels), "base": base}
    if private:
        facts["privacy"] = private.record
    with contextlib.suppress(FileNotFoundError):  # the folder was deleted meanwhile
        facts["cwd"] = os.getcwd()  # of which relative names are
    start = {name: config.flat()[name] for name in ("B", "T", "accumulate", "steps")}
    start |= {"step": step, "dtype": trainer.model.dtype, "fingerprint": data.fingerprint}
    start |= {"mesh": mesh_flag(trainer.mesh.shape), "processes": jax.process_count(), "step_bytes": step_bytes}
    kept = {} if data.tokenizer == GPT2_TOKENIZER else data.tokenizer.hugging_face_files(trainer.model.block_size)
    write = functools.partial(write_config, process_dir, config.flat() | facts, start, kept)
    return functools.partial(private.keep_with, write, config.run.out) if private else write

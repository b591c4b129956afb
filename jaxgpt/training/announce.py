"""What a run prints beside its steps: its data, its devices, where it resumes, and the commands that come next."""

import shlex
from typing import TYPE_CHECKING, Any

from jaxgpt import console
from jaxgpt.console import plural, say
from jaxgpt.data.base import Dataset
from jaxgpt.data.config import DataConfig, FieldNames
from jaxgpt.data.datasets import is_examples
from jaxgpt.errors import DataError
from jaxgpt.runtime.config import mesh_flag
from jaxgpt.training.config import TrainConfig
from jaxgpt.training.resume import resume_command

if TYPE_CHECKING:  # JAX is imported when the flags are known to be right
    from jaxgpt.runs.progress import Progress
    from jaxgpt.training.setup import Trainer


def announce_data(config: DataConfig, data: Dataset, validation: Dataset | None) -> float:
    """Print the data, and return the batches of an epoch."""
    try:
        batches_per_epoch = data.batches_per_epoch()
    except ValueError as error:
        raise DataError(f"{data.name}: {error}; use a longer text, or smaller --B, --accumulate or --T") from None
    rows = f"{config.accumulate}*{config.B}" if config.accumulate > 1 else f"{config.B}"
    say("corpus", f"{data}, {plural(batches_per_epoch, 'batch', 'batches')} per epoch of {rows}*{config.T}")
    for dataset in filter(None, (data, validation)):
        for note in dataset.notes:
            say("note", f"{dataset.name}: {note}")
    if validation:
        say("val", str(validation))
    return batches_per_epoch


def announce_trainer(config: TrainConfig, trainer: "Trainer", device_name: str) -> None:
    """Print a run's devices and model."""
    import jax

    mesh, model, flags = trainer.mesh, trainer.model, config.model
    of_processes = f" of {jax.process_count()} processes" if jax.process_count() > 1 else ""
    axes = {name: size for name, size in mesh.shape.items() if size > 1}
    say("device", device_name + (f": {mesh.size} devices{of_processes} as {mesh_flag(axes)}" if axes else ""))
    if mesh.size < jax.device_count() and config.parallel.axes is None:
        hint = f"--B {config.data.B} is not divisible by more; use a multiple of {jax.device_count()} for all"
        say("note", f"uses {mesh.size} of {jax.device_count()} devices: {hint}")
    parts = (trainer.shapes.model, trainer.frozen.base)
    trained, frozen = (sum(leaf.size for leaf in jax.tree.leaves(part)) for part in parts)
    adapters = f"; {trained:,} of them are trained: rank {flags.lora} on {flags.lora_on}" * bool(flags.lora)
    say("model", f"{trained + frozen:,} parameters: {model}, {model.dtype}{adapters}")


def describe_head_changes(n_heads: int, n_loaded: int) -> str:
    """A note on a run with more or fewer heads than the weights it begins with; "" if there is no difference."""
    if n_heads < n_loaded:
        skipped = n_loaded - n_heads
        which = "the last one is" if skipped == 1 else f"the last {skipped} are"
        return f"of the weights' {n_loaded} heads, {which} left out; see --predict-tokens"
    new = n_heads - n_loaded
    if new == 1:
        return f"the last of {n_heads} heads is new, and begins as a copy of the first"
    return f"the last {new} of {n_heads} heads are new, and begin as copies of the first" * (new > 0)


def announce_resume(config: TrainConfig, saved: "Progress", position: int, signature: dict[str, Any]) -> None:
    """Print where a run resumes, and what changes from here on."""
    steps = config.run.steps
    say("run", f"{config.run.out}: resumes from step {saved.step:,}, position {position:,}, to {plural(steps, 'step')}")
    if saved.identity.get("corpus") != signature["corpus"]:
        erased = "some of the text was erased since, which no step before this one has read"
        say("note", "the text is a different one from here on" if config.data.allow_other_data else erased)
    for name in ("B", "T", "accumulate"):
        if getattr(saved, name) != getattr(config.data, name):
            say("note", f"--{name} was {getattr(saved, name)} and is {getattr(config.data, name)} from here on")
    if saved.steps != steps and config.optimizer.lr_depends_on_steps:
        length = f"--steps was {saved.steps:,}, is {steps:,}"
        if config.run.epochs is not None:
            length = f"--epochs {config.run.epochs:g} are {steps:,} steps, and were {saved.steps:,}"
        say("note", f"{length}: the learning rate follows the new schedule")


def print_next_commands(config: TrainConfig, data: Dataset, done: int) -> None:
    """Print the commands that come next."""
    # Else the learning rate would leap up to the longer schedule, or the noise would be too small for more steps.
    if not config.optimizer.lr_depends_on_steps and not config.privacy.is_private:
        epochs = config.run.epochs
        longer = {"steps": 2 * done} if epochs is None else {"epochs": 2 * epochs}
        print_resume_command(config, **longer)
    out = str(config.run.out)
    if data.labels or data.kind == "scores":
        val = config.data.val
        command, file = ("evaluate", val) if val and is_examples(val, config.fields) else ("predict", config.data.data)
        fields = config.fields if command == "evaluate" else FieldNames(text_field=config.fields.text_field)
        say(command, f"{console.program(command)} {shlex.join([out, '--data', file, *fields.words])}")
    elif data.kind == "rollouts" and config.rollout.env:
        say("evaluate", f"{console.program('evaluate')} {shlex.join([out, '--env', config.rollout.env])}")
    elif data.kind in ("preferences", "ratings"):
        print_judging_command(config)
    elif data.kind == "masked":
        has_file = config.data.val and not config.data.val_fraction
        text = config.data.val if has_file else config.data.data
        say("evaluate", f"{console.program('evaluate')} {shlex.join([out, '--data', text])}")
    else:
        say("sample", f"{console.program('sample')} {shlex.join([out, '--prompt', 'Once upon a time'])}")


def print_judging_command(config: TrainConfig) -> None:
    """Print the command that judges a run by the answers of --val, if that is a file; else one to begin with."""
    from jaxgpt.objectives import OBJECTIVES

    out, objective = str(config.run.out), OBJECTIVES[config.preset.objective]
    has_file = config.data.val is not None and not config.data.val_fraction
    if not has_file and not objective.labels:
        return say("sample", f"{console.program('sample')} {shlex.join([out, '--prompt', 'Once upon a time'])}")
    words = [out, "--pairs", config.data.val if has_file else config.data.data, *config.fields.words]
    words += ["--reference", str(config.preset.init_from)] if objective.reference else []
    say("evaluate", f"{console.program('evaluate')} {shlex.join(words)}")


def print_resume_command(config: TrainConfig, **changes: object) -> None:
    """Print the command that resumes a run, with these changes; with several processes, process 0's."""
    import jax

    say("resume", resume_command(config, **changes))
    if (n := jax.process_count()) > 1:
        flags = "--process-id 1" + f" to {n - 1}" * (n > 2)
        by_launcher = config.parallel.process_id is None  # as by srun
        say("others", f"all {n} by the launcher of this run" if by_launcher else f"the same command with {flags}")

"""A run from its flags to its last checkpoint."""

import contextlib
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxgpt.console import plural, say
from jaxgpt.data.base import Dataset
from jaxgpt.data.cache import cache_folder
from jaxgpt.errors import CheckpointError, UsageError
from jaxgpt.files import owner_only
from jaxgpt.reports.trackers import require_installed
from jaxgpt.runs import folder
from jaxgpt.runs.folder import FolderGuard, RunLock
from jaxgpt.runs.weights import WeightsRef
from jaxgpt.runtime import allocator, distributed
from jaxgpt.signals import stop_signals
from jaxgpt.training.announce import (
    announce_data,
    announce_trainer,
    print_next_commands,
    print_resume_command,
)
from jaxgpt.training.begin import begin, lead_of, make_config_writer, resolve_steps, resume
from jaxgpt.training.config import TrainConfig
from jaxgpt.training.measurements import Measurements, load_measurements, make_validator, require_measurable
from jaxgpt.training.privacy_config import require_accounting
from jaxgpt.training.resume import (
    require_encoder,
    require_output,
    require_same_tokenizer,
    require_sample_prompt,
    run_signature,
)
from jaxgpt.training.rollouts import load_data
from jaxgpt.training.tracking import TrackerProcess

if TYPE_CHECKING:  # JAX is imported when the flags are known to be right
    from jaxgpt.runs.progress import Run
    from jaxgpt.training.log import MetricsLog


def run(config: TrainConfig, weights: WeightsRef | None) -> int:
    """Train, and return the exit code. The first state has these weights; None: random ones."""
    parallel = config.parallel
    require_output(config, weights)
    if config.run.track != "none":
        require_installed(config.run.track)
    if config.privacy.is_private:
        require_accounting()
    process = distributed.detect_process(parallel.coordinator, parallel.num_processes, parallel.process_id)
    out = config.run.out
    with owner_only(out), distributed.distributed_context(process, out) as process_dir:
        data, validation = load_data(config)
        if weights:
            require_same_tokenizer(config, data.tokenizer, weights.tokenizer)
        require_encoder(config, data, weights)
        require_sample_prompt(config, data)
        measurements = load_measurements(config, data, validation)
        batches_per_epoch = announce_data(config.data, data, validation)
        if measurements.monitor:
            say("bias", str(measurements.monitor))
        config = resolve_steps(config, batches_per_epoch)
        tracker = TrackerProcess(process_dir, config.run.track if process.id == 0 else "none")
        with tracker, RunLock(process_dir) as lock, stop_signals() as received:
            inputs = data, validation, measurements, weights
            return run_locked(config, process_dir, *inputs, lock, received, tracker)


def run_locked(
    config: TrainConfig,
    process_dir: Path,
    data: Dataset,
    validation: Dataset | None,
    measurements: Measurements,
    weights: WeightsRef | None,
    lock: RunLock,
    received: list[int],
    tracker: TrackerProcess,
) -> int:
    """Train in a folder that this process holds, and return the exit code.

    Args:
      process_dir: the folder for what this process alone writes, as distributed.distributed_context gives it.
      weights: what the first state has; None: random ones.
      received: signals to stop, to which more may be added meanwhile.
      tracker: to be started.
    """
    # Imported here and not above, so that a wrong flag, file or folder is refused within a second.
    import dataclasses

    import jax

    from jaxgpt.runs.checkpoint import Checkpoints
    from jaxgpt.runs.fingerprint import combined_fingerprint
    from jaxgpt.runtime import device
    from jaxgpt.runtime.mesh import device_bytes, local_rows
    from jaxgpt.runtime.profiler import Profiler
    from jaxgpt.training.answers import AnswersFile
    from jaxgpt.training.log import MetricsLog
    from jaxgpt.training.loop import train
    from jaxgpt.training.optimizer import updates_done
    from jaxgpt.training.policy import add_policy
    from jaxgpt.training.probe import make_probe
    from jaxgpt.training.reference import add_reference
    from jaxgpt.training.samples import Sampler
    from jaxgpt.training.setup import LESS_MEMORY, build_trainer, choose_mesh, objective_of

    # ---- What is static: devices, model, optimizer, and which run this is.
    out = config.run.out
    allocator.use_one_heap()
    device_name = device.select(config.parallel.device, config.parallel.deterministic)
    if jax.process_count() == 1:  # of several, those that find a program would leave the others alone with tuning it
        device.keep_compiled(cache_folder() / "compiled")
    objective = objective_of(config, data.kind, data.labels)
    if (most := config.post_training.max_drop) is not None and not objective.reference:
        lacks = f"--objective {objective.name} has no reference to measure a drop from"
        raise UsageError(f"--max-drop {most:g}: {lacks}; leave it out")
    if most is not None and data.kind == "ratings" and not validation.table["good"].any():
        raise UsageError(f"--max-drop {most:g}: --val has no good answer, whose drop is measured; add some to it")
    vocab_size = weights.config.vocab_size if weights else data.tokenizer.vocab_size
    sized = config.with_vocabulary(vocab_size)
    mesh = choose_mesh(sized, objective)
    require_measurable(config, mesh.size, objective)
    trainer = build_trainer(sized, mesh, objective)
    device.require_addresses(5 * device_bytes(trainer.shapes) // 2)  # it, a copy for a save, a gradient
    data = dataclasses.replace(data, rows=local_rows(trainer.sharding, data.B))
    if validation:
        validation = dataclasses.replace(validation, rows=local_rows(trainer.sharding, validation.B))
    announce_trainer(config, trainer, device_name)
    reference, interrupted = None, lambda: bool(received) and jax.process_count() == 1
    if objective.reference:
        with device.memory_errors(LESS_MEMORY):
            (data, validation), reference = add_reference(
                objective, trainer, weights, config.data.B, data, validation, interrupted=interrupted
            )
    private = None
    if config.privacy.is_private:
        from jaxgpt.training.private_run import make_private  # which brings dp-accounting: only here

        data, private = make_private(config, data, trainer)
    with device.memory_errors("the weights of --init-from alone are too large"):
        frozen = trainer.init_frozen(config.run.seed, weights, private and private.noise)
    if data.kind == "rollouts":
        (data, validation), reference = add_policy(config, trainer, objective, weights, frozen, data, validation)
    base = None if frozen.base is None else int(combined_fingerprint(frozen.base))
    signature = run_signature(config, data, trainer.model.dtype, base, reference)
    if private:
        signature |= private.signature
    if objective.labels:  # of the head, as config.json has them; a reward's are not the data's
        signature |= {"labels": list(objective.labels)}
    require_one_run(config, signature, validation)
    if interrupted():  # several stop together, after a step
        say("stopped", "before the first step; nothing was changed")
        return 128 + received[0]

    with contextlib.ExitStack() as stack:
        stack.enter_context(device.memory_errors(LESS_MEMORY))

        # ---- Where the run stands: at its newest checkpoint, or at the beginning.
        about = {name: config.flat()[name] for name in ("B", "T", "accumulate", "steps")} | {"identity": signature}
        save_every, keep_every = config.run.save_every, config.run.keep_every
        checkpoints = stack.enter_context(Checkpoints(out / "checkpoints", save_every, about, keep_every))
        resumed = None
        if not config.run.fresh:
            config, resumed = resume(config, checkpoints, trainer, data, signature)
        checkpoints.about["steps"] = steps = config.run.steps
        unvalidated = (validation or measurements.monitor) and resumed and resumed.unvalidated and resumed.step == steps
        if resumed and resumed.step >= steps and not unvalidated:
            say("run", f"{out}: already has {plural(resumed.step, 'step')}, of {steps:,} that were asked for")
            print_next_commands(config, data, resumed.step)
            return 0
        run = resumed or begin(config, trainer, weights, objective.labels)
        if config.run.epochs and (lead := lead_of(run, data)):
            sized = config.with_vocabulary(vocab_size)
            trainer = build_trainer(sized, mesh, objective, lead)
        saves = 1 + sum((steps - run.step) // n for n in (save_every, keep_every, config.run.eval_every) if n)
        kept = (steps - run.step) // keep_every if keep_every else 0
        old, _ = folder.find_old_run(out) if config.run.fresh else (None, None)
        if shortage := checkpoints.require_space(
            trainer.shapes, saves, best=validation is not None, old=old, kept=kept
        ):
            say("note", shortage)
        compiled = trainer.compile(frozen, data, validation)

        # ---- Train. Nothing is refused from here on, and nothing was touched before.
        distributed.all_processes(True)  # all could compile theirs
        lock.make()
        start = device_name, run.step, compiled.step_bytes, private
        write_run_config = make_config_writer(config, process_dir, data, objective.labels, weights, trainer, *start)
        write_run_config()
        if config.run.fresh:
            delete_old_run(process_dir)
        checkpoints.make()
        tracker.start()
        on_cpu = jax.default_backend() == "cpu"
        if on_cpu:
            allocator.keep_freed_memory()
        validator = make_validator(config, validation, measurements, compiled, data.tokenizer, frozen.base, interrupted)
        first = updates_done(run.state.opt_state) // config.rollout.updates
        updates = jax.numpy.arange(first, first + steps - run.step)
        learning_rates = jax.device_get(jax.vmap(trainer.schedule)(updates))
        every, block_size = config.run.probe_every, trainer.model.block_size
        probe = make_probe(every, data, frozen.base, block_size, mesh) if config.run.probe != "none" else None
        metrics_log = MetricsLog(
            process_dir / "log.jsonl",
            run.step,
            steps,
            learning_rates,
            config.run.skip_bad_steps,
            config.run.hash_every,
            objective.minimize,
            late=not on_cpu,
            probe=probe,
            loss_title="mlm loss" if data.kind == "masked" else "loss",
            show=objective.show,
            epsilon=private and private.epsilon(),
        )
        profiler = Profiler(process_dir / "profile", config.parallel.profile)
        guard = FolderGuard(lock, out, write_run_config)
        observers = [profiler, *[allocator.FreedMemory()] * on_cpu, guard, checkpoints, tracker]
        if config.run.sample_prompt is not None:
            due = validator.data_due if validation else lambda step: step == steps
            sampled = process_dir / "samples.jsonl", run.step, config.run.sample_prompt, data.tokenizer
            what = *sampled, config.run.seed, frozen.base
            sampler = stack.enter_context(Sampler(*what, due, metrics_log.pause, lambda: bool(received)))
            sampler.catch_up(run)
            observers.append(sampler)
        if data.kind == "rollouts" and config.rollout.show_every:
            written = process_dir / "answers.jsonl", run.step, config.rollout.show_every, data.tokenizer
            answers = stack.enter_context(AnswersFile(*written))
            data = dataclasses.replace(data, watch=answers.watch)
            observers.append(answers)
        stop_requested = distributed.make_stop_consensus(received)
        with metrics_log as log, profiler:
            run = train(run, steps, data, compiled, log, checkpoints, stop_requested, validator, observers)
    guard.after_step(run, {})  # the last save may have made the folder again
    return finish(config, run, data, log, process_dir, profiler.files, received)


def require_one_run(config: TrainConfig, signature: dict[str, Any], validation: Dataset | None) -> None:
    """Refuse processes that were not started with the same flags and data, or write to different folders."""
    # Paths may differ, the hashes of texts may not.
    local_flags = ("out", "data", "tokenizer", "mix", "val", "val_also", "coordinator", "process_id")
    flags = {name: value for name, value in config.flat().items() if name not in local_flags}
    distributed.require_same_on_all_processes(signature | flags | {"val": validation and validation.fingerprint})
    distributed.require_shared(config.run.out)


def delete_old_run(process_dir: Path) -> None:
    """--fresh: delete the run in a folder."""
    if deleted := folder.start_over(process_dir):
        say("note", f"--fresh: {deleted}")
    distributed.all_processes(True)  # it is deleted


def finish(
    config: TrainConfig,
    run: "Run",
    data: Dataset,
    log: "MetricsLog",
    process_dir: Path,
    trace: Path | None,
    received: list[int],
) -> int:
    """Print how a run ended and the commands that come next; the exit code."""
    out, steps = config.run.out, config.run.steps
    if config.parallel.profile:
        hint = f"{trace}: open the .trace.json.gz in ui.perfetto.dev, or the folder in TensorBoard"
        say("profile", hint if trace else "no step was traced: tracing begins at a start's fourth step")
    if run.step < steps or run.unvalidated:
        cause = "" if received else ", because another process got a signal"
        what = ", before the last validation was complete" * (run.step == steps)
        say("stopped", f"after {run.step:,} of {steps:,} steps{what}, saved in {out}/checkpoints/{run.step}{cause}")
        print_resume_command(config)
        return 128 + (received or [signal.SIGTERM])[0]  # or the signal was another process's
    say("done", log.summary())
    numbers = process_dir / "log.jsonl"  # or the folder was moved with them
    say("saved", f"{out}/checkpoints/{run.step}" + f"; every step's numbers in {numbers}" * numbers.exists())
    if (best := run.best) and (out / "checkpoints" / str(best.step)).exists():
        say("best", f"{out}/checkpoints/{best.step}, with {best}")
    print_next_commands(config, data, run.step)
    if not distributed.all_processes(not log.lost):
        lost = log.lost or "process 0 has lost rows"
        raise CheckpointError(f"{lost}; the checkpoint is ok: make room before the run resumes")
    return 0

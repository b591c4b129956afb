"""A run from its flags to its last checkpoint: where it stands, then step after step, and how it ends."""

import contextlib
import dataclasses
import functools
import math
import shlex
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxgpt import console
from jaxgpt.data.datasets import Data, is_examples, load
from jaxgpt.errors import CheckpointError, DataError, UsageError, require
from jaxgpt.runs.folder import cache_folder, open_run, start_over, write_config
from jaxgpt.runs.weights import Source
from jaxgpt.runtime import allocator, distributed
from jaxgpt.training import validation
from jaxgpt.training.config import TrainConfig, mesh_flag
from jaxgpt.training.resume import command, identity, require_same

if TYPE_CHECKING:  # JAX is imported when the flags are known to be right
    from jax.sharding import Mesh, NamedSharding

    from jaxgpt.runs.progress import Progress
    from jaxgpt.training.setup import Training
    from jaxgpt.training.step import Fixed, TrainState


def run(config: TrainConfig, weights: Source | None) -> int:
    """Train, and return the exit code. The first state has these weights; None: random ones."""
    here = distributed.place(config.coordinator, config.num_processes, config.process_id)
    with distributed.joined(here, config.out) as own:
        data, held = load(config)
        config = dataclasses.replace(config, steps=introduced(config, data, held))
        with open_run(own) as hold_again, console.stop_signals() as stopping:
            return train(config, own, data, held, weights, hold_again, stopping)


def introduced(config: TrainConfig, data: Data, held: Data | None) -> int:
    """Say what is trained on; the length of the run in steps."""
    B, T = config.B * config.accumulate, config.T
    if data.note:
        say("note", f"{data.note}. Training on {data.name} instead")
    try:
        per_epoch = data.per_epoch(B, T)
    except ValueError as error:
        raise DataError(f"{data.name}: {error}; use a longer text, or smaller --B, --accumulate or --T") from None
    rows = f"{config.accumulate}*{config.B}" if config.accumulate > 1 else f"{config.B}"
    say("corpus", f"{data}, {per_epoch:,.10g} batches per epoch of {rows}*{T}")
    for each in (data, held) if held else (data,):
        for note in each.notes:
            say("note", f"{each.name}: {note}")
    if held:
        say("held out", str(held))
    if config.epochs is None:
        return config.steps
    steps = max(1, math.ceil(round(config.epochs * per_epoch, 6)))  # 100 epochs of 7 rows in steps of 100 are 7
    require(steps <= 10**8, "epochs", config.epochs, f"shorter: they are {steps:,} steps, and 100,000,000 the most")
    return steps


def train(
    config: TrainConfig,
    own: Path,
    data: Data,
    held: Data | None,
    weights: Source | None,
    hold_again: Callable[[], bool],
    stopping: list[int],
) -> int:
    """Train until config.steps are done or `stopping` holds a signal, and return the exit code.

    The first state has these weights; None: random ones. What is `held` out is measured. `own` is the folder for what
    this process alone writes, as processes.joined gives it; `hold_again` is of folder.open_run.
    """
    # Imported here and not above, so that a wrong flag, file or folder is refused within a second.
    import jax

    from jaxgpt.objectives.base import objective_of
    from jaxgpt.runs.checkpoint import Checkpoints
    from jaxgpt.runs.fingerprint import combined
    from jaxgpt.runs.progress import Progress
    from jaxgpt.runtime import device
    from jaxgpt.runtime.mesh import device_bytes, own_rows, sequences
    from jaxgpt.runtime.profiler import Trace
    from jaxgpt.training.log import Report
    from jaxgpt.training.setup import mesh_of, training

    # ---- What is static: device, model, optimizer.
    B, T = config.B * config.accumulate, config.T  # of one optimizer step
    allocator.use_one_heap()
    device_name = device.select(config.device, config.deterministic)
    if jax.process_count() == 1:  # of several, those that find a program would leave the others alone with tuning it
        device.keep_compiled(cache_folder() / "compiled")
    objective = objective_of(data.kind, len(data.labels), config.predict_tokens)
    mesh = mesh_of(config, objective)
    static, rows = training(config, mesh, objective), sequences(mesh)
    here = own_rows(rows, B)
    shapes = static.shapes
    say_static(config, static, mesh, device_name)
    with device.memory_errors("the weights of --init-from alone are too large"):
        fixed = static.first_fixed(config.seed, weights)
    more = {} if fixed.base is None else {"base": f"{int(combined(fixed.base)):08x}"}
    if data.kind != "text":
        more |= {"T": T, "labels": list(data.labels)}
    elif data.by_rows:  # windows of another T would be others: none of those that are left to see
        more |= {"order": f"T={T} {config.order}"}
    same = identity(config, data.fingerprint, static.model.dtype) | more
    # Paths may differ, the hashes of texts may not.
    own_flags = ("out", "data", "mix", "val", "coordinator", "process_id")
    alike = {name: value for name, value in vars(config).items() if name not in own_flags}
    distributed.require_alike(same | alike | {"val": held and held.fingerprint})
    distributed.require_shared(config.out)
    out, log = config.out, own / "log.jsonl"
    if stopping and jax.process_count() == 1:  # several stop together, after a step
        say("stopped", "before the first step; nothing was changed")
        return 128 + stopping[0]
    less = "use a smaller --B (and --accumulate), --T or --size, or --remat full"

    def compiled(more: int = 0) -> tuple[Callable, Callable | None]:
        """The step, and the measuring of what is held out; what takes too much is refused."""
        programs = [static.compiled_step(data.batch(0, B, T, slice(1))[:-1], B, fixed)]  # the shapes are those of one
        programs += [static.compiled_measure(next(held.once(1, T)), config.B, fixed) if held else None]
        for program in filter(None, programs):
            device.require_memory(program.memory_analysis(), more, less, len(mesh.local_devices))
        return tuple(programs)

    with contextlib.ExitStack() as stack:
        stack.enter_context(device.memory_errors(less))
        if config.fresh:  # what can't run shall not delete what has run
            step_fn, measure_fn = compiled(more=device_bytes(shapes))
            distributed.all_agree(True)  # all can run
            if start_over(own):
                say("note", f"--fresh: deleted the run that was in {out}")
            distributed.all_agree(True)  # it is deleted
        checkpoints = stack.enter_context(Checkpoints(out / "checkpoints"))

        # ---- Where the run stands: at its newest checkpoint, or at the beginning.
        flags = {name: getattr(config, name) for name in ("B", "T", "accumulate", "steps")}
        now = Progress(step=0, position=0, tokens_seen=0, **flags, identity=same)
        found = checkpoints.newest(
            shapes,
            allow=lambda saved, where: require_same(saved.identity, same, where, config.allow_other_data),
            tell=lambda damage: say("note", f"{damage}; it is passed over"),
        )
        if found is None:
            state = static.first_state(config.seed, weights)
            origin = f" from the weights of {weights.name}" if weights else ""
            say("run", f"{out}: {config.steps:,} steps{origin}")
            if weights and (note := note_on_heads(config.predict_tokens, weights.config.predict_tokens)):
                say("note", note)
        else:
            saved, state = found
            if saved.step >= config.steps:
                say("run", f"{out}: already has {saved.step:,} steps, and {config.steps:,} were asked for")
                say_next(config, data, saved.step)
                return 0
            now = gone_on(config, data, saved, now)
        saves = 1 + sum((config.steps - now.step) // n for n in (config.save_every, config.eval_every) if n)
        if lack := checkpoints.require_space(shapes, saves, best=held is not None):
            say("note", lack)

        # ---- The loop. Nothing but device.put may move data to the device.
        if not config.fresh:
            step_fn, measure_fn = compiled()
        describe = functools.partial(
            write_config,
            own,
            vars(config)
            | {"device_name": device_name, "corpus": data.name, "fingerprint": data.fingerprint}
            | {"objective": data.kind, "labels": list(data.labels)}
            | {"base": str(Path(weights.name).resolve()) if weights and weights.folder else config.init_from},
            start={
                "step": now.step,
                **flags,
                "dtype": static.model.dtype,
                "fingerprint": data.fingerprint,
                "mesh": mesh_flag(mesh.shape),
                "processes": jax.process_count(),
            },
        )
        describe()
        on_cpu = jax.default_backend() == "cpu"
        if on_cpu:
            allocator.keep_what_is_freed()
        start = now.step
        vote = distributed.votes()
        lrs = jax.device_get(jax.vmap(static.schedule)(jax.numpy.arange(start, config.steps)))
        with (
            Report(log, start, config.steps, config.skip_bad_steps, config.predict_tokens) as report,
            Trace(own / "profile", config.profile) as trace,
            jax.transfer_guard("disallow"),
        ):
            while now.step < config.steps:
                trace.before(now.step - start, state)
                *batch, next_position = data.batch(now.position, B, T, here)
                state, metrics = step_fn(state, device.put(*batch, to=rows), fixed)
                if config.hash_every and (now.step + 1) % config.hash_every == 0:
                    metrics["state"] = combined(state)
                facts = {"step": now.step, "lr": float(lrs[now.step - start]), "position": now.position}
                tokens_seen = now.tokens_seen + B * T
                best, numbers = now.best, {}
                if held and evaluates(config, now.step + 1):
                    jax.block_until_ready(metrics)
                    with report.aside():
                        numbers = measure(measure_fn, state, fixed, held, config, rows, stopping)
                    best = better_of(best, now.step + 1, numbers, of=f"{held.fingerprint} in windows of {T}")
                report.add(facts | {"tokens_seen": tokens_seen}, B * T, metrics, numbers)
                if on_cpu:  # there, a second step in flight gains nothing and takes the memory of one
                    report.flush()
                    allocator.wait_until_freed()
                with contextlib.suppress(UsageError):  # a new folder can't be made now: what can't be saved is told
                    if hold_again():
                        say("note", f"{out} was moved or deleted, with all in it; the run goes on in a new one")
                        describe()
                better = best != now.best
                now = dataclasses.replace(
                    now, step=now.step + 1, position=next_position, tokens_seen=tokens_seen, best=best
                )
                if problem := checkpoints.problem():
                    say("note", f"{problem}; the run goes on")
                ending = vote(bool(stopping)) or now.step == config.steps
                due = config.save_every and now.step % config.save_every == 0
                if ending or due or better or checkpoints.retry(now.step):
                    report.flush()  # which ends a run whose loss is not finite, before that state is saved
                    checkpoints.save(state, now)
                if ending:
                    break

    if config.profile:
        said = f"{trace.files}: open the .trace.json.gz in ui.perfetto.dev, or the folder in TensorBoard"
        say("profile", said if trace.files else "no step was traced: the fourth of a start is the first that is")
    if now.step < config.steps:
        why = "" if stopping else ", because another process got a signal"
        say("stopped", f"after {now.step:,} of {config.steps:,} steps, saved in {out}/checkpoints/{now.step}{why}")
        say("go on", again(config))
        return 128 + (stopping or [signal.SIGTERM])[0]  # or the signal was another process's
    say("done", report.summary())
    say("saved", f"{out}/checkpoints/{now.step}; every step's numbers in {log}")
    if (best := now.best) and (out / "checkpoints" / str(best["step"])).exists():
        say("best", f"{out}/checkpoints/{best['step']}, with a held-out loss of {best['loss']:.4f}")
    say_next(config, data, now.step)
    if not distributed.all_agree(not report.lost):
        lost = report.lost or "the first process has lost rows"
        raise CheckpointError(f"{lost}; the checkpoint is whole: make room before the run goes on")
    return 0


def say_static(config: TrainConfig, static: "Training", mesh: "Mesh", device_name: str) -> None:
    """Say where a run is, and what of."""
    import jax

    several = f" of {jax.process_count()} processes" if jax.process_count() > 1 else ""
    axes = {name: size for name, size in mesh.shape.items() if size > 1}
    say("device", device_name + (f": {mesh.size} devices{several} as {mesh_flag(axes)}" if axes else ""))
    if mesh.size < jax.device_count() and config.axes is None:
        more = f"--B {config.B} can't be shared equally by more; use a multiple of {jax.device_count()} for all"
        say("note", f"{mesh.size} of {jax.device_count()} devices are used: {more}")
    parts = (static.shapes.model, static.fixed.base)
    trained, frozen = (sum(leaf.size for leaf in jax.tree.leaves(part)) for part in parts)
    several = f" (a trunk of {config.n_layer - config.predict_tokens}, and one for each of the next tokens)"
    layers = f"{config.n_layer} layers{several * (config.predict_tokens > 1)}"
    shape = f"{layers}, {config.n_head} heads, width {config.n_embd}"
    adapters = f"; {trained:,} of them are trained: rank {config.lora} on {config.lora_on}" * bool(config.lora)
    say("model", f"{trained + frozen:,} parameters: {shape}, {static.model.dtype}{adapters}")


def note_on_heads(wanted: int, there: int) -> str:
    """What is to be said of a run that predicts so many tokens, from weights that predict so many; "" if nothing."""
    if wanted < there:
        return f"of the weights' heads for {there} tokens the last {there - wanted} are left out; see --predict-tokens"
    return f"the last {wanted - there} of {wanted} heads are new, and begin as copies of the first" * (wanted > there)


def evaluates(config: TrainConfig, step: int) -> bool:
    """Whether what is held out is measured after so many steps."""
    return step == config.steps or (config.eval_every > 0 and step % config.eval_every == 0)


def measure(
    measure_fn: Callable,
    state: "TrainState",
    fixed: "Fixed",
    held: Data,
    config: TrainConfig,
    rows: "NamedSharding",
    stopping: list[int],
) -> dict[str, float]:
    """The numbers of heldout.measured, of the model that a state is; none if a signal comes meanwhile."""
    import jax

    from jaxgpt.runtime import device
    from jaxgpt.runtime.mesh import own_rows

    sums, here = [], own_rows(rows, config.B)
    for batch in held.once(config.B, config.T):
        if stopping and jax.process_count() == 1:  # several stop together, after a step
            return {}
        mine = device.put(*(array[here] for array in batch), to=rows)
        sums.append(jax.device_get(measure_fn(state.model, fixed.base, mine)))
    return validation.measured(sums, held.bytes())


def better_of(best: dict[str, Any] | None, step: int, numbers: dict[str, float], of: str) -> dict[str, Any] | None:
    """The best so far, Progress.best, when these numbers of what is held out are known too."""
    loss = numbers.get("loss", math.nan)
    if math.isnan(loss) or (best and best["of"] == of and loss >= best["loss"]):
        return best
    return {"step": step, "loss": loss, "of": of}


def gone_on(config: TrainConfig, data: Data, saved: "Progress", now: "Progress") -> "Progress":
    """The progress of a run that goes on from a saved one as `now`, told with what is another from here on."""
    position = data.position(saved.position, config.B * config.accumulate, config.T)
    say("run", f"{config.out}: goes on from step {saved.step:,}, position {position:,}, to {config.steps:,} steps")
    if saved.identity.get("corpus") != now.identity["corpus"]:
        say("note", "the text is another one from here on")
    for name in ("B", "T", "accumulate"):
        if getattr(saved, name) != getattr(now, name):
            say("note", f"--{name} was {getattr(saved, name)} and is {getattr(now, name)} from here on")
    if saved.steps != config.steps and config.lr_depends_on_steps:
        say("note", f"--steps was {saved.steps:,}, is {config.steps:,}: the learning rate follows the new schedule")
    return dataclasses.replace(now, step=saved.step, position=position, tokens_seen=saved.tokens_seen, best=saved.best)


def say(label: str, text: str) -> None:
    print(f"{label:<9} {text}", flush=True)


def say_next(config: TrainConfig, data: Data, done: int) -> None:
    """The commands that come next; where the default corpus was not to be had, they name the one in use."""
    corpus_flag = {"data": "python"} if data.note else {}
    if not config.lr_depends_on_steps:  # else the learning rate would leap up to the longer schedule
        longer = {"steps": 2 * done} if config.epochs is None else {"epochs": 2 * config.epochs}
        say("go on", again(config, **longer, **corpus_flag))
    if data.labels:
        command, file = ("eval", config.val) if config.val and is_examples(config.val) else ("predict", config.data)
        say(command, shlex.join(["python", "-m", "jaxgpt.commands.classify", command, str(config.out), "--data", file]))
    else:
        say(
            "sample",
            shlex.join(["python", "-m", "jaxgpt.commands.sample", str(config.out), "--prompt", "Once upon a time"]),
        )


def again(config: TrainConfig, **changes: object) -> str:
    """The command with these changes, of the first process."""
    return command(config, **changes) + "    (the others with their --process-id)" * bool(config.coordinator)

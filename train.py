"""Train GPT-2: `python train.py --B 4 --T 32`. `--help` lists the flags."""

import dataclasses
import functools
import importlib.metadata
import json
import platform
import shutil
import sys
from collections.abc import Sequence

from jaxgpt import cli, corpus
from jaxgpt.config import Preset, TrainConfig, command, identity, require_same
from jaxgpt.errors import DataError, UsageError
from jaxgpt.loader import batches_per_epoch, next_batch


def main(argv: Sequence[str]) -> None:
    preset = cli.parse_some(Preset, argv)
    train(cli.parse(TrainConfig, argv, default=TrainConfig.from_preset(preset)))


def train(config: TrainConfig) -> None:
    # ---- The tokens. A wrong flag or file is refused before JAX is imported, within a second.
    data = corpus.load(config.data)
    if data.note:
        say("note", f"{data.note}. Training on {data.name} instead")
    B, T = config.B, config.T
    try:
        per_epoch = batches_per_epoch(data.tokens, B, T)
    except ValueError as error:
        raise DataError(f"{data.name}: {error}; use a longer text, or a smaller --B or --T") from None
    say("corpus", f"{data.name}: {len(data.tokens):,} tokens, {per_epoch:,} batches per epoch of B*T = {B}*{T}")

    import jax

    from jaxgpt import device
    from jaxgpt.checkpoint import Checkpoints, Progress
    from jaxgpt.optimizer import lr_schedule, make_optimizer
    from jaxgpt.report import Report
    from jaxgpt.step import init_state, loss_fn, train_step

    # ---- What is static: device, model, optimizer.
    device_name = device.select(config.device)
    model_config = config.model(**device.compute(config.dtype, config.n_layer, config.n_embd // config.n_head))
    schedule = lr_schedule(config.lr, config.steps, config.schedule, config.warmup_ratio, config.min_lr_ratio)
    tx = make_optimizer(
        schedule, config.beta1, config.beta2, config.eps, config.weight_decay, config.decay, config.grad_clip
    )
    new_state = jax.jit(functools.partial(init_state, config=model_config, tx=tx))
    # One stream a purpose, from one seed: 0 is kept for randomness in steps, 1 for the order of data, 2 is the init.
    key = jax.random.fold_in(jax.random.key(config.seed), 2)
    shapes = jax.eval_shape(new_state, key)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(shapes.model))
    say("device", device_name)
    shape = f"{config.n_layer} layers, {config.n_head} heads, width {config.n_embd}"
    say("model", f"{parameters:,} parameters: {shape}, {model_config.dtype}")

    # ---- Where the run stands: at its newest checkpoint, or at the beginning.
    open_folder(config)
    checkpoints = Checkpoints(config.out / "checkpoints")
    now = Progress(0, 0, 0, B, T, config.steps, identity(config, data.fingerprint, model_config.dtype))
    start = checkpoints.latest()
    if start is None:
        start, state = 0, new_state(key)
        say("run", f"{config.out}: {config.steps:,} steps")
    else:
        saved = checkpoints.progress(start)
        require_same(saved.identity, now.identity, checkpoints.folder / str(start))
        if start >= config.steps:
            say("run", f"{config.out}: already done, {start:,} of {config.steps:,} steps")
            return say_next(config, start)
        state = checkpoints.restore(start, shapes)
        say("run", f"{config.out}: goes on from step {start:,}, position {saved.position:,}, to {config.steps:,} steps")
        for name in ("B", "T"):
            if getattr(saved, name) != getattr(now, name):
                say("note", f"--{name} was {getattr(saved, name)} and is {getattr(now, name)} from here on")
        if saved.steps != now.steps and (config.schedule != "constant" or config.warmup_ratio):
            say("note", f"--steps was {saved.steps:,} and is {now.steps:,}: the learning rate follows the new schedule")
        fits = saved.position + B * T + 1 <= len(data.tokens)  # always, but where B or T has grown
        now = dataclasses.replace(now, position=saved.position if fits else 0, tokens_seen=saved.tokens_seen)
    write_config(config, device_name, data)

    # ---- The loop. Nothing but device.put may move data to the device.
    step_fn = jax.jit(functools.partial(train_step, loss_fn=loss_fn, tx=tx), donate_argnums=0)
    lrs = jax.device_get(jax.vmap(schedule)(jax.numpy.arange(start, config.steps)))
    log = config.out / "log.jsonl"
    with checkpoints, Report(log, start, config.steps) as report, jax.transfer_guard("disallow"):
        for step in range(start, config.steps):
            x, y, next_position = next_batch(data.tokens, now.position, B, T)
            state, metrics = step_fn(state, device.put(x, y))
            tokens_seen = now.tokens_seen + B * T
            facts = {"step": step, "lr": float(lrs[step - start]), "position": now.position, "tokens_seen": tokens_seen}
            report.add(facts, B * T, metrics)
            now = dataclasses.replace(now, step=step + 1, position=next_position, tokens_seen=tokens_seen)
            if now.step == config.steps or (config.save_every and now.step % config.save_every == 0):
                report.flush()  # a state that is not finite is never saved
                checkpoints.save(state, now)
    say("done", report.summary())
    say("saved", f"{config.out}/checkpoints/{config.steps}; every step's numbers in {log}")
    say_next(config, config.steps)


def say(label: str, text: str) -> None:
    print(f"{label:<9} {text}", flush=True)


def say_next(config: TrainConfig, steps: int) -> None:
    say("go on", command(config, steps=2 * steps))
    say("fresh", command(config, fresh=True))


def open_folder(config: TrainConfig) -> None:
    """Make the run folder, and see that it can be written, before anything is computed."""
    try:
        config.out.mkdir(parents=True, exist_ok=True)
        with (config.out / "log.jsonl").open("ab"):
            pass
        if config.fresh:
            (config.out / "log.jsonl").write_bytes(b"")
            if (config.out / "checkpoints").exists():
                shutil.rmtree(config.out / "checkpoints")
    except OSError as error:
        raise UsageError(f"--out {config.out}: {error.strerror}; choose a folder that can be written") from None


def write_config(config: TrainConfig, device_name: str, data: corpus.Corpus) -> None:
    """config.json: every flag, and the versions, device and corpus that go with them."""
    packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "tiktoken")
    versions = {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in packages}
    content = vars(config) | {"out": str(config.out), "device_name": device_name, "versions": versions}
    content |= {"corpus": data.name, "fingerprint": data.fingerprint}
    temporary = config.out / ".config.json.tmp"
    temporary.write_text(json.dumps(content, indent=2) + "\n")
    temporary.replace(config.out / "config.json")


if __name__ == "__main__":
    sys.exit(cli.run(main, sys.argv[1:]))

"""Which run a run is: whether it may go on from a checkpoint or with given weights, and the command that does."""

import dataclasses
import shlex
from pathlib import Path
from typing import Any

from jaxgpt.errors import CheckpointError, UsageError
from jaxgpt.models.configs import GPT2Config
from jaxgpt.runs.weights import Source
from jaxgpt.training.config import GPT3_RECIPE, PROCESS, SHAPE, Preset, TrainConfig

# A run may go on with other values of these; every other flag decides what its numbers are, and must stay.
FREE = ("size", "recipe", "B", "T", "accumulate", "steps", "data", "mix", "out", "save_every", "fresh", "device")
FREE += ("mesh", "epochs", "val", "eval_every", "remat", "profile", "skip_bad_steps", "hash_every", "deterministic")
FREE += ("allow_other_data", *PROCESS)


def identity(config: TrainConfig, corpus: str, dtype: str) -> dict[str, Any]:
    """What makes two runs the same run: the flags that decide the numbers, the corpus's fingerprint, the dtype used."""
    flags = {name: value for name, value in dataclasses.asdict(config).items() if name not in FREE}
    return {**flags, "dtype": dtype, "corpus": corpus}


def require_same(saved: dict[str, Any], now: dict[str, Any], where: Path, other_data: bool = False) -> None:
    """Refuse to go on from a checkpoint of another identity, naming every difference. `other_data`: the text may."""
    # A flag that is younger than the checkpoint has had its default's effect.
    defaults = {field.name: field.default for field in dataclasses.fields(TrainConfig) if field.name in now}
    saved = defaults | saved | ({"corpus": now["corpus"]} if other_data else {})
    if saved.get("base") == now.get("base") is not None:  # the weights under adapters may have another name
        saved |= {"init_from": now["init_from"]}
    names = sorted(name for name in {*saved, *now} if saved.get(name) != now.get(name))
    if names:
        differing = ", ".join(f"{name} {saved.get(name)!s:.16} there and {now.get(name)!s:.16} here" for name in names)
        allowed = " (--allow-other-data takes this text)" if "corpus" in names else ""
        presets = {"--recipe": ("lr", *GPT3_RECIPE), "--size": SHAPE}
        forgotten = [flag for flag, sets in presets.items() if any(name in sets for name in names)]
        differing += f" (what {' and '.join(forgotten)} would set)" if forgotten else ""
        raise CheckpointError(
            f"{where} is a checkpoint of another configuration: {differing}; "
            f"use the flags and the text it was made with{allowed}, another --out, or --fresh to start over"
        )


def require_weights(config: TrainConfig, weights: Source) -> None:
    """Refuse flags that don't fit the weights of --init-from, or would write over them."""
    require_shape(config, weights.config)
    if weights.folder and weights.folder.resolve() == config.out.resolve():
        raise UsageError(f"--out {config.out} is the folder of --init-from, which shall stay; choose another --out")


def require_shape(config: TrainConfig, weights: GPT2Config) -> None:
    """Refuse flags that don't fit the weights of --init-from."""
    if weights.vocab_size != GPT2Config.vocab_size:
        raise CheckpointError(
            f"--init-from {config.init_from}: {weights.vocab_size:,} token ids, "
            f"and GPT-2's tokenizer, which reads the texts, has {GPT2Config.vocab_size:,}"
        )
    given = TrainConfig.from_preset(Preset(predict_tokens=config.predict_tokens), weights)
    for name in (*SHAPE, "untied_head"):
        value, there = getattr(config, name), getattr(given, name)
        if value != there:
            flag = "--" + name.replace("_", "-")
            makes = "has" if there == getattr(weights, name) else "makes it"  # with the blocks of new heads
            raise UsageError(f"{flag} {value}: --init-from {config.init_from} {makes} {there}; leave {flag} out")
    if config.lora and config.predict_tokens > weights.predict_tokens:
        raise UsageError(
            f"--predict-tokens {config.predict_tokens}: --init-from has weights for {weights.predict_tokens}, and "
            "adapters need weights that they adapt; train the other heads without --lora first"
        )
    if config.size != given.size:
        raise UsageError(f"--size {config.size}: --init-from {config.init_from} sets the size; leave --size out")


def command(config: TrainConfig, **changes: Any) -> str:
    """A short command line that gives `config` with these changes."""
    wanted = vars(config) | {"fresh": False, "profile": 0} | changes
    default = vars(TrainConfig.from_preset(Preset(config.size, config.recipe))) | vars(Preset())
    if config.init_from:
        default |= {name: wanted[name] for name in ("size", "untied_head", *SHAPE)}
    words = ["python", "train.py"]
    for name, value in wanted.items():
        if name == "steps" and wanted["epochs"] is not None:  # they follow from these
            continue
        if name in ("B", "T") or value != default[name]:
            flag = "--" + name.replace("_", "-")
            whole = isinstance(value, float) and value.is_integer()
            words += [flag] if value is True else [flag, str(int(value) if whole else value)]
    return shlex.join(words)

"""A run's signature: whether it may resume from a checkpoint or begin with some weights, and by which command."""

import dataclasses
import shlex
import types
import typing
from pathlib import Path
from typing import Any

from jaxgpt import console
from jaxgpt.data.base import Dataset
from jaxgpt.data.order import parse_mixture
from jaxgpt.data.tokenizer import VOCAB_SIZE
from jaxgpt.errors import CheckpointError, UsageError
from jaxgpt.files import require_separate
from jaxgpt.models.configs import CONFIGS, ModelConfig
from jaxgpt.runs import folder
from jaxgpt.runs.folder import require_utf8
from jaxgpt.runs.hf_config import read_json
from jaxgpt.training.config import RECIPES, Preset, TrainConfig, fixed_flags


def run_signature(config: TrainConfig, data: Dataset, dtype: str, base: int | None = None) -> dict[str, Any]:
    """What two starts of a run have in common: the flags that decide the numbers, the data, the dtype, frozen weights.

    Args:
      base: the fingerprint of the weights under adapters.
    """
    signature = {**fixed_flags(config), "dtype": dtype, "corpus": data.fingerprint} | data.order_facts()
    return signature if base is None else signature | {"base": f"{base:08x}"}


def require_compatible(
    saved: dict[str, Any], current: dict[str, Any], where: Path, allow_other_data: bool = False
) -> None:
    """Refuse to resume from a checkpoint of another signature, naming every difference.

    Rows that were packed in another way are refused whatever is allowed, since the saved position counts them.

    Args:
      allow_other_data: whether the data may differ.
    """
    if "packing" in current and saved.get("labels") == [] and "packing" not in saved:
        raise CheckpointError(
            f"{where} was trained on rows packed in the order of the file, and they are now packed by best fit; "
            f"begin a new run with its weights, --init-from {where} and another --out, or use --fresh to start over"
        )
    # A flag that is younger than the checkpoint has had its default's effect.
    defaults = {name: value for name, value in TrainConfig().flat().items() if name in current}
    saved = defaults | saved | ({"corpus": current["corpus"]} if allow_other_data else {})
    if saved.get("base") == current.get("base") is not None:  # the weights under adapters may have another name
        saved |= {"init_from": current["init_from"]}
    names = sorted(name for name in {*saved, *current} if saved.get(name) != current.get(name))
    if names:
        values = ((name, saved.get(name), current.get(name)) for name in names)
        differing = ", ".join(f"{name} {old!s:.16} there and {new!s:.16} here" for name, old, new in values)
        allowed = " (--allow-other-data takes this text)" if "corpus" in names else ""
        of_recipes = {name for recipe in RECIPES.values() for name in recipe}
        presets = {"--recipe": of_recipes, "--size": CONFIGS[current["arch"]].shape}
        forgotten = [flag for flag, sets in presets.items() if any(name in sets for name in names)]
        differing += f" (what {' and '.join(forgotten)} would set)" if forgotten else ""
        raise CheckpointError(
            f"{where} is a checkpoint of another configuration: {differing}; "
            f"use the flags and the text it was made with{allowed}, another --out, or --fresh to start over"
        )


def require_output(config: TrainConfig) -> None:
    """Refuse an --out that has the files of another program, or whose own are an input; nothing is touched."""
    out, data = config.run.out, config.data
    texts = [("--data", data.data)] if data.mix is None else [("--mix", name) for name in parse_mixture(data.mix)[0]]
    inputs = [("--init-from", config.preset.init_from), *texts, ("--val", data.val)]
    require_separate("--out", out, inputs, parts=folder.PARTS)
    folder.require_run_folder(out)
    if config.run.fresh:
        folder.find_old_run(out)


def require_weights(config: TrainConfig, weights: ModelConfig) -> None:
    """Refuse flags that don't fit the weights of --init-from."""
    preset, model = config.preset, config.model
    if weights.vocab_size != VOCAB_SIZE:
        raise CheckpointError(
            f"--init-from {preset.init_from}: {weights.vocab_size:,} token ids, "
            f"and GPT-2's tokenizer, which reads the texts, has {VOCAB_SIZE:,}"
        )
    required_config = TrainConfig.from_preset(Preset(predict_tokens=preset.predict_tokens), weights)
    if preset.arch != weights.arch:
        raise UsageError(f"--arch {preset.arch}: --init-from {preset.init_from} has {weights.arch}; leave --arch out")
    for name in (*weights.shape, "untied_head"):
        value, required = getattr(model, name), getattr(required_config.model, name)
        if value != required:
            flag = "--" + name.replace("_", "-")
            makes = "has" if required == getattr(weights, name) else "makes it"  # with the blocks of new heads
            raise UsageError(f"{flag} {value}: --init-from {preset.init_from} {makes} {required}; leave {flag} out")
    if model.lora and preset.predict_tokens > weights.predict_tokens:
        raise UsageError(
            f"--predict-tokens {preset.predict_tokens}: --init-from has weights for {weights.predict_tokens}, and "
            "adapters need weights that they adapt; train the other heads without --lora first"
        )
    if preset.size != required_config.preset.size:
        raise UsageError(f"--size {preset.size}: --init-from {preset.init_from} sets the size; leave --size out")


def resume_command(config: TrainConfig, **changes: Any) -> str:
    """A short command line that gives `config` with these changes; with several processes, process 0's."""
    flags = config.flat() | {"fresh": False, "profile": 0} | changes
    preset = dataclasses.replace(config.preset, init_from=None, predict_tokens=1)
    default = TrainConfig.from_preset(preset).flat() | vars(Preset())
    if config.preset.init_from:
        default |= {name: flags[name] for name in ("arch", "size", "untied_head", *CONFIGS[preset.arch].shape)}
    words = []
    for name, value in flags.items():
        if name == ("epochs" if flags["epochs"] is None else "steps"):  # only one of them says how long the run is
            continue
        if name in ("B", "T") or value != default[name] or (name == "steps" and default["epochs"]):
            flag = "--" + name.replace("_", "-")
            text = str(int(value) if isinstance(value, float) and value.is_integer() else value)
            words += [flag] if value is True else [f"{flag}={text}"] if text.startswith("-") else [flag, text]
    return f"{console.program('train')} {shlex.join(words)}"


def load_run_config(run: Path) -> tuple[TrainConfig, list[dict[str, Any]]]:
    """The flags of a run's last start, and all its starts, as folder.write_config has them.

    Raises:
      CheckpointError: it is no run's folder, or its config.json holds what no run has.
    """
    require_utf8(run)
    path = run / "config.json"
    content = read_json(path)
    starts = None if content is None else content.get("starts")
    if not starts or not isinstance(starts, list) or not all(map(_is_start, starts)):
        raise CheckpointError(f"{run}: no run that has begun; give a run folder")
    if "data_kind" not in content:  # an older run, which had that under the name of a flag of today
        content.pop("objective", None)
    if content.get("data") == "auto":  # the default's name in older runs
        content.pop("data")
    try:
        flags = {
            field.name: _flag_from_json(field, content[field.name])
            for group in TrainConfig().groups.values()
            for field in dataclasses.fields(group)
            if field.name in content  # what is not there is younger than the run
        }
        return TrainConfig.of(**flags | {"out": run}), starts
    except UsageError as error:
        raise CheckpointError(f"{path}: {error}; it is rewritten when the run resumes") from None


def _flag_from_json(field: dataclasses.Field, value: Any) -> Any:
    """A flag's value from JSON, where a path is text.

    Raises:
      UsageError: it is of another type, or none of the choices.
    """
    kind = field.type
    choices = typing.get_args(kind) if typing.get_origin(kind) is typing.Literal else None
    allowed = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    if kind is Path and isinstance(value, str):
        return Path(value)
    if float in allowed and type(value) is int:
        value = float(value)
    if (value in choices) if choices else (type(value) in allowed or (value is None and types.NoneType in allowed)):
        return value
    expected = ", ".join(map(repr, choices or [])) or " or ".join(type_.__name__ for type_ in allowed)
    raise UsageError(f"{field.name} is {value!r:.40}, and must be {expected}")


def _is_start(start: Any) -> bool:
    numbers, texts = ("step", "B", "T", "accumulate", "steps"), ("dtype", "fingerprint")
    return (
        isinstance(start, dict)
        and all(type(start.get(name)) is int and 0 <= start[name] < 2**31 for name in numbers)
        and all(isinstance(start.get(name), str) for name in texts)
        and isinstance(start.get("mesh", ""), str)
    )

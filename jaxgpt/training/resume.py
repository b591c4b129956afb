"""A run's signature: whether it may resume from a checkpoint or begin with some weights, and by which command."""

import contextlib
import dataclasses
import os
import shlex
import types
import typing
from pathlib import Path
from typing import Any

from jaxgpt import console
from jaxgpt.data.base import Dataset
from jaxgpt.data.gpt2_tokenizer import GPT2_TOKENIZER
from jaxgpt.data.open_tokenizer import NAMES
from jaxgpt.data.order import parse_mixture
from jaxgpt.data.text_part import name_of_whole
from jaxgpt.data.tokenizer import Tokenizer
from jaxgpt.errors import CheckpointError, UsageError
from jaxgpt.files import require_separate
from jaxgpt.models.configs import CONFIGS, ModelConfig
from jaxgpt.runs import folder
from jaxgpt.runs.folder import require_utf8
from jaxgpt.runs.hf_config import read_json
from jaxgpt.runs.weights import WeightsRef
from jaxgpt.training.config import TrainConfig, fixed_flags
from jaxgpt.training.preset import RECIPES, Preset

INITIAL_WEIGHTS = {"base": "has adapters for", "reference": "compares answers with"}  # in a signature; and their use


def run_signature(
    config: TrainConfig, data: Dataset, dtype: str, base: int | None = None, reference: str | None = None
) -> dict[str, Any]:
    """What two starts of a run have in common: the flags that decide the numbers, the data, the dtype, frozen weights.

    Args:
      base: the fingerprint of the weights under adapters.
      reference: a hash of the weights that answers' log-probabilities are compared with.
    """
    signature = {**fixed_flags(config), "dtype": dtype, "corpus": data.fingerprint} | data.order_facts()
    if data.tokenizer != GPT2_TOKENIZER:
        signature |= {"tokenizer": f"{data.tokenizer.name} {data.tokenizer.sha256}"}
    if config.model.vocab_size not in (None, data.tokenizer.vocab_size):
        signature |= {"vocab_size": config.model.vocab_size}
    if reference:
        signature |= {"reference": reference}
    return signature if base is None else signature | {"base": f"{base:08x}"}


def require_compatible(
    saved: dict[str, Any], current: dict[str, Any], where: Path, allow_other_data: bool = False, text: str = ""
) -> None:
    """Refuse to resume from a checkpoint of another signature, naming every difference.

    Rows that were packed in another way are refused whatever is allowed, since the saved position counts them.

    Args:
      where: the checkpoint, in its run's folder.
      allow_other_data: whether the data may differ.
      text: the name of the current data.
    """
    if "packing" in current and saved.get("labels") == [] and "packing" not in saved:
        raise CheckpointError(
            f"{where} was trained on rows packed in the order of the file, and they are now packed by best fit; "
            f"begin a new run with its weights, --init-from {where} and another --out, or use --fresh to start over"
        )
    # A flag that is younger than the checkpoint has had its default's effect.
    defaults = {name: value for name, value in fixed_flags(TrainConfig()).items() if name in current}
    gpt2 = {"tokenizer": GPT2_TOKENIZER.name}  # which no signature names
    saved, current = gpt2 | saved, gpt2 | current
    saved = defaults | saved | ({"corpus": current["corpus"]} if allow_other_data else {})
    if any(saved.get(name) == current.get(name) is not None for name in INITIAL_WEIGHTS):  # their name may be another
        saved |= {"init_from": current["init_from"]}
    if differences := _differences(saved, current):
        is_allowed = "corpus" in differences and "tokenizer" not in differences
        allowed = " (--allow-other-data takes this text)" * is_allowed
        saved_text = _find_text_name(where.parents[1], saved.get("corpus"))
        if "corpus" in differences and saved_text not in (None, text):  # else their hashes tell them apart
            differences["corpus"] = saved_text, text
        if differences.keys() <= INITIAL_WEIGHTS.keys():
            source, uses = current["init_from"], next(INITIAL_WEIGHTS[name] for name in differences)
            raise CheckpointError(
                f"{where} {uses} other weights than --init-from {source} has now; restore those, or, if it "
                f"is a run that has trained on, name the checkpoint that this run began with: --init-from "
                f"{source}/checkpoints/N"
            )
        if "dp_steps" in differences and len(differences) <= 2:  # with the noise that they make
            old, new = differences["dp_steps"]
            raise CheckpointError(
                f"{where}: the noise is for {old} steps in all, and epsilon would be another with {new}; "
                f"use --steps {old}, or --fresh to start over"
            )
        differing = ", ".join(f"{name} {old} there and {new} here" for name, (old, new) in differences.items())
        raise CheckpointError(
            f"{where} is a checkpoint of another configuration: {differing}; "
            f"use the flags and the text it was made with{allowed}, another --out, or --fresh to start over"
        )


def _differences(saved: dict[str, Any], current: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """What differs between two signatures, by name; a --size and a --recipe stand for all that they set."""
    names = {name for name in {*saved, *current} if saved.get(name) != current.get(name)}
    differences = {name: (f"{saved.get(name)!s:.16}", f"{current.get(name)!s:.16}") for name in names}
    of_recipes = {name for recipe in RECIPES.values() for name in recipe}
    old, new = map(_closest_preset, (saved, current))
    for preset, sets in (("size", CONFIGS[current["arch"]].shape), ("recipe", of_recipes)):
        explained = {
            name
            for name in names & saved.keys() & current.keys() & set(sets)
            if (saved[name], current[name]) == (old[name], new[name])
        }
        if old[preset] != new[preset] and explained:
            differences = {name: both for name, both in differences.items() if name not in explained}
            differences[preset] = old[preset], new[preset]
    return dict(sorted(differences.items()))


def _closest_preset(signature: dict[str, Any]) -> dict[str, Any]:
    """The flags of the --size and the --recipe that set most of a signature's flags."""
    arch = signature["arch"]
    sizes = dict.fromkeys([Preset.size, *CONFIGS[arch].sizes])  # of equals, max takes the first
    presets = [Preset(arch=arch, size=size, recipe=recipe) for size in sizes for recipe in RECIPES]
    flags = [TrainConfig.from_preset(preset).flat() for preset in presets]
    return max(flags, key=lambda each: sum(each.get(name) == value for name, value in signature.items()))


def _find_text_name(run: Path, fingerprint: str | None) -> str | None:
    """The name that a text of this fingerprint has in a run's config.json."""
    content: dict[str, Any] = {}
    with contextlib.suppress(CheckpointError):  # it is corrupt
        content = read_json(run / "config.json") or {}
    return content.get("corpus") if content.get("fingerprint") == fingerprint else None


def require_output(config: TrainConfig, weights: WeightsRef | None) -> None:
    """Refuse an --out that has the files of another program, or whose own are an input; nothing is touched."""
    out, data = config.run.out, config.data
    texts = [("--data", data.data)] if data.mix is None else [("--mix", name) for name in parse_mixture(data.mix)[0]]
    inputs = [("--init-from", config.preset.init_from), *texts, ("--val", data.val)]
    inputs += [("--val-also", name) for name in data.val_also_texts.values()]
    if data.tokenizer not in (*NAMES, "chars") and Path(data.tokenizer).resolve() != out.resolve():  # or its own
        inputs += [("--tokenizer", data.tokenizer)]
    inputs = [(flag, name and name_of_whole(name)) for flag, name in inputs]
    inputs = [(flag, name) for flag, name in inputs if name != "shakespeare"]  # which is part of the package
    inputs += [("the weights under it,", weights.base)] if weights else []
    require_separate("--out", out, inputs, parts=folder.PARTS)
    folder.require_run_folder(out)
    if config.run.fresh:
        folder.find_old_run(out)


def require_sample_prompt(config: TrainConfig, data: Dataset) -> None:
    """Refuse a --sample-prompt that can't be continued."""
    if config.run.sample_prompt is None:
        return
    is_reward = config.preset.objective == "reward"
    if data.labels or data.kind in ("masked", "scores") or is_reward:
        writer = "a reward model" if is_reward else "an encoder" if data.kind == "masked" else "a model of labels"
        raise UsageError(f"--sample-prompt: {writer} writes no text; leave it out")
    count, context = len(data.tokenizer.encode_prompt(config.run.sample_prompt)), config.model.block_size
    if count > context:
        long = f"--sample-prompt has {count:,} tokens, more than the model's context of {context:,}"
        raise UsageError(f"{long}; shorten it, or use a larger --block-size")


def require_same_tokenizer(config: TrainConfig, tokenizer: Tokenizer, weights: Tokenizer) -> None:
    """Refuse another --tokenizer than that of the weights of --init-from."""
    if tokenizer.sha256 != weights.sha256:
        has = f"--init-from {config.preset.init_from} has {weights.name} ({weights.sha256:.12})"
        given = f"--tokenizer {config.data.tokenizer} ({tokenizer.sha256:.12})"
        raise UsageError(f"{given}: {has}; leave --tokenizer out")


def require_encoder(config: TrainConfig, data: Dataset, weights: WeightsRef | None) -> None:
    """Refuse what an encoder can't be trained from."""
    model, tokenizer = config.model_config(), data.tokenizer
    if data.kind == "masked" and weights and weights.labels:
        lacks = f"{weights.name} has a head for labels, and none for masked tokens"
        raise UsageError(f"--init-from {config.preset.init_from}: {lacks}; give it texts with labels, or other weights")
    if model.bidirectional and model.position_offset and tokenizer.pad != model.position_offset - 1:
        offset = f"--position-offset {model.position_offset}"
        pad = f"transformers takes {model.position_offset - 1} for padding then, and {tokenizer.name} has another id"
        raise UsageError(f"{offset}: {pad}; use --position-offset 0, or RoBERTa's tokenizer")


def require_weights(config: TrainConfig, weights: ModelConfig) -> None:
    """Refuse flags that don't fit the weights of --init-from."""
    preset, model = config.preset, config.model
    required_config = TrainConfig.from_preset(Preset(predict_tokens=preset.predict_tokens), weights)
    for name in (*weights.shape, "untied_head", "vocab_size"):
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
        names = ("arch", "size", "untied_head", "vocab_size", "tokenizer", *CONFIGS[preset.arch].shape)
        default |= {name: flags[name] for name in names}
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
    if content is None:
        raise CheckpointError(f"{run}: no run that has begun; give a run folder")
    if not starts or not isinstance(starts, list) or not all(map(_is_start, starts)):
        problem = "its 'starts' are not a run's" if starts else "it has no 'starts', which any run's has"
        raise CheckpointError(f"{path}: {problem}; give a run folder, or resume the run, which rewrites it")
    if "data_kind" not in content:  # an older run, which had that under the name of a flag of today
        content.pop("objective", None)
    if content.get("tokenizer_sha256") not in (None, GPT2_TOKENIZER.sha256):
        content["tokenizer"] = str(run)  # which has a copy
    if content.get("vocab_size") == ModelConfig.vocab_size:  # what a model has by default
        content.pop("vocab_size")
    if content.get("data") == "auto":  # the default's name in older runs
        content.pop("data")
    if content.get("probe") == "none" and type(content.get("probe_every")) is int:  # it had a value without --probe
        content.pop("probe_every")
    try:
        flags = {
            field.name: _flag_from_json(field, content[field.name])
            for group in TrainConfig().groups.values()
            for field in dataclasses.fields(group)
            if field.name in content  # what is not there is younger than the run
        }
        return _locate_inputs(TrainConfig.of(**flags | {"out": run}), content.get("cwd")), starts
    except UsageError as error:
        raise CheckpointError(f"{path}: {error}; it is rewritten when the run resumes") from None


def _locate_inputs(config: TrainConfig, cwd: Any) -> TrainConfig:
    """The flags whose relative names of inputs are those of the folder in which the run was started, if they are there.

    Args:
      cwd: that folder; an older run has none.
    """
    if not isinstance(cwd, str) or cwd == os.getcwd():
        return config

    def locate(name: str) -> str:
        path = os.path.join(cwd, name)
        return path if name_of_whole(name) != "shakespeare" and os.path.exists(name_of_whole(path)) else name

    inputs = {"data": config.data.data, "val": config.data.val, "init_from": config.preset.init_from}
    located = {flag: locate(name) for flag, name in inputs.items() if name}
    file, _, function = (config.rollout.reward or "").rpartition(":")
    if file.endswith(".py"):
        located["reward"] = f"{locate(file)}:{function}"
    whole = name_of_whole(located["data"])
    if not os.path.exists(whole) and whole != "shakespeare":
        located["data"] = os.path.join(cwd, located["data"])  # so that the error names where it was
    if config.data.mix:
        texts = zip(*parse_mixture(config.data.mix), strict=True)
        located["mix"] = ",".join(f"{locate(name)}={weight}" for name, weight in texts)
    if config.data.val_also:
        located["val_also"] = ",".join(f"{name}={locate(text)}" for name, text in config.data.val_also_texts.items())
    return config.replace(**located)


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
    numbers = ("step", "B", "T", "accumulate", "steps")
    return (
        isinstance(start, dict)
        and all(type(start.get(name)) is int and 0 <= start[name] < 2**31 for name in numbers)
        and start.get("dtype") in ("float32", "bfloat16")
        and isinstance(start.get("fingerprint"), str)
        and isinstance(start.get("mesh", ""), str)
    )

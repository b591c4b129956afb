"""The JSON files of a folder in Hugging Face's layout: a model's shape, its labels, and what surrounds its texts."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxgpt import json_file
from jaxgpt.data.records import is_unicode
from jaxgpt.data.tokenizer import PLAIN, Template
from jaxgpt.errors import CheckpointError, UsageError
from jaxgpt.models.configs import CONFIGS, REWARD, SCORE, ModelConfig

TIED_KEY = "tie_word_embeddings"  # in Hugging Face's config.json; ours is the opposite, untied_head


def read_json(path: Path) -> dict[str, Any] | None:
    """An object in a JSON file; None if there is no such file."""
    try:
        return json_file.read_object(path)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise CheckpointError(f"{path}: can't be read ({error}); resume its run, or copy it again") from None


def parse_config(path: Path, content: dict[str, Any]) -> tuple[ModelConfig, tuple[str, ...]]:
    """The model of a config.json, and the names of its labels, if it has a head for them.

    Raises:
      CheckpointError: it is no model of ours; it names the field.
    """
    archs = {model_type: arch for arch in CONFIGS.values() for model_type in arch.hugging_face}
    model_type = content.get("model_type")
    arch = archs.get(model_type) if isinstance(model_type, str) else None
    if arch is None:
        types = ", ".join(map(repr, archs))
        raise CheckpointError(f"{path}: model_type is {model_type!r:.40}, which is not supported; {types} are")
    layout = arch.hugging_face[model_type]
    for name, allowed in layout.required.items():
        if (value := content.get(name, allowed[0])) not in allowed:
            expected = f"not {arch.title}'s architecture, where it is {allowed[0]!r}"
            raise CheckpointError(f"{path}: {name} is {value!r:.40}: {expected}")
    missing = [name for name in layout.sizes if name not in content]
    if missing:
        shape = f"a {arch.title}'s shape is {', '.join(layout.sizes)}"
        raise CheckpointError(f"{path}: no {', '.join(missing)}; {shape}")
    given = [*layout.sizes, *(name for name in layout.optional if content.get(name) is not None)]
    names = {(layout.sizes | layout.optional)[name]: name for name in given}
    config = build_config(path, arch, {ours: content[name] for ours, name in names.items()}, names)
    tied = layout.tied if content.get(TIED_KEY) is None else read_bool(path, content, TIED_KEY, layout.tied)
    config = dataclasses.replace(config, untied_head=not tied, **layout.fields)
    try:
        config = dataclasses.replace(config, **layout.read(config, content))
    except (ValueError, UsageError) as error:
        raise CheckpointError(f"{path}: {str(error).replace('--', '')}") from None
    names = content.get("architectures")
    least = 2 if arch.bidirectional else 1  # an encoder's score is read from its first token, and no reward
    labels = _parse_labels(path, content, least) if isinstance(names, list) and layout.classifier in names else ()
    # A classifier has no output matrix: as if it were tied.
    return dataclasses.replace(config, n_labels=len(labels), untied_head=config.untied_head and not labels), labels


def build_config(
    path: Path, arch: type[ModelConfig], shape: dict[str, Any], names: Mapping[str, str] | None = None
) -> ModelConfig:
    """A config of this shape, each value checked; `names` are what the file calls the fields, if not by our names."""
    kinds = {field.name: field.type for field in dataclasses.fields(arch)}
    lowest = {field.name: min(field.default, 1) for field in dataclasses.fields(arch) if type(field.default) is int}
    for name, value in shape.items():
        if kinds[name] is bool:
            valid, wanted = type(value) is bool, "true or false"
        elif kinds[name] is float:
            valid, wanted = type(value) in (int, float) and 0 <= value < math.inf, "a number, 0 or above"
        elif kinds[name] is str:
            valid, wanted = isinstance(value, str), "a text"
        else:
            least = lowest.get(name, 1)
            valid = type(value) is int and least <= value < 2**24
            wanted = f"a whole number, from {least} to 2**24 - 1"
        if not valid:
            raise CheckpointError(f"{path}: {(names or {}).get(name, name)} is {value!r:.40}, and must be {wanted}")
    try:
        return arch(**shape)
    except UsageError as error:
        raise CheckpointError(f"{path}: {str(error).replace('--', '')}") from None


def read_bool(path: Path, content: dict[str, Any], name: str, default: bool) -> bool:
    value = content.get(name, default)
    if type(value) is not bool:
        raise CheckpointError(f"{path}: {name} is {value!r:.40}, and must be true or false")
    return value


def _parse_labels(path: Path, content: dict[str, Any], least: int) -> tuple[str, ...]:
    """The labels of a classifier by their numbers, at least so many; a single one is SCORE, by its name, or REWARD.

    transformers writes no names where they are its own.
    """
    by_id, count = content.get("id2label"), content.get("num_labels", 2)
    names = by_id if isinstance(by_id, dict) else {}
    labels = tuple(str(names.get(str(number))) for number in range(len(names)))
    has_one_output = labels == SCORE or len(labels) == least == 1
    if by_id is None and type(count) is int and least <= count < 2**16:
        labels = name_labels(count)
    elif names.keys() != set(map(str, range(len(names)))) or not (has_one_output or are_labels(labels)):
        fewest = "two labels" if least > 1 else "one label"
        raise CheckpointError(f"{path}: id2label is {by_id!r:.60}, and must name {fewest} or more, from 0 on")
    trained = "single_label_classification" if len(labels) > 1 else "regression"
    if (problem := content.get("problem_type")) not in (None, trained):
        raise CheckpointError(f"{path}: problem_type is {problem!r:.40}, and must be {trained!r}")
    return labels if len(labels) > 1 or labels == SCORE else REWARD


def are_labels(names: Sequence[Any]) -> bool:
    """Whether these name labels: two texts or more, no two alike, that can be written as UTF-8."""
    return all(isinstance(name, str) and is_unicode(name) for name in names) and 2 <= len(names) == len(set(names))


def name_labels(count: int) -> tuple[str, ...]:
    """What transformers calls labels without names; one is a reward."""
    return REWARD if count == 1 else tuple(f"LABEL_{number}" for number in range(count))


def read_text_format(folder: Path, config: ModelConfig, pad_id: Any = None) -> tuple[int, Template | None]:
    """The most tokens of a text, and what surrounds it, as the folder's tokenizer has them.

    Args:
      config: of the model, whose context is the most that there can be.
      pad_id: of config.json. Exports of ours without a tokenizer.json have 0, and the tokenizer's own template.

    Raises:
      CheckpointError: the tokenizer cuts or spells texts in another way than ours, or surrounds pairs in another way
        than single ones.
    """
    path = folder / "tokenizer_config.json"
    settings = read_json(path) or {}
    for name, ours in (("truncation_side", "right"), ("add_prefix_space", False)):
        if (value := settings.get(name)) not in (None, ours):
            raise CheckpointError(f"{path}: {name} is {value!r:.40}; only {ours!r} is read")
    T, context = settings.get("model_max_length"), config.block_size
    T = min(T, context) if type(T) is int and T > 0 else context
    path = folder / "tokenizer.json"
    tokenizer = read_json(path)
    if tokenizer is None:
        return T, None if pad_id == 0 else PLAIN
    try:
        post = tokenizer.get("post_processor") or {}
        posts = [each for each in post.get("processors", [post]) if each.get("type") == "TemplateProcessing"]
        if not posts:
            return T, None if config.bidirectional else PLAIN  # the processors of BERT and RoBERTa do as ours
        single, pair = (_split_template(posts[0], name) for name in ("single", "pair"))
        if not all(type(id) is int and 0 <= id < config.vocab_size for ids in pair for id in ids):
            raise ValueError("ids that the model does not have")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: no post_processor of transformers' ({error!r}); save it again") from None
    if [single[0], single[-1]] != [pair[0], pair[-1]] or (len(single), len(pair)) != (2, 3):
        raise CheckpointError(f"{path}: its post_processor surrounds pairs in another way than single texts; change it")
    if len(pair[0]) + len(pair[-1]) >= T:
        raise CheckpointError(f"{path}: its post_processor leaves no room for a text in {T:,} tokens; change it")
    return T, Template(*map(tuple, pair))


def _split_template(post: dict[str, Any], name: str) -> list[list[int]]:
    """The ids that a TemplateProcessing inserts before, between and after texts."""
    inserted: list[list[int]] = [[]]
    for piece in post[name]:
        if "Sequence" in piece:
            inserted.append([])
        else:
            inserted[-1] += post["special_tokens"][piece["SpecialToken"]["id"]]["ids"]
    return inserted

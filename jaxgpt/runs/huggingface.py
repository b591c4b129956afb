"""Weights in and out in Hugging Face's layout: config.json and safetensors, renamed and stacked.

What is called what there, an architecture says: hf_layouts.HuggingFaceConfig, base.HuggingFaceTensors.
"""

import dataclasses
import itertools
import json
import math
import re
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from jaxgpt.data.gpt2_tokenizer import GPT2_TOKENIZER
from jaxgpt.data.tokenizer import Tokenizer
from jaxgpt.errors import CheckpointError, UsageError
from jaxgpt.files import new_folder, require_empty
from jaxgpt.models.base import HuggingFaceTensors, Model, architecture, hugging_face, shapes
from jaxgpt.models.configs import ModelConfig
from jaxgpt.models.convert import with_config, with_n_heads
from jaxgpt.models.lora import combine, merge, partition, with_base_weights
from jaxgpt.progress_bar import stage
from jaxgpt.runs.checkpoint import restore_weights
from jaxgpt.runs.fingerprint import combined_fingerprint
from jaxgpt.runs.folder import require_utf8
from jaxgpt.runs.hf_config import TIED_KEY
from jaxgpt.runs.peft import Adapter
from jaxgpt.runs.tensors import WEIGHTS, Tensor, find_files, find_tensors, save
from jaxgpt.runs.weights import WeightsRef, resolve_weights
from jaxgpt.runtime import device
from jaxgpt.runtime.mesh import device_bytes, single_device, with_shardings

# What PyTorch's compilation and parallel training put into the names of a model that they wrap.
WRAPPERS = re.compile(r"^(module\.)+|\b_(orig_mod|fsdp_wrapped_module|checkpoint_wrapped_module)\.(module\.)*")
# What TensorFlow, and so BERT's own files, calls the parameters of a norm.
NORM = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
OLD_NORM = re.compile(r"\bLayerNorm\.(gamma|beta)$")


def load(source: WeightsRef, mesh: Mesh | None = None, **changes: Any) -> Model:
    """The weights of a source, float32.

    Args:
      mesh: where; None: on the default device.
      changes: fields of its config that are not the weights' own: dtype, attention, unroll, pad_vocab_to_multiple_of.

    A run's adapters are merged into its weights. A head for labels is part of them.

    Raises:
      CheckpointError: a file is missing or corrupt, or its tensors are not the model's; it names the first of them.
    """
    return load_with_step(source, mesh, **changes)[0]


def load_with_step(source: WeightsRef, mesh: Mesh | None = None, **changes: Any) -> tuple[Model, int | None]:
    """As `load`, and of a run how many steps its weights have: the newest checkpoint may be corrupt."""
    require_bases(source)
    rules = architecture(source.config).SHARDING_RULES
    like = with_shardings(shapes(source.config), mesh or single_device(), rules)
    device.require_addresses(3 * device_bytes(like))  # while orbax reads, it has up to two more
    step = None
    if source.is_run:
        trained, frozen = partition(like)
        model, progress = restore_weights(source.fetch(), trained, source.step)
        if source.base:
            padding = {"pad_vocab_to_multiple_of": source.config.pad_vocab_to_multiple_of}
            try:
                weights = with_n_heads(
                    load(resolve_weights(source.base), mesh, **padding), source.config.predict_tokens
                )
                base = with_base_weights(frozen, weights)
            except CheckpointError as error:
                raise CheckpointError(
                    f"{source.name} has adapters for weights that can't be loaded ({error}); put them back, or resume "
                    "the run with their new location as --init-from"
                ) from None
            require_base(base, progress.identity, source.base)
            model = merge(combine(model, base))
        step = progress.step
    elif source.adapter:
        model = _merge_adapter(load(source.adapted, mesh), source.adapter, like)
    else:
        model = _read(source.fetch(), like)
    return with_config(model, dataclasses.replace(model.config, **changes)), step


def require_bases(source: WeightsRef) -> None:
    """Refuse a run's adapters for weights that are, over any number of runs, its own."""
    seen: list[Path] = []
    while source.is_run and source.base:
        if source.folder.resolve() in seen:
            raise CheckpointError(
                f"{source.name}: its config.json names the run itself as its base weights; restore it"
            )
        seen.append(source.folder.resolve())
        try:
            source = resolve_weights(source.base)
        except CheckpointError:
            return  # `load` says so of the run that needs them


def require_base(base: Model, identity: dict[str, Any], name: str) -> None:
    """Refuse other weights than those that a run's adapters were trained on."""
    actual, expected = f"{int(combined_fingerprint(base)):08x}", identity.get("base")
    if actual != expected:
        raise CheckpointError(
            f"{name}: its weights have the fingerprint {actual}, and the adapters were trained on {expected}; "
            f"restore them, or, if {name} is a run that has trained on, resume the adapters' run with the checkpoint "
            f"that it began with: --init-from {name}/checkpoints/N"
        )


def load_hf(name_or_folder: str | Path, **changes: Any) -> Model:
    """A model in Hugging Face's layout: gpt2, gpt2-medium, gpt2-large, gpt2-xl, or a folder. Else as `load`."""
    source = resolve_weights(name_or_folder)
    if source.is_run:
        raise CheckpointError(f"{name_or_folder}: a run folder, not a model in Hugging Face's layout")
    return load(source, **changes)


def save_hf(
    model: Model,
    folder: str | Path,
    labels: Sequence[str] = (),
    others: Mapping[str, str] | None = None,
    tokenizer: Tokenizer | None = None,
) -> None:
    """Write config.json and model.safetensors, float32, for `transformers` and for `load_hf`; without padding.

    The folder is there when all is written.

    With a head for labels it is transformers' class ForSequenceClassification, whose head reads the last token that is
    not padding: it gives our logits for a text's tokens and the end token.

    Args:
      labels: the names that the head's logits have, as many as it has.
      others: the texts of further files, by their names.
      tokenizer: whose special tokens config.json names; None: GPT-2's, if the model has them.

    Raises:
      UsageError: the folder has other files in it already; the model predicts several tokens, which theirs don't; or
        its architecture has no such layout.
      CheckpointError: it can't be written.
    """
    title, layouts = model.config.title, model.config.hugging_face
    if not layouts:
        raise UsageError(f"a {title} has no layout of Hugging Face's; keep it as the run that made it")
    matching = (name for name, each in layouts.items() if each.fields.items() <= vars(model.config).items())
    if (model_type := next(matching, None)) is None:
        raise UsageError(f"no {title} of transformers is like this one, of {model.config}; keep it as its run")
    layout = layouts[model_type]
    if model.config.n_labels and not layout.classifier:
        raise UsageError(f"a {title} of transformers has no head for labels; keep this one as its run")
    if model.config.predict_tokens > 1:
        raise UsageError(
            f"a {title} has one head, this model {model.config.predict_tokens}; save convert.with_n_heads(model, 1)"
        )
    folder, tensors = Path(folder), {}
    model = with_config(model, dataclasses.replace(model.config, pad_vocab_to_multiple_of=1))
    for path, leaf in jax.tree_util.tree_leaves_with_path(model):
        views = _as_tensors(path, np.asarray(leaf), model.config)
        tensors |= {name: np.ascontiguousarray(values) for name, values in views}
    config = {name: getattr(model.config, ours) for name, ours in (layout.sizes | layout.optional).items()}
    config |= {"model_type": model_type} | {name: allowed[0] for name, allowed in layout.required.items()}
    config |= {TIED_KEY: not model.config.untied_head}
    if tokenizer is None and model.config.vocab_size >= GPT2_TOKENIZER.vocab_size:
        tokenizer = GPT2_TOKENIZER
    end, pad = (tokenizer.end, tokenizer.pad) if tokenizer else (None, 0)
    config |= {"architectures": [layout.causal_lm], "dtype": "float32"}
    config |= {"bos_token_id": end, "eos_token_id": end, "pad_token_id": end}
    if model.config.n_labels:
        tensors.pop(hugging_face(model.config).head, None)
        by_id = dict(zip(range(model.config.n_labels), labels, strict=True))
        config |= {"architectures": [layout.classifier], "num_labels": len(by_id), "id2label": by_id}
        config |= {"label2id": {label: number for number, label in by_id.items()}}
        config |= {"pad_token_id": pad}  # not the end token, which ends a text
    config |= layout.written(model.config)  # last: of a RoBERTa's padding the positions depend
    texts = {"config.json": json.dumps(config, indent=2) + "\n"} | dict(others or {})
    require_utf8(folder)
    files = {folder / name: text.encode() for name, text in texts.items()}
    if not all(path.is_file() and path.read_bytes() == content for path, content in files.items()):
        require_empty(folder)  # what is there is another model: refused before anything is written beside it
    with new_folder(folder, {WEIGHTS, *texts}) as new:
        try:
            with stage(f"writing {WEIGHTS}, {sum(each.nbytes for each in tensors.values()) / 1e6:,.0f} MB"):
                save(tensors, new / WEIGHTS)
            for name, text in texts.items():
                (new / name).write_text(text, encoding="utf-8")
            shutil.copymode(new / "config.json", new / WEIGHTS)  # safetensors makes it its owner's alone
        except OSError as error:
            raise CheckpointError(f"{folder}: the model could not be written ({error}); make room or mend it") from None


def _as_tensors(path: tuple, values: np.ndarray, config: ModelConfig) -> list[tuple[str, np.ndarray]]:
    """A leaf of a model as the tensors that it is in Hugging Face's layout: their names, and views of its numbers."""
    hf = hugging_face(config)
    views = _by_name(path, values, config)
    return [(name, view.swapaxes(-1, -2) if hf.transposed(path) else view) for name, view in views]


def _by_name(path: tuple, values: np.ndarray, config: ModelConfig) -> list[tuple[str, np.ndarray]]:
    """The same, not transposed: a kernel is (in, out) here."""
    layers = values if path[0].name in architecture(config).MODEL.STACKS else [values]
    return list(zip(hugging_face(config).names(path, config), layers, strict=True))


# ---- Reading, a tensor at a time: it takes no more memory than the model and one tensor


def _read(folder: Path, like: Model) -> Model:
    hf = hugging_face(like.config)
    expected = _shapes(like, _as_tensors)
    tensors = _tensors(folder, hf, expected)
    if like.config.n_labels:  # which reads no output matrix
        tensors.pop(hf.head, None)
    _require_tensors(folder, tensors, expected, like, hf)
    config = like.config

    def leaf(path: tuple, like: jax.ShapeDtypeStruct) -> jax.Array:
        values = _buffer(like.shape)
        for name, view in _as_tensors(path, values, config):
            tensors[name].read(view)
            advance(view.nbytes)
        return jax.make_array_from_callback(like.shape, like.sharding, lambda index: values[index])

    size = sum(4 * leaf.size for leaf in jax.tree.leaves(like))  # of all devices
    with stage(f"reading the weights in {folder}", size, unit="MB") as advance:
        return jax.tree_util.tree_map_with_path(leaf, like)


def _merge_adapter(base: Model, adapter: Adapter, like: Model) -> Model:
    """A model with the updates of an adapter of peft, and with its head for labels if it has one."""
    hf = hugging_face(like.config)
    updates = adapter.updates(_shapes(like, _by_name), hf.prefix, like.config.linear)
    leaves = dict(jax.tree_util.tree_leaves_with_path(base))

    def leaf(path: tuple, like: jax.ShapeDtypeStruct) -> jax.Array:
        values = np.zeros(like.shape, np.float32)
        views = dict(_by_name(path, values, base.config))
        if hf.labels in views and hf.labels in adapter.tensors:
            ((_, view),) = _as_tensors(path, values, base.config)
            adapter.tensors[hf.labels].require(view.shape, "its base")
            adapter.tensors[hf.labels].read(view)
            return jax.device_put(values, like.sharding)
        if not views.keys() & updates.keys():
            return leaves[path]
        for name in views.keys() & updates.keys():
            views[name][:] = updates[name]
        return leaves[path] + jax.device_put(values, like.sharding)

    return jax.tree_util.tree_map_with_path(leaf, like)


def _buffer(shape: tuple[int, ...]) -> np.ndarray:
    """Memory for float32 of this shape, aligned as XLA wants it: a CPU takes it over and does not copy it."""
    size = math.prod(shape) * 4
    memory = np.empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size].view(np.float32).reshape(shape)


def _tensors(folder: Path, hf: HuggingFaceTensors, expected: Collection[str]) -> dict[str, Tensor]:
    """The tensors of a folder, by the names that transformers gives them now; `expected` are the model's."""
    tensors: dict[str, Tensor] = {}
    for tensor in itertools.chain.from_iterable(map(find_tensors, find_files(folder))):
        name = OLD_NORM.sub(lambda end: NORM[end[0]], WRAPPERS.sub("", tensor.name)).removeprefix(hf.prefix)
        is_expected = not {name, hf.prefix + name}.isdisjoint(expected)
        if is_expected or not hf.skipped.fullmatch(name):
            name = hf.prefix + name if hf.prefix + name in expected else name
            if name in tensors:
                raise CheckpointError(f"{folder}: tensor {tensor.name} is there twice; copy the model again")
            tensors[name] = tensor
    return tensors


def _require_tensors(
    folder: Path, tensors: dict[str, Tensor], expected: dict[str, tuple[int, ...]], like: Model, hf: HuggingFaceTensors
) -> None:
    """Refuse tensors that are missing, of another shape or dtype, or not the model's."""
    title = like.config.title
    missing, extra = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys() - {hf.head})
    if missing:
        raise CheckpointError(f"{folder}: tensor {missing[0]} is missing{_and_more(missing)}; copy the model again")
    if extra:
        raise CheckpointError(
            f"{folder}: tensor {tensors[extra[0]].name} is not {title}'s{_and_more(extra)}; it is another model's"
        )
    expected = expected | {hf.head: expected[hf.embedding]}
    for name, tensor in tensors.items():
        tensor.require(expected[name])
    if hf.head in tensors and not like.config.untied_head:
        embedding = tensors[hf.embedding]
        head, tied = np.empty(embedding.shape, np.float32), np.empty(embedding.shape, np.float32)
        tensors[hf.head].read(head)
        embedding.read(tied)
        if not np.array_equal(head, tied):
            raise CheckpointError(
                f"{folder}: tensor {hf.head} differs from {embedding.name}, and {title}'s head is its token embedding"
            )


def _shapes(like: Model, views: Callable) -> dict[str, tuple[int, ...]]:
    """The shapes of a model's tensors by name: as they are there (_as_tensors), or here (_by_name)."""
    by_name = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(like):
        parts = views(path, np.broadcast_to(np.float32(0), leaf.shape), like.config)
        by_name |= {name: view.shape for name, view in parts}
    return by_name


def _and_more(names: list[str]) -> str:
    return f", and {len(names) - 1} more" if len(names) > 1 else ""

"""GPT-2's weights in and out in Hugging Face's layout: config.json and safetensors, renamed and stacked."""

import contextlib
import dataclasses
import json
import math
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy
from jax.sharding import Mesh

from jaxgpt.errors import CheckpointError, UsageError
from jaxgpt.models.convert import with_config, with_n_heads
from jaxgpt.models.gpt2 import GPT2
from jaxgpt.models.lora import combine, merge, partition, with_base_weights
from jaxgpt.runs.checkpoint import restore_weights
from jaxgpt.runs.fingerprint import combined
from jaxgpt.runs.folder import make_new
from jaxgpt.runs.weights import NAMES, ONLY, TIED, WeightsRef, resolve_weights
from jaxgpt.runtime.mesh import single_device, with_shardings

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
PREFIX = "transformer."  # of every name that transformers writes; the files of OpenAI's models are without
MASKS = re.compile(r"h\.\d+\.attn\.(masked_)?bias")  # constants that old versions of transformers kept as weights
HEAD = "lm_head.weight"  # the output matrix; a tied one is the token embedding, and transformers leaves it out
SCORE = "score.weight"  # the head for labels, there (n_labels, C)
FLOATS = ("F64", "F32", "F16", "BF16")


def load(source: WeightsRef, mesh: Mesh | None = None, **changes: Any) -> GPT2:
    """The weights of a source, float32.

    Args:
      mesh: where; None: on the default device.
      changes: fields of GPT2Config that are not the weights' own: dtype, attention, unroll, pad_vocab_to_multiple_of.

    Of a run with adapters they are those that the adapters are merged into. A head for labels is part of them.

    Raises:
      CheckpointError: a file is missing or damaged, or its tensors are not the model's; it names the first of them.
    """
    like = with_shardings(jax.eval_shape(lambda: GPT2(source.config, jax.random.key(0))), mesh or single_device())
    if source.is_run:
        trained, frozen = partition(like)
        model, progress = restore_weights(source.fetch(), trained, source.step)
        if source.base:
            padding = {"pad_vocab_to_multiple_of": source.config.pad_vocab_to_multiple_of}
            try:
                given = with_n_heads(load(resolve_weights(source.base), mesh, **padding), source.config.predict_tokens)
                base = with_base_weights(frozen, given)
            except CheckpointError as error:
                raise CheckpointError(
                    f"{source.name} has adapters of weights that are not to be had ({error}); put them back, or go on "
                    "with the run and their new place as --init-from"
                ) from None
            require_base(base, progress.identity, source.base)
            model = merge(combine(model, base))
    else:
        model = _read(source.fetch(), like)
    return with_config(model, dataclasses.replace(model.config, **changes))


def require_base(base: GPT2, identity: dict[str, Any], name: str) -> None:
    """Refuse other weights than those that the adapters of a run were trained beside."""
    now, then = f"{int(combined(base)):08x}", identity.get("base")
    if now != then:
        raise CheckpointError(
            f"{name}: its weights have the fingerprint {now}, and the adapters were trained beside {then}; "
            "put the weights back that were there"
        )


def load_hf(name_or_folder: str | Path, **changes: Any) -> GPT2:
    """A model in Hugging Face's layout: gpt2, gpt2-medium, gpt2-large, gpt2-xl, or a folder. Else as `load`."""
    source = resolve_weights(name_or_folder)
    if source.is_run:
        raise CheckpointError(f"{name_or_folder}: a run of train.py, not a model in Hugging Face's layout")
    return load(source, **changes)


def save_hf(model: GPT2, folder: str | Path, labels: Sequence[str] = ()) -> None:
    """Write config.json and model.safetensors, float32, for `transformers` and for `load_hf`; without padding.

    With a head for labels it is a GPT2ForSequenceClassification, which `load_hf` does not read. It looks for the last
    token that is not padding, and gives our logits for a text's tokens and <|endoftext|>.

    Args:
      labels: the names that the head's logits have, as many as it has.

    Raises:
      UsageError: the folder has files in it already; or the model predicts several tokens, which theirs don't.
      CheckpointError: it can't be written.
    """
    if model.config.predict_tokens > 1:
        raise UsageError(
            f"a GPT-2 has one head, this model {model.config.predict_tokens}; save variants.with_n_heads(model, 1)"
        )
    folder, tensors = Path(folder), {}
    model = with_config(model, dataclasses.replace(model.config, pad_vocab_to_multiple_of=1))
    for path, leaf in jax.tree_util.tree_leaves_with_path(model):
        values, names = np.asarray(leaf), hf_names(path, model.config.n_layer)
        if names == [SCORE]:
            values = np.ascontiguousarray(values.T)
        tensors |= zip(names, values if _stacked(path) else [values], strict=True)
    config = {theirs: getattr(model.config, ours) for theirs, ours in NAMES.items()}
    config |= {name: allowed[0] for name, allowed in ONLY.items()} | {TIED: not model.config.untied_head}
    end = 50256 if model.config.vocab_size > 50256 else None  # <|endoftext|>
    config |= {"architectures": ["GPT2LMHeadModel"], "bos_token_id": end, "eos_token_id": end, "dtype": "float32"}
    if model.config.n_labels:
        by_id = dict(zip(range(model.config.n_labels), labels, strict=True))
        config |= {"architectures": ["GPT2ForSequenceClassification"], "num_labels": len(by_id), "id2label": by_id}
        config |= {"label2id": {label: number for number, label in by_id.items()}}
        config |= {"pad_token_id": 0}  # any but <|endoftext|>, which ends a text; 0 is what examples.py fills up with
    make_new(folder)
    try:
        safetensors.numpy.save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        shutil.copymode(folder / "config.json", folder / WEIGHTS)  # safetensors makes it its owner's alone
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{folder}: the model could not be written ({error}); make room or mend it") from None


def hf_names(path: tuple, n_layer: int) -> list[str]:
    """What Hugging Face calls a leaf of GPT2, by its path in the tree: one name, or one for each layer of a stack.

    `.wpe.embedding.value` -> `transformer.wpe.weight`; `.h.ln_1.scale.value` -> `transformer.h.0.ln_1.weight`, ...
    """
    name = jax.tree_util.keystr(path).strip(".").removesuffix(".value")
    name = re.sub(r"\b(kernel|scale|embedding)$", "weight", name)
    name = name if name in (SCORE, HEAD) else PREFIX + name
    return [name.replace(".h.", f".h.{layer}.") for layer in range(n_layer)] if _stacked(path) else [name]


def _stacked(path: tuple) -> bool:
    return jax.tree_util.keystr(path).startswith(".h.")


# ---- Reading, a tensor at a time: it takes no more memory than the model and one tensor


@dataclasses.dataclass(frozen=True)
class _Tensor:
    """A tensor in a file, not read yet."""

    file: Path
    name: str
    shape: tuple[int, ...]
    dtype: str

    def read(self, to: np.ndarray) -> None:
        # A file is opened for each of its tensors because the pages of one that stays open stay in memory.
        with _opened(self.file) as tensors:
            values = tensors.get_tensor(self.name)
        with np.errstate(over="ignore"):  # of float64; the next line sees it
            to[:] = values
        if not np.isfinite(to.sum(dtype=np.float64)):  # finite float32 numbers can't reach float64's infinity
            raise CheckpointError(f"{self.file}: tensor {self.name} has numbers that are not finite; it is of no use")


def _read(folder: Path, like: GPT2) -> GPT2:
    n_layer, tensors = like.config.n_layer, _tensors(folder)
    _check(folder, tensors, like)

    def leaf(path: tuple, like: jax.ShapeDtypeStruct) -> jax.Array:
        values, names = _buffer(like.shape), hf_names(path, n_layer)
        for place, name in zip(values if _stacked(path) else [values], names, strict=True):
            tensors[name].read(place)
        return jax.make_array_from_callback(like.shape, like.sharding, lambda index: values[index])

    return jax.tree_util.tree_map_with_path(leaf, like)


def _buffer(shape: tuple[int, ...]) -> np.ndarray:
    """Memory for float32 of this shape, aligned as XLA wants it: a CPU takes it over and does not copy it."""
    size = math.prod(shape) * 4
    memory = np.empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size].view(np.float32).reshape(shape)


def _tensors(folder: Path) -> dict[str, _Tensor]:
    """The tensors of a folder, by the names that transformers gives them now."""
    tensors: dict[str, _Tensor] = {}
    for file in _files(folder):
        with _opened(file) as content:
            for stored in content.keys():  # noqa: SIM118 -- it is no dict
                part = content.get_slice(stored)
                name = stored.removeprefix(PREFIX)
                if not MASKS.fullmatch(name):
                    name = name if name == HEAD else PREFIX + name
                    if name in tensors:
                        raise CheckpointError(f"{folder}: tensor {stored} is there twice; copy the whole model again")
                    tensors[name] = _Tensor(file, stored, tuple(part.get_shape()), part.get_dtype())
    return tensors


def _files(folder: Path) -> list[Path]:
    if (folder / WEIGHTS).exists():
        return [folder / WEIGHTS]
    if (folder / INDEX).exists():
        try:
            names = set(json.loads((folder / INDEX).read_text())["weight_map"].values())
            if not all(re.fullmatch(r"[\w.-]+", name) for name in names):
                raise ValueError(f"{names} are not all names of files beside it")
            return [folder / name for name in sorted(names)]
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise CheckpointError(
                f"{folder / INDEX}: no index of safetensors files ({error!r}); write it again"
            ) from None
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".pth", ".pkl", ".ckpt"))
    if pickles:
        raise CheckpointError(
            f"{folder}: no {WEIGHTS} there, and {pickles[0]} is a pickle, which can run any code when it is read; "
            "convert it where you trust it, with save_pretrained of transformers"
        )
    raise CheckpointError(f"{folder}: no {WEIGHTS} there, nor {INDEX}; save_pretrained of transformers writes it")


def _check(folder: Path, tensors: dict[str, _Tensor], like: GPT2) -> None:
    """Every tensor is there, has its shape, and there is no other."""
    shapes = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(like):
        for name in hf_names(path, like.config.n_layer):
            shapes[name] = leaf.shape[1:] if _stacked(path) else leaf.shape
    missing, extra = sorted(shapes.keys() - tensors.keys()), sorted(tensors.keys() - shapes.keys() - {HEAD})
    if missing:
        raise CheckpointError(
            f"{folder}: tensor {missing[0]} is missing{_and_more(missing)}; copy the whole model again"
        )
    if extra == [PREFIX + SCORE]:
        raise CheckpointError(
            f"{folder}: a head for labels ({SCORE}), which is not read; name the run that it is of, or another model"
        )
    if extra:
        raise CheckpointError(
            f"{folder}: tensor {tensors[extra[0]].name} is not GPT-2's{_and_more(extra)}; it is another model's"
        )
    shapes[HEAD] = shapes[f"{PREFIX}wte.weight"]
    for name, tensor in tensors.items():
        if tensor.shape != (expected := shapes[name]):
            raise CheckpointError(
                f"{tensor.file}: tensor {tensor.name} has shape {tensor.shape}, and by config.json it has {expected}"
            )
        if tensor.dtype not in FLOATS:
            raise CheckpointError(
                f"{tensor.file}: tensor {tensor.name} is {tensor.dtype}; {', '.join(FLOATS)} are read"
            )
    if HEAD in tensors and not like.config.untied_head:
        embedding = tensors[f"{PREFIX}wte.weight"]
        head, tied = np.empty(embedding.shape, np.float32), np.empty(embedding.shape, np.float32)
        tensors[HEAD].read(head)
        embedding.read(tied)
        if not np.array_equal(head, tied):
            raise CheckpointError(
                f"{folder}: tensor {HEAD} differs from {embedding.name}, and GPT-2's head is its token embedding"
            )


def _and_more(names: list[str]) -> str:
    return f", and {len(names) - 1} more" if len(names) > 1 else ""


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[safetensors.safe_open]:
    try:
        with safetensors.safe_open(file, framework="numpy") as tensors:
            yield tensors
    except (OSError, safetensors.SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"{file}: damaged, or no safetensors file ({reason}); copy it again") from None

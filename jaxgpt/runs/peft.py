"""Adapter folders of the library `peft`: low-rank updates of the linear layers of another model.

Hu et al. (2022), "LoRA: Low-Rank Adaptation of Large Language Models". A layer's kernel W becomes
W + alpha / rank * A B, whatever `fan_in_fan_out` is: that only says which way round W is stored.
"""

import dataclasses
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxgpt.errors import CheckpointError
from jaxgpt.runs.hf_config import read_json
from jaxgpt.runs.tensors import Tensor, explain_missing, find_tensors

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX, HEAD = "base_model.model.", "score.weight"

# What else decides an adapter's numbers, and the values that we compute; others change the base's own weights, or more.
REQUIRED = {
    "peft_type": ("LORA",),
    "bias": ("none", None),
    "init_lora_weights": (True, False, None, "gaussian", "eva", "orthogonal"),
    **dict.fromkeys(("use_dora", "lora_bias", "use_qalora", "layer_replication"), (False, None)),
    **dict.fromkeys(("alora_invocation_tokens", "trainable_token_indices", "target_parameters"), (None, [])),
}


@dataclasses.dataclass(frozen=True)
class Adapter:
    """An adapter that has been found, and not been read.

    Attributes:
      folder: where it is.
      base: the weights that it changes, as adapter_config.json names them.
      alpha: what it adds is multiplied by this, over its rank.
      alpha_pattern: other values of it, by patterns of layers' names.
      root: whether it is over the root of the rank (rank-stabilized LoRA, Kalajdzievski, 2023).
      tensors: those of its file, by name, without the prefix.
    """

    folder: Path
    base: str
    alpha: float
    alpha_pattern: Mapping[str, float]
    root: bool
    tensors: Mapping[str, Tensor]

    @property
    def n_labels(self) -> int:
        """The labels of its own head for them; 0: it has none."""
        return self.tensors[HEAD].shape[0] if HEAD in self.tensors and self.tensors[HEAD].shape else 0

    def scale(self, layer: str, rank: int) -> float:
        """What A B is multiplied by in a layer."""
        matches = (alpha for key, alpha in self.alpha_pattern.items() if re.match(rf"(.*\.)?({key})$", layer))
        return next(matches, self.alpha) / (math.sqrt(rank) if self.root else rank)

    def updates(
        self, kernels: Mapping[str, tuple[int, ...]], prefix: str, linear: tuple[str, ...]
    ) -> dict[str, np.ndarray]:
        """What is added to kernels, float32 (in, out), by their names.

        Args:
          kernels: the shapes of all that the base has, by name, those of kernels (in, out).
          prefix: of the base's names, which an adapter of a model without a head does not have.
          linear: what the names of the layers that may have adapters end with.

        Raises:
          CheckpointError: it changes something else, or has another shape.
        """
        updates, path = {}, self.folder / WEIGHTS
        for name, a in self.tensors.items():
            if name == HEAD:
                continue
            layer, _, kind = name.rpartition(".lora_")
            kernel = prefix + layer.removeprefix(prefix) + ".weight"
            if kind not in ("A.weight", "B.weight") or not layer.endswith(linear) or kernel not in kernels:
                raise CheckpointError(f"{path}: tensor {a.name} is no LoRA matrix of {', '.join(linear)} of its base")
            b = self.tensors.get(f"{layer}.lora_B.weight")
            if b is None or f"{layer}.lora_A.weight" not in self.tensors:
                raise CheckpointError(f"{path}: tensor {a.name} is there without its other half; copy it again")
            if kind == "A.weight":
                (n_in, n_out), rank = kernels[kernel], a.shape[0] if len(a.shape) == 2 else 0
                a.require((rank, n_in), "its base")
                b.require((n_out, rank), "its base")
                if rank < 1:
                    raise CheckpointError(f"{path}: tensor {a.name} has the rank 0; save the adapter again")
                with np.errstate(over="ignore", invalid="ignore"):  # the next line sees it
                    updates[kernel] = np.float32(self.scale(layer, rank)) * (_read(a).T @ _read(b).T)
                if not np.isfinite(updates[kernel]).all():
                    raise CheckpointError(
                        f"{path}: tensor {a.name} times lora_alpha is not finite; use another adapter"
                    )
        return updates


def find_adapter(folder: Path) -> Adapter | None:
    """The adapter of a folder; None if it has none.

    Raises:
      CheckpointError: it is of a kind that is not read, or it is corrupt.
    """
    path = folder / CONFIG
    content = read_json(path)
    if content is None:
        return None
    for name, allowed in REQUIRED.items():
        if (value := content.get(name, allowed[0])) not in allowed:
            raise CheckpointError(f"{path}: {name} is {value!r:.40}; only {allowed[0]!r} is read: merge it with peft")
    base, alpha, patterns = (content.get(name) for name in ("base_model_name_or_path", "lora_alpha", "alpha_pattern"))
    patterns = patterns or {}
    if not isinstance(base, str) or not _is_number(alpha) or not _are_patterns(patterns):
        raise CheckpointError(
            f"{path}: its base_model_name_or_path, lora_alpha or alpha_pattern are not valid for a LoRA adapter; "
            "save it again"
        )
    if not (folder / WEIGHTS).exists():
        raise CheckpointError(explain_missing(folder, WEIGHTS, "; save_pretrained of peft writes it"))
    tensors = {tensor.name.removeprefix(PREFIX): tensor for tensor in find_tensors(folder / WEIGHTS)}
    adapter = Adapter(folder, base, alpha, patterns, bool(content.get("use_rslora")), tensors)
    if adapter.n_labels >= 2**16:  # an empty tensor may have any
        raise CheckpointError(f"{folder / WEIGHTS}: tensor {HEAD} has {adapter.n_labels:,} labels; use another adapter")
    return adapter


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _are_patterns(patterns: Any) -> bool:
    """Whether these are numbers by patterns, few and simple enough to be matched at once: no repeated groups."""
    try:
        simple = all(len(key) < 200 and sum(map(key.count, "*+{")) < 4 for key in patterns) and len(patterns) < 2000
        simple = simple and not any(re.search(r"\)[*+{]", key) for key in patterns)
        return simple and all(re.compile(key) and _is_number(value) for key, value in patterns.items())
    except (AttributeError, TypeError, re.error, RecursionError, OverflowError):
        return False


def _read(tensor: Tensor) -> np.ndarray:
    values = np.empty(tensor.shape, np.float32)
    tensor.read(values)
    return values

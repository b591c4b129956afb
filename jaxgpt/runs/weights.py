"""Where trained weights are: a run of ours, a folder in Hugging Face's layout, or one of OpenAI's models by name."""

import dataclasses
import functools
import math
import os
from pathlib import Path
from typing import Any

from jaxgpt import console
from jaxgpt.data.config import DataConfig
from jaxgpt.data.encoder_tokenizer import for_encoder
from jaxgpt.data.gpt2_tokenizer import GPT2_TOKENIZER
from jaxgpt.data.open_tokenizer import FILE as TOKENIZER_FILE
from jaxgpt.data.open_tokenizer import read_kept, read_tokenizer
from jaxgpt.data.tokenizer import Template, Tokenizer
from jaxgpt.errors import CheckpointError, DataError
from jaxgpt.models.configs import CONFIGS, REWARD, SCORE, SIZES, GPT2Config, ModelConfig
from jaxgpt.models.flags import ARCH_FLAGS
from jaxgpt.runs.folder import describe_missing, require_utf8
from jaxgpt.runs.hf_config import (
    are_labels,
    build_config,
    name_labels,
    parse_config,
    read_bool,
    read_json,
    read_text_format,
)
from jaxgpt.runs.hub import HUB, OWNER, download
from jaxgpt.runs.peft import Adapter, find_adapter
from jaxgpt.runs.tensors import find_files, find_tensors, has_weights


@dataclasses.dataclass(frozen=True)
class WeightsRef:
    """Weights that have been found, and not been read.

    Attributes:
      name: what the user calls them.
      config: the model's shape.
      is_run: whether train.py made them; else they are in Hugging Face's layout.
      folder: where they are; None for a model on the hub.
      step: a run's checkpoint; None: the newest.
      base: the weights that adapters adapt, a run's or those of peft; None: it has none.
      labels: the names of its labels, if it has a head for them; of a reward model ("reward",), of scores ("score",).
      T: the most tokens of a text that gets a label or a reward; None without a head.
      template: what surrounds such a text; None: the tokenizer's own template.
      adapter: of peft, which changes the weights of `adapted`; None: there is none.
      data_kind: the kind of a run's data: "text", "completions", "labels" or another.
      is_chat: whether a run's data is conversations.
      tokenizer_sha256: of a run's tokenizer; None: GPT-2's, of an older run.
    """

    name: str
    config: ModelConfig
    is_run: bool
    folder: Path | None
    step: int | None = None
    base: str | None = None
    labels: tuple[str, ...] = ()
    T: int | None = None
    template: Template | None = None
    data_kind: str = "text"
    is_chat: bool = False
    tokenizer_sha256: str | None = None
    adapter: Adapter | None = None
    adapted: "WeightsRef | None" = None

    @property
    def is_reward(self) -> bool:
        """Whether its head, of one output, scores answers."""
        return self.labels == REWARD

    @property
    def is_regression(self) -> bool:
        """Whether its head, of one output, gives texts a number."""
        return self.labels == SCORE

    @functools.cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that the weights were trained with.

        Raises:
          CheckpointError: it is not there, or has other token ids than the model.
        """
        size, has_file = self.config.vocab_size, self.folder and os.path.lexists(self.folder / TOKENIZER_FILE)
        if self.adapted is not None:
            return self.adapted.tokenizer
        if not self.is_run and not has_file:
            if self.config.bidirectional:
                save = "save its tokenizer there with transformers, AutoTokenizer.from_pretrained and save_pretrained"
                raise CheckpointError(f"{self.folder}: no {TOKENIZER_FILE}, which an encoder needs; {save}")
            if size != GPT2_TOKENIZER.vocab_size:
                raise CheckpointError(_describe_vocabulary(self.name, size))
            return GPT2_TOKENIZER
        try:
            path = self.folder / TOKENIZER_FILE
            kept = read_kept(self.folder, self.tokenizer_sha256) if self.is_run else read_tokenizer(path)
            if self.config.bidirectional:
                kept = dataclasses.replace(for_encoder(kept), token_types=self.config.token_types)
            else:
                kept = kept.for_decoder()
        except (DataError, FileNotFoundError) as error:
            raise CheckpointError(str(error)) from None
        if size < kept.vocab_size:
            has = f"{size:,} token ids, and its tokenizer has {kept.vocab_size:,}"
            raise CheckpointError(f"{self.name}: {has}; put the right {TOKENIZER_FILE} there")
        return kept

    def fetch(self) -> Path:
        """The folder of the weights; a model on the hub is downloaded into Hugging Face's cache, once."""
        return self.folder or download(self.name)


def resolve_weights(name_or_folder: str | Path) -> WeightsRef:
    """Find weights: a folder, one of a run's checkpoints, or one of OpenAI's models. A folder of that name comes first.

    Raises:
      CheckpointError: there are none, or the architecture is not supported.
    """
    name, folder = str(name_or_folder), Path(name_or_folder)
    if not name or not os.path.isdir(folder):  # Path.is_dir raises an error for a name that is too long
        if (on_hub := name.removeprefix(f"{OWNER}/")) in HUB:
            return WeightsRef(on_hub, GPT2Config(**SIZES[on_hub]), is_run=False, folder=None)
        problem = "is a file, not a folder" if name and os.path.exists(folder) else "no such folder"
        raise CheckpointError(
            f"{name or 'an empty name'}: {problem}; weights have the name of a run folder, "
            f"of a folder with config.json and model.safetensors, or {', '.join(HUB)}"
        )
    require_utf8(folder)
    step = None
    if folder.parent.name == "checkpoints" and folder.name.isdecimal() and not (folder / "config.json").exists():
        folder, step = folder.parent.parent, int(folder.name)
    if adapter := find_adapter(folder):
        return _describe_adapter(name, adapter)
    path = folder / "config.json"
    content = read_json(path)
    if content is None:
        starting = (folder / "checkpoints").is_dir()
        state = (
            "a run that is just starting; wait for it"
            if starting
            else "no run, nor Hugging Face's layout; name another"
        )
        raise CheckpointError(f"{folder}: no config.json there: {state}")
    is_run = (folder / "checkpoints").is_dir() or "block_size" in content
    if not is_run:
        return _describe_folder(name, path, content)
    if "block_size" not in content:  # no model of an unknown shape, whose checkpoints would look corrupt
        missing = describe_missing(content)
        raise CheckpointError(f"{path}: {missing}, which any run's has; bring it back, or delete it and resume the run")
    config, labels = _parse_run_config(path, content), content.get("labels", ())
    base = content.get("base", content.get("init_from")) if config.lora else None
    T, kind = _read_T(path, content, config) if labels else None, _data_kind(content)
    is_chat = read_bool(path, content, "is_chat", False)
    known = {"data_kind": kind, "is_chat": is_chat, "tokenizer_sha256": content.get("tokenizer_sha256")}
    return WeightsRef(name, config, is_run, folder, step, base, tuple(labels), T, **known)


def require_text_model(source: WeightsRef) -> None:
    """Refuse an encoder, a model of labels or one of an unknown tokenizer, for what writes text or scores it."""
    if source.config.bidirectional and not source.labels:
        tell = f"{console.program('evaluate')} --data measures it, {console.program('train')} --init-from fine-tunes it"
        raise CheckpointError(f"{source.name}: an encoder, which writes no text and scores none; {tell}")
    _ = source.tokenizer
    if source.is_reward:
        tell = f"{console.program('evaluate')} judges answers by it, --pairs or --data"
        raise CheckpointError(f"{source.name}: a reward model, which writes no text; {tell}")
    if source.labels:
        raise CheckpointError(f"{source.name}: predicts labels, and writes no text; see {console.program('predict')}")


def require_label_model(source: WeightsRef) -> None:
    """Refuse a model that predicts no labels of texts, or whose tokenizer is not known."""
    if source.is_reward:
        tell = f"{console.program('evaluate')} --data scores texts"
        raise CheckpointError(f"{source.name}: a reward model, which predicts no labels; {tell}")
    if not source.labels:
        train = console.program("train")
        raise CheckpointError(f"{source.name}: predicts no labels; {train} --recipe classify makes a model that does")
    _ = source.tokenizer


def require_reward_model(source: WeightsRef) -> None:
    """Refuse a model that gives no rewards, or whose tokenizer is not known."""
    if not source.is_reward:
        train = console.program("train")
        raise CheckpointError(f"{source.name}: not a reward model; {train} --objective reward makes one")
    _ = source.tokenizer


def _describe_vocabulary(name: str, size: int) -> str:
    """The error for weights without a tokenizer, and with another number of token ids than GPT-2's has."""
    known, remedy = GPT2_TOKENIZER.vocab_size, "use a model with GPT-2's"
    if size > known:
        remedy = f"if they were added to GPT-2's, remove them: model.resize_token_embeddings({known}) of transformers"
    others = "jaxgpt.inference.generate and jaxgpt.inference.score take ids of any vocabulary"
    return f"{name}: {size:,} token ids, and GPT-2's tokenizer has {known:,}; {remedy}; or {others}"


def _describe_folder(name: str, path: Path, content: dict[str, Any]) -> WeightsRef:
    config, labels = parse_config(path, content)
    if has_weights(path.parent):
        count = sum(len(find_tensors(file)) for file in find_files(path.parent))
        if config.n_layer > count:  # each has several; else all that they are called would be listed, to name one
            tensors = console.plural(count, "tensor")
            raise CheckpointError(
                f"{path}: {config.n_layer:,} layers, and the weights beside it are {tensors}; copy the model again"
            )
    source = WeightsRef(name, config, is_run=False, folder=path.parent, labels=labels)
    if not labels:
        return source
    T, template = read_text_format(path.parent, config, content.get("pad_token_id"))
    return dataclasses.replace(source, T=T, template=template)


def _describe_adapter(name: str, adapter: Adapter) -> WeightsRef:
    """The base of an adapter of peft, which is the model beside it or the one that it names, with its changes."""
    folder, path = adapter.folder, adapter.folder / "config.json"
    try:
        if has_weights(folder) and (content := read_json(path)):
            base = _describe_folder(name, path, content)
        elif os.path.realpath(adapter.base) == os.path.realpath(folder):
            raise CheckpointError("it names itself")
        elif find_adapter(Path(adapter.base)):  # which may name this one
            raise CheckpointError(f"{adapter.base} is an adapter; merge it")
        else:
            base = resolve_weights(adapter.base)
        if base.is_run:
            raise CheckpointError(f"{base.name} is a run; export it")
    except (CheckpointError, ValueError) as error:  # ValueError: no name can be so
        raise CheckpointError(
            f"{name}: an adapter for weights that can't be loaded ({error}); put their config.json and "
            f"model.safetensors beside it, or their name into its adapter_config.json"
        ) from None
    source = dataclasses.replace(base, name=name, folder=folder, base=base.name, adapter=adapter, adapted=base)
    n_labels = adapter.n_labels
    if not n_labels:
        return source
    if base.config.bidirectional:
        raise CheckpointError(f"{name}: a head for labels of an encoder's adapter is not read: merge it with peft")
    labels = base.labels if len(base.labels) == n_labels else name_labels(n_labels)
    config = dataclasses.replace(base.config, n_labels=n_labels)
    T, template = read_text_format(folder, config)
    return dataclasses.replace(source, config=config, labels=labels, T=T, template=template)


def _parse_run_config(path: Path, content: dict[str, Any]) -> ModelConfig:
    # Names that are not there are younger than the run, and had their default's effect.
    arch = CONFIGS.get(str(content.get("arch", "gpt2")))
    if arch is None:
        raise CheckpointError(f"{path}: arch is {content['arch']!r:.40}, and must be one of {', '.join(CONFIGS)}")
    fields = {field.name for field in dataclasses.fields(arch)}
    names = {"vocab_size", *arch.shape, "pad_vocab_to_multiple_of", "predict_tokens"} & fields & content.keys()
    names -= {name for name in names & ARCH_FLAGS.keys() if content[name] is None}  # the architecture's default
    config = build_config(path, arch, {name: content[name] for name in names})
    config = dataclasses.replace(config, untied_head=read_bool(path, content, "untied_head", False))
    defaults = {"lora": 0, "lora_alpha": GPT2Config.lora_alpha, "lora_on": GPT2Config.lora_on}
    adapters = {name: content.get(name, default) for name, default in defaults.items()}
    labels = content.get("labels", [])
    types = ((int,), (int, float), (str,))
    valid = all(type(value) in kinds for value, kinds in zip(adapters.values(), types, strict=True))
    valid = valid and adapters["lora"] >= 0 and math.isfinite(adapters["lora_alpha"])
    valid = valid and isinstance(_data_kind(content), str) and isinstance(labels, list)
    valid = valid and not (adapters["lora"] and {*adapters["lora_on"].split(",")} - {*getattr(arch, "linear", ())})
    if not valid or not (labels in ([], [*REWARD], [*SCORE]) or are_labels(labels)):
        raise CheckpointError(
            f"{path}: its data kind, labels or adapters are invalid; it is rewritten when the run resumes"
        )
    if adapters["lora"] and not isinstance(content.get("base", content.get("init_from")), str):
        raise CheckpointError(f"{path}: adapters of rank {adapters['lora']}, and no init_from that they adapt")
    return dataclasses.replace(config, **adapters if adapters["lora"] else {}, n_labels=len(labels))


def _read_T(path: Path, content: dict[str, Any], config: ModelConfig) -> int:
    T = content.get("T", DataConfig.T)
    if type(T) is not int or not 1 <= T <= config.block_size:
        raise CheckpointError(f"{path}: T is {T!r:.40}, and must be a whole number, from 1 to {config.block_size:,}")
    return T


def _data_kind(content: dict[str, Any]) -> Any:
    return content.get("data_kind", content.get("objective", "text"))  # the older name

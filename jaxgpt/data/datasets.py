"""What a run trains on, and what is held out: a text or examples, whichever --data and --val name."""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np

from jaxgpt.data import corpus, examples
from jaxgpt.data.order import shares
from jaxgpt.data.shards import Tokens
from jaxgpt.data.text import Text, Windows
from jaxgpt.errors import DataError, UsageError
from jaxgpt.training.config import TrainConfig

Data = Text | Windows | examples.Examples


def open_data(
    name: str, T: int, seed: int = 0, flag: str = "--data", split: str = "train", n: int = 1
) -> Text | examples.Examples:
    """A text or examples, whichever it names.

    Args:
      T: examples are in rows of so many tokens.
      flag: named it.
      split: of a folder.
      n: of the tokens that follow, how many of a text are to be predicted.
    """
    if not name:
        raise UsageError(f"{flag} is empty; name a file")
    if is_examples(name):
        return examples.load(name, T, seed)[0]
    try:
        return Text(**vars(corpus.load(name, split=split)), n=n)
    except DataError as error:
        raise DataError(str(error).replace("--data", flag)) from None


def load(config: TrainConfig) -> tuple[Data, Data | None]:
    """What --data or --mix and --val name, in the order that --order says.

    Raises:
      DataError: a file can't be read, or a record in it is wrong.
      UsageError: --val is neither a file of the same kind as --data nor a fraction; or there are flags that don't go
        together.
    """
    fraction, n = _fraction(config.val), config.predict_tokens
    if config.mix is None and is_examples(config.data):
        if config.order != "sequential":
            raise UsageError(
                f"--order {config.order}: {config.data} has examples, which come in a new order in every epoch anyhow; "
                "leave --order out"
            )
        first, *rest = examples.load(config.data, config.T, config.seed, fraction=fraction)
        if n > 1 and first.kind == "labels":
            raise UsageError(f"--predict-tokens {n}: a label is one; leave --predict-tokens out")
        if config.val is None or fraction:
            return first, rest[0] if rest else None
        if not is_examples(config.val):
            raise UsageError(f"--val {config.val}: --data has examples, so it must have some too, or be a fraction")
        held = examples.load(config.val, config.T, labels=first.labels)[0]
        if held.kind != first.kind:
            raise UsageError(f"--val {config.val} has {held.kind}, and --data {config.data} has {first.kind}")
        return first, held
    trained, held = _texts(config, fraction)
    if config.val is None or fraction:
        return trained, held
    if is_examples(config.val):
        raise UsageError(f"--val {config.val}: --data is a text, so it must be one too, or a fraction")
    held = open_data(config.val, config.T, flag="--val", split="val", n=n)
    if len(held.tokens) < 2:
        raise DataError(f"{held.name}: one token predicts nothing; --val needs a longer text")
    return trained, held


def trained_text(config: TrainConfig) -> Text | Windows:
    """The text or the mixture that a run with these flags trains on, without what --val holds out."""
    return _texts(config, _fraction(config.val))[0]


def _texts(config: TrainConfig, fraction: float) -> tuple[Text | Windows, Text | None]:
    """What is trained on, and the fraction that is held out, if --val is one."""
    seed = config.seed if config.order == "shuffled" else None
    if config.mix is None:
        text = open_data(config.data, config.T, n=config.predict_tokens)
        text, held = _split(text, fraction) if fraction else (text, None)
        return text if seed is None else Windows((text,), seed=seed), held
    if config.data != TrainConfig.data:
        raise UsageError(f"--mix {config.mix} and --data {config.data}: both say what to train on; leave one out")
    if fraction:
        raise UsageError(f"--val {config.val}: of a mixture no fraction can be held out; name a text or a folder")
    names, weights = shares(config.mix)
    for name in names:
        if is_examples(name):
            raise UsageError(f"--mix {config.mix}: {name} has examples, and only texts can be mixed; leave it out")
    texts = tuple(open_data(name, config.T, flag="--mix", n=config.predict_tokens) for name in names)
    return Windows(texts, weights, seed, config.mix), None


def is_examples(data: str) -> bool:
    return data.lower().endswith(examples.SUFFIXES) and not Path(data).is_dir()


def _fraction(val: str | None) -> float:
    """Of --val, if it is one; else 0."""
    if val == "":
        raise UsageError("--val is empty; name a file or a fraction")
    try:
        fraction = float(val or "file")
    except ValueError:
        return 0
    if not 0 < fraction < 1:
        raise UsageError(f"--val {val}: a fraction must lie between 0 and 1, or name a file")
    return fraction


def _split(text: Text, fraction: float) -> tuple[Text, Text]:
    at = len(text.tokens) - round(fraction * len(text.tokens))
    if not 1 <= at <= len(text.tokens) - 2:
        raise DataError(f"{text.name}: {len(text.tokens):,} tokens are too few for --val {fraction:g}; use a file")

    def part(first: int, end: int, name: str) -> Text:
        if isinstance(text.tokens, Tokens):  # of which nothing is read at a start
            tokens = text.tokens.part(first, end)
            fingerprint = tokens.fingerprint
        else:
            tokens = text.tokens[first:end]
            fingerprint = hashlib.sha256(np.ascontiguousarray(tokens, "<u2")).hexdigest()
        return dataclasses.replace(text, name=name, tokens=tokens, fingerprint=fingerprint)

    return part(0, at, text.name), part(at, len(text.tokens), f"the last {fraction:g} of {text.name}")

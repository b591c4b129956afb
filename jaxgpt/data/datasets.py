"""What a run trains on and validates on: a text or examples, whichever --data and --val name."""

import dataclasses
from pathlib import Path
from typing import Any

from jaxgpt.data import corpus, examples
from jaxgpt.data.base import Dataset
from jaxgpt.data.config import USUAL_FIELDS, DataConfig, FieldNames
from jaxgpt.data.encoder_tokenizer import for_encoder
from jaxgpt.data.formats import KINDS, UNPACKED, is_example, put_pairs_first
from jaxgpt.data.gpt2_tokenizer import GPT2_TOKENIZER
from jaxgpt.data.masking import VALIDATION_SEED, Masked, ordinary_tokens
from jaxgpt.data.open_tokenizer import open_tokenizer
from jaxgpt.data.order import parse_mixture
from jaxgpt.data.plain_tokenizers import CharTokenizer
from jaxgpt.data.records import JSON_LINES, find_name, read_first
from jaxgpt.data.shards import Tokens
from jaxgpt.data.squad import is_squad
from jaxgpt.data.text import Text, Windows
from jaxgpt.data.text_part import name_of_whole, parse_part
from jaxgpt.data.tokenizer import Tokenizer
from jaxgpt.errors import DataError, UsageError

SEARCHED = 2**20  # tokens of a validation text, for one that may be hidden


def open_data(
    name: str,
    B: int,
    T: int,
    seed: int = 0,
    flag: str = "--data",
    split: str = "train",
    horizon: int = 1,
    fields: FieldNames = USUAL_FIELDS,
    tokenizer: Tokenizer = GPT2_TOKENIZER,
) -> Text | examples.Examples:
    """A text, a part of one, or examples, whichever it names, in batches of B sequences of T tokens.

    Args:
      seed: of the order of examples.
      flag: the flag that named it, for errors.
      split: which split of a prepared folder.
      horizon: how many of the tokens that follow each token of a text are its targets.
      fields: the names of the fields of examples.
      tokenizer: of the texts.
    """
    if not name:
        raise UsageError(f"{flag} is empty; name a file")
    if is_examples(name, fields):
        return examples.load(name, B, T, seed, fields=fields, tokenizer=tokenizer)[0]
    require_no_names(fields, name)
    if part := parse_part(name):
        text = open_data(part.name, B, T, flag=flag, horizon=horizon, tokenizer=tokenizer)  # its train split
        if not isinstance(text, Text):
            raise UsageError(f"{flag} {name}: {part.name} has examples, and only a text has such parts")
        return _split(text, part.share)[part.is_end]
    try:
        return Text(**vars(corpus.load(name, split=split, tokenizer=tokenizer)), B=B, T=T, horizon=horizon)
    except DataError as error:
        raise DataError(str(error).replace("--data", flag)) from None


def load(
    config: DataConfig,
    seed: int = 0,
    horizon: int = 1,
    fields: FieldNames = USUAL_FIELDS,
    bidirectional: bool = False,
    packing: bool = True,
    learns_pairs: bool = False,
) -> tuple[Dataset, Dataset | None]:
    """The training data that --data or --mix names, in the order of --order, and the validation data of --val.

    A batch of the training data has accumulate * B sequences, one of the validation data B.

    Args:
      seed: of the order.
      horizon: how many tokens ahead are predicted.
      fields: the names of the fields of examples.
      bidirectional: whether it is for an encoder, whose tokenizer has a mask, a cls and a sep.
      packing: whether a row may hold several examples.
      learns_pairs: whether an example that has a pair of answers and a completion is the pair.

    Raises:
      DataError: a file can't be read, or a record in it is wrong.
      UsageError: --val is neither a file of the same kind as --data nor a fraction; or there are flags that don't go
        together.
    """
    if config.mix is None and is_examples(config.data, fields):
        return _examples(config, seed, horizon, fields, bidirectional, packing, learns_pairs)
    require_no_names(fields, config.mix or config.data)
    tokenizer = choose_tokenizer(config, bidirectional)
    train, validation = _texts(config, seed, horizon, tokenizer)
    if config.val is not None and not config.val_fraction:
        if is_examples(config.val):
            raise UsageError(f"--val {config.val}: --data is a text, so it must be one too, or a fraction")
        validation = open_validation(config.val, "--val", config, horizon, tokenizer)
    return hide_tokens(config, seed, train, validation) if bidirectional else (train, validation)


def open_validation(name: str, flag: str, config: DataConfig, horizon: int, tokenizer: Tokenizer) -> Text:
    """A validation text; of a prepared folder its val split."""
    options = {"split": "val", "horizon": horizon, "tokenizer": tokenizer}
    text = open_data(name, config.B, config.T, flag=flag, **options)
    if len(text.tokens) < 2:
        raise DataError(f"{text.name}: one token predicts nothing; {flag} needs a longer text")
    return text


def load_val_also(config: DataConfig, data: Dataset) -> dict[str, Text]:
    """The texts of --val-also by their names.

    Args:
      data: what the run trains on.
    """
    texts = config.val_also_texts
    if texts and data.kind != "text":
        raise UsageError(f"--val-also {config.val_also}: {data.name} is no text to continue, nor can these be measured")
    for name in texts.values():
        if is_examples(name):
            raise UsageError(f"--val-also {config.val_also}: {name} has examples, and only texts can be measured so")
    options = (config, data.horizon, data.tokenizer) if texts else ()
    return {name: open_validation(text, "--val-also", *options) for name, text in texts.items()}


def hide_tokens(
    config: DataConfig, seed: int, train: Text | Windows, validation: Text | None
) -> tuple[Masked, Masked | None]:
    """The texts of an encoder: windows of the whole run, so that each epoch hides others; and the validation's own."""
    T, ratio = config.T, config.mask_ratio
    if isinstance(train, Text):
        train = Windows((train,), B=train.B, T=T)
    if validation and not ordinary_tokens(validation.tokenizer)[validation.tokens[:SEARCHED]].any():
        raise DataError(f"{validation.name}: no token that may be hidden; --val needs another text")
    masked = Masked(train, ratio, seed, B=train.B, T=T)
    return masked, validation and Masked(validation, ratio, VALIDATION_SEED, B=validation.B, T=T)


def training_data(config: DataConfig, *args: Any, **options: Any) -> Dataset:
    """What a run with these flags trains on, without what --val reserves: as `load`, and no file of --val is read."""
    return load(config if config.val_fraction else dataclasses.replace(config, val=None), *args, **options)[0]


def choose_tokenizer(config: DataConfig, bidirectional: bool = False) -> Tokenizer:
    """The tokenizer that --tokenizer names, for an encoder or a decoder; `chars` has the characters of the text.

    Raises:
      UsageError: there is no such file, or the data is no text.
      DataError: the file is no tokenizer, or one for other models.
    """
    if config.tokenizer != "chars":
        tokenizer = open_tokenizer(config.tokenizer)
        return for_encoder(tokenizer) if bidirectional else tokenizer.for_decoder()
    if bidirectional:
        raise UsageError("--tokenizer chars: it has no token that hides another, which encoders need; use bytes")
    names = [config.data] if config.mix is None else parse_mixture(config.mix)[0]
    for name in names:
        if is_examples(name):
            raise UsageError(f"--tokenizer chars: {name} has examples, and takes the characters of a text; use bytes")
    parts = [corpus.read_characters(name_of_whole(name)) for name in names]
    return CharTokenizer.of((part.characters for part in parts), any(part.has_end for part in parts))


def require_no_names(fields: FieldNames, name: str) -> None:
    """Refuse names of fields for a text."""
    if fields != USUAL_FIELDS:
        raise UsageError(f"{fields}: {name} is not an example file, {', '.join(examples.SUFFIXES)}; leave it out")


def is_examples(data: str, fields: FieldNames = USUAL_FIELDS) -> bool:
    """Whether a name is that of an example file. JSON lines of texts alone are documents, which make a text."""
    if is_squad(data):
        return True
    if not data.lower().endswith(examples.SUFFIXES) or Path(data).is_dir():
        return False
    if fields != USUAL_FIELDS or not data.lower().endswith(JSON_LINES):
        return True
    record = read_first(data)
    return record is None or find_name("text", record) is None or is_example(record)


def _examples(
    config: DataConfig,
    seed: int,
    horizon: int,
    fields: FieldNames,
    bidirectional: bool,
    packing: bool,
    learns_pairs: bool,
) -> tuple[examples.Examples, examples.Examples | None]:
    if config.order != "sequential":
        raise UsageError(
            f"--order {config.order}: {config.data} has examples, which come in a new order in every epoch anyhow; "
            "leave --order out"
        )
    fraction, tokenizer = config.val_fraction, choose_tokenizer(config, bidirectional)
    kinds = KINDS if packing else UNPACKED
    options = {"fields": fields, "tokenizer": tokenizer, "kinds": put_pairs_first(kinds) if learns_pairs else kinds}
    train, *rest = examples.load(config.data, config.B_step, config.T, seed, fraction=fraction, **options)
    if bidirectional and train.kind not in ("labels", "scores"):
        raise UsageError(
            f"--data {config.data}: {train.kind}, which no encoder writes; give a text, or texts with labels"
        )
    if bidirectional and config.mask_ratio != DataConfig.mask_ratio:
        raise UsageError(f"--mask-ratio {config.mask_ratio:g}: {config.data} has labels, and no masks; leave it out")
    if horizon > 1 and train.kind in ("labels", "scores"):
        raise UsageError(f"--predict-tokens {horizon}: a label is one; leave --predict-tokens out")
    if config.val is None:
        return train, None
    if fraction:
        return train, dataclasses.replace(rest[0], B=config.B)
    if not is_examples(config.val, fields):
        raise UsageError(f"--val {config.val}: --data has examples, so it must have some too, or be a fraction")
    validation = examples.load(config.val, config.B, config.T, known=train.labels, **options)[0]
    if validation.kind != train.kind:
        raise UsageError(f"--val {config.val} has {validation.kind}, and --data {config.data} has {train.kind}")
    return train, validation


def _texts(config: DataConfig, seed: int, horizon: int, tokenizer: Tokenizer) -> tuple[Text | Windows, Text | None]:
    """The training data, and the fraction reserved for validation, if --val is one."""
    B, T, fraction = config.B_step, config.T, config.val_fraction
    order_seed = seed if config.order == "shuffled" else None
    if config.mix is None:
        text, validation = open_data(config.data, B, T, horizon=horizon, tokenizer=tokenizer), None
        if fraction:
            text, validation = _split(text, fraction)
            validation = dataclasses.replace(validation, B=config.B)
        return (text if order_seed is None else Windows((text,), seed=order_seed, B=B, T=T)), validation
    if config.data != DataConfig.data:
        raise UsageError(f"--mix {config.mix} and --data {config.data}: both say what to train on; leave one out")
    if fraction:
        raise UsageError(f"--val {config.val}: no fraction of a mixture can be reserved; name a text or a folder")
    names, weights = parse_mixture(config.mix)
    for name in names:
        if is_examples(name):
            raise UsageError(f"--mix {config.mix}: {name} has examples, and only texts can be mixed; leave it out")
    texts = tuple(open_data(name, B, T, flag="--mix", horizon=horizon, tokenizer=tokenizer) for name in names)
    return Windows(texts, weights, order_seed, config.mix, B=B, T=T), None


def _split(text: Text, fraction: float) -> tuple[Text, Text]:
    at = len(text.tokens) - round(fraction * len(text.tokens))
    if not 1 <= at <= len(text.tokens) - 2:
        raise DataError(f"{text.name}: too few tokens for --val {fraction:g}: {len(text.tokens):,}; use a file")

    def part(first: int, end: int, name: str) -> Text:
        if isinstance(text.tokens, Tokens):  # mapped files, of which nothing is read at the start
            tokens = text.tokens.part(first, end)
            return dataclasses.replace(text, name=name, tokens=tokens, fingerprint=tokens.fingerprint)
        part = corpus.check_tokens(name, text.tokens[first:end], text.tokenizer)
        return dataclasses.replace(text, **vars(part))

    return part(0, at, text.name), part(at, len(text.tokens), f"the last {fraction:g} of {text.name}")

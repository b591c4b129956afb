"""From the words of a command line to a frozen dataclass, or to an error of one line."""

import contextlib
import dataclasses
import difflib
import io
import itertools
import re
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import tyro

from jaxgpt import console
from jaxgpt.errors import UsageError, require

Config = TypeVar("Config")
HELP = "; --help lists the flags"  # the end of an error of a flag
FLAG = re.compile(r"--?[A-Za-z][\w.-]*(=.*)?", re.DOTALL)  # a word that is one; -5 and "-- a text" are values

# What nanoGPT, transformers and litgpt call our flags; a command has some of them.
ALIASES = {
    "B": "b bs batch batch-size micro-batch-size train-batch-size per-device-train-batch-size global-batch-size",
    "batch-size": "b bs batch per-device-eval-batch-size",
    "T": "seq-len seq-length sequence-length max-seq-length max-length context-length",
    "accumulate": "gradient-accumulation-steps grad-accum-steps",
    "beta1": "adam-beta1",
    "beta2": "adam-beta2",
    "data": "dataset data-dir data-path train-data train-file",
    "dtype": "precision torch-dtype bf16 fp16",
    "epochs": "num-epochs max-epochs num-train-epochs",
    "eps": "epsilon adam-epsilon",
    "eval-every": "eval-interval eval-steps",
    "fresh": "overwrite-output-dir restart",
    "grad-clip": "max-grad-norm max-norm gradient-clip-val",
    "init-from": "model model-name-or-path pretrained checkpoint checkpoint-dir",
    "lora": "lora-r lora-rank",
    "lora-on": "target-modules lora-target-modules",
    "lr": "learning-rate max-lr",
    "max-new-tokens": "max-tokens max-length num-tokens",
    "mesh": "devices gpus num-gpus",
    "min-lr-ratio": "min-lr",
    "model": "out-dir model-name-or-path checkpoint checkpoint-dir",
    "n": "num-samples num-return-sequences",
    "n-embd": "d-model hidden-size",
    "n-head": "num-heads num-attention-heads",
    "n-layer": "num-layers num-hidden-layers",
    "num-processes": "world-size",
    "out": "o out-dir output output-dir save-dir",
    "process-id": "rank node-rank",
    "prompt": "start text",
    "remat": "gradient-checkpointing activation-checkpointing",
    "run": "out-dir model checkpoint checkpoint-dir",
    "save-every": "save-interval save-steps",
    "schedule": "lr-scheduler lr-scheduler-type decay-lr",
    "steps": "iters max-iters max-steps num-steps train-steps",
    "val": "val-data val-file validation validation-file eval-data",
    "warmup-ratio": "warmup-iters warmup-steps",
    "workers": "num-workers num-proc",
}


def positional(name: str) -> tuple[object, ...]:
    """Markers of a positional argument: `run: Annotated[str, *flags.positional("RUN")]`."""
    return tyro.conf.Positional, tyro.conf.arg(metavar=name)


def require_sampling(config: Any) -> None:
    """Raise UsageError where a flag that says how a command writes texts is out of range: --top-k and its like."""
    require(1 <= config.max_new_tokens <= 10**6, "max_new_tokens", config.max_new_tokens, "from 1 to 1,000,000")
    require(0 <= config.temperature < float("inf"), "temperature", config.temperature, "a finite number, 0 or above")
    require(0 < config.top_p <= 1, "top_p", config.top_p, "above 0, and at most 1")
    for name in ("top_k", "seed"):
        require(0 <= getattr(config, name) < 2**31, name, getattr(config, name), "from 0 to 2**31 - 1")


def parse(config: type[Config], argv: Sequence[str], default: Config | None = None, command: str = "") -> Config:
    """Read the flags of a dataclass; `--help` prints them and exits.

    Args:
      default: the values of flags that are not given; None: the dataclass's defaults.
      command: its name, for `--help`; by default the Python file that was started.

    Raises:
      UsageError: one line instead of tyro's box; or a word of argv is empty, or - for a file.
    """
    argv = read_words(config, argv)
    options = {} if default is None else {"default": default}
    parsed = _run_tyro(config, argv, prog=console.program(command) if command else None, **options)
    _refuse_empty(argv)
    _refuse_dash(parsed)
    return parsed


def parse_some(config: type[Config], argv: Sequence[str]) -> Config:
    """Read only this dataclass's flags and leave the others, `--help` included, to a later `parse`."""
    known, _ = _run_tyro(config, [word for word in argv if word not in ("-h", "--help")], return_unknown_args=True)
    return known


def read_words(config: type, argv: Sequence[str]) -> list[str]:
    """The words of a command line, each value that begins with a dash joined to its flag by =.

    Raises:
      UsageError: a flag is not this dataclass's, and which one may be meant; or it has no value.
    """
    kinds, positional_names = _fields(config)
    known = {*kinds, *(f"no-{name}" for name, kind in kinds.items() if kind is bool), "help"}
    words: list[str] = []
    waits = False  # whether the word before is a flag whose value comes next
    for word in argv:
        is_flag = FLAG.fullmatch(word) is not None and word != "-h"
        if waits and is_flag:
            raise UsageError(f"{words[-1]} has no value before {word}; if that is it, write {words[-1]}={word}")
        if waits and word.startswith("-"):
            words[-1] += f"={word}"
            waits = False
            continue
        if is_flag and (name_of(word) not in known or not word.startswith("--")):
            raise UsageError(_describe_unknown(word.partition("=")[0], {*kinds}, positional_names))
        kind = kinds.get(name_of(word), bool)
        waits = is_flag and "=" not in word and kind is not bool and typing.get_origin(kind) is not tuple
        words.append(word)
    return words


def name_of(word: str) -> str:
    """The name of a flag in a command line: "save-every" of --save_every=5."""
    return word.partition("=")[0].lstrip("-").replace("_", "-")


def _fields(config: type) -> tuple[dict[str, object], set[str]]:
    """The flags of a dataclass and of the groups in it, with their types; and the names of its positional arguments."""
    kinds: dict[str, object] = {}
    positional_names = set()
    for field in dataclasses.fields(config):
        if dataclasses.is_dataclass(field.type):
            kinds |= _fields(field.type)[0]
        elif tyro.conf.Positional in getattr(field.type, "__metadata__", ()):
            positional_names.add(field.name)
        else:
            kinds[field.name.replace("_", "-")] = field.type
    return kinds, positional_names


def _describe_unknown(flag: str, known: set[str], positional_names: set[str]) -> str:
    """The error for a flag that there is not, with what may be meant: by its name elsewhere, or by its letters."""
    names = sorted(known | positional_names)
    meant = {alias: name for name in names for alias in ALIASES.get(name, "").split()} | {name: name for name in names}
    near = difflib.get_close_matches(name_of(flag), meant, n=1, cutoff=0.8)
    if not near:
        return f"{flag}: no such flag{HELP}"
    name = meant[near[0]]
    ours = f"{name.upper()}, which has no flag" if name in positional_names else f"--{name}"
    return f"{flag}: no such flag; did you mean {ours}? --help lists the flags"


def _run_tyro(config, argv, **options):
    box = io.StringIO()
    try:
        with contextlib.redirect_stderr(box):
            return tyro.cli(tyro.conf.OmitArgPrefixes[config], args=list(argv), **options)
    except SystemExit as exit:
        if exit.code in (0, None):  # --help
            raise
        message = _extract_message(box.getvalue())
        raise UsageError((_describe_number(config, argv, message) or message) + HELP) from None


def _describe_number(config: type, argv: Sequence[str], message: str) -> str:
    """In place of tyro's error for a flag whose value should be a number; "" for another error."""
    flag = re.match(r"Error parsing --([\w-]+):", message)
    kind = _fields(config)[0].get(flag[1]) if flag else None
    kinds = typing.get_args(kind) or (kind,)
    if int not in kinds and float not in kinds:
        return ""
    values = [
        word.partition("=")[2] or after
        for word, after in itertools.pairwise([*argv, ""])
        if word.startswith("-") and name_of(word) == flag[1]
    ]
    what, example = ("an integer", "1000") if int in kinds else ("a number", "0.1")
    if int in kinds:
        with contextlib.suppress(ValueError, OverflowError):
            example = str(int(float(values[-1].replace(",", ""))))
    return f"--{flag[1]} {values[-1]} must be {what}, such as {example:.20}"


def _refuse_empty(argv: Sequence[str]) -> None:
    """A shell makes an empty word of a variable that is not set. No flag has a use for it; a Path would be "."."""
    for before, word in itertools.pairwise(["", *argv]):
        if word == "" or re.fullmatch("--[^=]+=", word):
            name = (word or before).removesuffix("=")
            what = name if name.startswith("--") else "an argument"
            raise UsageError(f"{what} is empty; give it a value, or leave it out")
        if match := re.fullmatch("(--[^=]+)=(~/.*)", word):  # a shell expands it only at the beginning of a word
            raise UsageError(f"{word}: the shell left ~ as it is; write {match[1]} {match[2]}, without =")


def _refuse_dash(parsed: object) -> None:
    """Refuse a file or folder named -, which to users is stdin or stdout; stdout has the command's own lines."""
    for field in dataclasses.fields(parsed):
        value = getattr(parsed, field.name)
        if dataclasses.is_dataclass(value):
            _refuse_dash(value)
        elif Path("-") in (value if isinstance(value, tuple) else (value,)):
            is_positional = tyro.conf.Positional in getattr(field.type, "__metadata__", ())
            name = field.name.upper() if is_positional else "--" + field.name.replace("_", "-")
            raise UsageError(f"{name} -: stdin and stdout can't be used here; name a file or folder")


def _extract_message(box: str) -> str:
    """The text in tyro's box between its title and the first rule; the frame is Unicode or, elsewhere, dashes."""
    if "Missing from" in box:  # then it lists the arguments, each with the whole of its help
        arguments = re.split("───|---", box[box.index("Missing from") :])[0]
        return "not given: " + ", ".join(re.findall(r"^[│ ] {5}(\S.*?) *│?$", arguments, re.MULTILINE))
    words: list[str] = []
    for line in box.splitlines()[1:]:
        text = line.strip("╭╮╰╯│─ ")
        if text.strip("-"):
            words += text.split()
        elif words:
            break
    return " ".join(words).rstrip(". ")

"""Write a run's model for `transformers`: `jaxgpt export runs/default folder`."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from jaxgpt.commands.flags import parse, positional
from jaxgpt.console import say
from jaxgpt.data.chat import CHAT_TEMPLATE
from jaxgpt.errors import CheckpointError
from jaxgpt.files import require_empty, require_separate
from jaxgpt.runs.folder import require_utf8
from jaxgpt.runs.tensors import WEIGHTS
from jaxgpt.runs.weights import resolve_weights


@dataclasses.dataclass(frozen=True)
class ExportConfig:
    """Write the newest checkpoint of a run as a folder that `transformers` loads: the model and its tokenizer."""

    run: Annotated[str, *positional("RUN")]
    """A run folder."""
    folder: Annotated[Path, *positional("FOLDER")]
    """Where to write; a new folder, or an empty one."""


def main(argv: Sequence[str]) -> int:
    config = parse(ExportConfig, argv, command="export")
    source = resolve_weights(config.run)
    if not source.is_run:
        raise CheckpointError(f"{config.run}: not a run folder; a run's newest checkpoint is exported")
    require_utf8(config.folder)
    tokenizer = source.tokenizer
    length, template = source.T or source.config.block_size, tokenizer.template if source.labels else None
    others = tokenizer.hugging_face_files(length, template, CHAT_TEMPLATE if source.is_chat else None)
    require_empty(config.folder, except_for={"config.json", WEIGHTS, *others})  # the same ones stay
    require_separate("FOLDER", config.folder, [("RUN", config.run), ("the weights under it,", source.base)])

    from jaxgpt.models.convert import with_n_heads
    from jaxgpt.runs.huggingface import load, save_hf
    from jaxgpt.runtime import device

    device.select("cpu")
    with device.memory_errors("it takes the memory of the model twice"):
        save_hf(with_n_heads(load(source), 1), config.folder, source.labels, others, tokenizer)
    which = config.run if source.step else f"the newest checkpoint of {config.run}"
    say("exported", f"{config.folder}, from {which}")
    if (n := source.config.predict_tokens) > 1:
        say("note", f"the head of the next token; GPT-2 has none for the other {n - 1} that the run predicts")
    if source.is_reward or source.is_regression:
        raw = "truncation=True, function_to_apply='none'"  # else transformers gives its sigmoid
        say("use it", f"transformers.pipeline('text-classification', {str(config.folder)!r}, {raw})")
    elif source.labels:
        say("use it", f"transformers.pipeline('text-classification', {str(config.folder)!r}, truncation=True)")
    elif source.config.bidirectional:
        say("use it", f"transformers.pipeline('fill-mask', {str(config.folder)!r})")
    else:
        messages = "([{'role': 'user', 'content': 'Hi!'}])" if source.is_chat else ""
        say("use it", f"transformers.pipeline('text-generation', {str(config.folder)!r}){messages}")
    return 0
